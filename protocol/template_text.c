/* protocol/template_text.c - filters over text and numbers. */
#include "protocol/template_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- Text as numbers ---- */

static unsigned digit_value(char c)
{
    if (c >= '0' && c <= '9')
        return (unsigned)(c - '0');
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'z' ? (unsigned)(c - 'a' + 10) : 99;
}

static void trim_span(const char **text, size_t *len)
{
    const size_t front = sl_tpl_space_front(*text, *len);

    *text += front;
    *len -= front;
    *len -= sl_tpl_space_back(*text, *len);
}

/* "0x" and the like, where base allows it (0: any); moves past it and settles the base. */
static bool take_prefix(const char **text, size_t *len, unsigned *base)
{
    const char kind = *len > 2 && **text == '0' ? (char)((*text)[1] | 0x20) : '\0';
    const unsigned named = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 0;

    if (named == 0 || (*base != 0 && *base != named)) {
        if (*base == 0)
            *base = 10;
        return false;
    }
    *text += 2;
    *len -= 2;
    *base = named;
    return true;
}

sl_tpl_parsed sl_tpl_parse_int(const char *text, size_t len, unsigned base, int64_t *out)
{
    bool minus, digit_before, overflow = false;
    int64_t value = 0;

    trim_span(&text, &len);
    minus = len > 0 && *text == '-';
    if (minus || (len > 0 && *text == '+')) {
        text++;
        len--;
    }
    digit_before = take_prefix(&text, &len, &base); /* "0x_1" is allowed */
    if (len == 0)
        return SL_TPL_NOT_A_NUMBER;
    for (size_t i = 0; i < len; i++) {
        const unsigned digit = digit_value(text[i]);

        if (text[i] == '_' && digit_before && i + 1 < len) {
            digit_before = false;
            continue;
        }
        if (digit >= base)
            return SL_TPL_NOT_A_NUMBER;
        digit_before = true;
        /* Downwards, for there is one more negative number. */
        overflow |= __builtin_mul_overflow(value, (int64_t)base, &value) ||
                    __builtin_sub_overflow(value, (int64_t)digit, &value);
    }
    if (overflow || (!minus && value == INT64_MIN))
        return SL_TPL_TOO_LARGE;
    *out = minus ? value : -value;
    return SL_TPL_PARSED;
}

static bool is_word(const char *text, const char *word)
{
    return strcasecmp(text[0] == '-' || text[0] == '+' ? text + 1 : text, word) == 0;
}

sl_tpl_parsed sl_tpl_parse_float(const char *text, size_t len, double *out)
{
    char plain[512], *end;
    size_t n = 0;

    trim_span(&text, &len);
    if (len == 0 || len >= sizeof(plain))
        return SL_TPL_NOT_A_NUMBER;
    for (size_t i = 0; i < len; i++) { /* without "_" between digits */
        const bool between = text[i] == '_' && i > 0 && digit_value(text[i - 1]) < 10 &&
                             i + 1 < len && digit_value(text[i + 1]) < 10;

        if (text[i] == '\0' || (text[i] == '_' && !between))
            return SL_TPL_NOT_A_NUMBER;
        if (!between)
            plain[n++] = text[i];
    }
    plain[n] = '\0';
    /* What strtod takes beyond Python: hexadecimal, "nan(...)". */
    if (!is_word(plain, "nan") && !is_word(plain, "inf") && !is_word(plain, "infinity") &&
        strspn(plain, "0123456789+-.eE") != n)
        return SL_TPL_NOT_A_NUMBER;
    *out = strtod(plain, &end);
    return *end == '\0' ? SL_TPL_PARSED : SL_TPL_NOT_A_NUMBER;
}

static sl_status too_large(sl_tpl_render *r)
{
    return sl_tpl_fail(r, "an integer is out of range");
}

/* A float cut to an integer; what is none is *fallback. */
static sl_status cut_float(sl_tpl_render *r, double f, sl_tpl_value fallback, sl_tpl_value *out)
{
    *out = fallback;
    if (isnan(f))
        return SL_OK;
    if (f >= 9223372036854775808.0 || f < -9223372036854775808.0)
        return too_large(r);
    *out = sl_tpl_int((int64_t)f);
    return SL_OK;
}

static sl_status filter_int(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    const sl_tpl_value fallback =
        call->arg[0].kind == SL_TPL_MISSING ? sl_tpl_int(0) : call->arg[0];
    sl_tpl_parsed parsed;
    int64_t base = 10, i;
    double f;

    if (call->arg[1].kind != SL_TPL_MISSING)
        SL_TPL_TRY(sl_tpl_want_int(r, call->arg[1], "the base of int", &base));
    if (base != 0 && (base < 2 || base > 36))
        base = 99; /* no text is a number in it */
    switch (call->self.kind) {
    case SL_TPL_UNDEFINED:
        return sl_tpl_fail_undefined(r, call->self);
    case SL_TPL_BOOL:
    case SL_TPL_INT:
        *out = sl_tpl_int(call->self.kind == SL_TPL_INT ? call->self.as.i : call->self.as.b);
        return SL_OK;
    case SL_TPL_FLOAT:
        return cut_float(r, call->self.as.f, fallback, out);
    case SL_TPL_STRING:
        break;
    default:
        *out = fallback;
        return SL_OK;
    }
    parsed = base == 99 ? SL_TPL_NOT_A_NUMBER
                        : sl_tpl_parse_int(call->self.as.str->data, call->self.as.str->len,
                                           (unsigned)base, &i);
    if (parsed == SL_TPL_TOO_LARGE)
        return too_large(r);
    *out = parsed == SL_TPL_PARSED ? sl_tpl_int(i) : fallback;
    if (parsed == SL_TPL_PARSED ||
        sl_tpl_parse_float(call->self.as.str->data, call->self.as.str->len, &f) != SL_TPL_PARSED ||
        isinf(f))
        return SL_OK;
    return cut_float(r, f, fallback, out);
}

static sl_status filter_float(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    const sl_tpl_value v = call->self;
    double f;

    *out = call->arg[0].kind == SL_TPL_MISSING ? sl_tpl_float(0) : call->arg[0];
    if (v.kind == SL_TPL_UNDEFINED)
        return sl_tpl_fail_undefined(r, v);
    if (v.kind == SL_TPL_FLOAT)
        *out = v;
    else if (v.kind == SL_TPL_INT || v.kind == SL_TPL_BOOL)
        *out = sl_tpl_float(v.kind == SL_TPL_INT ? (double)v.as.i : v.as.b);
    else if (v.kind == SL_TPL_STRING &&
             sl_tpl_parse_float(v.as.str->data, v.as.str->len, &f) == SL_TPL_PARSED)
        *out = sl_tpl_float(f);
    return SL_OK;
}

static sl_status filter_abs(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    const sl_tpl_value v = call->self;
    const bool negative =
        (v.kind == SL_TPL_INT && v.as.i < 0) || (v.kind == SL_TPL_FLOAT && signbit(v.as.f));

    return sl_tpl_negate(r, v, negative, out); /* fails where v is no number */
}

/* An integer rounded to a multiple of 10^digits, halves to even. */
static sl_status round_int(sl_tpl_render *r, int64_t value, int64_t digits, sl_tpl_value *out)
{
    int64_t unit = 1, rest, down;

    if (digits > 18) {
        *out = sl_tpl_int(0);
        return SL_OK;
    }
    for (int64_t i = 0; i < digits; i++)
        unit *= 10;
    rest = value % unit;
    if (rest < 0)
        rest += unit;
    if (__builtin_sub_overflow(value, rest, &down))
        return too_large(r);
    if (rest > unit - rest || (rest == unit - rest && down / unit % 2 != 0))
        if (__builtin_add_overflow(down, unit, &down))
            return too_large(r);
    *out = sl_tpl_int(down);
    return SL_OK;
}

/* As Python's round(): the decimal digits are exact, halves go to even. */
static double round_float(double f, int64_t digits)
{
    char text[512];

    if (digits > 22 || !isfinite(f))
        return f;
    if (digits < 0) {
        const double unit = pow(10.0, (double)-digits);

        return isinf(unit) ? 0.0 : nearbyint(f / unit) * unit;
    }
    snprintf(text, sizeof(text), "%.*f", (int)digits, f);
    return strtod(text, NULL);
}

static sl_status filter_round(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    const sl_tpl_str *method = NULL;
    const sl_tpl_value v = call->self;
    int64_t digits = 0;
    double scaled, unit;

    if (call->arg[0].kind != SL_TPL_MISSING)
        SL_TPL_TRY(sl_tpl_want_int(r, call->arg[0], "the precision of round", &digits));
    if (call->arg[1].kind != SL_TPL_MISSING)
        SL_TPL_TRY(sl_tpl_want_str(r, call->arg[1], "the method of round", &method));
    if (v.kind == SL_TPL_UNDEFINED)
        return sl_tpl_fail_undefined(r, v);
    if (!sl_tpl_is_number(v))
        return sl_tpl_fail(r, "%s cannot be rounded", sl_tpl_type_name(v));
    if (method == NULL || sl_tpl_str_is(method, "common")) {
        if (v.kind != SL_TPL_FLOAT)
            return round_int(r, v.kind == SL_TPL_INT ? v.as.i : v.as.b, digits < 0 ? -digits : 0,
                             out);
        *out = sl_tpl_float(round_float(v.as.f, digits));
        return SL_OK;
    }
    if (!sl_tpl_str_is(method, "ceil") && !sl_tpl_str_is(method, "floor"))
        return sl_tpl_fail(r, "the method of round must be common, ceil or floor");
    unit = pow(10.0, (double)digits);
    scaled = (v.kind == SL_TPL_FLOAT ? v.as.f : v.kind == SL_TPL_INT ? (double)v.as.i : v.as.b);
    scaled = sl_tpl_str_is(method, "ceil") ? ceil(scaled * unit) : floor(scaled * unit);
    if (!isfinite(scaled) || unit == 0.0)
        return sl_tpl_fail(r, "a number is out of range");
    *out = sl_tpl_float(scaled / unit + 0.0); /* no -0.0: Python divides an integer */
    return SL_OK;
}

/* ---- Text ---- */

/* upper, lower ...: detail says which. */
static sl_status filter_case(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    const sl_tpl_str *s;

    SL_TPL_TRY(sl_tpl_to_str(r, call->self, &s));
    return sl_tpl_recase(r, s, (sl_tpl_case)call->builtin->detail, out);
}

static sl_status filter_string(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    const sl_tpl_str *s;

    SL_TPL_TRY(sl_tpl_to_str(r, call->self, &s));
    *out = sl_tpl_of_str(s);
    return SL_OK;
}

static sl_status filter_trim(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    const sl_tpl_str *s;

    SL_TPL_TRY(sl_tpl_to_str(r, call->self, &s));
    return sl_tpl_strip(r, s, call->arg[0], true, true, out);
}

static sl_status filter_replace(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    const sl_tpl_str *s, *with[2];
    int64_t count = -1;

    SL_TPL_TRY(sl_tpl_to_str(r, call->self, &s));
    SL_TPL_TRY(sl_tpl_to_str(r, call->arg[0], &with[0]));
    SL_TPL_TRY(sl_tpl_to_str(r, call->arg[1], &with[1]));
    if (call->arg[2].kind != SL_TPL_MISSING && call->arg[2].kind != SL_TPL_NONE)
        SL_TPL_TRY(sl_tpl_want_int(r, call->arg[2], "the count of replace", &count));
    return sl_tpl_replace(r, s, with, count, out);
}

static sl_status filter_escape(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    static const char special[] = "&<>'\"";
    static const char *const entity[] = {"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
    sl_tpl_text t = {0};
    const sl_tpl_str *s;
    size_t plain = 0;

    SL_TPL_TRY(sl_tpl_to_str(r, call->self, &s));
    for (size_t i = 0; i < s->len; i++) {
        const char *found = s->data[i] != '\0' ? strchr(special, s->data[i]) : NULL;
        bool user;

        if (found == NULL)
            continue;
        SL_TPL_TRY(sl_tpl_text_add_sub(r, &t, s, plain, i));
        (void)sl_tpl_str_run(s, i, &user);
        SL_TPL_TRY(
            sl_tpl_text_add(r, &t, entity[found - special], strlen(entity[found - special]), user));
        plain = i + 1;
    }
    SL_TPL_TRY(sl_tpl_text_add_sub(r, &t, s, plain, s->len));
    return sl_tpl_text_done(r, &t, false, out);
}

/* The indentation: a text, or so many blanks. */
static sl_status read_indent(sl_tpl_render *r, sl_tpl_value v, const sl_tpl_str **out)
{
    sl_tpl_value text;
    char blanks[256];
    int64_t width = 4;

    if (v.kind == SL_TPL_STRING) {
        *out = v.as.str;
        return SL_OK;
    }
    if (v.kind != SL_TPL_MISSING)
        SL_TPL_TRY(sl_tpl_want_int(r, v, "the width of indent", &width));
    if (width > (int64_t)sizeof(blanks))
        return sl_tpl_fail(r, "the width of indent is more than %zu", sizeof(blanks));
    memset(blanks, ' ', sizeof(blanks));
    SL_TPL_TRY(sl_tpl_str_new(r, blanks, width > 0 ? (size_t)width : 0, false, &text));
    *out = text.as.str;
    return SL_OK;
}

static sl_status filter_indent(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    const bool first = sl_tpl_truth(call->arg[1]), blank = sl_tpl_truth(call->arg[2]);
    const sl_tpl_str *s, *indent = NULL;
    sl_tpl_text t = {0};
    sl_tpl_value newline, joined;
    sl_tpl_seq *lines;

    SL_TPL_TRY(sl_tpl_want_str(r, call->self, "what indent takes", &s));
    SL_TPL_TRY(read_indent(r, call->arg[0], &indent));
    SL_TPL_TRY(sl_tpl_str_new(r, "\n", 1, false, &newline));
    SL_TPL_TRY(sl_tpl_str_concat(r, s, newline.as.str, &joined));
    SL_TPL_TRY(sl_tpl_splitlines(r, joined.as.str, &lines));
    for (size_t i = 0; i < lines->count; i++) {
        const sl_tpl_str *line = lines->item[i].as.str;

        if (i > 0)
            SL_TPL_TRY(sl_tpl_text_add(r, &t, "\n", 1, false));
        if (i == 0 ? first : blank || line->len > 0)
            SL_TPL_TRY(sl_tpl_text_add_str(r, &t, indent));
        SL_TPL_TRY(sl_tpl_text_add_str(r, &t, line));
    }
    return sl_tpl_text_done(r, &t, false, out);
}

/* s cut to `length` characters with `end` behind, at a blank if there is one. */
static sl_status filter_truncate(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    int64_t length = 255, leeway = 5;
    sl_tpl_value head, end = call->arg[2];
    const sl_tpl_str *s;
    size_t cut;

    SL_TPL_TRY(sl_tpl_want_str(r, call->self, "what truncate takes", &s));
    if (call->arg[0].kind != SL_TPL_MISSING)
        SL_TPL_TRY(sl_tpl_want_int(r, call->arg[0], "the length of truncate", &length));
    if (call->arg[3].kind != SL_TPL_MISSING && call->arg[3].kind != SL_TPL_NONE)
        SL_TPL_TRY(sl_tpl_want_int(r, call->arg[3], "the leeway of truncate", &leeway));
    if (end.kind == SL_TPL_MISSING)
        SL_TPL_TRY(sl_tpl_str_new(r, "...", 3, false, &end));
    if (end.kind != SL_TPL_STRING)
        return sl_tpl_fail(r, "the end of truncate must be a string");
    if (length < (int64_t)end.as.str->chars || leeway < 0)
        return sl_tpl_fail(r, "the length of truncate is too small");
    *out = call->self;
    if ((int64_t)s->chars - length <= leeway)
        return SL_OK;
    cut = sl_tpl_str_at(s, (size_t)length - end.as.str->chars);
    if (!sl_tpl_truth(call->arg[1])) {
        const char *blank = memrchr(s->data, ' ', cut);

        cut = blank != NULL ? (size_t)(blank - s->data) : cut;
    }
    SL_TPL_TRY(sl_tpl_str_sub(r, s, 0, cut, &head));
    return sl_tpl_str_concat(r, head.as.str, end.as.str, out);
}

/* value % args, or value % kwargs */
static sl_status filter_format(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    const sl_tpl_args *raw = call->raw;
    const sl_tpl_str *s;
    sl_tpl_seq *tuple;
    sl_tpl_dict *dict;

    SL_TPL_TRY(sl_tpl_to_str(r, call->self, &s));
    if (raw->pos_count > 0 && raw->key_count > 0)
        return sl_tpl_fail(r, "format takes positional or keyword arguments, not both");
    if (raw->key_count == 0) {
        SL_TPL_TRY(sl_tpl_seq_new(r, SL_TPL_TUPLE, raw->pos_count, &tuple));
        for (size_t i = 0; i < raw->pos_count; i++)
            tuple->item[tuple->count++] = raw->pos[i];
        return sl_tpl_percent(r, s, sl_tpl_of_seq(tuple), out);
    }
    SL_TPL_TRY(sl_tpl_dict_new(r, &dict));
    for (size_t i = 0; i < raw->key_count; i++)
        SL_TPL_TRY(sl_tpl_dict_push(r, dict, sl_tpl_of_str(raw->key[i]), raw->keyed[i]));
    return sl_tpl_percent(r, s, (sl_tpl_value){.kind = SL_TPL_DICT, .as.dict = dict}, out);
}

/* No filter of jinja2 itself; templates that need it come with servers that have it.  All strings
 * of a text that holds a byte of the user's are the user's. */
static sl_status filter_from_json(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    const sl_tpl_str *s;

    SL_TPL_TRY(sl_tpl_want_str(r, call->self, "what from_json takes", &s));
    return sl_tpl_json_parse(r, s->data, s->len, sl_tpl_str_has_user(s), "from_json", out);
}

const sl_tpl_builtin sl_tpl_text_filters[] = {
    {"upper", filter_case, "", 0, SL_TPL_CASE_UPPER},
    {"lower", filter_case, "", 0, SL_TPL_CASE_LOWER},
    {"capitalize", filter_case, "", 0, SL_TPL_CASE_CAPITALIZE},
    {"title", filter_case, "", 0, SL_TPL_CASE_TITLE_FILTER},
    {"string", filter_string, "", 0, 0},
    {"safe", filter_string, "", 0, 0}, /* autoescape is off */
    {"trim", filter_trim, "chars", 0, 0},
    {"replace", filter_replace, "old,new,count", 2, 0},
    {"escape", filter_escape, "", 0, 0},
    {"e", filter_escape, "", 0, 0},
    {"indent", filter_indent, "width,first,blank", 0, 0},
    {"truncate", filter_truncate, "length,killwords,end,leeway", 0, 0},
    {"format", filter_format, "*", 0, 0},
    {"split", sl_tpl_split, "sep,maxsplit", 0, 0},
    {"from_json", filter_from_json, "", 0, 0},
    {"tojson", sl_tpl_filter_tojson, "ensure_ascii,indent,separators,sort_keys", 0, 0},
    {"int", filter_int, "default,base", 0, 0},
    {"float", filter_float, "default", 0, 0},
    {"abs", filter_abs, "", 0, 0},
    {"round", filter_round, "precision,method", 0, 0},
    {NULL, NULL, NULL, 0, 0},
};
