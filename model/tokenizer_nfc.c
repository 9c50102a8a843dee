/* model/tokenizer_nfc.c - Unicode's canonical composition (NFC), by utf8proc's tables.
 *
 * Nearly all text is in NFC already.  A character is plain if it decomposes to nothing else and
 * never joins the one before it: text of plain characters is its own NFC.  Only the stretches that
 * hold other characters, each with the plain one before it, are decomposed, ordered and composed.
 *
 * The ordering of marks is ours: a stable sort by class, linear in a run of marks, where the
 * library's swaps would let a hostile run of marks take quadratic time. */
#include <string.h>
#include <utf8proc.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/buf.h"
#include "model/tokenizer_internal.h"

static bool is_plain(uint32_t code)
{
    const utf8proc_property_t *p;

    if (code < 0x300 || (code >= 0xAC00 && code <= 0xD7A3)) /* Latin; Hangul syllables */
        return true;
    if ((code >= 0x1100 && code <= 0x11FF) || (code >= 0x16D40 && code <= 0x16D7F))
        return false; /* letters that join the one before: Hangul, Kirat Rai */
    p = utf8proc_get_property((utf8proc_int32_t)code);
    if (p->category == UTF8PROC_CATEGORY_MN || p->category == UTF8PROC_CATEGORY_MC ||
        p->category == UTF8PROC_CATEGORY_ME)
        return false;
    return p->decomp_seqindex == UINT16_MAX || p->decomp_type != 0; /* none, or compatibility */
}

typedef struct work {
    utf8proc_int32_t *code;
    utf8proc_int32_t *spare; /* as long */
    size_t count;
    size_t capacity;
} work;

static bool reserve(work *w, size_t count)
{
    if (count <= w->capacity)
        return true;
    sl_free(w->code);
    sl_free(w->spare);
    w->code = sl_alloc(count, sizeof(*w->code));
    w->spare = sl_alloc(count, sizeof(*w->spare));
    w->capacity = w->code != NULL && w->spare != NULL ? count : 0;
    return w->capacity != 0;
}

static uint8_t class_of(utf8proc_int32_t code)
{
    return (uint8_t)utf8proc_get_property(code)->combining_class;
}

/* Sort the run of marks at `code`, stably, by class. */
static void order_run(utf8proc_int32_t *code, utf8proc_int32_t *spare, size_t count)
{
    size_t start[257] = {0};

    for (size_t i = 0; i < count; i++)
        start[class_of(code[i]) + 1]++;
    for (size_t c = 0; c < 256; c++)
        start[c + 1] += start[c];
    for (size_t i = 0; i < count; i++)
        spare[start[class_of(code[i])]++] = code[i];
    memcpy(code, spare, count * sizeof(*code));
}

static void order_marks(work *w)
{
    for (size_t i = 0; i < w->count;) {
        size_t end = i;

        while (end < w->count && class_of(w->code[end]) != 0)
            end++;
        if (end - i > 1)
            order_run(w->code + i, w->spare, end - i);
        i = end + 1;
    }
}

static const utf8proc_option_t options = UTF8PROC_STABLE | UTF8PROC_COMPOSE;

/* Decompose valid UTF-8 into at most `room` code points; returns how many it takes. */
static size_t decompose(const char *text, size_t len, utf8proc_int32_t *out, size_t room)
{
    size_t count = 0;

    for (size_t i = 0; i < len;) {
        const size_t left = count < room ? room - count : 0;
        utf8proc_ssize_t n;
        uint32_t code;

        i += sl_utf8_next(text + i, len - i, &code);
        n = utf8proc_decompose_char((utf8proc_int32_t)code, left > 0 ? out + count : NULL,
                                    (utf8proc_ssize_t)left, options, NULL);
        SL_ASSERT(n > 0);
        count += (size_t)n;
    }
    return count;
}

/* Append the NFC of valid UTF-8. */
static bool compose(work *w, const char *text, size_t len, sl_buf *out)
{
    utf8proc_ssize_t n;

    if (!reserve(w, decompose(text, len, NULL, 0)))
        return false;
    w->count = decompose(text, len, w->code, w->capacity);
    SL_ASSERT(w->count <= w->capacity);
    order_marks(w);
    n = utf8proc_normalize_utf32(w->code, (utf8proc_ssize_t)w->count, options);
    SL_ASSERT(n >= 0 && (size_t)n <= w->count);
    for (size_t i = 0; i < (size_t)n; i++) {
        char bytes[4];

        sl_buf_add(out, bytes, sl_utf8_put((uint32_t)w->code[i], bytes));
    }
    return !out->failed;
}

/* From `pos`, the next stretch to compose: *start .. *end; false if there is none. */
static bool next_stretch(sl_str text, size_t pos, size_t *start, size_t *end)
{
    size_t before = SIZE_MAX; /* where the plain character just before i starts */
    size_t i = pos;

    while (i < text.len) {
        uint32_t code;
        size_t n;

        if ((uint8_t)text.data[i] < 0x80) {
            before = i++;
            continue;
        }
        n = sl_utf8_next(text.data + i, text.len - i, &code);
        if (code != UINT32_MAX && !is_plain(code))
            break;
        before = code != UINT32_MAX ? i : SIZE_MAX; /* an invalid byte joins nothing */
        i += n;
    }
    if (i == text.len)
        return false;
    *start = before != SIZE_MAX ? before : i;
    while (i < text.len) {
        uint32_t code;
        const size_t n = sl_utf8_next(text.data + i, text.len - i, &code);

        if (code == UINT32_MAX || is_plain(code))
            break;
        i += n;
    }
    *end = i;
    return true;
}

bool sl_nfc(sl_str text, sl_arena *arena, sl_str *out)
{
    size_t done = 0, start, end;
    work w = {0};
    sl_buf buf;
    bool ok = true;

    if (!next_stretch(text, 0, &start, &end)) {
        *out = text;
        return true;
    }
    sl_buf_init(&buf, SIZE_MAX / 2);
    do {
        sl_buf_add(&buf, text.data + done, start - done);
        ok = compose(&w, text.data + start, end - start, &buf);
        done = end;
    } while (ok && next_stretch(text, done, &start, &end));
    sl_buf_add(&buf, text.data + done, text.len - done);
    ok = ok && !buf.failed;
    if (ok) {
        const char *copy = sl_arena_strndup(arena, buf.data, buf.len);

        *out = (sl_str){copy, buf.len};
        ok = copy != NULL;
    }
    sl_buf_done(&buf);
    sl_free(w.code);
    sl_free(w.spare);
    return ok;
}
