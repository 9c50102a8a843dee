/* protocol/template_parse.c - tokens to a tree of statements; and compiling as a whole. */
#include "protocol/template_tree_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"

enum { TREE_BYTES_MAX = 64 << 20 }; /* some 250 bytes for each byte of the largest source */

/* ---- Tools that both parser files use ---- */

sl_status sl_tpl_parse_fail(sl_tpl_parser *p, uint32_t line, const char *format, ...)
{
    char text[256];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    return sl_fail(p->err, SL_EFORMAT, "chat template line %u: %s", line, text);
}

sl_status sl_tpl_parse_nomem(sl_tpl_parser *p)
{
    return sl_fail(p->err, SL_ENOMEM, "no memory for the chat template");
}

sl_status sl_tpl_parse_unexpected(sl_tpl_parser *p, const char *wanted)
{
    const sl_tpl_token *t = p->token;

    if (t->kind == SL_TPL_T_END)
        return sl_tpl_parse_fail(p, t->line, "the template ends where %s was expected", wanted);
    return sl_tpl_parse_fail(p, t->line, "'%.*s' where %s was expected",
                             (int)(t->len < 40 ? t->len : 40), t->text, wanted);
}

sl_status sl_tpl_parse_enter(sl_tpl_parser *p)
{
    if (p->depth == SL_TEMPLATE_NESTING_MAX)
        return sl_tpl_parse_fail(p, p->token->line, "more than %d levels of nesting",
                                 SL_TEMPLATE_NESTING_MAX);
    p->depth++;
    return SL_OK;
}

void sl_tpl_parse_leave(sl_tpl_parser *p)
{
    p->depth--;
}

static bool token_is(const sl_tpl_token *t, sl_tpl_token_kind kind, const char *text)
{
    return t->kind == kind && t->len == strlen(text) && memcmp(t->text, text, t->len) == 0;
}

bool sl_tpl_parse_at(const sl_tpl_parser *p, const char *op)
{
    return token_is(p->token, SL_TPL_T_OP, op);
}

bool sl_tpl_parse_at_name(const sl_tpl_parser *p, const char *name)
{
    return token_is(p->token, SL_TPL_T_NAME, name);
}

bool sl_tpl_parse_skip(sl_tpl_parser *p, const char *op)
{
    if (!sl_tpl_parse_at(p, op))
        return false;
    p->token++;
    return true;
}

bool sl_tpl_parse_skip_name(sl_tpl_parser *p, const char *name)
{
    if (!sl_tpl_parse_at_name(p, name))
        return false;
    p->token++;
    return true;
}

sl_status sl_tpl_parse_expect(sl_tpl_parser *p, const char *op)
{
    char wanted[16];

    if (sl_tpl_parse_skip(p, op))
        return SL_OK;
    snprintf(wanted, sizeof(wanted), "'%s'", op);
    return sl_tpl_parse_unexpected(p, wanted);
}

static sl_status intern(sl_tpl_parser *p, const char *text, size_t len, const sl_tpl_str **out)
{
    uint32_t hash = 2166136261u;
    sl_tpl_name **bucket, *name;
    char *copy;

    for (size_t i = 0; i < len; i++)
        hash = (hash ^ (unsigned char)text[i]) * 16777619u;
    bucket = &p->bucket[hash % SL_TPL_NAME_BUCKETS];
    for (name = *bucket; name != NULL; name = name->next)
        if (name->str.len == len && memcmp(name->str.data, text, len) == 0) {
            *out = &name->str;
            return SL_OK;
        }
    name = sl_arena_alloc(p->arena, 1, sizeof(*name));
    copy = sl_arena_strndup(p->arena, text, len);
    if (name == NULL || copy == NULL)
        return sl_tpl_parse_nomem(p);
    sl_tpl_str_init(&name->str, copy, len, false);
    name->next = *bucket;
    *bucket = name;
    *out = &name->str;
    return SL_OK;
}

sl_status sl_tpl_parse_name(sl_tpl_parser *p, const sl_tpl_str **out)
{
    if (p->token->kind != SL_TPL_T_NAME)
        return sl_tpl_parse_unexpected(p, "a name");
    SL_TPL_TRY(intern(p, p->token->text, p->token->len, out));
    p->token++;
    return SL_OK;
}

sl_status sl_tpl_parse_node(sl_tpl_parser *p, sl_tpl_node_kind kind, uint32_t line,
                            sl_tpl_node **out)
{
    sl_tpl_node *n = sl_arena_alloc(p->arena, 1, sizeof(*n));

    if (n == NULL)
        return sl_tpl_parse_nomem(p);
    n->kind = kind;
    n->line = line;
    *out = n;
    return SL_OK;
}

/* ---- Statements ---- */

static sl_status parse_body(sl_tpl_parser *p, const char *const *ends, const sl_tpl_node **out);

static sl_status expect_block_end(sl_tpl_parser *p)
{
    if (p->token->kind != SL_TPL_T_BLOCK_END)
        return sl_tpl_parse_unexpected(p, "the end of the statement");
    p->token++;
    return SL_OK;
}

/* The body of a statement: ": %} ... {% end".  The current token is then the end's name. */
static sl_status parse_block(sl_tpl_parser *p, const char *const *ends, const sl_tpl_node **out)
{
    (void)sl_tpl_parse_skip(p, ":"); /* allowed, as in Python */
    SL_TPL_TRY(expect_block_end(p));
    return parse_body(p, ends, out);
}

static bool can_assign(const sl_tpl_node *n)
{
    if (n->kind == SL_TPL_N_NAME || n->kind == SL_TPL_N_NSREF)
        return true;
    if (n->kind != SL_TPL_N_TUPLE)
        return false;
    for (const sl_tpl_node *c = n->as.children.first; c != NULL; c = c->next)
        if (!can_assign(c)) /* as deep as the expression, which is bounded */
            return false;
    return true;
}

static sl_status parse_target(sl_tpl_parser *p, sl_tpl_node **out)
{
    const uint32_t line = p->token->line;

    SL_TPL_TRY(sl_tpl_parse_tuple(p, SL_TPL_TUPLE_TARGET, out));
    if (!can_assign(*out))
        return sl_tpl_parse_fail(p, line, "this cannot be assigned to");
    return SL_OK;
}

static sl_status parse_if(sl_tpl_parser *p, sl_tpl_node *n)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    static const char *const last[] = {"endif", NULL};
    const sl_tpl_branch **link = &n->as.branch;

    for (;;) {
        sl_tpl_branch *b = sl_arena_alloc(p->arena, 1, sizeof(*b));
        sl_tpl_node *test;

        if (b == NULL)
            return sl_tpl_parse_nomem(p);
        *link = b;
        link = (const sl_tpl_branch **)&b->next;
        SL_TPL_TRY(sl_tpl_parse_tuple(p, SL_TPL_TUPLE_NO_COND, &test));
        b->test = test;
        SL_TPL_TRY(parse_block(p, ends, &b->body));
        if (sl_tpl_parse_skip_name(p, "elif"))
            continue;
        if (sl_tpl_parse_skip_name(p, "else")) {
            sl_tpl_branch *otherwise = sl_arena_alloc(p->arena, 1, sizeof(*otherwise));

            if (otherwise == NULL)
                return sl_tpl_parse_nomem(p);
            *link = otherwise;
            SL_TPL_TRY(parse_block(p, last, &otherwise->body));
        }
        p->token++; /* endif */
        return SL_OK;
    }
}

static sl_status parse_for(sl_tpl_parser *p, sl_tpl_node *n)
{
    static const char *const ends[] = {"else", "endfor", NULL};
    static const char *const last[] = {"endfor", NULL};
    sl_tpl_node *part;

    SL_TPL_TRY(parse_target(p, &part));
    if (part->kind == SL_TPL_N_NSREF)
        return sl_tpl_parse_fail(p, n->line, "a loop cannot assign to an attribute");
    n->as.loop.target = part;
    if (!sl_tpl_parse_skip_name(p, "in"))
        return sl_tpl_parse_unexpected(p, "'in'");
    SL_TPL_TRY(sl_tpl_parse_tuple(p, SL_TPL_TUPLE_NO_COND, &part));
    n->as.loop.iter = part;
    if (sl_tpl_parse_skip_name(p, "if")) {
        SL_TPL_TRY(sl_tpl_parse_expr(p, &part));
        n->as.loop.test = part;
    }
    if (sl_tpl_parse_at_name(p, "recursive"))
        return sl_tpl_parse_fail(p, p->token->line, "recursive loops are not supported");
    p->loops++;
    SL_TPL_TRY(parse_block(p, ends, &n->as.loop.body));
    p->loops--;
    if (sl_tpl_parse_skip_name(p, "else"))
        SL_TPL_TRY(parse_block(p, last, &n->as.loop.otherwise));
    p->token++; /* endfor */
    return SL_OK;
}

static sl_status parse_set(sl_tpl_parser *p, sl_tpl_node *n)
{
    static const char *const ends[] = {"endset", NULL};
    sl_tpl_node *part;

    SL_TPL_TRY(parse_target(p, &part));
    n->as.set.target = part;
    if (sl_tpl_parse_skip(p, "=")) {
        SL_TPL_TRY(sl_tpl_parse_tuple(p, SL_TPL_TUPLE_FULL, &part));
        n->as.set.value = part;
        return SL_OK;
    }
    n->kind = SL_TPL_N_SET_BLOCK;
    SL_TPL_TRY(sl_tpl_parse_filters(p, false, &n->as.set.filters));
    SL_TPL_TRY(parse_block(p, ends, &n->as.set.body));
    p->token++;
    return SL_OK;
}

static sl_status parse_signature(sl_tpl_parser *p, sl_tpl_macro_node *m)
{
    const sl_tpl_param **link = &m->params;
    bool fallbacks = false;

    SL_TPL_TRY(sl_tpl_parse_expect(p, "("));
    while (!sl_tpl_parse_at(p, ")")) {
        sl_tpl_param *param = sl_arena_alloc(p->arena, 1, sizeof(*param));

        if (param == NULL)
            return sl_tpl_parse_nomem(p);
        if (m->param_count > 0)
            SL_TPL_TRY(sl_tpl_parse_expect(p, ","));
        SL_TPL_TRY(sl_tpl_parse_name(p, &param->name));
        if (sl_tpl_parse_skip(p, "=")) {
            sl_tpl_node *fallback;

            SL_TPL_TRY(sl_tpl_parse_expr(p, &fallback));
            param->fallback = fallback;
            fallbacks = true;
        } else if (fallbacks) {
            return sl_tpl_parse_fail(p, p->token->line,
                                     "a parameter without a default follows one with a default");
        }
        *link = param;
        link = (const sl_tpl_param **)&param->next;
        m->param_count++;
    }
    return sl_tpl_parse_expect(p, ")");
}

/* Parameters and body of a macro or call block; `m` is the macro around its names meanwhile. */
static sl_status parse_macro_body(sl_tpl_parser *p, sl_tpl_macro_node *m, const char *end)
{
    const char *const ends[] = {end, NULL};
    sl_tpl_macro_node *outer = p->macro;
    const uint32_t loops = p->loops;

    p->macro = m;
    p->loops = 0;
    SL_TPL_TRY(parse_block(p, ends, &m->body));
    p->token++;
    p->macro = outer;
    p->loops = loops;
    if (outer != NULL) { /* a name used inside counts for the macros around it too */
        outer->uses_caller |= m->uses_caller;
        outer->uses_kwargs |= m->uses_kwargs;
        outer->uses_varargs |= m->uses_varargs;
    }
    return SL_OK;
}

static sl_status parse_macro(sl_tpl_parser *p, sl_tpl_node *n)
{
    sl_tpl_macro_node *m = sl_arena_alloc(p->arena, 1, sizeof(*m));

    if (m == NULL)
        return sl_tpl_parse_nomem(p);
    n->as.macro = m;
    SL_TPL_TRY(sl_tpl_parse_name(p, &m->name));
    SL_TPL_TRY(parse_signature(p, m));
    return parse_macro_body(p, m, "endmacro");
}

static sl_status parse_call_block(sl_tpl_parser *p, sl_tpl_node *n)
{
    sl_tpl_macro_node *m = sl_arena_alloc(p->arena, 1, sizeof(*m));
    sl_tpl_node *call;

    if (m == NULL)
        return sl_tpl_parse_nomem(p);
    n->as.macro = m;
    SL_TPL_TRY(intern(p, "caller", 6, &m->name));
    if (sl_tpl_parse_at(p, "("))
        SL_TPL_TRY(parse_signature(p, m));
    SL_TPL_TRY(sl_tpl_parse_expr(p, &call));
    if (call->kind != SL_TPL_N_POSTFIX || call->as.chain.last->op != SL_TPL_OP_CALL)
        return sl_tpl_parse_fail(p, n->line, "a call block needs a call");
    m->call = call;
    return parse_macro_body(p, m, "endcall");
}

static sl_status parse_filter_block(sl_tpl_parser *p, sl_tpl_node *n)
{
    static const char *const ends[] = {"endfilter", NULL};

    SL_TPL_TRY(sl_tpl_parse_filters(p, true, &n->as.filter.filters));
    SL_TPL_TRY(parse_block(p, ends, &n->as.filter.body));
    p->token++;
    return SL_OK;
}

static sl_status parse_with(sl_tpl_parser *p, sl_tpl_node *n)
{
    static const char *const ends[] = {"endwith", NULL};
    const sl_tpl_assign **link = &n->as.scope.assign;

    while (p->token->kind != SL_TPL_T_BLOCK_END) {
        sl_tpl_assign *a = sl_arena_alloc(p->arena, 1, sizeof(*a));
        sl_tpl_node *part;

        if (a == NULL)
            return sl_tpl_parse_nomem(p);
        if (n->as.scope.assign != NULL)
            SL_TPL_TRY(sl_tpl_parse_expect(p, ","));
        if (p->token->kind != SL_TPL_T_NAME)
            return sl_tpl_parse_unexpected(p, "a name");
        SL_TPL_TRY(sl_tpl_parse_node(p, SL_TPL_N_NAME, p->token->line, &part));
        SL_TPL_TRY(sl_tpl_parse_name(p, &part->as.name));
        a->target = part;
        SL_TPL_TRY(sl_tpl_parse_expect(p, "="));
        SL_TPL_TRY(sl_tpl_parse_expr(p, &part));
        a->value = part;
        *link = a;
        link = (const sl_tpl_assign **)&a->next;
    }
    SL_TPL_TRY(parse_block(p, ends, &n->as.scope.body));
    p->token++;
    return SL_OK;
}

/* "generation" marks what a model learns in training; rendering passes it through.  Its body is a
 * macro of its own to jinja2, hence no break out of a loop around it. */
static sl_status parse_generation(sl_tpl_parser *p, sl_tpl_node *n)
{
    static const char *const ends[] = {"endgeneration", NULL};
    const uint32_t loops = p->loops;

    p->loops = 0;
    SL_TPL_TRY(parse_block(p, ends, &n->as.scope.body));
    p->token++;
    p->loops = loops;
    return SL_OK;
}

static sl_status parse_break(sl_tpl_parser *p, sl_tpl_node *n)
{
    if (p->loops == 0)
        return sl_tpl_parse_fail(p, n->line, "break or continue outside a loop");
    return SL_OK;
}

typedef struct statement {
    const char *name;
    sl_tpl_node_kind kind;
    sl_status (*parse)(sl_tpl_parser *p, sl_tpl_node *n);
} statement;

static const statement statements[] = {
    {"if", SL_TPL_N_IF, parse_if},
    {"for", SL_TPL_N_FOR, parse_for},
    {"set", SL_TPL_N_SET, parse_set},
    {"macro", SL_TPL_N_MACRO, parse_macro},
    {"call", SL_TPL_N_CALL_BLOCK, parse_call_block},
    {"filter", SL_TPL_N_FILTER_BLOCK, parse_filter_block},
    {"with", SL_TPL_N_SCOPE, parse_with},
    {"generation", SL_TPL_N_SCOPE, parse_generation},
    {"break", SL_TPL_N_BREAK, parse_break},
    {"continue", SL_TPL_N_CONTINUE, parse_break},
};

static sl_status parse_statement(sl_tpl_parser *p, sl_tpl_node **out)
{
    const uint32_t line = p->token->line;

    if (p->token->kind != SL_TPL_T_NAME)
        return sl_tpl_parse_unexpected(p, "a statement");
    for (size_t i = 0; i < sizeof(statements) / sizeof(statements[0]); i++) {
        if (!sl_tpl_parse_skip_name(p, statements[i].name))
            continue;
        SL_TPL_TRY(sl_tpl_parse_enter(p));
        SL_TPL_TRY(sl_tpl_parse_node(p, statements[i].kind, line, out));
        SL_TPL_TRY(statements[i].parse(p, *out));
        sl_tpl_parse_leave(p);
        return expect_block_end(p);
    }
    return sl_tpl_parse_fail(p, line, "unknown or unsupported statement '%.*s'",
                             (int)(p->token->len < 40 ? p->token->len : 40), p->token->text);
}

static sl_status parse_data(sl_tpl_parser *p, sl_tpl_node **out)
{
    sl_tpl_str *text = sl_arena_alloc(p->arena, 1, sizeof(*text));
    char *copy = sl_arena_strndup(p->arena, p->token->text, p->token->len);

    if (text == NULL || copy == NULL)
        return sl_tpl_parse_nomem(p);
    SL_TPL_TRY(sl_tpl_parse_node(p, SL_TPL_N_TEXT, p->token->line, out));
    sl_tpl_str_init(text, copy, p->token->len, false);
    (*out)->as.text = text;
    p->token++;
    return SL_OK;
}

static sl_status parse_print(sl_tpl_parser *p, sl_tpl_node **out)
{
    const uint32_t line = p->token->line;
    sl_tpl_node *expr;

    p->token++;
    SL_TPL_TRY(sl_tpl_parse_tuple(p, SL_TPL_TUPLE_FULL, &expr));
    if (p->token->kind != SL_TPL_T_PRINT_END)
        return sl_tpl_parse_unexpected(p, "the end of the print statement");
    p->token++;
    SL_TPL_TRY(sl_tpl_parse_node(p, SL_TPL_N_PRINT, line, out));
    (*out)->as.operand = expr;
    return SL_OK;
}

/* Statements up to one of `ends` (NULL: up to the end of the template). */
static sl_status parse_body(sl_tpl_parser *p, const char *const *ends, const sl_tpl_node **out)
{
    const sl_tpl_node **link = out;

    *out = NULL;
    for (;;) {
        sl_tpl_node *n;

        switch (p->token->kind) {
        case SL_TPL_T_END:
            if (ends != NULL)
                return sl_tpl_parse_fail(p, p->token->line, "the template ends before '%s'",
                                         ends[0]);
            return SL_OK;
        case SL_TPL_T_DATA:
            SL_TPL_TRY(parse_data(p, &n));
            break;
        case SL_TPL_T_PRINT_BEGIN:
            SL_TPL_TRY(parse_print(p, &n));
            break;
        default: /* BLOCK_BEGIN: the lexer gives nothing else outside tags */
            p->token++;
            for (size_t i = 0; ends != NULL && ends[i] != NULL; i++)
                if (sl_tpl_parse_at_name(p, ends[i]))
                    return SL_OK;
            SL_TPL_TRY(parse_statement(p, &n));
        }
        *link = n;
        link = (const sl_tpl_node **)&n->next;
    }
}

static sl_status parse_template(sl_tpl_parser *p, sl_template *out)
{
    SL_TPL_TRY(intern(p, "loop", 4, &out->loop_name));
    SL_TPL_TRY(intern(p, "caller", 6, &out->caller_name));
    SL_TPL_TRY(intern(p, "varargs", 7, &out->varargs_name));
    SL_TPL_TRY(intern(p, "kwargs", 6, &out->kwargs_name));
    return parse_body(p, NULL, &out->body);
}

/* ---- Compiling ---- */

/* A copy with "\r\n" and "\r" as "\n", and without the newline at the very end. */
static char *normalise_lines(const char *source, size_t len, size_t *out_len)
{
    char *copy = sl_alloc(len + 1, 1);
    size_t n = 0;

    if (copy == NULL)
        return NULL;
    for (size_t i = 0; i < len; i++) {
        if (source[i] == '\r' && i + 1 < len && source[i + 1] == '\n')
            continue;
        copy[n++] = source[i] == '\r' ? '\n' : source[i];
    }
    if (n > 0 && copy[n - 1] == '\n')
        n--;
    *out_len = n;
    return copy;
}

sl_status sl_template_compile(const char *source, size_t len, sl_template **out, sl_err *err)
{
    sl_tpl_parser *p = NULL;
    sl_tpl_tokens tokens = {0};
    sl_template *t = NULL;
    char *text = NULL;
    sl_status status;

    if (len > SL_TEMPLATE_BYTES_MAX)
        return sl_fail(err, SL_EFORMAT, "the chat template has %zu bytes, at most %d", len,
                       SL_TEMPLATE_BYTES_MAX);
    if (!sl_utf8_valid(source, len))
        return sl_fail(err, SL_EFORMAT, "the chat template is not valid UTF-8");
    text = normalise_lines(source, len, &len);
    t = sl_alloc(1, sizeof(*t));
    p = sl_alloc(1, sizeof(*p));
    if (text == NULL || t == NULL || p == NULL) {
        status = sl_fail(err, SL_ENOMEM, "no memory for the chat template");
        goto out;
    }
    sl_arena_init(&t->arena, TREE_BYTES_MAX);
    status = sl_tpl_lex(text, len, &tokens, err);
    if (status != SL_OK)
        goto out;
    *p = (sl_tpl_parser){.arena = &t->arena, .token = tokens.token, .err = err};
    status = parse_template(p, t);
    if (status != SL_OK)
        goto out;
    *out = t;
    t = NULL;
out:
    sl_template_destroy(t);
    sl_free(tokens.token);
    sl_free(p);
    sl_free(text);
    return status;
}

void sl_template_destroy(sl_template *t)
{
    if (t == NULL)
        return;
    sl_arena_done(&t->arena);
    sl_free(t);
}
