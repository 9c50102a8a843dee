/* bench/load_pacer.c - the thread that sends: see load_run_internal.h. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/timerfd.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "bench/load_run_internal.h"

enum {
    AHEAD_MAX = 512, /* requests built before they are due */
    SPARE_US = 1500, /* build one more only if nothing is due within this time */
};

/* --- the schedule: a heap by due time ------------------------------------------------------- */

static bool before(const sl_load_due *a, const sl_load_due *b)
{
    return a->due_us != b->due_us ? a->due_us < b->due_us : a->item < b->item;
}

static void heap_push(sl_load_runner *r, uint64_t due_us, uint32_t item)
{
    const sl_load_due due = {.due_us = due_us, .item = item};
    uint32_t i = r->heap_count++;

    SL_ASSERT(r->heap_count <= r->plan->count);
    while (i > 0 && before(&due, &r->heap[(i - 1) / 2])) {
        r->heap[i] = r->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    r->heap[i] = due;
}

static sl_load_due heap_pop(sl_load_runner *r)
{
    const sl_load_due top = r->heap[0], moved = r->heap[--r->heap_count];
    uint32_t i = 0;

    for (;;) {
        uint32_t child = 2 * i + 1;

        if (child >= r->heap_count)
            break;
        if (child + 1 < r->heap_count && before(&r->heap[child + 1], &r->heap[child]))
            child++;
        if (!before(&r->heap[child], &moved))
            break;
        r->heap[i] = r->heap[child];
        i = child;
    }
    r->heap[i] = moved;
    return top;
}

/* --- requests ------------------------------------------------------------------------------- */

static uint32_t next_first_turn(const sl_load_runner *r, uint32_t item)
{
    while (item < r->plan->count && r->plan->item[item].turn > 0)
        item++;
    return item;
}

static sl_buf *history_of(sl_load_runner *r, uint32_t item)
{
    return r->history != NULL ? &r->history[r->plan->item[item].session] : NULL;
}

/* Write an item's request; `request[item].failed` tells if it did not fit. */
static void build(sl_load_runner *r, uint32_t item)
{
    const sl_load_item *it = &r->plan->item[item];
    sl_buf *out = &r->request[item];
    sl_buf text, body;

    sl_buf_init(&text, SL_LOAD_BODY_MAX);
    sl_buf_init(&body, SL_LOAD_BODY_MAX - (64 << 10));
    sl_load_words_text(&r->site->words, r->plan, it, &text);
    sl_load_site_body(r->site,
                      &(sl_load_body){.history = history_of(r, item),
                                      .text = text.data,
                                      .text_len = text.len,
                                      .output_tokens = it->output_tokens,
                                      .stream = true},
                      &body);
    sl_load_write_head(&r->site->target, "POST", r->site->path, r->o->key, body.len, out);
    sl_buf_add(out, body.data, body.len);
    out->failed = out->failed || text.failed || body.failed;
    sl_buf_done(&text);
    sl_buf_done(&body);
}

/* Build one more first turn; false if enough are ready. */
static bool build_ahead(sl_load_runner *r)
{
    r->build_cursor = next_first_turn(r, r->build_cursor);
    if (r->build_cursor >= r->plan->count || r->built - r->issued_first >= AHEAD_MAX)
        return false;
    build(r, r->build_cursor++);
    r->built++;
    return true;
}

void sl_load_pacer_prepare(sl_load_runner *r)
{
    while (build_ahead(r))
        ;
}

/* The request of an item that is to be sent now. */
static void take_request(sl_load_runner *r, uint32_t item, sl_buf *out)
{
    if (r->plan->item[item].turn > 0)
        build(r, item);
    else {
        while (r->build_cursor <= item && r->build_cursor < r->plan->count) {
            r->build_cursor = next_first_turn(r, r->build_cursor);
            build(r, r->build_cursor++);
            r->built++;
        }
        r->issued_first++;
    }
    sl_buf_done(out);
    *out = r->request[item];
    sl_buf_init(&r->request[item], SL_LOAD_BODY_MAX);
}

/* --- connections ---------------------------------------------------------------------------- */

static sl_load_conn *new_conn(sl_load_runner *r)
{
    sl_load_conn *c = sl_xalloc(1, sizeof(*c));

    SL_ASSERT(r->all_count < r->plan->count);
    c->fd = -1;
    sl_buf_init(&c->out, SL_LOAD_BODY_MAX);
    sl_buf_init(&c->text, SL_LOAD_EVENT_BYTES_MAX);
    sl_load_sse_init(&c->sse);
    r->all[r->all_count++] = c;
    return c;
}

/* An idle connection that the server has closed has something to read: its end. */
static bool is_alive(const sl_load_conn *c)
{
    char byte;

    return recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

/* A connection struct, with a live idle socket if there is one (and no fresh one is asked for). */
static sl_load_conn *take_conn(sl_load_runner *r, bool fresh)
{
    while (r->idle_count > 0 && !fresh) {
        sl_load_conn *c = r->idle[--r->idle_count];

        if (is_alive(c))
            return c;
        sl_load_conn_close(c);
        r->spare[r->spare_count++] = c;
    }
    return r->spare_count > 0 ? r->spare[--r->spare_count] : new_conn(r);
}

static void give_conn(sl_load_runner *r, sl_load_conn *c)
{
    if (c->fd >= 0)
        r->idle[r->idle_count++] = c;
    else
        r->spare[r->spare_count++] = c;
}

static void reset_conn(sl_load_conn *c, uint32_t item)
{
    c->item = item;
    c->broken = 0;
    c->out_sent = 0;
    sl_load_reply_init(&c->reply);
    sl_load_sse_reset(&c->sse);
    sl_buf_reset(&c->text);
    c->in_epoll = c->got_bytes = c->saw_last = c->saw_done = c->saw_malformed = c->saw_error =
        c->paused = false;
    c->deadline_us = c->cancel_us = c->resume_us = c->event_us = 0;
}

static void finish_item(sl_load_runner *r, sl_load_conn *c);

/* It failed before anything was sent. */
static void fail_here(sl_load_runner *r, sl_load_conn *c, const char *why)
{
    sl_load_record *record = &r->record[c->item];

    record->outcome = SL_LOAD_CONNECT;
    record->done_us = c->ended_us = sl_load_now(r);
    snprintf(record->error, sizeof(record->error), "%s", why);
    atomic_fetch_add_explicit(&r->finished, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&r->failed, 1, memory_order_relaxed);
    finish_item(r, c);
}

static void issue(sl_load_runner *r, uint32_t item, uint64_t due_us)
{
    const sl_load_item *it = &r->plan->item[item];
    sl_load_record *record = &r->record[item];
    sl_load_conn *c;
    sl_status pushed;
    int error;

    record->due_us = due_us;
    record->begun_us = sl_load_now(r);
    c = take_conn(r, it->slow);
    reset_conn(c, item);
    c->keep_text = it->next != SL_LOAD_NONE;
    record->reused = c->fd >= 0;
    take_request(r, item, &c->out);
    r->in_flight++;
    if (r->in_flight > r->in_flight_max)
        r->in_flight_max = r->in_flight;
    atomic_fetch_add_explicit(&r->sent, 1, memory_order_relaxed);
    if (c->out.failed) {
        fail_here(r, c, "the request is larger than 64 MiB");
        return;
    }
    error = c->fd >= 0 ? 0 : sl_load_conn_open(r, c);
    if (error != 0) {
        fail_here(r, c, strerror(error));
        return;
    }
    c->broken = sl_load_conn_send(r, c);
    pushed = sl_ring_push(&r->to_reader, &c);
    SL_ASSERT(pushed == SL_OK); /* the ring holds every request */
    sl_load_bell_ring(r->reader_bell);
}

/* --- what follows what ---------------------------------------------------------------------- */

static bool is_over(const sl_load_runner *r, uint64_t at_us)
{
    return at_us > r->end_us || atomic_load_explicit(&r->stopping, memory_order_acquire);
}

/* Intended at `at_us`; but not before `free_us`, when the connection of the request before it was
 * given back (the server may end an answer later than it says that it is done). */
static void plan_item(sl_load_runner *r, uint32_t item, uint64_t at_us, uint64_t free_us)
{
    if (is_over(r, at_us))
        return;
    r->record[item].intended_us = at_us;
    heap_push(r, at_us > free_us ? at_us : free_us, item);
}

/* Closed loop: a user takes the next session. */
static void plan_next_session(sl_load_runner *r, uint64_t after_us, uint64_t free_us)
{
    const uint32_t item = next_first_turn(r, r->next_session_item);

    if (item >= r->plan->count)
        return;
    r->next_session_item = item + 1;
    plan_item(r, item, after_us + (uint64_t)r->plan->item[item].think_ms * 1000, free_us);
}

/* The conversation goes on with what was really answered. */
static void remember(sl_load_runner *r, sl_load_conn *c)
{
    sl_buf text;

    sl_buf_init(&text, SL_LOAD_BODY_MAX);
    sl_load_words_text(&r->site->words, r->plan, &r->plan->item[c->item], &text);
    sl_load_site_remember(r->site, &(sl_load_body){.text = text.data, .text_len = text.len},
                          c->text.data, c->text.len, history_of(r, c->item));
    sl_buf_done(&text);
}

static void finish_item(sl_load_runner *r, sl_load_conn *c)
{
    const sl_load_record *record = &r->record[c->item];
    const uint32_t next = r->plan->item[c->item].next;
    const bool good = record->outcome == SL_LOAD_OK;

    r->in_flight--;
    if (next != SL_LOAD_NONE && good) {
        remember(r, c);
        plan_item(r, next, record->done_us + (uint64_t)r->plan->item[next].think_ms * 1000,
                  c->ended_us);
    } else if (!r->plan->open_loop)
        plan_next_session(r, record->done_us, c->ended_us);
    if (next == SL_LOAD_NONE && r->history != NULL)
        sl_buf_done(history_of(r, c->item));
    r->free_us = c->ended_us;
    give_conn(r, c);
}

/* Open loop with a cap: whoever waits longest takes a free place. */
static void send_waiting(sl_load_runner *r)
{
    while (r->waiting_count > 0 && r->in_flight < r->o->users) {
        const uint32_t item = r->waiting[r->waiting_first];
        const uint64_t intended_us = r->record[item].intended_us;

        r->waiting_first = (r->waiting_first + 1) % r->plan->count;
        r->waiting_count--;
        issue(r, item, r->free_us > intended_us ? r->free_us : intended_us);
    }
}

static void take_finished(sl_load_runner *r)
{
    sl_load_conn *c;

    sl_load_bell_clear(r->pacer_bell);
    while (sl_ring_pop(&r->to_pacer, &c)) {
        finish_item(r, c);
        if (!is_over(r, 0))
            send_waiting(r);
    }
}

/* --- the loop ------------------------------------------------------------------------------- */

static void plan_start(sl_load_runner *r)
{
    if (r->plan->open_loop) {
        for (uint32_t i = 0; i < r->plan->count; i = next_first_turn(r, i + 1))
            plan_item(r, i, r->plan->item[i].at_us, 0);
    } else {
        for (uint32_t user = 0; user < r->o->users; user++)
            plan_next_session(r, 0, 0);
    }
}

static void send_due(sl_load_runner *r)
{
    while (r->heap_count > 0 && r->heap[0].due_us <= sl_load_now(r)) {
        const sl_load_due due = heap_pop(r);

        if (r->plan->open_loop && r->o->users > 0 && r->in_flight >= r->o->users) {
            r->waiting[(r->waiting_first + r->waiting_count++) % r->plan->count] = due.item;
            continue;
        }
        issue(r, due.item, due.due_us);
    }
}

static void sleep_until(sl_load_runner *r)
{
    struct pollfd p[2] = {{.fd = r->pacer_bell, .events = POLLIN},
                          {.fd = r->timer, .events = POLLIN}};
    struct itimerspec spec = {0};

    if (r->heap_count > 0) {
        const uint64_t at_us = r->start_us + r->heap[0].due_us;

        spec.it_value.tv_sec = (time_t)(at_us / 1000000u);
        spec.it_value.tv_nsec = (long)(at_us % 1000000u) * 1000;
    }
    timerfd_settime(r->timer, TFD_TIMER_ABSTIME, &spec, NULL);
    poll(p, 2, -1);
}

void sl_load_pacer_main(void *runner)
{
    sl_load_runner *r = runner;
    sl_load_conn *none = NULL;
    sl_status pushed;

    sl_load_raise_priority();
    plan_start(r);
    for (;;) {
        take_finished(r);
        if (is_over(r, 0))
            r->heap_count = r->waiting_count = 0;
        if (sl_load_now(r) > 0) {
            send_due(r);
            send_waiting(r);
        }
        if (r->heap_count == 0 && r->waiting_count == 0 && r->in_flight == 0)
            break;
        if ((r->heap_count == 0 || r->heap[0].due_us > sl_load_now(r) + SPARE_US) && build_ahead(r))
            continue;
        sleep_until(r);
    }
    pushed = sl_ring_push(&r->to_reader, &none);
    SL_ASSERT(pushed == SL_OK); /* the ring holds every request */
    sl_load_bell_ring(r->reader_bell);
}
