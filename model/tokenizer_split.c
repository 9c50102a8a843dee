/* model/tokenizer_split.c - text to words: the pre-tokenizers, in PCRE2.
 *
 * The patterns are the ones that the models' own tokenizers state, with two changes that alter no
 * word: white space is spelt out as Unicode's White_Space (PCRE2's \s has U+180E too), and what is
 * a sequence of two splits there is one pattern here.
 *
 * Every alternative walks a run of characters once, and a run is used up by at most two words: so
 * the work is linear in the text, and no alternative recurses.  The limits on matching are there
 * for what we overlooked. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "model/tokenizer_internal.h"

/* Unicode's White_Space, inside a class. */
#define WS                                                                                         \
    "\\t-\\r \\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}"       \
    "\\x{3000}"
#define SPACE "[" WS "]"
#define NOT_SPACE "[^" WS "]"
#define OTHER "[^" WS "\\p{L}\\p{N}]" /* no space, letter or number */

#define GPT2                                                                                       \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?" OTHER "+|" SPACE "+(?!" NOT_SPACE ")|" SPACE  \
    "+"
/* Numbers are cut off one by one first, so that a space never goes to a number, and what is before
 * one ends there: the look-ahead takes it for the end of the text. */
#define DIGITS_GPT2                                                                                \
    "\\p{N}|'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?" OTHER "+|" SPACE "+(?![^" WS "\\p{N}])|" SPACE "+"
#define LLAMA3(number)                                                                             \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" number "| ?" OTHER               \
    "+[\\r\\n]*|" SPACE "*[\\r\\n]+|" SPACE "+(?!" NOT_SPACE ")|" SPACE "+"

/* clang-format off */
static const sl_pre row[] = {
    /* name             pattern                 ignore_merges nfc    add_bos */
    {"gpt-2",            GPT2,                  false,        false, false},
    {"default",          GPT2,                  false,        false, false},
    {"phi-2",            GPT2,                  false,        false, false},
    {"smollm",           DIGITS_GPT2,           false,        false, false},
    {"starcoder",        DIGITS_GPT2,           false,        false, false},
    {"llama-bpe",        LLAMA3("\\p{N}{1,3}"), true,         false, true},
    {"llama3",           LLAMA3("\\p{N}{1,3}"), true,         false, true},
    {"llama-v3",         LLAMA3("\\p{N}{1,3}"), true,         false, true},
    {"smaug-bpe",        LLAMA3("\\p{N}{1,3}"), false,        false, false},
    {"qwen2",            LLAMA3("\\p{N}"),      false,        true,  false},
    {"deepseek-r1-qwen", LLAMA3("\\p{N}"),      false,        true,  false},
};
/* clang-format on */

static const char names[] = "gpt-2 (default, phi-2), smollm (starcoder), llama-bpe (llama3, "
                            "llama-v3), smaug-bpe, qwen2 (deepseek-r1-qwen)";

const sl_pre *sl_pre_find(sl_str name, const char **list)
{
    *list = names;
    for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++)
        if (strlen(row[i].name) == name.len && memcmp(row[i].name, name.data, name.len) == 0)
            return &row[i];
    return NULL;
}

struct sl_split {
    pcre2_code *code;
};

struct sl_split_call {
    pcre2_general_context *memory;
    pcre2_match_context *limits;
    pcre2_match_data *match;
    size_t limited_to; /* the limits allow for a text of so many bytes */
};

static void *take(PCRE2_SIZE bytes, void *user)
{
    (void)user;
    return sl_alloc(1, bytes);
}

static void give(void *p, void *user)
{
    (void)user;
    sl_free(p);
}

sl_status sl_split_create(const sl_pre *pre, sl_split **out, sl_err *err)
{
    pcre2_general_context *memory = pcre2_general_context_create(take, give, NULL);
    pcre2_compile_context *context = NULL;
    sl_split *split = NULL;
    sl_status status = SL_ENOMEM;
    PCRE2_SIZE at = 0;
    int code = 0;

    if (memory != NULL)
        context = pcre2_compile_context_create(memory);
    split = sl_alloc(1, sizeof(*split));
    if (context == NULL || split == NULL) {
        sl_fail(err, SL_ENOMEM, "no memory for the pre-tokenizer");
        goto out;
    }
    split->code = pcre2_compile((PCRE2_SPTR)pre->pattern, PCRE2_ZERO_TERMINATED,
                                PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED, &code, &at, context);
    if (split->code == NULL) {
        SL_ASSERT(code == PCRE2_ERROR_HEAP_FAILED || code == 121); /* the pattern is ours */
        sl_fail(err, SL_ENOMEM, "no memory for the pattern of pre-tokenizer '%s'", pre->name);
        goto out;
    }
    /* Where code may not be made at run time, the interpreter does the same, slower. */
    (void)pcre2_jit_compile(split->code, PCRE2_JIT_COMPLETE);
    *out = split;
    split = NULL;
    status = SL_OK;
out:
    sl_split_destroy(split);
    pcre2_compile_context_free(context);
    pcre2_general_context_free(memory);
    return status;
}

void sl_split_destroy(sl_split *split)
{
    if (split == NULL)
        return;
    pcre2_code_free(split->code);
    sl_free(split);
}

sl_split_call *sl_split_call_create(const sl_split *split)
{
    sl_split_call *call = sl_alloc(1, sizeof(*call));

    if (call == NULL)
        return NULL;
    call->memory = pcre2_general_context_create(take, give, NULL);
    if (call->memory == NULL)
        goto fail;
    call->limits = pcre2_match_context_create(call->memory);
    call->match = pcre2_match_data_create_from_pattern(split->code, call->memory);
    if (call->limits == NULL || call->match == NULL)
        goto fail;
    return call;
fail:
    sl_split_call_destroy(call);
    return NULL;
}

void sl_split_call_destroy(sl_split_call *call)
{
    if (call == NULL)
        return;
    pcre2_match_data_free(call->match);
    pcre2_match_context_free(call->limits);
    pcre2_general_context_free(call->memory);
    sl_free(call);
}

/* A run is walked a few times at most: once by each alternative, forth and back. */
static void set_limits(sl_split_call *call, size_t len)
{
    enum { STEPS_PER_BYTE = 16, STEPS_LEAST = 10000, HEAP_KIB = 4096, DEPTH = 1000 };
    const size_t steps = STEPS_LEAST + len * STEPS_PER_BYTE;

    pcre2_set_match_limit(call->limits, steps < UINT32_MAX ? (uint32_t)steps : UINT32_MAX);
    pcre2_set_depth_limit(call->limits, DEPTH);
    pcre2_set_heap_limit(call->limits, HEAP_KIB);
    call->limited_to = len;
}

sl_status sl_split_next(const sl_split *split, sl_split_call *call, sl_str text, size_t pos,
                        size_t *end, sl_err *err)
{
    int n;

    SL_ASSERT(pos < text.len);
    if (text.len > call->limited_to)
        set_limits(call, text.len);
    n = pcre2_match(split->code, (PCRE2_SPTR)text.data, text.len, pos, PCRE2_NO_UTF_CHECK,
                    call->match, call->limits);
    if (n <= 0) {
        if (n == PCRE2_ERROR_NOMEMORY)
            return sl_fail(err, SL_ENOMEM, "no memory to cut the text into words");
        /* Every character starts some alternative, and the limits are generous. */
        return sl_fail(err, SL_EINTERNAL, "the text cannot be cut into words (PCRE2 says %d)", n);
    }
    *end = pcre2_get_ovector_pointer(call->match)[1];
    SL_ASSERT(*end > pos && *end <= text.len);
    return SL_OK;
}
