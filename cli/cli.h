/* cli/cli.h - the subcommands: each takes its own argv (argv[0] is the command's name) and returns
 * the exit status: 0 done, 1 failed (a sentence on stderr), 2 wrong usage. */
#ifndef SL_CLI_CLI_H
#define SL_CLI_CLI_H

int sl_cli_serve(int argc, char **argv);
int sl_cli_inspect(int argc, char **argv);
int sl_cli_chat(int argc, char **argv);
int sl_cli_bench(int argc, char **argv);

#endif
