/* server/keys.c - see keys.h */
#include "server/keys.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/alloc.h"
#include "server/sha256.h"

struct sl_keys {
    uint32_t count;
    uint8_t digest[SL_KEYS_MAX][SL_SHA256_BYTES];
};

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

/* One line of the file, without its newline. */
static sl_status add_line(sl_keys *keys, const char *line, size_t n, unsigned number, sl_err *err)
{
    while (n > 0 && is_space(line[0])) {
        line++;
        n--;
    }
    while (n > 0 && is_space(line[n - 1]))
        n--;
    if (n == 0 || line[0] == '#')
        return SL_OK;
    if (n > SL_KEY_BYTES_MAX)
        return sl_fail(err, SL_EINVAL, "line %u: a key is longer than %d bytes", number,
                       SL_KEY_BYTES_MAX);
    for (size_t i = 0; i < n; i++)
        if (line[i] < 0x21 || line[i] > 0x7E)
            return sl_fail(err, SL_EINVAL,
                           "line %u: a key may hold printable ASCII without spaces only", number);
    if (keys->count == SL_KEYS_MAX)
        return sl_fail(err, SL_EINVAL, "line %u: more than %d keys", number, SL_KEYS_MAX);
    sl_sha256_of(line, n, keys->digest[keys->count++]);
    return SL_OK;
}

static sl_status add_lines(sl_keys *keys, const char *text, size_t n, sl_err *err)
{
    unsigned number = 1;
    size_t at = 0;

    while (at < n) {
        const char *newline = memchr(text + at, '\n', n - at);
        const size_t len = newline == NULL ? n - at : (size_t)(newline - text) - at;
        const sl_status status = add_line(keys, text + at, len, number++, err);

        if (status != SL_OK)
            return status;
        at += len + 1;
    }
    if (keys->count == 0)
        return sl_fail(err, SL_EINVAL, "it holds no key");
    return SL_OK;
}

sl_status sl_keys_create(const char *path, sl_keys **out, sl_err *err)
{
    sl_keys *keys = NULL;
    char *text = NULL;
    sl_err inner = {0};
    sl_status status;
    size_t n = 0;
    FILE *f;

    f = fopen(path, "re");
    if (f == NULL)
        return sl_fail(err, SL_EIO, "cannot read the key file '%.200s': %s", path, strerror(errno));
    text = sl_alloc(SL_KEYS_FILE_MAX + 1, 1);
    keys = sl_alloc(1, sizeof(*keys));
    if (text == NULL || keys == NULL) {
        status = sl_fail(err, SL_ENOMEM, "out of memory for the key file");
        goto out;
    }
    n = fread(text, 1, SL_KEYS_FILE_MAX + 1, f);
    if (ferror(f)) {
        status =
            sl_fail(err, SL_EIO, "cannot read the key file '%.200s': %s", path, strerror(errno));
        goto out;
    }
    status = n > SL_KEYS_FILE_MAX
                 ? sl_fail(&inner, SL_EINVAL, "it is larger than %d bytes", SL_KEYS_FILE_MAX)
                 : add_lines(keys, text, n, &inner);
    if (status != SL_OK) {
        (void)sl_fail(err, status, "key file '%.200s': %s", path, inner.text);
        goto out;
    }
    *out = keys;
    keys = NULL;
out:
    if (text != NULL)
        explicit_bzero(text, n);
    sl_free(text);
    sl_keys_destroy(keys);
    fclose(f);
    return status;
}

void sl_keys_destroy(sl_keys *keys)
{
    if (keys != NULL)
        explicit_bzero(keys, sizeof(*keys));
    sl_free(keys);
}

uint32_t sl_keys_count(const sl_keys *keys)
{
    return keys->count;
}

/* 0 if equal; every byte is looked at. */
static uint32_t difference(const uint8_t *a, const uint8_t *b)
{
    uint32_t d = 0;

    for (int i = 0; i < SL_SHA256_BYTES; i++)
        d |= (uint32_t)(a[i] ^ b[i]);
    return d;
}

uint32_t sl_keys_find(const sl_keys *keys, const char *key, size_t n)
{
    uint8_t digest[SL_SHA256_BYTES];
    uint32_t found = SL_KEY_NONE;

    sl_sha256_of(key, n, digest);
    for (uint32_t i = 0; i < keys->count; i++) {
        /* All ones where the digests are equal, chosen without a branch. */
        const uint32_t equal = (difference(digest, keys->digest[i]) - 1u) >> 31;
        const uint32_t mask = 0u - equal;

        found = (found & ~mask) | (i & mask);
    }
    return found;
}

const char *sl_keys_presented(const char *authorization, const char *x_api_key, size_t *n)
{
    if (authorization != NULL && strncasecmp(authorization, "Bearer ", 7) == 0) {
        const char *key = authorization + 7;

        while (*key == ' ')
            key++;
        *n = strlen(key);
        return key;
    }
    if (x_api_key != NULL)
        *n = strlen(x_api_key);
    return x_api_key;
}

uint64_t sl_keys_salt(const sl_keys *keys, uint32_t index, const char *cache_salt,
                      const uint8_t secret[32])
{
    uint8_t digest[SL_SHA256_BYTES];
    uint64_t salt = 0;
    sl_sha256 hash;

    if (index == SL_KEY_NONE && cache_salt == NULL)
        return 0;
    sl_sha256_init(&hash);
    sl_sha256_add(&hash, secret, 32);
    if (index != SL_KEY_NONE)
        sl_sha256_add(&hash, keys->digest[index], SL_SHA256_BYTES);
    if (cache_salt != NULL)
        sl_sha256_add(&hash, cache_salt, strlen(cache_salt));
    sl_sha256_done(&hash, digest);
    for (int i = 0; i < 8; i++)
        salt = salt << 8 | digest[i];
    return salt | 1; /* never the value that means "all share" */
}
