/* base/alloc.c - see alloc.h */
#include "base/alloc.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/assert.h"

enum { HUGE_BYTES = 2 << 20 };

static atomic_ullong alloc_count; /* since the last sl_alloc_fail_at */
static atomic_ullong fail_at;     /* 0: never */

static bool must_fail(void)
{
    const unsigned long long n = atomic_fetch_add_explicit(&alloc_count, 1, memory_order_relaxed);

    return n + 1 == atomic_load_explicit(&fail_at, memory_order_relaxed);
}

void *sl_alloc(size_t count, size_t size)
{
    size_t bytes;

    if (must_fail() || !sl_mul_size(count, size, &bytes))
        return NULL;
    return calloc(bytes > 0 ? bytes : 1, 1);
}

void *sl_realloc(void *p, size_t count, size_t size)
{
    size_t bytes;

    if (must_fail() || !sl_mul_size(count, size, &bytes))
        return NULL;
    return realloc(p, bytes > 0 ? bytes : 1);
}

void *sl_xalloc(size_t count, size_t size)
{
    void *p = calloc(count > 0 ? count : 1, size > 0 ? size : 1);

    SL_ASSERT(p != NULL);
    return p;
}

char *sl_strndup(const char *text, size_t bytes)
{
    char *copy;

    if (bytes == SIZE_MAX)
        return NULL;
    copy = sl_alloc(bytes + 1, 1);
    if (copy != NULL && bytes > 0)
        memcpy(copy, text, bytes);
    return copy;
}

void sl_free(void *p)
{
    free(p);
}

static size_t round_up(size_t bytes, size_t unit)
{
    return (bytes + unit - 1) / unit * unit;
}

void *sl_alloc_pages(size_t bytes)
{
    uint8_t *map, *aligned;
    size_t want, head;

    if (bytes == 0 || bytes > SIZE_MAX / 2 || must_fail())
        return NULL;
    want = round_up(bytes, HUGE_BYTES);
    map = mmap(NULL, want + HUGE_BYTES, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED)
        return NULL;
    /* Give back what lies before and after the aligned block. */
    head = round_up((size_t)(uintptr_t)map, HUGE_BYTES) - (size_t)(uintptr_t)map;
    aligned = map + head;
    if (head > 0)
        munmap(map, head);
    munmap(aligned + want, HUGE_BYTES - head);
    madvise(aligned, want, MADV_HUGEPAGE); /* advice: failure changes speed only */
    return aligned;
}

void sl_free_pages(void *p, size_t bytes)
{
    if (p != NULL)
        munmap(p, round_up(bytes, HUGE_BYTES));
}

bool sl_mul_size(size_t a, size_t b, size_t *out)
{
    size_t product;

    if (__builtin_mul_overflow(a, b, &product))
        return false;
    *out = product;
    return true;
}

bool sl_add_size(size_t a, size_t b, size_t *out)
{
    size_t sum;

    if (__builtin_add_overflow(a, b, &sum))
        return false;
    *out = sum;
    return true;
}

uint64_t sl_alloc_fail_at(uint64_t n)
{
    atomic_store(&fail_at, n);
    return atomic_exchange(&alloc_count, 0);
}
