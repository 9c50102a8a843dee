/* server/keys.h - API keys: read from a file once, kept as digests only, compared in constant time.
 *
 * The file has one key a line; empty lines and lines that begin with '#' are skipped, white space
 * around a key is not part of it.  The keys themselves are wiped from memory after hashing.
 *
 * Thread: loop (create: main). */
#ifndef SL_SERVER_KEYS_H
#define SL_SERVER_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum {
    SL_KEYS_MAX = 1024,     /* keys of a file */
    SL_KEY_BYTES_MAX = 512, /* of one key */
    SL_KEYS_FILE_MAX = 1 << 20
};

typedef struct sl_keys sl_keys;

#define SL_KEY_NONE UINT32_MAX

/* Errors: SL_EIO (the file), SL_EINVAL (no key in it, too many, one too long or with characters
 * that a header cannot carry: the sentence names the line, never the key), SL_ENOMEM. */
SL_MUST_CHECK sl_status sl_keys_create(const char *path, sl_keys **out, sl_err *err);
/* NULL is allowed. */
void sl_keys_destroy(sl_keys *keys);

uint32_t sl_keys_count(const sl_keys *keys);

/* Which key this is, or SL_KEY_NONE.  The time taken depends on n and on the number of keys, not on
 * which key matches or on how much of one. */
uint32_t sl_keys_find(const sl_keys *keys, const char *key, size_t n);

/* The key that a request carries: `authorization` "Bearer KEY", else `x_api_key`; either may be
 * NULL.  *n is its length; NULL if there is none. */
const char *sl_keys_presented(const char *authorization, const char *x_api_key, size_t *n);

/* A number that separates the prefix cache of key `index` from those of other keys and of other
 * salts; `secret` is the process's own.  0 without key and salt: all share. */
uint64_t sl_keys_salt(const sl_keys *keys, uint32_t index, const char *cache_salt,
                      const uint8_t secret[32]);

#endif
