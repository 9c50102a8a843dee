/* model/model_pack.c - copy tensors to their places, on several threads.
 *
 * Each tensor is cut into pieces of whole groups of 64 rows, about a megabyte; threads take pieces
 * until none is left.  The calling thread works too, and reports. */
#include <stdatomic.h>
#include <string.h>

#include "base/threads.h"
#include "model/model_internal.h"

enum {
    PIECE_BYTES = 1 << 20,
    PIECE_ROWS = 64, /* pieces begin at multiples of this */
    THREADS_MAX = 64
};

typedef struct packer {
    const sl_binding *binding;
    const sl_ops *ops;
    size_t all_bytes;
    atomic_uint_least64_t next; /* item in the high half, piece in the low one */
    atomic_size_t done_bytes;
} packer;

/* Rows of a piece of this item; a vector is one piece. */
static uint32_t piece_rows(const sl_bind_item *item)
{
    const size_t row_bytes = item->weight == NULL ? 1 : item->tensor->bytes / item->weight->rows;
    const size_t groups = PIECE_BYTES / (row_bytes * PIECE_ROWS + 1) + 1;

    return (uint32_t)groups * PIECE_ROWS;
}

static uint32_t piece_count(const sl_bind_item *item)
{
    if (item->weight == NULL)
        return 1;
    return (item->weight->rows - 1) / piece_rows(item) + 1;
}

/* Take the next piece; false when none is left.  One counter says both which item and which piece
 * of it, so that a piece is taken by one compare and swap. */
static bool take_piece(packer *p, uint32_t *item, uint32_t *piece)
{
    uint_least64_t now = atomic_load_explicit(&p->next, memory_order_relaxed);
    uint_least64_t then;

    do {
        *item = (uint32_t)(now >> 32);
        *piece = (uint32_t)now;
        if (*item >= p->binding->count)
            return false;
        then = now + 1;
        if (*piece + 1 >= piece_count(&p->binding->item[*item]))
            then = (uint_least64_t)(*item + 1) << 32;
    } while (!atomic_compare_exchange_weak_explicit(&p->next, &now, then, memory_order_relaxed,
                                                    memory_order_relaxed));
    return true;
}

/* Returns the share of item->bytes that this piece was. */
static size_t pack_piece(const packer *p, const sl_bind_item *item, uint32_t piece)
{
    const sl_weight *w = item->weight;
    const uint32_t rows = piece_rows(item);
    size_t row_bytes;
    uint32_t first, count;

    if (w == NULL) {
        /* The model's pointers are const for its users; here the memory is being made. */
        sl_dequantize_row(item->tensor->dtype, item->tensor->data, item->count,
                          (float *)(uintptr_t)*item->vector);
        return item->bytes;
    }
    first = piece * rows;
    count = w->rows - first < rows ? w->rows - first : rows;
    row_bytes = item->tensor->bytes / w->rows;
    p->ops->weight_pack(w, item->tensor->data + row_bytes * first, first, count);
    return first + count == w->rows ? item->bytes - item->bytes / w->rows * first
                                    : item->bytes / w->rows * count;
}

static bool pack_next(packer *p)
{
    uint32_t item, piece;
    size_t bytes;

    if (!take_piece(p, &item, &piece))
        return false;
    bytes = pack_piece(p, &p->binding->item[item], piece);
    atomic_fetch_add_explicit(&p->done_bytes, bytes, memory_order_relaxed);
    return true;
}

static void pack_all(void *user)
{
    packer *p = user;

    while (pack_next(p))
        ;
}

void sl_model_pack(const sl_model_load_args *args, const sl_binding *binding)
{
    packer p = {.binding = binding, .ops = args->ops};
    uint32_t threads = args->threads == 0 ? sl_cpu_count() : args->threads;
    sl_thread thread[THREADS_MAX];
    uint32_t started = 0;

    if (threads > THREADS_MAX)
        threads = THREADS_MAX;
    for (uint32_t i = 0; i < binding->count; i++)
        p.all_bytes += binding->item[i].bytes;
    memset(thread, 0, sizeof(thread));
    /* A thread that the system refuses is missed by nobody: the others do its share. */
    while (started + 1 < threads &&
           sl_thread_start(&thread[started], "sl-load", -1, pack_all, &p) == SL_OK)
        started++;
    while (pack_next(&p)) {
        if (args->progress != NULL)
            args->progress(atomic_load_explicit(&p.done_bytes, memory_order_relaxed), p.all_bytes,
                           args->user);
    }
    for (uint32_t i = 0; i < started; i++)
        sl_thread_join(&thread[i]);
    if (args->progress != NULL)
        args->progress(p.all_bytes, p.all_bytes, args->user);
}
