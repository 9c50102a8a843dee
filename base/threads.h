/* base/threads.h - threads, wake-ups, cores: the only door to pthreads and futexes.
 *
 * Thread: any, as each declaration says. */
#ifndef SL_BASE_THREADS_H
#define SL_BASE_THREADS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

typedef struct sl_thread {
    pthread_t handle;
    bool running;
} sl_thread;

/* Start a thread.  `name` (at most 15 bytes) shows in ps and gdb.  cpu >= 0 asks for that core
 * (advice: a refusal is ignored), -1 for none.  All signals are blocked in it.
 * Errors: SL_EUNAVAILABLE (the system refused). */
SL_MUST_CHECK sl_status sl_thread_start(sl_thread *thread, const char *name, int cpu,
                                        void (*main)(void *), void *arg);
/* Wait for its end.  A thread that was never started is fine. */
void sl_thread_join(sl_thread *thread);

/* A wake-up that coalesces: post any number of times, one wait returns.  No allocation, no
 * failure; post may be called from any thread, wait from one. */
typedef struct sl_wake {
    atomic_uint state; /* 0 idle, 1 posted, 2 the waiter sleeps */
} sl_wake;

void sl_wake_init(sl_wake *wake);
void sl_wake_post(sl_wake *wake);
/* Wait until posted, or until timeout_us has passed (UINT64_MAX: for ever); consumes the post.
 * True if it was posted. */
bool sl_wake_wait(sl_wake *wake, uint64_t timeout_us);

/* Futex on a 32-bit word: sleep while *word == expected (may return early); wake `count`. */
void sl_futex_wait(atomic_uint *word, unsigned expected, uint64_t timeout_us);
void sl_futex_wake(atomic_uint *word, int count);

/* Tell the core that this is a spin loop. */
static inline void sl_cpu_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Cores this process may run on (affinity and cgroup quota counted), at least 1; and the system's
 * number of the i-th of them, i < count. */
uint32_t sl_cpu_count(void);
int sl_cpu_id(uint32_t index);

#endif
