/* protocol/template_call.c - calls: macros, builtins and their parameters, global functions; and
 * the attributes of `loop`. */
#include "protocol/template_tree_internal.h"

#include <string.h>
#include <time.h>

/* ---- Builtins ---- */

const sl_tpl_builtin *sl_tpl_find_builtin(const sl_tpl_builtin *table, const char *name, size_t len)
{
    for (; table->name != NULL; table++)
        if (strlen(table->name) == len && memcmp(table->name, name, len) == 0)
            return table;
    return NULL;
}

/* Which of the "a,b,c" is `name`?  -1: none. */
static int param_index(const char *params, const sl_tpl_str *name)
{
    for (int i = 0;; i++) {
        const size_t n = strcspn(params, ",");

        if (n == name->len && n > 0 && memcmp(params, name->data, n) == 0)
            return i;
        if (params[n] == '\0')
            return -1;
        params += n + 1;
    }
}

static size_t param_count(const char *params)
{
    size_t count = params[0] != '\0';

    for (; *params != '\0'; params++)
        count += *params == ',';
    return count;
}

static sl_status bind(sl_tpl_render *r, const sl_tpl_builtin *b, const sl_tpl_args *args,
                      sl_tpl_value *arg)
{
    const size_t most = param_count(b->params);

    if (args->pos_count > most)
        return sl_tpl_fail(r, "'%s' takes at most %zu arguments", b->name, most);
    for (size_t i = 0; i < args->pos_count; i++)
        arg[i] = args->pos[i];
    for (size_t i = 0; i < args->key_count; i++) {
        const int at = param_index(b->params, args->key[i]);

        if (at < 0 || arg[at].kind != SL_TPL_MISSING)
            return sl_tpl_fail(r, "'%s' has no (more) argument '%.*s'", b->name,
                               (int)(args->key[i]->len < 40 ? args->key[i]->len : 40),
                               args->key[i]->data);
        arg[at] = args->keyed[i];
    }
    for (size_t i = 0; i < b->required; i++)
        if (arg[i].kind == SL_TPL_MISSING)
            return sl_tpl_fail(r, "'%s' needs an argument more", b->name);
    return SL_OK;
}

sl_status sl_tpl_call_builtin(sl_tpl_render *r, const sl_tpl_builtin *b, sl_tpl_value self,
                              const sl_tpl_args *args, sl_tpl_value *out)
{
    sl_tpl_call call = {.self = self, .raw = args, .builtin = b};
    sl_tpl_value result;

    if (b->run == NULL)
        return sl_tpl_fail(r, "the method '%s' of %s is not supported", b->name,
                           sl_tpl_type_name(self));
    if (strcmp(b->params, "*") != 0)
        SL_TPL_TRY(bind(r, b, args, call.arg));
    SL_TPL_TRY(b->run(r, &call, &result));
    *out = result;
    return SL_OK;
}

/* ---- Macros ---- */

/* The keyword argument `name`, or NULL. */
static const sl_tpl_value *find_key(const sl_tpl_args *args, const sl_tpl_str *name)
{
    for (size_t i = 0; i < args->key_count; i++)
        if (sl_tpl_str_equal(args->key[i], name))
            return &args->keyed[i];
    return NULL;
}

/* Set the parameters in the macro's scope: by place, by name, or their defaults, which see the
 * parameters before them.  *used counts the keyword arguments taken. */
static sl_status bind_params(sl_tpl_render *r, const sl_tpl_macro_node *m, const sl_tpl_args *args,
                             size_t *used)
{
    size_t at = 0;

    for (const sl_tpl_param *p = m->params; p != NULL; p = p->next, at++) {
        const sl_tpl_value *keyed = at < args->pos_count ? NULL : find_key(args, p->name);
        sl_tpl_value v = sl_tpl_undefined("a parameter was not provided");

        if (at < args->pos_count) {
            v = args->pos[at];
        } else if (keyed != NULL) {
            v = *keyed;
            (*used)++;
        } else if (p->fallback != NULL) {
            SL_TPL_TRY(sl_tpl_eval(r, p->fallback, &v));
        }
        SL_TPL_TRY(sl_tpl_scope_set(r, p->name, v));
    }
    return SL_OK;
}

static bool is_param(const sl_tpl_macro_node *m, const sl_tpl_args *args, const sl_tpl_str *name)
{
    size_t at = 0;

    for (const sl_tpl_param *p = m->params; p != NULL; p = p->next, at++)
        if (at >= args->pos_count && sl_tpl_str_equal(p->name, name))
            return true;
    return false;
}

/* `kwargs`: the keyword arguments that are no parameters. */
static sl_status bind_kwargs(sl_tpl_render *r, const sl_tpl_macro_node *m, const sl_tpl_args *args)
{
    sl_tpl_dict *rest;

    SL_TPL_TRY(sl_tpl_dict_new(r, &rest));
    for (size_t i = 0; i < args->key_count; i++)
        if (!is_param(m, args, args->key[i]) &&
            !(m->uses_caller && sl_tpl_str_equal(args->key[i], r->tpl->caller_name)))
            SL_TPL_TRY(sl_tpl_dict_push(r, rest, sl_tpl_of_str(args->key[i]), args->keyed[i]));
    return sl_tpl_scope_set(r, r->tpl->kwargs_name,
                            (sl_tpl_value){.kind = SL_TPL_DICT, .as.dict = rest});
}

static sl_status bind_varargs(sl_tpl_render *r, const sl_tpl_macro_node *m, const sl_tpl_args *args)
{
    sl_tpl_seq *rest;

    SL_TPL_TRY(sl_tpl_seq_new(r, SL_TPL_TUPLE, 0, &rest));
    for (size_t i = m->param_count; i < args->pos_count; i++)
        SL_TPL_TRY(sl_tpl_seq_push(r, rest, args->pos[i]));
    return sl_tpl_scope_set(r, r->tpl->varargs_name, sl_tpl_of_seq(rest));
}

static sl_status bind_macro(sl_tpl_render *r, const sl_tpl_macro_node *m, const sl_tpl_args *args)
{
    size_t used = 0;

    SL_TPL_TRY(bind_params(r, m, args, &used));
    if (m->uses_caller && !is_param(m, args, r->tpl->caller_name)) {
        const sl_tpl_value *caller = find_key(args, r->tpl->caller_name);

        used += caller != NULL;
        SL_TPL_TRY(
            sl_tpl_scope_set(r, r->tpl->caller_name,
                             caller != NULL ? *caller : sl_tpl_undefined("no caller is defined")));
    }
    if (m->uses_kwargs)
        SL_TPL_TRY(bind_kwargs(r, m, args));
    else if (used < args->key_count)
        return sl_tpl_fail(r, "the macro '%.*s' has no such keyword argument", (int)m->name->len,
                           m->name->data);
    if (m->uses_varargs)
        SL_TPL_TRY(bind_varargs(r, m, args));
    else if (args->pos_count > m->param_count)
        return sl_tpl_fail(r, "the macro '%.*s' takes at most %u arguments", (int)m->name->len,
                           m->name->data, m->param_count);
    return SL_OK;
}

static sl_status call_macro(sl_tpl_render *r, const sl_tpl_macro *macro, const sl_tpl_args *args,
                            sl_tpl_value *out)
{
    sl_tpl_scope *outer = r->scope;

    if (r->calls == SL_TEMPLATE_CALLS_MAX)
        return sl_tpl_fail(r, "more than %d macro calls inside each other", SL_TEMPLATE_CALLS_MAX);
    r->calls++;
    SL_TPL_TRY(sl_tpl_scope_push(r, macro->scope));
    SL_TPL_TRY(bind_macro(r, macro->node->as.macro, args));
    SL_TPL_TRY(sl_tpl_capture_body(r, macro->node->as.macro->body, out));
    r->scope = outer;
    r->calls--;
    return SL_OK;
}

sl_status sl_tpl_call_value(sl_tpl_render *r, sl_tpl_value callee, const sl_tpl_args *args,
                            sl_tpl_value *out)
{
    switch (callee.kind) {
    case SL_TPL_MACRO:
        return call_macro(r, callee.as.macro, args, out);
    case SL_TPL_METHOD:
        return sl_tpl_call_builtin(r, callee.as.method->builtin, callee.as.method->self, args, out);
    case SL_TPL_FUNCTION:
        return sl_tpl_call_builtin(r, callee.as.function, sl_tpl_none(), args, out);
    case SL_TPL_UNDEFINED:
        return sl_tpl_fail_undefined(r, callee);
    default:
        return sl_tpl_fail(r, "%s is not callable", sl_tpl_type_name(callee));
    }
}

/* ---- Global functions ---- */

/* dict(pairs or mapping, **more) */
static sl_status make_dict(sl_tpl_render *r, const sl_tpl_args *args, sl_tpl_dict **out)
{
    const sl_tpl_value *item, *pair;
    size_t count, two;

    if (args->pos_count > 1)
        return sl_tpl_fail(r, "a dict is made of at most one argument");
    SL_TPL_TRY(sl_tpl_dict_new(r, out));
    if (args->pos_count == 1 && args->pos[0].kind == SL_TPL_DICT) {
        const sl_tpl_dict *from = args->pos[0].as.dict;

        for (size_t i = 0; i < from->count; i++)
            SL_TPL_TRY(sl_tpl_dict_push(r, *out, from->entry[i].key, from->entry[i].value));
    } else if (args->pos_count == 1) {
        SL_TPL_TRY(sl_tpl_iterate(r, args->pos[0], &item, &count));
        for (size_t i = 0; i < count; i++) {
            SL_TPL_TRY(sl_tpl_iterate(r, item[i], &pair, &two));
            if (two != 2)
                return sl_tpl_fail(r, "a dict is made of pairs");
            SL_TPL_TRY(sl_tpl_dict_set(r, *out, pair[0], pair[1]));
        }
    }
    for (size_t i = 0; i < args->key_count; i++)
        SL_TPL_TRY(sl_tpl_dict_set(r, *out, sl_tpl_of_str(args->key[i]), args->keyed[i]));
    return SL_OK;
}

static sl_status global_dict(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    out->kind = SL_TPL_DICT;
    return make_dict(r, call->raw, &out->as.dict);
}

static sl_status global_namespace(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    out->kind = SL_TPL_NAMESPACE;
    return make_dict(r, call->raw, &out->as.dict);
}

static sl_status global_range(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    const bool alone = call->arg[1].kind == SL_TPL_MISSING;
    int64_t start = 0, stop, step = 1;
    uint64_t count = 0;
    sl_tpl_seq *seq;

    if (call->raw->key_count > 0)
        return sl_tpl_fail(r, "range takes no keyword arguments");
    SL_TPL_TRY(sl_tpl_want_int(r, call->arg[alone ? 0 : 1], "the end of a range", &stop));
    if (!alone)
        SL_TPL_TRY(sl_tpl_want_int(r, call->arg[0], "the start of a range", &start));
    if (call->arg[2].kind != SL_TPL_MISSING)
        SL_TPL_TRY(sl_tpl_want_int(r, call->arg[2], "the step of a range", &step));
    if (step == 0)
        return sl_tpl_fail(r, "the step of a range is zero");
    if (step > 0 && stop > start)
        count = ((uint64_t)stop - (uint64_t)start - 1) / (uint64_t)step + 1;
    if (step < 0 && stop < start)
        count = ((uint64_t)start - (uint64_t)stop - 1) / (0 - (uint64_t)step) + 1;
    if (count > SL_TPL_RANGE_MAX)
        return sl_tpl_fail(r, "a range of more than %d", SL_TPL_RANGE_MAX);
    SL_TPL_TRY(sl_tpl_step(r, count / 16));
    SL_TPL_TRY(sl_tpl_seq_new(r, SL_TPL_RANGE, count, &seq));
    for (uint64_t i = 0; i < count; i++)
        seq->item[seq->count++] = sl_tpl_int(start + (int64_t)i * step);
    *out = sl_tpl_of_seq(seq);
    return SL_OK;
}

static sl_status global_raise(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    const sl_tpl_str *message;
    size_t shown;

    (void)out;
    SL_TPL_TRY(sl_tpl_to_str(r, call->arg[0], &message));
    shown = message->len < 400 ? message->len : sl_utf8_whole(message->data, 400);
    return sl_tpl_fail(r, "%.*s", (int)shown, message->data);
}

/* The time is UTC: what a server's zone is says nothing of its client's. */
static sl_status global_strftime(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    const time_t now = (time_t)r->now_unix_s;
    const sl_tpl_str *format;
    char text[256], *format_z;
    struct tm tm;
    size_t n;

    SL_TPL_TRY(sl_tpl_want_str(r, call->arg[0], "the format of strftime_now", &format));
    format_z = sl_tpl_alloc(r, format->len + 1, 1);
    if (format_z == NULL)
        return r->status;
    memcpy(format_z, format->data, format->len);
    if (gmtime_r(&now, &tm) == NULL)
        return sl_tpl_fail(r, "the time is out of range");
        /* The template may choose the format: it is no risk, for strftime has no %n to write
         * through. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    n = strftime(text, sizeof(text), format_z, &tm);
#pragma GCC diagnostic pop
    if (n == 0 && format->len > 0)
        return sl_tpl_fail(r, "the time takes more than %zu bytes", sizeof(text) - 1);
    return sl_tpl_str_new(r, text, n, sl_tpl_str_has_user(format), out);
}

static const sl_tpl_builtin globals[] = {
    {"namespace", global_namespace, "*", 0, 0},
    {"dict", global_dict, "*", 0, 0},
    {"range", global_range, "start,stop,step", 1, 0},
    {"raise_exception", global_raise, "message", 1, 0},
    {"strftime_now", global_strftime, "format", 1, 0},
    {NULL, NULL, NULL, 0, 0},
};

const sl_tpl_builtin *sl_tpl_find_global(const char *name, size_t len)
{
    return sl_tpl_find_builtin(globals, name, len);
}

/* ---- loop ---- */

/* Does the item pass the loop's test?  Its names are set in a scope of the test's own. */
static sl_status passes(sl_tpl_render *r, const sl_tpl_loop *loop, sl_tpl_value item, bool *out)
{
    sl_tpl_scope *outer = r->scope;
    sl_tpl_value v;

    SL_TPL_TRY(sl_tpl_scope_push(r, loop->outer));
    SL_TPL_TRY(sl_tpl_assign_to(r, loop->node->as.loop.target, item));
    SL_TPL_TRY(sl_tpl_eval(r, loop->node->as.loop.test, &v));
    r->scope = outer;
    *out = sl_tpl_truth(v);
    return SL_OK;
}

/* Accept items until there are `count`, or no more: the test of an item is evaluated as late as
 * jinja2 does, between the rounds. */
sl_status sl_tpl_loop_fetch(sl_tpl_render *r, sl_tpl_loop *loop, size_t count)
{
    while (loop->items.count < count && loop->src_next < loop->src_count) {
        const sl_tpl_value item = loop->src[loop->src_next++];
        bool accepted = true;

        if (loop->node->as.loop.test != NULL)
            SL_TPL_TRY(passes(r, loop, item, &accepted));
        if (accepted)
            SL_TPL_TRY(sl_tpl_seq_push(r, &loop->items, item));
    }
    return SL_OK;
}

static sl_status loop_cycle(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    if (call->raw->pos_count == 0 || call->raw->key_count > 0)
        return sl_tpl_fail(r, "loop.cycle needs items to cycle through");
    *out = call->raw->pos[call->self.as.loop->index0 % call->raw->pos_count];
    return SL_OK;
}

static sl_status loop_changed(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    sl_tpl_loop *loop = call->self.as.loop;
    sl_tpl_seq *values;
    bool same = false;

    SL_TPL_TRY(sl_tpl_seq_new(r, SL_TPL_TUPLE, call->raw->pos_count, &values));
    for (size_t i = 0; i < call->raw->pos_count; i++)
        values->item[values->count++] = call->raw->pos[i];
    if (loop->last_changed.kind != SL_TPL_MISSING)
        SL_TPL_TRY(sl_tpl_equal(r, loop->last_changed, sl_tpl_of_seq(values), &same));
    loop->last_changed = sl_tpl_of_seq(values);
    *out = sl_tpl_bool(!same);
    return SL_OK;
}

static const sl_tpl_builtin loop_methods[] = {
    {"cycle", loop_cycle, "*", 0, 0},
    {"changed", loop_changed, "*", 0, 0},
    {NULL, NULL, NULL, 0, 0},
};

/* The attributes that need no look ahead. */
static bool loop_number(const sl_tpl_loop *loop, const sl_tpl_str *name, sl_tpl_value *out)
{
    const int64_t index0 = (int64_t)loop->index0;

    if (sl_tpl_str_is(name, "index"))
        *out = sl_tpl_int(index0 + 1);
    else if (sl_tpl_str_is(name, "index0"))
        *out = sl_tpl_int(index0);
    else if (sl_tpl_str_is(name, "first"))
        *out = sl_tpl_bool(index0 == 0);
    else if (sl_tpl_str_is(name, "depth"))
        *out = sl_tpl_int(1);
    else if (sl_tpl_str_is(name, "depth0"))
        *out = sl_tpl_int(0);
    else if (sl_tpl_str_is(name, "previtem"))
        *out = index0 > 0 ? loop->items.item[index0 - 1]
                          : sl_tpl_undefined("there is no previous item");
    else
        return false;
    return true;
}

static sl_status loop_ahead(sl_tpl_render *r, sl_tpl_loop *loop, const sl_tpl_str *name,
                            sl_tpl_value *out, bool *found)
{
    const bool next = sl_tpl_str_is(name, "nextitem"), last = sl_tpl_str_is(name, "last");
    const bool length = sl_tpl_str_is(name, "length");
    const bool rev = sl_tpl_str_is(name, "revindex"), rev0 = sl_tpl_str_is(name, "revindex0");
    size_t left;

    *found = next || last || length || rev || rev0;
    if (!*found)
        return SL_OK;
    SL_TPL_TRY(sl_tpl_loop_fetch(r, loop, next || last ? loop->index0 + 2 : SIZE_MAX));
    left = loop->items.count - loop->index0; /* with the current one */
    if (next)
        *out = left > 1 ? loop->items.item[loop->index0 + 1]
                        : sl_tpl_undefined("there is no next item");
    else if (last)
        *out = sl_tpl_bool(left <= 1);
    else
        *out = sl_tpl_int((int64_t)(length ? loop->items.count : rev ? left : left - 1));
    return SL_OK;
}

sl_status sl_tpl_loop_attr(sl_tpl_render *r, sl_tpl_loop *loop, const sl_tpl_str *name,
                           sl_tpl_value *out, bool *found)
{
    const sl_tpl_builtin *method = sl_tpl_find_builtin(loop_methods, name->data, name->len);
    sl_tpl_method *bound;

    *found = loop_number(loop, name, out);
    if (*found)
        return SL_OK;
    if (method == NULL)
        return loop_ahead(r, loop, name, out, found);
    bound = sl_tpl_alloc(r, 1, sizeof(*bound));
    if (bound == NULL)
        return r->status;
    bound->self = (sl_tpl_value){.kind = SL_TPL_LOOP, .as.loop = loop};
    bound->builtin = method;
    *out = (sl_tpl_value){.kind = SL_TPL_METHOD, .as.method = bound};
    *found = true;
    return SL_OK;
}
