/* cli/main.c - the subcommand table. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
} command[] = {
    {"serve", sl_cli_serve, "serve a model over the OpenAI REST API"},
    {"chat", sl_cli_chat, "talk to a server from the terminal"},
    {"inspect", sl_cli_inspect, "show what is in a model file, and what memory it takes"},
    {"bench", sl_cli_bench, "measure the engine, or any server under load"},
};

static const size_t command_count = sizeof(command) / sizeof(command[0]);

static void help(FILE *f)
{
    fputs("usage: sluice COMMAND [options]\n\n"
          "sluice serves large language models: one process, one device, the OpenAI REST API.\n\n",
          f);
    for (size_t i = 0; i < command_count; i++)
        fprintf(f, "  sluice %-9s %s\n", command[i].name, command[i].help);
    fputs("  sluice help      this page\n"
          "  sluice --version\n\n"
          "Every command has --help.  To begin:\n\n"
          "  sluice serve model.gguf\n"
          "  sluice chat \"Why is the sky blue?\"\n",
          f);
}

static void list_commands(FILE *f)
{
    for (size_t i = 0; i < command_count; i++)
        fprintf(f, "%s%s", i > 0 ? ", " : "", command[i].name);
    fputc('\n', f);
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";

    for (size_t i = 0; i < command_count; i++)
        if (strcmp(name, command[i].name) == 0)
            return command[i].run(argc - 1, argv + 1);
    if (strcmp(name, "--version") == 0 || strcmp(name, "version") == 0) {
        puts("sluice " SL_VERSION);
        return 0;
    }
    if (strcmp(name, "help") == 0 || strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        help(stdout);
        return 0;
    }
    if (name[0] == '\0') {
        help(stderr);
        return 2;
    }
    fprintf(stderr, "sluice: there is no command '%.64s'; there are: ", name);
    list_commands(stderr);
    return 2;
}
