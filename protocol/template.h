/* protocol/template.h - chat templates: the subset of Jinja that models' templates use.
 *
 * Compile once, render often.  The language has no way out of itself: no imports, no attributes of
 * host objects; steps, depth and output are bounded.  Semantics are those of Python's jinja2 with
 * trim_blocks and lstrip_blocks set, the loop-controls extension, and Hugging Face's tojson
 * (json.dumps with ensure_ascii=False: separators ", " and ": ", key order kept).
 *
 * The language: if, for (with else and if; break, continue), set (blocks, tuples, namespace
 * attributes), macro, call, filter, with, generation, raw; all operators, filters, tests and
 * methods that templates of models are known to use.  What is not supported is an error that names
 * it: statements, filters and tests when compiling, methods when called.
 * tests/protocol/test_template.c lists the differences from jinja2.
 *
 * Marking.  Every character of the output is known to come from the template (or a trusted
 * variable such as bos_token) or from the user's data; runs of both are reported, so that the
 * tokenizer never finds a control token in user text.  Operations on marked strings (slices, trim,
 * replace, +, join, tojson ...) keep the marks of their parts.
 *
 * Thread: any; a compiled template is read-only. */
#ifndef SL_PROTOCOL_TEMPLATE_H
#define SL_PROTOCOL_TEMPLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

typedef struct sl_template sl_template;

enum {
    SL_TEMPLATE_BYTES_MAX = 256 << 10, /* source */
    SL_TEMPLATE_NESTING_MAX = 100,     /* blocks and expressions, at compile time */
    SL_TEMPLATE_STEPS_MAX = 1000000,   /* nodes evaluated by one rendering, and text worked on */
    SL_TEMPLATE_CALLS_MAX = 64,        /* macro calls (or maps) inside each other */
    SL_TEMPLATE_OUTPUT_MAX = 8 << 20,  /* bytes rendered */
    SL_TEMPLATE_MEMORY_MAX = 64 << 20  /* bytes of values of one rendering */
};

/* On success *out is the caller's.  Errors: SL_EFORMAT ("chat template line 12: ...": syntax, an
 * unknown filter, test or statement, too deep; or the source is too long or not UTF-8), SL_ENOMEM.
 * Compiling and rendering fit a stack of 256 KiB, whatever the template. */
SL_MUST_CHECK sl_status sl_template_compile(const char *source, size_t len, sl_template **out,
                                            sl_err *err);
void sl_template_destroy(sl_template *t);

/* A run of the output: bytes [previous end, end) come from the user's data or from the template. */
typedef struct sl_template_run {
    size_t end;
    bool user;
} sl_template_run;

typedef struct sl_template_output {
    sl_buf text;
    sl_template_run *run; /* owned */
    size_t run_count;
    size_t run_capacity;
} sl_template_output;

void sl_template_output_init(sl_template_output *out);
void sl_template_output_done(sl_template_output *out);

/* Variables of a rendering: two JSON objects (NULL or empty: none) whose members become globals;
 * where both have one, the trusted counts.  Strings of `user_json` (messages, tools, documents) are
 * marked as the user's, but for the protocol's own words: keys, and the values of "role" and "type"
 * members of messages, of their content parts and of their tool calls - as long as these are made
 * of letters, digits, "_" and "-" only, so that no control token hides in them.  Strings of
 * `trusted_json` (bos_token, add_generation_prompt, ...) are not marked.  Integers beyond int64
 * become floats; more than 64 levels, and keys given twice, are errors.
 * now_unix_s is what strftime_now sees, in UTC.
 * Errors: SL_EINVAL ("chat template line 12: ...": raise_exception, a type error, a limit),
 * SL_ENOMEM; *out holds what was rendered until then. */
typedef struct sl_template_args {
    const char *user_json;
    size_t user_json_len;
    const char *trusted_json;
    size_t trusted_json_len;
    int64_t now_unix_s;
} sl_template_args;
SL_MUST_CHECK sl_status sl_template_render(const sl_template *t, const sl_template_args *args,
                                           sl_template_output *out, sl_err *err);

#endif
