/* protocol/openai_messages.c - chat messages to the one form that templates see.
 *
 * Out comes compact JSON, the members of a message always in this order: role, content, name,
 * tool_calls, tool_call_id, reasoning_content.  Text goes through unchanged; the role developer
 * becomes system; text parts are joined by newlines; null or missing content of an assistant, a
 * tool or a function is "", but is left out beside tool_calls, because templates ask whether it is
 * there; arguments of calls become objects where they are the text of one ("" is {}), with their
 * numbers as written.  The older function_call of an assistant becomes tool_calls. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "protocol/openai_internal.h"

enum { NAME_MAX_BYTES = 512, CALLS_MAX = 128, PARTS_MAX = 1024, PATH_BYTES = 96 };

typedef struct writer {
    sl_field_reader *r;
    sl_buf out;
    size_t index; /* of the message */
} writer;

/* "messages[2]" + suffix. */
static const char *path_of(writer *w, const char *suffix)
{
    return sl_fields_path(w->r, "messages", "messages[%zu]%s", w->index, suffix);
}

static const char *kept(writer *w, const char *path, const char *suffix)
{
    return sl_fields_path(w->r, "messages", "%s%s", path, suffix);
}

static sl_status wrong_type(writer *w, const char *path, const char *want)
{
    return sl_fail_param(w->r->err, SL_EINVAL, path, "invalid_type", "'%s' must be %s", path, want);
}

/* --- content ------------------------------------------------------------------------------- */

/* The text of one part, or NULL if it is of another kind. */
static const json_t *part_text(const json_t *part, const char *type, bool assistant)
{
    if (strcmp(type, "text") == 0 || strcmp(type, "input_text") == 0)
        return json_object_get(part, "text");
    if (strcmp(type, "refusal") == 0 && assistant)
        return json_object_get(part, "refusal");
    return NULL;
}

static sl_status add_part(writer *w, const json_t *part, size_t i, bool assistant, sl_buf *text)
{
    const char *type = json_string_value(json_object_get(part, "type"));
    const json_t *value;
    char path[PATH_BYTES]; /* an arena's copy is made for errors only */

    snprintf(path, sizeof(path), "messages[%zu].content[%zu]", w->index, i);
    if (type == NULL)
        return wrong_type(w, kept(w, path, ""), "an object with a string 'type'");
    value = part_text(part, type, assistant);
    if (value == NULL && strcmp(type, "text") != 0)
        return sl_fail_param(w->r->err, SL_EINVAL, kept(w, path, ""), "unsupported_parameter",
                             "'%s' is a part of type '%.32s': only text is supported", path, type);
    if (!json_is_string(value))
        return wrong_type(w, kept(w, path, ".text"), "a string");
    if (i > 0)
        sl_buf_add_char(text, '\n');
    sl_buf_add(text, json_string_value(value), json_string_length(value));
    return SL_OK;
}

static sl_status join_parts(writer *w, const json_t *parts, bool assistant, sl_buf *text)
{
    if (json_array_size(parts) > PARTS_MAX)
        return sl_fail_param(w->r->err, SL_EINVAL, path_of(w, ".content"), "array_above_max_length",
                             "at most %d content parts are allowed", PARTS_MAX);
    for (size_t i = 0; i < json_array_size(parts); i++) {
        const sl_status status = add_part(w, json_array_get(parts, i), i, assistant, text);

        if (status != SL_OK)
            return status;
    }
    return SL_OK;
}

/* Write the content member.  `optional`: null and missing are "" (or nothing: `leave_out`). */
static sl_status write_content(writer *w, const json_t *message, bool assistant, bool optional,
                               bool leave_out)
{
    const json_t *content = json_object_get(message, "content");
    sl_status status;
    sl_buf text;

    if (sl_json_absent(content) && assistant) /* what OpenAI's own refusals look like */
        content = json_object_get(message, "refusal");
    if (sl_json_absent(content)) {
        const char *path = path_of(w, ".content");

        if (!optional)
            return sl_fail_param(w->r->err, SL_EINVAL, path, "missing_required_parameter",
                                 "'%s' is missing", path);
        sl_buf_add_str(&w->out, leave_out ? "" : ",\"content\":\"\"");
        return SL_OK;
    }
    if (json_is_string(content)) {
        sl_buf_add_str(&w->out, ",\"content\":");
        sl_buf_add_json(&w->out, json_string_value(content), json_string_length(content));
        return SL_OK;
    }
    if (!json_is_array(content))
        return wrong_type(w, path_of(w, ".content"), "a string or an array of parts");
    sl_buf_init(&text, SL_JSON_MEMORY_MAX);
    status = join_parts(w, content, assistant, &text);
    if (status == SL_OK) {
        sl_buf_add_str(&w->out, ",\"content\":");
        sl_buf_add_json(&w->out, text.len > 0 ? text.data : "", text.len);
        if (text.failed)
            w->out.failed = true;
    }
    sl_buf_done(&text);
    return status;
}

/* --- calls --------------------------------------------------------------------------------- */

/* Arguments that are the text of an object become the object, as written. */
static void write_arguments(writer *w, const char *text, size_t n)
{
    json_t *parsed = NULL;
    sl_err unused;

    if (n == 0) {
        sl_buf_add_str(&w->out, "{}");
        return;
    }
    if (sl_json_load(w->r->budget, text, n, &parsed, &unused) == SL_OK) {
        json_decref(parsed);
        sl_json_add_compact(&w->out, text, n);
    } else {
        sl_buf_add_json(&w->out, text, n);
    }
}

/* {"name":...,"arguments":...} */
static sl_status write_function(writer *w, const json_t *function, const char *path)
{
    const json_t *name = json_object_get(function, "name");
    const json_t *arguments = json_object_get(function, "arguments");

    if (!json_is_string(name) || json_string_length(name) == 0 ||
        json_string_length(name) > NAME_MAX_BYTES)
        return wrong_type(w, kept(w, path, ".name"), "a non-empty string");
    sl_buf_add_str(&w->out, "{\"name\":");
    sl_buf_add_json(&w->out, json_string_value(name), json_string_length(name));
    sl_buf_add_str(&w->out, ",\"arguments\":");
    if (sl_json_absent(arguments))
        sl_buf_add_str(&w->out, "{}");
    else if (json_is_string(arguments))
        write_arguments(w, json_string_value(arguments), json_string_length(arguments));
    else if (json_is_object(arguments))
        sl_json_add_value(&w->out, arguments);
    else
        return wrong_type(w, kept(w, path, ".arguments"), "a string");
    sl_buf_add_char(&w->out, '}');
    /* A failed reading of arguments inside the budget is the request's failure, not a string. */
    if (w->r->budget->exceeded || w->r->budget->failed)
        return sl_fail_param(w->r->err, w->r->budget->failed ? SL_ENOMEM : SL_EFORMAT, "messages",
                             NULL, "'%s' takes too much memory to read", path);
    return SL_OK;
}

static sl_status write_call(writer *w, const json_t *call, const char *path)
{
    const json_t *id = json_object_get(call, "id");
    const json_t *type = json_object_get(call, "type");
    const json_t *function = json_object_get(call, "function");
    char inner[PATH_BYTES + 16];
    sl_status status;

    if (!json_is_object(call))
        return wrong_type(w, kept(w, path, ""), "an object");
    if (!sl_json_absent(type) &&
        (!json_is_string(type) || strcmp(json_string_value(type), "function") != 0))
        return sl_fail_param(w->r->err, SL_EINVAL, kept(w, path, ""), "unsupported_parameter",
                             "'%s' is a call of another type than 'function'", path);
    if (!json_is_object(function))
        return wrong_type(w, kept(w, path, ".function"), "an object");
    sl_buf_add_char(&w->out, '{');
    if (!sl_json_absent(id)) {
        if (!json_is_string(id) || json_string_length(id) > NAME_MAX_BYTES)
            return wrong_type(w, kept(w, path, ".id"), "a short string");
        sl_buf_add_str(&w->out, "\"id\":");
        sl_buf_add_json(&w->out, json_string_value(id), json_string_length(id));
        sl_buf_add_char(&w->out, ',');
    }
    sl_buf_add_str(&w->out, "\"type\":\"function\",\"function\":");
    snprintf(inner, sizeof(inner), "%s.function", path);
    status = write_function(w, function, inner);
    sl_buf_add_char(&w->out, '}');
    return status;
}

static sl_status write_calls(writer *w, const json_t *calls)
{
    const size_t n = json_array_size(calls);

    if (n > CALLS_MAX)
        return sl_fail_param(w->r->err, SL_EINVAL, path_of(w, ".tool_calls"),
                             "array_above_max_length", "at most %d tool calls are allowed",
                             CALLS_MAX);
    sl_buf_add_str(&w->out, ",\"tool_calls\":[");
    for (size_t i = 0; i < n; i++) {
        char path[PATH_BYTES];
        sl_status status;

        snprintf(path, sizeof(path), "messages[%zu].tool_calls[%zu]", w->index, i);
        if (i > 0)
            sl_buf_add_char(&w->out, ',');
        status = write_call(w, json_array_get(calls, i), path);
        if (status != SL_OK)
            return status;
    }
    sl_buf_add_char(&w->out, ']');
    return SL_OK;
}

/* --- one message --------------------------------------------------------------------------- */

/* A string member of at most max_bytes; absent and null: nothing. */
static sl_status write_string(writer *w, const json_t *value, const char *name, size_t max_bytes)
{
    if (sl_json_absent(value))
        return SL_OK;
    if (!json_is_string(value) || json_string_length(value) > max_bytes)
        return wrong_type(w, sl_fields_path(w->r, "messages", "messages[%zu].%s", w->index, name),
                          json_is_string(value) ? "a shorter string" : "a string");
    sl_buf_addf(&w->out, ",\"%s\":", name);
    sl_buf_add_json(&w->out, json_string_value(value), json_string_length(value));
    return SL_OK;
}

static sl_status check_members(writer *w, const json_t *message, bool assistant)
{
    static const char *const known[] = {
        "role",    "content", "name",        "tool_calls", "tool_call_id",     "function_call",
        "refusal", "audio",   "annotations", "reasoning",  "reasoning_content"};
    const json_t *audio = json_object_get(message, "audio");
    const json_t *calls = json_object_get(message, "tool_calls");
    const json_t *call = json_object_get(message, "function_call");
    const char *key;
    const json_t *value;

    if (!sl_json_absent(audio))
        return sl_fail_param(w->r->err, SL_EINVAL, path_of(w, ".audio"), "unsupported_parameter",
                             "'messages[%zu].audio': only text is supported", w->index);
    if (!sl_json_absent(calls) && (!json_is_array(calls) || !assistant))
        return wrong_type(w, path_of(w, ".tool_calls"), "an array, of an assistant's message");
    if (!sl_json_absent(call) &&
        (!json_is_object(call) || !assistant || json_array_size(calls) > 0))
        return wrong_type(w, path_of(w, ".function_call"),
                          "an object, of an assistant's message without tool_calls");
    if (!w->r->strict)
        return SL_OK;
    json_object_foreach((json_t *)message, key, value)
    {
        size_t i = 0;

        while (i < sizeof(known) / sizeof(known[0]) && strcmp(known[i], key) != 0)
            i++;
        if (i == sizeof(known) / sizeof(known[0]))
            return sl_fail_param(w->r->err, SL_EINVAL, path_of(w, ""), "unknown_parameter",
                                 "'messages[%zu]' has an unknown member '%.64s'", w->index, key);
    }
    return SL_OK;
}

static const char *role_of(const json_t *message)
{
    static const char *const roles[][2] = {{"system", "system"}, {"developer", "system"},
                                           {"user", "user"},     {"assistant", "assistant"},
                                           {"tool", "tool"},     {"function", "function"}};
    const char *role = json_string_value(json_object_get(message, "role"));

    for (size_t i = 0; role != NULL && i < sizeof(roles) / sizeof(roles[0]); i++)
        if (strcmp(role, roles[i][0]) == 0)
            return roles[i][1];
    return NULL;
}

static sl_status write_all_calls(writer *w, const json_t *calls, const json_t *call)
{
    char path[PATH_BYTES];
    sl_status status;

    if (json_array_size(calls) > 0)
        return write_calls(w, calls);
    if (sl_json_absent(call))
        return SL_OK;
    sl_buf_add_str(&w->out, ",\"tool_calls\":[{\"type\":\"function\",\"function\":");
    snprintf(path, sizeof(path), "messages[%zu].function_call", w->index);
    status = write_function(w, call, path);
    sl_buf_add_str(&w->out, "}]");
    return status;
}

static sl_status write_message(writer *w, const json_t *message)
{
    const json_t *calls = json_object_get(message, "tool_calls");
    const json_t *call = json_object_get(message, "function_call");
    const json_t *reasoning = json_object_get(message, "reasoning_content");
    const char *role = role_of(message);
    const char *path;
    bool assistant, optional;
    sl_status status;

    if (!json_is_object(message))
        return wrong_type(w, path_of(w, ""), "an object");
    if (role == NULL) {
        path = path_of(w, ".role");
        return sl_fail_param(w->r->err, SL_EINVAL, path, "invalid_value",
                             "'%s' must be system, developer, user, assistant, tool or function",
                             path);
    }
    assistant = strcmp(role, "assistant") == 0;
    optional = assistant || strcmp(role, "tool") == 0 || strcmp(role, "function") == 0;
    if (sl_json_absent(reasoning))
        reasoning = json_object_get(message, "reasoning");
    status = check_members(w, message, assistant);
    if (status != SL_OK)
        return status;
    sl_buf_addf(&w->out, "{\"role\":\"%s\"", role);
    status = write_content(w, message, assistant, optional,
                           json_array_size(calls) > 0 || !sl_json_absent(call));
    if (status == SL_OK)
        status = write_string(w, json_object_get(message, "name"), "name", NAME_MAX_BYTES);
    if (status == SL_OK)
        status = write_all_calls(w, calls, call);
    if (status == SL_OK)
        status = write_string(w, json_object_get(message, "tool_call_id"), "tool_call_id",
                              NAME_MAX_BYTES);
    if (status == SL_OK && assistant)
        status = write_string(w, reasoning, "reasoning_content", SL_JSON_MEMORY_MAX);
    sl_buf_add_char(&w->out, '}');
    return status;
}

sl_status sl_api_read_messages(sl_field_reader *r, const json_t *messages, const char **out,
                               size_t *out_len)
{
    writer w = {.r = r};
    const size_t n = json_array_size(messages);
    sl_status status = SL_OK;

    if (!json_is_array(messages))
        return sl_fail_param(r->err, SL_EINVAL, "messages", "invalid_type",
                             "'messages' must be an array");
    if (n == 0)
        return sl_fail_param(r->err, SL_EINVAL, "messages", "invalid_value",
                             "'messages' must hold at least one message");
    if (n > SL_API_MESSAGES_MAX)
        return sl_fail_param(r->err, SL_EINVAL, "messages", "array_above_max_length",
                             "'messages' must hold at most %d messages, not %zu",
                             SL_API_MESSAGES_MAX, n);
    sl_buf_init(&w.out, SL_JSON_MEMORY_MAX);
    sl_buf_add_char(&w.out, '[');
    for (; w.index < n && status == SL_OK; w.index++) {
        if (w.index > 0)
            sl_buf_add_char(&w.out, ',');
        status = write_message(&w, json_array_get(messages, w.index));
    }
    sl_buf_add_char(&w.out, ']');
    if (status == SL_OK && w.out.failed)
        status = sl_fail(r->err, SL_ENOMEM, "out of memory while reading messages");
    if (status == SL_OK)
        status = sl_fields_copy(r, w.out.data, w.out.len, out);
    if (status == SL_OK)
        *out_len = w.out.len;
    sl_buf_done(&w.out);
    return status;
}
