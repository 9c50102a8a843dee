/* base/threads.c - see threads.h */
#include "base/threads.h"

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"

typedef struct start_arg {
    void (*main)(void *);
    void *arg;
    int cpu;
    char name[16];
} start_arg;

static void *trampoline(void *p)
{
    start_arg start = *(start_arg *)p;

    sl_free(p);
    pthread_setname_np(pthread_self(), start.name);
    if (start.cpu >= 0) {
        cpu_set_t set;

        CPU_ZERO(&set);
        CPU_SET((size_t)start.cpu, &set);
        pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
    }
    start.main(start.arg);
    return NULL;
}

sl_status sl_thread_start(sl_thread *thread, const char *name, int cpu, void (*main)(void *),
                          void *arg)
{
    start_arg *start = sl_alloc(1, sizeof(*start));
    sigset_t all, old;
    int rc;

    if (start == NULL)
        return SL_ENOMEM;
    start->main = main;
    start->arg = arg;
    start->cpu = cpu;
    snprintf(start->name, sizeof(start->name), "%.15s", name);

    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    rc = pthread_create(&thread->handle, NULL, trampoline, start);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc != 0) {
        sl_free(start);
        return SL_EUNAVAILABLE;
    }
    thread->running = true;
    return SL_OK;
}

void sl_thread_join(sl_thread *thread)
{
    if (!thread->running)
        return;
    pthread_join(thread->handle, NULL);
    thread->running = false;
}

void sl_futex_wait(atomic_uint *word, unsigned expected, uint64_t timeout_us)
{
    struct timespec t = {.tv_sec = (time_t)(timeout_us / 1000000u),
                         .tv_nsec = (long)(timeout_us % 1000000u) * 1000};

    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, timeout_us == UINT64_MAX ? NULL : &t,
            NULL, 0);
}

void sl_futex_wake(atomic_uint *word, int count)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

enum { WAKE_IDLE, WAKE_POSTED, WAKE_SLEEPS };

void sl_wake_init(sl_wake *wake)
{
    atomic_init(&wake->state, WAKE_IDLE);
}

void sl_wake_post(sl_wake *wake)
{
    if (atomic_exchange(&wake->state, WAKE_POSTED) == WAKE_SLEEPS)
        sl_futex_wake(&wake->state, 1);
}

bool sl_wake_wait(sl_wake *wake, uint64_t timeout_us)
{
    const uint64_t start_us = timeout_us == UINT64_MAX ? 0 : sl_clock_us();
    unsigned idle = WAKE_IDLE;

    if (!atomic_compare_exchange_strong(&wake->state, &idle, WAKE_SLEEPS)) {
        atomic_store(&wake->state, WAKE_IDLE); /* it was posted */
        return true;
    }
    for (;;) {
        uint64_t left_us = UINT64_MAX;
        unsigned posted = WAKE_POSTED, sleeps = WAKE_SLEEPS;

        if (atomic_compare_exchange_strong(&wake->state, &posted, WAKE_IDLE))
            return true;
        if (timeout_us != UINT64_MAX) {
            const uint64_t gone_us = sl_clock_us() - start_us;

            if (gone_us >= timeout_us) {
                if (atomic_compare_exchange_strong(&wake->state, &sleeps, WAKE_IDLE))
                    return false;
                continue; /* posted at the last moment */
            }
            left_us = timeout_us - gone_us;
        }
        sl_futex_wait(&wake->state, WAKE_SLEEPS, left_us);
    }
}

/* The cgroup's CPU quota, rounded up to whole cores; UINT32_MAX if there is none. */
static uint32_t quota_cores(void)
{
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "re");
    unsigned long long quota, period;
    uint32_t cores = UINT32_MAX;

    if (f == NULL)
        return cores;
    if (fscanf(f, "%llu %llu", &quota, &period) == 2 && period > 0)
        cores = (uint32_t)((quota + period - 1) / period);
    fclose(f);
    return cores > 0 ? cores : 1;
}

uint32_t sl_cpu_count(void)
{
    const uint32_t quota = quota_cores();
    uint32_t count = 1;
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof(set), &set) == 0)
        count = (uint32_t)CPU_COUNT(&set);
    if (count > quota)
        count = quota;
    return count > 0 ? count : 1;
}

int sl_cpu_id(uint32_t index)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof(set), &set) != 0)
        return -1;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET((size_t)cpu, &set) && index-- == 0)
            return cpu;
    return -1;
}
