/* protocol/template_value.c - values, and strings that know which bytes are the user's.
 *
 * A string is bytes and marks: none where all of it has one origin (the usual case), else the runs
 * of the builder it was made in, shared by all its substrings. */
#include "protocol/template_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- Errors and limits ---- */

sl_status sl_tpl_fail(sl_tpl_render *r, const char *format, ...)
{
    char text[SL_ERR_TEXT_MAX];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    r->status = sl_fail(r->err, SL_EINVAL, "chat template line %u: %s", r->line, text);
    return r->status;
}

void *sl_tpl_alloc(sl_tpl_render *r, size_t count, size_t size)
{
    void *p = sl_arena_alloc(&r->arena, count, size);

    if (p != NULL)
        return p;
    if (size > 0 && count > (r->arena.limit_bytes - r->arena.used_bytes) / size)
        r->status =
            sl_tpl_fail(r, "the rendering needs more than %d MiB", SL_TEMPLATE_MEMORY_MAX >> 20);
    else
        r->status = sl_fail(r->err, SL_ENOMEM, "no memory to render the chat template");
    return NULL;
}

sl_status sl_tpl_step(sl_tpl_render *r, size_t steps)
{
    if (steps > SL_TEMPLATE_STEPS_MAX - r->steps)
        return sl_tpl_fail(r, "the rendering takes more than %d steps", SL_TEMPLATE_STEPS_MAX);
    r->steps += (uint32_t)steps;
    return SL_OK;
}

sl_status sl_tpl_step_bytes(sl_tpl_render *r, size_t bytes)
{
    return sl_tpl_step(r, bytes / SL_TPL_STEP_BYTES);
}

sl_status sl_tpl_enter(sl_tpl_render *r)
{
    if (r->depth == SL_TPL_DEPTH_MAX)
        return sl_tpl_fail(r, "too many evaluations inside each other");
    r->depth++;
    return sl_tpl_step(r, 1);
}

void sl_tpl_leave(sl_tpl_render *r)
{
    r->depth--;
}

sl_status sl_tpl_fail_undefined(sl_tpl_render *r, sl_tpl_value v)
{
    const sl_tpl_str *name = v.as.str;
    size_t shown;

    if (v.why == SL_TPL_WHY_HINT)
        return sl_tpl_fail(r, "%s", v.as.hint);
    shown = sl_utf8_whole(name->data, name->len < 60 ? name->len : 60);
    if (v.why == SL_TPL_WHY_NAME)
        return sl_tpl_fail(r, "'%.*s' is undefined", (int)shown, name->data);
    return sl_tpl_fail(r, "there is no attribute '%.*s'", (int)shown, name->data);
}

/* ---- Plain values ---- */

sl_tpl_value sl_tpl_none(void)
{
    return (sl_tpl_value){.kind = SL_TPL_NONE};
}

sl_tpl_value sl_tpl_bool(bool b)
{
    return (sl_tpl_value){.kind = SL_TPL_BOOL, .as.b = b};
}

sl_tpl_value sl_tpl_int(int64_t i)
{
    return (sl_tpl_value){.kind = SL_TPL_INT, .as.i = i};
}

sl_tpl_value sl_tpl_float(double f)
{
    return (sl_tpl_value){.kind = SL_TPL_FLOAT, .as.f = f};
}

sl_tpl_value sl_tpl_of_str(const sl_tpl_str *s)
{
    return (sl_tpl_value){.kind = SL_TPL_STRING, .as.str = s};
}

sl_tpl_value sl_tpl_of_seq(sl_tpl_seq *seq)
{
    return (sl_tpl_value){.kind = SL_TPL_SEQ, .as.seq = seq};
}

sl_tpl_value sl_tpl_undefined(const char *hint)
{
    return (sl_tpl_value){.kind = SL_TPL_UNDEFINED, .as.hint = hint};
}

const char *sl_tpl_type_name(sl_tpl_value v)
{
    static const char *const names[SL_TPL_KIND_COUNT] = {
        "missing", "undefined", "None",      "bool",  "int",  "float",  "str",
        "list",    "dict",      "namespace", "macro", "loop", "method", "function"};
    static const char *const forms[] = {"list",      "tuple",       "range",     "generator",
                                        "dict_keys", "dict_values", "dict_items"};

    return v.kind == SL_TPL_SEQ ? forms[v.as.seq->form] : names[v.kind];
}

bool sl_tpl_truth(sl_tpl_value v)
{
    switch (v.kind) {
    case SL_TPL_MISSING:
    case SL_TPL_UNDEFINED:
    case SL_TPL_NONE:
        return false;
    case SL_TPL_BOOL:
        return v.as.b;
    case SL_TPL_INT:
        return v.as.i != 0;
    case SL_TPL_FLOAT:
        return v.as.f != 0.0;
    case SL_TPL_STRING:
        return v.as.str->len > 0;
    case SL_TPL_SEQ:
        return v.as.seq->form == SL_TPL_GENERATOR || v.as.seq->count > 0;
    case SL_TPL_DICT:
        return v.as.dict->count > 0;
    default:
        return true;
    }
}

bool sl_tpl_is_number(sl_tpl_value v)
{
    return v.kind == SL_TPL_BOOL || v.kind == SL_TPL_INT || v.kind == SL_TPL_FLOAT;
}

sl_status sl_tpl_want_int(sl_tpl_render *r, sl_tpl_value v, const char *what, int64_t *out)
{
    if (v.kind == SL_TPL_UNDEFINED)
        return sl_tpl_fail_undefined(r, v);
    if (v.kind != SL_TPL_INT && v.kind != SL_TPL_BOOL)
        return sl_tpl_fail(r, "%s must be an integer, not %s", what, sl_tpl_type_name(v));
    *out = v.kind == SL_TPL_INT ? v.as.i : v.as.b;
    return SL_OK;
}

sl_status sl_tpl_want_str(sl_tpl_render *r, sl_tpl_value v, const char *what,
                          const sl_tpl_str **out)
{
    if (v.kind == SL_TPL_UNDEFINED)
        return sl_tpl_fail_undefined(r, v);
    if (v.kind != SL_TPL_STRING)
        return sl_tpl_fail(r, "%s must be a string, not %s", what, sl_tpl_type_name(v));
    *out = v.as.str;
    return SL_OK;
}

/* ---- Strings ---- */

size_t sl_tpl_str_chars(const char *data, size_t len)
{
    size_t chars = 0;

    for (size_t i = 0; i < len; i++)
        chars += ((unsigned char)data[i] & 0xC0) != 0x80;
    return chars;
}

void sl_tpl_str_init(sl_tpl_str *s, const char *data, size_t len, bool user)
{
    *s = (sl_tpl_str){.data = data, .len = len, .chars = sl_tpl_str_chars(data, len), .user = user};
}

bool sl_tpl_str_is(const sl_tpl_str *s, const char *text)
{
    const size_t len = strlen(text);

    return s->len == len && memcmp(s->data, text, len) == 0;
}

bool sl_tpl_str_equal(const sl_tpl_str *a, const sl_tpl_str *b)
{
    return a == b || (a->len == b->len && memcmp(a->data, b->data, a->len) == 0);
}

size_t sl_tpl_str_run(const sl_tpl_str *s, size_t pos, bool *user)
{
    const size_t wanted = s->mark_base + pos;
    size_t low = 0, high = s->mark_count, end;

    if (s->mark == NULL) {
        *user = s->user;
        return s->len;
    }
    while (low < high) { /* the first mark that ends behind pos */
        const size_t middle = low + (high - low) / 2;

        if (s->mark[middle].end <= wanted)
            low = middle + 1;
        else
            high = middle;
    }
    *user = s->mark[low].user;
    end = s->mark[low].end - s->mark_base;
    return end < s->len ? end : s->len;
}

bool sl_tpl_str_has_user(const sl_tpl_str *s)
{
    for (size_t pos = 0; pos < s->len;) {
        bool user;

        pos = sl_tpl_str_run(s, pos, &user);
        if (user)
            return true;
    }
    return false;
}

sl_status sl_tpl_str_new(sl_tpl_render *r, const char *data, size_t len, bool user,
                         sl_tpl_value *out)
{
    sl_tpl_str *s = sl_tpl_alloc(r, 1, sizeof(*s));
    char *copy;

    if (s == NULL)
        return r->status;
    copy = sl_tpl_alloc(r, len > 0 ? len : 1, 1);
    if (copy == NULL)
        return r->status;
    if (len > 0)
        memcpy(copy, data, len);
    sl_tpl_str_init(s, copy, len, user);
    *out = sl_tpl_of_str(s);
    return SL_OK;
}

sl_status sl_tpl_str_sub(sl_tpl_render *r, const sl_tpl_str *s, size_t from, size_t to,
                         sl_tpl_value *out)
{
    sl_tpl_str *sub;

    if (from == 0 && to == s->len) {
        *out = sl_tpl_of_str(s);
        return SL_OK;
    }
    sub = sl_tpl_alloc(r, 1, sizeof(*sub));
    if (sub == NULL)
        return r->status;
    *sub = *s;
    sub->data += from;
    sub->len = to - from;
    sub->mark_base += from;
    sub->tail = NULL;
    sub->chars = s->chars == s->len ? sub->len : sl_tpl_str_chars(sub->data, sub->len);
    *out = sl_tpl_of_str(sub);
    return s->chars == s->len ? SL_OK : sl_tpl_step_bytes(r, sub->len);
}

size_t sl_tpl_str_at(const sl_tpl_str *s, size_t index)
{
    size_t pos = 0;

    if (s->chars == s->len)
        return index;
    for (; index > 0; index--) {
        pos++;
        while (pos < s->len && ((unsigned char)s->data[pos] & 0xC0) == 0x80)
            pos++;
    }
    return pos;
}

/* ---- Builders ---- */

/* Room for `more` items of `size` bytes in *array; the old array stays as it is. */
static sl_status grow(sl_tpl_render *r, void **array, size_t count, size_t *capacity, size_t more,
                      size_t size)
{
    size_t want = *capacity < 8 ? 8 : *capacity * 2;
    void *bigger;

    if (more <= *capacity - count)
        return SL_OK;
    if (want < count + more)
        want = count + more;
    bigger = sl_tpl_alloc(r, want, size);
    if (bigger == NULL)
        return r->status;
    if (count > 0)
        memcpy(bigger, *array, count * size);
    *array = bigger;
    *capacity = want;
    return SL_OK;
}

sl_status sl_tpl_text_add(sl_tpl_render *r, sl_tpl_text *t, const char *data, size_t len, bool user)
{
    void *bytes = t->data, *marks = t->mark;

    if (len == 0)
        return SL_OK;
    SL_TPL_TRY(grow(r, &bytes, t->len, &t->capacity, len, 1));
    t->data = bytes;
    memcpy(t->data + t->len, data, len);
    t->len += len;
    if (t->mark_count > 0 && t->mark[t->mark_count - 1].user == user) {
        t->mark[t->mark_count - 1].end = t->len;
        return SL_OK;
    }
    SL_TPL_TRY(grow(r, &marks, t->mark_count, &t->mark_capacity, 1, sizeof(sl_tpl_mark)));
    t->mark = marks;
    t->mark[t->mark_count++] = (sl_tpl_mark){t->len, user};
    return SL_OK;
}

sl_status sl_tpl_text_add_sub(sl_tpl_render *r, sl_tpl_text *t, const sl_tpl_str *s, size_t from,
                              size_t to)
{
    SL_TPL_TRY(sl_tpl_step_bytes(r, to - from));
    while (from < to) {
        bool user;
        size_t end = sl_tpl_str_run(s, from, &user);

        if (end > to)
            end = to;
        SL_TPL_TRY(sl_tpl_text_add(r, t, s->data + from, end - from, user));
        from = end;
    }
    return SL_OK;
}

sl_status sl_tpl_text_add_str(sl_tpl_render *r, sl_tpl_text *t, const sl_tpl_str *s)
{
    return sl_tpl_text_add_sub(r, t, s, 0, s->len);
}

sl_status sl_tpl_text_done(sl_tpl_render *r, sl_tpl_text *t, bool tail, sl_tpl_value *out)
{
    sl_tpl_str *s = sl_tpl_alloc(r, 1, sizeof(*s));

    if (s == NULL)
        return r->status;
    SL_TPL_TRY(sl_tpl_step_bytes(r, t->len));
    sl_tpl_str_init(s, t->len > 0 ? t->data : "", t->len, t->mark_count > 0 && t->mark[0].user);
    if (t->mark_count > 1) {
        s->mark = t->mark;
        s->mark_count = t->mark_count;
    }
    s->tail = tail ? t : NULL;
    *out = sl_tpl_of_str(s);
    return SL_OK;
}

sl_status sl_tpl_str_concat(sl_tpl_render *r, const sl_tpl_str *a, const sl_tpl_str *b,
                            sl_tpl_value *out)
{
    sl_tpl_text *t = a->tail;
    size_t chars = a->chars + b->chars;
    sl_tpl_str *s;

    if (b->len == 0 || a->len == 0) {
        *out = sl_tpl_of_str(b->len == 0 ? a : b);
        return SL_OK;
    }
    /* A string that ends where its builder ends is grown in place.  Marks of strings made before
     * may then end beyond them, which sl_tpl_str_run allows for. */
    if (t == NULL || t->len != a->len) {
        t = sl_tpl_alloc(r, 1, sizeof(*t));
        if (t == NULL)
            return r->status;
        SL_TPL_TRY(sl_tpl_text_add_str(r, t, a));
    }
    SL_TPL_TRY(sl_tpl_text_add_str(r, t, b));
    s = sl_tpl_alloc(r, 1, sizeof(*s));
    if (s == NULL)
        return r->status;
    *s = (sl_tpl_str){.data = t->data, .len = t->len, .chars = chars, .user = t->mark[0].user};
    if (t->mark_count > 1) {
        s->mark = t->mark;
        s->mark_count = t->mark_count;
    }
    s->tail = t;
    *out = sl_tpl_of_str(s);
    return SL_OK;
}

/* ---- Lists and dicts ---- */

sl_status sl_tpl_seq_new(sl_tpl_render *r, sl_tpl_form form, size_t capacity, sl_tpl_seq **out)
{
    sl_tpl_seq *seq = sl_tpl_alloc(r, 1, sizeof(*seq));

    if (seq == NULL)
        return r->status;
    if (capacity > 0) {
        seq->item = sl_tpl_alloc(r, capacity, sizeof(*seq->item));
        if (seq->item == NULL)
            return r->status;
        seq->capacity = capacity;
    }
    seq->form = form;
    *out = seq;
    return SL_OK;
}

sl_status sl_tpl_seq_push(sl_tpl_render *r, sl_tpl_seq *seq, sl_tpl_value v)
{
    void *items = seq->item;

    SL_TPL_TRY(grow(r, &items, seq->count, &seq->capacity, 1, sizeof(v)));
    seq->item = items;
    seq->item[seq->count++] = v;
    return SL_OK;
}

sl_status sl_tpl_pair(sl_tpl_render *r, sl_tpl_value a, sl_tpl_value b, sl_tpl_value *out)
{
    sl_tpl_seq *pair;

    SL_TPL_TRY(sl_tpl_seq_new(r, SL_TPL_TUPLE, 2, &pair));
    pair->item[0] = a;
    pair->item[1] = b;
    pair->count = 2;
    *out = sl_tpl_of_seq(pair);
    return SL_OK;
}

sl_status sl_tpl_dict_new(sl_tpl_render *r, sl_tpl_dict **out)
{
    *out = sl_tpl_alloc(r, 1, sizeof(**out));
    return *out != NULL ? SL_OK : r->status;
}

sl_status sl_tpl_dict_find(sl_tpl_render *r, const sl_tpl_dict *dict, sl_tpl_value key,
                           sl_tpl_entry **found)
{
    *found = NULL;
    if (!sl_tpl_hashable(key))
        return sl_tpl_fail(r, "%s cannot be the key of a dict", sl_tpl_type_name(key));
    for (size_t i = 0; i < dict->count && *found == NULL; i++) {
        const sl_tpl_value k = dict->entry[i].key;
        bool equal = false;

        if (k.kind == SL_TPL_STRING && key.kind == SL_TPL_STRING)
            equal = sl_tpl_str_equal(k.as.str, key.as.str);
        else if (k.kind != SL_TPL_STRING && key.kind != SL_TPL_STRING)
            SL_TPL_TRY(sl_tpl_equal(r, k, key, &equal));
        if (equal)
            *found = &dict->entry[i];
    }
    return sl_tpl_step(r, dict->count / 16);
}

sl_status sl_tpl_dict_push(sl_tpl_render *r, sl_tpl_dict *dict, sl_tpl_value key,
                           sl_tpl_value value)
{
    void *entries = dict->entry;

    SL_TPL_TRY(grow(r, &entries, dict->count, &dict->capacity, 1, sizeof(sl_tpl_entry)));
    dict->entry = entries;
    dict->entry[dict->count++] = (sl_tpl_entry){key, value};
    return SL_OK;
}

sl_status sl_tpl_dict_set(sl_tpl_render *r, sl_tpl_dict *dict, sl_tpl_value key, sl_tpl_value value)
{
    sl_tpl_entry *entry;

    SL_TPL_TRY(sl_tpl_dict_find(r, dict, key, &entry));
    if (entry == NULL)
        return sl_tpl_dict_push(r, dict, key, value);
    entry->value = value;
    return SL_OK;
}

/* ---- Iteration ---- */

bool sl_tpl_is_iterable(sl_tpl_value v)
{
    return v.kind == SL_TPL_UNDEFINED || v.kind == SL_TPL_STRING || v.kind == SL_TPL_SEQ ||
           v.kind == SL_TPL_DICT;
}

static sl_status characters(sl_tpl_render *r, const sl_tpl_str *s, const sl_tpl_value **item)
{
    sl_tpl_value *c = sl_tpl_alloc(r, s->chars + 1, sizeof(*c));
    size_t pos = 0;

    if (c == NULL)
        return r->status;
    SL_TPL_TRY(sl_tpl_step(r, s->chars / 16));
    for (size_t i = 0; i < s->chars; i++) {
        size_t end = pos + 1;

        while (end < s->len && ((unsigned char)s->data[end] & 0xC0) == 0x80)
            end++;
        SL_TPL_TRY(sl_tpl_str_sub(r, s, pos, end, &c[i]));
        pos = end;
    }
    *item = c;
    return SL_OK;
}

sl_status sl_tpl_iterate(sl_tpl_render *r, sl_tpl_value v, const sl_tpl_value **item, size_t *count)
{
    sl_tpl_value *keys;

    *item = NULL;
    *count = 0;
    switch (v.kind) {
    case SL_TPL_UNDEFINED:
        return SL_OK;
    case SL_TPL_STRING:
        *count = v.as.str->chars;
        return characters(r, v.as.str, item);
    case SL_TPL_SEQ:
        if (v.as.seq->drained)
            return SL_OK;
        v.as.seq->drained = v.as.seq->form == SL_TPL_GENERATOR;
        *item = v.as.seq->item;
        *count = v.as.seq->count;
        return sl_tpl_step(r, *count / 16);
    case SL_TPL_DICT:
        keys = sl_tpl_alloc(r, v.as.dict->count + 1, sizeof(*keys));
        if (keys == NULL)
            return r->status;
        for (size_t i = 0; i < v.as.dict->count; i++)
            keys[i] = v.as.dict->entry[i].key;
        *item = keys;
        *count = v.as.dict->count;
        return sl_tpl_step(r, *count / 16);
    default:
        return sl_tpl_fail(r, "%s is not iterable", sl_tpl_type_name(v));
    }
}

sl_status sl_tpl_length(sl_tpl_render *r, sl_tpl_value v, size_t *out)
{
    if (v.kind == SL_TPL_UNDEFINED)
        *out = 0;
    else if (v.kind == SL_TPL_STRING)
        *out = v.as.str->chars;
    else if (v.kind == SL_TPL_DICT)
        *out = v.as.dict->count;
    else if (v.kind == SL_TPL_SEQ && v.as.seq->form != SL_TPL_GENERATOR)
        *out = v.as.seq->count;
    else
        return sl_tpl_fail(r, "%s has no length", sl_tpl_type_name(v));
    return SL_OK;
}
