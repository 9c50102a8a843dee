/* bench/load_run.c - set a run up, watch it, take it down. */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/threads.h"
#include "bench/load_run_internal.h"

enum { START_DELAY_US = 20000, PROGRESS_US = 250000, SLOW_RECEIVE_BYTES = 4096 };

uint64_t sl_load_now(const sl_load_runner *r)
{
    const uint64_t now_us = sl_clock_us();

    return now_us > r->start_us ? now_us - r->start_us : 0;
}

void sl_load_bell_ring(int bell)
{
    const uint64_t one = 1;
    const ssize_t n = write(bell, &one, sizeof(one));

    (void)n; /* a full counter rings as well */
}

void sl_load_bell_clear(int bell)
{
    uint64_t count;
    const ssize_t n = read(bell, &count, sizeof(count));

    (void)n;
}

void sl_load_raise_priority(void)
{
    const struct sched_param real_time = {.sched_priority = 1};

    if (sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &real_time) != 0)
        setpriority(PRIO_PROCESS, 0, -10); /* on Linux, both are of this thread */
    prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
}

/* --- connections --------------------------------------------------------------------------- */

int sl_load_conn_open(sl_load_runner *r, sl_load_conn *c)
{
    const bool slow = r->plan->item[c->item].slow;

    c->fd = sl_load_connect(&r->site->target, slow ? SLOW_RECEIVE_BYTES : 0, &c->connected);
    c->used_before = false;
    c->out_sent = 0;
    return c->fd < 0 ? errno : 0;
}

int sl_load_conn_send(sl_load_runner *r, sl_load_conn *c)
{
    while (c->out_sent < c->out.len) {
        const ssize_t n =
            send(c->fd, c->out.data + c->out_sent, c->out.len - c->out_sent, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN || (errno == ENOTCONN && !c->connected) ? 0 : errno;
        c->connected = true;
        if (c->out_sent == 0)
            r->record[c->item].sent_us = sl_load_now(r);
        c->out_sent += (size_t)n;
    }
    return 0;
}

void sl_load_conn_close(sl_load_conn *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
}

/* --- set-up -------------------------------------------------------------------------------- */

static void raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static sl_status open_descriptors(sl_load_runner *r, sl_err *err)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};

    r->reader_bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    r->pacer_bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    r->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    r->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (r->reader_bell < 0 || r->pacer_bell < 0 || r->timer < 0 || r->epoll < 0 ||
        epoll_ctl(r->epoll, EPOLL_CTL_ADD, r->reader_bell, &event) != 0)
        return sl_fail(err, SL_EUNAVAILABLE, "no descriptors for the run: %s", strerror(errno));
    return SL_OK;
}

static sl_status set_up(sl_load_runner *r, sl_err *err)
{
    const uint32_t n = r->plan->count;
    const uint32_t sessions = r->plan->item[n - 1].session + 1;

    r->heap = sl_alloc(n, sizeof(*r->heap));
    r->waiting = sl_alloc(n, sizeof(*r->waiting));
    r->request = sl_alloc(n, sizeof(*r->request));
    r->idle = sl_alloc(n, sizeof(*r->idle));
    r->spare = sl_alloc(n, sizeof(*r->spare));
    r->all = sl_alloc(n, sizeof(*r->all));
    r->active = sl_alloc(n, sizeof(*r->active));
    r->record = sl_alloc(n, sizeof(*r->record));
    if (r->o->turns > 1)
        r->history = sl_alloc(sessions, sizeof(*r->history));
    if (r->heap == NULL || r->waiting == NULL || r->request == NULL || r->idle == NULL ||
        r->spare == NULL || r->all == NULL || r->active == NULL || r->record == NULL ||
        (r->o->turns > 1 && r->history == NULL) ||
        sl_ring_init(&r->to_reader, n + 1, sizeof(sl_load_conn *)) != SL_OK ||
        sl_ring_init(&r->to_pacer, n + 1, sizeof(sl_load_conn *)) != SL_OK)
        return sl_fail(err, SL_ENOMEM, "no memory for %u requests", n);
    for (uint32_t i = 0; i < n; i++) {
        r->record[i].outcome = SL_LOAD_SKIPPED;
        r->record[i].prompt_tokens = r->record[i].output_tokens = r->record[i].cached_tokens = -1;
        sl_buf_init(&r->request[i], SL_LOAD_BODY_MAX);
    }
    for (uint32_t i = 0; i < sessions && r->history != NULL; i++)
        sl_buf_init(&r->history[i], SL_LOAD_BODY_MAX);
    return open_descriptors(r, err);
}

static void close_descriptor(int fd)
{
    if (fd >= 0)
        close(fd);
}

static void take_down(sl_load_runner *r)
{
    const uint32_t sessions = r->plan->item[r->plan->count - 1].session + 1;

    for (uint32_t i = 0; i < r->all_count; i++) {
        sl_load_conn_close(r->all[i]);
        sl_buf_done(&r->all[i]->out);
        sl_buf_done(&r->all[i]->text);
        sl_load_sse_done(&r->all[i]->sse);
        sl_free(r->all[i]);
    }
    for (uint32_t i = 0; i < r->plan->count && r->request != NULL; i++)
        sl_buf_done(&r->request[i]);
    for (uint32_t i = 0; i < sessions && r->history != NULL; i++)
        sl_buf_done(&r->history[i]);
    sl_free(r->heap);
    sl_free(r->waiting);
    sl_free(r->request);
    sl_free(r->history);
    sl_free(r->idle);
    sl_free(r->spare);
    sl_free(r->all);
    sl_free(r->active);
    sl_ring_done(&r->to_reader);
    sl_ring_done(&r->to_pacer);
    close_descriptor(r->reader_bell);
    close_descriptor(r->pacer_bell);
    close_descriptor(r->timer);
    close_descriptor(r->epoll);
}

/* --- the watch ----------------------------------------------------------------------------- */

static void show(const sl_load_runner *r)
{
    const sl_load_progress progress = {
        .elapsed_us = sl_load_now(r),
        .planned = r->plan->count,
        .sent = atomic_load_explicit(&r->sent, memory_order_relaxed),
        .finished = atomic_load_explicit(&r->finished, memory_order_relaxed),
        .failed = atomic_load_explicit(&r->failed, memory_order_relaxed),
        .events = atomic_load_explicit(&r->events, memory_order_relaxed),
    };

    if (r->o->on_progress != NULL)
        r->o->on_progress(&progress, r->o->user);
}

static void stop(sl_load_runner *r)
{
    atomic_store_explicit(&r->stopping, true, memory_order_release);
    sl_load_bell_ring(r->pacer_bell);
    sl_load_bell_ring(r->reader_bell);
}

typedef struct watched_thread {
    sl_load_runner *runner;
    void (*main)(void *);
    sl_wake *ended;
} watched_thread;

static void run_watched(void *arg)
{
    const watched_thread *t = arg;

    t->main(t->runner);
    sl_wake_post(t->ended);
}

static sl_status run_threads(sl_load_runner *r, sl_err *err)
{
    sl_wake reader_ended, pacer_ended;
    watched_thread reader = {.runner = r, .main = sl_load_reader_main, .ended = &reader_ended};
    watched_thread pacer = {.runner = r, .main = sl_load_pacer_main, .ended = &pacer_ended};
    sl_thread reader_thread = {0}, pacer_thread = {0};
    bool stopped = false;
    sl_load_conn *none = NULL;

    sl_wake_init(&reader_ended);
    sl_wake_init(&pacer_ended);
    sl_load_pacer_prepare(r);
    r->start_us = sl_clock_us() + START_DELAY_US;
    if (sl_thread_start(&reader_thread, "load-reader", -1, run_watched, &reader) != SL_OK)
        return sl_fail(err, SL_EUNAVAILABLE, "cannot start a thread");
    if (sl_thread_start(&pacer_thread, "load-pacer", -1, run_watched, &pacer) != SL_OK) {
        if (sl_ring_push(&r->to_reader, &none) == SL_OK)
            sl_load_bell_ring(r->reader_bell);
        sl_thread_join(&reader_thread);
        return sl_fail(err, SL_EUNAVAILABLE, "cannot start a thread");
    }
    while (!sl_wake_wait(&reader_ended, PROGRESS_US)) {
        if (r->o->stop != NULL && *r->o->stop && !stopped) {
            stopped = true;
            stop(r);
        }
        show(r);
    }
    sl_thread_join(&pacer_thread);
    sl_thread_join(&reader_thread);
    show(r);
    return SL_OK;
}

sl_status sl_load_run(const sl_load_options *options, sl_load_site *site, const sl_load_plan *plan,
                      sl_load_result *out, sl_err *err)
{
    sl_load_runner r = {.o = options,
                        .site = site,
                        .plan = plan,
                        .reader_bell = -1,
                        .pacer_bell = -1,
                        .timer = -1,
                        .epoll = -1,
                        .end_us = UINT64_MAX};
    sl_load_result result = {.count = plan->count, .start_unix_s = sl_clock_unix_s()};
    sl_status status;

    if (options->duration_s > 0.0)
        r.end_us = (uint64_t)(options->duration_s * 1e6);
    raise_descriptor_limit();
    status = set_up(&r, err);
    if (status == SL_OK) {
        sl_load_scrape_take(&site->target, options->key, &result.before);
        status = run_threads(&r, err);
    }
    result.record = r.record;
    if (status == SL_OK) {
        result.wall_us = sl_load_now(&r);
        sl_load_scrape_take(&site->target, options->key, &result.after);
        result.in_flight_max = r.in_flight_max;
        result.stopped = atomic_load(&r.stopping);
        *out = result;
    } else if (r.record != NULL)
        sl_load_result_done(&result);
    take_down(&r);
    return status;
}

void sl_load_result_done(sl_load_result *result)
{
    for (uint32_t i = 0; i < result->count && result->record != NULL; i++)
        sl_free(result->record[i].event_us);
    sl_free(result->record);
    *result = (sl_load_result){0};
}
