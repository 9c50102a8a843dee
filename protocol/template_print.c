/* protocol/template_print.c - values as text: Python's str() and repr(), and tojson. */
#include "protocol/template_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FLOAT_BYTES = 40 }; /* of a float as text */

static sl_status add_text(sl_tpl_render *r, sl_tpl_text *t, const char *text)
{
    return sl_tpl_text_add(r, t, text, strlen(text), false);
}

/* The shortest digits that read back as f, in Python's layout. */
static size_t float_text(double f, char out[FLOAT_BYTES])
{
    char digits[FLOAT_BYTES], *mantissa = digits;
    int exponent, count = 0, precision = 0;
    const char *sign_text = signbit(f) ? "-" : "";
    size_t n;

    if (isnan(f))
        return (size_t)snprintf(out, FLOAT_BYTES, "nan");
    if (isinf(f))
        return (size_t)snprintf(out, FLOAT_BYTES, "%sinf", sign_text);
    do
        snprintf(digits, sizeof(digits), "%.*e", precision, fabs(f));
    while (strtod(digits, NULL) != fabs(f) && ++precision < 17);
    exponent = (int)strtol(strchr(digits, 'e') + 1, NULL, 10);
    for (const char *c = digits; *c != 'e'; c++) /* keep the digits alone */
        if (*c != '.')
            mantissa[count++] = *c;
    while (count > 1 && mantissa[count - 1] == '0')
        count--;
    mantissa[count] = '\0';

    if (exponent < -4 || exponent >= 16)
        return (size_t)snprintf(out, FLOAT_BYTES, "%s%c%s%se%c%02d", sign_text, mantissa[0],
                                count > 1 ? "." : "", mantissa + 1, exponent < 0 ? '-' : '+',
                                abs(exponent));
    if (exponent < 0)
        return (size_t)snprintf(out, FLOAT_BYTES, "%s0.%.*s%s", sign_text, -exponent - 1, "000",
                                mantissa);
    n = (size_t)snprintf(out, FLOAT_BYTES, "%s", sign_text);
    for (int i = 0; i <= exponent; i++)
        out[n++] = i < count ? mantissa[i] : '0';
    out[n++] = '.';
    for (int i = exponent + 1; i < count; i++)
        out[n++] = mantissa[i];
    if (count <= exponent + 1)
        out[n++] = '0';
    out[n] = '\0';
    return n;
}

static sl_status print_float(sl_tpl_render *r, sl_tpl_text *t, double f)
{
    char text[FLOAT_BYTES];
    const size_t n = float_text(f, text);

    return sl_tpl_text_add(r, t, text, n, false);
}

static sl_status print_int(sl_tpl_render *r, sl_tpl_text *t, int64_t i)
{
    char text[24];

    snprintf(text, sizeof(text), "%lld", (long long)i);
    return add_text(r, t, text);
}

/* ---- Strings, quoted ---- */

/* How one character stands in a quoted string: its escape into text, or 0 for itself. */
typedef size_t (*escape_fn)(uint32_t code, char quote, char text[16]);

static size_t escape_repr(uint32_t code, char quote, char text[16])
{
    const char *form = code < 0x100 ? "\\x%02x" : code < 0x10000 ? "\\u%04x" : "\\U%08x";

    if (code == '\\' || code == (unsigned char)quote)
        return (size_t)snprintf(text, 16, "\\%c", (char)code);
    if (code == '\n' || code == '\r' || code == '\t')
        return (size_t)snprintf(text, 16, "\\%c", code == '\n' ? 'n' : code == '\r' ? 'r' : 't');
    if (sl_tpl_is_printable(code))
        return 0;
        /* The three forms take one unsigned int each. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    return (size_t)snprintf(text, 16, form, (unsigned)code);
#pragma GCC diagnostic pop
}

static size_t escape_json(uint32_t code, char quote, char text[16])
{
    static const char from[] = "\"\\\n\r\t\b\f", to[] = "\"\\nrtbf";
    const char *plain = code != 0 && code < 0x80 ? strchr(from, (int)code) : NULL;

    (void)quote;
    if (plain != NULL)
        return (size_t)snprintf(text, 16, "\\%c", to[plain - from]);
    if (code < 0x20)
        return (size_t)snprintf(text, 16, "\\u%04x", (unsigned)code);
    return 0;
}

static size_t escape_json_ascii(uint32_t code, char quote, char text[16])
{
    const size_t n = escape_json(code, quote, text);

    if (n > 0 || code < 0x7F)
        return n;
    if (code < 0x10000)
        return (size_t)snprintf(text, 16, "\\u%04x", (unsigned)code);
    code -= 0x10000;
    return (size_t)snprintf(text, 16, "\\u%04x\\u%04x", (unsigned)(0xD800 + (code >> 10)),
                            (unsigned)(0xDC00 + (code & 0x3FF)));
}

/* s between quotes; an escape has the mark of the character that it stands for. */
static sl_status add_quoted(sl_tpl_render *r, sl_tpl_text *t, const sl_tpl_str *s, char quote,
                            escape_fn escape)
{
    size_t plain = 0; /* [plain, i) stands for itself */

    SL_TPL_TRY(sl_tpl_text_add(r, t, &quote, 1, false));
    for (size_t i = 0; i < s->len;) {
        uint32_t code;
        const size_t step = sl_utf8_next(s->data + i, s->len - i, &code);
        char text[16];
        const size_t n = escape(code, quote, text);

        if (n > 0) {
            bool user;

            SL_TPL_TRY(sl_tpl_text_add_sub(r, t, s, plain, i));
            (void)sl_tpl_str_run(s, i, &user);
            SL_TPL_TRY(sl_tpl_text_add(r, t, text, n, user));
            plain = i + step;
        }
        i += step;
    }
    SL_TPL_TRY(sl_tpl_text_add_sub(r, t, s, plain, s->len));
    return sl_tpl_text_add(r, t, &quote, 1, false);
}

/* ---- str() and repr() ---- */

static sl_status repr_seq(sl_tpl_render *r, sl_tpl_text *t, const sl_tpl_seq *seq, unsigned depth)
{
    static const char *const open[] = {"[",           "(", "", "", "dict_keys([", "dict_values([",
                                       "dict_items(["};
    static const char *const close[] = {"]", ")", "", "", "])", "])", "])"};

    if (seq->form == SL_TPL_GENERATOR)
        return add_text(r, t, "<generator object>");
    if (seq->form == SL_TPL_RANGE) { /* its step cannot be told from fewer than two items */
        const int64_t first = seq->count > 0 ? seq->item[0].as.i : 0;
        const int64_t step = seq->count > 1 ? seq->item[1].as.i - first : 1;
        char text[80];

        snprintf(text, sizeof(text), step == 1 ? "range(%lld, %lld)" : "range(%lld, %lld, %lld)",
                 (long long)first, (long long)(first + step * (int64_t)seq->count),
                 (long long)step);
        return add_text(r, t, text);
    }
    SL_TPL_TRY(add_text(r, t, open[seq->form]));
    for (size_t i = 0; i < seq->count; i++) {
        if (i > 0)
            SL_TPL_TRY(add_text(r, t, ", "));
        SL_TPL_TRY(sl_tpl_repr(r, t, seq->item[i], depth + 1));
    }
    if (seq->form == SL_TPL_TUPLE && seq->count == 1)
        SL_TPL_TRY(add_text(r, t, ","));
    return add_text(r, t, close[seq->form]);
}

static sl_status repr_dict(sl_tpl_render *r, sl_tpl_text *t, const sl_tpl_dict *dict,
                           unsigned depth)
{
    SL_TPL_TRY(add_text(r, t, "{"));
    for (size_t i = 0; i < dict->count; i++) {
        if (i > 0)
            SL_TPL_TRY(add_text(r, t, ", "));
        SL_TPL_TRY(sl_tpl_repr(r, t, dict->entry[i].key, depth + 1));
        SL_TPL_TRY(add_text(r, t, ": "));
        SL_TPL_TRY(sl_tpl_repr(r, t, dict->entry[i].value, depth + 1));
    }
    return add_text(r, t, "}");
}

static sl_status repr_string(sl_tpl_render *r, sl_tpl_text *t, const sl_tpl_str *s)
{
    const bool has_single = memchr(s->data, '\'', s->len) != NULL;
    const bool has_double = memchr(s->data, '"', s->len) != NULL;

    return add_quoted(r, t, s, has_single && !has_double ? '"' : '\'', escape_repr);
}

sl_status sl_tpl_repr(sl_tpl_render *r, sl_tpl_text *t, sl_tpl_value v, unsigned depth)
{
    if (depth > SL_TPL_VALUE_DEPTH_MAX)
        return sl_tpl_fail(r, "a value is nested too deeply to print");
    switch (v.kind) {
    case SL_TPL_UNDEFINED:
        return add_text(r, t, "Undefined");
    case SL_TPL_NONE:
        return add_text(r, t, "None");
    case SL_TPL_BOOL:
        return add_text(r, t, v.as.b ? "True" : "False");
    case SL_TPL_INT:
        return print_int(r, t, v.as.i);
    case SL_TPL_FLOAT:
        return print_float(r, t, v.as.f);
    case SL_TPL_STRING:
        return repr_string(r, t, v.as.str);
    case SL_TPL_SEQ:
        return repr_seq(r, t, v.as.seq, depth);
    case SL_TPL_DICT:
        return repr_dict(r, t, v.as.dict, depth);
    case SL_TPL_NAMESPACE:
        SL_TPL_TRY(add_text(r, t, "<Namespace "));
        SL_TPL_TRY(repr_dict(r, t, v.as.dict, depth));
        return add_text(r, t, ">");
    default:
        SL_TPL_TRY(add_text(r, t, "<"));
        SL_TPL_TRY(add_text(r, t, sl_tpl_type_name(v)));
        return add_text(r, t, ">");
    }
}

static sl_status print_value(sl_tpl_render *r, sl_tpl_text *t, sl_tpl_value v)
{
    if (v.kind == SL_TPL_STRING)
        return sl_tpl_text_add_str(r, t, v.as.str);
    if (v.kind == SL_TPL_UNDEFINED)
        return SL_OK;
    return sl_tpl_repr(r, t, v, 0);
}

sl_status sl_tpl_to_str(sl_tpl_render *r, sl_tpl_value v, const sl_tpl_str **out)
{
    sl_tpl_text t = {0};
    sl_tpl_value text;

    if (v.kind == SL_TPL_STRING) {
        *out = v.as.str;
        return SL_OK;
    }
    SL_TPL_TRY(print_value(r, &t, v));
    SL_TPL_TRY(sl_tpl_text_done(r, &t, false, &text));
    *out = text.as.str;
    return SL_OK;
}

/* ---- tojson ---- */

typedef struct json_style {
    escape_fn escape;
    const sl_tpl_str *indent; /* NULL: all on one line */
    sl_tpl_value comma;       /* strings */
    sl_tpl_value colon;
    bool sort_keys;
} json_style;

static sl_status json_value(sl_tpl_render *r, sl_tpl_text *t, const json_style *style,
                            sl_tpl_value v, unsigned depth);

static sl_status json_newline(sl_tpl_render *r, sl_tpl_text *t, const json_style *style,
                              unsigned depth)
{
    if (style->indent == NULL)
        return SL_OK;
    SL_TPL_TRY(add_text(r, t, "\n"));
    for (unsigned i = 0; i < depth; i++)
        SL_TPL_TRY(sl_tpl_text_add_str(r, t, style->indent));
    return SL_OK;
}

static sl_status json_seq(sl_tpl_render *r, sl_tpl_text *t, const json_style *style,
                          const sl_tpl_seq *seq, unsigned depth)
{
    SL_TPL_TRY(add_text(r, t, "["));
    for (size_t i = 0; i < seq->count; i++) {
        if (i > 0)
            SL_TPL_TRY(sl_tpl_text_add_str(r, t, style->comma.as.str));
        SL_TPL_TRY(json_newline(r, t, style, depth + 1));
        SL_TPL_TRY(json_value(r, t, style, seq->item[i], depth + 1));
    }
    if (seq->count > 0)
        SL_TPL_TRY(json_newline(r, t, style, depth));
    return add_text(r, t, "]");
}

/* A key: a string, or a number, boolean or null as its text between quotes. */
static sl_status json_key(sl_tpl_render *r, sl_tpl_text *t, const json_style *style,
                          sl_tpl_value key)
{
    if (key.kind == SL_TPL_STRING)
        return add_quoted(r, t, key.as.str, '"', style->escape);
    if (!sl_tpl_is_number(key) && key.kind != SL_TPL_NONE)
        return sl_tpl_fail(r, "%s cannot be a key in JSON", sl_tpl_type_name(key));
    SL_TPL_TRY(add_text(r, t, "\""));
    SL_TPL_TRY(json_value(r, t, style, key, 0));
    return add_text(r, t, "\"");
}

static sl_status sorted_entries(sl_tpl_render *r, const sl_tpl_dict *dict, sl_tpl_entry **out)
{
    sl_tpl_value *index = sl_tpl_alloc(r, dict->count + 1, sizeof(*index));
    sl_tpl_value *key = sl_tpl_alloc(r, dict->count + 1, sizeof(*key));
    sl_tpl_entry *entry = sl_tpl_alloc(r, dict->count + 1, sizeof(*entry));

    if (index == NULL || key == NULL || entry == NULL)
        return r->status;
    for (size_t i = 0; i < dict->count; i++) {
        index[i] = sl_tpl_int((int64_t)i);
        key[i] = dict->entry[i].key;
    }
    SL_TPL_TRY(sl_tpl_sort(r, index, key, dict->count, false));
    for (size_t i = 0; i < dict->count; i++)
        entry[i] = dict->entry[index[i].as.i];
    *out = entry;
    return SL_OK;
}

static sl_status json_dict(sl_tpl_render *r, sl_tpl_text *t, const json_style *style,
                           const sl_tpl_dict *dict, unsigned depth)
{
    sl_tpl_entry *entry = dict->entry;

    if (style->sort_keys)
        SL_TPL_TRY(sorted_entries(r, dict, &entry));
    SL_TPL_TRY(add_text(r, t, "{"));
    for (size_t i = 0; i < dict->count; i++) {
        if (i > 0)
            SL_TPL_TRY(sl_tpl_text_add_str(r, t, style->comma.as.str));
        SL_TPL_TRY(json_newline(r, t, style, depth + 1));
        SL_TPL_TRY(json_key(r, t, style, entry[i].key));
        SL_TPL_TRY(sl_tpl_text_add_str(r, t, style->colon.as.str));
        SL_TPL_TRY(json_value(r, t, style, entry[i].value, depth + 1));
    }
    if (dict->count > 0)
        SL_TPL_TRY(json_newline(r, t, style, depth));
    return add_text(r, t, "}");
}

static sl_status json_float(sl_tpl_render *r, sl_tpl_text *t, double f)
{
    if (isnan(f))
        return add_text(r, t, "NaN");
    if (isinf(f))
        return add_text(r, t, f < 0 ? "-Infinity" : "Infinity");
    return print_float(r, t, f);
}

static sl_status json_value(sl_tpl_render *r, sl_tpl_text *t, const json_style *style,
                            sl_tpl_value v, unsigned depth)
{
    if (depth > SL_TPL_VALUE_DEPTH_MAX)
        return sl_tpl_fail(r, "a value is nested too deeply for JSON");
    switch (v.kind) {
    case SL_TPL_NONE:
        return add_text(r, t, "null");
    case SL_TPL_BOOL:
        return add_text(r, t, v.as.b ? "true" : "false");
    case SL_TPL_INT:
        return print_int(r, t, v.as.i);
    case SL_TPL_FLOAT:
        return json_float(r, t, v.as.f);
    case SL_TPL_STRING:
        return add_quoted(r, t, v.as.str, '"', style->escape);
    case SL_TPL_SEQ:
        if (v.as.seq->form > SL_TPL_TUPLE)
            break;
        return json_seq(r, t, style, v.as.seq, depth);
    case SL_TPL_DICT:
        return json_dict(r, t, style, v.as.dict, depth);
    default:
        break;
    }
    return sl_tpl_fail(r, "%s cannot be written as JSON", sl_tpl_type_name(v));
}

/* indent=4, indent="\t" or none. */
static sl_status read_indent(sl_tpl_render *r, sl_tpl_value v, json_style *style)
{
    sl_tpl_text spaces = {0};
    sl_tpl_value text;
    int64_t width;

    if (v.kind == SL_TPL_MISSING || v.kind == SL_TPL_NONE)
        return SL_OK;
    if (v.kind == SL_TPL_STRING) {
        style->indent = v.as.str;
        return SL_OK;
    }
    SL_TPL_TRY(sl_tpl_want_int(r, v, "indent", &width));
    if (width > 256)
        return sl_tpl_fail(r, "indent is more than 256");
    for (int64_t i = 0; i < width; i++)
        SL_TPL_TRY(add_text(r, &spaces, " "));
    SL_TPL_TRY(sl_tpl_text_done(r, &spaces, false, &text));
    style->indent = text.as.str;
    return SL_OK;
}

/* separators=(",", ":") */
static sl_status read_separators(sl_tpl_render *r, sl_tpl_value v, json_style *style)
{
    const sl_tpl_value *item;
    size_t count;

    if (v.kind == SL_TPL_MISSING || v.kind == SL_TPL_NONE) {
        SL_TPL_TRY(sl_tpl_str_new(r, ", ", style->indent != NULL ? 1 : 2, false, &style->comma));
        return sl_tpl_str_new(r, ": ", 2, false, &style->colon);
    }
    SL_TPL_TRY(sl_tpl_iterate(r, v, &item, &count));
    if (count != 2 || item[0].kind != SL_TPL_STRING || item[1].kind != SL_TPL_STRING)
        return sl_tpl_fail(r, "separators must be two strings");
    style->comma = item[0];
    style->colon = item[1];
    return SL_OK;
}

sl_status sl_tpl_filter_tojson(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    const bool ascii = call->arg[0].kind != SL_TPL_MISSING && sl_tpl_truth(call->arg[0]);
    json_style style = {.escape = ascii ? escape_json_ascii : escape_json};
    sl_tpl_text t = {0};

    style.sort_keys = sl_tpl_truth(call->arg[3]);
    SL_TPL_TRY(read_indent(r, call->arg[1], &style));
    SL_TPL_TRY(read_separators(r, call->arg[2], &style));
    SL_TPL_TRY(json_value(r, &t, &style, call->self, 0));
    return sl_tpl_text_done(r, &t, false, out);
}
