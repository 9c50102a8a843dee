/* bench/load_sse.c - see load_sse.h */
#include "bench/load_sse.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

void sl_load_sse_init(sl_load_sse *sse)
{
    *sse = (sl_load_sse){0};
    sl_buf_init(&sse->line, SL_LOAD_EVENT_BYTES_MAX);
    sl_buf_init(&sse->data, SL_LOAD_EVENT_BYTES_MAX);
}

void sl_load_sse_done(sl_load_sse *sse)
{
    sl_buf_done(&sse->line);
    sl_buf_done(&sse->data);
}

void sl_load_sse_reset(sl_load_sse *sse)
{
    sl_buf_reset(&sse->line);
    sl_buf_reset(&sse->data);
    sse->skip_lf = sse->begun = sse->has_data = sse->given = false;
}

bool sl_load_sse_failed(const sl_load_sse *sse)
{
    return sse->line.failed || sse->data.failed;
}

/* A line is complete.  True: it was the empty one that ends an event. */
static bool take_line(sl_load_sse *sse)
{
    const char *line = sse->line.data;
    size_t n = sse->line.len;

    if (!sse->begun && n >= 3 && memcmp(line, "\xEF\xBB\xBF", 3) == 0) {
        line += 3;
        n -= 3;
    }
    sse->begun = true;
    if (n == 0) {
        const bool complete = sse->has_data;

        sse->has_data = false;
        return complete;
    }
    if (n >= 4 && memcmp(line, "data", 4) == 0 && (n == 4 || line[4] == ':')) {
        size_t at = n > 4 ? 5 : 4;

        if (at < n && line[at] == ' ')
            at++;
        if (sse->has_data)
            sl_buf_add_char(&sse->data, '\n');
        sl_buf_add(&sse->data, line + at, n - at);
        sse->has_data = true;
    }
    return false; /* comments and other fields say nothing to us */
}

bool sl_load_sse_next(sl_load_sse *sse, const char *bytes, size_t n, size_t *used,
                      const char **event, size_t *event_len)
{
    size_t at = 0;

    if (sse->given) {
        sl_buf_reset(&sse->data);
        sse->given = false;
    }
    while (at < n) {
        size_t end = at;
        bool complete;

        if (sse->skip_lf && bytes[at] == '\n') {
            sse->skip_lf = false;
            at++;
            continue;
        }
        sse->skip_lf = false;
        while (end < n && bytes[end] != '\n' && bytes[end] != '\r')
            end++;
        sl_buf_add(&sse->line, bytes + at, end - at);
        at = end;
        if (at == n)
            break;
        sse->skip_lf = bytes[at++] == '\r';
        complete = take_line(sse);
        if (!sse->line.failed)
            sl_buf_reset(&sse->line);
        if (complete) {
            sse->given = true;
            *event = sse->data.data != NULL ? sse->data.data : "";
            *event_len = sse->data.len;
            *used = at;
            return true;
        }
    }
    *used = n;
    return false;
}

/* --- chunks -------------------------------------------------------------------------------- */

static void add_text(const json_t *value, sl_buf *text, sl_load_event *e)
{
    if (!json_is_string(value) || json_string_length(value) == 0)
        return;
    e->content = true;
    if (text != NULL)
        sl_buf_add(text, json_string_value(value), json_string_length(value));
}

static void read_tool_calls(const json_t *calls, sl_load_event *e)
{
    for (size_t i = 0; i < json_array_size(calls); i++) {
        const json_t *function = json_object_get(json_array_get(calls, i), "function");

        add_text(json_object_get(function, "name"), NULL, e);
        add_text(json_object_get(function, "arguments"), NULL, e);
    }
}

static void read_choice(const json_t *choice, sl_buf *text, sl_load_event *e)
{
    const json_t *delta = json_object_get(choice, "delta");
    const json_t *finish = json_object_get(choice, "finish_reason");

    if (delta == NULL)
        delta = json_object_get(choice, "message");
    add_text(json_object_get(delta, "reasoning_content"), NULL, e);
    add_text(json_object_get(delta, "reasoning"), NULL, e);
    add_text(json_object_get(delta, "content"), text, e);
    read_tool_calls(json_object_get(delta, "tool_calls"), e);
    add_text(json_object_get(choice, "text"), text, e);
    if (json_is_string(finish))
        snprintf(e->finish, sizeof(e->finish), "%s", json_string_value(finish));
}

static int64_t count_of(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);

    return json_is_integer(value) && json_integer_value(value) >= 0
               ? (int64_t)json_integer_value(value)
               : -1;
}

static void read_usage(const json_t *usage, sl_load_event *e)
{
    e->prompt_tokens = e->output_tokens = e->cached_tokens = -1;
    if (!json_is_object(usage))
        return;
    e->prompt_tokens = count_of(usage, "prompt_tokens");
    e->output_tokens = count_of(usage, "completion_tokens");
    e->cached_tokens = count_of(json_object_get(usage, "prompt_tokens_details"), "cached_tokens");
    e->has_usage = e->prompt_tokens >= 0 || e->output_tokens >= 0;
}

static void read_error(const json_t *root, sl_load_event *e)
{
    const json_t *error = json_object_get(root, "error");
    const json_t *message = json_is_string(error) ? error : json_object_get(error, "message");

    if (error == NULL || json_is_null(error))
        return;
    e->error = true;
    if (json_is_string(message))
        snprintf(e->message, sizeof(e->message), "%s", json_string_value(message));
}

void sl_load_event_read(const char *data, size_t len, sl_buf *text, sl_load_event *out)
{
    json_error_t error;
    const json_t *choices;
    json_t *root;

    *out = (sl_load_event){.prompt_tokens = -1, .output_tokens = -1, .cached_tokens = -1};
    while (len > 0 && data[len - 1] == ' ')
        len--;
    if (len == 6 && memcmp(data, "[DONE]", 6) == 0) {
        out->last = true;
        return;
    }
    root = json_loadb(data, len, 0, &error);
    if (!json_is_object(root)) {
        json_decref(root);
        out->malformed = true;
        return;
    }
    choices = json_object_get(root, "choices");
    for (size_t i = 0; i < json_array_size(choices); i++)
        read_choice(json_array_get(choices, i), text, out);
    read_usage(json_object_get(root, "usage"), out);
    read_error(root, out);
    json_decref(root);
}
