/* server/server.c - see server.h: create, run, the tick, signals, drain. */
#include "server/server.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "server/server_internal.h"

/* --- the model ----------------------------------------------------------------------------- */

static void wake_loop(void *user)
{
    sl_server *server = user;

    uv_async_send(&server->events_async);
}

void sl_server_attach(sl_server *server, const sl_server_model *model)
{
    model->mailbox->loop_user = server;
    model->mailbox->wake_loop = wake_loop;
    atomic_store(&server->attached, model);
    uv_async_send(&server->attach_async);
}

void sl_server_give_up(sl_server *server)
{
    atomic_store(&server->gave_up, true);
    uv_async_send(&server->attach_async);
}

/* The names to serve under: those of the configuration, or the file's. */
static void set_names(sl_server *server)
{
    char *at = server->names_text;
    char *name, *rest;

    snprintf(server->names_text, sizeof(server->names_text), "%s",
             server->config->served_model_name);
    server->name_count = 0;
    while ((name = strtok_r(at, ", ", &rest)) != NULL && server->name_count < SL_NAMES_MAX) {
        server->name[server->name_count++] = name;
        at = NULL;
    }
    if (server->name_count == 0)
        server->name[server->name_count++] = server->model->model_name;
}

static void on_attach(uv_async_t *async)
{
    sl_server *server = async->data;
    const sl_server_model *model = atomic_load(&server->attached);

    if (atomic_load(&server->gave_up)) {
        server->exit_status = 1;
        uv_stop(&server->loop);
        return;
    }
    if (model == NULL || server->model != NULL)
        return;
    server->model = model;
    set_names(server);
    snprintf(server->fingerprint, sizeof(server->fingerprint), "sluice-" SL_VERSION "-%.32s",
             model->device);
    server->created = sl_clock_unix_s();
    server->progress_us = sl_clock_us();
    if (server->state == SL_SERVER_LOADING)
        server->state = SL_SERVER_SERVING;
    sl_log(SL_LOG_INFO, "server ready model=%s address=%s context=%u device=%s", server->name[0],
           server->address, model->context_max, model->device);
}

static void on_events(uv_async_t *async)
{
    sl_server *server = async->data;

    sl_generation_drain_events(server);
    sl_server_check_drain(server);
}

/* --- shutting down ------------------------------------------------------------------------- */

static bool all_sent(const sl_server *server)
{
    for (const sl_conn *conn = server->conns; conn != NULL; conn = conn->next)
        if (conn->busy || conn->writing || conn->out.len > 0)
            return false;
    return true;
}

static void end_streams(sl_server *server)
{
    sl_generation *gen = server->generations;
    sl_err err;

    (void)sl_fail(&err, SL_EUNAVAILABLE, "the server is shutting down");
    while (gen != NULL) {
        sl_generation *next = gen->next;
        sl_conn *conn = gen->conn;

        if (conn != NULL) {
            sl_generation_fail(gen, &err);
            sl_conn_progress(conn);
        }
        gen = next;
    }
}

void sl_server_check_drain(sl_server *server)
{
    const uint64_t now_us = sl_clock_us();

    if (server->state == SL_SERVER_DRAINING &&
        (server->generation_count == 0 || now_us >= server->drain_end_us)) {
        if (server->generation_count > 0)
            sl_log(SL_LOG_WARN, "server ends %u answers: the shutdown timeout is over",
                   server->generation_count);
        server->state = SL_SERVER_ENDING;
        server->flush_end_us = now_us + SL_FLUSH_US;
        end_streams(server);
    }
    if (server->state == SL_SERVER_ENDING && (all_sent(server) || now_us >= server->flush_end_us))
        uv_stop(&server->loop);
}

static void on_stop_signal(uv_signal_t *handle, int number)
{
    sl_server *server = handle->data;
    const char *name = number == SIGTERM ? "SIGTERM" : "SIGINT";

    if (server->state >= SL_SERVER_DRAINING) {
        sl_log(SL_LOG_WARN, "server stops at once: a second %s", name);
        server->exit_status = 128 + number;
        uv_stop(&server->loop);
        return;
    }
    sl_log(SL_LOG_INFO, "server draining signal=%s answers=%u timeout=%us", name,
           server->generation_count, server->config->shutdown_timeout_s);
    server->state = SL_SERVER_DRAINING;
    server->drain_end_us = sl_clock_us() + server->config->shutdown_timeout_s * 1000000ull;
    uv_timer_again(&server->tick);
    sl_server_check_drain(server);
}

static void on_state_signal(uv_signal_t *handle, int number)
{
    const sl_server *server = handle->data;
    const sl_engine_stats *s = server->model != NULL ? server->model->stats : NULL;

    (void)number;
    sl_log(SL_LOG_INFO,
           "server state condition=%s connections=%u answers=%u preparing=%u queued=%u "
           "prefilling=%u decoding=%u planes_free=%u planes_evictable=%u planes_total=%u "
           "progress=%llu",
           sl_server_condition(server), server->conn_count, server->generation_count,
           server->reserved, s != NULL ? atomic_load(&s->queued) : 0,
           s != NULL ? atomic_load(&s->prefilling) : 0, s != NULL ? atomic_load(&s->decoding) : 0,
           s != NULL ? atomic_load(&s->planes_free) : 0,
           s != NULL ? atomic_load(&s->planes_evictable) : 0,
           s != NULL ? atomic_load(&s->planes_total) : 0,
           s != NULL ? (unsigned long long)atomic_load(&s->progress) : 0);
}

/* --- the tick ------------------------------------------------------------------------------ */

/* An engine that has work must move: its batches are counted. */
static void watch_engine(sl_server *server, uint64_t now_us)
{
    const sl_engine_stats *s = server->model != NULL ? server->model->stats : NULL;
    bool stalled = false;
    uint64_t progress;
    unsigned work;

    if (s == NULL)
        return;
    progress = atomic_load_explicit(&s->progress, memory_order_relaxed);
    work = atomic_load_explicit(&s->queued, memory_order_relaxed) +
           atomic_load_explicit(&s->prefilling, memory_order_relaxed) +
           atomic_load_explicit(&s->decoding, memory_order_relaxed);
    if (work == 0 || progress != server->progress_seen) {
        server->progress_seen = progress;
        server->progress_us = now_us;
    } else {
        stalled = now_us - server->progress_us >= server->config->stall_timeout_s * 1000000ull;
    }
    if (stalled != server->stalled)
        sl_log(stalled ? SL_LOG_ERROR : SL_LOG_INFO,
               stalled ? "server not ready: the engine has %u requests and made no progress for %us"
                       : "server ready again: the engine moves, requests=%u, stall_timeout=%us",
               work, server->config->stall_timeout_s);
    server->stalled = stalled;
}

/* Streams that are silent for long get a comment, so that nothing on the way cuts them. */
static void ping_streams(sl_server *server, uint64_t now_us)
{
    for (sl_generation *gen = server->generations, *next; gen != NULL; gen = next) {
        sl_conn *conn = gen->conn;

        next = gen->next;
        if (conn == NULL || !gen->stream || gen->working || now_us < gen->sent_us + SL_PING_US ||
            sl_conn_queued(conn) > 0)
            continue;
        sl_answer_ping(gen);
        sl_conn_progress(conn);
    }
}

static void on_tick(uv_timer_t *timer)
{
    sl_server *server = timer->data;
    const uint64_t now_us = sl_clock_us();

    sl_conn_tick(server, now_us);
    watch_engine(server, now_us);
    ping_streams(server, now_us);
    sl_server_check_drain(server);
    /* With nobody there, nothing is to be watched. */
    if (server->conn_count == 0 && server->generations == NULL &&
        server->state < SL_SERVER_DRAINING)
        uv_timer_stop(timer);
}

/* --- create and destroy -------------------------------------------------------------------- */

static void init_signal(sl_server *server, uv_signal_t *handle, int number, uv_signal_cb callback)
{
    uv_signal_init(&server->loop, handle);
    handle->data = server;
    uv_signal_start(handle, callback, number);
}

static sl_status init_loop(sl_server *server, sl_err *err)
{
    int rc = uv_loop_init(&server->loop);

    if (rc != 0)
        return sl_fail(err, SL_EIO, "cannot make an event loop: %s", uv_strerror(rc));
    rc = uv_async_init(&server->loop, &server->events_async, on_events);
    SL_ASSERT(rc == 0);
    rc = uv_async_init(&server->loop, &server->attach_async, on_attach);
    SL_ASSERT(rc == 0);
    server->events_async.data = server->attach_async.data = server;
    init_signal(server, &server->signal_term, SIGTERM, on_stop_signal);
    init_signal(server, &server->signal_int, SIGINT, on_stop_signal);
    init_signal(server, &server->signal_usr1, SIGUSR1, on_state_signal);
    uv_timer_init(&server->loop, &server->tick);
    server->tick.data = server;
    uv_timer_start(&server->tick, on_tick, SL_TICK_MS, SL_TICK_MS);
    return SL_OK;
}

static void on_first_job(uv_work_t *work)
{
    (void)work;
}

/* Only this thread may take signals: the pool's threads are started now, with all blocked. */
static void start_pool(sl_server *server)
{
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    (void)uv_queue_work(&server->loop, &server->first_job, on_first_job, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* The end has begun: a late signal must not turn it into a death by signal once libuv has let go
 * of its handlers. */
static void block_stop_signals(void)
{
    sigset_t stop;

    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    sigaddset(&stop, SIGINT);
    pthread_sigmask(SIG_BLOCK, &stop, NULL);
}

static bool random_bytes(void *out, size_t n)
{
    return getrandom(out, n, 0) == (ssize_t)n;
}

sl_status sl_server_create(const sl_config *config, sl_server **out, sl_err *err)
{
    sl_server *server = sl_alloc(1, sizeof(*server));
    sl_status status;

    if (server == NULL)
        return sl_fail(err, SL_ENOMEM, "out of memory for the server");
    server->config = config;
    server->start_us = sl_clock_us();
    server->end_interval_us = 1e6; /* until the first requests have ended */
    sl_buf_init(&server->scratch, SL_OUT_MAX);
    server->spare_conn = sl_alloc(1, sizeof(*server->spare_conn));
    status = init_loop(server, err);
    if (status != SL_OK) {
        sl_free(server->spare_conn);
        sl_free(server);
        return status;
    }
    signal(SIGPIPE, SIG_IGN);
    start_pool(server);
    if (!random_bytes(server->secret, sizeof(server->secret)) ||
        !random_bytes(&server->id_seed, sizeof(server->id_seed)))
        status = sl_fail(err, SL_EIO, "the system gives no random bytes");
    if (status == SL_OK && config->api_key_file[0] != '\0')
        status = sl_keys_create(config->api_key_file, &server->keys, err);
    if (status == SL_OK)
        status = sl_listener_open(server, err);
    if (status == SL_OK)
        status = sl_listener_start(server, err);
    if (status != SL_OK) {
        sl_server_destroy(server);
        return status;
    }
    sl_log(SL_LOG_INFO, "server listening address=%s keys=%u", server->address,
           server->keys != NULL ? sl_keys_count(server->keys) : 0);
    *out = server;
    return SL_OK;
}

uint32_t sl_server_port(const sl_server *server)
{
    return server->port;
}

int sl_server_run(sl_server *server)
{
    uv_run(&server->loop, UV_RUN_DEFAULT);
    block_stop_signals();
    if (server->state < SL_SERVER_DRAINING)
        server->state = SL_SERVER_ENDING;
    if (server->model != NULL)
        sl_mailbox_shutdown(server->model->mailbox);
    sl_log(SL_LOG_INFO, "server stopped status=%d", server->exit_status);
    return server->exit_status;
}

static void close_handle(uv_handle_t *handle, void *user)
{
    (void)user;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

/* What the engine still said goes to nobody; slots of an engine that is gone are the mailbox's. */
static void free_generations(sl_server *server)
{
    sl_event_message event;

    if (server->model != NULL)
        while (sl_mailbox_next_event(server->model->mailbox, &event)) {
            sl_slot *slot = sl_mailbox_find(server->model->mailbox, event.slot);

            if (event.kind != SL_EVENT_TOKENS)
                ((sl_choice *)slot->user)->ended = true;
        }
    for (sl_generation *gen = server->generations, *next; gen != NULL; gen = next) {
        next = gen->next;
        for (uint32_t i = 0; i < gen->choice_count; i++)
            if (gen->choice[i].slot != NULL && !gen->choice[i].ended) {
                gen->choice[i].slot = NULL;
                gen->slots_open--;
            }
        gen->dirty = false;
        sl_generation_release(gen);
    }
}

void sl_server_destroy(sl_server *server)
{
    if (server == NULL)
        return;
    server->state = SL_SERVER_ENDING;
    server->accept_missed = false;
    while (server->conns != NULL)
        sl_conn_close(server->conns);
    uv_walk(&server->loop, close_handle, NULL);
    uv_run(&server->loop, UV_RUN_DEFAULT); /* until handles are closed and jobs are done */
    free_generations(server);
    SL_ASSERT(server->generations == NULL);
    if (uv_loop_close(&server->loop) != 0)
        sl_log(SL_LOG_WARN, "server the event loop has handles left");
    if (server->config->uds[0] != '\0' && server->address[0] != '\0')
        unlink(server->config->uds);
    sl_keys_destroy(server->keys);
    sl_buf_done(&server->scratch);
    sl_free(server->spare_conn);
    explicit_bzero(server->secret, sizeof(server->secret));
    sl_free(server);
}
