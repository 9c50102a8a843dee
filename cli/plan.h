/* cli/plan.h - what serving a model will take, decided before anything is allocated.
 *
 * The KV cache's default: what max_num_seqs contexts would need, but at most 1 GiB (or one whole
 * context, if a longer one was asked for by name) and at most half of what the weights leave.
 * The context is lowered to what the cache holds, and `note` says so. */
#ifndef SL_CLI_PLAN_H
#define SL_CLI_PLAN_H

#include <stddef.h>
#include <stdint.h>

#include "model/model.h"
#include "server/config.h"

typedef struct sl_serve_plan {
    size_t available_bytes; /* of the machine or its control group, for new memory */
    size_t weight_bytes;
    size_t activation_bytes; /* about; exact once the model is loaded */
    size_t kv_bytes;
    uint32_t kv_pages;
    uint32_t plane_count;
    uint32_t context_max;
    uint32_t batch_rows;
    char note[256]; /* why the context is shorter than wanted; "": it is not */
} sl_serve_plan;

/* Memory that can still be taken: MemAvailable, or what the control group leaves if less. */
size_t sl_available_bytes(void);

/* `available_bytes` is an argument, so that tests can say it.
 * Errors: SL_EINVAL (the KV cache would not hold one page), SL_ENOMEM (it does not fit: the
 * sentence says what takes how much, and which options lower it). */
SL_MUST_CHECK sl_status sl_serve_plan_make(const sl_config *config, const sl_model_config *model,
                                           const sl_model_plan *weights, size_t available_bytes,
                                           sl_serve_plan *out, sl_err *err);

/* "1.24 GiB" into text[32], for people. */
const char *sl_size_text(size_t bytes, char text[32]);

#endif
