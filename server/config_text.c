/* server/config_text.c - the configuration as text: --print-config and --help. */
#include <string.h>

#include "server/config_internal.h"

static void bytes_text(uint64_t bytes, char *out, size_t n)
{
    static const char unit[] = {'K', 'M', 'G', 'T'};
    int u = -1;

    while (u < 3 && bytes != 0 && bytes % 1024 == 0) {
        bytes /= 1024;
        u++;
    }
    if (u < 0)
        snprintf(out, n, "%llu", (unsigned long long)bytes);
    else
        snprintf(out, n, "%llu%c", (unsigned long long)bytes, unit[u]);
}

void sl_option_value_text(const sl_option *o, const sl_config *config, char *out, size_t n)
{
    const char *at = (const char *)config + o->offset;

    switch (o->kind) {
    case SL_OPTION_COUNT:
        snprintf(out, n, "%u", *(const uint32_t *)(const void *)at);
        break;
    case SL_OPTION_BYTES:
        bytes_text(*(const uint64_t *)(const void *)at, out, n);
        break;
    case SL_OPTION_SHARE:
        snprintf(out, n, "%.17g", *(const double *)(const void *)at);
        break;
    case SL_OPTION_BOOL:
    case SL_OPTION_ACTION:
        snprintf(out, n, "%s", *(const bool *)(const void *)at ? "true" : "false");
        break;
    default:
        snprintf(out, n, "%s", at);
    }
}

void sl_config_print(const sl_config *config, FILE *f)
{
    static const char *const source[] = {"default", "configuration file", "environment",
                                         "command line"};

    fprintf(f, "; sluice %s: the configuration, each value with where it came from\n", SL_VERSION);
    for (size_t i = 0; i < sl_option_count; i++) {
        const sl_option *o = &sl_option_table[i];
        char key[80], value[SL_CONFIG_TEXT_MAX];

        if (o->kind == SL_OPTION_ACTION || strcmp(o->name, "config") == 0)
            continue;
        if (o->group != NULL)
            fprintf(f, "\n; %s\n", o->group);
        sl_option_key(o, key);
        sl_option_value_text(o, config, value, sizeof(value));
        if (value[0] == '\0' && config->source[i] == SL_SOURCE_DEFAULT)
            fprintf(f, "; %s =   ; not set\n", key);
        else
            fprintf(f, "%s = %s ; %s\n", key, value, source[config->source[i]]);
    }
}

/* "--model FILE, -m" */
static void option_text(const sl_option *o, char *out, size_t n)
{
    const char *value = o->kind == SL_OPTION_CHOICE ? o->choices : o->value != NULL ? o->value : "";
    int k = snprintf(out, n, "--%s%s%s%s", o->kind == SL_OPTION_BOOL ? "[no-]" : "", o->name,
                     value[0] != '\0' ? " " : "", value);

    if (o->letter != 0 && k > 0 && (size_t)k < n)
        snprintf(out + k, n - (size_t)k, ", -%c", o->letter);
}

void sl_config_help(FILE *f)
{
    fputs("usage: sluice serve [options] [--model] FILE\n"
          "\n"
          "Serve a language model over the OpenAI REST API.\n"
          "\n"
          "  sluice serve model.gguf                      on 127.0.0.1:8000\n"
          "  sluice serve model.gguf --check              what memory will it take?\n"
          "  sluice serve model.gguf --host 0.0.0.0 --api-key-file keys.txt\n"
          "\n"
          "Every option is also an environment variable (--max-num-seqs: SLUICE_MAX_NUM_SEQS) and\n"
          "a key of the INI file (max_num_seqs).  The command line wins over the environment, the\n"
          "environment over the file.  Sizes take K, M, G and T (powers of 1024).\n",
          f);
    for (size_t i = 0; i < sl_option_count; i++) {
        const sl_option *o = &sl_option_table[i];
        char text[120];

        if (o->group != NULL)
            fprintf(f, "\n%s\n", o->group);
        option_text(o, text, sizeof(text));
        fprintf(f, "  %-38s %s", text, o->help);
        if (o->preset != NULL)
            fprintf(f, " [%s]", o->preset);
        fputc('\n', f);
    }
}
