/* protocol/template_tree_internal.h - a compiled template: its tree, and how it is made.
 *
 * The source becomes tokens (template_lex.c), and those the tree (template_parse.c for statements,
 * template_parse_expr.c for expressions).  The tree is never changed afterwards.  What is repeated
 * in a row (operators of one precedence, subscripts, filters, branches of an if) is a list in one
 * node, so that the depth of the tree is that of the brackets and blocks of the source. */
#ifndef SL_PROTOCOL_TEMPLATE_TREE_INTERNAL_H
#define SL_PROTOCOL_TEMPLATE_TREE_INTERNAL_H

#include "protocol/template_internal.h"

/* ---- The tree ---- */

typedef enum sl_tpl_node_kind {
    SL_TPL_N_CONST,
    SL_TPL_N_NAME,
    SL_TPL_N_LIST,
    SL_TPL_N_TUPLE,
    SL_TPL_N_DICT,   /* children: key, value, key, value ... */
    SL_TPL_N_CHAIN,  /* left-associative operators of one precedence, in a row */
    SL_TPL_N_CONCAT, /* a ~ b ~ c */
    SL_TPL_N_AND,
    SL_TPL_N_OR,
    SL_TPL_N_NOT,
    SL_TPL_N_NEG,
    SL_TPL_N_POS,
    SL_TPL_N_COMPARE,
    SL_TPL_N_COND,
    SL_TPL_N_POSTFIX, /* base.attr[item](call)|filter is test, in a row */
    SL_TPL_N_NSREF,   /* target only: ns.attr */
    SL_TPL_N_TEXT,
    SL_TPL_N_PRINT,
    SL_TPL_N_IF,
    SL_TPL_N_FOR,
    SL_TPL_N_SET,
    SL_TPL_N_SET_BLOCK,
    SL_TPL_N_MACRO,
    SL_TPL_N_CALL_BLOCK,
    SL_TPL_N_FILTER_BLOCK,
    SL_TPL_N_SCOPE, /* with, generation */
    SL_TPL_N_BREAK,
    SL_TPL_N_CONTINUE
} sl_tpl_node_kind;

struct sl_tpl_arg {
    sl_tpl_arg *next;
    const sl_tpl_str *name; /* NULL: positional */
    const sl_tpl_node *node;
    uint8_t stars; /* 1: *node, 2: **node */
};

/* One link of a CHAIN, COMPARE or POSTFIX. */
struct sl_tpl_part {
    sl_tpl_part *next;
    sl_tpl_op op;
    uint32_t line;
    bool negated;                 /* TEST: "is not" */
    const sl_tpl_str *name;       /* ATTR */
    const sl_tpl_builtin *method; /* FILTER, TEST */
    const sl_tpl_node *node[3];   /* the operand; ITEM: index; SLICE: start, stop, step */
    const sl_tpl_arg *args;
};

typedef struct sl_tpl_branch {
    struct sl_tpl_branch *next;
    const sl_tpl_node *test; /* NULL: else */
    const sl_tpl_node *body;
} sl_tpl_branch;

typedef struct sl_tpl_param {
    struct sl_tpl_param *next;
    const sl_tpl_str *name;
    const sl_tpl_node *fallback; /* NULL: none */
} sl_tpl_param;

typedef struct sl_tpl_assign {
    struct sl_tpl_assign *next;
    const sl_tpl_node *target;
    const sl_tpl_node *value;
} sl_tpl_assign;

/* MACRO and CALL_BLOCK. */
typedef struct sl_tpl_macro_node {
    const sl_tpl_str *name;
    const sl_tpl_param *params;
    uint32_t param_count;
    const sl_tpl_node *body;
    const sl_tpl_node *call; /* CALL_BLOCK: a POSTFIX that ends in a CALL */
    bool uses_caller;
    bool uses_varargs;
    bool uses_kwargs;
} sl_tpl_macro_node;

struct sl_tpl_node {
    sl_tpl_node *next; /* sibling in a body or in a list of children */
    sl_tpl_node_kind kind;
    uint32_t line;
    union {
        sl_tpl_value constant;
        const sl_tpl_str *name;
        struct {
            sl_tpl_node *first;
            size_t count;
        } children;                 /* LIST, TUPLE, DICT, CONCAT, AND, OR */
        const sl_tpl_node *operand; /* NOT, NEG, POS, PRINT */
        struct {
            const sl_tpl_node *first;
            sl_tpl_part *part;
            sl_tpl_part *last;
        } chain; /* CHAIN, COMPARE, POSTFIX */
        struct {
            const sl_tpl_node *test;
            const sl_tpl_node *yes;
            const sl_tpl_node *no; /* NULL: undefined */
        } cond;
        struct {
            const sl_tpl_str *name;
            const sl_tpl_str *attr;
        } nsref;
        const sl_tpl_str *text;
        const sl_tpl_branch *branch;
        struct {
            const sl_tpl_node *target;
            const sl_tpl_node *iter;
            const sl_tpl_node *test; /* or NULL */
            const sl_tpl_node *body;
            const sl_tpl_node *otherwise;
        } loop;
        struct {
            const sl_tpl_node *target;
            const sl_tpl_node *value; /* SET */
            sl_tpl_part *filters;     /* SET_BLOCK */
            const sl_tpl_node *body;  /* SET_BLOCK */
        } set;
        const sl_tpl_macro_node *macro;
        struct {
            sl_tpl_part *filters;
            const sl_tpl_node *body;
        } filter;
        struct {
            const sl_tpl_assign *assign;
            const sl_tpl_node *body;
        } scope;
    } as;
};

struct sl_template {
    sl_arena arena;
    const sl_tpl_node *body;
    /* Names that the engine itself sets, interned. */
    const sl_tpl_str *loop_name, *caller_name, *varargs_name, *kwargs_name;
};

/* ---- Tokens ---- */

typedef enum sl_tpl_token_kind {
    SL_TPL_T_END,
    SL_TPL_T_DATA,
    SL_TPL_T_PRINT_BEGIN,
    SL_TPL_T_PRINT_END,
    SL_TPL_T_BLOCK_BEGIN,
    SL_TPL_T_BLOCK_END,
    SL_TPL_T_NAME,
    SL_TPL_T_STRING, /* text: what stands between the quotes */
    SL_TPL_T_INT,
    SL_TPL_T_FLOAT,
    SL_TPL_T_OP /* text: "==" and so on */
} sl_tpl_token_kind;

typedef struct sl_tpl_token {
    sl_tpl_token_kind kind;
    uint32_t line;
    const char *text;
    size_t len;
} sl_tpl_token;

typedef struct sl_tpl_tokens {
    sl_tpl_token *token; /* owned: sl_free */
    size_t count;
    size_t capacity;
} sl_tpl_tokens;

/* Tokens of `source` (line ends already normalised); their texts point into it.  The last is END.
 * On failure tokens->token is still the caller's to free. */
SL_MUST_CHECK sl_status sl_tpl_lex(const char *source, size_t len, sl_tpl_tokens *tokens,
                                   sl_err *err);

/* ---- The parser ---- */

enum { SL_TPL_NAME_BUCKETS = 256 };

typedef struct sl_tpl_name {
    struct sl_tpl_name *next;
    sl_tpl_str str;
} sl_tpl_name;

typedef struct sl_tpl_parser {
    sl_arena *arena;
    const sl_tpl_token *token; /* the current one; the array ends in END, which is never passed */
    sl_err *err;
    uint32_t depth;                           /* expressions and blocks inside each other */
    uint32_t loops;                           /* for-loops around, within the macro */
    sl_tpl_macro_node *macro;                 /* the macro around, or NULL */
    sl_tpl_name *bucket[SL_TPL_NAME_BUCKETS]; /* names, interned: equal names are one pointer */
} sl_tpl_parser;

/* template_parse.c, for template_parse_expr.c and back. */
SL_MUST_CHECK sl_status sl_tpl_parse_fail(sl_tpl_parser *p, uint32_t line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
SL_MUST_CHECK sl_status sl_tpl_parse_nomem(sl_tpl_parser *p);
SL_MUST_CHECK sl_status sl_tpl_parse_unexpected(sl_tpl_parser *p, const char *wanted);
SL_MUST_CHECK sl_status sl_tpl_parse_enter(sl_tpl_parser *p); /* one deeper, if allowed */
void sl_tpl_parse_leave(sl_tpl_parser *p);
bool sl_tpl_parse_at(const sl_tpl_parser *p, const char *op);
bool sl_tpl_parse_at_name(const sl_tpl_parser *p, const char *name);
bool sl_tpl_parse_skip(sl_tpl_parser *p, const char *op);
bool sl_tpl_parse_skip_name(sl_tpl_parser *p, const char *name);
SL_MUST_CHECK sl_status sl_tpl_parse_expect(sl_tpl_parser *p, const char *op);
SL_MUST_CHECK sl_status sl_tpl_parse_name(sl_tpl_parser *p, const sl_tpl_str **out);
SL_MUST_CHECK sl_status sl_tpl_parse_node(sl_tpl_parser *p, sl_tpl_node_kind kind, uint32_t line,
                                          sl_tpl_node **out);

typedef enum sl_tpl_tuple_mode {
    SL_TPL_TUPLE_FULL,    /* any expressions */
    SL_TPL_TUPLE_NO_COND, /* no inline if: "for x in y if z" */
    SL_TPL_TUPLE_PARENS,  /* inside ( ): may be empty */
    SL_TPL_TUPLE_TARGET   /* names only, ends at "in" */
} sl_tpl_tuple_mode;

SL_MUST_CHECK sl_status sl_tpl_parse_expr(sl_tpl_parser *p, sl_tpl_node **out);
SL_MUST_CHECK sl_status sl_tpl_parse_tuple(sl_tpl_parser *p, sl_tpl_tuple_mode mode,
                                           sl_tpl_node **out);
/* Filters ("|a|b(1)"), appended to *list; `first_bare`: the first has no "|". */
SL_MUST_CHECK sl_status sl_tpl_parse_filters(sl_tpl_parser *p, bool first_bare, sl_tpl_part **list);

#endif
