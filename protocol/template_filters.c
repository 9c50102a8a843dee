/* protocol/template_filters.c - filters over sequences and dicts. */
#include "protocol/template_internal.h"

#include <string.h>

static sl_status new_seq(sl_tpl_render *r, sl_tpl_form form, size_t capacity, sl_tpl_value *out)
{
    out->kind = SL_TPL_SEQ;
    return sl_tpl_seq_new(r, form, capacity, &out->as.seq);
}

/* Strings in lower case, for comparing without case. */
static sl_status fold(sl_tpl_render *r, bool fold_case, sl_tpl_value *v)
{
    if (!fold_case || v->kind != SL_TPL_STRING)
        return SL_OK;
    return sl_tpl_recase(r, v->as.str, SL_TPL_CASE_LOWER, v);
}

static sl_status filter_default(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    const bool use = call->self.kind == SL_TPL_UNDEFINED ||
                     (sl_tpl_truth(call->arg[1]) && !sl_tpl_truth(call->self));

    *out = use ? call->arg[0] : call->self;
    return use && out->kind == SL_TPL_MISSING ? sl_tpl_str_new(r, "", 0, false, out) : SL_OK;
}

static sl_status filter_length(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    size_t n;

    SL_TPL_TRY(sl_tpl_length(r, call->self, &n));
    *out = sl_tpl_int((int64_t)n);
    return SL_OK;
}

static sl_status filter_first(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    const sl_tpl_value *item;
    size_t count;

    SL_TPL_TRY(sl_tpl_iterate(r, call->self, &item, &count));
    *out = count > 0 ? item[0] : sl_tpl_undefined("there is no first item");
    return SL_OK;
}

static bool is_generator(sl_tpl_value v)
{
    return v.kind == SL_TPL_SEQ && v.as.seq->form == SL_TPL_GENERATOR;
}

static sl_status filter_last(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    const sl_tpl_value *item;
    size_t count;

    if (is_generator(call->self))
        return sl_tpl_fail(r, "a generator has no last item");
    SL_TPL_TRY(sl_tpl_iterate(r, call->self, &item, &count));
    *out = count > 0 ? item[count - 1] : sl_tpl_undefined("there is no last item");
    return SL_OK;
}

static sl_status filter_list(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    const sl_tpl_value *item;
    size_t count;

    SL_TPL_TRY(sl_tpl_iterate(r, call->self, &item, &count));
    SL_TPL_TRY(new_seq(r, SL_TPL_LIST, count, out));
    for (size_t i = 0; i < count; i++)
        out->as.seq->item[out->as.seq->count++] = item[i];
    return SL_OK;
}

static sl_status filter_reverse(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    const sl_tpl_value *item, backwards[3] = {{0}, {0}, sl_tpl_int(-1)};
    const bool is_list = is_generator(call->self);
    size_t count;

    if (call->self.kind == SL_TPL_STRING)
        return sl_tpl_slice(r, call->self, backwards, out);
    SL_TPL_TRY(sl_tpl_iterate(r, call->self, &item, &count));
    SL_TPL_TRY(new_seq(r, is_list ? SL_TPL_LIST : SL_TPL_GENERATOR, count, out));
    for (size_t i = count; i > 0; i--)
        out->as.seq->item[out->as.seq->count++] = item[i - 1];
    return SL_OK;
}

static sl_status filter_items(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    if (call->self.kind == SL_TPL_UNDEFINED)
        return new_seq(r, SL_TPL_GENERATOR, 0, out);
    if (call->self.kind != SL_TPL_DICT)
        return sl_tpl_fail(r, "items takes a dict, not %s", sl_tpl_type_name(call->self));
    SL_TPL_TRY(new_seq(r, SL_TPL_GENERATOR, call->self.as.dict->count, out));
    for (size_t i = 0; i < call->self.as.dict->count; i++) {
        const sl_tpl_entry *e = &call->self.as.dict->entry[i];
        sl_tpl_value pair;

        SL_TPL_TRY(sl_tpl_pair(r, e->key, e->value, &pair));
        SL_TPL_TRY(sl_tpl_seq_push(r, out->as.seq, pair));
    }
    return SL_OK;
}

static sl_status filter_join(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    const sl_tpl_str *between = NULL, *s;
    const sl_tpl_value *item;
    sl_tpl_text t = {0};
    size_t count;

    SL_TPL_TRY(sl_tpl_iterate(r, call->self, &item, &count));
    if (call->arg[0].kind != SL_TPL_MISSING)
        SL_TPL_TRY(sl_tpl_to_str(r, call->arg[0], &between));
    for (size_t i = 0; i < count; i++) {
        sl_tpl_value v;

        if (i > 0 && between != NULL)
            SL_TPL_TRY(sl_tpl_text_add_str(r, &t, between));
        SL_TPL_TRY(sl_tpl_get_path(r, item[i], call->arg[1], NULL, &v));
        SL_TPL_TRY(sl_tpl_to_str(r, v, &s));
        SL_TPL_TRY(sl_tpl_text_add_str(r, &t, s));
    }
    return sl_tpl_text_done(r, &t, false, out);
}

/* ---- Sorting ---- */

static sl_status filter_dictsort(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    const bool fold_case = !sl_tpl_truth(call->arg[0]);
    const sl_tpl_str *by = NULL;
    const sl_tpl_dict *dict;
    sl_tpl_value *key;
    bool by_value;

    if (call->arg[1].kind != SL_TPL_MISSING)
        SL_TPL_TRY(sl_tpl_want_str(r, call->arg[1], "what dictsort sorts by", &by));
    by_value = by != NULL && sl_tpl_str_is(by, "value");
    if (by != NULL && !by_value && !sl_tpl_str_is(by, "key"))
        return sl_tpl_fail(r, "dictsort sorts by 'key' or 'value'");
    if (call->self.kind == SL_TPL_UNDEFINED)
        return sl_tpl_fail_undefined(r, call->self);
    if (call->self.kind != SL_TPL_DICT)
        return sl_tpl_fail(r, "dictsort takes a dict, not %s", sl_tpl_type_name(call->self));
    dict = call->self.as.dict;
    SL_TPL_TRY(new_seq(r, SL_TPL_LIST, dict->count + 1, out));
    key = sl_tpl_alloc(r, dict->count + 1, sizeof(*key));
    if (key == NULL)
        return r->status;
    for (size_t i = 0; i < dict->count; i++) {
        sl_tpl_value pair;

        SL_TPL_TRY(sl_tpl_pair(r, dict->entry[i].key, dict->entry[i].value, &pair));
        SL_TPL_TRY(sl_tpl_seq_push(r, out->as.seq, pair));
        key[i] = by_value ? dict->entry[i].value : dict->entry[i].key;
        SL_TPL_TRY(fold(r, fold_case, &key[i]));
    }
    return sl_tpl_sort(r, out->as.seq->item, key, dict->count, sl_tpl_truth(call->arg[2]));
}

/* The list of what "a,b.c" names in v: sorting compares these lists. */
static sl_status sort_key(sl_tpl_render *r, sl_tpl_value v, sl_tpl_value paths, bool fold_case,
                          sl_tpl_value *out)
{
    size_t from = 0, to;
    sl_tpl_value path = paths, part;

    SL_TPL_TRY(new_seq(r, SL_TPL_LIST, 1, out));
    do {
        to = SIZE_MAX;
        if (paths.kind == SL_TPL_STRING) {
            const sl_tpl_str *s = paths.as.str;
            const char *comma = memchr(s->data + from, ',', s->len - from);

            to = comma != NULL ? (size_t)(comma - s->data) : s->len;
            SL_TPL_TRY(sl_tpl_str_sub(r, s, from, to, &path));
            to = comma != NULL ? to : SIZE_MAX;
        }
        SL_TPL_TRY(sl_tpl_get_path(r, v, path, NULL, &part));
        SL_TPL_TRY(fold(r, fold_case, &part));
        SL_TPL_TRY(sl_tpl_seq_push(r, out->as.seq, part));
        from = to + 1;
    } while (to != SIZE_MAX);
    return SL_OK;
}

static sl_status filter_sort(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    const bool fold_case = !sl_tpl_truth(call->arg[1]);
    sl_tpl_value *key;
    sl_tpl_seq *seq;

    SL_TPL_TRY(filter_list(r, call, out));
    seq = out->as.seq;
    key = sl_tpl_alloc(r, seq->count + 1, sizeof(*key));
    if (key == NULL)
        return r->status;
    for (size_t i = 0; i < seq->count; i++)
        SL_TPL_TRY(sort_key(r, seq->item[i], call->arg[2], fold_case, &key[i]));
    return sl_tpl_sort(r, seq->item, key, seq->count, sl_tpl_truth(call->arg[0]));
}

static sl_status filter_unique(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    const bool fold_case = !sl_tpl_truth(call->arg[0]);
    const sl_tpl_value *item;
    sl_tpl_dict *seen;
    size_t count;

    SL_TPL_TRY(sl_tpl_iterate(r, call->self, &item, &count));
    SL_TPL_TRY(sl_tpl_dict_new(r, &seen));
    SL_TPL_TRY(new_seq(r, SL_TPL_GENERATOR, 0, out));
    for (size_t i = 0; i < count; i++) {
        sl_tpl_entry *entry;
        sl_tpl_value key;

        SL_TPL_TRY(sl_tpl_get_path(r, item[i], call->arg[1], NULL, &key));
        SL_TPL_TRY(fold(r, fold_case, &key));
        SL_TPL_TRY(sl_tpl_dict_find(r, seen, key, &entry));
        if (entry != NULL)
            continue;
        SL_TPL_TRY(sl_tpl_dict_push(r, seen, key, sl_tpl_none()));
        SL_TPL_TRY(sl_tpl_seq_push(r, out->as.seq, item[i]));
    }
    return SL_OK;
}

/* min and max; detail: max. */
static sl_status filter_extreme(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    const sl_tpl_op better = call->builtin->detail != 0 ? SL_TPL_OP_GT : SL_TPL_OP_LT;
    const bool fold_case = !sl_tpl_truth(call->arg[0]);
    const sl_tpl_value *item;
    sl_tpl_value best = {0};
    size_t count;

    SL_TPL_TRY(sl_tpl_iterate(r, call->self, &item, &count));
    *out = sl_tpl_undefined("there is no item to choose from");
    for (size_t i = 0; i < count; i++) {
        sl_tpl_value key;
        bool take = i == 0;

        SL_TPL_TRY(sl_tpl_get_path(r, item[i], call->arg[1], NULL, &key));
        SL_TPL_TRY(fold(r, fold_case, &key));
        if (i > 0)
            SL_TPL_TRY(sl_tpl_compare(r, better, key, best, &take));
        if (take) {
            best = key;
            *out = item[i];
        }
    }
    return SL_OK;
}

static sl_status filter_sum(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    const sl_tpl_value *item;
    size_t count;

    *out = call->arg[1].kind == SL_TPL_MISSING ? sl_tpl_int(0) : call->arg[1];
    if (out->kind == SL_TPL_STRING)
        return sl_tpl_fail(r, "sum does not join strings");
    SL_TPL_TRY(sl_tpl_iterate(r, call->self, &item, &count));
    for (size_t i = 0; i < count; i++) {
        sl_tpl_value v;

        SL_TPL_TRY(sl_tpl_get_path(r, item[i], call->arg[0], NULL, &v));
        SL_TPL_TRY(sl_tpl_arith(r, SL_TPL_OP_ADD, *out, v, out));
    }
    return SL_OK;
}

/* ---- map, select ... ---- */

/* The arguments behind the first `skip`. */
static sl_tpl_args rest_of(const sl_tpl_args *raw, size_t skip)
{
    sl_tpl_args rest = *raw;

    rest.pos += skip;
    rest.pos_count -= skip;
    return rest;
}

enum { BY_ATTR = 1, REJECT = 2 };

/* select, reject, selectattr, rejectattr: detail says which. */
static sl_status filter_select(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    const size_t off = (call->builtin->detail & BY_ATTR) != 0;
    const bool reject = (call->builtin->detail & REJECT) != 0;
    const sl_tpl_args *raw = call->raw;
    const sl_tpl_builtin *test = NULL;
    const sl_tpl_value *item;
    sl_tpl_args rest = {0};
    size_t count;

    SL_TPL_TRY(new_seq(r, SL_TPL_GENERATOR, 0, out));
    if (!sl_tpl_truth(call->self))
        return SL_OK;
    if (raw->pos_count < off)
        return sl_tpl_fail(r, "'%s' needs the name of an attribute", call->builtin->name);
    if (raw->pos_count > off) {
        const sl_tpl_str *name;

        SL_TPL_TRY(sl_tpl_want_str(r, raw->pos[off], "the name of a test", &name));
        test = sl_tpl_find_builtin(sl_tpl_tests, name->data, name->len);
        if (test == NULL)
            return sl_tpl_fail(r, "there is no test '%.*s'", (int)(name->len < 40 ? name->len : 40),
                               name->data);
        rest = rest_of(raw, off + 1);
    }
    SL_TPL_TRY(sl_tpl_iterate(r, call->self, &item, &count));
    for (size_t i = 0; i < count; i++) {
        sl_tpl_value v = item[i];

        SL_TPL_TRY(sl_tpl_step(r, 1));
        if (off != 0)
            SL_TPL_TRY(sl_tpl_get_path(r, v, raw->pos[0], NULL, &v));
        if (test != NULL)
            SL_TPL_TRY(sl_tpl_call_builtin(r, test, v, &rest, &v));
        if (sl_tpl_truth(v) != reject)
            SL_TPL_TRY(sl_tpl_seq_push(r, out->as.seq, item[i]));
    }
    return SL_OK;
}

/* map(attribute="a.b", default=x) */
static sl_status map_attribute(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_seq *out)
{
    const sl_tpl_args *raw = call->raw;
    const sl_tpl_value *path = NULL, *otherwise = NULL, *item;
    size_t count;

    for (size_t i = 0; i < raw->key_count; i++) {
        if (sl_tpl_str_is(raw->key[i], "attribute"))
            path = &raw->keyed[i];
        else if (sl_tpl_str_is(raw->key[i], "default"))
            otherwise = raw->keyed[i].kind != SL_TPL_NONE ? &raw->keyed[i] : NULL;
        else
            return sl_tpl_fail(r, "map has no such argument");
    }
    if (path == NULL)
        return sl_tpl_fail(r, "map needs a filter or an attribute");
    SL_TPL_TRY(sl_tpl_iterate(r, call->self, &item, &count));
    for (size_t i = 0; i < count; i++) {
        sl_tpl_value v;

        SL_TPL_TRY(sl_tpl_step(r, 1));
        SL_TPL_TRY(sl_tpl_get_path(r, item[i], *path, otherwise, &v));
        SL_TPL_TRY(sl_tpl_seq_push(r, out, v));
    }
    return SL_OK;
}

/* map("filter", arguments) */
static sl_status map_filter(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_seq *out)
{
    const sl_tpl_args rest = rest_of(call->raw, 1);
    const sl_tpl_builtin *filter;
    const sl_tpl_value *item;
    const sl_tpl_str *name;
    size_t count;

    SL_TPL_TRY(sl_tpl_want_str(r, call->raw->pos[0], "the name of a filter", &name));
    filter = sl_tpl_find_filter(name->data, name->len);
    if (filter == NULL)
        return sl_tpl_fail(r, "there is no filter '%.*s'", (int)(name->len < 40 ? name->len : 40),
                           name->data);
    if (r->calls == SL_TEMPLATE_CALLS_MAX)
        return sl_tpl_fail(r, "more than %d maps inside each other", SL_TEMPLATE_CALLS_MAX);
    r->calls++; /* a map of maps of maps ... is deep */
    SL_TPL_TRY(sl_tpl_iterate(r, call->self, &item, &count));
    for (size_t i = 0; i < count; i++) {
        sl_tpl_value v;

        SL_TPL_TRY(sl_tpl_step(r, 1));
        SL_TPL_TRY(sl_tpl_call_builtin(r, filter, item[i], &rest, &v));
        SL_TPL_TRY(sl_tpl_seq_push(r, out, v));
    }
    r->calls--;
    return SL_OK;
}

static sl_status filter_map(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    SL_TPL_TRY(new_seq(r, SL_TPL_GENERATOR, 0, out));
    if (!sl_tpl_truth(call->self))
        return SL_OK;
    return call->raw->pos_count == 0 ? map_attribute(r, call, out->as.seq)
                                     : map_filter(r, call, out->as.seq);
}

/* ---- Groups ---- */

/* Lists of `count` items, the last filled up. */
static sl_status filter_batch(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    const bool fill = call->arg[1].kind != SL_TPL_MISSING && call->arg[1].kind != SL_TPL_NONE;
    const sl_tpl_value *item;
    int64_t size;
    size_t count;

    SL_TPL_TRY(sl_tpl_want_int(r, call->arg[0], "the size of a batch", &size));
    if (size < 1 || size > SL_TPL_RANGE_MAX)
        return sl_tpl_fail(r, "the size of a batch is not in 1 to %d", SL_TPL_RANGE_MAX);
    SL_TPL_TRY(sl_tpl_iterate(r, call->self, &item, &count));
    SL_TPL_TRY(new_seq(r, SL_TPL_GENERATOR, 0, out));
    for (size_t i = 0; i < count;) {
        sl_tpl_value batch;

        SL_TPL_TRY(new_seq(r, SL_TPL_LIST, 0, &batch));
        for (int64_t k = 0; k < size && (i < count || fill); k++, i++)
            SL_TPL_TRY(sl_tpl_seq_push(r, batch.as.seq, i < count ? item[i] : call->arg[1]));
        SL_TPL_TRY(sl_tpl_seq_push(r, out->as.seq, batch));
    }
    return SL_OK;
}

/* So many lists of about the same length: the first ones are longer, the others filled up. */
static sl_status filter_slice(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    const bool fill = call->arg[1].kind != SL_TPL_MISSING && call->arg[1].kind != SL_TPL_NONE;
    const sl_tpl_value *item;
    int64_t slices;
    size_t count, at = 0;

    SL_TPL_TRY(sl_tpl_want_int(r, call->arg[0], "the number of slices", &slices));
    if (slices < 1 || slices > SL_TPL_RANGE_MAX)
        return sl_tpl_fail(r, "the number of slices is not in 1 to %d", SL_TPL_RANGE_MAX);
    SL_TPL_TRY(sl_tpl_iterate(r, call->self, &item, &count));
    SL_TPL_TRY(new_seq(r, SL_TPL_GENERATOR, 0, out));
    for (size_t s = 0; s < (size_t)slices; s++) {
        const bool longer = s < count % (size_t)slices;
        const size_t n = count / (size_t)slices + longer;
        sl_tpl_value slice;

        SL_TPL_TRY(new_seq(r, SL_TPL_LIST, n + 1, &slice));
        for (size_t i = 0; i < n; i++)
            slice.as.seq->item[slice.as.seq->count++] = item[at++];
        if (fill && !longer)
            SL_TPL_TRY(sl_tpl_seq_push(r, slice.as.seq, call->arg[1]));
        SL_TPL_TRY(sl_tpl_seq_push(r, out->as.seq, slice));
    }
    return SL_OK;
}

const sl_tpl_builtin sl_tpl_filters[] = {
    {"default", filter_default, "default_value,boolean", 0, 0},
    {"d", filter_default, "default_value,boolean", 0, 0},
    {"length", filter_length, "", 0, 0},
    {"count", filter_length, "", 0, 0},
    {"first", filter_first, "", 0, 0},
    {"last", filter_last, "", 0, 0},
    {"list", filter_list, "", 0, 0},
    {"reverse", filter_reverse, "", 0, 0},
    {"items", filter_items, "", 0, 0},
    {"join", filter_join, "d,attribute", 0, 0},
    {"dictsort", filter_dictsort, "case_sensitive,by,reverse", 0, 0},
    {"sort", filter_sort, "reverse,case_sensitive,attribute", 0, 0},
    {"unique", filter_unique, "case_sensitive,attribute", 0, 0},
    {"min", filter_extreme, "case_sensitive,attribute", 0, 0},
    {"max", filter_extreme, "case_sensitive,attribute", 0, 1},
    {"sum", filter_sum, "attribute,start", 0, 0},
    {"map", filter_map, "*", 0, 0},
    {"select", filter_select, "*", 0, 0},
    {"reject", filter_select, "*", 0, REJECT},
    {"selectattr", filter_select, "*", 0, BY_ATTR},
    {"rejectattr", filter_select, "*", 0, BY_ATTR | REJECT},
    {"batch", filter_batch, "linecount,fill_with", 1, 0},
    {"slice", filter_slice, "slices,fill_with", 1, 0},
    {NULL, NULL, NULL, 0, 0},
};

const sl_tpl_builtin *sl_tpl_find_filter(const char *name, size_t len)
{
    const sl_tpl_builtin *found = sl_tpl_find_builtin(sl_tpl_filters, name, len);

    return found != NULL ? found : sl_tpl_find_builtin(sl_tpl_text_filters, name, len);
}
