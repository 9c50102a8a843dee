/* protocol/http_guard.c - the byte-level reader that keeps the limits; see http_internal.h.
 *
 * One state and one step per byte: what it says about a byte depends on the bytes before it and
 * on nothing else, which is why splits cannot matter.  Only bodies are skipped in bulk.
 *
 * Grammar: RFC 9112, without what it allows for old peers' sake: no bare LF, no folded lines, no
 * white space around a chunk size. */
#include <string.h>

#include "base/assert.h"
#include "protocol/http_internal.h"

enum {
    METHOD_MAX = 32,
    SIZE_DIGITS_MAX = 16 /* of a chunk size; leading zeros count */
};

static const char version_text[] = "HTTP/1.";

void sl_http_guard_init(sl_http_guard *g, uint64_t body_limit)
{
    *g = (sl_http_guard){.body_limit = body_limit};
}

bool sl_http_is_token(unsigned char c)
{
    if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
        return true;
    return c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL;
}

/* May stand inside a field value or a chunk extension: anything but control characters. */
static bool is_text(unsigned char c)
{
    return c == '\t' || (c >= 0x20 && c != 0x7F);
}

static sl_status step_before(sl_http_guard *g, unsigned char c, sl_http_fault *fault)
{
    if (g->state == SL_GUARD_START_LF) {
        if (c != '\n')
            return sl_http_fail(fault, SL_EFORMAT, "a CR without LF before the request line");
        if (++g->empty_lines > SL_HTTP_EMPTY_LINES_MAX)
            return sl_http_fail(fault, SL_EFORMAT, "too many empty lines before the request");
        g->state = SL_GUARD_START;
        return SL_OK;
    }
    if (c == '\r') {
        g->state = SL_GUARD_START_LF;
        return SL_OK;
    }
    if (!sl_http_is_token(c))
        return sl_http_fail(fault, SL_EFORMAT, "the request does not begin with a method");
    g->state = SL_GUARD_METHOD;
    g->position = 1;
    return SL_OK;
}

static sl_status step_version(sl_http_guard *g, unsigned char c, sl_http_fault *fault)
{
    const uint32_t prefix = sizeof(version_text) - 1;
    const uint32_t at = g->position++;

    if (at < prefix && c == (unsigned char)version_text[at])
        return SL_OK;
    if (at == prefix && (c == '0' || c == '1')) {
        g->minor = (uint8_t)(c - '0');
        return SL_OK;
    }
    if (at == prefix + 1 && c == '\r') {
        g->state = SL_GUARD_LINE_LF;
        return SL_OK;
    }
    return sl_http_fail(fault, SL_EFORMAT, "the request line must end in HTTP/1.1 or HTTP/1.0");
}

static sl_status step_request_line(sl_http_guard *g, unsigned char c, sl_http_fault *fault)
{
    switch (g->state) {
    case SL_GUARD_METHOD:
        if (c == ' ') {
            g->state = SL_GUARD_TARGET;
            g->position = 0;
            return SL_OK;
        }
        if (!sl_http_is_token(c) || ++g->position > METHOD_MAX)
            return sl_http_fail(fault, SL_EFORMAT, "the method is not valid");
        return SL_OK;
    case SL_GUARD_TARGET:
        if (c == ' ' && g->position > 0) {
            g->state = SL_GUARD_VERSION;
            g->position = 0;
            return SL_OK;
        }
        if (c <= 0x20 || c >= 0x7F || c == '#')
            return sl_http_fail(fault, SL_EFORMAT, "a character is not allowed in the target");
        if (++g->position > SL_HTTP_URI_MAX)
            return sl_http_fail(fault, SL_ETOOLONGURI, "the request target is too long");
        return SL_OK;
    case SL_GUARD_VERSION:
        return step_version(g, c, fault);
    default:
        if (c != '\n')
            return sl_http_fail(fault, SL_EFORMAT, "a CR without LF after the request line");
        g->state = SL_GUARD_FIELD;
        return SL_OK;
    }
}

/* First byte of a line of the header or trailer section. */
static sl_status step_field_begin(sl_http_guard *g, unsigned char c, sl_http_fault *fault)
{
    if (c == '\r') {
        g->state = SL_GUARD_SECTION_LF;
        return SL_OK;
    }
    if (c == ' ' || c == '\t')
        return sl_http_fail(fault, SL_EFORMAT, "a header line begins with white space");
    if (!sl_http_is_token(c))
        return sl_http_fail(fault, SL_EFORMAT, "a header's name is not valid");
    if (++g->fields > SL_HTTP_HEADERS_MAX)
        return sl_http_fail(fault, SL_EHEADERS, "too many headers");
    g->state = SL_GUARD_NAME;
    g->position = 1;
    return SL_OK;
}

static sl_status step_field_line(sl_http_guard *g, unsigned char c, sl_http_fault *fault)
{
    if (g->state == SL_GUARD_VALUE && c == '\r') {
        g->state = SL_GUARD_VALUE_LF;
        return SL_OK;
    }
    if (++g->position > SL_HTTP_HEADER_LINE_MAX)
        return sl_http_fail(fault, SL_EHEADERS, "a header is too long");
    if (g->state == SL_GUARD_NAME) {
        if (c == ':')
            g->state = SL_GUARD_VALUE;
        else if (!sl_http_is_token(c))
            return sl_http_fail(fault, SL_EFORMAT, "a header's name is not valid");
    } else if (!is_text(c)) {
        return sl_http_fail(fault, SL_EFORMAT, "a header's value holds a control character");
    }
    return SL_OK;
}

static sl_status step_section(sl_http_guard *g, unsigned char c, sl_http_fault *fault)
{
    if (++g->section_bytes > SL_HTTP_HEADERS_BYTES_MAX)
        return sl_http_fail(fault, SL_EHEADERS, "the header section is too large");
    switch (g->state) {
    case SL_GUARD_FIELD:
        return step_field_begin(g, c, fault);
    case SL_GUARD_NAME:
    case SL_GUARD_VALUE:
        return step_field_line(g, c, fault);
    case SL_GUARD_VALUE_LF:
        g->state = SL_GUARD_FIELD;
        break;
    default:
        g->state = g->trailer ? SL_GUARD_DONE : SL_GUARD_DECIDE;
    }
    if (c != '\n')
        return sl_http_fail(fault, SL_EFORMAT, "a CR without LF in the header section");
    return SL_OK;
}

static int hex_digit(unsigned char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

static sl_status step_size(sl_http_guard *g, unsigned char c, sl_http_fault *fault)
{
    const int digit = hex_digit(c);

    if (digit >= 0) {
        if (++g->position > SIZE_DIGITS_MAX)
            return sl_http_fail(fault, SL_EFORMAT, "a chunk's size has too many digits");
        /* Every step is checked, so that the product stays far from overflow. */
        if (g->left > UINT64_MAX >> 4)
            return sl_http_fail(fault, SL_ETOOBIG, "the body is too large");
        g->left = g->left << 4 | (uint64_t)digit;
        if (g->left > g->body_limit - g->body_bytes)
            return sl_http_fail(fault, SL_ETOOBIG, "the body is too large");
        return SL_OK;
    }
    if (g->position == 0 || (c != ';' && c != '\r'))
        return sl_http_fail(fault, SL_EFORMAT, "a chunk's size is not valid");
    g->state = c == ';' ? SL_GUARD_EXT : SL_GUARD_SIZE_LF;
    return SL_OK;
}

static sl_status step_chunk(sl_http_guard *g, unsigned char c, sl_http_fault *fault)
{
    switch (g->state) {
    case SL_GUARD_SIZE:
        return step_size(g, c, fault);
    case SL_GUARD_EXT:
        if (c == '\r') {
            g->state = SL_GUARD_SIZE_LF;
            return SL_OK;
        }
        if (!is_text(c))
            return sl_http_fail(fault, SL_EFORMAT, "a chunk extension holds a control character");
        if (++g->extension_bytes > SL_HTTP_CHUNK_EXT_MAX)
            return sl_http_fail(fault, SL_EFORMAT, "the chunk extensions are too long");
        return SL_OK;
    case SL_GUARD_SIZE_LF:
        if (c != '\n')
            return sl_http_fail(fault, SL_EFORMAT, "a CR without LF after a chunk's size");
        g->trailer = g->left == 0;
        g->state = g->trailer ? SL_GUARD_FIELD : SL_GUARD_DATA;
        return SL_OK;
    case SL_GUARD_DATA_CR:
        g->state = SL_GUARD_DATA_LF;
        if (c != '\r')
            return sl_http_fail(fault, SL_EFORMAT, "a chunk's data does not end at its size");
        return SL_OK;
    default:
        if (c != '\n')
            return sl_http_fail(fault, SL_EFORMAT, "a chunk's data does not end at its size");
        g->state = SL_GUARD_SIZE;
        g->position = 0;
        return SL_OK;
    }
}

/* One byte that is not of a body. */
static sl_status step(sl_http_guard *g, unsigned char c, sl_http_fault *fault)
{
    if (g->trailer || g->state >= SL_GUARD_SIZE) {
        if (++g->overhead_bytes > g->body_bytes + SL_HTTP_CHUNK_OVERHEAD_MAX)
            return sl_http_fail(fault, SL_EFORMAT, "the body comes in too many small chunks");
    }
    if (g->state <= SL_GUARD_START_LF)
        return step_before(g, c, fault);
    if (g->state <= SL_GUARD_LINE_LF)
        return step_request_line(g, c, fault);
    if (g->state <= SL_GUARD_SECTION_LF)
        return step_section(g, c, fault);
    return step_chunk(g, c, fault);
}

static void body_end(sl_http_guard *g)
{
    if (g->left > 0)
        return;
    g->state = g->state == SL_GUARD_DATA ? SL_GUARD_DATA_CR : SL_GUARD_DONE;
}

sl_status sl_http_guard_run(sl_http_guard *g, const char *data, size_t n, size_t *used,
                            sl_http_fault *fault)
{
    size_t i = 0;

    while (i < n && g->state != SL_GUARD_DECIDE && g->state != SL_GUARD_DONE) {
        if (g->state == SL_GUARD_BODY || g->state == SL_GUARD_DATA) {
            const size_t take = n - i < g->left ? n - i : (size_t)g->left;

            i += take;
            g->left -= take;
            g->body_bytes += take;
            body_end(g);
            continue;
        }
        if (step(g, (unsigned char)data[i], fault) != SL_OK)
            break;
        i++;
    }
    *used = i;
    return fault->status;
}

void sl_http_guard_body(sl_http_guard *g, bool chunked, uint64_t content_length)
{
    SL_ASSERT(g->state == SL_GUARD_DECIDE);
    g->left = chunked ? 0 : content_length;
    g->position = 0;
    g->state = chunked ? SL_GUARD_SIZE : SL_GUARD_BODY;
    if (!chunked)
        body_end(g);
}
