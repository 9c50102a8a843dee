/* bench/load_internal.h - what the files of the load client share. */
#ifndef SL_BENCH_LOAD_INTERNAL_H
#define SL_BENCH_LOAD_INTERNAL_H

#include "base/buf.h"
#include "bench/load.h"
#include "bench/load_http.h"
#include "model/tokenizer.h"

enum { SL_LOAD_WORDS_MAX = 256, SL_LOAD_BODY_MAX = 64 << 20 };

/* --- load_words.c: texts of known length --------------------------------------------------- */

/* Words that are one token each, wherever they stand; or, with no way to count, just words. */
typedef struct sl_load_words {
    const char *word[SL_LOAD_WORDS_MAX]; /* static; word[0] begins every text */
    uint32_t count;
    uint32_t overhead; /* tokens of a prompt beyond its words: chat template, BOS */
    double per_word;   /* tokens; 1 if the words were checked */
    bool exact;
} sl_load_words;

/* Counts the tokens of a whole prompt with this text, template and all. */
typedef struct sl_load_counter {
    sl_status (*count)(void *user, const char *text, size_t n, uint32_t *tokens, sl_err *err);
    void *user;
} sl_load_counter;

/* The words without any check: one token each is a guess. */
void sl_load_words_init(sl_load_words *words);

/* Find the words that are one token each, and the overhead; at most about 100 counts.  When too
 * few are, all words are kept and the tokens per word are measured (`exact` is false).
 * Errors: those of the counter. */
SL_MUST_CHECK sl_status sl_load_words_calibrate(sl_load_words *words,
                                                const sl_load_counter *counter, sl_err *err);

/* Append an item's text (later turns: the message of that turn).  The same item, plan and words
 * always give the same text. */
void sl_load_words_text(const sl_load_words *words, const sl_load_plan *plan,
                        const sl_load_item *item, sl_buf *out);

/* --- load_site.c --------------------------------------------------------------------------- */

struct sl_load_site {
    sl_load_target target;
    const sl_load_options *options; /* borrowed */
    sl_load_site_info info;
    sl_load_words words;
    sl_tokenizer *tokenizer; /* NULL: none given */
    char *extra;             /* `,"name":value...`, or "" */
    bool extra_has_max_tokens, extra_has_temperature, extra_has_ignore_eos, extra_has_model,
        extra_has_stream_options;
    const char *path; /* static: of the requests */
};

/* A request's body: the conversation before (`history`: JSON messages, or text; may be empty) and
 * the new text. */
typedef struct sl_load_body {
    const sl_buf *history; /* NULL: none */
    const char *text;
    size_t text_len;
    uint32_t output_tokens;
    bool stream;
} sl_load_body;
void sl_load_site_body(const sl_load_site *site, const sl_load_body *body, sl_buf *out);

/* Add a turn to a conversation: what was asked, and the answer. */
void sl_load_site_remember(const sl_load_site *site, const sl_load_body *asked, const char *answer,
                           size_t answer_len, sl_buf *history);

/* --- load_scrape.c ------------------------------------------------------------------------- */

/* Read /metrics; *out says `found` false if there is nothing to read. */
void sl_load_scrape_take(const sl_load_target *target, const char *key, sl_load_scrape *out);
/* The same from a text. */
void sl_load_scrape_read(const char *text, sl_load_scrape *out);

#endif
