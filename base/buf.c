/* base/buf.c - see buf.h */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"

void sl_buf_init(sl_buf *buf, size_t limit)
{
    *buf = (sl_buf){.limit = limit};
}

void sl_buf_done(sl_buf *buf)
{
    sl_free(buf->data);
    *buf = (sl_buf){0};
}

void sl_buf_reset(sl_buf *buf)
{
    buf->len = 0;
    buf->failed = false;
}

/* Room for n more bytes and a NUL. */
static bool grow(sl_buf *buf, size_t n)
{
    size_t want, capacity;
    char *data;

    if (buf->failed)
        return false;
    if (!sl_add_size(buf->len, n, &want) || want > buf->limit || want == SIZE_MAX) {
        buf->failed = true;
        return false;
    }
    if (want + 1 <= buf->capacity)
        return true;
    capacity = buf->capacity < 128 ? 256 : buf->capacity * 2;
    if (capacity < want + 1)
        capacity = want + 1;
    data = sl_realloc(buf->data, capacity, 1);
    if (data == NULL) {
        buf->failed = true;
        return false;
    }
    buf->data = data;
    buf->capacity = capacity;
    return true;
}

void sl_buf_add(sl_buf *buf, const void *bytes, size_t n)
{
    if (n == 0 || !grow(buf, n))
        return;
    memcpy(buf->data + buf->len, bytes, n);
    buf->len += n;
}

void sl_buf_add_str(sl_buf *buf, const char *text)
{
    sl_buf_add(buf, text, strlen(text));
}

void sl_buf_add_char(sl_buf *buf, char c)
{
    sl_buf_add(buf, &c, 1);
}

void sl_buf_addf(sl_buf *buf, const char *format, ...)
{
    va_list args, again;
    int n;

    va_start(args, format);
    va_copy(again, args);
    n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0)
        buf->failed = true;
    else if (grow(buf, (size_t)n)) {
        vsnprintf(buf->data + buf->len, (size_t)n + 1, format, again);
        buf->len += (size_t)n;
    }
    va_end(again);
}

static void add_json_char(sl_buf *buf, uint32_t code, const char *bytes, size_t n)
{
    switch (code) {
    case '"':
        sl_buf_add_str(buf, "\\\"");
        break;
    case '\\':
        sl_buf_add_str(buf, "\\\\");
        break;
    case '\n':
        sl_buf_add_str(buf, "\\n");
        break;
    case '\r':
        sl_buf_add_str(buf, "\\r");
        break;
    case '\t':
        sl_buf_add_str(buf, "\\t");
        break;
    case UINT32_MAX:
        sl_buf_add_str(buf, "\xEF\xBF\xBD");
        break;
    default:
        if (code < 0x20)
            sl_buf_addf(buf, "\\u%04x", (unsigned)code);
        else
            sl_buf_add(buf, bytes, n);
    }
}

void sl_buf_add_json(sl_buf *buf, const char *text, size_t n)
{
    sl_buf_add_char(buf, '"');
    for (size_t i = 0; i < n;) {
        size_t plain = i;
        uint32_t code;
        size_t len;

        while (plain < n && (unsigned char)text[plain] >= 0x20 &&
               (unsigned char)text[plain] < 0x80 && text[plain] != '"' && text[plain] != '\\')
            plain++;
        sl_buf_add(buf, text + i, plain - i);
        i = plain;
        if (i == n)
            break;
        len = sl_utf8_next(text + i, n - i, &code);
        add_json_char(buf, code, text + i, len);
        i += len;
    }
    sl_buf_add_char(buf, '"');
}

void sl_buf_consume(sl_buf *buf, size_t n)
{
    SL_ASSERT(n <= buf->len);
    buf->len -= n;
    if (n > 0 && buf->len > 0)
        memmove(buf->data, buf->data + n, buf->len);
}

const char *sl_buf_text(sl_buf *buf)
{
    if (!grow(buf, 0))
        return NULL;
    buf->data[buf->len] = '\0';
    return buf->data;
}

size_t sl_utf8_next(const char *data, size_t n, uint32_t *code)
{
    const uint8_t *p = (const uint8_t *)data;
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    uint32_t c = p[0];
    size_t len;

    SL_ASSERT(n > 0);
    *code = UINT32_MAX;
    if (c < 0x80) {
        *code = c;
        return 1;
    }
    if (c >= 0xC2 && c <= 0xDF) {
        len = 2;
        c &= 0x1F;
    } else if (c >= 0xE0 && c <= 0xEF) {
        len = 3;
        c &= 0x0F;
    } else if (c >= 0xF0 && c <= 0xF4) {
        len = 4;
        c &= 0x07;
    } else {
        return 1;
    }
    if (len > n)
        return 1;
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xC0) != 0x80)
            return 1;
        c = c << 6 | (p[i] & 0x3F);
    }
    if (c < least[len] || c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF))
        return 1;
    *code = c;
    return len;
}

size_t sl_utf8_put(uint32_t code, char out[4])
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xC0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3F));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xE0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3F));
        out[2] = (char)(0x80 | (code & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 0x3F));
    out[2] = (char)(0x80 | (code >> 6 & 0x3F));
    out[3] = (char)(0x80 | (code & 0x3F));
    return 4;
}

bool sl_utf8_valid(const char *data, size_t n)
{
    for (size_t i = 0; i < n;) {
        uint32_t code;

        i += sl_utf8_next(data + i, n - i, &code);
        if (code == UINT32_MAX)
            return false;
    }
    return true;
}

/* Could the k bytes at p be the start of a longer valid character?  The second byte narrows the
 * ranges of E0, ED, F0 and F4. */
static bool may_continue(const uint8_t *p, size_t k)
{
    const uint8_t c = p[0];
    const size_t want = c >= 0xF0 && c <= 0xF4   ? 4
                        : c >= 0xE0 && c <= 0xEF ? 3
                        : c >= 0xC2 && c <= 0xDF ? 2
                                                 : 0;
    if (want <= k)
        return false;
    if (k >= 2) {
        if ((c == 0xE0 && p[1] < 0xA0) || (c == 0xED && p[1] > 0x9F) ||
            (c == 0xF0 && p[1] < 0x90) || (c == 0xF4 && p[1] > 0x8F))
            return false;
    }
    for (size_t i = 1; i < k; i++)
        if ((p[i] & 0xC0) != 0x80)
            return false;
    return true;
}

size_t sl_utf8_whole(const char *data, size_t n)
{
    const uint8_t *p = (const uint8_t *)data;

    for (size_t k = 1; k <= 3 && k <= n; k++)
        if ((p[n - k] & 0xC0) == 0xC0)
            return may_continue(p + n - k, k) ? n - k : n;
    return n;
}

size_t sl_reader_left(const sl_reader *r)
{
    return r->len - r->pos;
}

bool sl_read_bytes(sl_reader *r, size_t n, const uint8_t **out)
{
    if (n > sl_reader_left(r))
        return false;
    *out = r->data + r->pos;
    r->pos += n;
    return true;
}

static bool read_le(sl_reader *r, size_t n, uint64_t *out)
{
    const uint8_t *p;
    uint64_t value = 0;

    if (!sl_read_bytes(r, n, &p))
        return false;
    for (size_t i = 0; i < n; i++)
        value |= (uint64_t)p[i] << (8 * i);
    *out = value;
    return true;
}

bool sl_read_u8(sl_reader *r, uint8_t *out)
{
    uint64_t v;

    if (!read_le(r, 1, &v))
        return false;
    *out = (uint8_t)v;
    return true;
}

bool sl_read_u16(sl_reader *r, uint16_t *out)
{
    uint64_t v;

    if (!read_le(r, 2, &v))
        return false;
    *out = (uint16_t)v;
    return true;
}

bool sl_read_u32(sl_reader *r, uint32_t *out)
{
    uint64_t v;

    if (!read_le(r, 4, &v))
        return false;
    *out = (uint32_t)v;
    return true;
}

bool sl_read_u64(sl_reader *r, uint64_t *out)
{
    return read_le(r, 8, out);
}
