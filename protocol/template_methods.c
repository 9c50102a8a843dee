/* protocol/template_methods.c - methods of strings, lists and dicts, as Python has them.
 *
 * Methods of Python's that are not here stand in the tables without a function: using them is an
 * error that names them, not an undefined value. */
#include "protocol/template_internal.h"

#include <stdio.h>
#include <string.h>

enum { LEFT = 1, RIGHT = 2 };

/* ---- Work on text, shared with the filters ---- */

static sl_status add_upper(sl_tpl_render *r, sl_tpl_text *t, uint32_t code, bool title, bool user)
{
    char bytes[4];

    if (code == 0xDF) /* the one letter here that becomes two */
        return sl_tpl_text_add(r, t, title ? "Ss" : "SS", 2, user);
    return sl_tpl_text_add(r, t, bytes, sl_utf8_put(sl_tpl_upper(code), bytes), user);
}

static bool starts_word(sl_tpl_case how, size_t at, uint32_t before)
{
    switch (how) {
    case SL_TPL_CASE_UPPER:
        return true;
    case SL_TPL_CASE_LOWER:
        return false;
    case SL_TPL_CASE_CAPITALIZE:
        return at == 0;
    case SL_TPL_CASE_TITLE:
        return at == 0 || (sl_tpl_upper(before) == before && sl_tpl_lower(before) == before);
    default:
        return at == 0 || sl_tpl_is_space(before) || before == '-' || before == '(' ||
               before == '{' || before == '[' || before == '<';
    }
}

sl_status sl_tpl_recase(sl_tpl_render *r, const sl_tpl_str *s, sl_tpl_case how, sl_tpl_value *out)
{
    sl_tpl_text t = {0};
    uint32_t code, before = 0;
    size_t step;

    SL_TPL_TRY(sl_tpl_step_bytes(r, s->len));
    for (size_t i = 0; i < s->len; i += step, before = code) {
        char bytes[4];
        bool user;

        step = sl_utf8_next(s->data + i, s->len - i, &code);
        (void)sl_tpl_str_run(s, i, &user);
        if (starts_word(how, i, before))
            SL_TPL_TRY(add_upper(r, &t, code,
                                 how == SL_TPL_CASE_CAPITALIZE || how == SL_TPL_CASE_TITLE, user));
        else
            SL_TPL_TRY(sl_tpl_text_add(r, &t, bytes, sl_utf8_put(sl_tpl_lower(code), bytes), user));
    }
    return sl_tpl_text_done(r, &t, false, out);
}

/* Is the character bytes[0..n) one of `chars`? */
static bool is_one_of(const char *bytes, size_t n, const sl_tpl_str *chars)
{
    for (size_t i = 0; i < chars->len;) {
        uint32_t code;
        const size_t step = sl_utf8_next(chars->data + i, chars->len - i, &code);

        if (step == n && memcmp(chars->data + i, bytes, n) == 0)
            return true;
        i += step;
    }
    return false;
}

/* The bytes to take off one end of data[0..len). */
static sl_status strippable(sl_tpl_render *r, const sl_tpl_str *s, size_t from, bool back,
                            const sl_tpl_str *chars, size_t *out)
{
    size_t left = from, right = s->len;

    while (left < right) {
        size_t start = left, end = right;
        uint32_t code;

        if (back) {
            start = right - 1;
            while (start > left && ((unsigned char)s->data[start] & 0xC0) == 0x80)
                start--;
        } else {
            end = left + sl_utf8_next(s->data + left, right - left, &code);
        }
        if (!is_one_of(s->data + start, end - start, chars))
            break;
        SL_TPL_TRY(sl_tpl_step(r, chars->len / 64));
        if (back)
            right = start;
        else
            left = end;
    }
    *out = back ? s->len - right : left - from;
    return SL_OK;
}

sl_status sl_tpl_strip(sl_tpl_render *r, const sl_tpl_str *s, sl_tpl_value chars, bool left,
                       bool right, sl_tpl_value *out)
{
    const sl_tpl_str *set = NULL;
    size_t front = 0, back = 0;

    if (chars.kind != SL_TPL_MISSING && chars.kind != SL_TPL_NONE)
        SL_TPL_TRY(sl_tpl_want_str(r, chars, "what strip takes off", &set));
    if (left && set == NULL)
        front = sl_tpl_space_front(s->data, s->len);
    else if (left)
        SL_TPL_TRY(strippable(r, s, 0, false, set, &front));
    if (right && set == NULL)
        back = sl_tpl_space_back(s->data + front, s->len - front);
    else if (right)
        SL_TPL_TRY(strippable(r, s, front, true, set, &back));
    SL_TPL_TRY(sl_tpl_step_bytes(r, front + back));
    return sl_tpl_str_sub(r, s, front, s->len - back, out);
}

/* Put `new` before each character and at the end: what replacing "" means. */
static sl_status interleave(sl_tpl_render *r, const sl_tpl_str *s, const sl_tpl_str *new_text,
                            int64_t count, sl_tpl_value *out)
{
    sl_tpl_text t = {0};

    for (size_t i = 0; i <= s->len;) {
        uint32_t code;
        const size_t step = i < s->len ? sl_utf8_next(s->data + i, s->len - i, &code) : 1;

        if (count != 0) {
            SL_TPL_TRY(sl_tpl_text_add_str(r, &t, new_text));
            count -= count > 0;
        }
        if (i < s->len)
            SL_TPL_TRY(sl_tpl_text_add_sub(r, &t, s, i, i + step));
        i += step;
    }
    SL_TPL_TRY(sl_tpl_step(r, s->len / 16));
    return sl_tpl_text_done(r, &t, false, out);
}

sl_status sl_tpl_replace(sl_tpl_render *r, const sl_tpl_str *s, const sl_tpl_str *with[2],
                         int64_t count, sl_tpl_value *out)
{
    sl_tpl_text t = {0};
    size_t from = 0;

    SL_TPL_TRY(sl_tpl_step_bytes(r, s->len));
    if (with[0]->len == 0)
        return interleave(r, s, with[1], count, out);
    while (count != 0) {
        const char *found = memmem(s->data + from, s->len - from, with[0]->data, with[0]->len);

        if (found == NULL)
            break;
        SL_TPL_TRY(sl_tpl_text_add_sub(r, &t, s, from, (size_t)(found - s->data)));
        SL_TPL_TRY(sl_tpl_text_add_str(r, &t, with[1]));
        from = (size_t)(found - s->data) + with[0]->len;
        count -= count > 0;
    }
    if (from == 0) { /* nothing was found: the string itself */
        *out = sl_tpl_of_str(s);
        return SL_OK;
    }
    SL_TPL_TRY(sl_tpl_text_add_sub(r, &t, s, from, s->len));
    return sl_tpl_text_done(r, &t, false, out);
}

static sl_status push_sub(sl_tpl_render *r, const sl_tpl_str *s, size_t from, size_t to,
                          sl_tpl_seq *list)
{
    sl_tpl_value part;

    SL_TPL_TRY(sl_tpl_str_sub(r, s, from, to, &part));
    return sl_tpl_seq_push(r, list, part);
}

/* At white space, without empty parts. */
static sl_status split_space(sl_tpl_render *r, const sl_tpl_str *s, int64_t most, sl_tpl_seq *list)
{
    size_t i = sl_tpl_space_front(s->data, s->len);

    while (i < s->len) {
        size_t end = i;

        if (most == 0)
            return push_sub(r, s, i, s->len, list);
        while (end < s->len && sl_tpl_space_front(s->data + end, s->len - end) == 0) {
            uint32_t code;

            end += sl_utf8_next(s->data + end, s->len - end, &code);
        }
        SL_TPL_TRY(push_sub(r, s, i, end, list));
        i = end + sl_tpl_space_front(s->data + end, s->len - end);
        most -= most > 0;
    }
    return SL_OK;
}

/* The same from the right: the parts come out last first. */
static sl_status rsplit_space(sl_tpl_render *r, const sl_tpl_str *s, int64_t most, sl_tpl_seq *list)
{
    size_t end = s->len - sl_tpl_space_back(s->data, s->len);

    while (end > 0) {
        size_t start = end;

        if (most == 0)
            return push_sub(r, s, 0, end, list);
        while (start > 0 && sl_tpl_space_back(s->data, start) == 0) {
            start--;
            while (start > 0 && ((unsigned char)s->data[start] & 0xC0) == 0x80)
                start--;
        }
        SL_TPL_TRY(push_sub(r, s, start, end, list));
        end = start - sl_tpl_space_back(s->data, start);
        most -= most > 0;
    }
    return SL_OK;
}

static sl_status split_text(sl_tpl_render *r, const sl_tpl_str *s, const sl_tpl_str *sep,
                            int64_t most, sl_tpl_seq *list)
{
    size_t from = 0;

    for (; most != 0; most -= most > 0) {
        const char *found = memmem(s->data + from, s->len - from, sep->data, sep->len);

        if (found == NULL)
            break;
        SL_TPL_TRY(push_sub(r, s, from, (size_t)(found - s->data), list));
        from = (size_t)(found - s->data) + sep->len;
    }
    return push_sub(r, s, from, s->len, list);
}

static sl_status rsplit_text(sl_tpl_render *r, const sl_tpl_str *s, const sl_tpl_str *sep,
                             int64_t most, sl_tpl_seq *list)
{
    size_t end = s->len;
    size_t at = end; /* a separator may begin at or before at - sep->len */

    while (most != 0 && at >= sep->len) {
        SL_TPL_TRY(sl_tpl_step_bytes(r, sep->len)); /* nothing, but for a long separator */
        if (memcmp(s->data + at - sep->len, sep->data, sep->len) != 0) {
            at--;
            continue;
        }
        SL_TPL_TRY(push_sub(r, s, at, end, list));
        at -= sep->len;
        end = at;
        most -= most > 0;
    }
    return push_sub(r, s, 0, end, list);
}

static void reverse_items(sl_tpl_seq *list)
{
    for (size_t i = 0; i < list->count / 2; i++) {
        const sl_tpl_value swap = list->item[i];

        list->item[i] = list->item[list->count - 1 - i];
        list->item[list->count - 1 - i] = swap;
    }
}

sl_status sl_tpl_split(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    const bool from_right = call->builtin->detail != 0;
    const sl_tpl_str *s, *sep = NULL;
    int64_t most = -1;
    sl_tpl_seq *list;

    SL_TPL_TRY(sl_tpl_want_str(r, call->self, "what is split", &s));
    if (call->arg[0].kind != SL_TPL_MISSING && call->arg[0].kind != SL_TPL_NONE)
        SL_TPL_TRY(sl_tpl_want_str(r, call->arg[0], "the separator", &sep));
    if (call->arg[1].kind != SL_TPL_MISSING)
        SL_TPL_TRY(sl_tpl_want_int(r, call->arg[1], "maxsplit", &most));
    if (sep != NULL && sep->len == 0)
        return sl_tpl_fail(r, "the separator is empty");
    SL_TPL_TRY(sl_tpl_step_bytes(r, s->len));
    SL_TPL_TRY(sl_tpl_seq_new(r, SL_TPL_LIST, 0, &list));
    if (sep == NULL)
        SL_TPL_TRY(from_right ? rsplit_space(r, s, most, list) : split_space(r, s, most, list));
    else
        SL_TPL_TRY(from_right ? rsplit_text(r, s, sep, most, list)
                              : split_text(r, s, sep, most, list));
    if (from_right)
        reverse_items(list);
    *out = sl_tpl_of_seq(list);
    return SL_OK;
}

static bool ends_line(uint32_t code)
{
    return (code >= 10 && code <= 13) || (code >= 0x1C && code <= 0x1E) || code == 0x85 ||
           code == 0x2028 || code == 0x2029;
}

sl_status sl_tpl_splitlines(sl_tpl_render *r, const sl_tpl_str *s, sl_tpl_seq **out)
{
    size_t from = 0;

    SL_TPL_TRY(sl_tpl_seq_new(r, SL_TPL_LIST, 0, out));
    for (size_t i = 0; i < s->len;) {
        uint32_t code;
        size_t next = i + sl_utf8_next(s->data + i, s->len - i, &code);

        if (ends_line(code)) {
            SL_TPL_TRY(push_sub(r, s, from, i, *out));
            if (code == '\r' && next < s->len && s->data[next] == '\n')
                next++;
            from = next;
        }
        i = next;
    }
    return from < s->len ? push_sub(r, s, from, s->len, *out) : SL_OK;
}

/* ---- Methods of strings ---- */

static sl_status str_case(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    return sl_tpl_recase(r, call->self.as.str, (sl_tpl_case)call->builtin->detail, out);
}

static sl_status str_strip(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    const uint32_t ends = call->builtin->detail;

    return sl_tpl_strip(r, call->self.as.str, call->arg[0], (ends & LEFT) != 0, (ends & RIGHT) != 0,
                        out);
}

static sl_status str_splitlines(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    out->kind = SL_TPL_SEQ;
    return sl_tpl_splitlines(r, call->self.as.str, &out->as.seq);
}

static bool has_affix(const sl_tpl_str *s, const sl_tpl_str *affix, bool at_end)
{
    return affix->len <= s->len &&
           memcmp(at_end ? s->data + s->len - affix->len : s->data, affix->data, affix->len) == 0;
}

/* startswith, endswith: of one text, or of any of a tuple.  detail: at the end. */
static sl_status str_affix(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    const bool at_end = call->builtin->detail != 0;
    const sl_tpl_value bound[3] = {call->arg[1], call->arg[2], sl_tpl_none()};
    sl_tpl_value s = call->self, affix = call->arg[0];
    const sl_tpl_value *one = &affix;
    size_t count = 1;

    if (call->arg[1].kind != SL_TPL_MISSING || call->arg[2].kind != SL_TPL_MISSING)
        SL_TPL_TRY(sl_tpl_slice(r, s, bound, &s));
    if (affix.kind == SL_TPL_SEQ && affix.as.seq->form == SL_TPL_TUPLE)
        SL_TPL_TRY(sl_tpl_iterate(r, affix, &one, &count));
    *out = sl_tpl_bool(false);
    for (size_t i = 0; i < count; i++) {
        const sl_tpl_str *text;

        SL_TPL_TRY(sl_tpl_want_str(r, one[i], "the beginning or end looked for", &text));
        if (has_affix(s.as.str, text, at_end))
            *out = sl_tpl_bool(true);
    }
    return SL_OK;
}

/* removeprefix, removesuffix; detail: at the end. */
static sl_status str_remove(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    const bool at_end = call->builtin->detail != 0;
    const sl_tpl_str *s = call->self.as.str, *affix;

    SL_TPL_TRY(sl_tpl_want_str(r, call->arg[0], "what is removed", &affix));
    if (!has_affix(s, affix, at_end)) {
        *out = call->self;
        return SL_OK;
    }
    return sl_tpl_str_sub(r, s, at_end ? 0 : affix->len, at_end ? s->len - affix->len : s->len,
                          out);
}

static sl_status str_replace(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    const sl_tpl_str *with[2];
    int64_t count = -1;

    SL_TPL_TRY(sl_tpl_want_str(r, call->arg[0], "what is replaced", &with[0]));
    SL_TPL_TRY(sl_tpl_want_str(r, call->arg[1], "what replaces it", &with[1]));
    if (call->arg[2].kind != SL_TPL_MISSING)
        SL_TPL_TRY(sl_tpl_want_int(r, call->arg[2], "the count of replace", &count));
    return sl_tpl_replace(r, call->self.as.str, with, count, out);
}

static sl_status str_join(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    const sl_tpl_value *item;
    sl_tpl_text t = {0};
    size_t count;

    SL_TPL_TRY(sl_tpl_iterate(r, call->arg[0], &item, &count));
    for (size_t i = 0; i < count; i++) {
        const sl_tpl_str *s;

        if (i > 0)
            SL_TPL_TRY(sl_tpl_text_add_str(r, &t, call->self.as.str));
        SL_TPL_TRY(sl_tpl_want_str(r, item[i], "what join takes", &s));
        SL_TPL_TRY(sl_tpl_text_add_str(r, &t, s));
    }
    return sl_tpl_text_done(r, &t, false, out);
}

/* find, index; detail: index, which fails where find says -1. */
static sl_status str_find(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    const sl_tpl_str *s = call->self.as.str, *sub;
    const char *found;

    SL_TPL_TRY(sl_tpl_want_str(r, call->arg[0], "what is looked for", &sub));
    SL_TPL_TRY(sl_tpl_step_bytes(r, s->len));
    found = sub->len == 0 ? s->data : memmem(s->data, s->len, sub->data, sub->len);
    if (found == NULL && call->builtin->detail != 0)
        return sl_tpl_fail(r, "substring not found");
    *out = sl_tpl_int(
        found == NULL ? -1 : (int64_t)sl_tpl_str_chars(s->data, (size_t)(found - s->data)));
    return SL_OK;
}

static sl_status str_count(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    const sl_tpl_str *s = call->self.as.str, *sub;
    int64_t count = 0;
    size_t from = 0;

    SL_TPL_TRY(sl_tpl_want_str(r, call->arg[0], "what is counted", &sub));
    SL_TPL_TRY(sl_tpl_step_bytes(r, s->len));
    *out = sl_tpl_int((int64_t)s->chars + 1);
    if (sub->len == 0)
        return SL_OK;
    for (;; count++) {
        const char *found = memmem(s->data + from, s->len - from, sub->data, sub->len);

        if (found == NULL)
            break;
        from = (size_t)(found - s->data) + sub->len;
    }
    *out = sl_tpl_int(count);
    return SL_OK;
}

typedef enum char_class { CLASS_DIGIT, CLASS_SPACE, CLASS_UPPER, CLASS_LOWER } char_class;

/* isdigit, isspace, isupper, islower: detail says which. */
static sl_status str_is(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    const sl_tpl_str *s = call->self.as.str;
    const char_class which = (char_class)call->builtin->detail;
    bool some = false, all = true;

    SL_TPL_TRY(sl_tpl_step_bytes(r, s->len));
    for (size_t i = 0; i < s->len;) {
        uint32_t code;

        i += sl_utf8_next(s->data + i, s->len - i, &code);
        switch (which) {
        case CLASS_DIGIT:
            some = true;
            all &= code >= '0' && code <= '9';
            break;
        case CLASS_SPACE:
            some = true;
            all &= sl_tpl_is_space(code);
            break;
        case CLASS_UPPER:
            some |= sl_tpl_lower(code) != code;
            all &= sl_tpl_upper(code) == code;
            break;
        default:
            some |= sl_tpl_upper(code) != code;
            all &= sl_tpl_lower(code) == code;
        }
    }
    *out = sl_tpl_bool(some && all);
    return SL_OK;
}

/* ---- Lists and dicts ---- */

/* These two change the list in place.  jinja2's sandbox refuses that; templates that use it were
 * made for servers that do not. */
static sl_status list_append(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    *out = sl_tpl_none();
    return sl_tpl_seq_push(r, call->self.as.seq, call->arg[0]);
}

static sl_status list_pop(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    sl_tpl_seq *seq = call->self.as.seq;
    int64_t index = -1;

    if (call->arg[0].kind != SL_TPL_MISSING)
        SL_TPL_TRY(sl_tpl_want_int(r, call->arg[0], "the index to pop", &index));
    if (index < 0)
        index += (int64_t)seq->count;
    if (index < 0 || index >= (int64_t)seq->count)
        return sl_tpl_fail(r, "there is no item to pop");
    *out = seq->item[index];
    seq->count--;
    memmove(&seq->item[index], &seq->item[index + 1],
            (seq->count - (size_t)index) * sizeof(seq->item[0]));
    return sl_tpl_step(r, (seq->count - (size_t)index) / 64);
}

static sl_status list_index(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    const sl_tpl_seq *seq = call->self.as.seq;

    SL_TPL_TRY(sl_tpl_step(r, seq->count / 16));
    for (size_t i = 0; i < seq->count; i++) {
        bool equal;

        SL_TPL_TRY(sl_tpl_equal(r, seq->item[i], call->arg[0], &equal));
        if (equal) {
            *out = sl_tpl_int((int64_t)i);
            return SL_OK;
        }
    }
    return sl_tpl_fail(r, "the value is not in the list");
}

static sl_status list_count(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    const sl_tpl_seq *seq = call->self.as.seq;
    int64_t count = 0;

    SL_TPL_TRY(sl_tpl_step(r, seq->count / 16));
    for (size_t i = 0; i < seq->count; i++) {
        bool equal;

        SL_TPL_TRY(sl_tpl_equal(r, seq->item[i], call->arg[0], &equal));
        count += equal;
    }
    *out = sl_tpl_int(count);
    return SL_OK;
}

static sl_status dict_get(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    sl_tpl_entry *entry;

    SL_TPL_TRY(sl_tpl_dict_find(r, call->self.as.dict, call->arg[0], &entry));
    *out = entry != NULL                         ? entry->value
           : call->arg[1].kind != SL_TPL_MISSING ? call->arg[1]
                                                 : sl_tpl_none();
    return SL_OK;
}

/* keys, values, items: detail is the form.  A copy, where Python has a view. */
static sl_status dict_view(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    const sl_tpl_form form = (sl_tpl_form)call->builtin->detail;
    const sl_tpl_dict *dict = call->self.as.dict;

    out->kind = SL_TPL_SEQ;
    SL_TPL_TRY(sl_tpl_seq_new(r, form, dict->count, &out->as.seq));
    SL_TPL_TRY(sl_tpl_step(r, dict->count / 16));
    for (size_t i = 0; i < dict->count; i++) {
        sl_tpl_value *item = &out->as.seq->item[out->as.seq->count++];

        if (form == SL_TPL_ITEMS)
            SL_TPL_TRY(sl_tpl_pair(r, dict->entry[i].key, dict->entry[i].value, item));
        else
            *item = form == SL_TPL_KEYS ? dict->entry[i].key : dict->entry[i].value;
    }
    return SL_OK;
}

static sl_status dict_pop(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    sl_tpl_dict *dict = call->self.as.dict;
    sl_tpl_entry *entry;
    size_t at;

    SL_TPL_TRY(sl_tpl_dict_find(r, dict, call->arg[0], &entry));
    if (entry == NULL && call->arg[1].kind == SL_TPL_MISSING)
        return sl_tpl_fail(r, "there is no such key to pop");
    *out = entry != NULL ? entry->value : call->arg[1];
    if (entry == NULL)
        return SL_OK;
    at = (size_t)(entry - dict->entry);
    dict->count--;
    memmove(entry, entry + 1, (dict->count - at) * sizeof(*entry));
    return SL_OK;
}

/* ---- The tables ---- */

#define UNSUPPORTED(name)                                                                          \
    {                                                                                              \
        name, NULL, "*", 0, 0                                                                      \
    }

static const sl_tpl_builtin str_methods[] = {
    {"split", sl_tpl_split, "sep,maxsplit", 0, 0},
    {"rsplit", sl_tpl_split, "sep,maxsplit", 0, 1},
    {"splitlines", str_splitlines, "", 0, 0},
    {"strip", str_strip, "chars", 0, LEFT | RIGHT},
    {"lstrip", str_strip, "chars", 0, LEFT},
    {"rstrip", str_strip, "chars", 0, RIGHT},
    {"startswith", str_affix, "prefix,start,end", 1, 0},
    {"endswith", str_affix, "suffix,start,end", 1, 1},
    {"removeprefix", str_remove, "prefix", 1, 0},
    {"removesuffix", str_remove, "suffix", 1, 1},
    {"replace", str_replace, "old,new,count", 2, 0},
    {"upper", str_case, "", 0, SL_TPL_CASE_UPPER},
    {"lower", str_case, "", 0, SL_TPL_CASE_LOWER},
    {"title", str_case, "", 0, SL_TPL_CASE_TITLE},
    {"capitalize", str_case, "", 0, SL_TPL_CASE_CAPITALIZE},
    {"join", str_join, "iterable", 1, 0},
    {"find", str_find, "sub", 1, 0},
    {"index", str_find, "sub", 1, 1},
    {"count", str_count, "sub", 1, 0},
    {"format", sl_tpl_str_format, "*", 0, 0},
    {"isdigit", str_is, "", 0, CLASS_DIGIT},
    {"isspace", str_is, "", 0, CLASS_SPACE},
    {"isupper", str_is, "", 0, CLASS_UPPER},
    {"islower", str_is, "", 0, CLASS_LOWER},
    UNSUPPORTED("casefold"),
    UNSUPPORTED("center"),
    UNSUPPORTED("encode"),
    UNSUPPORTED("expandtabs"),
    UNSUPPORTED("format_map"),
    UNSUPPORTED("isalnum"),
    UNSUPPORTED("isalpha"),
    UNSUPPORTED("isascii"),
    UNSUPPORTED("isdecimal"),
    UNSUPPORTED("isidentifier"),
    UNSUPPORTED("isnumeric"),
    UNSUPPORTED("isprintable"),
    UNSUPPORTED("istitle"),
    UNSUPPORTED("ljust"),
    UNSUPPORTED("maketrans"),
    UNSUPPORTED("partition"),
    UNSUPPORTED("rfind"),
    UNSUPPORTED("rindex"),
    UNSUPPORTED("rjust"),
    UNSUPPORTED("rpartition"),
    UNSUPPORTED("swapcase"),
    UNSUPPORTED("translate"),
    UNSUPPORTED("zfill"),
    {NULL, NULL, NULL, 0, 0},
};

static const sl_tpl_builtin list_methods[] = {
    {"append", list_append, "object", 1, 0},
    {"pop", list_pop, "index", 0, 0},
    {"index", list_index, "value", 1, 0},
    {"count", list_count, "value", 1, 0},
    UNSUPPORTED("clear"),
    UNSUPPORTED("copy"),
    UNSUPPORTED("extend"),
    UNSUPPORTED("insert"),
    UNSUPPORTED("remove"),
    UNSUPPORTED("reverse"),
    UNSUPPORTED("sort"),
    {NULL, NULL, NULL, 0, 0},
};

static const sl_tpl_builtin tuple_methods[] = {
    {"index", list_index, "value", 1, 0},
    {"count", list_count, "value", 1, 0},
    {NULL, NULL, NULL, 0, 0},
};

static const sl_tpl_builtin dict_methods[] = {
    {"get", dict_get, "key,default", 1, 0},
    {"items", dict_view, "", 0, SL_TPL_ITEMS},
    {"keys", dict_view, "", 0, SL_TPL_KEYS},
    {"values", dict_view, "", 0, SL_TPL_VALUES},
    {"pop", dict_pop, "key,default", 1, 0},
    UNSUPPORTED("clear"),
    UNSUPPORTED("copy"),
    UNSUPPORTED("fromkeys"),
    UNSUPPORTED("popitem"),
    UNSUPPORTED("setdefault"),
    UNSUPPORTED("update"),
    {NULL, NULL, NULL, 0, 0},
};

const sl_tpl_builtin *sl_tpl_find_method(sl_tpl_value v, const sl_tpl_str *name)
{
    const sl_tpl_builtin *table = NULL;

    if (v.kind == SL_TPL_STRING)
        table = str_methods;
    else if (v.kind == SL_TPL_DICT)
        table = dict_methods;
    else if (v.kind == SL_TPL_SEQ && v.as.seq->form == SL_TPL_LIST)
        table = list_methods;
    else if (v.kind == SL_TPL_SEQ && v.as.seq->form <= SL_TPL_RANGE)
        table = tuple_methods;
    return table != NULL ? sl_tpl_find_builtin(table, name->data, name->len) : NULL;
}
