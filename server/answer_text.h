/* server/answer_text.h - from tokens' bytes to text that may be shown.
 *
 * Two things hold bytes back: a character that is not whole yet, and the beginning of a stop string
 * that the next tokens may complete.  A stop string is found byte by byte, so that the result does
 * not depend on how tokens cut the text: the first to end wins, and of those that end at the same
 * byte the longest.
 *
 * Thread: loop; no I/O. */
#ifndef SL_SERVER_ANSWER_TEXT_H
#define SL_SERVER_ANSWER_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

typedef struct sl_answer_text {
    const char *const *stop; /* borrowed: [stop_count] strings, none empty */
    const size_t *stop_len;
    size_t stop_count;
    bool include_stop; /* keep the stop string in the text */
    sl_buf held;       /* bytes that came and were not taken */
    int matched;       /* which stop string ended it, or -1 */
} sl_answer_text;

/* `limit` bounds the bytes held at once. */
void sl_answer_text_init(sl_answer_text *text, const char *const *stop, const size_t *stop_len,
                         size_t stop_count, bool include_stop, size_t limit);
void sl_answer_text_done(sl_answer_text *text);

/* Append bytes.  True: a stop string is complete; the text ends before it (or behind it, with
 * include_stop), later bytes are dropped. */
bool sl_answer_text_add(sl_answer_text *text, const char *bytes, size_t n);

/* How many of the held bytes may be shown now; `last`: all of them, nothing more will come. */
size_t sl_answer_text_ready(const sl_answer_text *text, bool last);

/* The first n held bytes were shown. */
void sl_answer_text_take(sl_answer_text *text, size_t n);

#endif
