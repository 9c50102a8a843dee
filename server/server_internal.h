/* server/server_internal.h - what the files of the front share.
 *
 *   server.c      create, run, drain, signals, the tick
 *   listener.c    bind, accept, limits on connections
 *   connection.c  bytes in: parser, pipelining, disconnects, timers
 *   reply.c       bytes out: write queue, heads, errors, request log
 *   handlers.c    what may be done (routes, keys, limits), and the small routes
 *   prepare.c     a request's body to token ids: the job of the pool
 *   generation.c  a request's slots, from taking to giving back
 *   answer.c      tokens to text, chunks and answers
 *
 * Rules.
 * 1. A connection's memory lives until its close callback; `closing` says that it is over.
 * 2. Appending to conn->out sends nothing.  Whoever was called by libuv ends with
 *    sl_conn_progress(conn), which sends, goes on and may close.
 * 3. A generation holds its connection while somebody waits for the answer (conn != NULL), and is
 *    freed when it has no connection, no job in the pool and no slot.
 *
 * Thread: loop, but for prepare.c's job. */
#ifndef SL_SERVER_SERVER_INTERNAL_H
#define SL_SERVER_SERVER_INTERNAL_H

#include <stdatomic.h>
#include <uv.h>

#include "base/arena.h"
#include "protocol/http.h"
#include "protocol/openai.h"
#include "server/answer_text.h"
#include "server/keys.h"
#include "server/metrics.h"
#include "server/routes.h"
#include "server/server.h"

enum {
    SL_READ_BYTES = 64 << 10,       /* of one read; one buffer for all connections */
    SL_PENDING_MAX = 64 << 10,      /* pipelined bytes before reading pauses */
    SL_QUEUED_MAX = 256 << 10,      /* unsent bytes of a stream before tokens wait in their slot */
    SL_UNSENT_MAX = 128 << 10,      /* of these, in the kernel */
    SL_OUT_MAX = 256 << 20,         /* of one whole answer */
    SL_KEEP_BYTES = 16 << 10,       /* memory a buffer keeps between uses */
    SL_INLINE_BODY_MAX = 4 << 10,   /* bodies up to this are prepared on the loop itself */
    SL_EARLY_BODY_MAX = 16 << 10,   /* refusals wait for bodies up to this, and keep the line */
    SL_BODY_RATE_MIN = 1 << 10,     /* bytes a second, after SL_BODY_RATE_AFTER_US */
    SL_LINGER_BYTES_MAX = 64 << 20, /* dropped bytes of a refused request before the line is cut */
    SL_NAMES_MAX = 16,              /* served names */
    SL_REQUEST_ID_MAX = 64,         /* of a client's x-request-id */
    SL_LOG_LINES_MAX = 500,         /* request lines a second; more are counted only */
    SL_TICK_MS = 100,
    SL_FILES_RESERVED = 64 /* descriptors that connections may not take */
};

#define SL_BODY_RATE_AFTER_US 10000000u
#define SL_LINGER_US 5000000u
#define SL_PING_US 10000000u
#define SL_FLUSH_US 2000000u /* for last bytes after a drain */

typedef struct sl_conn sl_conn;
typedef struct sl_generation sl_generation;

/* --- timers: a first-in first-out list a kind, as all of a kind wait equally long --------- */

typedef enum sl_timer_kind {
    SL_TIMER_IDLE,
    SL_TIMER_HEADER,
    SL_TIMER_BODY,
    SL_TIMER_LINGER,
    SL_TIMER_WRITE,
    SL_TIMER_COUNT /* not armed */
} sl_timer_kind;

typedef struct sl_timer {
    struct sl_timer *prev, *next;
    sl_conn *conn;
    uint64_t armed_us;
    sl_timer_kind kind;
} sl_timer;

/* --- connections --------------------------------------------------------------------------- */

struct sl_conn {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } uv;
    sl_server *server;
    sl_conn *prev, *next;
    sl_timer read_timer, write_timer;
    sl_http_parser *parser; /* while a request is read or answered */
    sl_buf pending;         /* bytes behind the request at hand */
    sl_buf out;             /* to be sent, after those of the write in flight */
    sl_buf flying;
    size_t flying_left; /* unsent bytes when the write timer was armed */
    size_t lingered_bytes;
    uv_write_t write;

    bool reading, eof, writing, closing;
    bool close_after; /* close once everything is sent */
    bool linger;      /* then first drop what the client still sends */
    bool lingering;

    /* The request at hand. */
    bool busy;       /* it is complete and not answered yet */
    bool in_request; /* its first byte came */
    bool headers;    /* the parser has its headers */
    bool head_only;
    bool keep_alive;
    bool probed; /* asked whether a client that ended its side is still there */
    const sl_route *route;
    uint32_t key; /* which key it carried, or SL_KEY_NONE */
    uint64_t begin_us, complete_us;
    sl_generation *generation;
    char request_id[SL_REQUEST_ID_MAX + 1];
};

/* --- generations --------------------------------------------------------------------------- */

/* One choice of an answer. */
typedef struct sl_choice {
    sl_generation *generation;
    sl_slot *slot; /* NULL: none taken (max_tokens 0), or given back */
    uint32_t index;
    uint32_t prompt;
    uint32_t token_end; /* out_* entries below this may be read */
    uint32_t pos;       /* tokens turned to text */
    uint32_t reported;  /* tokens told to the client (logprobs, ids) */
    bool ended;         /* the slot is the loop's again */
    bool finished;      /* why it ends is known; nothing is added any more */
    bool role_sent, closed;
    sl_finish finish; /* as the engine said */
    sl_status status;
    int64_t stop_token;      /* or -1 */
    const char *stop_string; /* or NULL */
    sl_answer_text text;
    sl_buf ready;   /* text to be sent; all of it if not streaming */
    uint64_t chars; /* characters of the answer so far, for text_offset */
} sl_choice;

typedef struct sl_prompt {
    uint32_t *id; /* [count], in the arena, or */
    bool owned;   /* to be freed */
    uint32_t count;
    const char *echo; /* its text, if asked for */
    size_t echo_len;
} sl_prompt;

struct sl_generation {
    sl_server *server;
    sl_conn *conn; /* NULL: nobody waits any more */
    sl_generation *prev, *next;
    sl_generation *next_dirty;
    bool dirty;

    /* The job: a closed blob while `working`. */
    uv_work_t work;
    bool working, reserved;
    sl_route_id route;
    sl_buf body;
    sl_arena arena;
    sl_api_request request;
    sl_api_tokenize tokenize;
    sl_prompt prompt[SL_API_PROMPTS_MAX];
    uint32_t prompt_count;
    uint32_t max_tokens[SL_API_PROMPTS_MAX];
    sl_buf reply; /* of /tokenize and /detokenize */
    sl_status status;
    sl_err err;

    /* The answer. */
    sl_choice *choice; /* owned */
    uint32_t choice_count;
    uint32_t slots_open; /* taken and not given back */
    bool stream;
    bool head_sent;
    bool backlog; /* waits for the client to read */
    uint64_t begin_us, sent_us;
    char id[48];
    sl_api_answer answer;
};

/* --- the server ---------------------------------------------------------------------------- */

typedef enum sl_server_state {
    SL_SERVER_LOADING,
    SL_SERVER_SERVING,
    SL_SERVER_DRAINING, /* running answers may end */
    SL_SERVER_ENDING    /* last bytes are sent */
} sl_server_state;

struct sl_server {
    const sl_config *config;
    const sl_server_model *model;              /* NULL while loading */
    _Atomic(const sl_server_model *) attached; /* by any thread, then on_attach takes it */
    atomic_bool gave_up;
    sl_server_state state;
    int exit_status;

    uv_loop_t loop;
    uv_async_t events_async, attach_async;
    uv_signal_t signal_term, signal_int, signal_usr1;
    uv_timer_t tick;
    uv_work_t first_job;
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } listener;
    bool is_unix;
    uint32_t port;
    char address[300]; /* as logs show it */

    sl_conn *conns;
    sl_conn *spare_conn; /* to refuse with when memory is short */
    bool accept_missed;  /* a connection waits to be taken */
    uint32_t conn_count, conns_max;
    sl_timer *timer_first[SL_TIMER_COUNT], *timer_last[SL_TIMER_COUNT];
    sl_generation *generations;
    uint32_t generation_count; /* with a connection */
    uint32_t reserved;         /* slots promised to requests in preparation */
    sl_generation *dirty;

    sl_keys *keys; /* NULL: none needed */
    uint8_t secret[32];
    uint64_t id_seed, id_count;
    char names_text[SL_CONFIG_TEXT_MAX];
    const char *name[SL_NAMES_MAX];
    uint32_t name_count;
    char fingerprint[64];
    int64_t created;
    sl_metrics metrics;

    uint64_t start_us, drain_end_us, flush_end_us;
    uint64_t progress_us, progress_seen; /* when the engine last moved, or had nothing to do */
    bool stalled;
    uint64_t last_end_us;
    double end_interval_us; /* between ends of requests, smoothed: when the next slot is free */
    uint64_t log_second;
    uint32_t log_lines, log_dropped;

    char read_buffer[SL_READ_BYTES];
    sl_buf scratch; /* SSE events of one connection */
};

/* listener.c */
SL_MUST_CHECK sl_status sl_listener_open(sl_server *server, sl_err *err);
SL_MUST_CHECK sl_status sl_listener_start(sl_server *server, sl_err *err);

/* connection.c */
void sl_conn_open(sl_server *server);
void sl_conn_progress(sl_conn *conn);
/* Over: nobody is there any more, or nobody should be.  Cancels what it waited for. */
void sl_conn_close(sl_conn *conn);
/* The client went away: counted and logged if it waited for an answer. */
void sl_conn_gone(sl_conn *conn, const char *why);
void sl_conn_tick(sl_server *server, uint64_t now_us);
void sl_timer_arm(sl_conn *conn, sl_timer *timer, sl_timer_kind kind);
void sl_timer_disarm(sl_conn *conn, sl_timer *timer);

/* reply.c */
size_t sl_conn_queued(const sl_conn *conn);
/* Hand bytes to the kernel; may close the connection. */
void sl_conn_flush(sl_conn *conn);
/* A whole reply; `body` may be NULL.  The request is answered. */
void sl_reply(sl_conn *conn, int http, const char *type, const sl_buf *body, const char *extra);
void sl_reply_error(sl_conn *conn, const sl_err *err);
/* Header lines that every reply has (x-request-id), and those of an error. */
void sl_reply_headers(sl_conn *conn, const sl_err *err, sl_buf *out);
/* The reply is queued whole: log it, count it, be ready for the next request. */
void sl_conn_answered(sl_conn *conn, int http, const char *detail);
/* One line and one count; `detail` may be NULL. */
void sl_request_end(sl_conn *conn, int http, const char *detail);
void sl_random_text(sl_server *server, char out[33]);

/* handlers.c */
/* May the request at hand be served?  Uses its headers only. */
SL_MUST_CHECK sl_status sl_request_check(sl_conn *conn, sl_err *err);
/* The request is complete: answer it, or begin to. */
void sl_request_dispatch(sl_conn *conn);
bool sl_server_accepts(const sl_server *server);
const char *sl_server_condition(const sl_server *server);

/* prepare.c */
void sl_prepare(sl_generation *gen);

/* generation.c */
void sl_generation_start(sl_conn *conn);
void sl_generation_abandon(sl_generation *gen);
/* Give back what can be given back; frees the generation when nothing holds it. */
void sl_generation_release(sl_generation *gen);
void sl_generation_drain_events(sl_server *server);
/* End it now with an error, in the stream or as the reply. */
void sl_generation_fail(sl_generation *gen, const sl_err *err);
/* The whole answer is queued. */
void sl_generation_complete(sl_generation *gen, int http, const char *detail);
void sl_generation_note_end(sl_generation *gen, int http);

/* answer.c */
void sl_answer_pump(sl_generation *gen);
void sl_answer_ping(sl_generation *gen);
void sl_answer_usage(const sl_generation *gen, sl_api_usage *usage);
/* Queue server->scratch as a part of the stream, its head first / end the stream. */
void sl_answer_send(sl_generation *gen);
void sl_answer_finish_stream(sl_generation *gen);

/* server.c */
void sl_server_check_drain(sl_server *server);

#endif
