/* protocol/template_format.c - "..." % args, and "...".format(args). */
#include "protocol/template_internal.h"

#include <stdio.h>
#include <string.h>

enum { WIDTH_MAX = 200 }; /* of a number or text that is laid out */

/* ---- The % operator ---- */

typedef struct percent {
    const sl_tpl_str *s;
    size_t pos;
    sl_tpl_value args;
    size_t next; /* of the positional arguments */
    bool named;  /* %(name) was used */
} percent;

typedef struct layout {
    bool left, zeros, plus, blank;
    int width;
    int precision; /* -1: none */
    char kind;
} layout;

static bool is_tuple(sl_tpl_value v)
{
    return v.kind == SL_TPL_SEQ && v.as.seq->form == SL_TPL_TUPLE;
}

static sl_status next_arg(sl_tpl_render *r, percent *p, sl_tpl_value *out)
{
    const size_t have = is_tuple(p->args) ? p->args.as.seq->count : 1;

    if (p->next >= have)
        return sl_tpl_fail(r, "not enough arguments for the format string");
    *out = is_tuple(p->args) ? p->args.as.seq->item[p->next] : p->args;
    p->next++;
    return SL_OK;
}

/* The name in %(name)s: its value. */
static sl_status named_arg(sl_tpl_render *r, percent *p, sl_tpl_value *out)
{
    const char *from = p->s->data + p->pos;
    const char *close = memchr(from, ')', p->s->len - p->pos);
    sl_tpl_entry *entry;
    sl_tpl_value name;

    if (close == NULL || p->args.kind != SL_TPL_DICT)
        return sl_tpl_fail(r, "a named format needs its name and a dict");
    SL_TPL_TRY(sl_tpl_str_sub(r, p->s, p->pos, p->pos + (size_t)(close - from), &name));
    SL_TPL_TRY(sl_tpl_dict_find(r, p->args.as.dict, name, &entry));
    if (entry == NULL)
        return sl_tpl_fail(r, "a name of the format string is not given");
    p->pos += (size_t)(close - from) + 1;
    p->named = true;
    *out = entry->value;
    return SL_OK;
}

static char peek(const percent *p)
{
    return p->pos < p->s->len ? p->s->data[p->pos] : '\0';
}

static int read_number(percent *p)
{
    int n = 0;

    for (; peek(p) >= '0' && peek(p) <= '9'; p->pos++)
        n = n > WIDTH_MAX ? n : n * 10 + (peek(p) - '0');
    return n;
}

static sl_status read_layout(sl_tpl_render *r, percent *p, layout *l)
{
    *l = (layout){.precision = -1};
    for (;; p->pos++) {
        if (peek(p) == '-')
            l->left = true;
        else if (peek(p) == '0')
            l->zeros = true;
        else if (peek(p) == '+')
            l->plus = true;
        else if (peek(p) == ' ')
            l->blank = true;
        else
            break;
    }
    l->width = read_number(p);
    if (peek(p) == '.') {
        p->pos++;
        l->precision = read_number(p);
    }
    if (l->width > WIDTH_MAX || l->precision > WIDTH_MAX)
        return sl_tpl_fail(r, "a width in the format string is more than %d", WIDTH_MAX);
    l->kind = peek(p);
    p->pos++;
    if (l->kind == '\0' || strchr("sdiurfFeEgGxXo%", l->kind) == NULL)
        return sl_tpl_fail(r, "the format string has an unsupported conversion");
    return SL_OK;
}

static sl_status add_blanks(sl_tpl_render *r, sl_tpl_text *t, int count)
{
    for (int i = 0; i < count; i++)
        SL_TPL_TRY(sl_tpl_text_add(r, t, " ", 1, false));
    return SL_OK;
}

static sl_status add_padded(sl_tpl_render *r, sl_tpl_text *t, const sl_tpl_str *s, const layout *l)
{
    const int missing = s->chars < (size_t)l->width ? l->width - (int)s->chars : 0;

    if (!l->left)
        SL_TPL_TRY(add_blanks(r, t, missing));
    SL_TPL_TRY(sl_tpl_text_add_str(r, t, s));
    return l->left ? add_blanks(r, t, missing) : SL_OK;
}

static sl_status add_as_text(sl_tpl_render *r, sl_tpl_text *t, const layout *l, sl_tpl_value v)
{
    sl_tpl_text repr = {0};
    const sl_tpl_str *s;

    if (l->kind == 'r') {
        SL_TPL_TRY(sl_tpl_repr(r, &repr, v, 0));
        SL_TPL_TRY(sl_tpl_text_done(r, &repr, false, &v));
    }
    SL_TPL_TRY(sl_tpl_to_str(r, v, &s));
    if (l->precision >= 0 && (size_t)l->precision < s->chars) {
        SL_TPL_TRY(sl_tpl_str_sub(r, s, 0, sl_tpl_str_at(s, (size_t)l->precision), &v));
        s = v.as.str;
    }
    return add_padded(r, t, s, l);
}

/* Build the C format, which is the same for the kinds taken here, and print. */
static sl_status add_number(sl_tpl_render *r, sl_tpl_text *t, const layout *l, sl_tpl_value v)
{
    const bool as_int = strchr("diuxXo", l->kind) != NULL;
    char format[48], text[WIDTH_MAX * 2 + 400], precision[16] = "";
    const char sign = l->plus ? '+' : l->blank ? ' ' : '\0';
    int64_t whole = 0;
    double real = 0;
    int n;

    if (v.kind == SL_TPL_UNDEFINED)
        return sl_tpl_fail_undefined(r, v);
    if (!sl_tpl_is_number(v) || (v.kind == SL_TPL_FLOAT && strchr("xXo", l->kind) != NULL))
        return sl_tpl_fail(r, "%%%c takes a number, not %s", l->kind, sl_tpl_type_name(v));
    if (v.kind == SL_TPL_FLOAT) {
        real = v.as.f;
        if (as_int && !(real < 9.2e18 && real > -9.2e18))
            return sl_tpl_fail(r, "an integer is out of range");
        whole = as_int ? (int64_t)real : 0;
    } else {
        whole = v.kind == SL_TPL_INT ? v.as.i : v.as.b;
        real = (double)whole;
    }
    if (l->precision >= 0)
        snprintf(precision, sizeof(precision), ".%d", l->precision);
    snprintf(format, sizeof(format), "%%%s%s%.1s%d%s%s%c", l->left ? "-" : "", l->zeros ? "0" : "",
             sign != '\0' ? &sign : "", l->width, precision, as_int ? "ll" : "",
             l->kind == 'i' || l->kind == 'u' ? 'd' : l->kind);
    if (l->width == 0) /* "%0d" would be a flag */
        snprintf(format, sizeof(format), "%%%.1s%s%s%c", sign != '\0' ? &sign : "", precision,
                 as_int ? "ll" : "", l->kind == 'i' || l->kind == 'u' ? 'd' : l->kind);
    if (strchr("xXo", l->kind) != NULL && whole < 0)
        return sl_tpl_fail(r, "%%%c does not take negative numbers here", l->kind);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    n = as_int ? snprintf(text, sizeof(text), format, (long long)whole)
               : snprintf(text, sizeof(text), format, real);
#pragma GCC diagnostic pop
    if (n < 0 || (size_t)n >= sizeof(text))
        return sl_tpl_fail(r, "a number is too long");
    return sl_tpl_text_add(r, t, text, (size_t)n, false);
}

/* From behind the '%'. */
static sl_status convert(sl_tpl_render *r, percent *p, sl_tpl_text *t)
{
    sl_tpl_value v = {0};
    layout l;

    if (peek(p) == '(') {
        p->pos++;
        SL_TPL_TRY(named_arg(r, p, &v));
    }
    SL_TPL_TRY(read_layout(r, p, &l));
    if (l.kind == '%')
        return sl_tpl_text_add(r, t, "%", 1, false);
    if (v.kind == SL_TPL_MISSING)
        SL_TPL_TRY(next_arg(r, p, &v));
    return l.kind == 's' || l.kind == 'r' ? add_as_text(r, t, &l, v) : add_number(r, t, &l, v);
}

/* Are there arguments that were not used?  To Python, what has items by key or index may be left.
 */
static bool has_unused(const percent *p)
{
    if (is_tuple(p->args))
        return p->next < p->args.as.seq->count;
    if (p->args.kind == SL_TPL_SEQ)
        return p->args.as.seq->form >= SL_TPL_GENERATOR && p->next == 0;
    return p->args.kind != SL_TPL_DICT && p->args.kind != SL_TPL_UNDEFINED && p->next == 0;
}

sl_status sl_tpl_percent(sl_tpl_render *r, const sl_tpl_str *s, sl_tpl_value args,
                         sl_tpl_value *out)
{
    percent p = {.s = s, .args = args};
    sl_tpl_text t = {0};

    while (p.pos < s->len) {
        const char *found = memchr(s->data + p.pos, '%', s->len - p.pos);
        const size_t to = found != NULL ? (size_t)(found - s->data) : s->len;

        SL_TPL_TRY(sl_tpl_text_add_sub(r, &t, s, p.pos, to));
        p.pos = to;
        if (found == NULL)
            break;
        p.pos++;
        SL_TPL_TRY(convert(r, &p, &t));
    }
    if (has_unused(&p))
        return sl_tpl_fail(r, "not all arguments were used by the format string");
    return sl_tpl_text_done(r, &t, false, out);
}

/* ---- str.format: {}, {0} and {name}, without what may follow those ---- */

static sl_status field_value(sl_tpl_render *r, const sl_tpl_args *args, const sl_tpl_str *field,
                             size_t *next, sl_tpl_value *out)
{
    int64_t index = (int64_t)*next;

    for (size_t i = 0; i < args->key_count; i++)
        if (sl_tpl_str_equal(args->key[i], field)) {
            *out = args->keyed[i];
            return SL_OK;
        }
    if (field->len > 0 && sl_tpl_parse_int(field->data, field->len, 10, &index) != SL_TPL_PARSED)
        return sl_tpl_fail(r, "format: there is no such argument, or its form is not supported");
    if (field->len == 0)
        (*next)++;
    if (index < 0 || (uint64_t)index >= args->pos_count)
        return sl_tpl_fail(r, "format: there are too few arguments");
    *out = args->pos[index];
    return SL_OK;
}

sl_status sl_tpl_str_format(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    const sl_tpl_str *s = call->self.as.str, *text;
    sl_tpl_text t = {0};
    size_t next = 0;

    for (size_t i = 0; i < s->len; i++) {
        const char c = s->data[i];
        const char *close;
        sl_tpl_value field, v;

        if (c != '{' && c != '}') {
            SL_TPL_TRY(sl_tpl_text_add_sub(r, &t, s, i, i + 1));
            continue;
        }
        if (i + 1 < s->len && s->data[i + 1] == c) { /* doubled: itself */
            SL_TPL_TRY(sl_tpl_text_add_sub(r, &t, s, i, i + 1));
            i++;
            continue;
        }
        close = c == '{' ? memchr(s->data + i, '}', s->len - i) : NULL;
        if (close == NULL)
            return sl_tpl_fail(r, "format: a brace stands alone");
        SL_TPL_TRY(sl_tpl_str_sub(r, s, i + 1, (size_t)(close - s->data), &field));
        SL_TPL_TRY(field_value(r, call->raw, field.as.str, &next, &v));
        SL_TPL_TRY(sl_tpl_to_str(r, v, &text));
        SL_TPL_TRY(sl_tpl_text_add_str(r, &t, text));
        i = (size_t)(close - s->data);
    }
    return sl_tpl_text_done(r, &t, false, out);
}
