/* tests/cli/chat_main.c - `sluice chat` as a program of its own, for chat.py. */
#include "cli/cli.h"

int main(int argc, char **argv)
{
    return sl_cli_chat(argc, argv);
}
