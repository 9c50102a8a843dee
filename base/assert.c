/* base/assert.c - see assert.h */
#include "base/assert.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static _Thread_local const char *note_what = "";
static _Thread_local unsigned long long note_number;
static _Atomic(void (*)(int)) dump_hook;

void sl_assert_failed(const char *cond, const char *file, int line)
{
    void (*dump)(int) = atomic_exchange(&dump_hook, NULL);
    char text[512];
    int n;

    n = snprintf(text, sizeof(text), "sluice: assertion failed: %s at %s:%d%s%s%s%.0llu\n", cond,
                 file, line, note_what[0] != '\0' ? " in " : "", note_what,
                 note_what[0] != '\0' ? " " : "", note_what[0] != '\0' ? note_number : 0ULL);
    if (n > 0) {
        const ssize_t written =
            write(STDERR_FILENO, text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1);
        (void)written; /* nothing better can be done than abort, below */
    }
    if (dump != NULL)
        dump(STDERR_FILENO);
    abort();
}

void sl_assert_note(const char *what, unsigned long long number)
{
    note_what = what;
    note_number = number;
}

void sl_assert_set_dump(void (*dump)(int fd))
{
    atomic_store(&dump_hook, dump);
}
