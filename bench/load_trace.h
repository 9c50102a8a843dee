/* bench/load_trace.h - recorded traffic: lengths, times and shared blocks of prompts.
 *
 * Formats, known by their first line:
 *   lengths   CSV with columns num_prefill_tokens,num_decode_tokens (and arrived_at, seconds)
 *   azure     CSV with columns TIMESTAMP,ContextTokens,GeneratedTokens
 *   mooncake  JSON lines: timestamp (ms), input_length, output_length, hash_ids (one id for each
 *             512 tokens of the prompt; equal ids are equal text)
 * Files are untrusted: an error names the line.  Thread: any. */
#ifndef SL_BENCH_LOAD_TRACE_H
#define SL_BENCH_LOAD_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum {
    SL_LOAD_BLOCK_TOKENS = 512,
    SL_LOAD_TRACE_ROWS_MAX = 1 << 20,
    SL_LOAD_TRACE_BLOCKS_MAX = 16 << 20
};

typedef struct sl_load_row {
    uint64_t at_us; /* from the first row; 0 without times */
    uint32_t input_tokens;
    uint32_t output_tokens;
    size_t block_first; /* of trace->block */
    uint32_t block_count;
    size_t index; /* in the file */
} sl_load_row;

typedef struct sl_load_trace {
    sl_load_row *row; /* in the order of time; owned */
    size_t count;
    uint64_t *block; /* owned */
    size_t block_count;
    bool timed;
    const char *format; /* static: "lengths", "azure", "mooncake" */
} sl_load_trace;

/* Read a file; at most max_rows rows (0: all).
 * Errors: SL_EIO, SL_EFORMAT, SL_ETOOBIG, SL_ENOMEM. */
SL_MUST_CHECK sl_status sl_load_trace_read(const char *path, size_t max_rows, sl_load_trace *out,
                                           sl_err *err);
void sl_load_trace_done(sl_load_trace *trace);

#endif
