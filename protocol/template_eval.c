/* protocol/template_eval.c - expressions to values.
 *
 * Frames are kept small: an evaluation inside another costs two of them, and SL_TPL_DEPTH_MAX of
 * those must fit a small stack. */
#include "protocol/template_tree_internal.h"

#include <string.h>

/* ---- Arguments ---- */

static sl_status spread_list(sl_tpl_render *r, sl_tpl_seq *pos, sl_tpl_value v)
{
    const sl_tpl_value *item;
    size_t count;

    SL_TPL_TRY(sl_tpl_iterate(r, v, &item, &count));
    for (size_t i = 0; i < count; i++)
        SL_TPL_TRY(sl_tpl_seq_push(r, pos, item[i]));
    return SL_OK;
}

static sl_status spread_dict(sl_tpl_render *r, sl_tpl_dict *keyed, sl_tpl_value v)
{
    if (v.kind != SL_TPL_DICT)
        return sl_tpl_fail(r, "what follows ** must be a dict, not %s", sl_tpl_type_name(v));
    for (size_t i = 0; i < v.as.dict->count; i++) {
        const sl_tpl_entry *e = &v.as.dict->entry[i];
        sl_tpl_entry *twice;

        if (e->key.kind != SL_TPL_STRING)
            return sl_tpl_fail(r, "keywords must be strings");
        SL_TPL_TRY(sl_tpl_dict_find(r, keyed, e->key, &twice));
        if (twice != NULL)
            return sl_tpl_fail(r, "a keyword argument is given twice");
        SL_TPL_TRY(sl_tpl_dict_push(r, keyed, e->key, e->value));
    }
    return SL_OK;
}

static sl_status eval_arg(sl_tpl_render *r, const sl_tpl_arg *arg, sl_tpl_seq *pos,
                          sl_tpl_dict *keyed)
{
    sl_tpl_entry *twice;
    sl_tpl_value v;

    SL_TPL_TRY(sl_tpl_eval(r, arg->node, &v));
    if (arg->stars == 1)
        return spread_list(r, pos, v);
    if (arg->stars == 2)
        return spread_dict(r, keyed, v);
    if (arg->name == NULL)
        return sl_tpl_seq_push(r, pos, v);
    SL_TPL_TRY(sl_tpl_dict_find(r, keyed, sl_tpl_of_str(arg->name), &twice));
    if (twice != NULL)
        return sl_tpl_fail(r, "a keyword argument is given twice");
    return sl_tpl_dict_push(r, keyed, sl_tpl_of_str(arg->name), v);
}

static sl_status eval_args(sl_tpl_render *r, const sl_tpl_arg *arg, sl_tpl_args *out)
{
    sl_tpl_dict *keyed;
    sl_tpl_seq *pos;
    size_t count = 0;

    *out = (sl_tpl_args){0};
    if (arg == NULL)
        return SL_OK;
    for (const sl_tpl_arg *a = arg; a != NULL; a = a->next)
        count++;
    SL_TPL_TRY(sl_tpl_seq_new(r, SL_TPL_LIST, count, &pos));
    SL_TPL_TRY(sl_tpl_dict_new(r, &keyed));
    for (; arg != NULL; arg = arg->next)
        SL_TPL_TRY(eval_arg(r, arg, pos, keyed));
    out->pos = pos->item;
    out->pos_count = pos->count;
    if (keyed->count == 0)
        return SL_OK;
    out->key = sl_tpl_alloc(r, keyed->count, sizeof(*out->key));
    out->keyed = sl_tpl_alloc(r, keyed->count, sizeof(*out->keyed));
    if (out->key == NULL || out->keyed == NULL)
        return r->status;
    for (size_t i = 0; i < keyed->count; i++) {
        out->key[i] = keyed->entry[i].key.as.str;
        out->keyed[i] = keyed->entry[i].value;
    }
    out->key_count = keyed->count;
    return SL_OK;
}

/* ---- Node by node ---- */

static sl_status eval_sequence(sl_tpl_render *r, const sl_tpl_node *n, sl_tpl_value *out)
{
    const sl_tpl_form form = n->kind == SL_TPL_N_LIST ? SL_TPL_LIST : SL_TPL_TUPLE;
    sl_tpl_seq *seq;

    SL_TPL_TRY(sl_tpl_seq_new(r, form, n->as.children.count, &seq));
    for (const sl_tpl_node *c = n->as.children.first; c != NULL; c = c->next)
        SL_TPL_TRY(sl_tpl_eval(r, c, &seq->item[seq->count++])); /* the capacity is the count */
    *out = sl_tpl_of_seq(seq);
    return SL_OK;
}

static sl_status eval_dict(sl_tpl_render *r, const sl_tpl_node *n, sl_tpl_value *out)
{
    sl_tpl_value key, value;
    sl_tpl_dict *dict;

    SL_TPL_TRY(sl_tpl_dict_new(r, &dict));
    for (const sl_tpl_node *c = n->as.children.first; c != NULL; c = c->next->next) {
        SL_TPL_TRY(sl_tpl_eval(r, c, &key));
        SL_TPL_TRY(sl_tpl_eval(r, c->next, &value));
        SL_TPL_TRY(sl_tpl_dict_set(r, dict, key, value));
    }
    *out = (sl_tpl_value){.kind = SL_TPL_DICT, .as.dict = dict};
    return SL_OK;
}

static sl_status eval_chain(sl_tpl_render *r, const sl_tpl_node *n, sl_tpl_value *out)
{
    sl_tpl_value right;

    SL_TPL_TRY(sl_tpl_eval(r, n->as.chain.first, out));
    for (const sl_tpl_part *p = n->as.chain.part; p != NULL; p = p->next) {
        SL_TPL_TRY(sl_tpl_eval(r, p->node[0], &right));
        r->line = p->line;
        SL_TPL_TRY(sl_tpl_arith(r, p->op, *out, right, out));
    }
    return SL_OK;
}

static sl_status eval_compare(sl_tpl_render *r, const sl_tpl_node *n, sl_tpl_value *out)
{
    sl_tpl_value left, right;
    bool holds = true;

    SL_TPL_TRY(sl_tpl_eval(r, n->as.chain.first, &left));
    for (const sl_tpl_part *p = n->as.chain.part; p != NULL && holds; p = p->next) {
        SL_TPL_TRY(sl_tpl_eval(r, p->node[0], &right));
        r->line = p->line;
        SL_TPL_TRY(sl_tpl_compare(r, p->op, left, right, &holds));
        left = right;
    }
    *out = sl_tpl_bool(holds);
    return SL_OK;
}

/* a ~ b ~ c: the first grows in place where it can. */
static sl_status eval_concat(sl_tpl_render *r, const sl_tpl_node *n, sl_tpl_value *out)
{
    const sl_tpl_str *left = NULL, *right;
    sl_tpl_value v;

    for (const sl_tpl_node *c = n->as.children.first; c != NULL; c = c->next) {
        SL_TPL_TRY(sl_tpl_eval(r, c, &v));
        SL_TPL_TRY(sl_tpl_to_str(r, v, &right));
        if (left != NULL) {
            SL_TPL_TRY(sl_tpl_str_concat(r, left, right, &v));
            right = v.as.str;
        }
        left = right;
    }
    *out = sl_tpl_of_str(left);
    return SL_OK;
}

/* and, or: the value that decides. */
static sl_status eval_logic(sl_tpl_render *r, const sl_tpl_node *n, sl_tpl_value *out)
{
    for (const sl_tpl_node *c = n->as.children.first; c != NULL; c = c->next) {
        SL_TPL_TRY(sl_tpl_eval(r, c, out));
        if (sl_tpl_truth(*out) == (n->kind == SL_TPL_N_OR))
            break;
    }
    return SL_OK;
}

static sl_status eval_cond(sl_tpl_render *r, const sl_tpl_node *n, sl_tpl_value *out)
{
    SL_TPL_TRY(sl_tpl_eval(r, n->as.cond.test, out));
    if (sl_tpl_truth(*out))
        return sl_tpl_eval(r, n->as.cond.yes, out);
    if (n->as.cond.no != NULL)
        return sl_tpl_eval(r, n->as.cond.no, out);
    *out = sl_tpl_undefined("an inline if without else gave no value");
    return SL_OK;
}

static sl_status eval_unary(sl_tpl_render *r, const sl_tpl_node *n, sl_tpl_value *out)
{
    SL_TPL_TRY(sl_tpl_eval(r, n->as.operand, out));
    r->line = n->line;
    if (n->kind != SL_TPL_N_NOT)
        return sl_tpl_negate(r, *out, n->kind == SL_TPL_N_NEG, out);
    *out = sl_tpl_bool(!sl_tpl_truth(*out));
    return SL_OK;
}

/* ---- Postfix ---- */

static sl_status apply_slice(sl_tpl_render *r, const sl_tpl_part *p, sl_tpl_value *v)
{
    sl_tpl_value bound[3] = {{0}};

    for (size_t i = 0; i < 3; i++)
        if (p->node[i] != NULL)
            SL_TPL_TRY(sl_tpl_eval(r, p->node[i], &bound[i]));
    r->line = p->line;
    return sl_tpl_slice(r, *v, bound, v);
}

static sl_status add_caller(sl_tpl_render *r, sl_tpl_args *args, const sl_tpl_value *caller)
{
    const size_t n = args->key_count;
    const sl_tpl_str **key = sl_tpl_alloc(r, n + 1, sizeof(*key));
    sl_tpl_value *keyed = sl_tpl_alloc(r, n + 1, sizeof(*keyed));

    if (key == NULL || keyed == NULL)
        return r->status;
    if (n > 0) {
        memcpy(key, args->key, n * sizeof(*key));
        memcpy(keyed, args->keyed, n * sizeof(*keyed));
    }
    key[n] = r->tpl->caller_name;
    keyed[n] = *caller;
    args->key = key;
    args->keyed = keyed;
    args->key_count = n + 1;
    return SL_OK;
}

/* A call, filter or test.  Its frames are large: it counts as one evaluation more. */
static sl_status apply_call(sl_tpl_render *r, const sl_tpl_part *p, const sl_tpl_value *caller,
                            sl_tpl_value *v)
{
    sl_tpl_args args;

    SL_TPL_TRY(sl_tpl_enter(r));
    SL_TPL_TRY(eval_args(r, p->args, &args));
    r->line = p->line;
    if (caller != NULL)
        SL_TPL_TRY(add_caller(r, &args, caller));
    if (p->op == SL_TPL_OP_CALL)
        SL_TPL_TRY(sl_tpl_call_value(r, *v, &args, v));
    else
        SL_TPL_TRY(sl_tpl_call_builtin(r, p->method, *v, &args, v));
    if (p->op == SL_TPL_OP_TEST && p->negated)
        *v = sl_tpl_bool(!v->as.b);
    sl_tpl_leave(r);
    return SL_OK;
}

sl_status sl_tpl_eval_call(sl_tpl_render *r, const sl_tpl_node *n, const sl_tpl_value *caller,
                           sl_tpl_value *out)
{
    sl_tpl_value index;

    SL_TPL_TRY(sl_tpl_eval(r, n->as.chain.first, out));
    for (const sl_tpl_part *p = n->as.chain.part; p != NULL; p = p->next) {
        r->line = p->line;
        switch (p->op) {
        case SL_TPL_OP_ATTR:
            SL_TPL_TRY(sl_tpl_get_attr(r, *out, p->name, out));
            break;
        case SL_TPL_OP_ITEM:
            SL_TPL_TRY(sl_tpl_eval(r, p->node[0], &index));
            SL_TPL_TRY(sl_tpl_get_item(r, *out, index, out));
            break;
        case SL_TPL_OP_SLICE:
            SL_TPL_TRY(apply_slice(r, p, out));
            break;
        default:
            SL_TPL_TRY(apply_call(r, p, p->next == NULL ? caller : NULL, out));
        }
    }
    return SL_OK;
}

sl_status sl_tpl_eval_filters(sl_tpl_render *r, const sl_tpl_part *part, sl_tpl_value *value)
{
    for (; part != NULL; part = part->next)
        SL_TPL_TRY(apply_call(r, part, NULL, value));
    return SL_OK;
}

/* ---- */

static sl_status eval_node(sl_tpl_render *r, const sl_tpl_node *n, sl_tpl_value *out)
{
    switch (n->kind) {
    case SL_TPL_N_CONST:
        *out = n->as.constant;
        return SL_OK;
    case SL_TPL_N_NAME:
        return sl_tpl_lookup(r, n->as.name, out);
    case SL_TPL_N_LIST:
    case SL_TPL_N_TUPLE:
        return eval_sequence(r, n, out);
    case SL_TPL_N_DICT:
        return eval_dict(r, n, out);
    case SL_TPL_N_CHAIN:
        return eval_chain(r, n, out);
    case SL_TPL_N_CONCAT:
        return eval_concat(r, n, out);
    case SL_TPL_N_AND:
    case SL_TPL_N_OR:
        return eval_logic(r, n, out);
    case SL_TPL_N_COMPARE:
        return eval_compare(r, n, out);
    case SL_TPL_N_COND:
        return eval_cond(r, n, out);
    case SL_TPL_N_POSTFIX:
        return sl_tpl_eval_call(r, n, NULL, out);
    default: /* NOT, NEG, POS: the parser puts nothing else into expressions */
        return eval_unary(r, n, out);
    }
}

/* *out is written on success only by the time its inputs were read: it may be one of them. */
sl_status sl_tpl_eval(sl_tpl_render *r, const sl_tpl_node *n, sl_tpl_value *out)
{
    sl_status status;

    r->line = n->line;
    SL_TPL_TRY(sl_tpl_enter(r));
    status = eval_node(r, n, out);
    sl_tpl_leave(r);
    return status;
}
