/* tests/protocol/http_digest.h - run bytes through the HTTP parser in given pieces, and write down
 * everything that came out, so that runs can be compared as text. */
#ifndef SL_TESTS_PROTOCOL_HTTP_DIGEST_H
#define SL_TESTS_PROTOCOL_HTTP_DIGEST_H

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/buf.h"
#include "protocol/http.h"

typedef struct http_outcome {
    sl_buf text;       /* one line per request, then how it ended */
    size_t requests;   /* completed */
    size_t heads;      /* header sections completed */
    bool keep_alive;   /* of the last head */
    bool idle;         /* nothing of a next request at the end */
    sl_status status;  /* SL_OK: no error */
    size_t body_bytes; /* of all requests */
    bool closed;       /* after a request that ends the connection; what follows is not read */
} http_outcome;

static inline void http_outcome_done(http_outcome *o)
{
    sl_buf_done(&o->text);
}

static inline void http_note_head(http_outcome *o, sl_http_parser *p)
{
    static const char *const names[] = {"Host", "content-type", "X-Test", "connection", "expect"};
    const sl_http_request *r = sl_http_parser_request(p);

    o->heads++;
    o->keep_alive = r->keep_alive;
    sl_buf_addf(&o->text, "head method=%d path=", (int)r->method);
    sl_buf_add_json(&o->text, r->path, strlen(r->path));
    sl_buf_addf(&o->text, " query=");
    sl_buf_add_json(&o->text, r->query, strlen(r->query));
    sl_buf_addf(&o->text, " keep=%d http10=%d expect=%d chunked=%d length=%llu", r->keep_alive,
                r->http10, r->expect_continue, r->chunked, (unsigned long long)r->content_length);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const char *value = sl_http_parser_header(p, names[i]);

        sl_buf_addf(&o->text, " %s=", names[i]);
        if (value != NULL)
            sl_buf_add_json(&o->text, value, strlen(value));
    }
    sl_buf_add_char(&o->text, '\n');
}

static inline void http_note_complete(http_outcome *o, sl_http_parser *p)
{
    const sl_http_request *r = sl_http_parser_request(p);

    o->requests++;
    o->body_bytes += r->body.len;
    sl_buf_addf(&o->text, "complete body=%zu ", r->body.len);
    sl_buf_add_json(&o->text, r->body.len > 0 ? r->body.data : "", r->body.len);
    sl_buf_add_char(&o->text, '\n');
}

/* Feed one piece, to its end.  False after an error, or when a server would close. */
static inline bool http_feed_piece(http_outcome *o, sl_http_parser *p, const char *data, size_t n)
{
    size_t at = 0;

    for (;;) {
        sl_err err = {0};
        size_t used;
        /* An exact copy, so that a sanitizer sees a read past the piece. */
        char *copy = malloc(n - at > 0 ? n - at : 1);
        sl_http_event event;

        if (copy == NULL)
            return false;
        if (n - at > 0)
            memcpy(copy, data + at, n - at);
        event = sl_http_parser_feed(p, copy, n - at, &used, &err);
        free(copy);
        SL_ASSERT(used <= n - at);
        at += used;
        if (event == SL_HTTP_ERROR) {
            o->status = err.status;
            sl_buf_addf(&o->text, "error %d %s\n", sl_status_http(err.status), err.text);
            return false;
        }
        if (event == SL_HTTP_HEADERS) {
            http_note_head(o, p);
        } else if (event == SL_HTTP_COMPLETE) {
            o->closed = !sl_http_parser_request(p)->keep_alive;
            http_note_complete(o, p);
            sl_http_parser_next(p);
            if (o->closed)
                return false;
        } else {
            SL_ASSERT(at == n);
            return true;
        }
    }
}

/* Cut `data` where `cut` says (sorted offsets, each 0..n) and run it. */
static inline http_outcome http_run(const char *data, size_t n, size_t body_limit,
                                    const size_t *cut, size_t cuts)
{
    http_outcome o = {0};
    sl_http_parser *p = NULL;
    size_t at = 0;

    sl_buf_init(&o.text, SIZE_MAX / 4);
    SL_ASSERT(sl_http_parser_create(body_limit, &p) == SL_OK);
    for (size_t i = 0; i <= cuts; i++) {
        const size_t end = i < cuts ? cut[i] : n;

        if (!http_feed_piece(&o, p, data + at, end - at))
            break;
        at = end;
    }
    o.idle = sl_http_parser_idle(p);
    sl_buf_addf(&o.text, "idle=%d\n", o.idle);
    sl_http_parser_destroy(p);
    SL_ASSERT(sl_buf_text(&o.text) != NULL);
    return o;
}

/* In pieces of `step` bytes. */
static inline http_outcome http_run_steps(const char *data, size_t n, size_t body_limit,
                                          size_t step)
{
    const size_t cuts = n / step;
    size_t *cut = calloc(cuts + 1, sizeof(*cut));
    http_outcome o;

    SL_ASSERT(cut != NULL);
    for (size_t i = 0; i < cuts; i++)
        cut[i] = (i + 1) * step;
    o = http_run(data, n, body_limit, cut, cuts);
    free(cut);
    return o;
}

#endif
