/* server/reply.c - bytes out: write queue, heads, errors, the request's line in the log. */
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/rng.h"
#include "server/server_internal.h"

/* --- the write queue ----------------------------------------------------------------------- */

size_t sl_conn_queued(const sl_conn *conn)
{
    return conn->out.len + (conn->writing ? uv_stream_get_write_queue_size(&conn->uv.stream) : 0);
}

static void on_write(uv_write_t *request, int status)
{
    sl_conn *conn = request->data;

    conn->writing = false;
    if (conn->closing)
        return;
    sl_timer_disarm(conn, &conn->write_timer);
    if (conn->flying.capacity > SL_KEEP_BYTES)
        sl_buf_done(&conn->flying);
    if (status < 0)
        sl_conn_gone(conn, "reset");
    else
        sl_conn_progress(conn);
}

void sl_conn_flush(sl_conn *conn)
{
    uv_buf_t b;
    sl_buf out;
    int n;

    if (conn->closing || conn->writing || (conn->out.len == 0 && !conn->out.failed))
        return;
    if (conn->out.failed) { /* out of memory, or over the limit of one answer */
        sl_conn_gone(conn, "no memory");
        return;
    }
    b = uv_buf_init(conn->out.data, (unsigned)conn->out.len);
    n = uv_try_write(&conn->uv.stream, &b, 1);
    if (n < 0 && n != UV_EAGAIN) {
        sl_conn_gone(conn, "reset");
        return;
    }
    if (n == (int)conn->out.len) {
        sl_buf_reset(&conn->out);
        return;
    }
    out = conn->out;
    conn->out = conn->flying;
    conn->out.limit = SL_OUT_MAX;
    sl_buf_reset(&conn->out);
    conn->flying = out;
    b = uv_buf_init(out.data + (n > 0 ? n : 0), (unsigned)(out.len - (size_t)(n > 0 ? n : 0)));
    conn->write.data = conn;
    if (uv_write(&conn->write, &conn->uv.stream, &b, 1, on_write) != 0) {
        sl_conn_gone(conn, "reset");
        return;
    }
    conn->writing = true;
    conn->flying_left = uv_stream_get_write_queue_size(&conn->uv.stream);
    sl_timer_arm(conn, &conn->write_timer, SL_TIMER_WRITE);
}

/* --- replies ------------------------------------------------------------------------------- */

void sl_random_text(sl_server *server, char out[33])
{
    const uint64_t a = sl_mix64_pair(server->id_seed, server->id_count++);

    snprintf(out, 33, "%016llx%016llx", (unsigned long long)a,
             (unsigned long long)sl_mix64_pair(a, server->id_seed));
}

/* When a slot is likely to be free: about the time between the ends of requests. */
static unsigned retry_after_ms(const sl_conn *conn, sl_status status)
{
    const double ms = conn->server->end_interval_us * 1e-3;

    if (status == SL_EUNAVAILABLE)
        return conn->server->state == SL_SERVER_LOADING ? 1000 : 5000;
    return ms < 250 ? 250 : ms > 30000 ? 30000 : (unsigned)ms;
}

static void error_headers(sl_conn *conn, const sl_err *err, sl_buf *out)
{
    const unsigned ms = retry_after_ms(conn, err->status);

    switch (err->status) {
    case SL_EAUTH:
        sl_buf_add_str(out, "WWW-Authenticate: Bearer realm=\"sluice\"\r\n");
        break;
    case SL_EMETHOD:
        if (conn->route != NULL)
            sl_buf_addf(out, "Allow: %s\r\n", sl_route_methods_text(conn->route));
        break;
    case SL_EFULL:
    case SL_EUNAVAILABLE:
        sl_buf_addf(out, "Retry-After: %u\r\nretry-after-ms: %u\r\n", (ms + 999) / 1000, ms);
        return;
    case SL_ETIMEOUT:
        return;
    default:
        break;
    }
    /* The same request would fail in the same way. */
    sl_buf_add_str(out, "x-should-retry: false\r\n");
}

void sl_reply_headers(sl_conn *conn, const sl_err *err, sl_buf *out)
{
    sl_buf_addf(out, "x-request-id: %s\r\n", conn->request_id);
    if (err != NULL)
        error_headers(conn, err, out);
}

static bool keeps_alive(const sl_conn *conn)
{
    return conn->keep_alive && conn->server->state < SL_SERVER_DRAINING && !conn->eof;
}

void sl_reply(sl_conn *conn, int http, const char *type, const sl_buf *body, const char *extra)
{
    const size_t n = body != NULL ? body->len : 0;

    conn->keep_alive = keeps_alive(conn) && (body == NULL || !body->failed);
    if (body != NULL && body->failed) /* half a body is worse than none */
        conn->out.failed = true;
    sl_http_write_head(&conn->out, http, type, n, conn->keep_alive, extra);
    if (!conn->head_only && n > 0)
        sl_buf_add(&conn->out, body->data, n);
}

void sl_reply_error(sl_conn *conn, const sl_err *err)
{
    const int http = sl_status_http(err->status);
    char detail[64];
    sl_buf body, extra;

    sl_buf_init(&body, 64 << 10);
    sl_buf_init(&extra, 4096);
    sl_api_write_error(&body, err);
    sl_reply_headers(conn, err, &extra);
    sl_reply(conn, http, "application/json", &body, sl_buf_text(&extra));
    if (http >= 500 && err->status != SL_EUNAVAILABLE)
        sl_log(SL_LOG_ERROR, "request failed id=%s status=%d error=\"%s\"", conn->request_id, http,
               err->text);
    snprintf(detail, sizeof(detail), "error=%s%s%.40s", sl_status_name(err->status),
             err->code != NULL ? " code=" : "", err->code != NULL ? err->code : "");
    sl_buf_done(&body);
    sl_buf_done(&extra);
    sl_conn_answered(conn, http, detail);
}

void sl_conn_answered(sl_conn *conn, int http, const char *detail)
{
    sl_request_end(conn, http, detail);
    sl_timer_disarm(conn, &conn->read_timer);
    conn->busy = false;
    conn->in_request = false;
    conn->close_after = !conn->keep_alive;
    if (!conn->close_after) {
        sl_http_parser_next(conn->parser);
        conn->headers = false;
    }
}

/* --- the log ------------------------------------------------------------------------------- */

/* At most SL_LOG_LINES_MAX lines a second: a flood of requests must not become a flood of text. */
static bool may_log(sl_server *server, uint64_t now_us)
{
    const uint64_t second = now_us / 1000000u;

    if (second != server->log_second) {
        if (server->log_dropped > 0)
            sl_log(SL_LOG_WARN, "server %u request lines were not logged", server->log_dropped);
        server->log_second = second;
        server->log_lines = server->log_dropped = 0;
    }
    if (server->log_lines >= SL_LOG_LINES_MAX) {
        server->log_dropped++;
        return false;
    }
    server->log_lines++;
    return true;
}

static const char *method_text(const sl_conn *conn)
{
    static const char *const name[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "other"};

    return conn->headers ? name[sl_http_parser_request(conn->parser)->method] : "-";
}

void sl_request_end(sl_conn *conn, int http, const char *detail)
{
    sl_server *server = conn->server;
    const uint64_t now_us = sl_clock_us();
    const sl_route *route = conn->route;
    const bool quiet = route != NULL && route->quiet && (http == 200 || http == 503);
    const char *path = !conn->headers ? "-" : sl_http_parser_request(conn->parser)->path;

    sl_metrics_count_http(&server->metrics, route != NULL ? route->id : SL_ROUTE_NONE, http);
    if (!quiet && !may_log(server, now_us))
        return;
    sl_log(quiet ? SL_LOG_DEBUG : SL_LOG_INFO,
           "request id=%s method=%s path=%.200s status=%d ms=%.1f%s%s", conn->request_id,
           method_text(conn), path, http, (double)(now_us - conn->begin_us) * 1e-3,
           detail != NULL ? " " : "", detail != NULL ? detail : "");
}
