/* protocol/template_parse_expr.c - expressions, with jinja2's precedence:
 *
 *   a if b else c  <  or  <  and  <  not  <  comparisons, in  <  + -  <  ~  <  * / // %  <  **
 *   <  unary + -  <  .attr [item] (call)  <  |filter, is test
 *
 * Operators of one level in a row become one node, so that a chain of a thousand "+" is one level
 * of the tree; only brackets, "not", unary signs and inline ifs nest. */
#include "protocol/template_tree_internal.h"

#include <string.h>

static sl_status parse_unary(sl_tpl_parser *p, bool with_filter, sl_tpl_node **out);
static sl_status parse_primary(sl_tpl_parser *p, bool as_target, sl_tpl_node **out);

static sl_status new_part(sl_tpl_parser *p, sl_tpl_op op, sl_tpl_part **out)
{
    sl_tpl_part *part = sl_arena_alloc(p->arena, 1, sizeof(*part));

    if (part == NULL)
        return sl_tpl_parse_nomem(p);
    part->op = op;
    part->line = p->token->line;
    *out = part;
    return SL_OK;
}

/* Put `part` behind *node, making it a node of `kind` first if it is none. */
static sl_status add_part(sl_tpl_parser *p, sl_tpl_node_kind kind, sl_tpl_part *part,
                          sl_tpl_node **node)
{
    sl_tpl_node *n = *node;

    if (n->kind != kind || kind != SL_TPL_N_POSTFIX) {
        SL_TPL_TRY(sl_tpl_parse_node(p, kind, n->line, &n));
        n->as.chain.first = *node;
        n->as.chain.part = part;
        *node = n;
    } else {
        n->as.chain.last->next = part;
    }
    n->as.chain.last = part;
    return SL_OK;
}

/* ---- Literals ---- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* \x41, \u0041, \U00000041: `n` hexadecimal digits at text[0..len). */
static bool read_hex(const char *text, size_t len, size_t n, uint32_t *code)
{
    *code = 0;
    if (len < n)
        return false;
    for (size_t i = 0; i < n; i++) {
        const int digit = hex_digit(text[i]);

        if (digit < 0)
            return false;
        *code = *code << 4 | (uint32_t)digit;
    }
    return true;
}

/* One escape at text[0] == '\\': its bytes into out[4], *used source bytes.  False: malformed. */
static bool read_escape(const char *text, size_t len, size_t *used, char out[4], size_t *out_len)
{
    static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
    const char c = len > 1 ? text[1] : '\0';
    const char *plain = c != '\0' ? strchr(from, c) : NULL;
    uint32_t code = 0;

    *used = 2;
    *out_len = 1;
    if (plain != NULL) {
        out[0] = to[plain - from];
    } else if (c == '\n') {
        *out_len = 0; /* a backslash at the end of a line joins it to the next */
    } else if (c >= '0' && c <= '7') {
        size_t i = 1;

        for (; i < 4 && i < len && text[i] >= '0' && text[i] <= '7'; i++)
            code = code << 3 | (uint32_t)(text[i] - '0');
        *used = i;
        *out_len = sl_utf8_put(code, out);
    } else if (c == 'x' || c == 'u' || c == 'U') {
        const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;

        if (!read_hex(text + 2, len - 2, digits, &code) || code > 0x10FFFF ||
            (code >= 0xD800 && code <= 0xDFFF))
            return false;
        *used = 2 + digits;
        *out_len = sl_utf8_put(code, out);
    } else if (c == 'N') {
        return false; /* characters by name: not supported */
    } else {
        out[0] = '\\'; /* unknown escapes stand for themselves */
        *used = 1;
    }
    return true;
}

/* String literals in a row are one. */
static sl_status parse_string(sl_tpl_parser *p, sl_tpl_node *n)
{
    sl_tpl_str *str = sl_arena_alloc(p->arena, 1, sizeof(*str));
    size_t total = 0, len = 0;
    char *data;

    for (const sl_tpl_token *t = p->token; t->kind == SL_TPL_T_STRING; t++)
        total += t->len;
    /* An escape is never shorter than what it stands for, but for octal ones up to \777. */
    data = sl_arena_alloc(p->arena, total * 2 + 4, 1);
    if (str == NULL || data == NULL)
        return sl_tpl_parse_nomem(p);
    for (; p->token->kind == SL_TPL_T_STRING; p->token++) {
        const char *text = p->token->text;

        for (size_t i = 0; i < p->token->len;) {
            size_t used = 1, got = 1;

            if (text[i] != '\\')
                data[len] = text[i];
            else if (!read_escape(text + i, p->token->len - i, &used, data + len, &got))
                return sl_tpl_parse_fail(p, p->token->line, "a string has a malformed escape");
            i += used;
            len += got;
        }
    }
    sl_tpl_str_init(str, data, len, false);
    n->as.constant = sl_tpl_of_str(str);
    return SL_OK;
}

static sl_status parse_number(sl_tpl_parser *p, sl_tpl_node *n)
{
    const sl_tpl_token *t = p->token++;
    sl_tpl_parsed parsed;
    int64_t i = 0;
    double f = 0;

    if (t->kind == SL_TPL_T_INT) {
        parsed = sl_tpl_parse_int(t->text, t->len, 0, &i);
        n->as.constant = sl_tpl_int(i);
    } else {
        parsed = sl_tpl_parse_float(t->text, t->len, &f);
        n->as.constant = sl_tpl_float(f);
    }
    if (parsed != SL_TPL_PARSED)
        return sl_tpl_parse_fail(p, t->line, "the number %.*s is out of range",
                                 (int)(t->len < 40 ? t->len : 40), t->text);
    return SL_OK;
}

/* A name: a constant, ns.attr (as a target), or a variable. */
static sl_status parse_name(sl_tpl_parser *p, bool as_target, sl_tpl_node *n)
{
    static const struct {
        const char *name;
        sl_tpl_kind kind;
        bool b;
    } words[] = {{"true", SL_TPL_BOOL, true},   {"True", SL_TPL_BOOL, true},
                 {"false", SL_TPL_BOOL, false}, {"False", SL_TPL_BOOL, false},
                 {"none", SL_TPL_NONE, false},  {"None", SL_TPL_NONE, false}};
    const sl_tpl_str *name;

    SL_TPL_TRY(sl_tpl_parse_name(p, &name));
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (sl_tpl_str_is(name, words[i].name)) {
            n->as.constant = words[i].kind == SL_TPL_BOOL ? sl_tpl_bool(words[i].b) : sl_tpl_none();
            return SL_OK;
        }
    if (as_target && sl_tpl_parse_skip(p, ".")) {
        n->kind = SL_TPL_N_NSREF;
        n->as.nsref.name = name;
        return sl_tpl_parse_name(p, &n->as.nsref.attr);
    }
    n->kind = SL_TPL_N_NAME;
    n->as.name = name;
    if (p->macro != NULL && !as_target) {
        p->macro->uses_caller |= sl_tpl_str_is(name, "caller");
        p->macro->uses_varargs |= sl_tpl_str_is(name, "varargs");
        p->macro->uses_kwargs |= sl_tpl_str_is(name, "kwargs");
    }
    return SL_OK;
}

/* Append a child to LIST, TUPLE, DICT ...; *last is the one before. */
static void add_child(sl_tpl_node *n, sl_tpl_node **last, sl_tpl_node *child)
{
    if (*last == NULL)
        n->as.children.first = child;
    else
        (*last)->next = child;
    *last = child;
    n->as.children.count++;
}

static sl_status parse_list(sl_tpl_parser *p, sl_tpl_node *n)
{
    sl_tpl_node *child, *last = NULL;

    n->kind = SL_TPL_N_LIST;
    p->token++;
    while (!sl_tpl_parse_at(p, "]")) {
        if (last != NULL)
            SL_TPL_TRY(sl_tpl_parse_expect(p, ","));
        if (sl_tpl_parse_at(p, "]"))
            break;
        SL_TPL_TRY(sl_tpl_parse_expr(p, &child));
        add_child(n, &last, child);
    }
    return sl_tpl_parse_expect(p, "]");
}

static sl_status parse_dict(sl_tpl_parser *p, sl_tpl_node *n)
{
    sl_tpl_node *child, *last = NULL;

    n->kind = SL_TPL_N_DICT;
    p->token++;
    while (!sl_tpl_parse_at(p, "}")) {
        if (last != NULL)
            SL_TPL_TRY(sl_tpl_parse_expect(p, ","));
        if (sl_tpl_parse_at(p, "}"))
            break;
        SL_TPL_TRY(sl_tpl_parse_expr(p, &child));
        add_child(n, &last, child);
        SL_TPL_TRY(sl_tpl_parse_expect(p, ":"));
        SL_TPL_TRY(sl_tpl_parse_expr(p, &child));
        add_child(n, &last, child);
    }
    return sl_tpl_parse_expect(p, "}");
}

static sl_status parse_primary(sl_tpl_parser *p, bool as_target, sl_tpl_node **out)
{
    SL_TPL_TRY(sl_tpl_parse_node(p, SL_TPL_N_CONST, p->token->line, out));
    switch (p->token->kind) {
    case SL_TPL_T_NAME:
        return parse_name(p, as_target, *out);
    case SL_TPL_T_STRING:
        return parse_string(p, *out);
    case SL_TPL_T_INT:
    case SL_TPL_T_FLOAT:
        return parse_number(p, *out);
    default:
        break;
    }
    if (sl_tpl_parse_at(p, "(")) {
        p->token++;
        SL_TPL_TRY(sl_tpl_parse_tuple(p, SL_TPL_TUPLE_PARENS, out));
        return sl_tpl_parse_expect(p, ")");
    }
    if (sl_tpl_parse_at(p, "["))
        return parse_list(p, *out);
    if (sl_tpl_parse_at(p, "{"))
        return parse_dict(p, *out);
    return sl_tpl_parse_unexpected(p, "an expression");
}

/* ---- Postfix: subscripts, calls, filters, tests ---- */

static sl_status parse_one_arg(sl_tpl_parser *p, sl_tpl_arg *arg)
{
    sl_tpl_node *node;

    if (sl_tpl_parse_skip(p, "*"))
        arg->stars = 1;
    else if (sl_tpl_parse_skip(p, "**"))
        arg->stars = 2;
    else if (p->token->kind == SL_TPL_T_NAME && p->token[1].kind == SL_TPL_T_OP &&
             p->token[1].len == 1 && p->token[1].text[0] == '=') {
        SL_TPL_TRY(sl_tpl_parse_name(p, &arg->name));
        p->token++;
    }
    SL_TPL_TRY(sl_tpl_parse_expr(p, &node));
    arg->node = node;
    return SL_OK;
}

static sl_status parse_args(sl_tpl_parser *p, const sl_tpl_arg **out)
{
    const sl_tpl_arg **link = out;
    bool keys = false, star = false, double_star = false;

    SL_TPL_TRY(sl_tpl_parse_expect(p, "("));
    while (!sl_tpl_parse_at(p, ")")) {
        const uint32_t line = p->token->line;
        sl_tpl_arg *arg;

        if (*out != NULL) {
            SL_TPL_TRY(sl_tpl_parse_expect(p, ","));
            if (sl_tpl_parse_at(p, ")"))
                break;
        }
        arg = sl_arena_alloc(p->arena, 1, sizeof(*arg));
        if (arg == NULL)
            return sl_tpl_parse_nomem(p);
        SL_TPL_TRY(parse_one_arg(p, arg));
        if (double_star || (arg->stars == 1 && star) ||
            (arg->stars == 0 && arg->name == NULL && (keys || star)))
            return sl_tpl_parse_fail(p, line, "the arguments are in the wrong order");
        keys |= arg->name != NULL;
        star |= arg->stars == 1;
        double_star |= arg->stars == 2;
        *link = arg;
        link = (const sl_tpl_arg **)&arg->next;
    }
    return sl_tpl_parse_expect(p, ")");
}

static sl_status parse_call(sl_tpl_parser *p, sl_tpl_node **node)
{
    sl_tpl_part *part = NULL;

    SL_TPL_TRY(new_part(p, SL_TPL_OP_CALL, &part));
    SL_TPL_TRY(parse_args(p, &part->args));
    return add_part(p, SL_TPL_N_POSTFIX, part, node);
}

/* The rest of [start:stop:step] once `part` holds the start, if there was one. */
static sl_status parse_slice(sl_tpl_parser *p, sl_tpl_part *part)
{
    part->op = SL_TPL_OP_SLICE;
    for (size_t i = 1; i < 3 && sl_tpl_parse_skip(p, ":"); i++) {
        sl_tpl_node *bound;

        if (sl_tpl_parse_at(p, ":") || sl_tpl_parse_at(p, "]"))
            continue;
        SL_TPL_TRY(sl_tpl_parse_expr(p, &bound));
        part->node[i] = bound;
    }
    return SL_OK;
}

/* Between [ and ]: an index, a slice, or several indices, which are a tuple. */
static sl_status parse_subscript(sl_tpl_parser *p, sl_tpl_part *part)
{
    sl_tpl_node *tuple, *child = NULL, *last = NULL;

    if (!sl_tpl_parse_at(p, ":")) {
        SL_TPL_TRY(sl_tpl_parse_expr(p, &child));
        part->node[0] = child;
    }
    if (sl_tpl_parse_at(p, ":")) {
        SL_TPL_TRY(parse_slice(p, part));
    } else if (sl_tpl_parse_at(p, ",")) {
        SL_TPL_TRY(sl_tpl_parse_node(p, SL_TPL_N_TUPLE, child->line, &tuple));
        add_child(tuple, &last, child);
        while (sl_tpl_parse_skip(p, ",")) {
            SL_TPL_TRY(sl_tpl_parse_expr(p, &child));
            add_child(tuple, &last, child);
        }
        part->node[0] = tuple;
    }
    return sl_tpl_parse_expect(p, "]");
}

static sl_status parse_postfix(sl_tpl_parser *p, sl_tpl_node **node)
{
    for (;;) {
        sl_tpl_part *part = NULL;

        if (sl_tpl_parse_at(p, "(")) {
            SL_TPL_TRY(parse_call(p, node));
            continue;
        }
        if (!sl_tpl_parse_at(p, ".") && !sl_tpl_parse_at(p, "["))
            return SL_OK;
        SL_TPL_TRY(new_part(p, SL_TPL_OP_ITEM, &part));
        if (sl_tpl_parse_skip(p, "[")) {
            SL_TPL_TRY(parse_subscript(p, part));
        } else {
            p->token++;
            if (p->token->kind == SL_TPL_T_INT) { /* list.0 */
                sl_tpl_node *index;

                SL_TPL_TRY(sl_tpl_parse_node(p, SL_TPL_N_CONST, p->token->line, &index));
                SL_TPL_TRY(parse_number(p, index));
                part->node[0] = index;
            } else {
                part->op = SL_TPL_OP_ATTR;
                SL_TPL_TRY(sl_tpl_parse_name(p, &part->name));
            }
        }
        SL_TPL_TRY(add_part(p, SL_TPL_N_POSTFIX, part, node));
    }
}

/* "name(args)" of a filter. */
static sl_status parse_filter(sl_tpl_parser *p, sl_tpl_part **out)
{
    const sl_tpl_token *name = p->token;

    SL_TPL_TRY(new_part(p, SL_TPL_OP_FILTER, out));
    if (name->kind != SL_TPL_T_NAME)
        return sl_tpl_parse_unexpected(p, "the name of a filter");
    p->token++;
    (*out)->method = sl_tpl_find_filter(name->text, name->len);
    if ((*out)->method == NULL)
        return sl_tpl_parse_fail(p, name->line, "unknown or unsupported filter '%.*s'",
                                 (int)(name->len < 40 ? name->len : 40), name->text);
    if (sl_tpl_parse_at(p, "("))
        return parse_args(p, &(*out)->args);
    return SL_OK;
}

sl_status sl_tpl_parse_filters(sl_tpl_parser *p, bool first_bare, sl_tpl_part **list)
{
    sl_tpl_part **link = list;

    while (first_bare || sl_tpl_parse_skip(p, "|")) {
        first_bare = false;
        SL_TPL_TRY(parse_filter(p, link));
        link = &(*link)->next;
    }
    return SL_OK;
}

/* The argument of a test may stand without brackets: "x is divisibleby 3". */
static sl_status parse_bare_arg(sl_tpl_parser *p, const sl_tpl_arg **out)
{
    const bool starts = p->token->kind == SL_TPL_T_NAME || p->token->kind == SL_TPL_T_STRING ||
                        p->token->kind == SL_TPL_T_INT || p->token->kind == SL_TPL_T_FLOAT ||
                        sl_tpl_parse_at(p, "[") || sl_tpl_parse_at(p, "{");
    sl_tpl_node *node;
    sl_tpl_arg *arg;

    if (!starts || sl_tpl_parse_at_name(p, "else") || sl_tpl_parse_at_name(p, "or") ||
        sl_tpl_parse_at_name(p, "and"))
        return SL_OK;
    if (sl_tpl_parse_at_name(p, "is"))
        return sl_tpl_parse_fail(p, p->token->line, "tests cannot be chained with 'is'");
    SL_TPL_TRY(sl_tpl_parse_enter(p));
    SL_TPL_TRY(parse_primary(p, false, &node));
    SL_TPL_TRY(parse_postfix(p, &node));
    sl_tpl_parse_leave(p);
    arg = sl_arena_alloc(p->arena, 1, sizeof(*arg));
    if (arg == NULL)
        return sl_tpl_parse_nomem(p);
    arg->node = node;
    *out = arg;
    return SL_OK;
}

static sl_status parse_test(sl_tpl_parser *p, sl_tpl_node **node)
{
    const sl_tpl_token *name;
    sl_tpl_part *part = NULL;

    SL_TPL_TRY(new_part(p, SL_TPL_OP_TEST, &part));
    p->token++; /* is */
    part->negated = sl_tpl_parse_skip_name(p, "not");
    name = p->token;
    if (name->kind != SL_TPL_T_NAME)
        return sl_tpl_parse_unexpected(p, "the name of a test");
    p->token++;
    part->method = sl_tpl_find_builtin(sl_tpl_tests, name->text, name->len);
    if (part->method == NULL)
        return sl_tpl_parse_fail(p, name->line, "unknown or unsupported test '%.*s'",
                                 (int)(name->len < 40 ? name->len : 40), name->text);
    if (sl_tpl_parse_at(p, "("))
        SL_TPL_TRY(parse_args(p, &part->args));
    else
        SL_TPL_TRY(parse_bare_arg(p, &part->args));
    return add_part(p, SL_TPL_N_POSTFIX, part, node);
}

static sl_status parse_filter_expr(sl_tpl_parser *p, sl_tpl_node **node)
{
    for (;;) {
        if (sl_tpl_parse_skip(p, "|")) {
            sl_tpl_part *part = NULL;

            SL_TPL_TRY(parse_filter(p, &part));
            SL_TPL_TRY(add_part(p, SL_TPL_N_POSTFIX, part, node));
        } else if (sl_tpl_parse_at_name(p, "is")) {
            SL_TPL_TRY(parse_test(p, node));
        } else if (sl_tpl_parse_at(p, "(")) {
            SL_TPL_TRY(parse_call(p, node));
        } else {
            return SL_OK;
        }
    }
}

/* ---- Operators ---- */

static sl_status parse_unary(sl_tpl_parser *p, bool with_filter, sl_tpl_node **out)
{
    const uint32_t line = p->token->line;
    const bool minus = sl_tpl_parse_at(p, "-");

    if (minus || sl_tpl_parse_at(p, "+")) {
        sl_tpl_node *operand;

        p->token++;
        SL_TPL_TRY(sl_tpl_parse_enter(p));
        SL_TPL_TRY(parse_unary(p, false, &operand));
        sl_tpl_parse_leave(p);
        SL_TPL_TRY(sl_tpl_parse_node(p, minus ? SL_TPL_N_NEG : SL_TPL_N_POS, line, out));
        (*out)->as.operand = operand;
    } else {
        SL_TPL_TRY(parse_primary(p, false, out));
    }
    SL_TPL_TRY(parse_postfix(p, out));
    return with_filter ? parse_filter_expr(p, out) : SL_OK;
}

typedef struct level_op {
    const char *text;
    sl_tpl_op op;
} level_op;

/* The left-associative levels, loosest first; `~` stands between + and * and is parsed apart. */
enum { LEVEL_ADD, LEVEL_CONCAT, LEVEL_MUL, LEVEL_POW, LEVEL_UNARY };

static const level_op level_ops[LEVEL_UNARY][5] = {
    [LEVEL_ADD] = {{"+", SL_TPL_OP_ADD}, {"-", SL_TPL_OP_SUB}},
    [LEVEL_CONCAT] = {{NULL, 0}},
    [LEVEL_MUL] = {{"*", SL_TPL_OP_MUL},
                   {"/", SL_TPL_OP_DIV},
                   {"//", SL_TPL_OP_FLOORDIV},
                   {"%", SL_TPL_OP_MOD}},
    [LEVEL_POW] = {{"**", SL_TPL_OP_POW}},
};

static bool skip_op(sl_tpl_parser *p, const level_op *ops, sl_tpl_op *op)
{
    for (size_t i = 0; ops[i].text != NULL; i++)
        if (sl_tpl_parse_skip(p, ops[i].text)) {
            *op = ops[i].op;
            return true;
        }
    return false;
}

static sl_status parse_level(sl_tpl_parser *p, int level, sl_tpl_node **out);

static sl_status parse_concat(sl_tpl_parser *p, sl_tpl_node **out)
{
    sl_tpl_node *n, *child, *last = NULL;

    SL_TPL_TRY(parse_level(p, LEVEL_MUL, out));
    if (!sl_tpl_parse_at(p, "~"))
        return SL_OK;
    SL_TPL_TRY(sl_tpl_parse_node(p, SL_TPL_N_CONCAT, (*out)->line, &n));
    add_child(n, &last, *out);
    while (sl_tpl_parse_skip(p, "~")) {
        SL_TPL_TRY(parse_level(p, LEVEL_MUL, &child));
        add_child(n, &last, child);
    }
    *out = n;
    return SL_OK;
}

/* One operand, and what follows it on this level.  Four calls deep at most: the levels. */
static sl_status parse_level(sl_tpl_parser *p, int level, sl_tpl_node **out)
{
    sl_tpl_node *n = NULL, *operand;
    sl_tpl_part *part = NULL;
    sl_tpl_op op;

    if (level == LEVEL_UNARY)
        return parse_unary(p, true, out);
    if (level == LEVEL_CONCAT)
        return parse_concat(p, out);
    SL_TPL_TRY(parse_level(p, level + 1, out));
    while (skip_op(p, level_ops[level], &op)) {
        SL_TPL_TRY(new_part(p, op, &part));
        SL_TPL_TRY(parse_level(p, level + 1, &operand));
        part->node[0] = operand;
        if (n == NULL) {
            SL_TPL_TRY(add_part(p, SL_TPL_N_CHAIN, part, out));
            n = *out;
        } else {
            n->as.chain.last->next = part;
            n->as.chain.last = part;
        }
    }
    return SL_OK;
}

static bool skip_comparison(sl_tpl_parser *p, sl_tpl_op *op)
{
    static const level_op ops[] = {{"==", SL_TPL_OP_EQ},
                                   {"!=", SL_TPL_OP_NE},
                                   {"<", SL_TPL_OP_LT},
                                   {"<=", SL_TPL_OP_LE},
                                   {">", SL_TPL_OP_GT},
                                   {">=", SL_TPL_OP_GE},
                                   {NULL, 0}};

    if (skip_op(p, ops, op))
        return true;
    *op = SL_TPL_OP_IN;
    if (sl_tpl_parse_skip_name(p, "in"))
        return true;
    *op = SL_TPL_OP_NOT_IN;
    if (sl_tpl_parse_at_name(p, "not") && p->token[1].kind == SL_TPL_T_NAME &&
        p->token[1].len == 2 && memcmp(p->token[1].text, "in", 2) == 0) {
        p->token += 2;
        return true;
    }
    return false;
}

static sl_status parse_compare(sl_tpl_parser *p, sl_tpl_node **out)
{
    sl_tpl_node *n = NULL, *operand;
    sl_tpl_part *part = NULL;
    sl_tpl_op op;

    SL_TPL_TRY(parse_level(p, LEVEL_ADD, out));
    while (skip_comparison(p, &op)) {
        SL_TPL_TRY(new_part(p, op, &part));
        SL_TPL_TRY(parse_level(p, LEVEL_ADD, &operand));
        part->node[0] = operand;
        if (n == NULL) {
            SL_TPL_TRY(add_part(p, SL_TPL_N_COMPARE, part, out));
            n = *out;
        } else {
            n->as.chain.last->next = part;
            n->as.chain.last = part;
        }
    }
    return SL_OK;
}

static sl_status parse_not(sl_tpl_parser *p, sl_tpl_node **out)
{
    const uint32_t line = p->token->line;
    sl_tpl_node *operand;

    if (!sl_tpl_parse_skip_name(p, "not"))
        return parse_compare(p, out);
    SL_TPL_TRY(sl_tpl_parse_enter(p));
    SL_TPL_TRY(parse_not(p, &operand));
    sl_tpl_parse_leave(p);
    SL_TPL_TRY(sl_tpl_parse_node(p, SL_TPL_N_NOT, line, out));
    (*out)->as.operand = operand;
    return SL_OK;
}

/* "a and b and c", or "a or b or c" whose parts are the former. */
static sl_status parse_logic(sl_tpl_parser *p, bool is_or, sl_tpl_node **out)
{
    const char *word = is_or ? "or" : "and";
    sl_tpl_node *n, *child, *last = NULL;

    SL_TPL_TRY(is_or ? parse_logic(p, false, out) : parse_not(p, out));
    if (!sl_tpl_parse_at_name(p, word))
        return SL_OK;
    SL_TPL_TRY(sl_tpl_parse_node(p, is_or ? SL_TPL_N_OR : SL_TPL_N_AND, (*out)->line, &n));
    add_child(n, &last, *out);
    while (sl_tpl_parse_skip_name(p, word)) {
        SL_TPL_TRY(is_or ? parse_logic(p, false, &child) : parse_not(p, &child));
        add_child(n, &last, child);
    }
    *out = n;
    return SL_OK;
}

/* "a if b else c", where c may be one again.  "a if b if c" nests to the left: each counts as a
 * level until the expression ends. */
static sl_status parse_cond(sl_tpl_parser *p, sl_tpl_node **out)
{
    uint32_t levels = 0;

    SL_TPL_TRY(parse_logic(p, true, out));
    while (sl_tpl_parse_skip_name(p, "if")) {
        sl_tpl_node *n, *test, *no = NULL;

        SL_TPL_TRY(sl_tpl_parse_enter(p));
        levels++;
        SL_TPL_TRY(sl_tpl_parse_node(p, SL_TPL_N_COND, (*out)->line, &n));
        SL_TPL_TRY(parse_logic(p, true, &test));
        if (sl_tpl_parse_skip_name(p, "else"))
            SL_TPL_TRY(parse_cond(p, &no));
        n->as.cond.test = test;
        n->as.cond.yes = *out;
        n->as.cond.no = no;
        *out = n;
    }
    p->depth -= levels;
    return SL_OK;
}

static sl_status parse_any(sl_tpl_parser *p, sl_tpl_tuple_mode mode, sl_tpl_node **out)
{
    SL_TPL_TRY(sl_tpl_parse_enter(p));
    if (mode == SL_TPL_TUPLE_TARGET)
        SL_TPL_TRY(parse_primary(p, true, out));
    else if (mode == SL_TPL_TUPLE_NO_COND)
        SL_TPL_TRY(parse_logic(p, true, out));
    else
        SL_TPL_TRY(parse_cond(p, out));
    sl_tpl_parse_leave(p);
    return SL_OK;
}

sl_status sl_tpl_parse_expr(sl_tpl_parser *p, sl_tpl_node **out)
{
    return parse_any(p, SL_TPL_TUPLE_FULL, out);
}

static bool at_tuple_end(const sl_tpl_parser *p, sl_tpl_tuple_mode mode)
{
    return p->token->kind == SL_TPL_T_PRINT_END || p->token->kind == SL_TPL_T_BLOCK_END ||
           sl_tpl_parse_at(p, ")") ||
           (mode == SL_TPL_TUPLE_TARGET && sl_tpl_parse_at_name(p, "in"));
}

sl_status sl_tpl_parse_tuple(sl_tpl_parser *p, sl_tpl_tuple_mode mode, sl_tpl_node **out)
{
    sl_tpl_node *tuple, *child, *last = NULL;
    bool is_tuple = false;

    SL_TPL_TRY(sl_tpl_parse_node(p, SL_TPL_N_TUPLE, p->token->line, &tuple));
    for (;;) {
        if (last != NULL)
            SL_TPL_TRY(sl_tpl_parse_expect(p, ","));
        if (at_tuple_end(p, mode))
            break;
        SL_TPL_TRY(parse_any(p, mode, &child));
        add_child(tuple, &last, child);
        if (!sl_tpl_parse_at(p, ","))
            break;
        is_tuple = true;
    }
    if (is_tuple || (last == NULL && mode == SL_TPL_TUPLE_PARENS)) {
        *out = tuple;
        return SL_OK;
    }
    if (last == NULL)
        return sl_tpl_parse_unexpected(p, "an expression");
    *out = last;
    return SL_OK;
}
