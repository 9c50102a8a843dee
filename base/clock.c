/* base/clock.c - see clock.h */
#include "base/clock.h"

#include <time.h>

uint64_t sl_clock_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

int64_t sl_clock_unix_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000 + (int64_t)t.tv_nsec / 1000;
}

int64_t sl_clock_unix_s(void)
{
    return sl_clock_unix_us() / 1000000;
}
