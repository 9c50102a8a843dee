/* model/tokenizer_merge.c - the merge loop of both engines.
 *
 * A word is a chain of parts.  Of all neighbours that may be one, the pair with the best priority
 * is joined, the leftmost of equals, until no pair is left.  Candidates wait in a binary heap; a
 * join makes at most two new ones and leaves stale ones behind, which are told by their length: a
 * part only grows, until the one to its left swallows it and its length is 0; so if the left one
 * still is there, the sum is the old one only if both are as they were.  n parts take O(n log n).
 *
 * How many wait at once: n - 1 at the start; each join takes one out and puts two in, at most
 * n - 1 times: never more than 2n. */
#include "model/tokenizer_internal.h"

#include "base/alloc.h"
#include "base/assert.h"

bool sl_merge_reserve(sl_merge_space *space, size_t parts)
{
    const size_t want = parts < 256 ? 256 : parts + parts / 2;
    sl_part *part;
    sl_candidate *heap;

    SL_ASSERT(parts <= SL_TOKENIZER_WORD_MAX);
    if (parts <= space->capacity)
        return true;
    part = sl_realloc(space->part, want, sizeof(*part));
    if (part == NULL)
        return false;
    space->part = part;
    heap = sl_realloc(space->heap, 2 * want, sizeof(*heap));
    if (heap == NULL)
        return false;
    space->heap = heap;
    if (space->keep_joins) {
        sl_join *join = sl_realloc(space->join, want, sizeof(*join));

        if (join == NULL)
            return false;
        space->join = join;
    }
    space->capacity = (uint32_t)want;
    return true;
}

void sl_merge_done(sl_merge_space *space)
{
    sl_free(space->part);
    sl_free(space->join);
    sl_free(space->heap);
    *space = (sl_merge_space){0};
}

static void heap_push(sl_merge_space *space, sl_candidate c)
{
    sl_candidate *heap = space->heap;
    uint32_t i = space->heap_count++;

    while (i > 0 && c.order < heap[(i - 1) / 2].order) {
        heap[i] = heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    heap[i] = c;
}

static sl_candidate heap_pop(sl_merge_space *space)
{
    sl_candidate *heap = space->heap;
    const sl_candidate top = heap[0];
    const sl_candidate last = heap[--space->heap_count];
    const uint32_t count = space->heap_count;
    uint32_t i = 0;

    for (;;) {
        uint32_t child = 2 * i + 1;

        if (child >= count)
            break;
        if (child + 1 < count && heap[child + 1].order < heap[child].order)
            child++;
        if (last.order <= heap[child].order)
            break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = last;
    return top;
}

/* Put the pair (left, right) into the heap if it may be joined. */
static void offer(sl_merge_space *space, const sl_tokenizer *t, const char *word, sl_pair_find find,
                  uint32_t left, uint32_t right)
{
    const sl_part *l = &space->part[left], *r = &space->part[right];
    uint32_t priority, id;

    if (!find(t, word, l, r, &priority, &id))
        return;
    heap_push(space, (sl_candidate){.order = (uint64_t)priority << 32 | left,
                                    .right = right,
                                    .len = l->len + r->len,
                                    .id = id});
}

static void join(sl_merge_space *space, sl_part *l, sl_part *r, uint32_t id)
{
    if (space->keep_joins) {
        space->join[space->join_count] = (sl_join){.left = l->join,
                                                   .right = r->join,
                                                   .left_id = l->id,
                                                   .right_id = r->id,
                                                   .left_len = l->len};
        l->join = space->join_count++;
    }
    l->len += r->len;
    l->id = id;
    l->next = r->next;
    r->len = 0;
}

void sl_merge(sl_merge_space *space, const sl_tokenizer *t, const char *word, sl_pair_find find)
{
    sl_part *part = space->part;
    const uint32_t n = space->part_count;

    SL_ASSERT(n <= space->capacity);
    space->join_count = 0;
    space->heap_count = 0;
    for (uint32_t i = 0; i < n; i++) {
        part[i].prev = i > 0 ? i - 1 : SL_TOKEN_NONE;
        part[i].next = i + 1 < n ? i + 1 : SL_TOKEN_NONE;
        part[i].join = SL_TOKEN_NONE;
    }
    for (uint32_t i = 0; i + 1 < n; i++)
        offer(space, t, word, find, i, i + 1);

    while (space->heap_count > 0) {
        const sl_candidate c = heap_pop(space);
        const uint32_t left = (uint32_t)c.order;
        sl_part *l = &part[left], *r = &part[c.right];

        if (l->len == 0 || l->len + r->len != c.len)
            continue;
        join(space, l, r, c.id);
        if (l->next != SL_TOKEN_NONE) {
            part[l->next].prev = left;
            offer(space, t, word, find, left, l->next);
        }
        if (l->prev != SL_TOKEN_NONE)
            offer(space, t, word, find, l->prev, left);
    }
}
