/* protocol/openai_table.c - the one table of request fields, and the two readers of bodies.
 *
 * A row says everything about a field: where it may stand, what is done with it, its type, range
 * and default.  Names that have no row are unknown: ignored and named in the reply, or an error in
 * strict mode.
 *
 * Ranges are OpenAI's and vLLM's, or narrower where a limit of ours is (n, stop, logit_bias).  A
 * field whose effect a client would miss is refused, unless its value asks for nothing; one that
 * only describes the request (user, metadata ...) is ignored. */
#include <jansson.h>
#include <string.h>

#include "protocol/openai_internal.h"

enum {
    CHAT = SL_FIELD_CHAT,
    COMP = SL_FIELD_COMPLETION,
    BOTH = CHAT | COMP,
    NAME_BYTES = 512,
    SALT_BYTES = 256,
    COMPLETION_MAX_TOKENS = 16 /* OpenAI's default */
};

#define AT(member) .has_store = true, .offset = offsetof(sl_api_reading, member)
#define BOOL(where, text, member, preset)                                                          \
    {                                                                                              \
        .name = text, .kinds = where, .type = SL_FIELD_BOOL, .int_max = 1, .int_default = preset,  \
        AT(member)                                                                                 \
    }
#define INT(where, text, member, low, high, preset)                                                \
    {                                                                                              \
        .name = text, .kinds = where, .type = SL_FIELD_INT, .int_min = low, .int_max = high,       \
        .int_default = preset, AT(member)                                                          \
    }
#define UINT32(where, text, member, low, high, preset)                                             \
    {                                                                                              \
        .name = text, .kinds = where, .type = SL_FIELD_UINT32, .int_min = low, .int_max = high,    \
        .int_default = preset, AT(member)                                                          \
    }
#define REAL(where, text, member, low, high, preset)                                               \
    {                                                                                              \
        .name = text, .kinds = where, .type = SL_FIELD_REAL, .real_min = low, .real_max = high,    \
        .real_default = preset, AT(member)                                                         \
    }
#define REAL_ABOVE(where, text, member, low, high, preset)                                         \
    {                                                                                              \
        .name = text, .kinds = where, .type = SL_FIELD_REAL, .above = true, .real_min = low,       \
        .real_max = high, .real_default = preset, AT(member)                                       \
    }
#define STRING(where, text, member, bytes)                                                         \
    {                                                                                              \
        .name = text, .kinds = where, .type = SL_FIELD_STRING, .int_max = bytes, AT(member)        \
    }
#define READ(where, text, kind_of, reader)                                                         \
    {                                                                                              \
        .name = text, .kinds = where, .type = SL_FIELD_##kind_of, .read = reader                   \
    }
#define IGNORED(where, text, kind_of)                                                              \
    {                                                                                              \
        .name = text, .kinds = where, .policy = SL_FIELD_IGNORED, .type = SL_FIELD_##kind_of       \
    }
#define REFUSED(where, text, values)                                                               \
    {                                                                                              \
        .name = text, .kinds = where, .policy = SL_FIELD_REFUSED, .harmless = values               \
    }
#define REFUSED_BUT(where, text, kind_of, reader)                                                  \
    {                                                                                              \
        .name = text, .kinds = where, .policy = SL_FIELD_REFUSED, .type = SL_FIELD_##kind_of,      \
        .read = reader                                                                             \
    }

static sl_status read_messages(sl_field_reader *r, const sl_field *field, const json_t *value)
{
    sl_api_request *request = &((sl_api_reading *)r->base)->request;

    (void)field;
    return sl_api_read_messages(r, value, &request->messages_json, &request->messages_json_len);
}

static sl_status note_seed(sl_field_reader *r, const sl_field *field, const json_t *value)
{
    sl_api_request *request = &((sl_api_reading *)r->base)->request;

    (void)field;
    request->has_seed = true;
    request->seed = (uint64_t)json_integer_value(value);
    return SL_OK;
}

/* The integer of completions says both: logprobs at all, and how many alternatives. */
static sl_status note_logprobs(sl_field_reader *r, const sl_field *field, const json_t *value)
{
    (void)field;
    (void)value;
    ((sl_api_reading *)r->base)->request.logprobs = true;
    return SL_OK;
}

static sl_status check_salt(sl_field_reader *r, const sl_field *field, const json_t *value)
{
    if (json_string_length(value) > 0)
        return SL_OK;
    return sl_fail_param(r->err, SL_EINVAL, field->name, "invalid_value", "'%s' must not be empty",
                         field->name);
}

const sl_field sl_api_table[] = {
    /* What to generate from. */
    STRING(BOTH, "model", request.model, NAME_BYTES),
    READ(CHAT, "messages", ANY, read_messages),
    READ(COMP, "prompt", ANY, sl_api_read_prompt),
    BOOL(CHAT, "add_generation_prompt", request.add_generation_prompt, true),
    BOOL(CHAT, "continue_final_message", request.continue_final_message, false),
    READ(CHAT, "chat_template_kwargs", OBJECT, sl_api_read_kwargs),
    BOOL(COMP, "echo", request.echo, false),
    {.name = "cache_salt",
     .kinds = BOTH,
     .type = SL_FIELD_STRING,
     .int_max = SALT_BYTES,
     .read = check_salt,
     AT(request.cache_salt)},

    /* How much, and when to stop. */
    INT(CHAT, "max_tokens", request.max_tokens, 0, INT32_MAX, -1),
    INT(CHAT, "max_completion_tokens", max_completion_tokens, 0, INT32_MAX, -1),
    INT(COMP, "max_tokens", request.max_tokens, 0, INT32_MAX, COMPLETION_MAX_TOKENS),
    INT(BOTH, "min_tokens", request.min_tokens, 0, INT32_MAX, 0),
    UINT32(BOTH, "n", request.n, 1, SL_API_N_MAX, 1),
    READ(BOTH, "stop", ANY, sl_api_read_stop),
    READ(BOTH, "stop_token_ids", ARRAY, sl_api_read_stop_ids),
    BOOL(BOTH, "include_stop_str_in_output", request.include_stop_str, false),
    BOOL(BOTH, "ignore_eos", request.ignore_eos, false),

    /* Sampling. */
    REAL(BOTH, "temperature", request.temperature, 0.0, 2.0, 1.0),
    REAL_ABOVE(BOTH, "top_p", request.top_p, 0.0, 1.0, 1.0),
    INT(BOTH, "top_k", request.top_k, -1, INT32_MAX, 0),
    REAL(BOTH, "min_p", request.min_p, 0.0, 1.0, 0.0),
    REAL_ABOVE(BOTH, "repetition_penalty", request.repetition_penalty, 0.0, 10.0, 1.0),
    REAL(BOTH, "presence_penalty", request.presence_penalty, -2.0, 2.0, 0.0),
    REAL(BOTH, "frequency_penalty", request.frequency_penalty, -2.0, 2.0, 0.0),
    READ(BOTH, "seed", INT, note_seed),
    READ(BOTH, "logit_bias", OBJECT, sl_api_read_bias),

    /* The answer. */
    BOOL(BOTH, "stream", request.stream, false),
    READ(BOTH, "stream_options", OBJECT, sl_api_read_stream_options), /* after `stream` */
    BOOL(CHAT, "logprobs", request.logprobs, false),
    UINT32(CHAT, "top_logprobs", request.top_logprobs, 0, SL_API_TOP_LOGPROBS_MAX, 0),
    {.name = "logprobs",
     .kinds = COMP,
     .type = SL_FIELD_UINT32,
     .int_max = 5,
     .read = note_logprobs,
     AT(request.top_logprobs)},
    BOOL(BOTH, "skip_special_tokens", request.skip_special_tokens, true),
    BOOL(BOTH, "return_token_ids", request.return_token_ids, false),

    /* Ignored: they describe the request, or what we never do. */
    {.name = "user",
     .kinds = BOTH,
     .policy = SL_FIELD_IGNORED,
     .type = SL_FIELD_STRING,
     .int_max = NAME_BYTES,
     AT(request.user)},
    IGNORED(BOTH, "metadata", OBJECT),
    IGNORED(BOTH, "store", BOOL),
    IGNORED(BOTH, "service_tier", STRING),
    IGNORED(BOTH, "safety_identifier", STRING),
    IGNORED(BOTH, "prompt_cache_key", STRING),
    IGNORED(BOTH, "prompt_cache_retention", STRING),
    IGNORED(BOTH, "prompt_cache_options", OBJECT),
    IGNORED(BOTH, "request_id", STRING),
    IGNORED(CHAT, "verbosity", STRING),
    IGNORED(CHAT, "web_search_options", OBJECT),
    IGNORED(CHAT, "moderation", OBJECT),
    IGNORED(CHAT, "parallel_tool_calls", BOOL),
    IGNORED(CHAT, "include_reasoning", BOOL),

    /* Refused but for forms that ask for nothing. */
    REFUSED_BUT(CHAT, "tools", ARRAY, sl_api_read_tools),
    REFUSED_BUT(CHAT, "tool_choice", ANY, sl_api_read_tool_choice),
    REFUSED_BUT(CHAT, "functions", ARRAY, sl_api_read_tools),
    REFUSED_BUT(CHAT, "function_call", ANY, sl_api_read_tool_choice),
    REFUSED_BUT(BOTH, "response_format", OBJECT, sl_api_read_response_format),
    REFUSED_BUT(CHAT, "modalities", ARRAY, sl_api_read_modalities),
    REFUSED(CHAT, "audio", 0),
    REFUSED(CHAT, "prediction", 0),
    REFUSED(CHAT, "reasoning_effort", 0),
    REFUSED(CHAT, "echo", SL_HARMLESS_FALSE),
    REFUSED(CHAT, "chat_template", 0),
    REFUSED(CHAT, "documents", SL_HARMLESS_EMPTY),
    REFUSED(COMP, "suffix", SL_HARMLESS_EMPTY),
    REFUSED(BOTH, "best_of", SL_HARMLESS_ZERO | SL_HARMLESS_ONE),
    REFUSED(BOTH, "use_beam_search", SL_HARMLESS_FALSE),
    REFUSED(BOTH, "length_penalty", SL_HARMLESS_ONE),
    REFUSED(BOTH, "early_stopping", SL_HARMLESS_FALSE),
    REFUSED(BOTH, "prompt_logprobs", 0),
    REFUSED(BOTH, "truncate_prompt_tokens", 0),
    REFUSED(BOTH, "priority", SL_HARMLESS_ZERO),
    REFUSED(CHAT, "add_special_tokens", SL_HARMLESS_FALSE),
    REFUSED(COMP, "add_special_tokens", SL_HARMLESS_TRUE),
    REFUSED(BOTH, "spaces_between_special_tokens", SL_HARMLESS_TRUE),
    REFUSED(BOTH, "return_tokens_as_token_ids", SL_HARMLESS_FALSE),
    REFUSED(BOTH, "allowed_token_ids", 0), /* an empty list would allow nothing */
    REFUSED(BOTH, "bad_words", SL_HARMLESS_EMPTY),
    REFUSED(BOTH, "prompt_embeds", 0),
    REFUSED(BOTH, "structured_outputs", SL_HARMLESS_EMPTY),
    REFUSED(BOTH, "guided_json", 0),
    REFUSED(BOTH, "guided_regex", 0),
    REFUSED(BOTH, "guided_choice", 0),
    REFUSED(BOTH, "guided_grammar", 0),
    REFUSED(BOTH, "guided_decoding_backend", 0),
    REFUSED(BOTH, "guided_whitespace_pattern", 0),
    REFUSED(BOTH, "json_schema", 0),
    REFUSED(BOTH, "grammar", SL_HARMLESS_EMPTY),
    REFUSED(BOTH, "regex", 0),
    REFUSED(BOTH, "ebnf", 0),
    REFUSED(BOTH, "logits_processors", SL_HARMLESS_EMPTY),
    REFUSED(BOTH, "kv_transfer_params", 0),
    REFUSED(BOTH, "thinking_token_budget", 0),
    REFUSED(BOTH, "vllm_xargs", SL_HARMLESS_EMPTY),
    REFUSED(CHAT, "mm_processor_kwargs", SL_HARMLESS_EMPTY),
};

const size_t sl_api_table_count = sizeof(sl_api_table) / sizeof(sl_api_table[0]);

/* --- chat and completions ------------------------------------------------------------------ */

/* What more than one field says together. */
static sl_status check_together(sl_field_reader *r, sl_api_reading *reading)
{
    sl_api_request *q = &reading->request;
    const bool chat = q->kind == SL_API_CHAT;

    if (chat && q->messages_json == NULL)
        return sl_fail_param(r->err, SL_EINVAL, "messages", "missing_required_parameter",
                             "'messages' is missing");
    if (!chat && q->prompt_count == 0)
        return sl_fail_param(r->err, SL_EINVAL, "prompt", "missing_required_parameter",
                             "'prompt' is missing");
    if (chat && q->top_logprobs > 0 && !q->logprobs)
        return sl_fail_param(r->err, SL_EINVAL, "top_logprobs", "invalid_value",
                             "'top_logprobs' needs 'logprobs': true");
    if (q->continue_final_message && q->add_generation_prompt) {
        if (json_is_true(json_object_get(r->root, "add_generation_prompt")))
            return sl_fail_param(r->err, SL_EINVAL, "continue_final_message", "invalid_value",
                                 "'continue_final_message' excludes 'add_generation_prompt'");
        q->add_generation_prompt = false;
    }
    if (chat && reading->max_completion_tokens >= 0)
        q->max_tokens = reading->max_completion_tokens;
    if (q->max_tokens >= 0 && q->min_tokens > q->max_tokens)
        return sl_fail_param(r->err, SL_EINVAL, "min_tokens", "invalid_value",
                             "'min_tokens' must be at most the %lld of the maximum",
                             (long long)q->max_tokens);
    if (q->top_k < 0)
        q->top_k = 0;
    if (q->model == NULL)
        q->model = "";
    return SL_OK;
}

sl_status sl_api_read(sl_api_kind kind, const char *body, size_t len, bool strict, sl_arena *arena,
                      sl_api_request *out, sl_err *err)
{
    sl_json_budget budget;
    json_t *root = NULL;
    sl_status status;
    sl_field_reader r = {.kind = kind == SL_API_CHAT ? SL_FIELD_CHAT : SL_FIELD_COMPLETION,
                         .strict = strict,
                         .budget = &budget,
                         .arena = arena,
                         .err = err};
    void *memory = NULL;

    /* In the arena, as it is large; the result is copied at the end, so that a failure leaves
     * *out untouched. */
    status = sl_fields_alloc(&r, 1, sizeof(sl_api_reading), &memory);
    if (status != SL_OK)
        return status;
    r.base = memory;
    ((sl_api_reading *)memory)->request.kind = kind;
    r.ignored = ((sl_api_reading *)memory)->request.ignored;
    r.ignored_count = &((sl_api_reading *)memory)->request.ignored_count;
    sl_json_budget_begin(&budget, SL_JSON_MEMORY_MAX);
    status = sl_json_load(&budget, body, len, &root, err);
    r.root = root;
    if (status == SL_OK)
        status = sl_fields_read(&r, sl_api_table, sl_api_table_count);
    if (status == SL_OK)
        status = check_together(&r, memory);
    if (status == SL_OK)
        *out = ((sl_api_reading *)memory)->request;
    json_decref(root);
    sl_json_budget_end();
    return status;
}

/* --- tokenize and detokenize --------------------------------------------------------------- */

#undef AT
#define AT(member) .has_store = true, .offset = offsetof(sl_api_tokenize, member)

static sl_status read_tokenize_prompt(sl_field_reader *r, const sl_field *field,
                                      const json_t *value)
{
    sl_api_tokenize *t = r->base;

    (void)field;
    t->prompt_len = json_string_length(value);
    return sl_fields_copy(r, json_string_value(value), t->prompt_len, &t->prompt);
}

static sl_status read_tokenize_messages(sl_field_reader *r, const sl_field *field,
                                        const json_t *value)
{
    sl_api_tokenize *t = r->base;

    (void)field;
    return sl_api_read_messages(r, value, &t->messages_json, &t->messages_json_len);
}

static sl_status read_tokens(sl_field_reader *r, const sl_field *field, const json_t *value)
{
    static const uint32_t none[1]; /* the list is there, and empty: the text of nothing */
    sl_api_tokenize *t = r->base;

    if (json_array_size(value) == 0) {
        t->token = none;
        return SL_OK;
    }
    return sl_fields_read_ids(r, field->name, value, &t->token, &t->token_count);
}

static const sl_field tokenize_table[] = {
    STRING(SL_FIELD_TOKENIZE | SL_FIELD_DETOKENIZE, "model", model, NAME_BYTES),
    READ(SL_FIELD_TOKENIZE, "prompt", STRING, read_tokenize_prompt),
    READ(SL_FIELD_TOKENIZE, "messages", ANY, read_tokenize_messages),
    BOOL(SL_FIELD_TOKENIZE, "add_special_tokens", add_special_tokens, true),
    BOOL(SL_FIELD_TOKENIZE, "add_generation_prompt", add_generation_prompt, true),
    BOOL(SL_FIELD_TOKENIZE, "return_token_strs", return_token_strs, false),
    READ(SL_FIELD_DETOKENIZE, "tokens", ARRAY, read_tokens),
    REFUSED(SL_FIELD_TOKENIZE, "chat_template", 0),
    REFUSED(SL_FIELD_TOKENIZE, "continue_final_message", SL_HARMLESS_FALSE),
    REFUSED(SL_FIELD_TOKENIZE, "tools", SL_HARMLESS_EMPTY),
    REFUSED(SL_FIELD_TOKENIZE, "chat_template_kwargs", SL_HARMLESS_EMPTY),
};

static sl_status check_tokenize(sl_field_reader *r, bool detokenize, sl_api_tokenize *t)
{
    if (t->model == NULL)
        t->model = "";
    if (detokenize && t->token == NULL)
        return sl_fail_param(r->err, SL_EINVAL, "tokens", "missing_required_parameter",
                             "'tokens' is missing");
    if (!detokenize && (t->prompt == NULL) == (t->messages_json == NULL))
        return sl_fail_param(r->err, SL_EINVAL, "prompt",
                             t->prompt == NULL ? "missing_required_parameter" : "invalid_value",
                             "one of 'prompt' and 'messages' must be there");
    return SL_OK;
}

sl_status sl_api_read_tokenize(const char *body, size_t len, bool detokenize, sl_arena *arena,
                               sl_api_tokenize *out, sl_err *err)
{
    sl_json_budget budget;
    sl_api_tokenize t = {0};
    json_t *root = NULL;
    sl_status status;
    sl_field_reader r = {.kind = detokenize ? SL_FIELD_DETOKENIZE : SL_FIELD_TOKENIZE,
                         .budget = &budget,
                         .arena = arena,
                         .err = err,
                         .base = &t};

    sl_json_budget_begin(&budget, SL_JSON_MEMORY_MAX);
    status = sl_json_load(&budget, body, len, &root, err);
    r.root = root;
    if (status == SL_OK)
        status =
            sl_fields_read(&r, tokenize_table, sizeof(tokenize_table) / sizeof(tokenize_table[0]));
    if (status == SL_OK)
        status = check_tokenize(&r, detokenize, &t);
    if (status == SL_OK)
        *out = t;
    json_decref(root);
    sl_json_budget_end();
    return status;
}

/* --- the table as JSON --------------------------------------------------------------------- */

static const char *type_name(const sl_field *f)
{
    static const char *const names[] = {"any",    "boolean", "integer", "integer",
                                        "number", "string",  "array",   "object"};

    return names[f->type];
}

static void write_range(sl_buf *out, const sl_field *f)
{
    if (!f->has_store)
        return;
    if (f->type == SL_FIELD_BOOL) {
        sl_buf_add_str(out, f->int_default ? ",\"default\":true" : ",\"default\":false");
    } else if (f->type == SL_FIELD_INT || f->type == SL_FIELD_UINT32) {
        sl_buf_addf(out, ",\"minimum\":%lld,\"maximum\":%lld", (long long)f->int_min,
                    (long long)f->int_max);
        if (f->int_default >= f->int_min)
            sl_buf_addf(out, ",\"default\":%lld", (long long)f->int_default);
    } else if (f->type == SL_FIELD_REAL) {
        sl_buf_add_str(out, f->above ? ",\"exclusiveMinimum\":" : ",\"minimum\":");
        sl_json_add_double(out, f->real_min);
        sl_buf_add_str(out, ",\"maximum\":");
        sl_json_add_double(out, f->real_max);
        sl_buf_add_str(out, ",\"default\":");
        sl_json_add_double(out, f->real_default);
    } else {
        sl_buf_addf(out, ",\"maxLength\":%lld", (long long)f->int_max);
    }
}

void sl_api_write_policy(sl_buf *out)
{
    static const char *const policies[] = {"honoured", "ignored", "refused"};

    sl_buf_add_str(out, "{\"object\":\"list\",\"data\":[");
    for (size_t i = 0; i < sl_api_table_count; i++) {
        const sl_field *f = &sl_api_table[i];

        sl_buf_addf(out,
                    "%s{\"name\":\"%s\",\"requests\":[%s%s%s],\"policy\":\"%s\",\"type\":\"%s\"",
                    i > 0 ? "," : "", f->name, (f->kinds & CHAT) != 0 ? "\"chat\"" : "",
                    f->kinds == BOTH ? "," : "", (f->kinds & COMP) != 0 ? "\"completion\"" : "",
                    policies[f->policy], type_name(f));
        write_range(out, f);
        sl_buf_add_char(out, '}');
    }
    sl_buf_add_str(out, "]}");
}
