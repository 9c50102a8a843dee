/* protocol/openai_internal.h - what the files of the OpenAI reader share: JSON within a budget, the
 * table of fields, and the readers of single values. */
#ifndef SL_PROTOCOL_OPENAI_INTERNAL_H
#define SL_PROTOCOL_OPENAI_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/openai.h"

typedef struct json_t json_t; /* jansson's; its header is for .c files only */

/* --- openai_json.c ------------------------------------------------------------------------- */

/* Memory that jansson may hold on this thread between begin and end. */
typedef struct sl_json_budget {
    size_t used_bytes;
    size_t limit_bytes;
    bool exceeded; /* an allocation was refused: over the limit */
    bool failed;   /* an allocation was refused: out of memory */
} sl_json_budget;

/* One budget at a time per thread; everything parsed inside is to be freed before the end. */
void sl_json_budget_begin(sl_json_budget *budget, size_t limit_bytes);
void sl_json_budget_end(void);

/* Parse an object inside a budget.  Errors: as sl_api_read.  *out is to be json_decref'ed. */
SL_MUST_CHECK sl_status sl_json_load(const sl_json_budget *budget, const char *text, size_t len,
                                     json_t **out, sl_err *err);

/* Append `n` bytes of JSON that jansson has accepted, without the white space between tokens.
 * Numbers and escapes stay as they are written. */
void sl_json_add_compact(sl_buf *out, const char *text, size_t n);

/* Append a value as compact JSON, members in their order. */
void sl_json_add_value(sl_buf *out, const json_t *value);
/* Append the shortest number that reads back as the same value, with a point or an exponent in the
 * case of a double.  Not finite: -9999.0, as no JSON number says it. */
void sl_json_add_double(sl_buf *out, double x);
void sl_json_add_float(sl_buf *out, float x);

/* --- openai_fields.c ----------------------------------------------------------------------- */

enum { /* where a field may stand */
       SL_FIELD_CHAT = 1,
       SL_FIELD_COMPLETION = 2,
       SL_FIELD_TOKENIZE = 4,
       SL_FIELD_DETOKENIZE = 8
};

typedef enum sl_field_policy {
    SL_FIELD_HONOURED,
    SL_FIELD_IGNORED, /* accepted, named in the reply, an error in strict mode */
    SL_FIELD_REFUSED  /* 400, but for values that ask for nothing */
} sl_field_policy;

typedef enum sl_field_type {
    SL_FIELD_ANY, /* checked by `read`, if there is one */
    SL_FIELD_BOOL,
    SL_FIELD_INT,    /* int64_t */
    SL_FIELD_UINT32, /* uint32_t */
    SL_FIELD_REAL,   /* double */
    SL_FIELD_STRING, /* const char *, no NUL inside; max: bytes */
    SL_FIELD_ARRAY,
    SL_FIELD_OBJECT
} sl_field_type;

enum {                        /* values of refused fields that ask for nothing, and are accepted */
       SL_HARMLESS_EMPTY = 1, /* "", [], {} */
       SL_HARMLESS_FALSE = 2,
       SL_HARMLESS_TRUE = 4,
       SL_HARMLESS_ZERO = 8,
       SL_HARMLESS_ONE = 16,
       SL_HARMLESS_NONE = 32, /* "none" */
       SL_HARMLESS_AUTO = 64  /* "auto" */
};

typedef struct sl_field sl_field;

/* What is being read, and where to. */
typedef struct sl_field_reader {
    uint32_t kind; /* one of SL_FIELD_CHAT ... */
    bool strict;
    const sl_json_budget *budget;
    const json_t *root;
    sl_arena *arena;
    sl_err *err;
    void *base; /* the struct that offsets count from */
    const char **ignored;
    size_t *ignored_count;
} sl_field_reader;

struct sl_field {
    const char *name;
    uint8_t kinds;
    uint8_t policy;   /* sl_field_policy */
    uint8_t type;     /* sl_field_type */
    uint8_t harmless; /* refused fields */
    bool above;       /* SL_FIELD_REAL: min itself is not allowed */
    bool has_store;   /* `offset` is where the value goes */
    size_t offset;
    int64_t int_min, int_max, int_default; /* bool, integers; int_max: bytes of a string */
    double real_min, real_max, real_default;
    /* Reads the value instead (SL_FIELD_ANY), or checks it after it was stored. */
    sl_status (*read)(sl_field_reader *r, const sl_field *field, const json_t *value);
};

/* Read root's members by the table; store defaults of absent and null ones. */
SL_MUST_CHECK sl_status sl_fields_read(sl_field_reader *r, const sl_field *table, size_t count);

/* Add a name to the list of ignored fields; SL_EINVAL in strict mode. */
sl_status sl_fields_ignore(sl_field_reader *r, const char *name);

/* "messages[2].content" in the arena; `fallback` (static) if there is no room. */
const char *sl_fields_path(sl_field_reader *r, const char *fallback, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Copy into the arena; SL_ETOOBIG over its limit, SL_ENOMEM. */
SL_MUST_CHECK sl_status sl_fields_copy(sl_field_reader *r, const char *text, size_t n,
                                       const char **out);
SL_MUST_CHECK sl_status sl_fields_alloc(sl_field_reader *r, size_t count, size_t size, void **out);

/* Token ids: integers from 0 to 2^32 - 1, at least one, into the arena.  `param` is for errors. */
SL_MUST_CHECK sl_status sl_fields_read_ids(sl_field_reader *r, const char *param,
                                           const json_t *array, const uint32_t **out,
                                           size_t *count);

/* Missing, or null: the same for every field. */
bool sl_json_absent(const json_t *value);

/* Everything of one request while it is read. */
typedef struct sl_api_reading {
    sl_api_request request;
    int64_t max_completion_tokens; /* -1: not given */
} sl_api_reading;

/* --- readers of single fields -------------------------------------------------------------- */

/* openai_messages.c: normalise messages into the arena. */
SL_MUST_CHECK sl_status sl_api_read_messages(sl_field_reader *r, const json_t *messages,
                                             const char **out, size_t *out_len);

/* openai_values.c */
sl_status sl_api_read_prompt(sl_field_reader *r, const sl_field *field, const json_t *value);
sl_status sl_api_read_stop(sl_field_reader *r, const sl_field *field, const json_t *value);
sl_status sl_api_read_stop_ids(sl_field_reader *r, const sl_field *field, const json_t *value);
sl_status sl_api_read_bias(sl_field_reader *r, const sl_field *field, const json_t *value);
sl_status sl_api_read_stream_options(sl_field_reader *r, const sl_field *field,
                                     const json_t *value);
sl_status sl_api_read_kwargs(sl_field_reader *r, const sl_field *field, const json_t *value);
sl_status sl_api_read_response_format(sl_field_reader *r, const sl_field *field,
                                      const json_t *value);
sl_status sl_api_read_tools(sl_field_reader *r, const sl_field *field, const json_t *value);
sl_status sl_api_read_tool_choice(sl_field_reader *r, const sl_field *field, const json_t *value);
sl_status sl_api_read_modalities(sl_field_reader *r, const sl_field *field, const json_t *value);

/* openai_table.c: the table of chat and completions requests. */
extern const sl_field sl_api_table[];
extern const size_t sl_api_table_count;

#endif
