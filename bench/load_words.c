/* bench/load_words.c - texts of known length.
 *
 * A word with a space in front is one token of almost every vocabulary, and no tokenizer merges
 * across the space; so a text of n such words has n tokens whatever the words are.  That is checked
 * against the tokenizer before it is relied on. */
#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "bench/load_internal.h"
#include "bench/load_trace.h"

enum {
    COUNTS_MAX = 100, /* calls of the counter in one calibration */
    KEEP_MIN = 16,    /* fewer single-token words than that make no text */
    CHECK_WORDS = 200
};

static const char *const candidate[] = {
    "the",      "time",    "year",     "people",   "way",      "day",        "man",
    "thing",    "world",   "life",     "hand",     "part",     "child",      "eye",
    "woman",    "place",   "work",     "week",     "case",     "point",      "number",
    "group",    "problem", "fact",     "house",    "home",     "room",       "area",
    "money",    "story",   "month",    "lot",      "right",    "study",      "book",
    "job",      "word",    "business", "issue",    "side",     "kind",       "head",
    "service",  "friend",  "father",   "power",    "hour",     "game",       "line",
    "end",      "member",  "law",      "car",      "city",     "name",       "team",
    "minute",   "idea",    "body",     "back",     "parent",   "face",       "level",
    "office",   "door",    "health",   "person",   "art",      "war",        "history",
    "party",    "result",  "change",   "morning",  "reason",   "research",   "girl",
    "guy",      "moment",  "air",      "teacher",  "force",    "education",  "foot",
    "boy",      "age",     "policy",   "process",  "music",    "market",     "sense",
    "nation",   "plan",    "college",  "interest", "death",    "experience", "effect",
    "use",      "class",   "control",  "field",    "role",     "effort",     "rate",
    "heart",    "light",   "voice",    "police",   "mind",     "price",      "report",
    "decision", "son",     "view",     "value",    "building", "action",     "season",
    "society",  "tax",     "director", "position", "player",   "record",     "paper",
    "space",    "ground",  "form",     "event",    "matter",   "center",     "project",
    "site",     "table",   "court",    "future",   "choice",   "news",       "test",
    "love",     "trade",   "color",    "food",     "water",    "fire",       "land",
    "road",     "river",   "sea",      "sun",      "star",     "green",      "blue",
    "black",    "white",   "small",    "large",    "long",     "short",      "high",
    "low",      "early",   "late",     "young",    "old",      "new",        "good",
    "great",    "little",  "own",      "other",    "public",   "same",       "able",
    "free",     "make",    "know",     "take",     "see",      "come",       "think",
    "look",     "want",    "give",     "find",     "tell",     "ask",        "seem",
    "feel",     "leave",   "call",     "open",     "close",    "begin",      "keep",
    "hold",     "write",   "stand",    "hear",     "let",      "mean",       "set",
    "meet",     "run",     "pay",      "sit",      "speak",    "lie",        "lead",
    "read",     "grow",    "lose",     "fall",     "send",     "build",      "stay",
    "cut",      "reach",   "kill",     "remain",   "add",      "follow",     "stop",
};

enum { CANDIDATES = sizeof(candidate) / sizeof(*candidate) };
_Static_assert((int)CANDIDATES <= (int)SL_LOAD_WORDS_MAX, "all candidates must fit");

void sl_load_words_init(sl_load_words *words)
{
    *words = (sl_load_words){.count = CANDIDATES, .per_word = 1.0};
    memcpy(words->word, candidate, sizeof(candidate));
}

typedef struct calibration {
    const sl_load_counter *counter;
    sl_load_words words;
    uint32_t base;   /* tokens of a prompt of the first word alone */
    uint32_t counts; /* made so far */
    sl_buf text;
    sl_err *err;
} calibration;

static sl_status count_text(calibration *c, uint32_t *tokens)
{
    c->counts++;
    if (c->text.failed)
        return sl_fail(c->err, SL_ENOMEM, "no memory for a text");
    return c->counter->count(c->counter->user, c->text.data, c->text.len, tokens, c->err);
}

/* Keep the single-token words of candidate[first .. first + n): all at once, or by halves. */
static sl_status keep_single(calibration *c, uint32_t first, uint32_t n)
{
    uint32_t tokens = 0;
    sl_status status;

    if (n == 0 || c->counts >= COUNTS_MAX)
        return SL_OK;
    sl_buf_reset(&c->text);
    sl_buf_add_str(&c->text, candidate[0]);
    for (uint32_t i = 0; i < n; i++)
        sl_buf_addf(&c->text, " %s", candidate[first + i]);
    status = count_text(c, &tokens);
    if (status != SL_OK)
        return status;
    if (tokens == c->base + n) {
        memcpy(&c->words.word[c->words.count], &candidate[first], n * sizeof(*candidate));
        c->words.count += n;
        return SL_OK;
    }
    if (n == 1)
        return SL_OK;
    status = keep_single(c, first, n / 2);
    return status != SL_OK ? status : keep_single(c, first + n / 2, n - n / 2);
}

/* Count a text of CHECK_WORDS words. */
static sl_status check(calibration *c, uint32_t *tokens)
{
    const sl_load_plan plan = {.text_seed = 12345};
    const sl_load_item item = {.input_tokens = CHECK_WORDS};
    sl_load_words plain = c->words;

    plain.overhead = 0;
    plain.per_word = 1.0;
    sl_buf_reset(&c->text);
    sl_load_words_text(&plain, &plan, &item, &c->text);
    return count_text(c, tokens);
}

static sl_status calibrate(calibration *c)
{
    uint32_t tokens = 0;
    sl_status status;

    sl_buf_add_str(&c->text, candidate[0]);
    status = count_text(c, &c->base);
    if (status != SL_OK)
        return status;
    if (c->base == 0)
        return sl_fail(c->err, SL_EFORMAT, "the tokenizer counts no tokens");
    c->words = (sl_load_words){.word = {candidate[0]}, .count = 1, .per_word = 1.0};
    c->words.overhead = c->base - 1;
    status = keep_single(c, 1, CANDIDATES - 1);
    if (status != SL_OK)
        return status;
    if (c->words.count < KEEP_MIN) {
        const uint32_t overhead = c->words.overhead;

        sl_load_words_init(&c->words);
        c->words.overhead = overhead;
    }
    status = check(c, &tokens);
    if (status != SL_OK)
        return status;
    c->words.exact = tokens == c->words.overhead + CHECK_WORDS;
    if (!c->words.exact && tokens > c->words.overhead)
        c->words.per_word = (double)(tokens - c->words.overhead) / (double)CHECK_WORDS;
    return SL_OK;
}

sl_status sl_load_words_calibrate(sl_load_words *words, const sl_load_counter *counter, sl_err *err)
{
    calibration c = {.counter = counter, .err = err};
    sl_status status;

    sl_buf_init(&c.text, 1 << 20);
    status = calibrate(&c);
    sl_buf_done(&c.text);
    if (status == SL_OK)
        *words = c.words;
    return status;
}

static uint64_t item_seed(const sl_load_plan *plan, const sl_load_item *item)
{
    return sl_mix64_pair(plan->text_seed, (uint64_t)item->session << 16 | item->turn);
}

void sl_load_words_text(const sl_load_words *words, const sl_load_plan *plan,
                        const sl_load_item *item, sl_buf *out)
{
    const uint32_t overhead = item->turn == 0 ? words->overhead : 0;
    const uint32_t tokens = item->input_tokens > overhead ? item->input_tokens - overhead : 1;
    const uint32_t count = (uint32_t)fmax(1.0, round(tokens / words->per_word));
    const uint32_t block_words =
        (uint32_t)fmax(1.0, round((double)SL_LOAD_BLOCK_TOKENS / words->per_word));
    const uint32_t prefix = (uint32_t)round(item->prefix_tokens / words->per_word);
    const uint64_t own_seed = item_seed(plan, item);
    /* Beginnings are shared by all sessions: their seeds are far from those of items. */
    const uint64_t prefix_seed = sl_mix64_pair(plan->text_seed ^ 0x5072656669780000u, item->prefix);

    for (uint32_t i = 0; i < count; i++) {
        uint64_t seed = own_seed;

        if (i / block_words < item->block_count)
            seed = sl_mix64_pair(plan->text_seed ^ 0x426C6F636B000000u,
                                 plan->block[item->block_first + i / block_words]);
        else if (i < prefix)
            seed = prefix_seed;
        if (i > 0)
            sl_buf_add_char(out, ' ');
        sl_buf_add_str(out,
                       words->word[i == 0 ? 0 : (uint32_t)(sl_rng_unit(seed, i) * words->count)]);
    }
}
