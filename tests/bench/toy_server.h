/* tests/bench/toy_server.h - a server whose every delay is scripted, for the tests of the load
 * client.
 *
 * Listens on loopback (or a UNIX socket), one thread a connection.  It writes down when it really
 * wrote what, on the clock the client uses too. */
#ifndef SL_TESTS_BENCH_TOY_SERVER_H
#define SL_TESTS_BENCH_TOY_SERVER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum toy_mode {
    TOY_STREAM,      /* a stream of `max_tokens` events */
    TOY_STATUS,      /* `status`, and an error object */
    TOY_CUT,         /* the stream breaks off after half of the events */
    TOY_DIE,         /* the connection is closed as soon as the request has come */
    TOY_ERROR_EVENT, /* an error object within the stream */
    TOY_NO_END,      /* neither finish_reason nor [DONE], but the HTTP body ends */
    TOY_NONSENSE,    /* no JSON in the events */
    TOY_NO_HTTP,     /* no HTTP at all */
    TOY_UNTIL_CLOSE, /* HTTP/1.0: the stream ends with the connection */
    TOY_WHOLE,       /* one JSON answer with a length, no stream */
    TOY_CLOSE_IDLE,  /* as TOY_STREAM, but the connection is closed a little later, unannounced */
    TOY_SILENT       /* never answers */
} toy_mode;

enum { TOY_ANSWERS_MAX = 4096 };

typedef struct toy_answer {
    uint64_t due_us, wrote_us; /* the first event: when it was to be written, and when it was */
} toy_answer;

typedef struct toy_server {
    /* the script */
    _Atomic toy_mode mode; /* may change while it runs */
    atomic_int status;
    uint32_t first_us, gap_us;           /* to the first event, and between two */
    uint64_t stall_from_us, stall_to_us; /* on the clock: nothing begins within */
    atomic_bool no_usage, one_byte_writes, no_tokenize;
    const char *unix_path; /* NULL: TCP */

    /* what happened */
    atomic_uint connections, requests, answers;
    toy_answer answer[TOY_ANSWERS_MAX];
    atomic_ullong prompt_tokens, output_tokens;
    char last_body[8192]; /* of the last request; read when nothing runs */

    int listener, port;
    char url[160];
    atomic_bool stopping;
    void *acceptor;
    struct visit *visits; /* one for each connection, joined by toy_stop */
} toy_server;

/* Listen.  The script may change between runs. */
void toy_start(toy_server *t);
/* Close everything and wait for the threads. */
void toy_stop(toy_server *t);

#endif
