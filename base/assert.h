/* base/assert.h - programmer errors end the process, in release builds too.
 *
 * SL_ASSERT is for what only our own code can get wrong: never for anything that a client or a
 * file can cause.  On failure it prints the condition, the place and the note of the calling
 * thread (which request, which step), runs the dump hook once, and aborts.
 *
 * Thread: any.  The note is per thread. */
#ifndef SL_BASE_ASSERT_H
#define SL_BASE_ASSERT_H

#ifdef __cplusplus
extern "C" {
#endif

#define SL_ASSERT(cond) ((cond) ? (void)0 : sl_assert_failed(#cond, __FILE__, __LINE__))

/* Print, dump, abort. */
__attribute__((noreturn)) void sl_assert_failed(const char *cond, const char *file, int line);

/* What the calling thread is working on, for the message above.  `what` must be a static string
 * ("request", "step"); an empty note is ("", 0). */
void sl_assert_note(const char *what, unsigned long long number);

/* Called once, from the failing thread, before abort: the flight recorder's dump.  NULL: none.
 * The hook must not allocate or take locks. */
void sl_assert_set_dump(void (*dump)(int fd));

#ifdef __cplusplus
}
#endif

#endif
