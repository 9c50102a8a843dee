/* protocol/http.h - bytes of a connection to requests, and replies to bytes; no sockets.
 *
 * The parser is fed what the socket gave, in any splits, and stops at the end of each request, so
 * that pipelined requests are taken one by one.  The result never depends on the splits.
 *
 * Two readers must agree on every request: llhttp with all its lenient flags off, and a guard of
 * our own that reads each byte before llhttp does.  The guard holds the limits, and whatever
 * llhttp's older releases let through; a request on whose framing the two differ is refused.
 *
 * Refused: Transfer-Encoding together with Content-Length, or in HTTP/1.0; more than one
 * Content-Length or Transfer-Encoding; any transfer coding but chunked (501); Content-Encoding
 * other than identity (415); bare CR or LF, folded lines, NUL and control characters; a missing or
 * repeated Host in HTTP/1.1; HTTP versions other than 1.0 and 1.1; CONNECT (501); targets that are
 * not a path, an http URL that agrees with Host, or the asterisk of OPTIONS; bad escapes and
 * escaped control characters in the path.  Upgrade requests are ignored, per RFC 9110.  Trailers
 * count against the limits of the header section and are dropped.
 *
 * After any error the connection must be answered once and closed.
 *
 * Thread: loop; a parser belongs to one connection. */
#ifndef SL_PROTOCOL_HTTP_H
#define SL_PROTOCOL_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

enum {
    SL_HTTP_HEADERS_BYTES_MAX = 16 << 10, /* a header section after the request line, with its
                                             empty line, and with the trailers: 431 */
    SL_HTTP_HEADERS_MAX = 100,            /* fields, trailers included: 431 */
    SL_HTTP_HEADER_LINE_MAX = 8 << 10,    /* one field, without its CRLF: 431 */
    SL_HTTP_URI_MAX = 4 << 10,            /* the request target: 414 */
    SL_HTTP_EMPTY_LINES_MAX = 8,          /* before a request line: 400 */
    SL_HTTP_CHUNK_EXT_MAX = 4 << 10,      /* chunk extensions of one body: 400 */
    SL_HTTP_CHUNK_OVERHEAD_MAX = 64 << 10 /* framing beyond the payload's own size: 400 */
};

typedef enum sl_http_method {
    SL_HTTP_GET,
    SL_HTTP_HEAD,
    SL_HTTP_POST,
    SL_HTTP_PUT,
    SL_HTTP_DELETE,
    SL_HTTP_OPTIONS,
    SL_HTTP_OTHER
} sl_http_method;

typedef struct sl_http_request {
    sl_http_method method;
    char *path;  /* decoded, without the query; NUL-terminated, no control characters inside;
                    begins with '/', or is "*" (OPTIONS only) */
    char *query; /* raw, "" if none */
    bool keep_alive;
    bool http10;
    bool expect_continue; /* the client waits for "100 Continue" before it sends the body; false
                             if there is no body, and in HTTP/1.0 */
    bool chunked;
    uint64_t content_length; /* 0 if chunked or none */
    sl_buf body;             /* grows up to the body limit */
} sl_http_request;

typedef struct sl_http_parser sl_http_parser;

typedef enum sl_http_event {
    SL_HTTP_NEED_MORE, /* everything was consumed */
    SL_HTTP_HEADERS,   /* the header section is complete: decide (route, auth, size) before the
                          body; call again with what is left to go on */
    SL_HTTP_COMPLETE,  /* the request is complete; bytes after *used belong to the next one */
    SL_HTTP_ERROR      /* *status, and the sentence in *err: answer and close */
} sl_http_event;

/* Errors: SL_ENOMEM. */
SL_MUST_CHECK sl_status sl_http_parser_create(size_t body_limit_bytes, sl_http_parser **out);
void sl_http_parser_destroy(sl_http_parser *parser);

/* Feed n bytes.  *used is how many were taken; after SL_HTTP_HEADERS and SL_HTTP_COMPLETE the rest
 * is to be given again (after COMPLETE: once sl_http_parser_next was called).  n == 0 is allowed,
 * and how the end of a request without a body is learnt after SL_HTTP_HEADERS.
 * On SL_HTTP_ERROR, err->status is SL_EFORMAT (400), SL_EHEADERS (431), SL_ETOOLONGURI (414),
 * SL_ETOOBIG (413), SL_EMEDIA (415), SL_EUNSUPPORTED (501: a transfer coding that is not chunked,
 * CONNECT) or SL_ENOMEM (500); the parser stays at that error.  A body over the limit with
 * Content-Length is an error at the headers already. */
sl_http_event sl_http_parser_feed(sl_http_parser *parser, const char *data, size_t n, size_t *used,
                                  sl_err *err);

/* The request at hand: valid from SL_HTTP_HEADERS until sl_http_parser_next. */
sl_http_request *sl_http_parser_request(sl_http_parser *parser);
/* First value of a header, case-insensitive, without white space around it, or NULL. */
const char *sl_http_parser_header(const sl_http_parser *parser, const char *name);
/* Forget the request, keep the connection: be ready for the next one. */
void sl_http_parser_next(sl_http_parser *parser);
/* True between requests: no byte of a next request has come (leading CRLFs do not count). */
bool sl_http_parser_idle(const sl_http_parser *parser);

/* Instead of a length, for sl_http_write_head. */
#define SL_HTTP_CHUNKED SIZE_MAX           /* the body comes in chunks (HTTP/1.1 clients only) */
#define SL_HTTP_UNTIL_CLOSE (SIZE_MAX - 1) /* it ends with the connection (HTTP/1.0 clients) */

/* Write a reply's head: status line, Date, Content-Type (if not NULL), Content-Length or
 * Transfer-Encoding (neither with SL_HTTP_UNTIL_CLOSE, nor for 1xx, 204 and 304), Connection (close
 * or keep-alive), then `extra` (complete "Name: value\r\n" lines, may be NULL), then the empty
 * line.  http_status is the number. */
void sl_http_write_head(sl_buf *out, int http_status, const char *content_type,
                        size_t content_length, bool keep_alive, const char *extra);
/* Frame one chunk (n == 0 writes nothing) / the end of a chunked body. */
void sl_http_write_chunk(sl_buf *out, const char *data, size_t n);
void sl_http_write_last_chunk(sl_buf *out);

#endif
