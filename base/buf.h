/* base/buf.h - a growing byte buffer with a limit, and a bounded little-endian reader.
 *
 * sl_buf: appends remember failure (`failed`), so that a writer checks once at the end.
 * sl_reader: every read is checked against what is left; a failed read returns false and moves
 * nothing.  Thread: one at a time. */
#ifndef SL_BASE_BUF_H
#define SL_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct sl_buf {
    char *data; /* owned; not NUL-terminated unless sl_buf_text was called */
    size_t len;
    size_t capacity;
    size_t limit; /* len never exceeds this */
    bool failed;  /* an append was refused: over the limit, or out of memory */
} sl_buf;

void sl_buf_init(sl_buf *buf, size_t limit);
void sl_buf_done(sl_buf *buf);
/* Empty it and clear `failed`; keeps the memory. */
void sl_buf_reset(sl_buf *buf);

/* Append; after a failure these do nothing. */
void sl_buf_add(sl_buf *buf, const void *bytes, size_t n);
void sl_buf_add_str(sl_buf *buf, const char *text);
void sl_buf_add_char(sl_buf *buf, char c);
void sl_buf_addf(sl_buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Append as a quoted JSON string: escapes ", \ and control characters; invalid UTF-8 becomes
 * U+FFFD, so that the output is always valid JSON. */
void sl_buf_add_json(sl_buf *buf, const char *text, size_t n);

/* Drop the first n bytes (n <= len). */
void sl_buf_consume(sl_buf *buf, size_t n);

/* The bytes as a C string (a NUL is put after them), or NULL if an append failed. */
const char *sl_buf_text(sl_buf *buf);

/* Bytes 0..n of `data` that are whole UTF-8 characters: n minus a trailing part of a character
 * that more bytes could complete.  Invalid bytes count as whole. */
size_t sl_utf8_whole(const char *data, size_t n);

/* True if all n bytes are valid UTF-8 (no surrogates, no overlong forms). */
bool sl_utf8_valid(const char *data, size_t n);

/* Decode one character at data[0..n), n > 0: its length 1-4 and *code; an invalid byte gives
 * length 1 and *code = UINT32_MAX. */
size_t sl_utf8_next(const char *data, size_t n, uint32_t *code);

/* Write the UTF-8 form of a scalar value; returns 1-4. */
size_t sl_utf8_put(uint32_t code, char out[4]);

typedef struct sl_reader {
    const uint8_t *data; /* borrowed */
    size_t len;
    size_t pos;
} sl_reader;

bool sl_read_u8(sl_reader *r, uint8_t *out);
bool sl_read_u16(sl_reader *r, uint16_t *out);
bool sl_read_u32(sl_reader *r, uint32_t *out);
bool sl_read_u64(sl_reader *r, uint64_t *out);
/* Borrow the next n bytes. */
bool sl_read_bytes(sl_reader *r, size_t n, const uint8_t **out);
size_t sl_reader_left(const sl_reader *r);

#endif
