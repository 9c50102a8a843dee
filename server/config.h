/* server/config.h - the one place that reads configuration.
 *
 * Every option has one row (config_table.c): its name, kind, default, limits, help.  From the row
 * follow the command line option (--max-num-seqs), the environment variable (SLUICE_MAX_NUM_SEQS)
 * and the key in the INI file (max_num_seqs, any section).  Command line over environment over file
 * over default.  An unknown option, key or SLUICE_ variable is an error that suggests the nearest
 * name.
 *
 * Thread: main, before anything runs; a value afterwards. */
#ifndef SL_SERVER_CONFIG_H
#define SL_SERVER_CONFIG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/status.h"

enum { SL_CONFIG_TEXT_MAX = 1024, SL_CONFIG_OPTIONS_MAX = 64 };

/* Where a value came from; a later one wins. */
typedef enum sl_config_source {
    SL_SOURCE_DEFAULT,
    SL_SOURCE_FILE,
    SL_SOURCE_ENVIRONMENT,
    SL_SOURCE_COMMAND_LINE
} sl_config_source;

typedef struct sl_config {
    char model[SL_CONFIG_TEXT_MAX];             /* --model, -m: a file; required to serve */
    char served_model_name[SL_CONFIG_TEXT_MAX]; /* comma-separated; default: the file's name */
    char chat_template[SL_CONFIG_TEXT_MAX];     /* a file; default: the model's own */
    uint32_t max_model_len;                     /* 0: what the model and the memory allow */

    char host[256];                        /* 127.0.0.1 */
    uint32_t port;                         /* 8000; 0: any free one, printed */
    char uds[108];                         /* UNIX socket instead of host and port */
    char api_key_file[SL_CONFIG_TEXT_MAX]; /* one key a line */
    bool insecure;                         /* allow a non-loopback address without keys */

    uint32_t max_num_seqs;           /* sequences at once */
    uint32_t max_num_batched_tokens; /* rows of one batch */
    uint32_t max_queued_requests;    /* beyond: 429 */
    uint64_t kv_cache_bytes;         /* 0: derived (see the plan) */
    char kv_cache_dtype[16];         /* auto | f16 */
    bool enable_prefix_caching;
    char policy[16]; /* sluice | mixed | exclusive */
    uint32_t slice_target_ms;

    char device[16];  /* auto | cpu | cuda */
    uint32_t threads; /* CPU units; 0: all cores */
    bool pin_threads;
    double gpu_memory_utilization; /* share of the device's memory, CUDA only */
    uint32_t tensor_parallel_size; /* 1; more is refused for now */

    uint64_t max_body_bytes;
    uint32_t max_connections;
    uint32_t header_timeout_s, body_timeout_s, idle_timeout_s, write_timeout_s;
    uint32_t shutdown_timeout_s;
    uint32_t stall_timeout_s; /* no progress for so long: not ready */

    bool strict_params;
    bool vllm_metric_aliases;
    char log_level[8];

    char config[SL_CONFIG_TEXT_MAX]; /* --config FILE; default /etc/sluice/sluice.conf if there */
    bool check, print_config, help;  /* actions, command line only */

    uint8_t source[SL_CONFIG_OPTIONS_MAX]; /* sl_config_source, by row of the table */
} sl_config;

/* Defaults, file, environment, command line (argv[0] is the command's name).  One positional
 * argument is taken as the model.  With --help the rest is not checked.
 * Errors: SL_EINVAL (names the option, its source - and line of a file -, the value and what is
 * allowed), SL_EIO (a named config file cannot be read). */
SL_MUST_CHECK sl_status sl_config_read(int argc, char **argv, char **environment, sl_config *out,
                                       sl_err *err);

/* INI text that reads back to the same configuration, each value with its source as a comment. */
void sl_config_print(const sl_config *config, FILE *f);

/* The help page: every option, grouped, with default and environment variable. */
void sl_config_help(FILE *f);

#endif
