/* server/routes.h - the table of routes: default deny.
 *
 * Every route says which methods it has, whether it needs a key, and whether it needs a loaded
 * model.  What is not in the table does not exist.  Thread: any; constant. */
#ifndef SL_SERVER_ROUTES_H
#define SL_SERVER_ROUTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/http.h"

typedef enum sl_route_id {
    SL_ROUTE_CHAT,
    SL_ROUTE_COMPLETIONS,
    SL_ROUTE_MODELS,
    SL_ROUTE_MODEL,
    SL_ROUTE_TOKENIZE,
    SL_ROUTE_DETOKENIZE,
    SL_ROUTE_LIVE,
    SL_ROUTE_READY,
    SL_ROUTE_HEALTH,
    SL_ROUTE_METRICS,
    SL_ROUTE_VERSION,
    SL_ROUTE_NONE, /* requests of no route, for counting */
    SL_ROUTE_COUNT
} sl_route_id;

typedef enum sl_route_auth {
    SL_AUTH_KEY, /* needs a key, if any are configured: the default of a row */
    SL_AUTH_OPEN /* anybody: says nothing but that we live */
} sl_route_auth;

typedef struct sl_route {
    const char *path;
    sl_route_id id;
    uint32_t methods; /* bits 1 << sl_http_method */
    sl_route_auth auth;
    bool prefix;     /* `path` and anything behind it */
    bool model;      /* needs the model: 503 while loading or draining */
    bool quiet;      /* asked for every second by machines: logged at debug level */
    bool takes_slot; /* generates: refused with 429 when no slot is free */
} sl_route;

/* The route of a decoded path, or NULL. */
const sl_route *sl_route_find(const char *path);
/* Row i of the table, or NULL beyond its end (tests walk it). */
const sl_route *sl_route_at(size_t i);
/* "/v1/chat/completions" and so on; "other" for SL_ROUTE_NONE. */
const char *sl_route_label(sl_route_id id);
bool sl_route_allows(const sl_route *route, sl_http_method method);
/* "GET, HEAD": the value of Allow. */
const char *sl_route_methods_text(const sl_route *route);

#endif
