/* cli/http_client.c - see http_client.h */
#include "cli/http_client.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"

enum { HEAD_MAX = 64 << 10, LINE_MAX_BYTES = 4096 };

sl_status sl_http_url_parse(const char *text, sl_http_url *out, sl_err *err)
{
    sl_http_url url = {.port = "80"};
    const char *host = text, *end, *colon;
    size_t n;

    if (strncmp(text, "https://", 8) == 0)
        return sl_fail(err, SL_EINVAL, "--url: https is not spoken here; use http:// or a proxy");
    if (strncmp(text, "http://", 7) == 0)
        host += 7;
    end = host + strcspn(host, "/");
    colon = end;
    while (colon > host && *colon != ':' && *colon != ']')
        colon--;
    n = *colon == ':' ? (size_t)(colon - host) : (size_t)(end - host);
    if (*colon == ':') {
        const size_t port_len = (size_t)(end - colon) - 1;

        if (port_len == 0 || port_len > 5 || strspn(colon + 1, "0123456789") < port_len)
            return sl_fail(err, SL_EINVAL, "--url: '%.200s' has no valid port", text);
        snprintf(url.port, sizeof(url.port), "%.*s", (int)port_len, colon + 1);
    }
    if (n >= 2 && host[0] == '[' && host[n - 1] == ']') {
        host++;
        n -= 2;
    }
    if (n == 0 || n >= sizeof(url.host))
        return sl_fail(err, SL_EINVAL, "--url: '%.200s' names no host", text);
    snprintf(url.host, sizeof(url.host), "%.*s", (int)n, host);
    snprintf(url.prefix, sizeof(url.prefix), "%s", end);
    n = strlen(url.prefix);
    while (n > 0 && url.prefix[n - 1] == '/')
        url.prefix[--n] = '\0';
    if (n >= 3 && strcmp(url.prefix + n - 3, "/v1") == 0) /* as OpenAI's clients write it */
        url.prefix[n - 3] = '\0';
    *out = url;
    return SL_OK;
}

/* --- the socket ---------------------------------------------------------------------------- */

static sl_status connect_to(const sl_http_url *url, int *out, sl_err *err)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    int fd = -1, error = 0;
    const int rc = getaddrinfo(url->host, url->port, &hints, &list);

    if (rc != 0)
        return sl_fail(err, SL_EIO, "cannot find '%.200s': %s", url->host, gai_strerror(rc));
    for (const struct addrinfo *a = list; a != NULL && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
        if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) != 0) {
            error = errno;
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(list);
    if (fd < 0)
        return sl_fail(err, SL_EIO, "cannot reach %.200s port %s: %s (is the server running?)",
                       url->host, url->port, strerror(error));
    *out = fd;
    return SL_OK;
}

static sl_status send_all(int fd, const char *data, size_t n, sl_err *err)
{
    while (n > 0) {
        const ssize_t sent = send(fd, data, n, MSG_NOSIGNAL);

        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return sl_fail(err, SL_EIO, "the server hung up: %s", strerror(errno));
        data += sent;
        n -= (size_t)sent;
    }
    return SL_OK;
}

static sl_status send_request(int fd, const sl_http_post *p, sl_err *err)
{
    const bool six = strchr(p->url->host, ':') != NULL;
    sl_status status;
    sl_buf head;

    sl_buf_init(&head, HEAD_MAX);
    sl_buf_addf(&head,
                "POST %s%s HTTP/1.1\r\nHost: %s%s%s:%s\r\nContent-Type: application/json\r\n"
                "Content-Length: %zu\r\nConnection: close\r\n",
                p->url->prefix, p->path, six ? "[" : "", p->url->host, six ? "]" : "", p->url->port,
                p->body_len);
    if (p->key != NULL)
        sl_buf_addf(&head, "Authorization: Bearer %s\r\n", p->key);
    sl_buf_add_str(&head, "\r\n");
    status = head.failed ? sl_fail(err, SL_EINVAL, "the request's head is too large")
                         : send_all(fd, head.data, head.len, err);
    if (status == SL_OK)
        status = send_all(fd, p->body, p->body_len, err);
    sl_buf_done(&head);
    return status;
}

/* --- the reply ----------------------------------------------------------------------------- */

typedef enum reply_state { HEAD, PLAIN, CHUNK_SIZE, CHUNK_DATA, CHUNK_END, DONE } reply_state;

typedef struct reply {
    const sl_http_post *post;
    reply_state state;
    sl_buf bytes; /* came and not used yet */
    size_t left;  /* of the body, or of the chunk */
    bool sized;   /* PLAIN: `left` is known */
    int status;
} reply;

/* Find a header's value in the head; NULL if it is not there. */
static const char *find_header(const char *head, const char *name)
{
    const size_t n = strlen(name);

    for (const char *line = strstr(head, "\r\n"); line != NULL; line = strstr(line + 2, "\r\n"))
        if (strncasecmp(line + 2, name, n) == 0 && line[2 + n] == ':')
            return line + 3 + n + strspn(line + 3 + n, " \t");
    return NULL;
}

/* False: more bytes are needed.  status < 0: no HTTP. */
static bool read_head(reply *r)
{
    const char *text = sl_buf_text(&r->bytes);
    const char *end = text != NULL ? strstr(text, "\r\n\r\n") : NULL;
    const char *value;
    size_t n;

    if (end == NULL) {
        if (r->bytes.failed || r->bytes.len > HEAD_MAX)
            r->status = -1;
        return false;
    }
    if (sscanf(text, "HTTP/1.%*1[01] %d", &r->status) != 1) {
        r->status = -1;
        return false;
    }
    n = (size_t)(end - text) + 4;
    if (r->status >= 200) {
        value = find_header(text, "transfer-encoding");
        r->state = value != NULL && strncasecmp(value, "chunked", 7) == 0 ? CHUNK_SIZE : PLAIN;
        value = find_header(text, "content-length");
        r->sized = value != NULL && value < end;
        r->left = r->sized ? strtoull(value, NULL, 10) : 0;
    }
    sl_buf_consume(&r->bytes, n);
    return true;
}

/* Hand on up to `left` bytes.  False: the receiver has enough. */
static bool give(reply *r, size_t left)
{
    const size_t n = r->bytes.len < left ? r->bytes.len : left;
    const bool more = n == 0 || r->post->on_body(r->bytes.data, n, r->post->user);

    sl_buf_consume(&r->bytes, n);
    r->left -= r->left < n ? r->left : n;
    return more;
}

static bool read_chunk_size(reply *r)
{
    const char *text = sl_buf_text(&r->bytes);
    const char *end = text != NULL ? strstr(text, "\r\n") : NULL;

    if (end == NULL)
        return false;
    r->left = strtoull(text, NULL, 16);
    sl_buf_consume(&r->bytes, (size_t)(end - text) + 2);
    r->state = r->left == 0 ? DONE : CHUNK_DATA;
    return true;
}

/* Use what came.  False: the receiver has enough. */
static bool use_bytes(reply *r)
{
    bool more = true;

    while (more && r->bytes.len > 0 && r->status >= 0 && r->state != DONE) {
        switch (r->state) {
        case HEAD:
            if (!read_head(r))
                return true;
            break;
        case PLAIN:
            more = give(r, r->sized ? r->left : r->bytes.len);
            if (r->sized && r->left == 0)
                r->state = DONE;
            break;
        case CHUNK_SIZE:
            if (!read_chunk_size(r))
                return true;
            break;
        case CHUNK_DATA:
            more = give(r, r->left);
            if (r->left == 0)
                r->state = CHUNK_END;
            break;
        default:
            if (r->bytes.len < 2)
                return true;
            sl_buf_consume(&r->bytes, 2);
            r->state = CHUNK_SIZE;
        }
    }
    return more;
}

static sl_status read_reply(int fd, reply *r, sl_err *err)
{
    char data[16 << 10];

    while (r->state != DONE) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        ssize_t n;

        if (*r->post->stop)
            return sl_fail(err, SL_ECANCELLED, "stopped");
        if (poll(&p, 1, 1000) <= 0)
            continue;
        n = recv(fd, data, sizeof(data), 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return sl_fail(err, SL_EIO, "the server hung up: %s", strerror(errno));
        if (n == 0)
            break;
        sl_buf_add(&r->bytes, data, (size_t)n);
        if (!use_bytes(r))
            return sl_fail(err, SL_ECANCELLED, "stopped");
        if (r->status < 0 || r->bytes.failed)
            return sl_fail(err, SL_EFORMAT, "what answers there speaks no HTTP");
    }
    if (r->state == HEAD)
        return sl_fail(err, SL_EIO, "the server hung up before it answered");
    if (r->state != DONE && (r->state != PLAIN || r->sized))
        return sl_fail(err, SL_EIO, "the answer was cut off");
    return SL_OK;
}

sl_status sl_http_post_run(const sl_http_post *post, int *http_status, sl_err *err)
{
    reply r = {.post = post, .state = HEAD};
    sl_status status;
    int fd = -1;

    status = connect_to(post->url, &fd, err);
    if (status != SL_OK)
        return status;
    sl_buf_init(&r.bytes, 16u << 20);
    status = send_request(fd, post, err);
    if (status == SL_OK)
        status = read_reply(fd, &r, err);
    *http_status = r.status;
    sl_buf_done(&r.bytes);
    close(fd);
    return status;
}
