/* model/tokenizer_internal.h - what the files of the tokenizer share.
 *
 *   tokenizer.c         the interface: joining pieces, finding special tokens, decoding
 *   tokenizer_load.c    a GGUF file's metadata to tables
 *   tokenizer_vocab.c   texts by id, ids by text, the tree of special tokens
 *   tokenizer_split.c   text to words: the pre-tokenizers (PCRE2)
 *   tokenizer_nfc.c     canonical composition (utf8proc)
 *   tokenizer_merge.c   the merge loop of both engines
 *   tokenizer_engine.c  a segment of text to ids: byte-level BPE, SentencePiece BPE
 *
 * A text becomes ids in four steps: pieces are joined; special tokens cut the joined text into
 * segments; a segment is cut into words that no token can cross; a word is merged. */
#ifndef SL_MODEL_TOKENIZER_INTERNAL_H
#define SL_MODEL_TOKENIZER_INTERNAL_H

#include "base/arena.h"
#include "model/tokenizer.h"

enum {
    SL_VOCAB_TOKENS_MAX = 1 << 20,   /* tokens of a vocabulary */
    SL_VOCAB_TEXT_MAX = 16 << 10,    /* bytes of one token */
    SL_TOKENIZER_WORD_MAX = 1 << 20, /* bytes merged as one word; longer words are cut there */
};

/* The numbers of tokenizer.ggml.token_type. */
typedef enum sl_token_type {
    SL_TOKEN_NORMAL = 1,
    SL_TOKEN_UNKNOWN = 2,
    SL_TOKEN_CONTROL = 3,
    SL_TOKEN_USER = 4,
    SL_TOKEN_UNUSED = 5,
    SL_TOKEN_BYTE = 6
} sl_token_type;

/* --- texts and ids (tokenizer_vocab.c) --------------------------------------------------- */

/* One text per id, in one block. */
typedef struct sl_texts {
    char *data;      /* owned */
    uint32_t *start; /* [count + 1], owned; text i is data[start[i] .. start[i + 1]) */
    uint32_t count;
} sl_texts;

static inline sl_str sl_texts_get(const sl_texts *texts, uint32_t i)
{
    return (sl_str){texts->data + texts->start[i], texts->start[i + 1] - texts->start[i]};
}

void sl_texts_done(sl_texts *texts);

/* Ids by text: open addressing over the texts of a sl_texts. */
typedef struct sl_text_map {
    const sl_texts *texts; /* borrowed */
    uint64_t *slot;        /* upper half: a part of the hash; lower half: id + 1; 0: free */
    uint32_t mask;
    uint32_t longest; /* bytes of the longest text put in */
} sl_text_map;

/* Room for `count` texts.  False: out of memory. */
bool sl_text_map_init(sl_text_map *map, const sl_texts *texts, uint32_t count);
void sl_text_map_done(sl_text_map *map);
/* The first of equal texts stays. */
void sl_text_map_put(sl_text_map *map, uint32_t id);
/* SL_TOKEN_NONE if it is not there. */
uint32_t sl_text_map_find(const sl_text_map *map, const char *text, size_t len);

uint64_t sl_text_hash(const char *text, size_t len);

/* A byte tree of the special tokens' texts. */
typedef struct sl_tree_node {
    uint32_t child; /* first of a chain; 0: none */
    uint32_t next;  /* sibling; 0: none */
    uint32_t id;    /* token that ends here, or SL_TOKEN_NONE */
    uint8_t byte;
} sl_tree_node;

typedef struct sl_tree {
    sl_tree_node *node; /* owned; node 0 is not used, so that 0 means none */
    uint32_t count;
    uint32_t capacity;
    uint32_t root[256];
} sl_tree;

/* False: out of memory.  An empty text, or one that is there already, changes nothing. */
bool sl_tree_put(sl_tree *tree, sl_str text, uint32_t id);
void sl_tree_done(sl_tree *tree);

/* --- words (tokenizer_split.c) ----------------------------------------------------------- */

/* A row of the table of pre-tokenizers. */
typedef struct sl_pre {
    const char *name; /* as in tokenizer.ggml.pre */
    const char *pattern;
    bool ignore_merges; /* a word that is a token is not merged */
    bool nfc;           /* text is normalised first */
    bool add_bos;       /* where the file does not say */
} sl_pre;

/* NULL if it is none of ours; then *names is a list of them. */
const sl_pre *sl_pre_find(sl_str name, const char **names);

typedef struct sl_split sl_split;           /* a compiled pattern, shared */
typedef struct sl_split_call sl_split_call; /* what one call needs */

SL_MUST_CHECK sl_status sl_split_create(const sl_pre *pre, sl_split **out, sl_err *err);
void sl_split_destroy(sl_split *split);
/* NULL: out of memory. */
sl_split_call *sl_split_call_create(const sl_split *split);
void sl_split_call_destroy(sl_split_call *call);
/* The end of the word that starts at text[pos], pos < len; text is valid UTF-8. */
SL_MUST_CHECK sl_status sl_split_next(const sl_split *split, sl_split_call *call, sl_str text,
                                      size_t pos, size_t *end, sl_err *err);

/* --- normalisation (tokenizer_nfc.c) ----------------------------------------------------- */

/* If `text` is in NFC already (as most text is), *out is `text` itself; else a copy in NFC from the
 * arena.  Invalid bytes stay as they are.  False: out of memory. */
SL_MUST_CHECK bool sl_nfc(sl_str text, sl_arena *arena, sl_str *out);

/* --- merging (tokenizer_merge.c) --------------------------------------------------------- */

/* A part of a word while it is being merged. */
typedef struct sl_part {
    uint32_t start; /* in the word */
    uint32_t len;   /* 0: merged into the part before */
    uint32_t prev;  /* SL_TOKEN_NONE at the ends */
    uint32_t next;
    uint32_t id;   /* its token, or SL_TOKEN_NONE */
    uint32_t join; /* how it came about: index of its last join, or SL_TOKEN_NONE */
} sl_part;

/* Two parts that became one: what was merged can be taken apart again. */
typedef struct sl_join {
    uint32_t left, right;       /* how the halves came about, as sl_part.join */
    uint32_t left_id, right_id; /* and their tokens */
    uint32_t left_len;          /* bytes */
} sl_join;

typedef struct sl_candidate {
    uint64_t order; /* priority, then position: the smallest goes first */
    uint32_t right; /* the right part; the left one is the low half of `order` */
    uint32_t len;   /* of both: a mismatch says that the candidate is stale */
    uint32_t id;
} sl_candidate;

/* Memory of a merge, kept from word to word. */
typedef struct sl_merge_space {
    sl_part *part;
    sl_join *join; /* only with keep_joins */
    sl_candidate *heap;
    uint32_t capacity; /* of part and join; the heap holds twice as many */
    uint32_t part_count;
    uint32_t join_count;
    uint32_t heap_count;
    bool keep_joins;
} sl_merge_space;

/* May parts l and r (neighbours) be one?  If so, its priority (smaller first) and its id. */
typedef bool (*sl_pair_find)(const sl_tokenizer *t, const char *word, const sl_part *l,
                             const sl_part *r, uint32_t *priority, uint32_t *id);

/* Room for a word of `parts` parts.  False: out of memory. */
bool sl_merge_reserve(sl_merge_space *space, size_t parts);
/* Merge space->part[0 .. part_count), filled in but for prev, next and join, until no pair is left.
 * The result is the chain from part 0 by `next`. */
void sl_merge(sl_merge_space *space, const sl_tokenizer *t, const char *word, sl_pair_find find);
void sl_merge_done(sl_merge_space *space);

/* --- engines (tokenizer_engine.c) -------------------------------------------------------- */

typedef struct sl_pair {
    uint32_t left, right;
    uint32_t rank;
    uint32_t id; /* of both together; SL_TOKEN_NONE: a free slot */
} sl_pair;

/* A word met before in the call; its ids are those at out->id[first ..). */
typedef struct sl_seen_word {
    uint64_t hash;
    const char *text; /* lives as long as the call; NULL: free */
    uint32_t len;
    uint32_t count;
    size_t first;
} sl_seen_word;

/* The state of one call of encode. */
typedef struct sl_encode {
    const sl_tokenizer *t;
    sl_token_list *out;
    size_t first;        /* out->count at the start */
    uint32_t bos_placed; /* the BOS put in front, which the text's own then does not repeat; or
                            SL_TOKEN_NONE */
    sl_arena arena;      /* copies of segments */
    sl_merge_space space;
    sl_split_call *split;
    sl_seen_word *seen;
    uint32_t seen_mask;
    sl_err *err;
} sl_encode;

struct sl_tokenizer {
    bool bytes_bpe; /* byte-level BPE; else SentencePiece */
    uint32_t count;
    uint8_t *type;      /* [count] sl_token_type */
    sl_texts text;      /* as in the vocabulary */
    sl_texts bytes;     /* what the tokens stand for */
    sl_text_map map;    /* normal tokens: by `bytes` (byte-level BPE), by `text` (SentencePiece) */
    sl_tree special;    /* control and user-defined tokens */
    uint32_t byte[256]; /* the token of a byte, or SL_TOKEN_NONE */
    uint32_t bos, eos, unknown;
    bool add_bos, add_eos;
    uint32_t eog[SL_TOKENIZER_EOG_MAX];
    uint32_t eog_count;

    /* byte-level BPE */
    const sl_pre *pre;
    sl_split *split;
    sl_pair *pair; /* by hash of (left, right) */
    uint32_t pair_mask;

    /* SentencePiece */
    uint32_t *priority; /* [count]: the order of the scores, best first; equal scores are equal */
    bool add_space;     /* in front of every segment */
    bool has_unused;    /* there are tokens that merging may pass through but not leave */
    bool joins_space[256]; /* a token has an inner space after this byte: no word ends there */
};

/* Append one id.  Errors: SL_ETOOLONG, SL_ENOMEM. */
SL_MUST_CHECK sl_status sl_encode_push(sl_encode *e, uint32_t id);

/* Append the ids of a segment that holds no special token. */
SL_MUST_CHECK sl_status sl_encode_bytes_segment(sl_encode *e, sl_str text);
SL_MUST_CHECK sl_status sl_encode_piece_segment(sl_encode *e, sl_str text);

/* The priority and id of a pair of tokens, or NULL. */
const sl_pair *sl_pair_get(const sl_tokenizer *t, uint32_t left, uint32_t right);

/* The space of SentencePiece, U+2581. */
#define SL_PIECE_SPACE "\xE2\x96\x81"

#endif
