/* server/sha256.h - the SHA-256 hash (FIPS 180-4), for keys and salts.
 *
 * Small and plain: it hashes a few dozen bytes a request.  Thread: any. */
#ifndef SL_SERVER_SHA256_H
#define SL_SERVER_SHA256_H

#include <stddef.h>
#include <stdint.h>

enum { SL_SHA256_BYTES = 32, SL_SHA256_BLOCK_BYTES = 64 };

typedef struct sl_sha256 {
    uint32_t state[8];
    uint64_t bytes; /* hashed so far */
    uint8_t block[SL_SHA256_BLOCK_BYTES];
} sl_sha256;

void sl_sha256_init(sl_sha256 *hash);
void sl_sha256_add(sl_sha256 *hash, const void *data, size_t n);
/* The digest; the state is wiped. */
void sl_sha256_done(sl_sha256 *hash, uint8_t digest[SL_SHA256_BYTES]);

/* All at once. */
void sl_sha256_of(const void *data, size_t n, uint8_t digest[SL_SHA256_BYTES]);

#endif
