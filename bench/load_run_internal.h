/* bench/load_run_internal.h - one run: a pacer that sends, a reader that reads.
 *
 *   pacer   owns the schedule, idle connections and conversations; connects and sends at the due
 * time reader  owns the connections that wait for an answer, and the records of their requests A
 * connection changes owner through two rings (base/ring.h), each with an eventfd as its bell;
 * nothing else is shared but the counters that progress is shown from, and the flag to stop.
 * The pacer never waits for a socket, so a slow server cannot make it late. */
#ifndef SL_BENCH_LOAD_RUN_INTERNAL_H
#define SL_BENCH_LOAD_RUN_INTERNAL_H

#include <stdatomic.h>

#include "base/ring.h"
#include "bench/load_internal.h"
#include "bench/load_sse.h"

typedef struct sl_load_conn {
    int fd;     /* -1: none */
    int broken; /* errno of the pacer's attempt to send; 0: none */
    uint32_t item;
    bool used_before; /* this socket has carried an answer */
    bool connected;
    bool keep_text; /* the answer's text is needed: a turn follows */
    sl_buf out;     /* the request */
    size_t out_sent;
    sl_load_reply reply;
    sl_load_sse sse;
    sl_buf text; /* of the answer; or the body of an error */

    /* the reader's */
    uint32_t active_index;
    bool in_epoll, got_bytes, saw_last, saw_done, saw_malformed, saw_error, paused;
    uint64_t deadline_us, cancel_us, resume_us;
    uint64_t event_us; /* of the last event */
    uint64_t ended_us; /* when the request was over and the connection free */
} sl_load_conn;

typedef struct sl_load_due {
    uint64_t due_us;
    uint32_t item;
} sl_load_due;

typedef struct sl_load_runner {
    const sl_load_options *o;
    sl_load_site *site;
    const sl_load_plan *plan;
    sl_load_record *record;
    uint64_t start_us; /* on the clock */
    uint64_t end_us;   /* no request is intended later than this; UINT64_MAX: no end */

    sl_ring to_reader, to_pacer; /* of sl_load_conn *; NULL to the reader: the end */
    int reader_bell, pacer_bell; /* eventfd */
    int timer, epoll;
    atomic_bool stopping;
    atomic_uint sent, finished, failed;
    atomic_ullong events;

    /* the pacer's */
    sl_load_due *heap;
    uint32_t heap_count;
    uint32_t *waiting; /* for a free place under the cap: a queue */
    uint32_t waiting_first, waiting_count;
    uint32_t in_flight, in_flight_max;
    uint32_t next_session_item; /* closed loop: what the next free user takes */
    sl_buf *request;            /* of each item, built ahead */
    uint32_t build_cursor, built, issued_first;
    sl_buf *history;              /* of each session; NULL: single turns */
    uint64_t free_us;             /* when the last answer ended */
    sl_load_conn **idle, **spare; /* with a socket, without */
    uint32_t idle_count, spare_count;
    sl_load_conn **all; /* every connection ever made, to free them */
    uint32_t all_count;

    /* the reader's */
    sl_load_conn **active;
    uint32_t active_count;
    uint64_t next_timer_us;
    bool ended;
} sl_load_runner;

/* Microseconds since the start of the run; 0 before. */
uint64_t sl_load_now(const sl_load_runner *r);

/* Connect `c` anew.  0, or an errno. */
int sl_load_conn_open(sl_load_runner *r, sl_load_conn *c);
/* Send what the socket takes.  0, or an errno; stamps sent_us. */
int sl_load_conn_send(sl_load_runner *r, sl_load_conn *c);
void sl_load_conn_close(sl_load_conn *c);

/* Build the first requests, before the run starts. */
void sl_load_pacer_prepare(sl_load_runner *r);

/* Threads: each runs until the run is over. */
void sl_load_pacer_main(void *runner);
void sl_load_reader_main(void *runner);

void sl_load_bell_ring(int bell);
void sl_load_bell_clear(int bell);

/* Ask to be run soon when due: measuring must not wait behind what is measured.  A refusal is
 * ignored; the lag tells. */
void sl_load_raise_priority(void);

#endif
