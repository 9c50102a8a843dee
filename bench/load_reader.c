/* bench/load_reader.c - the thread that reads: see load_run_internal.h. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "bench/load_run_internal.h"

enum {
    EVENTS_MAX = 256,           /* taken from epoll at once */
    READ_BYTES = 64 << 10,      /* at once */
    ERROR_BYTES_MAX = 256 << 10 /* of an answer that is no stream */
};

/* --- epoll ---------------------------------------------------------------------------------- */

/* Listen for what the connection waits for; nothing while it is paused (not even for errors, which
 * epoll would repeat for ever). */
static void listen_to(sl_load_runner *r, sl_load_conn *c)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};

    if (c->out_sent < c->out.len)
        event.events |= EPOLLOUT;
    if (c->paused || c->fd < 0) {
        if (c->in_epoll && c->fd >= 0)
            epoll_ctl(r->epoll, EPOLL_CTL_DEL, c->fd, NULL);
        c->in_epoll = false;
        return;
    }
    if (epoll_ctl(r->epoll, c->in_epoll ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, c->fd, &event) == 0)
        c->in_epoll = true;
    else
        c->broken = errno;
}

static void set_timer(sl_load_runner *r, uint64_t at_us)
{
    if (at_us != 0 && at_us < r->next_timer_us)
        r->next_timer_us = at_us;
}

/* --- the end of a request ------------------------------------------------------------------- */

/* Write the record and give the connection back; `keep` its socket for another request. */
static void finish(sl_load_runner *r, sl_load_conn *c, sl_load_outcome outcome, bool keep)
{
    sl_load_record *record = &r->record[c->item];
    sl_status pushed;

    c->ended_us = sl_load_now(r);
    record->outcome = outcome;
    record->http_status = c->reply.status;
    record->done_us = outcome == SL_LOAD_OK && c->event_us != 0 ? c->event_us : c->ended_us;
    r->active[c->active_index] = r->active[--r->active_count];
    r->active[c->active_index]->active_index = c->active_index;
    if (keep) {
        c->paused = true;
        listen_to(r, c);
        c->used_before = true;
    } else {
        sl_load_conn_close(c);
        c->in_epoll = false;
    }
    atomic_fetch_add_explicit(&r->finished, 1, memory_order_relaxed);
    if (outcome != SL_LOAD_OK && outcome != SL_LOAD_CANCELLED)
        atomic_fetch_add_explicit(&r->failed, 1, memory_order_relaxed);
    pushed = sl_ring_push(&r->to_pacer, &c);
    SL_ASSERT(pushed == SL_OK); /* the ring holds every request */
    sl_load_bell_ring(r->pacer_bell);
}

static void note_error(sl_load_record *record, const char *text)
{
    if (record->error[0] == '\0')
        snprintf(record->error, sizeof(record->error), "%s", text);
}

/* The connection broke (error), or ended (error 0) where it should not have.  A connection that had
 * served before may have been closed by the server just as we sent: that is tried once more. */
static void lost(sl_load_runner *r, sl_load_conn *c, int error)
{
    sl_load_record *record = &r->record[c->item];

    if (record->reused && !record->retried && !c->got_bytes) {
        sl_load_conn_close(c);
        c->in_epoll = false;
        record->retried = true;
        error = sl_load_conn_open(r, c);
        c->broken = error != 0 ? error : sl_load_conn_send(r, c);
        if (c->broken == 0)
            listen_to(r, c);
        if (c->broken == 0)
            return;
        error = c->broken;
    }
    note_error(record, error != 0 ? strerror(error) : "the server closed the connection");
    if (!c->connected)
        finish(r, c, SL_LOAD_CONNECT, false);
    else if (c->reply.status == 200 && c->got_bytes)
        finish(r, c, SL_LOAD_CUT, false);
    else
        finish(r, c, SL_LOAD_RESET, false);
}

/* --- answers -------------------------------------------------------------------------------- */

static void stamp_event(sl_load_runner *r, sl_load_record *record, uint64_t now_us)
{
    const uint64_t after_us = now_us - record->begun_us;

    if (record->first_us == 0)
        record->first_us = now_us;
    record->last_us = now_us;
    atomic_fetch_add_explicit(&r->events, 1, memory_order_relaxed);
    if (record->events == SL_LOAD_EVENTS_MAX)
        return;
    if (record->events == record->event_capacity) {
        const uint32_t capacity = record->event_capacity == 0 ? 64 : 2 * record->event_capacity;
        uint32_t *grown = sl_realloc(record->event_us, capacity, sizeof(*grown));

        if (grown == NULL)
            return;
        record->event_us = grown;
        record->event_capacity = capacity;
    }
    record->event_us[record->events++] = after_us > UINT32_MAX ? UINT32_MAX : (uint32_t)after_us;
}

static void take_event(sl_load_runner *r, sl_load_conn *c, const char *data, size_t len)
{
    sl_load_record *record = &r->record[c->item];
    const uint64_t now_us = c->event_us;
    sl_load_event event;

    sl_load_event_read(data, len, c->keep_text ? &c->text : NULL, &event);
    c->saw_malformed |= event.malformed;
    c->saw_last |= event.last || event.finish[0] != '\0';
    c->saw_done |= event.last;
    if (event.error) {
        c->saw_error = true;
        note_error(record, event.message);
    }
    if (event.finish[0] != '\0')
        memcpy(record->finish, event.finish, sizeof(record->finish));
    if (event.has_usage) {
        record->prompt_tokens = event.prompt_tokens;
        record->output_tokens = event.output_tokens;
        record->cached_tokens = event.cached_tokens;
    }
    if (event.content)
        stamp_event(r, record, now_us);
}

static void take_body(sl_load_runner *r, sl_load_conn *c, const char *data, size_t n,
                      uint64_t now_us)
{
    if (c->reply.status != 200 || !c->reply.event_stream) {
        if (c->text.len + n <= ERROR_BYTES_MAX)
            sl_buf_add(&c->text, data, n);
        return;
    }
    while (n > 0) {
        const char *event;
        size_t event_len, used;
        const bool found = sl_load_sse_next(&c->sse, data, n, &used, &event, &event_len);

        data += used;
        n -= used;
        if (found) {
            c->event_us = now_us;
            take_event(r, c, event, event_len);
        }
    }
    c->saw_malformed |= sl_load_sse_failed(&c->sse);
}

/* The answer is complete as HTTP: what is it worth? */
static void judge(sl_load_runner *r, sl_load_conn *c)
{
    sl_load_record *record = &r->record[c->item];
    const bool keep =
        c->reply.keep_alive && c->reply.state == SL_REPLY_DONE && !r->plan->item[c->item].slow;

    if (c->reply.status != 200) {
        sl_load_event event;

        sl_load_event_read(c->text.data != NULL ? c->text.data : "", c->text.len, NULL, &event);
        note_error(record, event.message);
        finish(r, c, SL_LOAD_HTTP, keep);
        return;
    }
    if (!c->reply.event_stream) { /* a whole answer, although a stream was asked for */
        sl_buf whole = c->text;

        sl_buf_init(&c->text, SL_LOAD_EVENT_BYTES_MAX);
        c->event_us = sl_load_now(r);
        take_event(r, c, whole.data != NULL ? whole.data : "", whole.len);
        sl_buf_done(&whole);
    }
    if (c->saw_error)
        finish(r, c, SL_LOAD_ERROR_EVENT, keep);
    else if (c->saw_malformed)
        finish(r, c, SL_LOAD_MALFORMED, keep);
    else if (!c->saw_last) {
        note_error(record, "the stream ended without an end");
        finish(r, c, SL_LOAD_CUT, keep);
    } else
        finish(r, c, SL_LOAD_OK, keep);
}

/* Bytes came.  True: the request has ended, `c` is not ours any more. */
static bool take_bytes(sl_load_runner *r, sl_load_conn *c, const char *data, size_t n,
                       uint64_t now_us)
{
    c->got_bytes = true;
    while (n > 0 && c->reply.state != SL_REPLY_DONE && c->reply.state != SL_REPLY_BAD) {
        const char *body;
        size_t body_len;
        const size_t used = sl_load_reply_feed(&c->reply, data, n, &body, &body_len);

        if (body_len > 0)
            take_body(r, c, body, body_len, now_us);
        data += used;
        n -= used;
    }
    if (c->reply.state == SL_REPLY_BAD) {
        note_error(&r->record[c->item], "the answer is no HTTP");
        finish(r, c, SL_LOAD_MALFORMED, false);
        return true;
    }
    /* A body that ends with the connection need not be waited for once the stream says it is done.
     */
    if (c->reply.state == SL_REPLY_DONE ||
        (c->reply.state == SL_REPLY_UNTIL_CLOSE && c->saw_done)) {
        c->reply.keep_alive = c->reply.keep_alive && n == 0;
        judge(r, c);
        return true;
    }
    return false;
}

/* Read once.  A slow reader takes little, and then rests. */
static void read_some(sl_load_runner *r, sl_load_conn *c)
{
    const bool slow = r->plan->item[c->item].slow;
    const double rate = r->o->slow_bytes_per_s;
    static _Thread_local char data[READ_BYTES];
    size_t want = sizeof(data);
    uint64_t now_us;
    ssize_t n;

    if (slow && rate / 10.0 < (double)want)
        want = rate < 10.0 ? 1 : (size_t)(rate / 10.0);
    n = recv(c->fd, data, want, 0);
    now_us = sl_load_now(r);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n < 0) {
        lost(r, c, errno);
        return;
    }
    if (n == 0) {
        if (c->got_bytes && sl_load_reply_closed(&c->reply))
            judge(r, c);
        else
            lost(r, c, 0);
        return;
    }
    c->connected = true;
    if (take_bytes(r, c, data, (size_t)n, now_us) || !slow)
        return;
    c->paused = true;
    c->resume_us = now_us + (uint64_t)((double)n / rate * 1e6);
    set_timer(r, c->resume_us);
    listen_to(r, c);
}

static void serve(sl_load_runner *r, sl_load_conn *c, uint32_t events)
{
    if ((events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) != 0 && c->out_sent < c->out.len) {
        const int error = sl_load_conn_send(r, c);

        if (error != 0) {
            lost(r, c, error);
            return;
        }
        if (c->out_sent == c->out.len)
            listen_to(r, c);
    }
    if ((events & (EPOLLIN | EPOLLERR | EPOLLHUP)) != 0)
        read_some(r, c);
}

/* --- the loop ------------------------------------------------------------------------------- */

static void take_new(sl_load_runner *r)
{
    sl_load_conn *c;

    sl_load_bell_clear(r->reader_bell);
    while (sl_ring_pop(&r->to_reader, &c)) {
        const sl_load_record *record;

        if (c == NULL) {
            r->ended = true;
            continue;
        }
        record = &r->record[c->item];
        c->active_index = r->active_count;
        r->active[r->active_count++] = c;
        c->deadline_us = record->begun_us + (uint64_t)(r->o->timeout_s * 1e6);
        if (r->plan->item[c->item].cancel)
            c->cancel_us = record->begun_us + (uint64_t)(r->o->cancel_after_ms * 1e3);
        set_timer(r, c->deadline_us);
        set_timer(r, c->cancel_us);
        if (c->broken == 0)
            listen_to(r, c);
        if (c->broken != 0)
            lost(r, c, c->broken);
    }
}

/* Whatever is due now.  Backwards, as finish() moves the last into the place of the one that ends.
 */
static void run_timers(sl_load_runner *r)
{
    const bool stopping = atomic_load_explicit(&r->stopping, memory_order_acquire);
    const uint64_t now_us = sl_load_now(r);

    if (now_us < r->next_timer_us && !stopping)
        return;
    r->next_timer_us = UINT64_MAX;
    for (uint32_t i = r->active_count; i-- > 0;) {
        sl_load_conn *c = r->active[i];

        if (stopping || (c->cancel_us != 0 && now_us >= c->cancel_us)) {
            finish(r, c, SL_LOAD_CANCELLED, false);
            continue;
        }
        if (now_us >= c->deadline_us) {
            finish(r, c, SL_LOAD_TIMEOUT, false);
            continue;
        }
        if (c->paused && now_us >= c->resume_us) {
            c->paused = false;
            c->resume_us = 0;
            listen_to(r, c);
        }
        set_timer(r, c->deadline_us);
        set_timer(r, c->cancel_us);
        set_timer(r, c->resume_us);
    }
}

static int timeout_ms(const sl_load_runner *r)
{
    const uint64_t now_us = sl_load_now(r);

    if (r->next_timer_us == UINT64_MAX)
        return -1;
    if (r->next_timer_us <= now_us)
        return 0;
    if (r->next_timer_us - now_us > 1000000000u)
        return INT_MAX / 4;
    return (int)((r->next_timer_us - now_us) / 1000) + 1;
}

void sl_load_reader_main(void *runner)
{
    sl_load_runner *r = runner;
    struct epoll_event event[EVENTS_MAX];

    sl_load_raise_priority();
    r->next_timer_us = UINT64_MAX;
    while (!r->ended || r->active_count > 0) {
        const int n = epoll_wait(r->epoll, event, EVENTS_MAX, timeout_ms(r));

        for (int i = 0; i < n; i++)
            if (event[i].data.ptr != NULL)
                serve(r, event[i].data.ptr, event[i].events);
        /* New connections come after the events, which may be of the same struct's old socket. */
        take_new(r);
        run_timers(r);
    }
}
