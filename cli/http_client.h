/* cli/http_client.h - just enough HTTP to talk to one server: a POST, and its body as it comes.
 *
 * Blocking, one connection a request.  Thread: the caller's. */
#ifndef SL_CLI_HTTP_CLIENT_H
#define SL_CLI_HTTP_CLIENT_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

typedef struct sl_http_url {
    char host[256];
    char port[8];
    char prefix[256]; /* before the path of a request: "" or "/some/where" */
} sl_http_url;

/* "http://host[:port][/prefix]".  Errors: SL_EINVAL. */
SL_MUST_CHECK sl_status sl_http_url_parse(const char *text, sl_http_url *out, sl_err *err);

typedef struct sl_http_post {
    const sl_http_url *url;
    const char *path;
    const char *key; /* NULL: none */
    const char *body;
    size_t body_len;
    /* Bytes of the reply's body, as they come; false: enough. */
    bool (*on_body)(const char *data, size_t n, void *user);
    void *user;
    const volatile sig_atomic_t *stop; /* set by a signal: end now */
} sl_http_post;

/* *http_status is the reply's.  Errors: SL_EIO (the sentence names the server), SL_EFORMAT (no
 * HTTP), SL_ECANCELLED (*stop, or on_body had enough). */
SL_MUST_CHECK sl_status sl_http_post_run(const sl_http_post *post, int *http_status, sl_err *err);

#endif
