/* server/answer_text.c - see answer_text.h */
#include "server/answer_text.h"

#include <string.h>

void sl_answer_text_init(sl_answer_text *text, const char *const *stop, const size_t *stop_len,
                         size_t stop_count, bool include_stop, size_t limit)
{
    *text = (sl_answer_text){.stop = stop,
                             .stop_len = stop_len,
                             .stop_count = stop_count,
                             .include_stop = include_stop,
                             .matched = -1};
    sl_buf_init(&text->held, limit);
}

void sl_answer_text_done(sl_answer_text *text)
{
    sl_buf_done(&text->held);
}

/* The longest stop string that ends where the held bytes end, or -1. */
static int ending(const sl_answer_text *text)
{
    const sl_buf *held = &text->held;
    int found = -1;

    for (size_t i = 0; i < text->stop_count; i++) {
        const size_t n = text->stop_len[i];

        if (n <= held->len && memcmp(held->data + held->len - n, text->stop[i], n) == 0 &&
            (found < 0 || n > text->stop_len[found]))
            found = (int)i;
    }
    return found;
}

bool sl_answer_text_add(sl_answer_text *text, const char *bytes, size_t n)
{
    if (text->matched >= 0)
        return true;
    if (text->stop_count == 0) {
        sl_buf_add(&text->held, bytes, n);
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        sl_buf_add_char(&text->held, bytes[i]);
        if (text->held.failed)
            return false;
        text->matched = ending(text);
        if (text->matched >= 0) {
            if (!text->include_stop)
                text->held.len -= text->stop_len[text->matched];
            return true;
        }
    }
    return false;
}

/* Length of the longest end of the held bytes that is a beginning of a stop string. */
static size_t pending(const sl_answer_text *text)
{
    const sl_buf *held = &text->held;
    size_t longest = 0;

    for (size_t i = 0; i < text->stop_count; i++) {
        size_t n = text->stop_len[i] - 1;

        if (n > held->len)
            n = held->len;
        while (n > longest && memcmp(held->data + held->len - n, text->stop[i], n) != 0)
            n--;
        if (n > longest)
            longest = n;
    }
    return longest;
}

size_t sl_answer_text_ready(const sl_answer_text *text, bool last)
{
    if (last || text->matched >= 0 || text->held.len == 0)
        return text->held.len;
    return sl_utf8_whole(text->held.data, text->held.len - pending(text));
}

void sl_answer_text_take(sl_answer_text *text, size_t n)
{
    sl_buf_consume(&text->held, n);
}
