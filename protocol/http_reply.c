/* protocol/http_reply.c - heads and chunks of replies; see http.h */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/assert.h"
#include "base/clock.h"
#include "protocol/http.h"

static const char *reason_of(int http_status)
{
    static const struct {
        int status;
        const char *reason;
    } table[] = {
        {100, "Continue"},
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {304, "Not Modified"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {411, "Length Required"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {417, "Expectation Failed"},
        {421, "Misdirected Request"},
        {422, "Unprocessable Content"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {499, "Client Closed Request"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        if (table[i].status == http_status)
            return table[i].reason;
    return "Unknown";
}

/* IMF-fixdate of the present second, in English whatever the locale; made once a second. */
static const char *date_now(void)
{
    static const char day[][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char month[][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                    "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    static _Thread_local char text[64];
    static _Thread_local int64_t made_for = -1;
    const int64_t now_s = sl_clock_unix_s();

    if (now_s != made_for) {
        const time_t t = (time_t)now_s;
        struct tm tm;

        SL_ASSERT(gmtime_r(&t, &tm) != NULL);
        snprintf(text, sizeof(text), "%s, %02d %s %04d %02d:%02d:%02d GMT", day[tm.tm_wday],
                 tm.tm_mday, month[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
        made_for = now_s;
    }
    return text;
}

void sl_http_write_head(sl_buf *out, int http_status, const char *content_type,
                        size_t content_length, bool keep_alive, const char *extra)
{
    const bool bodyless = http_status < 200 || http_status == 204 || http_status == 304;

    SL_ASSERT(http_status >= 100 && http_status <= 599);
    SL_ASSERT(!(content_length == SL_HTTP_UNTIL_CLOSE && keep_alive && !bodyless));
    sl_buf_addf(out, "HTTP/1.1 %d %s\r\nDate: %s\r\n", http_status, reason_of(http_status),
                date_now());
    if (content_type != NULL)
        sl_buf_addf(out, "Content-Type: %s\r\n", content_type);
    if (bodyless || content_length == SL_HTTP_UNTIL_CLOSE)
        ;
    else if (content_length == SL_HTTP_CHUNKED)
        sl_buf_add_str(out, "Transfer-Encoding: chunked\r\n");
    else
        sl_buf_addf(out, "Content-Length: %zu\r\n", content_length);
    sl_buf_add_str(out, keep_alive ? "Connection: keep-alive\r\n" : "Connection: close\r\n");
    if (extra != NULL)
        sl_buf_add_str(out, extra);
    sl_buf_add_str(out, "\r\n");
}

void sl_http_write_chunk(sl_buf *out, const char *data, size_t n)
{
    if (n == 0) /* an empty chunk would end the body */
        return;
    sl_buf_addf(out, "%zx\r\n", n);
    sl_buf_add(out, data, n);
    sl_buf_add_str(out, "\r\n");
}

void sl_http_write_last_chunk(sl_buf *out)
{
    sl_buf_add_str(out, "0\r\n\r\n");
}
