/* protocol/openai_json.c - JSON text to trees within a memory budget, and back.
 *
 * jansson takes its memory through hooks that are set once, before main: they serve every user of
 * jansson in the process, and charge the budget of the calling thread, if it has one.  What a block
 * costs is asked from the C library, so that blocks need no header and may be freed by anyone. */
#include <jansson.h>
#include <malloc.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "protocol/openai_internal.h"

static _Thread_local sl_json_budget *thread_budget;

/* With the word that the allocator keeps in front of it. */
static size_t cost_bytes(void *p)
{
    return malloc_usable_size(p) + sizeof(size_t);
}

static void *budget_malloc(size_t bytes)
{
    sl_json_budget *b = thread_budget;
    void *p;

    if (b != NULL && bytes > b->limit_bytes - b->used_bytes) {
        b->exceeded = true;
        return NULL;
    }
    p = sl_alloc(bytes, 1);
    if (b == NULL)
        return p;
    if (p == NULL) {
        b->failed = true;
        return NULL;
    }
    b->used_bytes += cost_bytes(p);
    if (b->used_bytes > b->limit_bytes) { /* by rounding up only */
        b->used_bytes -= cost_bytes(p);
        b->exceeded = true;
        sl_free(p);
        return NULL;
    }
    return p;
}

static void budget_free(void *p)
{
    sl_json_budget *b = thread_budget;

    if (b != NULL && p != NULL) {
        const size_t bytes = cost_bytes(p);

        b->used_bytes -= bytes < b->used_bytes ? bytes : b->used_bytes;
    }
    sl_free(p);
}

/* Before main, hence before any thread can use jansson. */
__attribute__((constructor)) static void set_hooks(void)
{
    json_set_alloc_funcs(budget_malloc, budget_free);
}

void sl_json_budget_begin(sl_json_budget *budget, size_t limit_bytes)
{
    SL_ASSERT(thread_budget == NULL);
    *budget = (sl_json_budget){.limit_bytes = limit_bytes};
    thread_budget = budget;
}

void sl_json_budget_end(void)
{
    SL_ASSERT(thread_budget != NULL);
    thread_budget = NULL;
}

/* Is the nesting at most SL_JSON_DEPTH_MAX?  Text that is not JSON may get either answer. */
static bool depth_fits(const char *text, size_t len)
{
    bool in_string = false;
    size_t depth = 0;

    for (size_t i = 0; i < len; i++) {
        const char c = text[i];

        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > SL_JSON_DEPTH_MAX)
                return false;
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return true;
}

static const char *sentence_of(enum json_error_code code)
{
    switch (code) {
    case json_error_duplicate_key:
        return "an object holds the same key twice";
    case json_error_numeric_overflow:
        return "a number is out of range";
    case json_error_invalid_utf8:
        return "it is not valid UTF-8";
    case json_error_null_character:
    case json_error_null_byte_in_key:
        return "a string holds a NUL character";
    case json_error_end_of_input_expected:
        return "something follows the object";
    case json_error_premature_end_of_input:
        return "it ends too early";
    default:
        return "it is not valid JSON";
    }
}

sl_status sl_json_load(const sl_json_budget *budget, const char *text, size_t len, json_t **out,
                       sl_err *err)
{
    static const char code[] = "invalid_json";
    json_error_t error = {0};
    json_t *root;

    if (len == 0)
        return sl_fail_param(err, SL_EFORMAT, NULL, code, "the body is empty");
    if (len > SL_JSON_MEMORY_MAX)
        return sl_fail_param(err, SL_EFORMAT, NULL, code, "the JSON is too large");
    if (!depth_fits(text, len))
        return sl_fail_param(err, SL_EFORMAT, NULL, code, "the JSON is nested deeper than %d",
                             SL_JSON_DEPTH_MAX);
    /* jansson drops a NUL that follows a number: another reader would see another text. */
    if (memchr(text, '\0', len) != NULL)
        return sl_fail_param(err, SL_EFORMAT, NULL, code, "the JSON holds a NUL character");
    root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
    if (root == NULL && budget->exceeded)
        return sl_fail_param(err, SL_EFORMAT, NULL, code,
                             "the JSON takes more than %zu MiB of memory to read",
                             budget->limit_bytes >> 20);
    if (root == NULL && budget->failed)
        return sl_fail(err, SL_ENOMEM, "out of memory while reading JSON");
    if (root == NULL)
        return sl_fail_param(err, SL_EFORMAT, NULL, code,
                             "the body cannot be read: %s (line %d, column %d)",
                             sentence_of(json_error_code(&error)), error.line, error.column);
    if (!json_is_object(root)) {
        json_decref(root);
        return sl_fail_param(err, SL_EFORMAT, NULL, code, "the body must be a JSON object");
    }
    *out = root;
    return SL_OK;
}

bool sl_json_absent(const json_t *value)
{
    return value == NULL || json_is_null(value);
}

void sl_json_add_compact(sl_buf *out, const char *text, size_t n)
{
    bool in_string = false;
    size_t begin = 0;

    for (size_t i = 0; i < n; i++) {
        const char c = text[i];

        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
            sl_buf_add(out, text + begin, i - begin);
            begin = i + 1;
        }
    }
    sl_buf_add(out, text + begin, n - begin);
}

/* snprintf and strtod use the locale's decimal point; JSON has one. */
static void use_point(char *text)
{
    char *from = text, *to = text;
    bool pointed = false;

    for (; *from != '\0'; from++) {
        if (strchr("0123456789+-e", *from) != NULL) {
            *to++ = *from;
        } else if (!pointed) {
            *to++ = '.';
            pointed = true;
        }
    }
    *to = '\0';
}

void sl_json_add_double(sl_buf *out, double x)
{
    char text[40];

    if (!isfinite(x)) {
        sl_buf_add_str(out, "-9999.0");
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof(text), "%.*g", digits, x);
        if (strtod(text, NULL) == x)
            break;
    }
    use_point(text);
    sl_buf_add_str(out, text);
    if (strpbrk(text, ".e") == NULL)
        sl_buf_add_str(out, ".0");
}

/* Between these sizes a float is written with a fixed number of decimals, found by trying: 24 bits
 * times a power of ten up to 10^12 is exact enough in a double.  This is twenty times as fast as
 * printing and reading back, and answers with logprobs hold up to 21 numbers a token. */
static bool add_decimals(sl_buf *out, float x)
{
    const double a = fabs((double)x);
    double scale = 1.0;
    char text[32];

    if (a < 1e-4 || a >= 1e5)
        return false;
    for (int decimals = 0; decimals <= 12; decimals++, scale *= 10.0) {
        const double scaled = nearbyint(a * scale);
        uint64_t digits;
        size_t at = sizeof(text);

        if ((float)(scaled / scale) != (float)a)
            continue;
        digits = (uint64_t)scaled;
        if (decimals == 0) { /* "-2" is written "-2.0" */
            digits *= 10;
            decimals = 1;
        }
        for (int i = 0; i < decimals || digits > 0; i++) {
            if (i == decimals)
                text[--at] = '.';
            text[--at] = (char)('0' + digits % 10);
            digits /= 10;
        }
        if (x < 0)
            sl_buf_add_char(out, '-');
        /* Below one the loop ends before the point. */
        if (sizeof(text) - at == (size_t)decimals)
            sl_buf_add_str(out, "0.");
        sl_buf_add(out, text + at, sizeof(text) - at);
        return true;
    }
    return false;
}

void sl_json_add_float(sl_buf *out, float x)
{
    char text[40];

    if (!isfinite(x)) {
        sl_buf_add_str(out, "-9999.0");
        return;
    }
    if (x == 0.0f) { /* no "-0.0": some readers trip over it */
        sl_buf_add_str(out, "0.0");
        return;
    }
    if (add_decimals(out, x))
        return;
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, sizeof(text), "%.*g", digits, (double)x);
        if (strtof(text, NULL) == x)
            break;
    }
    use_point(text);
    sl_buf_add_str(out, text);
    if (strpbrk(text, ".e") == NULL)
        sl_buf_add_str(out, ".0");
}

void sl_json_add_value(sl_buf *out, const json_t *value)
{
    const char *separator = "";
    const char *key;
    const json_t *item;
    size_t i, n;

    switch (json_typeof(value)) {
    case JSON_OBJECT:
        sl_buf_add_char(out, '{');
        json_object_keylen_foreach((json_t *)value, key, n, item)
        {
            sl_buf_add_str(out, separator);
            sl_buf_add_json(out, key, n);
            sl_buf_add_char(out, ':');
            sl_json_add_value(out, item); /* as deep as the parser allowed */
            separator = ",";
        }
        sl_buf_add_char(out, '}');
        break;
    case JSON_ARRAY:
        sl_buf_add_char(out, '[');
        json_array_foreach(value, i, item)
        {
            sl_buf_add_str(out, separator);
            sl_json_add_value(out, item);
            separator = ",";
        }
        sl_buf_add_char(out, ']');
        break;
    case JSON_STRING:
        sl_buf_add_json(out, json_string_value(value), json_string_length(value));
        break;
    case JSON_INTEGER:
        sl_buf_addf(out, "%lld", (long long)json_integer_value(value));
        break;
    case JSON_REAL:
        sl_json_add_double(out, json_real_value(value));
        break;
    case JSON_TRUE:
        sl_buf_add_str(out, "true");
        break;
    case JSON_FALSE:
        sl_buf_add_str(out, "false");
        break;
    default:
        sl_buf_add_str(out, "null");
    }
}
