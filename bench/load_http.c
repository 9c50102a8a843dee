/* bench/load_http.c - see load_http.h */
#include "bench/load_http.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"

/* --- addresses ----------------------------------------------------------------------------- */

static sl_status parse_unix(const char *path, sl_load_target *t, sl_err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (path[0] == '/' && path[1] == '/') /* unix:///path */
        path += 2;
    if (path[0] != '/' || strlen(path) >= sizeof(address.sun_path))
        return sl_fail(err, SL_EINVAL, "--base-url: '%.120s' is no path of a UNIX socket", path);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    memcpy(&t->address, &address, sizeof(address));
    t->address_len = sizeof(address);
    snprintf(t->host, sizeof(t->host), "localhost");
    return SL_OK;
}

static sl_status look_up(const char *host, const char *port, sl_load_target *t, sl_err *err)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    const int rc = getaddrinfo(host, port, &hints, &list);

    if (rc != 0)
        return sl_fail(err, SL_EIO, "cannot find '%.200s': %s", host, gai_strerror(rc));
    memcpy(&t->address, list->ai_addr, list->ai_addrlen);
    t->address_len = list->ai_addrlen;
    t->tcp = true;
    freeaddrinfo(list);
    return SL_OK;
}

/* "host", "host:port", "[::1]:port" in text[0..n). */
static sl_status parse_authority(const char *text, size_t n, sl_load_target *t, sl_err *err)
{
    char host[256], port[8] = "80";
    const char *end = text + n, *colon = end;
    size_t len;

    if (n == 0 || n >= sizeof(t->host))
        return sl_fail(err, SL_EINVAL, "--base-url names no host");
    memcpy(t->host, text, n);
    t->host[n] = '\0';
    while (colon > text && *colon != ':' && *colon != ']')
        colon--;
    if (*colon == ':') {
        len = (size_t)(end - colon) - 1;
        if (len == 0 || len > 5 || strspn(colon + 1, "0123456789") < len)
            return sl_fail(err, SL_EINVAL, "--base-url: '%.200s' has no valid port", t->host);
        snprintf(port, sizeof(port), "%.*s", (int)len, colon + 1);
        end = colon;
    }
    if (*text == '[' && end > text + 1 && end[-1] == ']') {
        text++;
        end--;
    }
    len = (size_t)(end - text);
    if (len == 0)
        return sl_fail(err, SL_EINVAL, "--base-url names no host");
    memcpy(host, text, len);
    host[len] = '\0';
    return look_up(host, port, t, err);
}

sl_status sl_load_target_parse(const char *url, sl_load_target *out, sl_err *err)
{
    sl_load_target t = {0};
    const char *rest = url;
    sl_status status;
    size_t n;

    if (strlen(url) >= sizeof(t.url))
        return sl_fail(err, SL_EINVAL, "--base-url is too long");
    snprintf(t.url, sizeof(t.url), "%s", url);
    if (strncasecmp(url, "https://", 8) == 0)
        return sl_fail(err, SL_EINVAL,
                       "--base-url: https is not spoken here; use http://, or a proxy beside this "
                       "program");
    if (strncmp(url, "unix:", 5) == 0) {
        status = parse_unix(url + 5, &t, err);
        if (status == SL_OK)
            *out = t;
        return status;
    }
    if (strncasecmp(url, "http://", 7) == 0)
        rest += 7;
    n = strcspn(rest, "/");
    status = parse_authority(rest, n, &t, err);
    if (status != SL_OK)
        return status;
    snprintf(t.prefix, sizeof(t.prefix), "%s", rest + n);
    n = strlen(t.prefix);
    while (n > 0 && t.prefix[n - 1] == '/')
        t.prefix[--n] = '\0';
    if (n >= 3 && strcmp(t.prefix + n - 3, "/v1") == 0) /* as OpenAI's clients write it */
        t.prefix[n - 3] = '\0';
    *out = t;
    return SL_OK;
}

int sl_load_connect(const sl_load_target *target, int receive_bytes, bool *connected)
{
    const int one = 1;
    const int fd = socket(target->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int rc;

    if (fd < 0)
        return -1;
    if (target->tcp)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (receive_bytes > 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof(receive_bytes));
    do
        rc = connect(fd, (const struct sockaddr *)&target->address, target->address_len);
    while (rc != 0 && errno == EINTR);
    if (rc != 0 && errno != EINPROGRESS) {
        rc = errno;
        close(fd);
        errno = rc;
        return -1;
    }
    *connected = rc == 0;
    return fd;
}

void sl_load_write_head(const sl_load_target *target, const char *method, const char *path,
                        const char *key, size_t body_len, sl_buf *out)
{
    sl_buf_addf(out, "%s %s%s HTTP/1.1\r\nHost: %s\r\nUser-Agent: sluice-bench\r\n", method,
                target->prefix, path, target->host);
    if (strcmp(method, "POST") == 0)
        sl_buf_addf(out, "Content-Type: application/json\r\nContent-Length: %zu\r\n", body_len);
    if (key != NULL)
        sl_buf_addf(out, "Authorization: Bearer %s\r\n", key);
    sl_buf_add_str(out, "\r\n");
}

/* --- a reply ------------------------------------------------------------------------------- */

void sl_load_reply_init(sl_load_reply *reply)
{
    reply->state = SL_REPLY_STATUS_LINE;
    reply->status = 0;
    reply->chunked = reply->sized = reply->event_stream = false;
    reply->keep_alive = true;
    reply->left = 0;
    reply->head_bytes = 0;
    reply->line_len = 0;
}

static void take_status_line(sl_load_reply *r)
{
    int minor = 0, status = 0;

    if (sscanf(r->line, "HTTP/1.%1d %3d", &minor, &status) != 2 || status < 100 || status > 599) {
        r->state = SL_REPLY_BAD;
        return;
    }
    r->status = status;
    r->keep_alive = minor >= 1;
    r->state = SL_REPLY_HEADER;
}

static bool has_word(const char *text, const char *word)
{
    return strcasestr(text, word) != NULL;
}

static void take_header(sl_load_reply *r)
{
    const char *colon = strchr(r->line, ':');
    const size_t n = colon != NULL ? (size_t)(colon - r->line) : 0;
    const char *value;
    char *end;

    if (colon == NULL) {
        r->state = SL_REPLY_BAD;
        return;
    }
    value = colon + 1 + strspn(colon + 1, " \t");
    if (n == 14 && strncasecmp(r->line, "content-length", n) == 0) {
        r->left = strtoull(value, &end, 10);
        r->sized = true;
        if (*value < '0' || *value > '9' || *end != '\0')
            r->state = SL_REPLY_BAD;
    } else if (n == 17 && strncasecmp(r->line, "transfer-encoding", n) == 0)
        r->chunked = has_word(value, "chunked");
    else if (n == 10 && strncasecmp(r->line, "connection", n) == 0) {
        if (has_word(value, "close"))
            r->keep_alive = false;
        else if (has_word(value, "keep-alive"))
            r->keep_alive = true;
    } else if (n == 12 && strncasecmp(r->line, "content-type", n) == 0)
        r->event_stream = has_word(value, "text/event-stream");
}

/* The empty line after the headers. */
static void begin_body(sl_load_reply *r)
{
    if (r->status < 200) { /* "100 Continue": the reply is yet to come */
        sl_load_reply_init(r);
        return;
    }
    if (r->status == 204 || r->status == 304)
        r->state = SL_REPLY_DONE;
    else if (r->chunked)
        r->state = SL_REPLY_CHUNK_SIZE;
    else if (r->sized)
        r->state = r->left == 0 ? SL_REPLY_DONE : SL_REPLY_SIZED;
    else
        r->state = SL_REPLY_UNTIL_CLOSE;
}

static void take_chunk_size(sl_load_reply *r)
{
    const char *end = r->line;
    uint64_t size = 0;

    while (*end != '\0' && strchr("0123456789abcdefABCDEF", *end) != NULL && size < 1ull << 56) {
        const char c = *end++;

        size = size * 16 + (uint64_t)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
    }
    if (end == r->line || (*end != '\0' && *end != ';' && *end != ' ')) {
        r->state = SL_REPLY_BAD;
        return;
    }
    r->left = size;
    r->head_bytes = 0; /* the limit is for one section */
    r->state = size == 0 ? SL_REPLY_TRAILER : SL_REPLY_CHUNK_DATA;
}

static void take_line(sl_load_reply *r)
{
    const size_t n = r->line_len;

    r->line[n] = '\0';
    r->line_len = 0;
    switch (r->state) {
    case SL_REPLY_STATUS_LINE:
        if (n > 0)
            take_status_line(r);
        break;
    case SL_REPLY_HEADER:
        if (n == 0)
            begin_body(r);
        else
            take_header(r);
        break;
    case SL_REPLY_CHUNK_SIZE:
        take_chunk_size(r);
        break;
    case SL_REPLY_CHUNK_END:
        r->state = n == 0 ? SL_REPLY_CHUNK_SIZE : SL_REPLY_BAD;
        break;
    default: /* trailers */
        if (n == 0)
            r->state = SL_REPLY_DONE;
    }
}

/* Collect a line; returns what was used of the bytes. */
static size_t feed_line(sl_load_reply *r, const char *data, size_t n)
{
    const char *newline = memchr(data, '\n', n);
    const size_t used = newline != NULL ? (size_t)(newline - data) + 1 : n;
    const size_t part = newline != NULL ? used - 1 : used;

    r->head_bytes += used;
    if (r->line_len + part >= sizeof(r->line) || r->head_bytes > SL_LOAD_HEADERS_MAX ||
        memchr(data, '\0', part) != NULL) {
        r->state = SL_REPLY_BAD;
        return used;
    }
    memcpy(r->line + r->line_len, data, part);
    r->line_len += part;
    if (newline == NULL)
        return used;
    if (r->line_len > 0 && r->line[r->line_len - 1] == '\r')
        r->line_len--;
    take_line(r);
    return used;
}

size_t sl_load_reply_feed(sl_load_reply *r, const char *data, size_t n, const char **body,
                          size_t *body_len)
{
    size_t take = n;

    *body_len = 0;
    *body = data;
    switch (r->state) {
    case SL_REPLY_DONE:
    case SL_REPLY_BAD:
        return 0;
    case SL_REPLY_UNTIL_CLOSE:
        *body_len = n;
        return n;
    case SL_REPLY_SIZED:
    case SL_REPLY_CHUNK_DATA:
        if (take > r->left)
            take = (size_t)r->left;
        r->left -= take;
        *body_len = take;
        if (r->left == 0)
            r->state = r->state == SL_REPLY_SIZED ? SL_REPLY_DONE : SL_REPLY_CHUNK_END;
        return take;
    default:
        return n == 0 ? 0 : feed_line(r, data, n);
    }
}

bool sl_load_reply_closed(sl_load_reply *r)
{
    if (r->state != SL_REPLY_UNTIL_CLOSE)
        return r->state == SL_REPLY_DONE;
    r->state = SL_REPLY_DONE;
    r->keep_alive = false;
    return true;
}

/* --- small blocking calls ------------------------------------------------------------------ */

/* Wait for the socket; SL_ETIMEOUT at the deadline. */
static sl_status wait_for(int fd, short events, uint64_t deadline_us, sl_err *err)
{
    for (;;) {
        struct pollfd p = {.fd = fd, .events = events};
        const uint64_t now = sl_clock_us();
        int rc;

        if (now >= deadline_us)
            return sl_fail(err, SL_ETIMEOUT, "the server does not answer");
        rc = poll(&p, 1, (int)((deadline_us - now) / 1000) + 1);
        if (rc > 0)
            return SL_OK;
        if (rc < 0 && errno != EINTR)
            return sl_fail(err, SL_EIO, "poll: %s", strerror(errno));
    }
}

static sl_status send_all(int fd, const sl_buf *bytes, uint64_t deadline_us, sl_err *err)
{
    size_t at = 0;

    while (at < bytes->len) {
        const ssize_t n = send(fd, bytes->data + at, bytes->len - at, MSG_NOSIGNAL);

        if (n >= 0)
            at += (size_t)n;
        else if (errno == EAGAIN || errno == ENOTCONN) {
            const sl_status status = wait_for(fd, POLLOUT, deadline_us, err);

            if (status != SL_OK)
                return status;
        } else if (errno != EINTR)
            return sl_fail(err, SL_EIO, "cannot reach the server: %s (is it running?)",
                           strerror(errno));
    }
    return SL_OK;
}

static sl_status take_bytes(sl_load_reply *reply, const char *data, size_t n, sl_buf *body,
                            sl_err *err)
{
    while (n > 0 && reply->state != SL_REPLY_DONE && reply->state != SL_REPLY_BAD) {
        const char *part;
        size_t part_len;
        const size_t used = sl_load_reply_feed(reply, data, n, &part, &part_len);

        sl_buf_add(body, part, part_len);
        data += used;
        n -= used;
    }
    if (reply->state == SL_REPLY_BAD)
        return sl_fail(err, SL_EFORMAT, "what answers there speaks no HTTP");
    if (body->failed)
        return sl_fail(err, SL_ETOOBIG, "the server's answer is too large");
    return SL_OK;
}

static sl_status read_reply(int fd, sl_load_reply *reply, uint64_t deadline_us, sl_buf *body,
                            sl_err *err)
{
    char data[16 << 10];

    while (reply->state != SL_REPLY_DONE) {
        sl_status status = wait_for(fd, POLLIN, deadline_us, err);
        ssize_t n;

        if (status != SL_OK)
            return status;
        n = recv(fd, data, sizeof(data), 0);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n < 0)
            return sl_fail(err, SL_EIO, "cannot reach the server: %s (is it running?)",
                           strerror(errno));
        if (n == 0 && !sl_load_reply_closed(reply))
            return sl_fail(err, SL_EIO, "the server hung up before the end of its answer");
        status = take_bytes(reply, data, (size_t)n, body, err);
        if (status != SL_OK)
            return status;
    }
    return SL_OK;
}

sl_status sl_load_call_run(const sl_load_target *target, const sl_load_call *call, int *http_status,
                           sl_buf *body, sl_err *err)
{
    const uint64_t deadline_us = sl_clock_us() + (uint64_t)call->timeout_ms * 1000;
    static const size_t head_max = 8 << 10;
    sl_load_reply reply;
    bool connected = false;
    sl_status status;
    sl_buf out;
    const int fd = sl_load_connect(target, 0, &connected);

    if (fd < 0)
        return sl_fail(err, SL_EIO, "cannot reach %.200s: %s (is the server running?)", target->url,
                       strerror(errno));
    sl_buf_init(&out, head_max + call->body_len);
    sl_load_write_head(target, call->body != NULL ? "POST" : "GET", call->path, call->key,
                       call->body_len, &out);
    sl_buf_add(&out, call->body, call->body_len);
    sl_load_reply_init(&reply);
    status = out.failed ? sl_fail(err, SL_ENOMEM, "no memory for a request") : SL_OK;
    if (status == SL_OK && !connected)
        status = wait_for(fd, POLLOUT, deadline_us, err);
    if (status == SL_OK)
        status = send_all(fd, &out, deadline_us, err);
    if (status == SL_OK)
        status = read_reply(fd, &reply, deadline_us, body, err);
    if (status == SL_OK)
        *http_status = reply.status;
    close(fd);
    sl_buf_done(&out);
    return status;
}
