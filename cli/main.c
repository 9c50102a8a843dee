/* cli/main.c - the subcommand table. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

int main(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    puts("sluice " SL_VERSION);
    return 0;
}
