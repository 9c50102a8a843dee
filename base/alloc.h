/* base/alloc.h - host memory: the seam for fault injection, and big aligned blocks.
 *
 * Two kinds: sl_alloc may return NULL (start-up, request handling: the caller reports SL_ENOMEM);
 * sl_xalloc never does (it ends the process: for small things whose failure nobody could handle).
 * The steady state of the engine thread allocates nothing.
 *
 * Tests make the N-th sl_alloc fail (sl_alloc_fail_at), to walk every error path.
 *
 * Thread: any. */
#ifndef SL_BASE_ALLOC_H
#define SL_BASE_ALLOC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Zeroed memory for `count` items of `size` bytes, or NULL (overflow counts as failure).
 * Zero bytes give a valid pointer.  Free with sl_free. */
void *sl_alloc(size_t count, size_t size);

/* As realloc, for `count` items of `size` bytes; the old block stays valid on NULL. */
void *sl_realloc(void *p, size_t count, size_t size);

/* As sl_alloc, but ends the process on failure. */
void *sl_xalloc(size_t count, size_t size);

/* Copy of `bytes` bytes of `text` with a NUL added, or NULL. */
char *sl_strndup(const char *text, size_t bytes);

/* NULL is allowed. */
void sl_free(void *p);

/* Pages straight from the system, zeroed, 2 MiB aligned, huge pages asked for (advice only);
 * `bytes` is rounded up to a whole page.  Untouched pages cost nothing.  NULL on failure. */
void *sl_alloc_pages(size_t bytes);
void sl_free_pages(void *p, size_t bytes);

/* a * b and a + b into *out; false on overflow, *out untouched. */
bool sl_mul_size(size_t a, size_t b, size_t *out);
bool sl_add_size(size_t a, size_t b, size_t *out);

/* Testing: make the n-th allocation from now fail once (1 = the next); 0 switches it off.
 * Returns how many allocations were made since the last call. */
uint64_t sl_alloc_fail_at(uint64_t n);

#endif
