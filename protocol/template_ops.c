/* protocol/template_ops.c - arithmetic, subscripts and slices, as Python has them. */
#include "protocol/template_internal.h"

#include <math.h>
#include <string.h>

/* ---- Arithmetic ---- */

static const char *const op_text[] = {"+", "-", "*", "/", "//", "%", "**"};

static sl_status bad_operands(sl_tpl_render *r, sl_tpl_op op, sl_tpl_value a, sl_tpl_value b)
{
    if (a.kind == SL_TPL_UNDEFINED)
        return sl_tpl_fail_undefined(r, a);
    if (b.kind == SL_TPL_UNDEFINED)
        return sl_tpl_fail_undefined(r, b);
    return sl_tpl_fail(r, "'%s' does not take %s and %s", op_text[op], sl_tpl_type_name(a),
                       sl_tpl_type_name(b));
}

static double float_of(sl_tpl_value v)
{
    return v.kind == SL_TPL_FLOAT ? v.as.f : v.kind == SL_TPL_INT ? (double)v.as.i : v.as.b;
}

static int64_t int_of(sl_tpl_value v)
{
    return v.kind == SL_TPL_INT ? v.as.i : v.as.b;
}

static sl_status power_int(sl_tpl_render *r, int64_t base, int64_t exponent, sl_tpl_value *out)
{
    int64_t result = 1;

    while (exponent > 0) {
        if ((exponent & 1) != 0 && __builtin_mul_overflow(result, base, &result))
            return sl_tpl_fail(r, "an integer is out of range");
        exponent >>= 1;
        if (exponent > 0 && __builtin_mul_overflow(base, base, &base))
            return sl_tpl_fail(r, "an integer is out of range");
    }
    *out = sl_tpl_int(result);
    return SL_OK;
}

static sl_status power_float(sl_tpl_render *r, double a, double b, sl_tpl_value *out)
{
    const double result = pow(a, b);

    if (a == 0.0 && b < 0.0)
        return sl_tpl_fail(r, "zero to a negative power");
    if (isnan(result) && !isnan(a) && !isnan(b))
        return sl_tpl_fail(r, "a negative number to a fractional power");
    if (isinf(result) && !isinf(a) && !isinf(b))
        return sl_tpl_fail(r, "a power is out of range");
    *out = sl_tpl_float(result);
    return SL_OK;
}

static sl_status arith_int(sl_tpl_render *r, sl_tpl_op op, int64_t a, int64_t b, sl_tpl_value *out)
{
    int64_t result = 0;
    bool overflow = false;

    switch (op) {
    case SL_TPL_OP_ADD:
        overflow = __builtin_add_overflow(a, b, &result);
        break;
    case SL_TPL_OP_SUB:
        overflow = __builtin_sub_overflow(a, b, &result);
        break;
    case SL_TPL_OP_MUL:
        overflow = __builtin_mul_overflow(a, b, &result);
        break;
    case SL_TPL_OP_POW:
        return b < 0 ? power_float(r, (double)a, (double)b, out) : power_int(r, a, b, out);
    default: /* / // % */
        if (b == 0)
            return sl_tpl_fail(r, "division by zero");
        if (op == SL_TPL_OP_DIV) {
            *out = sl_tpl_float((double)((long double)a / (long double)b));
            return SL_OK;
        }
        overflow = a == INT64_MIN && b == -1;
        if (overflow && op == SL_TPL_OP_MOD) {
            *out = sl_tpl_int(0);
            return SL_OK;
        }
        if (!overflow) { /* towards minus infinity; the remainder has the sign of b */
            const int64_t rest = a % b;
            const bool adjust = rest != 0 && (rest < 0) != (b < 0);

            result = op == SL_TPL_OP_MOD ? rest + (adjust ? b : 0) : a / b - adjust;
        }
    }
    if (overflow)
        return sl_tpl_fail(r, "an integer is out of range");
    *out = sl_tpl_int(result);
    return SL_OK;
}

static sl_status arith_float(sl_tpl_render *r, sl_tpl_op op, double a, double b, sl_tpl_value *out)
{
    double rest;

    if (op >= SL_TPL_OP_DIV && op <= SL_TPL_OP_MOD && b == 0.0)
        return sl_tpl_fail(r, "division by zero");
    switch (op) {
    case SL_TPL_OP_ADD:
        *out = sl_tpl_float(a + b);
        return SL_OK;
    case SL_TPL_OP_SUB:
        *out = sl_tpl_float(a - b);
        return SL_OK;
    case SL_TPL_OP_MUL:
        *out = sl_tpl_float(a * b);
        return SL_OK;
    case SL_TPL_OP_DIV:
        *out = sl_tpl_float(a / b);
        return SL_OK;
    case SL_TPL_OP_POW:
        return power_float(r, a, b, out);
    default:
        break;
    }
    rest = fmod(a, b);
    if (rest != 0.0 && (rest < 0) != (b < 0))
        rest += b;
    else if (rest == 0.0)
        rest = copysign(0.0, b);
    *out = sl_tpl_float(op == SL_TPL_OP_MOD ? rest : nearbyint((a - rest) / b));
    return SL_OK;
}

static sl_status repeat(sl_tpl_render *r, sl_tpl_value what, int64_t times, sl_tpl_value *out)
{
    const bool is_string = what.kind == SL_TPL_STRING;
    const size_t bytes = is_string ? what.as.str->len : what.as.seq->count * sizeof(what);
    sl_tpl_text t = {0};
    sl_tpl_seq *seq;

    if (times < 0 || bytes == 0)
        times = 0;
    if (bytes > 0 && (uint64_t)times > SL_TEMPLATE_MEMORY_MAX / bytes)
        return sl_tpl_fail(r, "a repetition is too long");
    if (is_string) {
        for (int64_t i = 0; i < times; i++)
            SL_TPL_TRY(sl_tpl_text_add_str(r, &t, what.as.str));
        return sl_tpl_text_done(r, &t, false, out);
    }
    SL_TPL_TRY(sl_tpl_seq_new(r, what.as.seq->form, what.as.seq->count * (size_t)times, &seq));
    for (int64_t i = 0; i < times; i++)
        for (size_t k = 0; k < what.as.seq->count; k++)
            seq->item[seq->count++] = what.as.seq->item[k];
    *out = sl_tpl_of_seq(seq);
    return SL_OK;
}

static bool is_list(sl_tpl_value v)
{
    return v.kind == SL_TPL_SEQ && v.as.seq->form <= SL_TPL_TUPLE;
}

static sl_status join_lists(sl_tpl_render *r, const sl_tpl_seq *a, const sl_tpl_seq *b,
                            sl_tpl_value *out)
{
    sl_tpl_seq *seq;

    SL_TPL_TRY(sl_tpl_step(r, (a->count + b->count) / 16));
    SL_TPL_TRY(sl_tpl_seq_new(r, a->form, a->count + b->count + 1, &seq));
    for (size_t i = 0; i < a->count; i++)
        seq->item[i] = a->item[i];
    for (size_t i = 0; i < b->count; i++)
        seq->item[a->count + i] = b->item[i];
    seq->count = a->count + b->count;
    *out = sl_tpl_of_seq(seq);
    return SL_OK;
}

sl_status sl_tpl_arith(sl_tpl_render *r, sl_tpl_op op, sl_tpl_value a, sl_tpl_value b,
                       sl_tpl_value *out)
{
    const bool a_whole = a.kind == SL_TPL_INT || a.kind == SL_TPL_BOOL;
    const bool b_whole = b.kind == SL_TPL_INT || b.kind == SL_TPL_BOOL;

    if (a_whole && b_whole)
        return arith_int(r, op, int_of(a), int_of(b), out);
    if (sl_tpl_is_number(a) && sl_tpl_is_number(b))
        return arith_float(r, op, float_of(a), float_of(b), out);
    if (op == SL_TPL_OP_ADD && a.kind == SL_TPL_STRING && b.kind == SL_TPL_STRING)
        return sl_tpl_str_concat(r, a.as.str, b.as.str, out);
    if (op == SL_TPL_OP_ADD && is_list(a) && is_list(b) && a.as.seq->form == b.as.seq->form)
        return join_lists(r, a.as.seq, b.as.seq, out);
    if (op == SL_TPL_OP_MUL && (a.kind == SL_TPL_STRING || is_list(a)) && b_whole)
        return repeat(r, a, int_of(b), out);
    if (op == SL_TPL_OP_MUL && (b.kind == SL_TPL_STRING || is_list(b)) && a_whole)
        return repeat(r, b, int_of(a), out);
    if (op == SL_TPL_OP_MOD && a.kind == SL_TPL_STRING)
        return sl_tpl_percent(r, a.as.str, b, out);
    return bad_operands(r, op, a, b);
}

sl_status sl_tpl_negate(sl_tpl_render *r, sl_tpl_value v, bool minus, sl_tpl_value *out)
{
    if (v.kind == SL_TPL_UNDEFINED)
        return sl_tpl_fail_undefined(r, v);
    if (!sl_tpl_is_number(v))
        return sl_tpl_fail(r, "a sign before %s", sl_tpl_type_name(v));
    if (v.kind == SL_TPL_FLOAT) {
        *out = sl_tpl_float(minus ? -v.as.f : v.as.f);
        return SL_OK;
    }
    return arith_int(r, minus ? SL_TPL_OP_SUB : SL_TPL_OP_ADD, 0, int_of(v), out);
}

/* ---- Attributes and items ---- */

static sl_tpl_value missing(const sl_tpl_str *name)
{
    return (sl_tpl_value){.kind = SL_TPL_UNDEFINED, .why = SL_TPL_WHY_ATTR, .as.str = name};
}

/* Python's attributes alone: methods, and the members of namespaces, loops and macros. */
static sl_status own_attr(sl_tpl_render *r, sl_tpl_value v, const sl_tpl_str *name,
                          sl_tpl_value *out, bool *found)
{
    const sl_tpl_builtin *method;
    sl_tpl_method *bound;
    sl_tpl_entry *entry;

    *found = true;
    if (v.kind == SL_TPL_NAMESPACE) {
        SL_TPL_TRY(sl_tpl_dict_find(r, v.as.dict, sl_tpl_of_str(name), &entry));
        *found = entry != NULL;
        if (*found)
            *out = entry->value;
        return SL_OK;
    }
    if (v.kind == SL_TPL_LOOP)
        return sl_tpl_loop_attr(r, v.as.loop, name, out, found);
    method = sl_tpl_find_method(v, name);
    *found = method != NULL;
    if (method == NULL)
        return SL_OK;
    bound = sl_tpl_alloc(r, 1, sizeof(*bound));
    if (bound == NULL)
        return r->status;
    bound->self = v;
    bound->builtin = method;
    *out = (sl_tpl_value){.kind = SL_TPL_METHOD, .as.method = bound};
    return SL_OK;
}

/* v[key] where there is such an item. */
static sl_status own_item(sl_tpl_render *r, sl_tpl_value v, sl_tpl_value key, sl_tpl_value *out,
                          bool *found)
{
    const bool whole = key.kind == SL_TPL_INT || key.kind == SL_TPL_BOOL;
    sl_tpl_entry *entry;
    int64_t index, count;

    *found = false;
    if (v.kind == SL_TPL_DICT) {
        if (!sl_tpl_hashable(key))
            return SL_OK;
        SL_TPL_TRY(sl_tpl_dict_find(r, v.as.dict, key, &entry));
        *found = entry != NULL;
        if (*found)
            *out = entry->value;
        return SL_OK;
    }
    if (!whole ||
        (v.kind != SL_TPL_STRING && (v.kind != SL_TPL_SEQ || v.as.seq->form >= SL_TPL_GENERATOR)))
        return SL_OK;
    index = int_of(key);
    count = (int64_t)(v.kind == SL_TPL_STRING ? v.as.str->chars : v.as.seq->count);
    if (index < 0)
        index += count;
    *found = index >= 0 && index < count;
    if (!*found)
        return SL_OK;
    if (v.kind == SL_TPL_SEQ) {
        *out = v.as.seq->item[index];
        return SL_OK;
    }
    {
        const size_t from = sl_tpl_str_at(v.as.str, (size_t)index);
        const size_t width = sl_tpl_str_at(v.as.str, (size_t)index + 1) - from;

        if (v.as.str->chars != v.as.str->len)
            SL_TPL_TRY(sl_tpl_step_bytes(r, from));
        return sl_tpl_str_sub(r, v.as.str, from, from + width, out);
    }
}

sl_status sl_tpl_get_attr(sl_tpl_render *r, sl_tpl_value v, const sl_tpl_str *name,
                          sl_tpl_value *out)
{
    bool found;

    if (v.kind == SL_TPL_UNDEFINED)
        return sl_tpl_fail_undefined(r, v);
    SL_TPL_TRY(own_attr(r, v, name, out, &found));
    if (!found)
        SL_TPL_TRY(own_item(r, v, sl_tpl_of_str(name), out, &found));
    if (!found)
        *out = missing(name);
    return SL_OK;
}

sl_status sl_tpl_get_item(sl_tpl_render *r, sl_tpl_value v, sl_tpl_value key, sl_tpl_value *out)
{
    bool found;

    if (v.kind == SL_TPL_UNDEFINED)
        return sl_tpl_fail_undefined(r, v);
    SL_TPL_TRY(own_item(r, v, key, out, &found));
    if (!found && key.kind == SL_TPL_STRING) {
        SL_TPL_TRY(own_attr(r, v, key.as.str, out, &found));
        if (!found)
            *out = missing(key.as.str);
    } else if (!found) {
        *out = sl_tpl_undefined("there is no such element");
    }
    return SL_OK;
}

static bool all_digits(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (text[i] < '0' || text[i] > '9')
            return false;
    return len > 0;
}

static sl_status get_part(sl_tpl_render *r, sl_tpl_value part, const sl_tpl_value *otherwise,
                          sl_tpl_value *v)
{
    SL_TPL_TRY(sl_tpl_get_item(r, *v, part, v));
    if (v->kind == SL_TPL_UNDEFINED && otherwise != NULL)
        *v = *otherwise;
    return SL_OK;
}

sl_status sl_tpl_get_path(sl_tpl_render *r, sl_tpl_value v, sl_tpl_value path,
                          const sl_tpl_value *otherwise, sl_tpl_value *out)
{
    const sl_tpl_str *s = path.as.str;

    *out = v;
    if (path.kind == SL_TPL_NONE || path.kind == SL_TPL_MISSING)
        return SL_OK;
    if (path.kind != SL_TPL_STRING)
        return get_part(r, path, otherwise, out);
    for (size_t from = 0; from <= s->len;) {
        const char *dot = memchr(s->data + from, '.', s->len - from);
        const size_t to = dot != NULL ? (size_t)(dot - s->data) : s->len;
        sl_tpl_value part;
        int64_t index;

        SL_TPL_TRY(sl_tpl_str_sub(r, s, from, to, &part));
        if (all_digits(s->data + from, to - from) &&
            sl_tpl_parse_int(s->data + from, to - from, 10, &index) == SL_TPL_PARSED)
            part = sl_tpl_int(index);
        SL_TPL_TRY(get_part(r, part, otherwise, out));
        from = to + 1;
    }
    return SL_OK;
}

/* ---- Slices ---- */

static sl_status read_bound(sl_tpl_render *r, sl_tpl_value v, int64_t otherwise, int64_t *out)
{
    if (v.kind == SL_TPL_NONE || v.kind == SL_TPL_MISSING) {
        *out = otherwise;
        return SL_OK;
    }
    return sl_tpl_want_int(r, v, "a bound of a slice", out);
}

/* Python's rules: negative bounds count from the end; all is clamped to what is there. */
static int64_t clamp(int64_t bound, int64_t count, int64_t low, int64_t high)
{
    if (bound < 0)
        bound += count;
    return bound < low ? low : bound > high ? high : bound;
}

typedef struct slice_range {
    int64_t start, stop, step, count;
} slice_range;

static sl_status resolve(sl_tpl_render *r, const sl_tpl_value bound[3], int64_t length,
                         slice_range *s)
{
    SL_TPL_TRY(read_bound(r, bound[2], 1, &s->step));
    if (s->step == 0)
        return sl_tpl_fail(r, "the step of a slice is zero");
    if (s->step > 0) {
        SL_TPL_TRY(read_bound(r, bound[0], 0, &s->start));
        SL_TPL_TRY(read_bound(r, bound[1], length, &s->stop));
        s->start = clamp(s->start, length, 0, length);
        s->stop = clamp(s->stop, length, 0, length);
        s->count = s->stop > s->start ? (s->stop - s->start - 1) / s->step + 1 : 0;
        return SL_OK;
    }
    /* Backwards, -1 is "before the first" once resolved: -length - 1 gives it. */
    SL_TPL_TRY(read_bound(r, bound[0], length - 1, &s->start));
    SL_TPL_TRY(read_bound(r, bound[1], -length - 1, &s->stop));
    s->start = clamp(s->start, length, -1, length - 1);
    s->stop = clamp(s->stop, length, -1, length - 1);
    if (s->step < -length - 1)
        s->step = -length - 1; /* as good, and its negation cannot overflow */
    s->count = s->start > s->stop ? (s->start - s->stop - 1) / -s->step + 1 : 0;
    return SL_OK;
}

static sl_status slice_string(sl_tpl_render *r, const sl_tpl_str *str, const slice_range *s,
                              sl_tpl_value *out)
{
    const sl_tpl_value *c;
    sl_tpl_text t = {0};
    size_t count;

    if (s->step == 1 && s->count > 0) {
        const size_t from = sl_tpl_str_at(str, (size_t)s->start);
        const size_t to = sl_tpl_str_at(str, (size_t)s->stop);

        if (str->chars != str->len)
            SL_TPL_TRY(sl_tpl_step_bytes(r, to));
        return sl_tpl_str_sub(r, str, from, to, out);
    }
    if (s->count > 0) {
        SL_TPL_TRY(sl_tpl_iterate(r, sl_tpl_of_str(str), &c, &count));
        for (int64_t i = 0, at = s->start; i < s->count; i++) {
            SL_TPL_TRY(sl_tpl_text_add_str(r, &t, c[at].as.str));
            if (i + 1 < s->count)
                at += s->step;
        }
    }
    return sl_tpl_text_done(r, &t, false, out);
}

sl_status sl_tpl_slice(sl_tpl_render *r, sl_tpl_value v, const sl_tpl_value bound[3],
                       sl_tpl_value *out)
{
    slice_range s;
    sl_tpl_seq *seq;

    if (v.kind == SL_TPL_UNDEFINED)
        return sl_tpl_fail_undefined(r, v);
    if (v.kind == SL_TPL_STRING) {
        SL_TPL_TRY(resolve(r, bound, (int64_t)v.as.str->chars, &s));
        return slice_string(r, v.as.str, &s, out);
    }
    if (v.kind != SL_TPL_SEQ || v.as.seq->form >= SL_TPL_GENERATOR)
        return sl_tpl_fail(r, "%s cannot be sliced", sl_tpl_type_name(v));
    SL_TPL_TRY(resolve(r, bound, (int64_t)v.as.seq->count, &s));
    SL_TPL_TRY(sl_tpl_step(r, (size_t)s.count / 16));
    SL_TPL_TRY(sl_tpl_seq_new(r, v.as.seq->form, (size_t)s.count, &seq));
    for (int64_t i = 0, at = s.start; i < s.count; i++) {
        seq->item[seq->count++] = v.as.seq->item[at];
        if (i + 1 < s.count)
            at += s.step;
    }
    *out = sl_tpl_of_seq(seq);
    return SL_OK;
}
