/* protocol/http_rules.c - what a complete header section means: target, host, framing, connection.
 *
 * See http_internal.h.  The guard has already refused everything that is wrong byte by byte. */
#include <string.h>

#include "base/assert.h"
#include "protocol/http_internal.h"

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* ASCII only, whatever the locale. */
static bool same_text(const char *a, const char *b)
{
    for (; *a != '\0' && lower(*a) == lower(*b); a++, b++)
        ;
    return lower(*a) == lower(*b);
}

static bool same_bytes(const char *a, size_t a_len, const char *b, size_t b_len)
{
    if (a_len != b_len)
        return false;
    for (size_t i = 0; i < a_len; i++)
        if (lower(a[i]) != lower(b[i]))
            return false;
    return true;
}

const char *sl_http_head_find(const sl_http_head *head, const char *name)
{
    for (uint32_t i = 0; i < head->count; i++)
        if (same_text(head->text.data + head->field[i].name, name))
            return head->text.data + head->field[i].value;
    return NULL;
}

static uint32_t count_of(const sl_http_head *head, const char *name)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < head->count; i++)
        n += same_text(head->text.data + head->field[i].name, name);
    return n;
}

/* Does a comma-separated header, in any of its lines, hold this word? */
static bool lists(const sl_http_head *head, const char *name, const char *word)
{
    for (uint32_t i = 0; i < head->count; i++) {
        const char *p = head->text.data + head->field[i].value;

        if (!same_text(head->text.data + head->field[i].name, name))
            continue;
        while (*p != '\0') {
            size_t n;

            p += strspn(p, ", \t");
            n = strcspn(p, ",");
            while (n > 0 && (p[n - 1] == ' ' || p[n - 1] == '\t'))
                n--;
            if (same_bytes(p, n, word, strlen(word)))
                return true;
            p += strcspn(p, ",");
        }
    }
    return false;
}

/* --- target ------------------------------------------------------------------------------- */

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decode n bytes of a path into head->text.  The source lies in the same buffer, which may move:
 * it is addressed by offset. */
static sl_status decode_path(sl_http_head *head, size_t from, size_t n, sl_http_fault *fault)
{
    for (size_t i = 0; i < n; i++) {
        char c = head->text.data[from + i];

        if (c == '%') {
            const int high = i + 2 < n ? hex_value(head->text.data[from + i + 1]) : -1;
            const int low = i + 2 < n ? hex_value(head->text.data[from + i + 2]) : -1;

            if (high < 0 || low < 0)
                return sl_http_fail(fault, SL_EFORMAT, "the path holds an invalid % escape");
            c = (char)(high << 4 | low);
            i += 2;
            if ((unsigned char)c < 0x20 || c == 0x7F)
                return sl_http_fail(fault, SL_EFORMAT, "the path holds a control character");
        }
        sl_buf_add_char(&head->text, c);
    }
    return SL_OK;
}

/* The authority of an absolute target must be the Host header's (or Host is missing, in 1.0). */
static bool authority_fits(const sl_http_head *head, const char *authority, size_t n)
{
    const char *host = sl_http_head_find(head, "host");

    if (n == 0 || memchr(authority, '@', n) != NULL)
        return false;
    return host == NULL || same_bytes(authority, n, host, strlen(host));
}

static sl_status read_target(sl_http_head *head, sl_http_request *request, sl_http_fault *fault)
{
    const char *target = head->text.data;
    size_t begin = 0, path_len, path_at;
    sl_status status;

    if (same_bytes(target, strlen(target) < 7 ? 0 : 7, "http://", 7))
        begin = 7;
    else if (same_bytes(target, strlen(target) < 8 ? 0 : 8, "https://", 8))
        begin = 8;
    if (begin > 0) {
        const size_t n = strcspn(target + begin, "/?");

        if (!authority_fits(head, target + begin, n))
            return sl_http_fail(fault, SL_EFORMAT, "the target's host is not the Host header's");
        begin += n;
    } else if (target[0] != '/' &&
               !(target[0] == '*' && target[1] == '\0' && request->method == SL_HTTP_OPTIONS)) {
        return sl_http_fail(fault, SL_EFORMAT, "the target is neither a path nor an http URL");
    }
    path_len = strcspn(target + begin, "?");
    path_at = head->text.len;
    if (path_len == 0)
        sl_buf_add_char(&head->text, '/');
    status = decode_path(head, begin, path_len, fault);
    if (status != SL_OK)
        return status;
    sl_buf_add_char(&head->text, '\0');
    if (head->text.failed)
        return sl_http_fail(fault, SL_ENOMEM, "out of memory");
    /* Nothing is appended from here on: pointers hold. */
    request->path = head->text.data + path_at;
    request->query = head->text.data + begin + path_len;
    if (*request->query == '?')
        request->query++;
    return SL_OK;
}

/* --- host --------------------------------------------------------------------------------- */

/* The characters of uri-host [":" port]; empty is allowed (RFC 9112, 3.2). */
static bool host_valid(const char *host)
{
    for (; *host != '\0'; host++) {
        const bool alnum =
            (*host >= '0' && *host <= '9') || (lower(*host) >= 'a' && lower(*host) <= 'z');

        if (!alnum && strchr("-._~!$&'()*+;=%:[]", *host) == NULL)
            return false;
    }
    return true;
}

static sl_status check_host(const sl_http_head *head, bool http10, sl_http_fault *fault)
{
    const uint32_t n = count_of(head, "host");

    if (n == 0 && !http10)
        return sl_http_fail(fault, SL_EFORMAT, "HTTP/1.1 needs a Host header");
    if (n > 1)
        return sl_http_fail(fault, SL_EFORMAT, "more than one Host header");
    if (n == 1 && !host_valid(sl_http_head_find(head, "host")))
        return sl_http_fail(fault, SL_EFORMAT, "the Host header is not valid");
    return SL_OK;
}

/* --- framing ------------------------------------------------------------------------------ */

static sl_status read_coding(const sl_http_head *head, sl_http_request *request,
                             sl_http_fault *fault)
{
    const char *coding = sl_http_head_find(head, "transfer-encoding");

    if (coding == NULL)
        return SL_OK;
    if (request->http10)
        return sl_http_fail(fault, SL_EFORMAT, "Transfer-Encoding in HTTP/1.0");
    if (count_of(head, "transfer-encoding") > 1)
        return sl_http_fail(fault, SL_EFORMAT, "more than one Transfer-Encoding header");
    if (sl_http_head_find(head, "content-length") != NULL)
        return sl_http_fail(fault, SL_EFORMAT, "both Transfer-Encoding and Content-Length");
    if (!same_text(coding, "chunked"))
        return sl_http_fail(fault, SL_EUNSUPPORTED, "the only transfer coding served is chunked");
    request->chunked = true;
    return SL_OK;
}

static sl_status read_length(const sl_http_head *head, uint64_t body_limit,
                             sl_http_request *request, sl_http_fault *fault)
{
    const char *text = sl_http_head_find(head, "content-length");
    uint64_t length = 0;

    if (text == NULL)
        return SL_OK;
    if (count_of(head, "content-length") > 1)
        return sl_http_fail(fault, SL_EFORMAT, "more than one Content-Length header");
    if (*text == '\0')
        return sl_http_fail(fault, SL_EFORMAT, "Content-Length is not a number");
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9')
            return sl_http_fail(fault, SL_EFORMAT, "Content-Length is not a number");
        if (length > (UINT64_MAX - 9) / 10)
            return sl_http_fail(fault, SL_EFORMAT, "Content-Length is not a number of 64 bits");
        length = length * 10 + (uint64_t)(*text - '0');
    }
    if (length > body_limit)
        return sl_http_fail(fault, SL_ETOOBIG, "the body is too large");
    request->content_length = length;
    return SL_OK;
}

sl_status sl_http_rules_apply(sl_http_head *head, uint64_t body_limit, sl_http_request *request,
                              sl_http_fault *fault)
{
    const char *encoding;

    if (check_host(head, request->http10, fault) != SL_OK ||
        read_coding(head, request, fault) != SL_OK ||
        read_length(head, body_limit, request, fault) != SL_OK ||
        read_target(head, request, fault) != SL_OK)
        return fault->status;
    encoding = sl_http_head_find(head, "content-encoding");
    if (encoding != NULL &&
        (count_of(head, "content-encoding") > 1 || !same_text(encoding, "identity")))
        return sl_http_fail(fault, SL_EMEDIA, "encoded bodies are not served");
    /* RFC 9112, 9.3.  "close" wins over "keep-alive". */
    request->keep_alive = !lists(head, "connection", "close") &&
                          (!request->http10 || lists(head, "connection", "keep-alive"));
    request->expect_continue = !request->http10 && lists(head, "expect", "100-continue") &&
                               (request->chunked || request->content_length > 0);
    return SL_OK;
}
