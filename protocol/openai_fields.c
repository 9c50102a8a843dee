/* protocol/openai_fields.c - reads an object by a table of fields; see openai_internal.h.
 *
 * What a field is allowed to be stands in its row.  Null is the same as absent, for every field:
 * typed clients send all their members. */
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "protocol/openai_internal.h"

enum { NAME_SHOWN_MAX = 64, PATH_MAX_BYTES = 160 };

sl_status sl_fields_alloc(sl_field_reader *r, size_t count, size_t size, void **out)
{
    void *p = sl_arena_alloc(r->arena, count, size);

    if (p == NULL && r->arena->limit_bytes - r->arena->used_bytes < count * size + 16)
        return sl_fail(r->err, SL_ETOOBIG, "the request takes too much memory to read");
    if (p == NULL)
        return sl_fail(r->err, SL_ENOMEM, "out of memory while reading a request");
    *out = p;
    return SL_OK;
}

sl_status sl_fields_copy(sl_field_reader *r, const char *text, size_t n, const char **out)
{
    void *p = NULL;
    const sl_status status = sl_fields_alloc(r, n + 1, 1, &p);

    if (status != SL_OK)
        return status;
    if (n > 0)
        memcpy(p, text, n);
    *out = p;
    return SL_OK;
}

const char *sl_fields_path(sl_field_reader *r, const char *fallback, const char *format, ...)
{
    char text[PATH_MAX_BYTES];
    const char *copy;
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof(text))
        return fallback;
    copy = sl_arena_strndup(r->arena, text, (size_t)n);
    return copy != NULL ? copy : fallback;
}

/* A client's key as something that fits into a reply header and an error's param. */
static const char *shown_name(sl_field_reader *r, const char *name)
{
    char text[NAME_SHOWN_MAX + 1];
    size_t n = 0;

    for (; name[n] != '\0' && n < NAME_SHOWN_MAX; n++) {
        const char c = name[n];
        const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
                           (c >= 'A' && c <= 'Z') || c == '_' || c == '.' || c == '-';

        text[n] = plain ? c : '_';
    }
    text[n] = '\0';
    return sl_fields_path(r, "unknown", "%s", n > 0 ? text : "_");
}

sl_status sl_fields_ignore(sl_field_reader *r, const char *name)
{
    if (r->strict)
        return sl_fail_param(r->err, SL_EINVAL, name, "unsupported_parameter",
                             "'%s' has no effect here, and strict parameters are on", name);
    if (r->ignored != NULL && *r->ignored_count < SL_API_IGNORED_MAX)
        r->ignored[(*r->ignored_count)++] = name;
    return SL_OK;
}

/* --- one value ----------------------------------------------------------------------------- */

static const char *type_text(const sl_field *f)
{
    switch (f->type) {
    case SL_FIELD_BOOL:
        return "true or false";
    case SL_FIELD_INT:
    case SL_FIELD_UINT32:
        return "an integer";
    case SL_FIELD_REAL:
        return "a number";
    case SL_FIELD_STRING:
        return "a string";
    case SL_FIELD_ARRAY:
        return "an array";
    case SL_FIELD_OBJECT:
        return "an object";
    default:
        return "another value";
    }
}

static bool type_fits(const sl_field *f, const json_t *value)
{
    switch (f->type) {
    case SL_FIELD_BOOL:
        return json_is_boolean(value);
    case SL_FIELD_INT:
    case SL_FIELD_UINT32:
        return json_is_integer(value);
    case SL_FIELD_REAL:
        return json_is_number(value);
    case SL_FIELD_STRING:
        return json_is_string(value);
    case SL_FIELD_ARRAY:
        return json_is_array(value);
    case SL_FIELD_OBJECT:
        return json_is_object(value);
    default:
        return true;
    }
}

static sl_status check_int(sl_field_reader *r, const sl_field *f, int64_t x)
{
    if (x >= f->int_min && x <= f->int_max)
        return SL_OK;
    return sl_fail_param(r->err, SL_EINVAL, f->name,
                         x < f->int_min ? "integer_below_min_value" : "integer_above_max_value",
                         "'%s' must be an integer from %lld to %lld, not %lld", f->name,
                         (long long)f->int_min, (long long)f->int_max, (long long)x);
}

static sl_status check_real(sl_field_reader *r, const sl_field *f, double x)
{
    const bool below = f->above ? !(x > f->real_min) : !(x >= f->real_min);

    if (!below && x <= f->real_max)
        return SL_OK;
    return sl_fail_param(r->err, SL_EINVAL, f->name,
                         below ? "decimal_below_min_value" : "decimal_above_max_value",
                         "'%s' must be a number %s %g and at most %g, not %g", f->name,
                         f->above ? "above" : "of at least", f->real_min, f->real_max, x);
}

static sl_status store_string(sl_field_reader *r, const sl_field *f, const json_t *value)
{
    const size_t n = json_string_length(value);
    const char *copy = NULL;
    sl_status status;

    if (n > (size_t)f->int_max)
        return sl_fail_param(r->err, SL_EINVAL, f->name, "string_above_max_length",
                             "'%s' must have at most %lld bytes, not %zu", f->name,
                             (long long)f->int_max, n);
    status = sl_fields_copy(r, json_string_value(value), n, &copy);
    if (status == SL_OK)
        memcpy((char *)r->base + f->offset, &copy, sizeof(copy));
    return status;
}

/* Check type and range, and store. */
static sl_status read_plain(sl_field_reader *r, const sl_field *f, const json_t *value)
{
    char *at = (char *)r->base + f->offset;
    sl_status status = SL_OK;
    int64_t i;
    double x;

    if (!type_fits(f, value))
        return sl_fail_param(r->err, SL_EINVAL, f->name, "invalid_type", "'%s' must be %s", f->name,
                             type_text(f));
    if (!f->has_store)
        return SL_OK;
    switch (f->type) {
    case SL_FIELD_BOOL:
        *(bool *)at = json_is_true(value);
        break;
    case SL_FIELD_INT:
    case SL_FIELD_UINT32:
        i = json_integer_value(value);
        status = check_int(r, f, i);
        if (status == SL_OK && f->type == SL_FIELD_INT)
            *(int64_t *)(void *)at = i;
        else if (status == SL_OK)
            *(uint32_t *)(void *)at = (uint32_t)i;
        break;
    case SL_FIELD_REAL:
        x = json_number_value(value);
        status = check_real(r, f, x);
        if (status == SL_OK)
            *(double *)(void *)at = x;
        break;
    default:
        SL_ASSERT(f->type == SL_FIELD_STRING);
        status = store_string(r, f, value);
    }
    return status;
}

static void store_default(sl_field_reader *r, const sl_field *f)
{
    char *at = (char *)r->base + f->offset;

    if (!f->has_store)
        return;
    switch (f->type) {
    case SL_FIELD_BOOL:
        *(bool *)at = f->int_default != 0;
        break;
    case SL_FIELD_INT:
        *(int64_t *)(void *)at = f->int_default;
        break;
    case SL_FIELD_UINT32:
        *(uint32_t *)(void *)at = (uint32_t)f->int_default;
        break;
    case SL_FIELD_REAL:
        *(double *)(void *)at = f->real_default;
        break;
    default: /* a string: NULL, as it is */
        break;
    }
}

static bool is_harmless(const sl_field *f, const json_t *value)
{
    const char *text = json_string_value(value);

    if ((f->harmless & SL_HARMLESS_EMPTY) != 0 &&
        ((text != NULL && text[0] == '\0') ||
         (json_is_array(value) && json_array_size(value) == 0) ||
         (json_is_object(value) && json_object_size(value) == 0)))
        return true;
    if (text != NULL)
        return ((f->harmless & SL_HARMLESS_NONE) != 0 && strcmp(text, "none") == 0) ||
               ((f->harmless & SL_HARMLESS_AUTO) != 0 && strcmp(text, "auto") == 0);
    if (json_is_number(value)) {
        const double x = json_number_value(value);

        return ((f->harmless & SL_HARMLESS_ZERO) != 0 && x == 0.0) ||
               ((f->harmless & SL_HARMLESS_ONE) != 0 && x == 1.0);
    }
    return ((f->harmless & SL_HARMLESS_FALSE) != 0 && json_is_false(value)) ||
           ((f->harmless & SL_HARMLESS_TRUE) != 0 && json_is_true(value));
}

static sl_status read_field(sl_field_reader *r, const sl_field *f, const json_t *value)
{
    sl_status status;

    if (f->policy == SL_FIELD_REFUSED && f->read == NULL) {
        if (is_harmless(f, value))
            return SL_OK;
        return sl_fail_param(r->err, SL_EINVAL, f->name, "unsupported_parameter",
                             "'%s' is not supported", f->name);
    }
    status = read_plain(r, f, value);
    if (status == SL_OK && f->read != NULL)
        status = f->read(r, f, value);
    if (status == SL_OK && f->policy == SL_FIELD_IGNORED)
        status = sl_fields_ignore(r, f->name);
    return status;
}

/* --- the object ---------------------------------------------------------------------------- */

static const sl_field *find(const sl_field *table, size_t count, uint32_t kind, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if ((table[i].kinds & kind) != 0 && strcmp(table[i].name, name) == 0)
            return &table[i];
    return NULL;
}

/* Name the members that no row knows.  Stops at a full list: a body of a million unknown members
 * costs no more than a few. */
static sl_status note_unknown(sl_field_reader *r, const sl_field *table, size_t count)
{
    const char *key;
    const json_t *value;
    sl_status status;

    json_object_foreach((json_t *)r->root, key, value)
    {
        if (!r->strict && (r->ignored == NULL || *r->ignored_count == SL_API_IGNORED_MAX))
            break;
        if (find(table, count, r->kind, key) != NULL)
            continue;
        if (r->strict) {
            const char *shown = shown_name(r, key);

            return sl_fail_param(r->err, SL_EINVAL, shown, "unknown_parameter",
                                 "'%s' is not a known parameter", shown);
        }
        status = sl_fields_ignore(r, shown_name(r, key));
        if (status != SL_OK)
            return status;
    }
    return SL_OK;
}

sl_status sl_fields_read(sl_field_reader *r, const sl_field *table, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const json_t *value;
        sl_status status;

        if ((table[i].kinds & r->kind) == 0)
            continue;
        store_default(r, &table[i]);
        value = json_object_get(r->root, table[i].name);
        if (sl_json_absent(value))
            continue;
        status = read_field(r, &table[i], value);
        if (status != SL_OK)
            return status;
    }
    return note_unknown(r, table, count);
}

sl_status sl_fields_read_ids(sl_field_reader *r, const char *param, const json_t *array,
                             const uint32_t **out, size_t *count)
{
    const size_t n = json_array_size(array);
    void *memory = NULL;
    uint32_t *id;
    sl_status status;

    if (n == 0)
        return sl_fail_param(r->err, SL_EINVAL, param, "invalid_value", "'%s' must not be empty",
                             param);
    status = sl_fields_alloc(r, n, sizeof(*id), &memory);
    if (status != SL_OK)
        return status;
    id = memory;
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(array, i);

        if (!json_is_integer(item) || json_integer_value(item) < 0 ||
            json_integer_value(item) > (json_int_t)UINT32_MAX)
            return sl_fail_param(r->err, SL_EINVAL, sl_fields_path(r, param, "%s[%zu]", param, i),
                                 "invalid_value", "'%s[%zu]' must be a token id", param, i);
        id[i] = (uint32_t)json_integer_value(item);
    }
    *out = id;
    *count = n;
    return SL_OK;
}
