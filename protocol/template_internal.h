/* protocol/template_internal.h - what the files of the template engine share.
 *
 *   template_lex.c         source to tokens (white space is settled here)
 *   template_parse.c       tokens to statements; compiling as a whole
 *   template_parse_expr.c  tokens to expressions
 *   template_exec.c        statements, scopes, output; rendering as a whole
 *   template_eval.c        expressions
 *   template_call.c        macros, builtins, global functions, loop
 *   template_ops.c         arithmetic, attributes, items, slices
 *   template_compare.c     equality, order, `in`, sorting
 *   template_value.c       values, strings, marks, lists, dicts
 *   template_print.c       str(), repr(), tojson
 *   template_json.c        JSON in
 *   template_filters.c     filters over sequences
 *   template_text.c        filters over text and numbers
 *   template_is.c          tests
 *   template_methods.c     methods of strings, lists, dicts
 *   template_format.c      "..." % x, str.format
 *   template_unicode.c     letter case, white space
 *
 * Values are immutable but for lists, dicts and namespaces (append, pop, set ns.x).  All of a
 * rendering lives in one arena with a limit and goes at once; the tree lives in the template's.
 *
 * A function that can fail returns sl_status; the sentence is written at the origin by
 * sl_tpl_fail, which adds the line. */
#ifndef SL_PROTOCOL_TEMPLATE_INTERNAL_H
#define SL_PROTOCOL_TEMPLATE_INTERNAL_H

#include "base/arena.h"
#include "protocol/template.h"

#define SL_TPL_TRY(call)                                                                           \
    do {                                                                                           \
        const sl_status tpl_try_status = (call);                                                   \
        if (tpl_try_status != SL_OK)                                                               \
            return tpl_try_status;                                                                 \
    } while (0)

enum {
    SL_TPL_DEPTH_MAX = 400,       /* evaluations inside each other: bounds the C stack */
    SL_TPL_VALUE_DEPTH_MAX = 100, /* lists inside each other that are printed or compared */
    SL_TPL_JSON_DEPTH_MAX = 64,
    SL_TPL_RANGE_MAX = 100000, /* items of range(), as jinja2's sandbox has it */
    SL_TPL_ARGS_MAX = 6,       /* named parameters of a builtin */
    SL_TPL_STEP_BYTES = 1024   /* bytes of text worked on that count as one step */
};

/* ---- Values ---- */

/* Bytes up to `end` (counted from the start of the builder they were made in) are the user's, or
 * the template's.  The last mark may end beyond the string that uses it. */
typedef struct sl_tpl_mark {
    size_t end;
    bool user;
} sl_tpl_mark;

/* A growing text with marks.  Its memory is never moved away under a string that was made of it
 * (the arena frees nothing), so strings may share it. */
typedef struct sl_tpl_text {
    char *data;
    size_t len;
    size_t capacity;
    sl_tpl_mark *mark;
    size_t mark_count;
    size_t mark_capacity;
} sl_tpl_text;

/* A string: valid UTF-8, immutable. */
typedef struct sl_tpl_str {
    const char *data;
    size_t len;
    size_t chars;            /* code points; == len: pure ASCII */
    const sl_tpl_mark *mark; /* NULL: all bytes are as `user` says */
    size_t mark_count;
    size_t mark_base;  /* where data[0] lies in the positions of `mark` */
    sl_tpl_text *tail; /* the builder this string is all of, or NULL: `a ~ b` may grow it */
    bool user;
} sl_tpl_str;

typedef enum sl_tpl_kind {
    SL_TPL_MISSING, /* an argument that was not given */
    SL_TPL_UNDEFINED,
    SL_TPL_NONE,
    SL_TPL_BOOL,
    SL_TPL_INT,
    SL_TPL_FLOAT,
    SL_TPL_STRING,
    SL_TPL_SEQ,
    SL_TPL_DICT,
    SL_TPL_NAMESPACE,
    SL_TPL_MACRO,
    SL_TPL_LOOP,
    SL_TPL_METHOD,   /* bound: "x.split" without the call */
    SL_TPL_FUNCTION, /* a global */
    SL_TPL_KIND_COUNT
} sl_tpl_kind;

/* Python's kinds of sequence, all held as arrays here. */
typedef enum sl_tpl_form {
    SL_TPL_LIST,
    SL_TPL_TUPLE,
    SL_TPL_RANGE,
    SL_TPL_GENERATOR, /* what map, select ... give: iterated once, has no length */
    SL_TPL_KEYS,
    SL_TPL_VALUES,
    SL_TPL_ITEMS
} sl_tpl_form;

typedef struct sl_tpl_seq sl_tpl_seq;
typedef struct sl_tpl_dict sl_tpl_dict;
typedef struct sl_tpl_macro sl_tpl_macro;
typedef struct sl_tpl_loop sl_tpl_loop;
typedef struct sl_tpl_method sl_tpl_method;
typedef struct sl_tpl_builtin sl_tpl_builtin;
typedef struct sl_tpl_node sl_tpl_node;
typedef struct sl_tpl_scope sl_tpl_scope;

/* Why a value is undefined: for the sentence of the error that using it gives. */
typedef enum sl_tpl_why {
    SL_TPL_WHY_HINT, /* as.hint is the sentence, a literal */
    SL_TPL_WHY_NAME, /* as.str is the variable's name */
    SL_TPL_WHY_ATTR  /* as.str is the attribute's name */
} sl_tpl_why;

typedef struct sl_tpl_value {
    sl_tpl_kind kind;
    sl_tpl_why why; /* UNDEFINED */
    union {
        bool b;
        int64_t i;
        double f;
        const sl_tpl_str *str;
        const char *hint;
        sl_tpl_seq *seq;
        sl_tpl_dict *dict; /* also NAMESPACE */
        sl_tpl_macro *macro;
        sl_tpl_loop *loop;
        const sl_tpl_method *method;
        const sl_tpl_builtin *function;
    } as;
} sl_tpl_value;

struct sl_tpl_seq {
    sl_tpl_value *item;
    size_t count;
    size_t capacity;
    sl_tpl_form form;
    bool drained; /* a generator that was iterated */
};

/* Insertion order.  Searched from the start: the steps that a search costs are charged. */
typedef struct sl_tpl_entry {
    sl_tpl_value key;
    sl_tpl_value value;
} sl_tpl_entry;

struct sl_tpl_dict {
    sl_tpl_entry *entry;
    size_t count;
    size_t capacity;
};

struct sl_tpl_macro {
    const sl_tpl_node *node; /* MACRO or CALL_BLOCK */
    sl_tpl_scope *scope;     /* where it was defined */
};

struct sl_tpl_method {
    sl_tpl_value self;
    const sl_tpl_builtin *builtin;
};

typedef enum sl_tpl_op {
    SL_TPL_OP_ADD,
    SL_TPL_OP_SUB,
    SL_TPL_OP_MUL,
    SL_TPL_OP_DIV,
    SL_TPL_OP_FLOORDIV,
    SL_TPL_OP_MOD,
    SL_TPL_OP_POW,
    SL_TPL_OP_EQ,
    SL_TPL_OP_NE,
    SL_TPL_OP_LT,
    SL_TPL_OP_LE,
    SL_TPL_OP_GT,
    SL_TPL_OP_GE,
    SL_TPL_OP_IN,
    SL_TPL_OP_NOT_IN,
    SL_TPL_OP_ATTR,
    SL_TPL_OP_ITEM,
    SL_TPL_OP_SLICE,
    SL_TPL_OP_CALL,
    SL_TPL_OP_FILTER,
    SL_TPL_OP_TEST
} sl_tpl_op;

/* One argument, and one link of a chain, of the tree: template_tree_internal.h. */
typedef struct sl_tpl_arg sl_tpl_arg;
typedef struct sl_tpl_part sl_tpl_part;

/* ---- Rendering ---- */

typedef struct sl_tpl_var {
    const sl_tpl_str *name; /* interned */
    sl_tpl_value value;
} sl_tpl_var;

struct sl_tpl_scope {
    sl_tpl_scope *parent;
    sl_tpl_var *var;
    uint32_t count;
    uint32_t capacity;
};

typedef struct sl_tpl_render {
    sl_arena arena;
    const sl_template *tpl;
    sl_template_output *out;
    sl_tpl_text *capture; /* where output goes; NULL: to out */
    sl_tpl_dict *globals;
    sl_tpl_scope *scope;
    sl_err *err;
    int64_t now_unix_s;
    sl_status status; /* of the failure, once there is one */
    uint32_t line;    /* being evaluated */
    uint32_t steps;
    uint32_t depth;
    uint32_t calls;
} sl_tpl_render;

struct sl_tpl_loop {
    sl_tpl_seq items;        /* accepted so far */
    const sl_tpl_value *src; /* all, before the test */
    size_t src_count;
    size_t src_next; /* first that was not looked at */
    const sl_tpl_node *node;
    sl_tpl_scope *outer;
    size_t index0;
    sl_tpl_value last_changed; /* what loop.changed() saw: a tuple, or MISSING */
};

/* Arguments of one call, evaluated. */
typedef struct sl_tpl_args {
    sl_tpl_value *pos;
    size_t pos_count;
    const sl_tpl_str **key; /* keyword arguments */
    sl_tpl_value *keyed;
    size_t key_count;
} sl_tpl_args;

typedef struct sl_tpl_call {
    sl_tpl_value self;                 /* what is filtered, tested, or has the method */
    sl_tpl_value arg[SL_TPL_ARGS_MAX]; /* bound to the parameters; MISSING where absent */
    const sl_tpl_args *raw;
    const sl_tpl_builtin *builtin;
} sl_tpl_call;

/* A filter, test, method or global function. */
struct sl_tpl_builtin {
    const char *name;
    sl_status (*run)(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out); /* NULL: none */
    const char *params; /* "old,new,count"; "*": takes what comes, from call->raw */
    uint8_t required;   /* of the parameters */
    uint32_t detail;    /* what `run` makes of it: a set of kinds, an operator ... */
};

/* Write the error with the line; returns its status, SL_EINVAL. */
SL_MUST_CHECK sl_status sl_tpl_fail(sl_tpl_render *r, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Arena memory, or NULL with r->status set. */
void *sl_tpl_alloc(sl_tpl_render *r, size_t count, size_t size);
/* Count work; `bytes` of text count as a part of a step. */
SL_MUST_CHECK sl_status sl_tpl_step(sl_tpl_render *r, size_t steps);
SL_MUST_CHECK sl_status sl_tpl_step_bytes(sl_tpl_render *r, size_t bytes);
SL_MUST_CHECK sl_status sl_tpl_enter(sl_tpl_render *r); /* one evaluation deeper, if allowed */
void sl_tpl_leave(sl_tpl_render *r);

/* template_exec.c */
SL_MUST_CHECK sl_status sl_tpl_capture_body(sl_tpl_render *r, const sl_tpl_node *body,
                                            sl_tpl_value *out);
SL_MUST_CHECK sl_status sl_tpl_scope_push(sl_tpl_render *r, sl_tpl_scope *parent);
SL_MUST_CHECK sl_status sl_tpl_scope_set(sl_tpl_render *r, const sl_tpl_str *name,
                                         sl_tpl_value value);
SL_MUST_CHECK sl_status sl_tpl_assign_to(sl_tpl_render *r, const sl_tpl_node *target,
                                         sl_tpl_value value);
SL_MUST_CHECK sl_status sl_tpl_lookup(sl_tpl_render *r, const sl_tpl_str *name, sl_tpl_value *out);

/* template_eval.c */
SL_MUST_CHECK sl_status sl_tpl_eval(sl_tpl_render *r, const sl_tpl_node *n, sl_tpl_value *out);
/* A POSTFIX that ends in a call, which gets `caller` as a keyword argument. */
SL_MUST_CHECK sl_status sl_tpl_eval_call(sl_tpl_render *r, const sl_tpl_node *n,
                                         const sl_tpl_value *caller, sl_tpl_value *out);
/* Filters one after another, on *value. */
SL_MUST_CHECK sl_status sl_tpl_eval_filters(sl_tpl_render *r, const sl_tpl_part *part,
                                            sl_tpl_value *value);

/* template_call.c */
SL_MUST_CHECK sl_status sl_tpl_call_value(sl_tpl_render *r, sl_tpl_value callee,
                                          const sl_tpl_args *args, sl_tpl_value *out);
/* Bind the arguments to the builtin's parameters, and run it. */
SL_MUST_CHECK sl_status sl_tpl_call_builtin(sl_tpl_render *r, const sl_tpl_builtin *b,
                                            sl_tpl_value self, const sl_tpl_args *args,
                                            sl_tpl_value *out);
const sl_tpl_builtin *sl_tpl_find_builtin(const sl_tpl_builtin *table, const char *name,
                                          size_t len);
const sl_tpl_builtin *sl_tpl_find_global(const char *name, size_t len);
SL_MUST_CHECK sl_status sl_tpl_loop_fetch(sl_tpl_render *r, sl_tpl_loop *loop, size_t count);
SL_MUST_CHECK sl_status sl_tpl_loop_attr(sl_tpl_render *r, sl_tpl_loop *loop,
                                         const sl_tpl_str *name, sl_tpl_value *out, bool *found);

/* template_value.c */
sl_tpl_value sl_tpl_none(void);
sl_tpl_value sl_tpl_bool(bool b);
sl_tpl_value sl_tpl_int(int64_t i);
sl_tpl_value sl_tpl_float(double f);
sl_tpl_value sl_tpl_of_str(const sl_tpl_str *s);
sl_tpl_value sl_tpl_of_seq(sl_tpl_seq *seq);
sl_tpl_value sl_tpl_undefined(const char *hint); /* a literal */
const char *sl_tpl_type_name(sl_tpl_value v);
bool sl_tpl_truth(sl_tpl_value v);
bool sl_tpl_is_number(sl_tpl_value v); /* bool, int or float */
/* "the sentence" of an undefined value as the error. */
SL_MUST_CHECK sl_status sl_tpl_fail_undefined(sl_tpl_render *r, sl_tpl_value v);

bool sl_tpl_str_is(const sl_tpl_str *s, const char *text);
bool sl_tpl_str_equal(const sl_tpl_str *a, const sl_tpl_str *b);
bool sl_tpl_str_has_user(const sl_tpl_str *s);
/* The end of the run of equal marks that holds byte `pos` < len. */
size_t sl_tpl_str_run(const sl_tpl_str *s, size_t pos, bool *user);
/* A string of `bytes` (copied). */
SL_MUST_CHECK sl_status sl_tpl_str_new(sl_tpl_render *r, const char *data, size_t len, bool user,
                                       sl_tpl_value *out);
/* Bytes [from, to) of s, on character boundaries; nothing is copied. */
SL_MUST_CHECK sl_status sl_tpl_str_sub(sl_tpl_render *r, const sl_tpl_str *s, size_t from,
                                       size_t to, sl_tpl_value *out);
/* The byte at which character `index` begins; index <= chars. */
size_t sl_tpl_str_at(const sl_tpl_str *s, size_t index);
size_t sl_tpl_str_chars(const char *data, size_t len);
void sl_tpl_str_init(sl_tpl_str *s, const char *data, size_t len, bool user);

SL_MUST_CHECK sl_status sl_tpl_text_add(sl_tpl_render *r, sl_tpl_text *t, const char *data,
                                        size_t len, bool user);
SL_MUST_CHECK sl_status sl_tpl_text_add_str(sl_tpl_render *r, sl_tpl_text *t, const sl_tpl_str *s);
/* Bytes [from, to) of s, with their marks. */
SL_MUST_CHECK sl_status sl_tpl_text_add_sub(sl_tpl_render *r, sl_tpl_text *t, const sl_tpl_str *s,
                                            size_t from, size_t to);
/* The string of all bytes; the builder may not be used any more unless `tail`. */
SL_MUST_CHECK sl_status sl_tpl_text_done(sl_tpl_render *r, sl_tpl_text *t, bool tail,
                                         sl_tpl_value *out);
/* a + b; grows a in place where it can, so that building up a text is linear. */
SL_MUST_CHECK sl_status sl_tpl_str_concat(sl_tpl_render *r, const sl_tpl_str *a,
                                          const sl_tpl_str *b, sl_tpl_value *out);

SL_MUST_CHECK sl_status sl_tpl_seq_new(sl_tpl_render *r, sl_tpl_form form, size_t capacity,
                                       sl_tpl_seq **out);
SL_MUST_CHECK sl_status sl_tpl_seq_push(sl_tpl_render *r, sl_tpl_seq *seq, sl_tpl_value v);
SL_MUST_CHECK sl_status sl_tpl_pair(sl_tpl_render *r, sl_tpl_value a, sl_tpl_value b,
                                    sl_tpl_value *out);
SL_MUST_CHECK sl_status sl_tpl_dict_new(sl_tpl_render *r, sl_tpl_dict **out);
/* *found is NULL where there is none. */
SL_MUST_CHECK sl_status sl_tpl_dict_find(sl_tpl_render *r, const sl_tpl_dict *dict,
                                         sl_tpl_value key, sl_tpl_entry **found);
SL_MUST_CHECK sl_status sl_tpl_dict_set(sl_tpl_render *r, sl_tpl_dict *dict, sl_tpl_value key,
                                        sl_tpl_value value);
/* Append without looking whether the key is there. */
SL_MUST_CHECK sl_status sl_tpl_dict_push(sl_tpl_render *r, sl_tpl_dict *dict, sl_tpl_value key,
                                         sl_tpl_value value);
/* The items of anything that can be iterated, as an array that the value may own. */
SL_MUST_CHECK sl_status sl_tpl_iterate(sl_tpl_render *r, sl_tpl_value v, const sl_tpl_value **item,
                                       size_t *count);
bool sl_tpl_is_iterable(sl_tpl_value v);
SL_MUST_CHECK sl_status sl_tpl_length(sl_tpl_render *r, sl_tpl_value v, size_t *out);
/* An integer argument (bool counts), or the error that names `what`. */
SL_MUST_CHECK sl_status sl_tpl_want_int(sl_tpl_render *r, sl_tpl_value v, const char *what,
                                        int64_t *out);
SL_MUST_CHECK sl_status sl_tpl_want_str(sl_tpl_render *r, sl_tpl_value v, const char *what,
                                        const sl_tpl_str **out);

/* template_compare.c */
SL_MUST_CHECK sl_status sl_tpl_equal(sl_tpl_render *r, sl_tpl_value a, sl_tpl_value b, bool *out);
SL_MUST_CHECK sl_status sl_tpl_compare(sl_tpl_render *r, sl_tpl_op op, sl_tpl_value a,
                                       sl_tpl_value b, bool *out);
bool sl_tpl_hashable(sl_tpl_value v);
bool sl_tpl_same(sl_tpl_value a, sl_tpl_value b); /* Python's `is` */
/* Stable, by `key` (parallel to item); reverse keeps the order of equals. */
SL_MUST_CHECK sl_status sl_tpl_sort(sl_tpl_render *r, sl_tpl_value *item, sl_tpl_value *key,
                                    size_t count, bool reverse);

/* template_ops.c */
SL_MUST_CHECK sl_status sl_tpl_arith(sl_tpl_render *r, sl_tpl_op op, sl_tpl_value a, sl_tpl_value b,
                                     sl_tpl_value *out);
SL_MUST_CHECK sl_status sl_tpl_negate(sl_tpl_render *r, sl_tpl_value v, bool minus,
                                      sl_tpl_value *out);
SL_MUST_CHECK sl_status sl_tpl_get_attr(sl_tpl_render *r, sl_tpl_value v, const sl_tpl_str *name,
                                        sl_tpl_value *out);
SL_MUST_CHECK sl_status sl_tpl_get_item(sl_tpl_render *r, sl_tpl_value v, sl_tpl_value key,
                                        sl_tpl_value *out);
/* bound[i]: start, stop, step; NONE or MISSING where left out. */
SL_MUST_CHECK sl_status sl_tpl_slice(sl_tpl_render *r, sl_tpl_value v, const sl_tpl_value bound[3],
                                     sl_tpl_value *out);
/* "a.b.0": follow the dots by items, as the filters' attribute= does.  What is undefined becomes
 * *otherwise (may be NULL). */
SL_MUST_CHECK sl_status sl_tpl_get_path(sl_tpl_render *r, sl_tpl_value v, sl_tpl_value path,
                                        const sl_tpl_value *otherwise, sl_tpl_value *out);

/* template_print.c */
SL_MUST_CHECK sl_status sl_tpl_to_str(sl_tpl_render *r, sl_tpl_value v, const sl_tpl_str **out);
SL_MUST_CHECK sl_status sl_tpl_repr(sl_tpl_render *r, sl_tpl_text *t, sl_tpl_value v,
                                    unsigned depth);
sl_status sl_tpl_filter_tojson(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out);

/* template_json.c */
SL_MUST_CHECK sl_status sl_tpl_json_parse(sl_tpl_render *r, const char *text, size_t len, bool user,
                                          const char *what, sl_tpl_value *out);
/* "role" and "type" of messages, of their content parts and tool calls: not marked. */
SL_MUST_CHECK sl_status sl_tpl_json_unmark_protocol(sl_tpl_render *r, sl_tpl_dict *globals);

/* The tables.  Each ends in a row without a name. */
extern const sl_tpl_builtin sl_tpl_filters[];      /* template_filters.c */
extern const sl_tpl_builtin sl_tpl_text_filters[]; /* template_text.c */
extern const sl_tpl_builtin sl_tpl_tests[];        /* template_is.c */
const sl_tpl_builtin *sl_tpl_find_filter(const char *name, size_t len);
/* The method `name` of the value's type, or NULL. */
const sl_tpl_builtin *sl_tpl_find_method(sl_tpl_value v, const sl_tpl_str *name);

/* Shared by filters, methods and operators of text (template_methods.c, template_format.c). */
SL_MUST_CHECK sl_status sl_tpl_strip(sl_tpl_render *r, const sl_tpl_str *s, sl_tpl_value chars,
                                     bool left, bool right, sl_tpl_value *out);
SL_MUST_CHECK sl_status sl_tpl_replace(sl_tpl_render *r, const sl_tpl_str *s,
                                       const sl_tpl_str *with[2], int64_t count, sl_tpl_value *out);
/* arg[0]: the separator, arg[1]: how often at most; detail: from the right. */
SL_MUST_CHECK sl_status sl_tpl_split(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out);
SL_MUST_CHECK sl_status sl_tpl_splitlines(sl_tpl_render *r, const sl_tpl_str *s, sl_tpl_seq **out);
SL_MUST_CHECK sl_status sl_tpl_percent(sl_tpl_render *r, const sl_tpl_str *s, sl_tpl_value args,
                                       sl_tpl_value *out);
sl_status sl_tpl_str_format(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out);
typedef enum sl_tpl_case {
    SL_TPL_CASE_UPPER,
    SL_TPL_CASE_LOWER,
    SL_TPL_CASE_CAPITALIZE,
    SL_TPL_CASE_TITLE,       /* Python's: after every character that is no letter */
    SL_TPL_CASE_TITLE_FILTER /* jinja2's: after white space, - ( { [ < */
} sl_tpl_case;
SL_MUST_CHECK sl_status sl_tpl_recase(sl_tpl_render *r, const sl_tpl_str *s, sl_tpl_case how,
                                      sl_tpl_value *out);
/* s as a number in `base` (Python's int() and float() of text); false where it is none. */
typedef enum sl_tpl_parsed { SL_TPL_PARSED, SL_TPL_NOT_A_NUMBER, SL_TPL_TOO_LARGE } sl_tpl_parsed;
sl_tpl_parsed sl_tpl_parse_int(const char *text, size_t len, unsigned base, int64_t *out);
sl_tpl_parsed sl_tpl_parse_float(const char *text, size_t len, double *out);

/* template_unicode.c */
bool sl_tpl_is_space(uint32_t code);
bool sl_tpl_is_printable(uint32_t code);
uint32_t sl_tpl_upper(uint32_t code);
uint32_t sl_tpl_lower(uint32_t code);
/* Leading and trailing white space of data[0..len): the bytes of it. */
size_t sl_tpl_space_front(const char *data, size_t len);
size_t sl_tpl_space_back(const char *data, size_t len);

#endif
