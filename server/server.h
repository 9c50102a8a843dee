/* server/server.h - the daemon's front: libuv loop, connections, routes, metrics, life cycle.
 *
 * Thread: everything here runs on the loop thread (the caller's), but where said. */
#ifndef SL_SERVER_SERVER_H
#define SL_SERVER_SERVER_H

#include <stdint.h>

#include "base/status.h"
#include "engine/engine.h"
#include "engine/mailbox.h"
#include "model/tokenizer.h"
#include "protocol/template.h"
#include "server/config.h"

typedef struct sl_server sl_server;

/* What the server serves; all borrowed until destroy. */
typedef struct sl_server_deps {
    const sl_config *config;
    sl_mailbox *mailbox; /* its wake_loop is set by the server */
    const sl_engine_stats *stats;
    const sl_tokenizer *tokenizer;
    const sl_template *chat_template; /* NULL: chat is refused with a sentence that says so */
    const char *model_name;           /* of the file; the first served name is its default */
    uint32_t context_max;             /* tokens of prompt and answer together */
    const char *device;               /* for metrics and logs: "cpu-avx2" */
} sl_server_deps;

/* Bind and prepare; nothing is accepted yet.  Errors: SL_EINVAL (address, keys), SL_EIO (bind: the
 * sentence names address and cause), SL_ENOMEM. */
SL_MUST_CHECK sl_status sl_server_create(const sl_server_deps *deps, sl_server **out, sl_err *err);

/* The bound port (for port 0), or 0 for a UNIX socket. */
uint32_t sl_server_port(const sl_server *server);

/* Serve until SIGTERM or SIGINT: then /ready is 503, new requests are refused with 503, running
 * ones may end within shutdown_timeout; a second signal stops at once.  The engine is shut down
 * (sl_mailbox_shutdown) before it returns. */
void sl_server_run(sl_server *server);

void sl_server_destroy(sl_server *server);

#endif
