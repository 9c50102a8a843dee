/* server/server.h - the daemon's front: libuv loop, connections, routes, metrics, life cycle.
 *
 * It listens before the model is there: /live answers at once, /ready and everything that needs the
 * model say 503 until sl_server_attach.
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

/* A model to serve; all borrowed until sl_server_destroy. */
typedef struct sl_server_model {
    sl_mailbox *mailbox; /* its wake_loop is set by sl_server_attach */
    const sl_engine_stats *stats;
    const sl_tokenizer *tokenizer;
    const sl_template *chat_template; /* NULL: chat is refused with a sentence that says so */
    const char *model_name;           /* of the file; the default of the served names */
    uint32_t context_max;             /* tokens of prompt and answer together */
    const char *device;               /* for metrics and logs: "cpu-avx2" */
} sl_server_model;

/* Bytes that a slot's arena must allow for requests of this context and vocabulary. */
size_t sl_server_slot_bytes(uint32_t context_max, uint32_t vocab);

/* Bind and listen; connections are accepted once sl_server_run runs.  `config` is borrowed until
 * destroy.  Errors: SL_EINVAL (address, keys), SL_EIO (bind: the sentence names address and cause;
 * the key file), SL_ENOMEM. */
SL_MUST_CHECK sl_status sl_server_create(const sl_config *config, sl_server **out, sl_err *err);

/* The bound port (for port 0), or 0 for a UNIX socket. */
uint32_t sl_server_port(const sl_server *server);

/* Any thread, once: the model is loaded, serve it. */
void sl_server_attach(sl_server *server, const sl_server_model *model);
/* Any thread: there will be no model; sl_server_run returns 1. */
void sl_server_give_up(sl_server *server);

/* Serve until SIGTERM or SIGINT: then /ready is 503, new requests are refused with 503, running
 * ones may end within shutdown_timeout; a second signal stops at once.  The engine is told to end
 * (sl_mailbox_shutdown) before it returns; join it before sl_server_destroy.
 * Returns the exit status: 0 after a clean end, 1 after give_up, 128 + signal after a second one.
 */
int sl_server_run(sl_server *server);

/* The engine must have ended.  NULL is allowed. */
void sl_server_destroy(sl_server *server);

#endif
