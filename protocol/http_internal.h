/* protocol/http_internal.h - the parts of the HTTP parser: the guard (bytes), the rules (meaning).
 *
 * A fault is a status and a static sentence: nothing of the request is quoted, so nothing of it
 * can leak into logs or answers. */
#ifndef SL_PROTOCOL_HTTP_INTERNAL_H
#define SL_PROTOCOL_HTTP_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "protocol/http.h"

typedef struct sl_http_fault {
    sl_status status; /* SL_OK: none */
    const char *text; /* static */
} sl_http_fault;

/* Remember a fault and return its status. */
static inline sl_status sl_http_fail(sl_http_fault *fault, sl_status status, const char *text)
{
    *fault = (sl_http_fault){.status = status, .text = text};
    return status;
}

/* --- guard: finds where the header section and the message end ---------------------------- */

typedef enum sl_http_guard_state {
    SL_GUARD_START, /* between requests */
    SL_GUARD_START_LF,
    SL_GUARD_METHOD,
    SL_GUARD_TARGET,
    SL_GUARD_VERSION,
    SL_GUARD_LINE_LF,
    SL_GUARD_FIELD, /* first byte of a field line, or of the empty line */
    SL_GUARD_NAME,
    SL_GUARD_VALUE,
    SL_GUARD_VALUE_LF,
    SL_GUARD_SECTION_LF,
    SL_GUARD_DECIDE, /* the header section is complete; sl_http_guard_body goes on */
    SL_GUARD_BODY,
    SL_GUARD_SIZE, /* chunk size */
    SL_GUARD_EXT,
    SL_GUARD_SIZE_LF,
    SL_GUARD_DATA,
    SL_GUARD_DATA_CR,
    SL_GUARD_DATA_LF,
    SL_GUARD_DONE
} sl_http_guard_state;

typedef struct sl_http_guard {
    sl_http_guard_state state;
    bool trailer;
    uint8_t minor;          /* of HTTP/1.x */
    uint32_t position;      /* in the token at hand */
    uint32_t empty_lines;   /* before the request line */
    uint32_t section_bytes; /* of header fields and trailers */
    uint32_t fields;
    uint32_t extension_bytes;
    uint64_t left;           /* of the body, or of the chunk */
    uint64_t body_bytes;     /* payload seen */
    uint64_t overhead_bytes; /* chunk framing seen */
    uint64_t body_limit;
} sl_http_guard;

void sl_http_guard_init(sl_http_guard *g, uint64_t body_limit);

/* Read on until the bytes, the header section or the message end: *used bytes were right.
 * On an error the byte at *used is at fault. */
sl_status sl_http_guard_run(sl_http_guard *g, const char *data, size_t n, size_t *used,
                            sl_http_fault *fault);

/* After the header section: what follows. */
void sl_http_guard_body(sl_http_guard *g, bool chunked, uint64_t content_length);

/* tchar of RFC 9110. */
bool sl_http_is_token(unsigned char c);

/* --- rules: what a complete header section means ------------------------------------------ */

typedef struct sl_http_field {
    uint32_t name; /* offsets of NUL-terminated strings in text */
    uint32_t value;
} sl_http_field;

typedef struct sl_http_head {
    sl_buf text; /* the target, then names and values, then the decoded path */
    sl_http_field field[SL_HTTP_HEADERS_MAX];
    uint32_t count;
} sl_http_head;

/* Room for everything the guard lets through, and for the path once more. */
enum { SL_HTTP_HEAD_TEXT_MAX = SL_HTTP_HEADERS_BYTES_MAX + 2 * (SL_HTTP_URI_MAX + 2) };

const char *sl_http_head_find(const sl_http_head *head, const char *name);

/* Fill path, query, keep_alive, expect_continue, chunked and content_length of `request`, whose
 * method and http10 are set.  Appends to head->text. */
sl_status sl_http_rules_apply(sl_http_head *head, uint64_t body_limit, sl_http_request *request,
                              sl_http_fault *fault);

#endif
