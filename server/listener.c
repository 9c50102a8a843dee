/* server/listener.c - the socket that is listened on: which address may be, bind, accept. */
#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "server/server_internal.h"

enum { BACKLOG = 511 };

static bool is_loopback(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)address;

        return ntohl(in->sin_addr.s_addr) >> 24 == 127;
    }
    if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)address;

        return IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr);
    }
    return false;
}

static sl_status bind_error(const char *address, int rc, sl_err *err)
{
    const char *hint = rc == UV_EADDRINUSE ? " (is another server running?)"
                       : rc == UV_EACCES   ? " (ports below 1024 need a privilege)"
                                           : "";

    return sl_fail(err, SL_EIO, "cannot listen on %.256s: %s%s", address, uv_strerror(rc), hint);
}

/* --- TCP ----------------------------------------------------------------------------------- */

static sl_status resolve(const sl_config *c, uv_getaddrinfo_t *request, uv_loop_t *loop,
                         sl_err *err)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    char port[8];
    int rc;

    snprintf(port, sizeof(port), "%u", c->port);
    rc = uv_getaddrinfo(loop, request, NULL, c->host, port, &hints);
    if (rc != 0)
        return sl_fail(err, SL_EINVAL, "--host: '%.200s' is no address: %s", c->host,
                       uv_strerror(rc));
    return SL_OK;
}

static void note_port(sl_server *server)
{
    struct sockaddr_storage bound;
    int n = sizeof(bound);
    const char *open = strchr(server->config->host, ':') != NULL ? "[" : "";

    server->port = server->config->port;
    if (uv_tcp_getsockname(&server->listener.tcp, (struct sockaddr *)&bound, &n) == 0)
        server->port =
            ntohs(bound.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)(void *)&bound)->sin6_port
                                              : ((struct sockaddr_in *)(void *)&bound)->sin_port);
    snprintf(server->address, sizeof(server->address), "http://%s%s%s:%u", open,
             server->config->host, open[0] != '\0' ? "]" : "", server->port);
}

static sl_status open_tcp(sl_server *server, sl_err *err)
{
    const sl_config *c = server->config;
    uv_getaddrinfo_t request = {0};
    char text[300];
    sl_status status;
    int rc;

    status = resolve(c, &request, &server->loop, err);
    if (status != SL_OK)
        return status;
    if (!is_loopback(request.addrinfo->ai_addr) && server->keys == NULL && !c->insecure) {
        uv_freeaddrinfo(request.addrinfo);
        return sl_fail(err, SL_EINVAL,
                       "--host %.200s is open to other machines: give --api-key-file, or "
                       "--insecure if everybody may use this server",
                       c->host);
    }
    snprintf(text, sizeof(text), "%s port %u", c->host, c->port);
    rc = uv_tcp_init(&server->loop, &server->listener.tcp);
    if (rc == 0)
        rc = uv_tcp_bind(&server->listener.tcp, request.addrinfo->ai_addr, 0);
    uv_freeaddrinfo(request.addrinfo);
    return rc == 0 ? SL_OK : bind_error(text, rc, err);
}

/* --- UNIX ---------------------------------------------------------------------------------- */

/* A socket file that nobody listens on was left behind by a crash: take it away. */
static void remove_stale(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat st;
    int fd;

    if (lstat(path, &st) != 0 || !S_ISSOCK(st.st_mode))
        return;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) != 0 &&
        errno == ECONNREFUSED)
        unlink(path);
    close(fd);
}

static sl_status open_unix(sl_server *server, sl_err *err)
{
    const char *path = server->config->uds;
    int rc;

    remove_stale(path);
    rc = uv_pipe_init(&server->loop, &server->listener.pipe, 0);
    if (rc == 0)
        rc = uv_pipe_bind(&server->listener.pipe, path);
    if (rc != 0)
        return bind_error(path, rc, err);
    snprintf(server->address, sizeof(server->address), "unix:%s", path);
    return SL_OK;
}

/* --- both ---------------------------------------------------------------------------------- */

/* So many connections that some descriptors are always left: libuv's own reserve is for the rest,
 * and a connection over the limit gets its 503. */
static void limit_connections(sl_server *server)
{
    const uint64_t want = (uint64_t)server->config->max_connections + SL_FILES_RESERVED;
    struct rlimit limit;

    server->conns_max = server->config->max_connections;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    if (limit.rlim_cur < want && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max < want ? limit.rlim_max : want;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
        (void)getrlimit(RLIMIT_NOFILE, &limit);
    }
    if (limit.rlim_cur >= want)
        return;
    server->conns_max = limit.rlim_cur > 2 * SL_FILES_RESERVED
                            ? (uint32_t)limit.rlim_cur - SL_FILES_RESERVED
                            : SL_FILES_RESERVED / 2;
    if (server->conns_max < server->config->max_connections)
        sl_log(SL_LOG_WARN, "server %llu file descriptors allow %u connections, not %u",
               (unsigned long long)limit.rlim_cur, server->conns_max,
               server->config->max_connections);
    else
        server->conns_max = server->config->max_connections;
}

sl_status sl_listener_open(sl_server *server, sl_err *err)
{
    server->is_unix = server->config->uds[0] != '\0';
    limit_connections(server);
    return server->is_unix ? open_unix(server, err) : open_tcp(server, err);
}

static void on_connection(uv_stream_t *stream, int status)
{
    sl_server *server = stream->data;

    if (status < 0) { /* out of descriptors: libuv has dropped the connection */
        server->metrics.connections_refused++;
        sl_log(SL_LOG_DEBUG, "server cannot accept: %s", uv_strerror(status));
        return;
    }
    sl_conn_open(server);
}

sl_status sl_listener_start(sl_server *server, sl_err *err)
{
    int rc;

    server->listener.handle.data = server;
    rc = uv_listen(&server->listener.stream, BACKLOG, on_connection);
    if (rc != 0) { /* a bind's error may be told here only */
        char text[300];

        snprintf(text, sizeof(text), "%s port %u", server->config->host, server->config->port);
        return bind_error(server->is_unix ? server->config->uds : text, rc, err);
    }
    if (!server->is_unix)
        note_port(server);
    return SL_OK;
}
