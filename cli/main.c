/* cli/main.c - the subcommand table. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "bench") == 0)
        return sl_cli_bench(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "inspect") == 0)
        return sl_cli_inspect(argc - 1, argv + 1);
    puts("sluice " SL_VERSION);
    return 0;
}
