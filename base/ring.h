/* base/ring.h - a bounded single-producer single-consumer ring of fixed-size messages.
 *
 * Head (next to pop) and tail (next to push) count for ever and live on their own cache lines; the
 * index is the count modulo a power-of-two capacity.
 *
 * Ordering.  push writes the message, then stores tail with release; pop loads tail with acquire,
 * so it sees the whole message.  pop copies the message out, then stores head with release; push
 * loads head with acquire, so it never overwrites a message that is still being read.
 *
 * Thread: one pushes, one (other) pops.  Nothing here blocks or allocates after init. */
#ifndef SL_BASE_RING_H
#define SL_BASE_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct sl_ring {
    _Alignas(64) atomic_size_t head; /* the consumer writes */
    _Alignas(64) atomic_size_t tail; /* the producer writes */
    _Alignas(64) uint8_t *data;      /* capacity * message_bytes, owned */
    size_t capacity;                 /* a power of two */
    size_t message_bytes;
} sl_ring;

/* `capacity` is rounded up to a power of two (1 .. 2^20).  Errors: SL_EINVAL, SL_ENOMEM. */
SL_MUST_CHECK sl_status sl_ring_init(sl_ring *ring, size_t capacity, size_t message_bytes);
void sl_ring_done(sl_ring *ring);

/* Copy one message in.  SL_EFULL: the ring is as it was. */
SL_MUST_CHECK sl_status sl_ring_push(sl_ring *ring, const void *message);

/* Copy the oldest message out; false if there is none. */
bool sl_ring_pop(sl_ring *ring, void *message);

/* True if a pop by the consumer would fail now. */
bool sl_ring_empty(sl_ring *ring);

#endif
