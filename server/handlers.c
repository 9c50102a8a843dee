/* server/handlers.c - what may be done, and the small routes. */
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/clock.h"
#include "server/server_internal.h"

/* --- may it be served? --------------------------------------------------------------------- */

/* Only JSON, or nothing said: a browser cannot send that to a foreign server without asking it
 * first, and we never answer such a question. */
static bool is_json(const sl_conn *conn)
{
    static const char json[] = "application/json";
    const char *type = sl_http_parser_header(conn->parser, "content-type");

    if (type == NULL)
        return sl_http_parser_header(conn->parser, "origin") == NULL;
    return strncasecmp(type, json, sizeof(json) - 1) == 0 &&
           (type[sizeof(json) - 1] == '\0' || strchr("; \t", type[sizeof(json) - 1]) != NULL);
}

static sl_status check_key(sl_conn *conn, sl_err *err)
{
    const char *key;
    size_t n = 0;

    if (conn->server->keys == NULL || (conn->route != NULL && conn->route->auth == SL_AUTH_OPEN))
        return SL_OK;
    key = sl_keys_presented(sl_http_parser_header(conn->parser, "authorization"),
                            sl_http_parser_header(conn->parser, "x-api-key"), &n);
    if (key == NULL || n == 0)
        return sl_fail_param(err, SL_EAUTH, NULL, "invalid_api_key",
                             "an API key is needed: Authorization: Bearer KEY");
    conn->key = sl_keys_find(conn->server->keys, key, n);
    if (conn->key == SL_KEY_NONE)
        return sl_fail_param(err, SL_EAUTH, NULL, "invalid_api_key", "the API key is not valid");
    return SL_OK;
}

static sl_status check_model(sl_conn *conn, sl_err *err)
{
    const sl_server *server = conn->server;

    if (!conn->route->model)
        return SL_OK;
    if (!sl_server_accepts(server))
        return sl_fail_param(err, SL_EUNAVAILABLE, NULL, sl_server_condition(server),
                             "the server is %s", sl_server_condition(server));
    if (conn->route->takes_slot && server->model->mailbox->free_count <= server->reserved)
        return sl_fail_param(err, SL_EFULL, NULL, "queue_full",
                             "%u sequences are running or waiting already: try again later",
                             server->model->mailbox->slot_count);
    return SL_OK;
}

sl_status sl_request_check(sl_conn *conn, sl_err *err)
{
    const sl_http_request *r = sl_http_parser_request(conn->parser);
    sl_status status = check_key(conn, err);

    if (status != SL_OK)
        return status;
    if (conn->route == NULL)
        return sl_fail_param(err, SL_ENOTFOUND, NULL, "unknown_route", "there is no '%.200s' here",
                             r->path);
    if (!sl_route_allows(conn->route, r->method))
        return sl_fail_param(err, SL_EMETHOD, NULL, "method_not_allowed", "'%.200s' is for %s",
                             r->path, sl_route_methods_text(conn->route));
    if (r->method == SL_HTTP_POST && !is_json(conn))
        return sl_fail_param(err, SL_EMEDIA, NULL, "unsupported_media_type",
                             "the Content-Type must be application/json");
    return check_model(conn, err);
}

/* --- small routes -------------------------------------------------------------------------- */

bool sl_server_accepts(const sl_server *server)
{
    return server->state == SL_SERVER_SERVING;
}

const char *sl_server_condition(const sl_server *server)
{
    if (server->state == SL_SERVER_LOADING)
        return "loading";
    if (server->state >= SL_SERVER_DRAINING)
        return "shutting_down";
    return server->stalled ? "stalled" : "ok";
}

/* A short JSON reply; `body` is freed. */
static void reply_json(sl_conn *conn, int http, sl_buf *body)
{
    sl_buf extra;

    sl_buf_init(&extra, 1024);
    sl_reply_headers(conn, NULL, &extra);
    if (http == 503)
        sl_buf_add_str(&extra, "Retry-After: 1\r\nretry-after-ms: 1000\r\n");
    sl_reply(conn, http, "application/json", body, sl_buf_text(&extra));
    sl_buf_done(&extra);
    sl_buf_done(body);
    sl_conn_answered(conn, http, NULL);
}

static void reply_condition(sl_conn *conn, bool live)
{
    const char *condition = live ? "ok" : sl_server_condition(conn->server);
    sl_buf body;

    sl_buf_init(&body, 256);
    sl_buf_addf(&body, "{\"status\":\"%s\"}", condition);
    reply_json(conn, strcmp(condition, "ok") == 0 ? 200 : 503, &body);
}

static sl_api_model model_at(const sl_server *server, const char *id)
{
    return (sl_api_model){.id = id,
                          .created = server->created,
                          .max_model_len = server->model->context_max,
                          .root = server->model->model_name};
}

static void reply_models(sl_conn *conn)
{
    const sl_server *server = conn->server;
    sl_api_model model[SL_NAMES_MAX];
    sl_buf body;

    for (uint32_t i = 0; i < server->name_count; i++)
        model[i] = model_at(server, server->name[i]);
    sl_buf_init(&body, 64 << 10);
    sl_api_write_models(&body, model, server->name_count);
    reply_json(conn, 200, &body);
}

static void reply_model(sl_conn *conn)
{
    const sl_server *server = conn->server;
    const char *id = sl_http_parser_request(conn->parser)->path + strlen(conn->route->path);
    sl_err err;

    for (uint32_t i = 0; i < server->name_count; i++)
        if (strcmp(server->name[i], id) == 0) {
            const sl_api_model model = model_at(server, server->name[i]);
            sl_buf body;

            sl_buf_init(&body, 64 << 10);
            sl_api_write_model(&body, &model);
            reply_json(conn, 200, &body);
            return;
        }
    (void)sl_fail_param(&err, SL_ENOTFOUND, "model", "model_not_found",
                        "the model '%.200s' does not exist", id);
    sl_reply_error(conn, &err);
}

static uint64_t resident_bytes(void)
{
    unsigned long pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");

    if (f == NULL)
        return 0;
    if (fscanf(f, "%*u %lu", &pages) != 1)
        pages = 0;
    fclose(f);
    return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void reply_metrics(sl_conn *conn)
{
    const sl_server *server = conn->server;
    const sl_server_model *model = server->model;
    const sl_metrics_now now = {
        .stats = model != NULL ? model->stats : NULL,
        .model = server->name_count > 0 ? server->name[0] : "",
        .device = model != NULL ? model->device : "",
        .preparing = server->reserved,
        .connections_open = server->conn_count,
        .slots_total = model != NULL ? model->mailbox->slot_count : 0,
        .slots_free = model != NULL ? model->mailbox->free_count : 0,
        .ready = strcmp(sl_server_condition(server), "ok") == 0,
        .vllm_aliases = server->config->vllm_metric_aliases,
        .uptime_us = sl_clock_us() - server->start_us,
        .resident_bytes = resident_bytes(),
    };
    sl_buf body, extra;

    sl_buf_init(&body, 1 << 20);
    sl_buf_init(&extra, 1024);
    sl_metrics_write(&server->metrics, &now, &body);
    sl_reply_headers(conn, NULL, &extra);
    sl_reply(conn, 200, "text/plain; version=0.0.4; charset=utf-8", &body, sl_buf_text(&extra));
    sl_buf_done(&extra);
    sl_buf_done(&body);
    sl_conn_answered(conn, 200, NULL);
}

static void reply_version(sl_conn *conn)
{
    sl_buf body;

    sl_buf_init(&body, 256);
    sl_buf_add_str(&body, "{\"version\":\"" SL_VERSION "\"}");
    reply_json(conn, 200, &body);
}

/* --- dispatch ------------------------------------------------------------------------------ */

void sl_request_dispatch(sl_conn *conn)
{
    sl_err err;

    if (sl_request_check(conn, &err) != SL_OK) {
        sl_reply_error(conn, &err);
        return;
    }
    switch (conn->route->id) {
    case SL_ROUTE_LIVE:
        reply_condition(conn, true);
        break;
    case SL_ROUTE_READY:
    case SL_ROUTE_HEALTH:
        reply_condition(conn, false);
        break;
    case SL_ROUTE_MODELS:
        reply_models(conn);
        break;
    case SL_ROUTE_MODEL:
        reply_model(conn);
        break;
    case SL_ROUTE_METRICS:
        reply_metrics(conn);
        break;
    case SL_ROUTE_VERSION:
        reply_version(conn);
        break;
    default:
        sl_generation_start(conn);
    }
}
