/* model/tokenizer_vocab.c - texts by id, ids by text, and the tree of special tokens. */
#include <string.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "model/tokenizer_internal.h"

void sl_texts_done(sl_texts *texts)
{
    sl_free(texts->data);
    sl_free(texts->start);
    *texts = (sl_texts){0};
}

uint64_t sl_text_hash(const char *text, size_t len)
{
    uint64_t hash = len, word;

    while (len >= 8) {
        memcpy(&word, text, 8);
        hash = sl_mix64(hash ^ word);
        text += 8;
        len -= 8;
    }
    if (len == 0)
        return hash;
    word = 0;
    if (len >= 4) { /* the first and the last four, which overlap */
        uint32_t first, last;

        memcpy(&first, text, 4);
        memcpy(&last, text + len - 4, 4);
        word = (uint64_t)first << 32 | last;
    } else {
        word = (uint64_t)(uint8_t)text[0] << 16 | (uint64_t)(uint8_t)text[len / 2] << 8 |
               (uint8_t)text[len - 1];
    }
    return sl_mix64(hash ^ word);
}

bool sl_text_map_init(sl_text_map *map, const sl_texts *texts, uint32_t count)
{
    uint32_t slots = 16;

    while (slots / 2 < count)
        slots *= 2;
    *map = (sl_text_map){.texts = texts, .mask = slots - 1};
    map->slot = sl_alloc(slots, sizeof(*map->slot));
    return map->slot != NULL;
}

void sl_text_map_done(sl_text_map *map)
{
    sl_free(map->slot);
    *map = (sl_text_map){0};
}

/* The slot that holds `text`, or the free one where it would go. */
static uint32_t find_slot(const sl_text_map *map, const char *text, size_t len, uint64_t hash)
{
    const uint32_t tag = (uint32_t)(hash >> 32);
    uint32_t i = (uint32_t)hash & map->mask;

    for (; map->slot[i] != 0; i = (i + 1) & map->mask) {
        sl_str other;

        if ((uint32_t)(map->slot[i] >> 32) != tag)
            continue;
        other = sl_texts_get(map->texts, (uint32_t)map->slot[i] - 1);
        if (other.len == len && memcmp(other.data, text, len) == 0)
            break;
    }
    return i;
}

void sl_text_map_put(sl_text_map *map, uint32_t id)
{
    const sl_str text = sl_texts_get(map->texts, id);
    const uint64_t hash = sl_text_hash(text.data, text.len);
    const uint32_t i = find_slot(map, text.data, text.len, hash);

    if (map->slot[i] != 0)
        return;
    map->slot[i] = hash >> 32 << 32 | (id + 1);
    if (text.len > map->longest)
        map->longest = (uint32_t)text.len;
}

uint32_t sl_text_map_find(const sl_text_map *map, const char *text, size_t len)
{
    if (len > map->longest || len == 0)
        return SL_TOKEN_NONE;
    return (uint32_t)map->slot[find_slot(map, text, len, sl_text_hash(text, len))] - 1;
}

void sl_tree_done(sl_tree *tree)
{
    sl_free(tree->node);
    *tree = (sl_tree){0};
}

/* A new node in the chain at *link (an index, since the nodes may move).  0: out of memory. */
static uint32_t add_node(sl_tree *tree, uint8_t byte, uint32_t next)
{
    if (tree->count == tree->capacity) {
        const uint32_t capacity = tree->capacity == 0 ? 256 : tree->capacity * 2;
        sl_tree_node *node = sl_realloc(tree->node, capacity, sizeof(*node));

        if (node == NULL)
            return 0;
        tree->node = node;
        tree->capacity = capacity;
        if (tree->count == 0)
            tree->count = 1; /* node 0 stands for none */
    }
    tree->node[tree->count] = (sl_tree_node){.next = next, .id = SL_TOKEN_NONE, .byte = byte};
    return tree->count++;
}

bool sl_tree_put(sl_tree *tree, sl_str text, uint32_t id)
{
    uint32_t at = 0;

    for (size_t i = 0; i < text.len; i++) {
        const uint8_t byte = (uint8_t)text.data[i];
        const uint32_t chain = i == 0 ? tree->root[byte] : tree->node[at].child;
        uint32_t found = chain;

        while (found != 0 && tree->node[found].byte != byte)
            found = tree->node[found].next;
        if (found == 0) {
            found = add_node(tree, byte, chain);
            if (found == 0)
                return false;
            if (i == 0)
                tree->root[byte] = found;
            else
                tree->node[at].child = found;
        }
        at = found;
    }
    if (at != 0 && tree->node[at].id == SL_TOKEN_NONE)
        tree->node[at].id = id;
    return true;
}
