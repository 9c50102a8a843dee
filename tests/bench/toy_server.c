/* tests/bench/toy_server.c - see toy_server.h */
#include "tests/bench/toy_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/threads.h"

enum { REQUEST_MAX = 1 << 20 };

static pthread_mutex_t body_lock = PTHREAD_MUTEX_INITIALIZER;

typedef struct visit {
    toy_server *t;
    int fd;
    sl_thread thread;
    struct visit *next;
} visit;

static void sleep_until(uint64_t at_us)
{
    const struct timespec at = {.tv_sec = (time_t)(at_us / 1000000u),
                                .tv_nsec = (long)(at_us % 1000000u) * 1000};

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
        ;
}

/* False: the client is gone. */
static bool put(visit *v, const char *data, size_t n)
{
    while (n > 0) {
        const ssize_t sent = send(v->fd, data, v->t->one_byte_writes ? 1 : n, MSG_NOSIGNAL);

        if (sent <= 0)
            return false;
        data += sent;
        n -= (size_t)sent;
    }
    return true;
}

static bool putf(visit *v, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool putf(visit *v, const char *format, ...)
{
    char text[2048];
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    return put(v, text, (size_t)n);
}

static bool put_json(visit *v, int status, const char *json)
{
    return putf(v,
                "HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                status, strlen(json), json);
}

static bool put_chunk(visit *v, const char *data)
{
    return putf(v, "%zx\r\n%s\r\n", strlen(data), data);
}

/* Words of a text, counted by its blanks: the toy's tokens. */
static unsigned words_of(const char *body)
{
    const char *at = strstr(body, "\"content\":\"");
    unsigned words = 0;

    while (at != NULL) {
        at += 11;
        words++;
        for (; *at != '\0' && *at != '"'; at++)
            words += *at == ' ';
        at = strstr(at, "\"content\":\"");
    }
    if (words == 0 && (at = strstr(body, "\"prompt\":\"")) != NULL) {
        words = 1;
        for (at += 10; *at != '\0' && *at != '"'; at++)
            words += *at == ' ';
    }
    return words + 7; /* the toy's chat template */
}

static unsigned number_after(const char *body, const char *name, unsigned fallback)
{
    const char *at = strstr(body, name);

    return at != NULL ? (unsigned)strtoul(at + strlen(name), NULL, 10) : fallback;
}

static bool stream_events(visit *v, const char *body, bool chunked)
{
    toy_server *t = v->t;
    const unsigned tokens = number_after(body, "\"max_tokens\":", 4);
    const unsigned index = atomic_fetch_add(&t->answers, 1);
    uint64_t at_us = sl_clock_us();
    char event[256];

    if (at_us >= t->stall_from_us && at_us < t->stall_to_us)
        at_us = t->stall_to_us;
    at_us += t->first_us;
    for (unsigned i = 0; i < tokens; i++) {
        sleep_until(at_us);
        if (i == 0 && index < TOY_ANSWERS_MAX)
            t->answer[index] = (toy_answer){.due_us = at_us, .wrote_us = sl_clock_us()};
        if (t->mode == TOY_CUT && i == tokens / 2)
            return false;
        snprintf(event, sizeof(event),
                 t->mode == TOY_NONSENSE
                     ? "data: what is this\n\n"
                     : "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\" t%u\"}}]}\n\n",
                 i);
        if (t->mode == TOY_ERROR_EVENT && i == tokens / 2)
            snprintf(event, sizeof(event), "data: {\"error\":{\"message\":\"toy trouble\"}}\n\n");
        if (!(chunked ? put_chunk(v, event) : put(v, event, strlen(event))))
            return false;
        at_us += t->gap_us;
    }
    atomic_fetch_add(&t->prompt_tokens, words_of(body));
    atomic_fetch_add(&t->output_tokens, tokens);
    if (t->mode == TOY_NO_END || t->mode == TOY_NONSENSE || t->mode == TOY_ERROR_EVENT)
        return true;
    snprintf(event, sizeof(event),
             "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"length\"}]}\n\n");
    if (!(chunked ? put_chunk(v, event) : put(v, event, strlen(event))))
        return false;
    if (!t->no_usage) {
        snprintf(
            event, sizeof(event),
            "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":%u,\"completion_tokens\":%u}}\n\n",
            words_of(body), tokens);
        if (!(chunked ? put_chunk(v, event) : put(v, event, strlen(event))))
            return false;
    }
    snprintf(event, sizeof(event), "data: [DONE]\n\n");
    return chunked ? put_chunk(v, event) : put(v, event, strlen(event));
}

/* False: close the connection. */
static bool answer_chat(visit *v, const char *body)
{
    toy_server *t = v->t;
    char json[512];

    switch ((toy_mode)t->mode) {
    case TOY_DIE:
        return false;
    case TOY_SILENT:
        while (!atomic_load(&t->stopping))
            usleep(5000);
        return false;
    case TOY_STATUS:
        return put_json(v, t->status, "{\"error\":{\"message\":\"toy says no\",\"type\":\"x\"}}");
    case TOY_NO_HTTP:
        put(v, "hello\r\n", 7);
        return false;
    case TOY_UNTIL_CLOSE:
        if (putf(v, "HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"))
            stream_events(v, body, false);
        return false;
    case TOY_WHOLE:
        sleep_until(sl_clock_us() + t->first_us);
        snprintf(
            json, sizeof(json),
            "{\"choices\":[{\"message\":{\"content\":\"all at once\"},\"finish_reason\":\"stop\"}],"
            "\"usage\":{\"prompt_tokens\":%u,\"completion_tokens\":3}}",
            words_of(body));
        return put_json(v, 200, json);
    default:
        return putf(v, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                       "Transfer-Encoding: chunked\r\n\r\n") &&
               stream_events(v, body, true) && put(v, "0\r\n\r\n", 5);
    }
}

static bool answer(visit *v, const char *head, const char *body)
{
    toy_server *t = v->t;
    char text[512];

    if (strncmp(head, "GET /v1/models ", 15) == 0)
        return put_json(v, 200, "{\"data\":[{\"id\":\"toy\"}]}");
    if (strncmp(head, "POST /tokenize ", 15) == 0 && !t->no_tokenize) {
        snprintf(text, sizeof(text), "{\"count\":%u}", words_of(body));
        return put_json(v, 200, text);
    }
    if (strncmp(head, "GET /metrics ", 13) == 0) {
        snprintf(text, sizeof(text),
                 "# HELP x y\nvllm:prompt_tokens_total{model=\"toy\"} %llu\n"
                 "vllm:generation_tokens_total{model=\"toy\"} %llu\n",
                 (unsigned long long)atomic_load(&t->prompt_tokens),
                 (unsigned long long)atomic_load(&t->output_tokens));
        return put_json(v, 200, text);
    }
    if (strncmp(head, "POST /v1/chat/completions ", 26) != 0 &&
        strncmp(head, "POST /v1/completions ", 21) != 0)
        return put_json(v, 404, "{\"error\":{\"message\":\"no such route\"}}");
    atomic_fetch_add(&t->requests, 1);
    pthread_mutex_lock(&body_lock);
    snprintf(t->last_body, sizeof(t->last_body), "%s", body);
    pthread_mutex_unlock(&body_lock);
    if (strstr(body, "\"stream\":true") == NULL) {
        snprintf(text, sizeof(text),
                 "{\"choices\":[{\"message\":{\"content\":\"x\"}}],\"usage\":{\"prompt_tokens\":%u,"
                 "\"completion_tokens\":1}}",
                 words_of(body));
        return t->no_usage ? put_json(v, 200, "{\"choices\":[]}") : put_json(v, 200, text);
    }
    return answer_chat(v, body);
}

/* Read one whole request into `data`; false: the connection ended. */
static bool read_request(visit *v, char *data, const char **body)
{
    size_t len = 0;

    for (;;) {
        struct pollfd p = {.fd = v->fd, .events = POLLIN};
        const char *end;
        ssize_t n;

        if (atomic_load(&v->t->stopping))
            return false;
        if (poll(&p, 1, 20) <= 0)
            continue;
        n = recv(v->fd, data + len, REQUEST_MAX - len - 1, 0);
        if (n <= 0)
            return false;
        len += (size_t)n;
        data[len] = '\0';
        end = strstr(data, "\r\n\r\n");
        if (end != NULL &&
            len >= (size_t)(end + 4 - data) + number_after(data, "Content-Length: ", 0)) {
            *body = end + 4;
            return true;
        }
    }
}

static void serve(void *arg)
{
    visit *v = arg;
    toy_server *t = v->t;
    char *data = malloc(REQUEST_MAX);
    const char *body;

    SL_ASSERT(data != NULL);
    while (read_request(v, data, &body)) {
        if (!answer(v, data, body))
            break;
        if (t->mode == TOY_CLOSE_IDLE && strncmp(data, "POST /v1", 8) == 0) {
            usleep(1000);
            break;
        }
    }
    close(v->fd);
    free(data);
}

static void accept_all(void *arg)
{
    toy_server *t = arg;

    while (!atomic_load(&t->stopping)) {
        struct pollfd p = {.fd = t->listener, .events = POLLIN};
        const int one = 1;
        sl_status started;
        visit *v;
        int fd;

        if (poll(&p, 1, 20) <= 0)
            continue;
        fd = accept(t->listener, NULL, NULL);
        if (fd < 0)
            continue;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        atomic_fetch_add(&t->connections, 1);
        v = calloc(1, sizeof(*v));
        SL_ASSERT(v != NULL);
        *v = (visit){.t = t, .fd = fd, .next = t->visits};
        t->visits = v;
        started = sl_thread_start(&v->thread, "toy", -1, serve, v);
        SL_ASSERT(started == SL_OK);
    }
}

void toy_start(toy_server *t)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_un path = {.sun_family = AF_UNIX};
    socklen_t len = sizeof(address);
    sl_status started;
    int rc;

    t->listener = socket(t->unix_path != NULL ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    SL_ASSERT(t->listener >= 0);
    if (t->unix_path != NULL) {
        snprintf(path.sun_path, sizeof(path.sun_path), "%s", t->unix_path);
        unlink(t->unix_path);
        rc = bind(t->listener, (struct sockaddr *)&path, sizeof(path));
        snprintf(t->url, sizeof(t->url), "unix:%s", t->unix_path);
    } else {
        rc = bind(t->listener, (struct sockaddr *)&address, sizeof(address));
        getsockname(t->listener, (struct sockaddr *)&address, &len);
        t->port = ntohs(address.sin_port);
        snprintf(t->url, sizeof(t->url), "http://127.0.0.1:%d", t->port);
    }
    SL_ASSERT(rc == 0);
    SL_ASSERT(listen(t->listener, 512) == 0);
    t->acceptor = calloc(1, sizeof(sl_thread));
    SL_ASSERT(t->acceptor != NULL);
    started = sl_thread_start(t->acceptor, "toy-accept", -1, accept_all, t);
    SL_ASSERT(started == SL_OK);
}

void toy_stop(toy_server *t)
{
    atomic_store(&t->stopping, true);
    sl_thread_join(t->acceptor);
    free(t->acceptor);
    while (t->visits != NULL) {
        visit *v = t->visits;

        t->visits = v->next;
        sl_thread_join(&v->thread);
        free(v);
    }
    close(t->listener);
    if (t->unix_path != NULL)
        unlink(t->unix_path);
}
