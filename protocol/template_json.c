/* protocol/template_json.c - JSON to values (jansson's only door in the template engine).
 *
 * The text is looked over first: its depth is bounded before jansson's recursive parser sees it,
 * and integers beyond int64 become reals, which jansson would refuse. */
#include "protocol/template_internal.h"

#include <jansson.h>
#include <string.h>

#include "base/alloc.h"

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Is the integer text[0..n) beyond int64? */
static bool too_large(const char *text, size_t n)
{
    int64_t value;

    return n > 18 && sl_tpl_parse_int(text, n, 10, &value) == SL_TPL_TOO_LARGE;
}

/* The end of the string that begins at text[i] == '"'; len where it has none. */
static size_t string_end(const char *text, size_t len, size_t i)
{
    for (i++; i < len && text[i] != '"'; i++)
        if (text[i] == '\\')
            i++;
    return i < len ? i + 1 : len;
}

typedef struct json_scan {
    bool deep;
    size_t large;  /* integers beyond int64 */
    char *patched; /* NULL while counting */
    size_t patched_len;
} json_scan;

static void keep(json_scan *scan, const char *bytes, size_t n)
{
    if (scan->patched != NULL)
        memcpy(scan->patched + scan->patched_len, bytes, n);
    scan->patched_len += n;
}

/* Walk the tokens: measure the depth, and write large integers as "...e0" into scan->patched. */
static void scan_json(const char *text, size_t len, json_scan *scan)
{
    size_t depth = 0, i = 0;

    scan->patched_len = 0;
    while (i < len) {
        size_t end = i + 1;

        if (text[i] == '[' || text[i] == '{') {
            depth++;
            scan->deep |= depth > SL_TPL_JSON_DEPTH_MAX;
        } else if (text[i] == ']' || text[i] == '}') {
            depth -= depth > 0;
        } else if (text[i] == '"') {
            end = string_end(text, len, i);
        } else if (is_digit(text[i]) || text[i] == '-') {
            bool whole = true;

            while (end < len && (is_digit(text[end]) || strchr("+-.eE", text[end]) != NULL)) {
                if (text[end] == '\0')
                    break;
                whole = whole && is_digit(text[end]);
                end++;
            }
            if (whole && too_large(text + i, end - i)) {
                scan->large++;
                keep(scan, text + i, end - i);
                keep(scan, "e0", 2);
                i = end;
                continue;
            }
        }
        keep(scan, text + i, end - i);
        i = end;
    }
}

/* ---- Conversion ---- */

/* Only letters, digits, "_" and "-": such a word cannot spell a control token. */
static bool is_word(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!is_digit(text[i]) && !(text[i] >= 'a' && text[i] <= 'z') &&
            !(text[i] >= 'A' && text[i] <= 'Z') && text[i] != '_' && text[i] != '-')
            return false;
    return true;
}

static sl_status convert(sl_tpl_render *r, const json_t *json, bool user, sl_tpl_value *out);

static sl_status convert_array(sl_tpl_render *r, const json_t *json, bool user, sl_tpl_value *out)
{
    const size_t count = json_array_size(json);
    sl_tpl_seq *seq;

    SL_TPL_TRY(sl_tpl_seq_new(r, SL_TPL_LIST, count, &seq));
    for (size_t i = 0; i < count; i++)
        SL_TPL_TRY(convert(r, json_array_get(json, i), user, &seq->item[seq->count++]));
    *out = sl_tpl_of_seq(seq);
    return SL_OK;
}

static sl_status convert_object(sl_tpl_render *r, const json_t *json, bool user, sl_tpl_value *out)
{
    sl_tpl_dict *dict;

    SL_TPL_TRY(sl_tpl_dict_new(r, &dict));
    for (void *it = json_object_iter((json_t *)json); it != NULL;
         it = json_object_iter_next((json_t *)json, it)) {
        const char *text = json_object_iter_key(it);
        const size_t len = strlen(text); /* jansson refuses NUL in keys */
        sl_tpl_value key, value;

        SL_TPL_TRY(sl_tpl_str_new(r, text, len, user && !is_word(text, len), &key));
        SL_TPL_TRY(convert(r, json_object_iter_value(it), user, &value));
        SL_TPL_TRY(sl_tpl_dict_push(r, dict, key, value));
    }
    *out = (sl_tpl_value){.kind = SL_TPL_DICT, .as.dict = dict};
    return SL_OK;
}

/* As deep as SL_TPL_JSON_DEPTH_MAX. */
static sl_status convert(sl_tpl_render *r, const json_t *json, bool user, sl_tpl_value *out)
{
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        return convert_object(r, json, user, out);
    case JSON_ARRAY:
        return convert_array(r, json, user, out);
    case JSON_STRING:
        return sl_tpl_str_new(r, json_string_value(json), json_string_length(json), user, out);
    case JSON_INTEGER:
        *out = sl_tpl_int(json_integer_value(json));
        return SL_OK;
    case JSON_REAL:
        *out = sl_tpl_float(json_real_value(json));
        return SL_OK;
    case JSON_TRUE:
    case JSON_FALSE:
        *out = sl_tpl_bool(json_is_true(json));
        return SL_OK;
    default:
        *out = sl_tpl_none();
        return SL_OK;
    }
}

static sl_status load(sl_tpl_render *r, const char *text, size_t len, const char *what,
                      json_t **out)
{
    const size_t flags = JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL;
    json_error_t error;

    *out = json_loadb(text, len, flags, &error);
    if (*out != NULL)
        return SL_OK;
    if (json_error_code(&error) == json_error_out_of_memory) {
        r->status = sl_fail(r->err, SL_ENOMEM, "no memory to render the chat template");
        return r->status;
    }
    return sl_tpl_fail(r, "%s: %.120s", what, error.text);
}

sl_status sl_tpl_json_parse(sl_tpl_render *r, const char *text, size_t len, bool user,
                            const char *what, sl_tpl_value *out)
{
    json_scan scan = {0};
    json_t *json = NULL;
    sl_status status;

    SL_TPL_TRY(sl_tpl_step_bytes(r, len));
    if (len > SL_TEMPLATE_MEMORY_MAX)
        return sl_tpl_fail(r, "%s: more than %d bytes", what, SL_TEMPLATE_MEMORY_MAX);
    scan_json(text, len, &scan);
    if (scan.deep)
        return sl_tpl_fail(r, "%s: more than %d levels", what, SL_TPL_JSON_DEPTH_MAX);
    if (scan.large > 0) {
        scan.patched = sl_tpl_alloc(r, scan.patched_len, 1);
        if (scan.patched == NULL)
            return r->status;
        scan_json(text, len, &scan);
        text = scan.patched;
        len = scan.patched_len;
    }
    SL_TPL_TRY(load(r, text, len, what, &json));
    status = convert(r, json, user, out);
    json_decref(json);
    return status;
}

/* ---- The protocol's own words ---- */

static sl_status unmark_member(sl_tpl_render *r, sl_tpl_dict *dict, const char *name)
{
    for (size_t i = 0; i < dict->count; i++) {
        sl_tpl_entry *e = &dict->entry[i];
        sl_tpl_str *copy;

        if (!sl_tpl_str_is(e->key.as.str, name) || e->value.kind != SL_TPL_STRING ||
            !is_word(e->value.as.str->data, e->value.as.str->len))
            continue;
        copy = sl_tpl_alloc(r, 1, sizeof(*copy));
        if (copy == NULL)
            return r->status;
        *copy = *e->value.as.str;
        copy->user = false;
        e->value.as.str = copy;
    }
    return SL_OK;
}

/* Unmark role and type of each dict in the list `name` of `in`; *list is that list, or NULL. */
static sl_status unmark_list(sl_tpl_render *r, const sl_tpl_dict *in, const char *name,
                             sl_tpl_seq **list)
{
    *list = NULL;
    for (size_t i = 0; i < in->count; i++)
        if (sl_tpl_str_is(in->entry[i].key.as.str, name) && in->entry[i].value.kind == SL_TPL_SEQ)
            *list = in->entry[i].value.as.seq;
    for (size_t i = 0; *list != NULL && i < (*list)->count; i++)
        if ((*list)->item[i].kind == SL_TPL_DICT) {
            SL_TPL_TRY(unmark_member(r, (*list)->item[i].as.dict, "role"));
            SL_TPL_TRY(unmark_member(r, (*list)->item[i].as.dict, "type"));
        }
    return SL_OK;
}

sl_status sl_tpl_json_unmark_protocol(sl_tpl_render *r, sl_tpl_dict *globals)
{
    sl_tpl_seq *messages, *inner;

    SL_TPL_TRY(unmark_list(r, globals, "messages", &messages));
    for (size_t i = 0; messages != NULL && i < messages->count; i++) {
        if (messages->item[i].kind != SL_TPL_DICT)
            continue;
        SL_TPL_TRY(unmark_list(r, messages->item[i].as.dict, "content", &inner));
        SL_TPL_TRY(unmark_list(r, messages->item[i].as.dict, "tool_calls", &inner));
    }
    return SL_OK;
}
