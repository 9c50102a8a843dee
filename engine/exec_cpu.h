/* engine/exec_cpu.h - the CPU as a device: lanes are teams of threads pinned to cores.
 *
 * One worker thread a unit (core).  On rung (p, d) the prefill lane has the first p workers, the
 * decode lane the last d.  A batch starts when all of its workers have come to it: every worker
 * takes the batches queued for it in submission order, so that two lanes never wait for each other
 * in a circle. */
#ifndef SL_ENGINE_EXEC_CPU_H
#define SL_ENGINE_EXEC_CPU_H

#include "engine/exec.h"

typedef struct sl_exec_cpu_options {
    const sl_model *model; /* borrowed until destroy */
    uint32_t units;        /* worker threads; 0: one a core this process may use */
    uint32_t plane_count;  /* planes of the KV store, allocated here */
    uint32_t rows_max;     /* rows of a batch */
    uint32_t logit_rows_max;
    uint32_t seqs_max;
    bool pin; /* pin workers to cores */
} sl_exec_cpu_options;

/* Errors: SL_EINVAL, SL_ENOMEM (says how many bytes for what), SL_EUNAVAILABLE (threads). */
SL_MUST_CHECK sl_status sl_exec_cpu_create(const sl_exec_cpu_options *options, sl_exec **out,
                                           sl_err *err);

/* Bytes it will take beside the weights, for the plan: KV store, spaces, scratch. */
size_t sl_exec_cpu_bytes(const sl_exec_cpu_options *options);

#endif
