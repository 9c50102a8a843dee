/* bench/load_http.h - just enough of an HTTP/1.1 client: addresses, replies as bytes come, small
 * blocking calls.  TCP and UNIX sockets; https is refused with a sentence.
 *
 * Thread: one at a time for each object. */
#ifndef SL_BENCH_LOAD_HTTP_H
#define SL_BENCH_LOAD_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/buf.h"
#include "base/status.h"

typedef struct sl_load_target {
    char url[256];    /* as given */
    char host[256];   /* the Host header's value */
    char prefix[256]; /* before every path: "" or "/some/where" */
    struct sockaddr_storage address;
    socklen_t address_len;
    bool tcp;
} sl_load_target;

/* "http://host[:port][/prefix]" or "unix:/path/of.sock"; a trailing /v1 is dropped.  Looks the name
 * up.  Errors: SL_EINVAL, SL_EIO (no such host). */
SL_MUST_CHECK sl_status sl_load_target_parse(const char *url, sl_load_target *out, sl_err *err);

/* A non-blocking socket that connects; *connected says whether it has already.
 * `receive_bytes`: a small receive buffer (0: the system's).  Returns -1 and errno on failure. */
int sl_load_connect(const sl_load_target *target, int receive_bytes, bool *connected);

/* --- a reply ------------------------------------------------------------------------------- */

typedef enum sl_load_reply_state {
    SL_REPLY_STATUS_LINE,
    SL_REPLY_HEADER,
    SL_REPLY_SIZED,       /* a body of `left` bytes */
    SL_REPLY_UNTIL_CLOSE, /* a body that ends with the connection */
    SL_REPLY_CHUNK_SIZE,
    SL_REPLY_CHUNK_DATA,
    SL_REPLY_CHUNK_END,
    SL_REPLY_TRAILER,
    SL_REPLY_DONE,
    SL_REPLY_BAD
} sl_load_reply_state;

enum { SL_LOAD_LINE_MAX = 8192, SL_LOAD_HEADERS_MAX = 256 << 10 };

typedef struct sl_load_reply {
    sl_load_reply_state state;
    int status; /* 0 until known */
    bool chunked, sized, keep_alive, event_stream;
    uint64_t left; /* of the body, or of the chunk */
    size_t head_bytes;
    size_t line_len;
    char line[SL_LOAD_LINE_MAX];
} sl_load_reply;

void sl_load_reply_init(sl_load_reply *reply);

/* Take bytes.  Returns how many were used, and the part of them that is body in *body and
 * *body_len (0: none).  Call again with the rest while the state is neither DONE nor BAD; bytes
 * left over at DONE do not belong to this reply. */
size_t sl_load_reply_feed(sl_load_reply *reply, const char *data, size_t n, const char **body,
                          size_t *body_len);

/* The connection was closed: true if that is how this reply was to end. */
bool sl_load_reply_closed(sl_load_reply *reply);

/* --- small blocking calls ------------------------------------------------------------------ */

typedef struct sl_load_call {
    const char *path;
    const char *key;  /* NULL: none */
    const char *body; /* NULL: GET */
    size_t body_len;
    uint32_t timeout_ms;
} sl_load_call;

/* One request over a connection of its own; the reply's body is put into *body (its limit counts).
 * Errors: SL_EIO (the sentence names the server), SL_EFORMAT (no HTTP), SL_ETIMEOUT, SL_ETOOBIG. */
SL_MUST_CHECK sl_status sl_load_call_run(const sl_load_target *target, const sl_load_call *call,
                                         int *http_status, sl_buf *body, sl_err *err);

/* The head of a request into `out`. */
void sl_load_write_head(const sl_load_target *target, const char *method, const char *path,
                        const char *key, size_t body_len, sl_buf *out);

#endif
