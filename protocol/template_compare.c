/* protocol/template_compare.c - equality, order, membership and sorting, as Python has them. */
#include "protocol/template_internal.h"

#include <string.h>

enum { UNORDERED = 2 };

static int sign(int64_t a, int64_t b)
{
    return a < b ? -1 : a > b;
}

static int64_t int_of(sl_tpl_value v)
{
    return v.kind == SL_TPL_BOOL ? v.as.b : v.as.i;
}

/* An integer against a float, exactly: a double has 53 bits, an int64 has 63. */
static int order_int_float(int64_t i, double f)
{
    int64_t whole;

    if (f != f)
        return UNORDERED;
    if (f >= 9223372036854775808.0)
        return -1;
    if (f < -9223372036854775808.0)
        return 1;
    whole = (int64_t)f; /* towards zero */
    if (i != whole)
        return sign(i, whole);
    return (double)whole < f ? -1 : (double)whole > f;
}

static int order_numbers(sl_tpl_value a, sl_tpl_value b)
{
    int c;

    if (a.kind == SL_TPL_FLOAT && b.kind == SL_TPL_FLOAT) {
        if (a.as.f != a.as.f || b.as.f != b.as.f)
            return UNORDERED;
        return a.as.f < b.as.f ? -1 : a.as.f > b.as.f;
    }
    if (b.kind == SL_TPL_FLOAT)
        return order_int_float(int_of(a), b.as.f);
    if (a.kind == SL_TPL_FLOAT) {
        c = order_int_float(int_of(b), a.as.f);
        return c == UNORDERED ? c : -c;
    }
    return sign(int_of(a), int_of(b));
}

static int order_strings(const sl_tpl_str *a, const sl_tpl_str *b)
{
    const size_t n = a->len < b->len ? a->len : b->len;
    const int c = memcmp(a->data, b->data, n); /* UTF-8 sorts as its code points do */

    return c != 0 ? sign(c, 0) : sign((int64_t)a->len, (int64_t)b->len);
}

static sl_status equal_at(sl_tpl_render *r, sl_tpl_value a, sl_tpl_value b, unsigned depth,
                          bool *out);

static sl_status equal_seqs(sl_tpl_render *r, const sl_tpl_seq *a, const sl_tpl_seq *b,
                            unsigned depth, bool *out)
{
    *out = a == b;
    if (a == b || a->form != b->form || a->count != b->count || a->form > SL_TPL_RANGE)
        return SL_OK;
    SL_TPL_TRY(sl_tpl_step(r, a->count / 16));
    *out = true;
    for (size_t i = 0; i < a->count && *out; i++)
        SL_TPL_TRY(equal_at(r, a->item[i], b->item[i], depth + 1, out));
    return SL_OK;
}

static sl_status equal_dicts(sl_tpl_render *r, const sl_tpl_dict *a, const sl_tpl_dict *b,
                             unsigned depth, bool *out)
{
    *out = a->count == b->count;
    for (size_t i = 0; a != b && i < a->count && *out; i++) {
        sl_tpl_entry *other;

        SL_TPL_TRY(sl_tpl_dict_find(r, b, a->entry[i].key, &other));
        *out = other != NULL;
        if (*out)
            SL_TPL_TRY(equal_at(r, a->entry[i].value, other->value, depth + 1, out));
    }
    return SL_OK;
}

static sl_status equal_at(sl_tpl_render *r, sl_tpl_value a, sl_tpl_value b, unsigned depth,
                          bool *out)
{
    if (depth > SL_TPL_VALUE_DEPTH_MAX)
        return sl_tpl_fail(r, "values are nested too deeply to compare");
    if (sl_tpl_is_number(a) && sl_tpl_is_number(b)) {
        *out = order_numbers(a, b) == 0;
        return SL_OK;
    }
    *out = false;
    if (a.kind != b.kind)
        return SL_OK;
    switch (a.kind) {
    case SL_TPL_STRING:
        *out = sl_tpl_str_equal(a.as.str, b.as.str);
        return sl_tpl_step_bytes(r, a.as.str->len);
    case SL_TPL_SEQ:
        SL_TPL_TRY(sl_tpl_step(r, 1));
        return equal_seqs(r, a.as.seq, b.as.seq, depth, out);
    case SL_TPL_DICT:
        SL_TPL_TRY(sl_tpl_step(r, 1));
        return equal_dicts(r, a.as.dict, b.as.dict, depth, out);
    default:
        *out = sl_tpl_same(a, b);
        return SL_OK;
    }
}

sl_status sl_tpl_equal(sl_tpl_render *r, sl_tpl_value a, sl_tpl_value b, bool *out)
{
    return equal_at(r, a, b, 0, out);
}

bool sl_tpl_same(sl_tpl_value a, sl_tpl_value b)
{
    if (a.kind != b.kind)
        return false;
    switch (a.kind) {
    case SL_TPL_BOOL:
        return a.as.b == b.as.b;
    case SL_TPL_INT:
        return a.as.i == b.as.i;
    case SL_TPL_FLOAT:
        return a.as.f == b.as.f;
    case SL_TPL_STRING:
        return sl_tpl_str_equal(a.as.str, b.as.str);
    case SL_TPL_SEQ:
        return a.as.seq == b.as.seq;
    case SL_TPL_DICT:
    case SL_TPL_NAMESPACE:
        return a.as.dict == b.as.dict;
    case SL_TPL_MACRO:
        return a.as.macro == b.as.macro;
    case SL_TPL_LOOP:
        return a.as.loop == b.as.loop;
    case SL_TPL_METHOD:
        return a.as.method == b.as.method;
    case SL_TPL_FUNCTION:
        return a.as.function == b.as.function;
    default: /* undefined, none */
        return true;
    }
}

bool sl_tpl_hashable(sl_tpl_value v)
{
    if (v.kind == SL_TPL_DICT)
        return false;
    if (v.kind != SL_TPL_SEQ)
        return true;
    if (v.as.seq->form == SL_TPL_TUPLE) {
        /* Only literals nest tuples, and those are bounded; a tuple in a tuple in a list is not
         * reached. */
        for (size_t i = 0; i < v.as.seq->count; i++)
            if (v.as.seq->item[i].kind == SL_TPL_SEQ || v.as.seq->item[i].kind == SL_TPL_DICT)
                return false;
        return true;
    }
    return v.as.seq->form == SL_TPL_RANGE || v.as.seq->form == SL_TPL_GENERATOR;
}

static sl_status order_at(sl_tpl_render *r, sl_tpl_value a, sl_tpl_value b, unsigned depth,
                          int *out);

static sl_status order_seqs(sl_tpl_render *r, const sl_tpl_seq *a, const sl_tpl_seq *b,
                            unsigned depth, int *out)
{
    const size_t n = a->count < b->count ? a->count : b->count;

    SL_TPL_TRY(sl_tpl_step(r, 1 + n / 16));
    for (size_t i = 0; i < n; i++) {
        bool equal;

        SL_TPL_TRY(equal_at(r, a->item[i], b->item[i], depth + 1, &equal));
        if (!equal)
            return order_at(r, a->item[i], b->item[i], depth + 1, out);
    }
    *out = sign((int64_t)a->count, (int64_t)b->count);
    return SL_OK;
}

static sl_status order_at(sl_tpl_render *r, sl_tpl_value a, sl_tpl_value b, unsigned depth,
                          int *out)
{
    if (depth > SL_TPL_VALUE_DEPTH_MAX)
        return sl_tpl_fail(r, "values are nested too deeply to compare");
    if (a.kind == SL_TPL_UNDEFINED)
        return sl_tpl_fail_undefined(r, a);
    if (b.kind == SL_TPL_UNDEFINED)
        return sl_tpl_fail_undefined(r, b);
    if (sl_tpl_is_number(a) && sl_tpl_is_number(b)) {
        *out = order_numbers(a, b);
        return SL_OK;
    }
    if (a.kind == SL_TPL_STRING && b.kind == SL_TPL_STRING) {
        *out = order_strings(a.as.str, b.as.str);
        return sl_tpl_step_bytes(r, a.as.str->len);
    }
    if (a.kind == SL_TPL_SEQ && b.kind == SL_TPL_SEQ && a.as.seq->form == b.as.seq->form &&
        a.as.seq->form <= SL_TPL_TUPLE)
        return order_seqs(r, a.as.seq, b.as.seq, depth, out);
    return sl_tpl_fail(r, "%s and %s cannot be ordered", sl_tpl_type_name(a), sl_tpl_type_name(b));
}

/* -1, 0, 1 as a is less, equal, greater; UNORDERED (nan).  Fails where Python does. */
static sl_status order_values(sl_tpl_render *r, sl_tpl_value a, sl_tpl_value b, int *out)
{
    return order_at(r, a, b, 0, out);
}

static sl_status contains(sl_tpl_render *r, sl_tpl_value item, sl_tpl_value in, bool *out)
{
    const sl_tpl_value *element;
    sl_tpl_entry *entry;
    size_t count;

    *out = false;
    if (in.kind == SL_TPL_STRING) {
        const sl_tpl_str *part;

        SL_TPL_TRY(sl_tpl_want_str(r, item, "what is looked for in a string", &part));
        SL_TPL_TRY(sl_tpl_step_bytes(r, in.as.str->len));
        *out = part->len == 0 ||
               memmem(in.as.str->data, in.as.str->len, part->data, part->len) != NULL;
        return SL_OK;
    }
    if (in.kind == SL_TPL_DICT) {
        SL_TPL_TRY(sl_tpl_dict_find(r, in.as.dict, item, &entry));
        *out = entry != NULL;
        return SL_OK;
    }
    SL_TPL_TRY(sl_tpl_iterate(r, in, &element, &count));
    for (size_t i = 0; i < count && !*out; i++)
        SL_TPL_TRY(sl_tpl_equal(r, element[i], item, out));
    return SL_OK;
}

sl_status sl_tpl_compare(sl_tpl_render *r, sl_tpl_op op, sl_tpl_value a, sl_tpl_value b, bool *out)
{
    int order;

    switch (op) {
    case SL_TPL_OP_EQ:
    case SL_TPL_OP_NE:
        SL_TPL_TRY(sl_tpl_equal(r, a, b, out));
        *out ^= op == SL_TPL_OP_NE;
        return SL_OK;
    case SL_TPL_OP_IN:
    case SL_TPL_OP_NOT_IN:
        SL_TPL_TRY(contains(r, a, b, out));
        *out ^= op == SL_TPL_OP_NOT_IN;
        return SL_OK;
    default:
        break;
    }
    SL_TPL_TRY(order_values(r, a, b, &order));
    if (order == UNORDERED)
        *out = false;
    else if (op == SL_TPL_OP_LT)
        *out = order < 0;
    else if (op == SL_TPL_OP_LE)
        *out = order <= 0;
    else if (op == SL_TPL_OP_GT)
        *out = order > 0;
    else
        *out = order >= 0;
    return SL_OK;
}

/* Merge the sorted halves [low, middle) and [middle, high) of `from` into `to`. */
typedef struct sort_arrays {
    sl_tpl_value *item;
    sl_tpl_value *key;
} sort_arrays;

static sl_status merge(sl_tpl_render *r, const sort_arrays *from, const sort_arrays *to,
                       const size_t bound[3], bool reverse)
{
    size_t left = bound[0], right = bound[1];

    for (size_t i = bound[0]; i < bound[2]; i++) {
        bool take_right = left == bound[1];

        if (!take_right && right < bound[2]) {
            int order;

            SL_TPL_TRY(order_values(r, from->key[right], from->key[left], &order));
            take_right = order != UNORDERED && (reverse ? order > 0 : order < 0);
        }
        to->item[i] = from->item[take_right ? right : left];
        to->key[i] = from->key[take_right ? right : left];
        if (take_right)
            right++;
        else
            left++;
    }
    return SL_OK;
}

sl_status sl_tpl_sort(sl_tpl_render *r, sl_tpl_value *item, sl_tpl_value *key, size_t count,
                      bool reverse)
{
    sort_arrays from = {item, key}, to;

    to.item = sl_tpl_alloc(r, count + 1, sizeof(*item));
    to.key = sl_tpl_alloc(r, count + 1, sizeof(*key));
    if (to.item == NULL || to.key == NULL)
        return r->status;
    for (size_t width = 1; width < count; width *= 2) {
        sort_arrays swap = from;

        SL_TPL_TRY(sl_tpl_step(r, count / 4));
        for (size_t low = 0; low < count; low += 2 * width) {
            const size_t middle = low + width < count ? low + width : count;
            const size_t high = low + 2 * width < count ? low + 2 * width : count;

            SL_TPL_TRY(merge(r, &from, &to, (size_t[3]){low, middle, high}, reverse));
        }
        from = to;
        to = swap;
    }
    if (from.item != item)
        memcpy(item, from.item, count * sizeof(*item));
    return SL_OK;
}
