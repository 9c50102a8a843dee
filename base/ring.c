/* base/ring.c - see ring.h */
#include "base/ring.h"

#include <string.h>

#include "base/alloc.h"

enum { CAPACITY_MAX = 1 << 20 };

sl_status sl_ring_init(sl_ring *ring, size_t capacity, size_t message_bytes)
{
    size_t power = 1;
    uint8_t *data;

    if (capacity == 0 || capacity > CAPACITY_MAX || message_bytes == 0)
        return SL_EINVAL;
    while (power < capacity)
        power *= 2;
    data = sl_alloc(power, message_bytes);
    if (data == NULL)
        return SL_ENOMEM;
    ring->data = data;
    ring->capacity = power;
    ring->message_bytes = message_bytes;
    atomic_init(&ring->head, 0);
    atomic_init(&ring->tail, 0);
    return SL_OK;
}

void sl_ring_done(sl_ring *ring)
{
    sl_free(ring->data);
    ring->data = NULL;
    ring->capacity = 0;
}

sl_status sl_ring_push(sl_ring *ring, const void *message)
{
    const size_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    const size_t head = atomic_load_explicit(&ring->head, memory_order_acquire);

    if (tail - head == ring->capacity)
        return SL_EFULL;
    memcpy(ring->data + (tail & (ring->capacity - 1)) * ring->message_bytes, message,
           ring->message_bytes);
    atomic_store_explicit(&ring->tail, tail + 1, memory_order_release);
    return SL_OK;
}

bool sl_ring_pop(sl_ring *ring, void *message)
{
    const size_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    const size_t tail = atomic_load_explicit(&ring->tail, memory_order_acquire);

    if (head == tail)
        return false;
    memcpy(message, ring->data + (head & (ring->capacity - 1)) * ring->message_bytes,
           ring->message_bytes);
    atomic_store_explicit(&ring->head, head + 1, memory_order_release);
    return true;
}

bool sl_ring_empty(sl_ring *ring)
{
    return atomic_load_explicit(&ring->head, memory_order_acquire) ==
           atomic_load_explicit(&ring->tail, memory_order_acquire);
}
