/* server/connection.c - bytes in: accept, parser, pipelining, disconnects, timers. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "server/server_internal.h"

/* --- timers -------------------------------------------------------------------------------- */

void sl_timer_disarm(sl_conn *conn, sl_timer *timer)
{
    sl_server *server = conn->server;

    if (timer->kind == SL_TIMER_COUNT)
        return;
    if (timer->prev != NULL)
        timer->prev->next = timer->next;
    else
        server->timer_first[timer->kind] = timer->next;
    if (timer->next != NULL)
        timer->next->prev = timer->prev;
    else
        server->timer_last[timer->kind] = timer->prev;
    timer->prev = timer->next = NULL;
    timer->kind = SL_TIMER_COUNT;
}

void sl_timer_arm(sl_conn *conn, sl_timer *timer, sl_timer_kind kind)
{
    sl_server *server = conn->server;

    sl_timer_disarm(conn, timer);
    timer->conn = conn;
    timer->kind = kind;
    timer->armed_us = sl_clock_us();
    timer->prev = server->timer_last[kind];
    if (timer->prev != NULL)
        timer->prev->next = timer;
    else
        server->timer_first[kind] = timer;
    server->timer_last[kind] = timer;
}

static uint64_t timeout_us(const sl_server *server, sl_timer_kind kind)
{
    const sl_config *c = server->config;

    switch (kind) {
    case SL_TIMER_IDLE:
        return c->idle_timeout_s * 1000000ull;
    case SL_TIMER_HEADER:
        return c->header_timeout_s * 1000000ull;
    case SL_TIMER_BODY:
        return c->body_timeout_s * 1000000ull;
    case SL_TIMER_WRITE:
        return c->write_timeout_s * 1000000ull;
    default:
        return SL_LINGER_US;
    }
}

/* --- the end of a connection --------------------------------------------------------------- */

static void on_closed(uv_handle_t *handle)
{
    sl_conn *conn = handle->data;
    sl_server *server = conn->server;

    sl_http_parser_destroy(conn->parser);
    sl_buf_done(&conn->pending);
    sl_buf_done(&conn->out);
    sl_buf_done(&conn->flying);
    if (server->spare_conn == NULL)
        server->spare_conn = conn;
    else
        sl_free(conn);
    if (server->accept_missed) {
        server->accept_missed = false;
        sl_conn_open(server);
    }
}

void sl_conn_close(sl_conn *conn)
{
    sl_server *server = conn->server;
    sl_generation *gen = conn->generation;

    if (conn->closing)
        return;
    conn->closing = true;
    sl_timer_disarm(conn, &conn->read_timer);
    sl_timer_disarm(conn, &conn->write_timer);
    if (conn->prev != NULL)
        conn->prev->next = conn->next;
    else
        server->conns = conn->next;
    if (conn->next != NULL)
        conn->next->prev = conn->prev;
    server->conn_count--;
    uv_close(&conn->uv.handle, on_closed);
    if (gen != NULL)
        sl_generation_abandon(gen);
}

void sl_conn_gone(sl_conn *conn, const char *why)
{
    if (conn->closing)
        return;
    conn->server->metrics.clients_gone += conn->busy || sl_conn_queued(conn) > 0;
    if (conn->busy) {
        sl_request_end(conn, sl_status_http(SL_ECANCELLED), why);
        conn->busy = false;
    } else if (sl_conn_queued(conn) > 0) {
        sl_log(SL_LOG_DEBUG, "connection lost id=%s unsent=%zu %s", conn->request_id,
               sl_conn_queued(conn), why);
    }
    sl_conn_close(conn);
}

/* --- requests ------------------------------------------------------------------------------ */

static void begin_request(sl_conn *conn)
{
    conn->in_request = true;
    conn->headers = false;
    conn->head_only = false;
    conn->keep_alive = false;
    conn->probed = false;
    conn->route = NULL;
    conn->key = SL_KEY_NONE;
    conn->begin_us = conn->complete_us = sl_clock_us();
    sl_random_text(conn->server, conn->request_id);
    sl_timer_arm(conn, &conn->read_timer, SL_TIMER_HEADER);
}

/* A client's own id, if it is one that may stand in a header and in a log. */
static void take_request_id(sl_conn *conn)
{
    const char *id = sl_http_parser_header(conn->parser, "x-request-id");
    const size_t n = id != NULL ? strlen(id) : 0;

    if (n == 0 || n > SL_REQUEST_ID_MAX)
        return;
    for (size_t i = 0; i < n; i++)
        if (!((id[i] >= '0' && id[i] <= '9') || (id[i] >= 'a' && id[i] <= 'z') ||
              (id[i] >= 'A' && id[i] <= 'Z') || id[i] == '-' || id[i] == '_' || id[i] == '.'))
            return;
    memcpy(conn->request_id, id, n + 1);
}

/* The request cannot be gone on with: answer, and drop what still comes. */
static void refuse(sl_conn *conn, const sl_err *err)
{
    conn->keep_alive = false;
    conn->linger = true;
    sl_reply_error(conn, err);
}

/* The headers are there.  A large body is refused before it is sent; a small one is read first, so
 * that the connection can go on. */
static void on_headers(sl_conn *conn)
{
    const sl_http_request *r = sl_http_parser_request(conn->parser);
    sl_err err = {0};

    conn->headers = true;
    conn->head_only = r->method == SL_HTTP_HEAD;
    conn->keep_alive = r->keep_alive;
    conn->route = sl_route_find(r->path);
    take_request_id(conn);
    sl_timer_arm(conn, &conn->read_timer, SL_TIMER_BODY);
    if ((r->chunked || r->expect_continue || r->content_length > SL_EARLY_BODY_MAX) &&
        sl_request_check(conn, &err) != SL_OK) {
        refuse(conn, &err);
        return;
    }
    if (r->expect_continue)
        sl_buf_add_str(&conn->out, "HTTP/1.1 100 Continue\r\n\r\n");
}

static void on_complete(sl_conn *conn)
{
    sl_timer_disarm(conn, &conn->read_timer);
    conn->busy = true;
    conn->complete_us = sl_clock_us();
    sl_request_dispatch(conn);
}

/* Feed the parser until the bytes are used up, a request waits for its answer, or the client does
 * not read what it got.  Returns the bytes used. */
static size_t take(sl_conn *conn, const char *data, size_t n)
{
    size_t at = 0;
    bool again = n > 0; /* the end of a request without a body is learnt from no bytes */

    while (again && !conn->busy && !conn->close_after && !conn->closing &&
           sl_conn_queued(conn) < SL_QUEUED_MAX) {
        sl_err err = {0};
        size_t used = 0;
        sl_http_event event;

        event = sl_http_parser_feed(conn->parser, data + at, n - at, &used, &err);
        at += used;
        if (!conn->in_request && (event != SL_HTTP_NEED_MORE || !sl_http_parser_idle(conn->parser)))
            begin_request(conn);
        again = at < n || event == SL_HTTP_HEADERS;
        if (event == SL_HTTP_HEADERS)
            on_headers(conn);
        else if (event == SL_HTTP_COMPLETE)
            on_complete(conn);
        else if (event == SL_HTTP_ERROR)
            refuse(conn, &err);
    }
    return at;
}

static bool ensure_parser(sl_conn *conn)
{
    return conn->parser != NULL ||
           sl_http_parser_create(conn->server->config->max_body_bytes, &conn->parser) == SL_OK;
}

static void on_data(sl_conn *conn, const char *data, size_t n)
{
    size_t used = 0;

    if (conn->lingering || conn->close_after) {
        conn->lingered_bytes += n;
        return;
    }
    if (!ensure_parser(conn)) {
        sl_conn_close(conn);
        return;
    }
    if (!conn->busy && conn->pending.len == 0)
        used = take(conn, data, n);
    if (!conn->closing)
        sl_buf_add(&conn->pending, data + used, n - used);
    if (conn->pending.failed)
        sl_conn_close(conn);
}

/* The client has ended its side, which may mean that it is gone: only a byte sent to it tells.
 * Before the reply that can be "100 Continue", which every client skips; in a stream, a comment. */
static void probe(sl_conn *conn)
{
    const sl_generation *gen = conn->generation;

    if (!conn->busy || conn->probed || gen == NULL || gen->working)
        return;
    conn->probed = true;
    if (gen->head_sent)
        sl_answer_ping(conn->generation);
    else if (!sl_http_parser_request(conn->parser)->http10)
        sl_buf_add_str(&conn->out, "HTTP/1.1 100 Continue\r\n\r\n");
}

static void on_alloc(uv_handle_t *handle, size_t want, uv_buf_t *buf)
{
    sl_conn *conn = handle->data;

    (void)want;
    *buf = uv_buf_init(conn->server->read_buffer, SL_READ_BYTES);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    sl_conn *conn = stream->data;

    if (n > 0) {
        on_data(conn, buf->base, (size_t)n);
    } else if (n == UV_EOF) {
        conn->eof = true;
        conn->reading = false;
        probe(conn);
    } else if (n < 0) {
        sl_conn_gone(conn, "reset");
    }
    sl_conn_progress(conn);
}

/* --- going on ------------------------------------------------------------------------------ */

static void set_reading(sl_conn *conn)
{
    const bool want = !conn->eof && conn->pending.len < SL_PENDING_MAX;

    if (want == conn->reading)
        return;
    if (want && uv_read_start(&conn->uv.stream, on_alloc, on_read) != 0) {
        sl_conn_close(conn);
        return;
    }
    if (!want)
        uv_read_stop(&conn->uv.stream);
    conn->reading = want;
}

/* Everything is sent and nothing more will be: close, or first let the client finish sending,
 * because closing on unread bytes would destroy the reply on its way. */
static void finish(sl_conn *conn)
{
    uv_os_fd_t fd;

    if (!conn->linger || conn->eof || conn->lingered_bytes > SL_LINGER_BYTES_MAX) {
        sl_conn_close(conn);
        return;
    }
    if (conn->lingering)
        return;
    conn->lingering = true;
    sl_buf_done(&conn->pending);
    sl_buf_init(&conn->pending, 2 * (SL_PENDING_MAX + SL_READ_BYTES));
    if (uv_fileno(&conn->uv.handle, &fd) == 0)
        shutdown(fd, SHUT_WR);
    sl_timer_arm(conn, &conn->read_timer, SL_TIMER_LINGER);
}

/* Between requests: memory goes back, the idle clock runs. */
static void rest(sl_conn *conn)
{
    if (conn->eof) {
        sl_conn_close(conn);
        return;
    }
    if (conn->in_request)
        return;
    sl_http_parser_destroy(conn->parser);
    conn->parser = NULL;
    sl_buf_done(&conn->out);
    sl_buf_init(&conn->out, SL_OUT_MAX);
    sl_buf_done(&conn->flying);
    if (conn->pending.capacity > 0) {
        sl_buf_done(&conn->pending);
        sl_buf_init(&conn->pending, 2 * (SL_PENDING_MAX + SL_READ_BYTES));
    }
    if (conn->read_timer.kind != SL_TIMER_IDLE)
        sl_timer_arm(conn, &conn->read_timer, SL_TIMER_IDLE);
}

void sl_conn_progress(sl_conn *conn)
{
    bool more = true;

    while (more) {
        sl_generation *gen;

        if (conn->closing)
            return;
        sl_conn_flush(conn);
        if (conn->closing)
            return;
        more = false;
        gen = conn->generation;
        if (gen != NULL && gen->backlog && sl_conn_queued(conn) < SL_QUEUED_MAX) {
            sl_answer_pump(gen);
            more = conn->out.len > 0;
        } else if (!conn->busy && !conn->close_after && conn->pending.len > 0 &&
                   sl_conn_queued(conn) < SL_QUEUED_MAX) {
            const size_t used = take(conn, conn->pending.data, conn->pending.len);

            sl_buf_consume(&conn->pending, used);
            more = used > 0 || conn->out.len > 0;
        }
    }
    if (conn->writing || conn->out.len > 0) {
        set_reading(conn);
        return;
    }
    if (conn->close_after)
        finish(conn);
    else if (!conn->busy && conn->pending.len == 0)
        rest(conn);
    if (!conn->closing)
        set_reading(conn);
}

/* --- accept -------------------------------------------------------------------------------- */

static void refuse_connection(sl_conn *conn)
{
    static const char body[] =
        "{\"error\":{\"message\":\"too many connections\",\"type\":\"server_error\",\"param\":null,"
        "\"code\":\"too_many_connections\"}}";
    char text[512];
    const int n = snprintf(text, sizeof(text),
                           "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
                           "Content-Length: %zu\r\nConnection: close\r\nRetry-After: 1\r\n"
                           "retry-after-ms: 1000\r\n\r\n%s",
                           sizeof(body) - 1, body);
    uv_buf_t b = uv_buf_init(text, (unsigned)n);

    conn->server->metrics.connections_refused++;
    (void)uv_try_write(&conn->uv.stream, &b, 1);
    sl_conn_close(conn);
}

/* libuv stops accepting until a connection that it announced is taken: so one struct is always
 * kept, to take and refuse it when memory is short. */
static sl_conn *new_conn(sl_server *server, bool *refuse)
{
    sl_conn *conn = sl_alloc(1, sizeof(*conn));

    *refuse = conn == NULL || server->conn_count >= server->conns_max;
    if (conn == NULL) {
        conn = server->spare_conn;
        server->spare_conn = NULL;
    }
    if (conn == NULL) {
        server->accept_missed = true;
        return NULL;
    }
    memset(conn, 0, sizeof(*conn));
    conn->server = server;
    conn->read_timer.kind = conn->write_timer.kind = SL_TIMER_COUNT;
    sl_buf_init(&conn->out, SL_OUT_MAX);
    sl_buf_init(&conn->pending, 2 * (SL_PENDING_MAX + SL_READ_BYTES));
    return conn;
}

/* Chunks go out at once; and the kernel takes no megabytes for a client that does not read, so that
 * slow readers are noticed (what is on its way to a distant one is not counted). */
static void tune(sl_conn *conn)
{
    const int unsent_max = SL_UNSENT_MAX;
    uv_os_fd_t fd;

    uv_tcp_nodelay(&conn->uv.tcp, 1);
    if (uv_fileno(&conn->uv.handle, &fd) == 0)
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent_max, sizeof(unsent_max));
}

void sl_conn_open(sl_server *server)
{
    bool refused;
    sl_conn *conn = new_conn(server, &refused);
    int rc;

    if (conn == NULL)
        return;
    rc = server->is_unix ? uv_pipe_init(&server->loop, &conn->uv.pipe, 0)
                         : uv_tcp_init(&server->loop, &conn->uv.tcp);
    SL_ASSERT(rc == 0);
    conn->uv.handle.data = conn;
    conn->next = server->conns;
    if (conn->next != NULL)
        conn->next->prev = conn;
    server->conns = conn;
    server->conn_count++;
    if (uv_accept(&server->listener.stream, &conn->uv.stream) != 0) {
        sl_conn_close(conn);
        return;
    }
    server->metrics.connections_accepted++;
    if (refused) {
        refuse_connection(conn);
        return;
    }
    if (!server->is_unix)
        tune(conn);
    if (!uv_is_active((uv_handle_t *)&server->tick))
        uv_timer_again(&server->tick);
    sl_conn_progress(conn);
}

/* --- the tick ------------------------------------------------------------------------------ */

static void timed_out(sl_conn *conn, sl_timer_kind kind)
{
    sl_err err;

    switch (kind) {
    case SL_TIMER_HEADER:
    case SL_TIMER_BODY:
        (void)sl_fail_param(&err, SL_ETIMEOUT, NULL, "request_timeout",
                            "the request did not arrive in time");
        refuse(conn, &err);
        sl_conn_progress(conn);
        break;
    case SL_TIMER_WRITE:
        /* A slow reader is not a stalled one: what went out since counts. */
        if (uv_stream_get_write_queue_size(&conn->uv.stream) < conn->flying_left) {
            conn->flying_left = uv_stream_get_write_queue_size(&conn->uv.stream);
            sl_timer_arm(conn, &conn->write_timer, SL_TIMER_WRITE);
            break;
        }
        sl_conn_gone(conn, "stopped reading");
        break;
    default:
        sl_conn_close(conn);
    }
}

/* Bodies must come at a rate, or many slow ones hold memory for long. */
static void check_bodies(sl_server *server, uint64_t now_us)
{
    for (sl_timer *t = server->timer_first[SL_TIMER_BODY], *next; t != NULL; t = next) {
        const uint64_t age_us = now_us - t->armed_us;
        const sl_http_request *r = sl_http_parser_request(t->conn->parser);

        next = t->next;
        if (age_us < SL_BODY_RATE_AFTER_US)
            break;
        if (r->body.len < age_us / 1000000u * SL_BODY_RATE_MIN)
            timed_out(t->conn, SL_TIMER_BODY);
    }
}

/* Has a client that ended its side answered the probe with a reset? */
static void check_probed(sl_server *server)
{
    for (sl_generation *gen = server->generations, *next; gen != NULL; gen = next) {
        sl_conn *conn = gen->conn;
        socklen_t n = sizeof(int);
        int error = 0;
        uv_os_fd_t fd;

        next = gen->next;
        if (conn == NULL || !conn->eof)
            continue;
        if (!conn->probed) {
            probe(conn);
            sl_conn_progress(conn);
        } else if (uv_fileno(&conn->uv.handle, &fd) == 0 &&
                   getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n) == 0 && error != 0) {
            sl_conn_gone(conn, "closed");
        }
    }
}

void sl_conn_tick(sl_server *server, uint64_t now_us)
{
    for (int kind = 0; kind < SL_TIMER_COUNT; kind++) {
        const uint64_t wait_us = timeout_us(server, (sl_timer_kind)kind);
        sl_timer *first;

        while ((first = server->timer_first[kind]) != NULL && now_us - first->armed_us >= wait_us &&
               now_us >= first->armed_us)
            timed_out(first->conn, (sl_timer_kind)kind);
    }
    check_bodies(server, now_us);
    check_probed(server);
}
