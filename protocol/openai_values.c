/* protocol/openai_values.c - readers of the fields that are more than one scalar.
 *
 * Each is called by the table (openai_table.c) with a value that is neither absent nor null. */
#include <jansson.h>
#include <string.h>

#include "protocol/openai_internal.h"

enum { KWARGS_MAX = 64, KWARG_NAME_MAX = 64 };

static sl_api_request *request_of(sl_field_reader *r)
{
    return &((sl_api_reading *)r->base)->request;
}

static sl_status wrong_type(sl_field_reader *r, const char *param, const char *want)
{
    return sl_fail_param(r->err, SL_EINVAL, param, "invalid_type", "'%s' must be %s", param, want);
}

/* --- prompt -------------------------------------------------------------------------------- */

static sl_status read_text_prompt(sl_field_reader *r, const json_t *value, sl_api_prompt *out)
{
    out->text_len = json_string_length(value);
    return sl_fields_copy(r, json_string_value(value), out->text_len, &out->text);
}

static sl_status read_prompt_list(sl_field_reader *r, const json_t *list, bool of_ids)
{
    sl_api_request *request = request_of(r);
    const size_t n = json_array_size(list);

    if (n > SL_API_PROMPTS_MAX)
        return sl_fail_param(r->err, SL_EINVAL, "prompt", "array_above_max_length",
                             "'prompt' must hold at most %d prompts, not %zu", SL_API_PROMPTS_MAX,
                             n);
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(list, i);
        const char *path = sl_fields_path(r, "prompt", "prompt[%zu]", i);
        sl_api_prompt *prompt = &request->prompt[i];
        sl_status status;

        if (of_ids ? !json_is_array(item) : !json_is_string(item))
            return wrong_type(r, path, of_ids ? "an array of token ids" : "a string");
        status = of_ids ? sl_fields_read_ids(r, path, item, &prompt->id, &prompt->id_count)
                        : read_text_prompt(r, item, prompt);
        if (status != SL_OK)
            return status;
    }
    request->prompt_count = n;
    return SL_OK;
}

sl_status sl_api_read_prompt(sl_field_reader *r, const sl_field *field, const json_t *value)
{
    sl_api_request *request = request_of(r);
    const json_t *first = json_array_get(value, 0); /* NULL if it is not an array, or empty */

    (void)field;
    if (json_is_string(value)) {
        request->prompt_count = 1;
        return read_text_prompt(r, value, &request->prompt[0]);
    }
    if (!json_is_array(value))
        return wrong_type(r, "prompt", "a string, or an array of strings or token ids");
    if (first == NULL)
        return sl_fail_param(r->err, SL_EINVAL, "prompt", "invalid_value",
                             "'prompt' must not be empty");
    if (json_is_string(first) || json_is_array(first))
        return read_prompt_list(r, value, json_is_array(first));
    request->prompt_count = 1;
    return sl_fields_read_ids(r, "prompt", value, &request->prompt[0].id,
                              &request->prompt[0].id_count);
}

/* --- stop ---------------------------------------------------------------------------------- */

static sl_status add_stop(sl_field_reader *r, const json_t *value, const char *param)
{
    sl_api_request *request = request_of(r);
    const size_t n = json_string_length(value);
    const size_t at = request->stop_count;

    if (!json_is_string(value))
        return wrong_type(r, param, "a string");
    if (n == 0)
        return sl_fail_param(r->err, SL_EINVAL, param, "invalid_value", "'%s' must not be empty",
                             param);
    if (n > SL_API_STOP_BYTES_MAX)
        return sl_fail_param(r->err, SL_EINVAL, param, "string_above_max_length",
                             "'%s' must have at most %d bytes, not %zu", param,
                             SL_API_STOP_BYTES_MAX, n);
    request->stop_len[at] = n;
    request->stop_count++;
    return sl_fields_copy(r, json_string_value(value), n, &request->stop[at]);
}

sl_status sl_api_read_stop(sl_field_reader *r, const sl_field *field, const json_t *value)
{
    const size_t n = json_array_size(value);

    if (json_is_string(value))
        return add_stop(r, value, field->name);
    if (!json_is_array(value))
        return wrong_type(r, field->name, "a string or an array of strings");
    if (n > SL_API_STOP_MAX)
        return sl_fail_param(r->err, SL_EINVAL, field->name, "array_above_max_length",
                             "'stop' must hold at most %d strings, not %zu", SL_API_STOP_MAX, n);
    for (size_t i = 0; i < n; i++) {
        const char *path = sl_fields_path(r, field->name, "stop[%zu]", i);
        const sl_status status = add_stop(r, json_array_get(value, i), path);

        if (status != SL_OK)
            return status;
    }
    return SL_OK;
}

sl_status sl_api_read_stop_ids(sl_field_reader *r, const sl_field *field, const json_t *value)
{
    sl_api_request *request = request_of(r);
    const uint32_t *id = NULL;
    size_t n = json_array_size(value);
    sl_status status;

    if (n == 0)
        return SL_OK;
    if (n > SL_API_STOP_IDS_MAX)
        return sl_fail_param(r->err, SL_EINVAL, field->name, "array_above_max_length",
                             "'%s' must hold at most %d ids, not %zu", field->name,
                             SL_API_STOP_IDS_MAX, n);
    status = sl_fields_read_ids(r, field->name, value, &id, &n);
    if (status != SL_OK)
        return status;
    memcpy(request->stop_id, id, n * sizeof(*id));
    request->stop_id_count = n;
    return SL_OK;
}

/* --- logit_bias ---------------------------------------------------------------------------- */

/* A decimal token id without sign or leading zeros, so that no id can be named twice. */
static bool parse_token(const char *text, int64_t *out)
{
    int64_t x = 0;

    if (*text == '\0' || (text[0] == '0' && text[1] != '\0'))
        return false;
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9')
            return false;
        x = x * 10 + (*text - '0');
        if (x > (int64_t)UINT32_MAX)
            return false;
    }
    *out = x;
    return true;
}

sl_status sl_api_read_bias(sl_field_reader *r, const sl_field *field, const json_t *value)
{
    sl_api_request *request = request_of(r);
    const char *key;
    const json_t *item;

    if (json_object_size(value) > SL_API_LOGIT_BIAS_MAX)
        return sl_fail_param(r->err, SL_EINVAL, field->name, "invalid_value",
                             "'logit_bias' must have at most %d members, not %zu",
                             SL_API_LOGIT_BIAS_MAX, json_object_size(value));
    json_object_foreach((json_t *)value, key, item)
    {
        const double bias = json_number_value(item);
        int64_t token = 0;

        if (!json_is_number(item))
            return wrong_type(r, field->name, "an object of numbers");
        if (!(bias >= -100.0 && bias <= 100.0))
            return sl_fail_param(r->err, SL_EINVAL, field->name, "invalid_value",
                                 "a bias must be a number from -100 to 100, not %g", bias);
        if (!parse_token(key, &token)) {
            if (bias == 0.0)
                continue; /* it asks for nothing */
            return sl_fail_param(r->err, SL_EINVAL, field->name, "invalid_value",
                                 "'%.64s' in 'logit_bias' is not a token id", key);
        }
        request->bias[request->bias_count++] = (sl_api_bias){.token = token, .bias = bias};
    }
    return SL_OK;
}

/* --- stream_options ------------------------------------------------------------------------ */

static sl_status read_flag(sl_field_reader *r, const json_t *object, const char *name,
                           const char *path, bool *out)
{
    const json_t *value = json_object_get(object, name);

    if (sl_json_absent(value))
        return SL_OK;
    if (!json_is_boolean(value))
        return wrong_type(r, path, "true or false");
    *out = json_is_true(value);
    return SL_OK;
}

sl_status sl_api_read_stream_options(sl_field_reader *r, const sl_field *field, const json_t *value)
{
    sl_api_request *request = request_of(r);
    bool obfuscation = false;
    sl_status status;

    if (r->strict && !request->stream)
        return sl_fail_param(r->err, SL_EINVAL, field->name, "invalid_value",
                             "'stream_options' needs 'stream': true");
    status = read_flag(r, value, "include_usage", "stream_options.include_usage",
                       &request->include_usage);
    if (status == SL_OK)
        status = read_flag(r, value, "continuous_usage_stats",
                           "stream_options.continuous_usage_stats", &request->continuous_usage);
    if (status == SL_OK)
        status = read_flag(r, value, "include_obfuscation", "stream_options.include_obfuscation",
                           &obfuscation);
    if (status == SL_OK && obfuscation)
        status = sl_fields_ignore(r, "stream_options.include_obfuscation");
    return status;
}

/* --- chat_template_kwargs ------------------------------------------------------------------ */

/* A name that a template can use, and that is not one of the variables we set. */
static bool kwarg_name_fits(const char *name)
{
    static const char *const ours[] = {
        "messages",  "tools",     "documents", "bos_token",
        "eos_token", "pad_token", "unk_token", "add_generation_prompt"};
    size_t n = 0;

    for (; name[n] != '\0'; n++) {
        const char c = name[n];
        const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';

        if (!letter && !(n > 0 && c >= '0' && c <= '9'))
            return false;
    }
    for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
        if (strcmp(name, ours[i]) == 0)
            return false;
    return n > 0 && n <= KWARG_NAME_MAX;
}

sl_status sl_api_read_kwargs(sl_field_reader *r, const sl_field *field, const json_t *value)
{
    sl_api_request *request = request_of(r);
    const char *key;
    const json_t *item;
    sl_status status;
    sl_buf text;

    if (json_object_size(value) > KWARGS_MAX)
        return sl_fail_param(r->err, SL_EINVAL, field->name, "invalid_value",
                             "'%s' must have at most %d members", field->name, KWARGS_MAX);
    json_object_foreach((json_t *)value, key, item)
    {
        if (!kwarg_name_fits(key))
            return sl_fail_param(r->err, SL_EINVAL, field->name, "invalid_value",
                                 "'%.64s' is not a name that '%s' may set", key, field->name);
        if (json_is_object(item) || json_is_array(item))
            return sl_fail_param(r->err, SL_EINVAL, field->name, "invalid_value",
                                 "'%s' may hold strings, numbers, true, false and null only",
                                 field->name);
    }
    sl_buf_init(&text, SL_JSON_MEMORY_MAX);
    sl_json_add_value(&text, value);
    if (text.failed)
        status = sl_fail(r->err, SL_ENOMEM, "out of memory while reading a request");
    else
        status = sl_fields_copy(r, text.data, text.len, &request->template_kwargs_json);
    if (status == SL_OK)
        request->template_kwargs_json_len = text.len;
    sl_buf_done(&text);
    return status;
}

/* --- fields that are refused but for one form ---------------------------------------------- */

sl_status sl_api_read_response_format(sl_field_reader *r, const sl_field *field,
                                      const json_t *value)
{
    const char *type = json_string_value(json_object_get(value, "type"));

    if (type == NULL)
        return sl_fail_param(r->err, SL_EINVAL, "response_format.type",
                             "missing_required_parameter",
                             "'response_format.type' must be a string");
    if (strcmp(type, "text") == 0)
        return SL_OK;
    return sl_fail_param(r->err, SL_EINVAL, field->name, "unsupported_parameter",
                         "the only 'response_format' supported is {\"type\": \"text\"}");
}

sl_status sl_api_read_modalities(sl_field_reader *r, const sl_field *field, const json_t *value)
{
    const char *only = json_string_value(json_array_get(value, 0));

    if (json_array_size(value) == 0 ||
        (json_array_size(value) == 1 && only != NULL && strcmp(only, "text") == 0))
        return SL_OK;
    return sl_fail_param(r->err, SL_EINVAL, field->name, "unsupported_parameter",
                         "the only modality supported is \"text\"");
}

/* `tools` and the older `functions`: with the choice "none" they are left out of the prompt. */
sl_status sl_api_read_tools(sl_field_reader *r, const sl_field *field, const json_t *value)
{
    const bool functions = strcmp(field->name, "functions") == 0;
    const char *choice =
        json_string_value(json_object_get(r->root, functions ? "function_call" : "tool_choice"));

    if (json_array_size(value) == 0)
        return SL_OK;
    if (choice != NULL && strcmp(choice, "none") == 0)
        return sl_fields_ignore(r, field->name);
    return sl_fail_param(r->err, SL_EINVAL, field->name, "unsupported_parameter",
                         "'%s' is not supported, but for '%s': \"none\"", field->name,
                         functions ? "function_call" : "tool_choice");
}

/* "auto" asks for nothing where there are no tools, and with tools their reader refuses. */
sl_status sl_api_read_tool_choice(sl_field_reader *r, const sl_field *field, const json_t *value)
{
    const char *text = json_string_value(value);

    if (text != NULL && (strcmp(text, "none") == 0 || strcmp(text, "auto") == 0))
        return SL_OK;
    return sl_fail_param(r->err, SL_EINVAL, field->name, "unsupported_parameter",
                         "the only '%s' supported is \"none\"", field->name);
}
