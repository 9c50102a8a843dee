/* server/config_internal.h - the table of options, for the files that read and print it. */
#ifndef SL_SERVER_CONFIG_INTERNAL_H
#define SL_SERVER_CONFIG_INTERNAL_H

#include <stddef.h>

#include "server/config.h"

typedef enum sl_option_kind {
    SL_OPTION_TEXT,   /* char[size] */
    SL_OPTION_CHOICE, /* char[size], one of `choices` */
    SL_OPTION_COUNT,  /* uint32_t, min .. max */
    SL_OPTION_BYTES,  /* uint64_t, with K, M, G, T */
    SL_OPTION_SHARE,  /* double, 0 < x <= 1 */
    SL_OPTION_BOOL,
    SL_OPTION_ACTION /* bool, command line only, takes no value */
} sl_option_kind;

typedef struct sl_option {
    const char *name; /* "max-num-seqs" */
    char letter;      /* 'm' for -m; 0: none */
    sl_option_kind kind;
    size_t offset, size; /* in sl_config */
    const char *preset;  /* the default, as one would write it; NULL: empty, 0, false */
    uint64_t min, max;
    const char *choices; /* "auto|cpu|cuda" */
    const char *value;   /* what stands for the value in the help: "FILE" */
    const char *group;   /* heading; NULL: as the row before */
    const char *help;
} sl_option;

extern const sl_option sl_option_table[];
extern const size_t sl_option_count;

/* "SLUICE_MAX_NUM_SEQS", "max_num_seqs". */
void sl_option_variable(const sl_option *option, char out[80]);
void sl_option_key(const sl_option *option, char out[80]);
/* A value as one would write it. */
void sl_option_value_text(const sl_option *option, const sl_config *config, char *out, size_t n);

#endif
