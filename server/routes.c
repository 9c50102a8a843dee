/* server/routes.c - see routes.h */
#include "server/routes.h"

#include <string.h>

enum { GET = 1u << SL_HTTP_GET | 1u << SL_HTTP_HEAD, POST = 1u << SL_HTTP_POST };

/* The first row of an id gives its label. */
static const sl_route table[] = {
    {.path = "/v1/chat/completions",
     .id = SL_ROUTE_CHAT,
     .methods = POST,
     .model = true,
     .takes_slot = true},
    {.path = "/v1/completions",
     .id = SL_ROUTE_COMPLETIONS,
     .methods = POST,
     .model = true,
     .takes_slot = true},
    {.path = "/v1/models", .id = SL_ROUTE_MODELS, .methods = GET, .model = true},
    {.path = "/v1/models/", .id = SL_ROUTE_MODEL, .methods = GET, .prefix = true, .model = true},
    {.path = "/tokenize", .id = SL_ROUTE_TOKENIZE, .methods = POST, .model = true},
    {.path = "/v1/tokenize", .id = SL_ROUTE_TOKENIZE, .methods = POST, .model = true},
    {.path = "/detokenize", .id = SL_ROUTE_DETOKENIZE, .methods = POST, .model = true},
    {.path = "/v1/detokenize", .id = SL_ROUTE_DETOKENIZE, .methods = POST, .model = true},
    {.path = "/live", .id = SL_ROUTE_LIVE, .methods = GET, .auth = SL_AUTH_OPEN, .quiet = true},
    {.path = "/health", .id = SL_ROUTE_HEALTH, .methods = GET, .auth = SL_AUTH_OPEN, .quiet = true},
    {.path = "/ready", .id = SL_ROUTE_READY, .methods = GET, .quiet = true},
    {.path = "/metrics", .id = SL_ROUTE_METRICS, .methods = GET, .quiet = true},
    {.path = "/version", .id = SL_ROUTE_VERSION, .methods = GET},
};

static const size_t table_count = sizeof(table) / sizeof(table[0]);

const sl_route *sl_route_at(size_t i)
{
    return i < table_count ? &table[i] : NULL;
}

const sl_route *sl_route_find(const char *path)
{
    for (size_t i = 0; i < table_count; i++) {
        const sl_route *route = &table[i];
        const size_t n = strlen(route->path);

        if (route->prefix ? strncmp(path, route->path, n) == 0 && path[n] != '\0'
                          : strcmp(path, route->path) == 0)
            return route;
    }
    return NULL;
}

const char *sl_route_label(sl_route_id id)
{
    for (size_t i = 0; i < table_count; i++)
        if (table[i].id == id)
            return table[i].prefix ? "/v1/models/{id}" : table[i].path;
    return "other";
}

bool sl_route_allows(const sl_route *route, sl_http_method method)
{
    return (route->methods >> method & 1u) != 0;
}

const char *sl_route_methods_text(const sl_route *route)
{
    return route->methods == POST ? "POST" : "GET, HEAD";
}
