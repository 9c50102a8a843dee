/* protocol/template_exec.c - run statements: output, scopes, loops; and rendering as a whole.
 *
 * A scope is a list of variables; loops, macros and captured blocks open one, `if` does not.  Names
 * are interned, so that looking one up compares pointers. */
#include "protocol/template_tree_internal.h"

#include <string.h>

#include "base/alloc.h"

typedef enum flow { FLOW_NEXT, FLOW_BREAK, FLOW_CONTINUE } flow;

static sl_status exec_body(sl_tpl_render *r, const sl_tpl_node *body, flow *how);

/* ---- Scopes ---- */

sl_status sl_tpl_scope_push(sl_tpl_render *r, sl_tpl_scope *parent)
{
    sl_tpl_scope *scope = sl_tpl_alloc(r, 1, sizeof(*scope));

    if (scope == NULL)
        return r->status;
    scope->parent = parent;
    r->scope = scope;
    return SL_OK;
}

sl_status sl_tpl_scope_set(sl_tpl_render *r, const sl_tpl_str *name, sl_tpl_value value)
{
    sl_tpl_scope *s = r->scope;

    for (uint32_t i = 0; i < s->count; i++)
        if (s->var[i].name == name) {
            s->var[i].value = value;
            return SL_OK;
        }
    if (s->count == s->capacity) {
        const uint32_t capacity = s->capacity == 0 ? 4 : s->capacity * 2;
        sl_tpl_var *var = sl_tpl_alloc(r, capacity, sizeof(*var));

        if (var == NULL)
            return r->status;
        if (s->count > 0)
            memcpy(var, s->var, s->count * sizeof(*var));
        s->var = var;
        s->capacity = capacity;
    }
    s->var[s->count++] = (sl_tpl_var){name, value};
    return SL_OK;
}

sl_status sl_tpl_lookup(sl_tpl_render *r, const sl_tpl_str *name, sl_tpl_value *out)
{
    const sl_tpl_builtin *function;
    sl_tpl_entry *entry;
    size_t seen = 0;

    for (const sl_tpl_scope *s = r->scope; s != NULL; s = s->parent) {
        for (uint32_t i = 0; i < s->count; i++)
            if (s->var[i].name == name) {
                *out = s->var[i].value;
                return sl_tpl_step(r, seen / 64);
            }
        seen += s->count;
    }
    SL_TPL_TRY(sl_tpl_step(r, seen / 64));
    SL_TPL_TRY(sl_tpl_dict_find(r, r->globals, sl_tpl_of_str(name), &entry));
    if (entry != NULL) {
        *out = entry->value;
        return SL_OK;
    }
    function = sl_tpl_find_global(name->data, name->len);
    if (function != NULL) {
        *out = (sl_tpl_value){.kind = SL_TPL_FUNCTION, .as.function = function};
        return SL_OK;
    }
    *out = (sl_tpl_value){.kind = SL_TPL_UNDEFINED, .why = SL_TPL_WHY_NAME, .as.str = name};
    return SL_OK;
}

static sl_status assign_attr(sl_tpl_render *r, const sl_tpl_node *target, sl_tpl_value value)
{
    sl_tpl_value ns;

    SL_TPL_TRY(sl_tpl_lookup(r, target->as.nsref.name, &ns));
    if (ns.kind != SL_TPL_NAMESPACE)
        return sl_tpl_fail(r, "cannot assign attribute on %s, only on a namespace",
                           sl_tpl_type_name(ns));
    return sl_tpl_dict_set(r, ns.as.dict, sl_tpl_of_str(target->as.nsref.attr), value);
}

sl_status sl_tpl_assign_to(sl_tpl_render *r, const sl_tpl_node *target, sl_tpl_value value)
{
    const sl_tpl_value *item;
    size_t count;

    if (target->kind == SL_TPL_N_NAME)
        return sl_tpl_scope_set(r, target->as.name, value);
    if (target->kind == SL_TPL_N_NSREF)
        return assign_attr(r, target, value);
    SL_TPL_TRY(sl_tpl_iterate(r, value, &item, &count));
    if (count != target->as.children.count)
        return sl_tpl_fail(r, "%zu values for %zu names", count, target->as.children.count);
    for (const sl_tpl_node *c = target->as.children.first; c != NULL; c = c->next)
        SL_TPL_TRY(sl_tpl_assign_to(r, c, *item++)); /* as deep as the parser let it be */
    return SL_OK;
}

/* ---- Output ---- */

/* Room for one more run. */
static bool grow_runs(sl_template_output *out)
{
    const size_t capacity = out->run_capacity == 0 ? 16 : out->run_capacity * 2;
    sl_template_run *run;

    if (out->run_count < out->run_capacity)
        return true;
    run = sl_realloc(out->run, capacity, sizeof(*run));
    if (run == NULL)
        return false;
    out->run = run;
    out->run_capacity = capacity;
    return true;
}

static sl_status emit(sl_tpl_render *r, const char *data, size_t len, bool user)
{
    sl_template_output *out = r->out;

    if (len == 0)
        return SL_OK;
    if (len > SL_TEMPLATE_OUTPUT_MAX - out->text.len)
        return sl_tpl_fail(r, "the rendering is longer than %d bytes", SL_TEMPLATE_OUTPUT_MAX);
    if (grow_runs(out))
        sl_buf_add(&out->text, data, len);
    else
        out->text.failed = true;
    if (out->text.failed) {
        r->status = sl_fail(r->err, SL_ENOMEM, "no memory to render the chat template");
        return r->status;
    }
    if (out->run_count == 0 || out->run[out->run_count - 1].user != user)
        out->run[out->run_count++].user = user;
    out->run[out->run_count - 1].end = out->text.len;
    return SL_OK;
}

static sl_status output_str(sl_tpl_render *r, const sl_tpl_str *s)
{
    if (r->capture != NULL)
        return sl_tpl_text_add_str(r, r->capture, s);
    for (size_t from = 0; from < s->len;) {
        bool user;
        const size_t end = sl_tpl_str_run(s, from, &user);

        SL_TPL_TRY(emit(r, s->data + from, end - from, user));
        from = end;
    }
    return SL_OK;
}

static sl_status exec_print(sl_tpl_render *r, const sl_tpl_node *n)
{
    const sl_tpl_str *s;
    sl_tpl_value v;

    SL_TPL_TRY(sl_tpl_eval(r, n->as.operand, &v));
    SL_TPL_TRY(sl_tpl_to_str(r, v, &s));
    return output_str(r, s);
}

/* What a filter or call block gives must be a string already. */
static sl_status output_value(sl_tpl_render *r, sl_tpl_value v)
{
    const sl_tpl_str *s;

    SL_TPL_TRY(sl_tpl_want_str(r, v, "what a filter or call block gives", &s));
    return output_str(r, s);
}

/* Run `body` in a scope of its own, with its output in *t instead. */
static sl_status capture(sl_tpl_render *r, const sl_tpl_node *body, sl_tpl_text *t, flow *how)
{
    sl_tpl_text *outer = r->capture;
    sl_tpl_scope *scope = r->scope;
    sl_status status;

    SL_TPL_TRY(sl_tpl_scope_push(r, scope));
    r->capture = t;
    status = exec_body(r, body, how);
    r->capture = outer;
    r->scope = scope;
    return status;
}

sl_status sl_tpl_capture_body(sl_tpl_render *r, const sl_tpl_node *body, sl_tpl_value *out)
{
    sl_tpl_text t = {0};
    flow how = FLOW_NEXT; /* stays so: no break leaves a macro */

    SL_TPL_TRY(capture(r, body, &t, &how));
    return sl_tpl_text_done(r, &t, false, out);
}

/* ---- Statements ---- */

static sl_status exec_if(sl_tpl_render *r, const sl_tpl_node *n, flow *how)
{
    for (const sl_tpl_branch *b = n->as.branch; b != NULL; b = b->next) {
        if (b->test != NULL) {
            sl_tpl_value v;

            SL_TPL_TRY(sl_tpl_eval(r, b->test, &v));
            if (!sl_tpl_truth(v))
                continue;
        }
        return exec_body(r, b->body, how);
    }
    return SL_OK;
}

static sl_status loop_start(sl_tpl_render *r, const sl_tpl_node *n, sl_tpl_loop **out)
{
    sl_tpl_loop *loop = sl_tpl_alloc(r, 1, sizeof(*loop));
    sl_tpl_value over;

    if (loop == NULL)
        return r->status;
    SL_TPL_TRY(sl_tpl_eval(r, n->as.loop.iter, &over));
    r->line = n->line;
    SL_TPL_TRY(sl_tpl_iterate(r, over, &loop->src, &loop->src_count));
    if (n->as.loop.test == NULL) { /* all are accepted; nothing is ever appended to these */
        loop->items.item = (sl_tpl_value *)loop->src;
        loop->items.count = loop->items.capacity = loop->src_next = loop->src_count;
    }
    loop->node = n;
    loop->outer = r->scope;
    *out = loop;
    return SL_OK;
}

/* One round of the loop, in its scope. */
static sl_status exec_round(sl_tpl_render *r, const sl_tpl_node *n, sl_tpl_loop *loop, flow *how)
{
    const sl_tpl_value self = {.kind = SL_TPL_LOOP, .as.loop = loop};

    SL_TPL_TRY(sl_tpl_step(r, 1));
    r->scope->count = 0; /* nothing set in one round is seen in the next */
    SL_TPL_TRY(sl_tpl_scope_set(r, r->tpl->loop_name, self));
    SL_TPL_TRY(sl_tpl_assign_to(r, n->as.loop.target, loop->items.item[loop->index0]));
    return exec_body(r, n->as.loop.body, how);
}

/* As in jinja2, `else` runs unless a round came to its end: also after a break in the first. */
static sl_status exec_for(sl_tpl_render *r, const sl_tpl_node *n, flow *how)
{
    sl_tpl_scope *outer = r->scope;
    sl_tpl_loop *loop = NULL;
    bool completed = false;

    SL_TPL_TRY(loop_start(r, n, &loop));
    SL_TPL_TRY(sl_tpl_scope_push(r, outer));
    for (;; loop->index0++) {
        flow inner = FLOW_NEXT;

        SL_TPL_TRY(sl_tpl_loop_fetch(r, loop, loop->index0 + 1));
        if (loop->index0 >= loop->items.count)
            break;
        SL_TPL_TRY(exec_round(r, n, loop, &inner));
        if (inner == FLOW_BREAK)
            break;
        completed |= inner == FLOW_NEXT;
    }
    r->scope = outer;
    if (!completed && n->as.loop.otherwise != NULL)
        return exec_body(r, n->as.loop.otherwise, how);
    return SL_OK;
}

static sl_status exec_set(sl_tpl_render *r, const sl_tpl_node *n)
{
    sl_tpl_value v;

    SL_TPL_TRY(sl_tpl_eval(r, n->as.set.value, &v));
    r->line = n->line;
    return sl_tpl_assign_to(r, n->as.set.target, v);
}

/* set x | filter ... endset, and filter name ... endfilter.  A break inside leaves what was
 * captured behind. */
static sl_status exec_captured(sl_tpl_render *r, const sl_tpl_node *n, flow *how)
{
    const bool is_set = n->kind == SL_TPL_N_SET_BLOCK;
    sl_tpl_text t = {0};
    sl_tpl_value v;

    SL_TPL_TRY(capture(r, is_set ? n->as.set.body : n->as.filter.body, &t, how));
    if (*how != FLOW_NEXT)
        return SL_OK;
    SL_TPL_TRY(sl_tpl_text_done(r, &t, false, &v));
    SL_TPL_TRY(sl_tpl_eval_filters(r, is_set ? n->as.set.filters : n->as.filter.filters, &v));
    r->line = n->line;
    if (is_set)
        return sl_tpl_assign_to(r, n->as.set.target, v);
    return output_value(r, v);
}

static sl_status new_macro(sl_tpl_render *r, const sl_tpl_node *n, sl_tpl_value *out)
{
    sl_tpl_macro *m = sl_tpl_alloc(r, 1, sizeof(*m));

    if (m == NULL)
        return r->status;
    m->node = n;
    m->scope = r->scope;
    *out = (sl_tpl_value){.kind = SL_TPL_MACRO, .as.macro = m};
    return SL_OK;
}

/* The call, with the block as its keyword argument `caller`. */
static sl_status exec_call_block(sl_tpl_render *r, const sl_tpl_node *n)
{
    sl_tpl_value caller, v;

    SL_TPL_TRY(new_macro(r, n, &caller));
    SL_TPL_TRY(sl_tpl_eval_call(r, n->as.macro->call, &caller, &v));
    return output_value(r, v);
}

static sl_status exec_scope(sl_tpl_render *r, const sl_tpl_node *n, flow *how)
{
    sl_tpl_scope *outer = r->scope, *inner;
    sl_tpl_value v;

    SL_TPL_TRY(sl_tpl_scope_push(r, outer));
    inner = r->scope;
    for (const sl_tpl_assign *a = n->as.scope.assign; a != NULL; a = a->next) {
        r->scope = outer; /* the values do not see each other */
        SL_TPL_TRY(sl_tpl_eval(r, a->value, &v));
        r->scope = inner;
        SL_TPL_TRY(sl_tpl_assign_to(r, a->target, v));
    }
    SL_TPL_TRY(exec_body(r, n->as.scope.body, how));
    r->scope = outer;
    return SL_OK;
}

static sl_status exec_node(sl_tpl_render *r, const sl_tpl_node *n, flow *how)
{
    sl_tpl_value v;

    switch (n->kind) {
    case SL_TPL_N_TEXT:
        return output_str(r, n->as.text);
    case SL_TPL_N_PRINT:
        return exec_print(r, n);
    case SL_TPL_N_IF:
        return exec_if(r, n, how);
    case SL_TPL_N_FOR:
        return exec_for(r, n, how);
    case SL_TPL_N_SET:
        return exec_set(r, n);
    case SL_TPL_N_SET_BLOCK:
    case SL_TPL_N_FILTER_BLOCK:
        return exec_captured(r, n, how);
    case SL_TPL_N_MACRO:
        SL_TPL_TRY(new_macro(r, n, &v));
        return sl_tpl_scope_set(r, n->as.macro->name, v);
    case SL_TPL_N_CALL_BLOCK:
        return exec_call_block(r, n);
    case SL_TPL_N_SCOPE:
        return exec_scope(r, n, how);
    case SL_TPL_N_BREAK:
        *how = FLOW_BREAK;
        return SL_OK;
    default: /* CONTINUE: the parser puts nothing else into bodies */
        *how = FLOW_CONTINUE;
        return SL_OK;
    }
}

static sl_status exec_body(sl_tpl_render *r, const sl_tpl_node *body, flow *how)
{
    SL_TPL_TRY(sl_tpl_enter(r));
    for (const sl_tpl_node *n = body; n != NULL && *how == FLOW_NEXT; n = n->next) {
        r->line = n->line;
        SL_TPL_TRY(sl_tpl_step(r, 1));
        SL_TPL_TRY(exec_node(r, n, how));
    }
    sl_tpl_leave(r);
    return SL_OK;
}

/* ---- The interface ---- */

void sl_template_output_init(sl_template_output *out)
{
    *out = (sl_template_output){0};
    sl_buf_init(&out->text, SL_TEMPLATE_OUTPUT_MAX);
}

void sl_template_output_done(sl_template_output *out)
{
    sl_buf_done(&out->text);
    sl_free(out->run);
    *out = (sl_template_output){0};
}

/* The members of a JSON object become globals. */
static sl_status add_globals(sl_tpl_render *r, const char *json, size_t len, bool user)
{
    const char *what = user ? "the variables of the request" : "the variables of the server";
    sl_tpl_value v;

    if (json == NULL || len == 0)
        return SL_OK;
    SL_TPL_TRY(sl_tpl_json_parse(r, json, len, user, what, &v));
    if (v.kind != SL_TPL_DICT)
        return sl_tpl_fail(r, "%s are not a JSON object", what);
    if (user)
        SL_TPL_TRY(sl_tpl_json_unmark_protocol(r, v.as.dict));
    for (size_t i = 0; i < v.as.dict->count; i++)
        SL_TPL_TRY(
            sl_tpl_dict_set(r, r->globals, v.as.dict->entry[i].key, v.as.dict->entry[i].value));
    return SL_OK;
}

static sl_status render(sl_tpl_render *r, const sl_template *t, const sl_template_args *args)
{
    flow how = FLOW_NEXT;

    SL_TPL_TRY(sl_tpl_dict_new(r, &r->globals));
    SL_TPL_TRY(add_globals(r, args->user_json, args->user_json_len, true));
    SL_TPL_TRY(add_globals(r, args->trusted_json, args->trusted_json_len, false));
    SL_TPL_TRY(sl_tpl_scope_push(r, NULL));
    return exec_body(r, t->body, &how);
}

sl_status sl_template_render(const sl_template *t, const sl_template_args *args,
                             sl_template_output *out, sl_err *err)
{
    sl_tpl_render r = {.tpl = t, .out = out, .err = err, .now_unix_s = args->now_unix_s, .line = 1};
    sl_status status;

    sl_arena_init(&r.arena, SL_TEMPLATE_MEMORY_MAX);
    status = render(&r, t, args);
    sl_arena_done(&r.arena);
    return status;
}
