/* bench/load_sse.h - server-sent events out of bytes in any splits, and what a chunk of an OpenAI
 * stream says.
 *
 * Thread: one at a time for each object. */
#ifndef SL_BENCH_LOAD_SSE_H
#define SL_BENCH_LOAD_SSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

enum { SL_LOAD_EVENT_BYTES_MAX = 4 << 20 };

typedef struct sl_load_sse {
    sl_buf line; /* the line at hand */
    sl_buf data; /* of the event at hand */
    bool skip_lf;
    bool begun;    /* past a byte order mark */
    bool has_data; /* a data field came, perhaps an empty one */
    bool given;    /* `data` was handed out: empty it */
} sl_load_sse;

void sl_load_sse_init(sl_load_sse *sse);
void sl_load_sse_done(sl_load_sse *sse);
void sl_load_sse_reset(sl_load_sse *sse);

/* Take bytes until an event is complete (true: its data is *event, valid until the next call) or
 * they are used up (false).  *used says how many were taken. */
bool sl_load_sse_next(sl_load_sse *sse, const char *bytes, size_t n, size_t *used,
                      const char **event, size_t *event_len);

/* True if an event or a line was too long: the stream is of no use. */
bool sl_load_sse_failed(const sl_load_sse *sse);

typedef struct sl_load_event {
    bool last;      /* [DONE] */
    bool malformed; /* neither [DONE] nor a JSON object */
    bool content;   /* carries text (answer, reasoning or a tool's arguments) */
    bool error;     /* an error object instead of a chunk */
    bool has_usage;
    int64_t prompt_tokens, output_tokens, cached_tokens; /* of usage; -1: not said */
    char finish[24];                                     /* finish_reason, or "" */
    char message[120];                                   /* of an error */
} sl_load_event;

/* Read one event's data, or the JSON of a whole (not streamed) answer.  Text of the answer is
 * appended to *text (NULL: not kept). */
void sl_load_event_read(const char *data, size_t len, sl_buf *text, sl_load_event *out);

#endif
