/* bench/load_trace.c - see load_trace.h */
#include "bench/load_trace.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/alloc.h"
#include "bench/load_arrivals.h"

enum { COLUMNS_MAX = 64, LINE_BYTES_MAX = 8 << 20, LENGTH_MAX = SL_LOAD_LENGTH_MAX };

typedef struct trace_reader {
    sl_load_trace trace;
    size_t row_capacity, block_capacity;
    size_t line_number;
    int column_time, column_input, column_output; /* -1: none */
    sl_err *err;
} trace_reader;

static sl_status bad(trace_reader *r, const char *what)
{
    return sl_fail(r->err, SL_EFORMAT, "the data set's line %zu: %s", r->line_number, what);
}

static sl_status add_row(trace_reader *r, const sl_load_row *row)
{
    sl_load_trace *t = &r->trace;

    if (t->count == SL_LOAD_TRACE_ROWS_MAX)
        return sl_fail(r->err, SL_ETOOBIG, "the data set has more than %d rows: use fewer",
                       SL_LOAD_TRACE_ROWS_MAX);
    if (t->count == r->row_capacity) {
        const size_t capacity = r->row_capacity == 0 ? 256 : 2 * r->row_capacity;
        sl_load_row *grown = sl_realloc(t->row, capacity, sizeof(*grown));

        if (grown == NULL)
            return sl_fail(r->err, SL_ENOMEM, "no memory for the data set");
        t->row = grown;
        r->row_capacity = capacity;
    }
    t->row[t->count] = *row;
    t->row[t->count].index = t->count;
    t->count++;
    return SL_OK;
}

static sl_status add_block(trace_reader *r, uint64_t id)
{
    sl_load_trace *t = &r->trace;

    if (t->block_count == SL_LOAD_TRACE_BLOCKS_MAX)
        return sl_fail(r->err, SL_ETOOBIG, "the data set has more than %d blocks: use fewer rows",
                       SL_LOAD_TRACE_BLOCKS_MAX);
    if (t->block_count == r->block_capacity) {
        const size_t capacity = r->block_capacity == 0 ? 1024 : 2 * r->block_capacity;
        uint64_t *grown = sl_realloc(t->block, capacity, sizeof(*grown));

        if (grown == NULL)
            return sl_fail(r->err, SL_ENOMEM, "no memory for the data set");
        t->block = grown;
        r->block_capacity = capacity;
    }
    t->block[t->block_count++] = id;
    return SL_OK;
}

/* --- CSV ----------------------------------------------------------------------------------- */

/* Cut a line at its commas, in place; quotes around a field go.  Returns the count. */
static int split(char *line, char **field)
{
    int n = 0;
    char *at = line;

    line[strcspn(line, "\r\n")] = '\0';
    while (n < COLUMNS_MAX) {
        char *comma = strchr(at, ',');

        if (comma != NULL)
            *comma = '\0';
        at += strspn(at, " \t\"");
        for (size_t len = strlen(at); len > 0 && strchr(" \t\"", at[len - 1]) != NULL; len--)
            at[len - 1] = '\0';
        field[n++] = at;
        if (comma == NULL)
            break;
        at = comma + 1;
    }
    return n;
}

static sl_status read_header(trace_reader *r, char *line)
{
    char *field[COLUMNS_MAX];
    const int n = split(line, field);

    r->column_time = r->column_input = r->column_output = -1;
    for (int i = 0; i < n; i++) {
        if (strcasecmp(field[i], "num_prefill_tokens") == 0 ||
            strcasecmp(field[i], "ContextTokens") == 0)
            r->column_input = i;
        else if (strcasecmp(field[i], "num_decode_tokens") == 0 ||
                 strcasecmp(field[i], "GeneratedTokens") == 0)
            r->column_output = i;
        else if (strcasecmp(field[i], "TIMESTAMP") == 0 || strcasecmp(field[i], "arrived_at") == 0)
            r->column_time = i;
        if (strcasecmp(field[i], "ContextTokens") == 0)
            r->trace.format = "azure";
    }
    if (r->column_input < 0 || r->column_output < 0)
        return bad(r, "no known columns: num_prefill_tokens,num_decode_tokens or "
                      "TIMESTAMP,ContextTokens,GeneratedTokens, or JSON lines of mooncake");
    r->trace.timed = r->column_time >= 0;
    return SL_OK;
}

static bool parse_length(const char *text, uint32_t *out)
{
    char *end;
    const double v = strtod(text, &end);

    if (end == text || *end != '\0' || !(v >= 0.0) || v > (double)LENGTH_MAX)
        return false;
    *out = (uint32_t)v;
    return true;
}

/* Seconds, or "2023-11-16 18:17:03.9799600" with or without a zone (ignored: differences count). */
static bool parse_time(const char *text, double *out_s)
{
    struct tm tm = {0};
    double seconds;
    char *end;

    if (sscanf(text, "%d-%d-%d%*1[ T]%d:%d:%lf", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour,
               &tm.tm_min, &seconds) == 6) {
        tm.tm_year -= 1900;
        tm.tm_mon -= 1;
        *out_s = (double)timegm(&tm) + seconds;
        return isfinite(*out_s);
    }
    *out_s = strtod(text, &end);
    return end != text && *end == '\0' && isfinite(*out_s);
}

static sl_status read_csv_row(trace_reader *r, char *line, double *time_s)
{
    char *field[COLUMNS_MAX];
    const int n = split(line, field);
    sl_load_row row = {0};

    if (n == 1 && field[0][0] == '\0')
        return SL_OK;
    if (n <= r->column_input || n <= r->column_output || n <= r->column_time)
        return bad(r, "fewer fields than the first line names");
    if (!parse_length(field[r->column_input], &row.input_tokens) ||
        !parse_length(field[r->column_output], &row.output_tokens))
        return bad(r, "a length is no number of tokens");
    if (r->column_time >= 0) {
        if (!parse_time(field[r->column_time], time_s))
            return bad(r, "the time cannot be read");
        if (*time_s < 0.0 || *time_s > 4e12)
            return bad(r, "the time is out of range");
        row.at_us = (uint64_t)llround(*time_s * 1e6);
    }
    return add_row(r, &row);
}

/* --- JSON lines ---------------------------------------------------------------------------- */

static sl_status read_blocks(trace_reader *r, const json_t *ids, sl_load_row *row)
{
    const size_t n = json_array_size(ids);

    row->block_first = r->trace.block_count;
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_array_get(ids, i);
        sl_status status;

        if (!json_is_integer(id))
            return bad(r, "hash_ids holds something that is no integer");
        status = add_block(r, (uint64_t)json_integer_value(id));
        if (status != SL_OK)
            return status;
    }
    row->block_count = (uint32_t)n;
    return SL_OK;
}

static sl_status read_json_object(trace_reader *r, const json_t *root)
{
    const json_t *time = json_object_get(root, "timestamp");
    const json_t *input = json_object_get(root, "input_length");
    const json_t *output = json_object_get(root, "output_length");
    const json_t *ids = json_object_get(root, "hash_ids");
    sl_load_row row = {0};
    sl_status status;

    if (!json_is_integer(input) || !json_is_integer(output) || json_integer_value(input) < 0 ||
        json_integer_value(output) < 0 || json_integer_value(input) > LENGTH_MAX ||
        json_integer_value(output) > LENGTH_MAX)
        return bad(r, "input_length or output_length is missing or out of range");
    row.input_tokens = (uint32_t)json_integer_value(input);
    row.output_tokens = (uint32_t)json_integer_value(output);
    if (json_is_number(time)) {
        const double ms = json_number_value(time);

        if (!(ms >= 0.0) || ms > 4e15)
            return bad(r, "the timestamp is out of range");
        row.at_us = (uint64_t)llround(ms * 1e3);
        r->trace.timed = true;
    }
    status = read_blocks(r, ids, &row);
    return status != SL_OK ? status : add_row(r, &row);
}

static sl_status read_json_row(trace_reader *r, const char *line)
{
    json_error_t error;
    sl_status status;
    json_t *root;

    if (line[strspn(line, " \t\r\n")] == '\0')
        return SL_OK;
    root = json_loads(line, 0, &error);
    if (!json_is_object(root)) {
        json_decref(root);
        return bad(r, "no JSON object");
    }
    status = read_json_object(r, root);
    json_decref(root);
    return status;
}

/* --- the file ------------------------------------------------------------------------------ */

static sl_status read_lines(trace_reader *r, FILE *f, size_t max_rows)
{
    char *line = NULL;
    size_t capacity = 0;
    bool json = false;
    double time_s = 0.0;
    sl_status status = SL_OK;
    ssize_t n;

    while (status == SL_OK && (max_rows == 0 || r->trace.count < max_rows) &&
           (n = getline(&line, &capacity, f)) >= 0) {
        r->line_number++;
        if (n > LINE_BYTES_MAX || strlen(line) != (size_t)n)
            status = bad(r, "too long, or holds a NUL");
        else if (r->line_number == 1 && line[strspn(line, " \t")] == '{') {
            json = true;
            r->trace.format = "mooncake";
            status = read_json_row(r, line);
        } else if (r->line_number == 1)
            status = read_header(r, line);
        else
            status = json ? read_json_row(r, line) : read_csv_row(r, line, &time_s);
    }
    free(line);
    return status;
}

static int by_time(const void *a, const void *b)
{
    const sl_load_row *x = a, *y = b;

    if (x->at_us != y->at_us)
        return x->at_us < y->at_us ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

sl_status sl_load_trace_read(const char *path, size_t max_rows, sl_load_trace *out, sl_err *err)
{
    trace_reader r = {.err = err, .trace.format = "lengths"};
    FILE *f = fopen(path, "re");
    sl_status status;

    if (f == NULL)
        return sl_fail(err, SL_EIO, "cannot open '%.200s': %s", path, strerror(errno));
    status = read_lines(&r, f, max_rows);
    if (status == SL_OK && ferror(f))
        status = sl_fail(err, SL_EIO, "cannot read '%.200s'", path);
    if (status == SL_OK && r.trace.count == 0)
        status = sl_fail(err, SL_EFORMAT, "'%.200s' holds no requests", path);
    fclose(f);
    if (status != SL_OK) {
        sl_load_trace_done(&r.trace);
        return status;
    }
    qsort(r.trace.row, r.trace.count, sizeof(*r.trace.row), by_time);
    for (size_t i = r.trace.count; i-- > 0;)
        r.trace.row[i].at_us -= r.trace.row[0].at_us;
    *out = r.trace;
    return SL_OK;
}

void sl_load_trace_done(sl_load_trace *trace)
{
    sl_free(trace->row);
    sl_free(trace->block);
    *trace = (sl_load_trace){0};
}
