/* base/log.c - see log.h */
#include "base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

enum { LINE_MAX_BYTES = 8 << 10 };

static const char *const level_name[SL_LOG_COUNT] = {"debug", "info", "warn", "error"};
static atomic_int threshold = SL_LOG_INFO;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void sl_log_set_level(sl_log_level level)
{
    atomic_store_explicit(&threshold, (int)level, memory_order_relaxed);
}

bool sl_log_parse_level(const char *text, sl_log_level *out)
{
    for (int i = 0; i < SL_LOG_COUNT; i++)
        if (strcmp(text, level_name[i]) == 0) {
            *out = (sl_log_level)i;
            return true;
        }
    return false;
}

void sl_log(sl_log_level level, const char *format, ...)
{
    const int64_t now_us = sl_clock_unix_us();
    const time_t seconds = (time_t)(now_us / 1000000);
    char text[LINE_MAX_BYTES], line[LINE_MAX_BYTES + 64];
    struct tm tm;
    va_list args;
    size_t n;

    if ((int)level < atomic_load_explicit(&threshold, memory_order_relaxed))
        return;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    for (char *p = text; *p != '\0'; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7F)
            *p = '?';

    gmtime_r(&seconds, &tm);
    n = strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%S", &tm);
    n += (size_t)snprintf(line + n, sizeof(line) - n, ".%03dZ %-5s %s\n",
                          (int)(now_us / 1000 % 1000), level_name[level], text);
    if (n >= sizeof(line)) {
        n = sizeof(line) - 1;
        line[n - 1] = '\n';
    }
    pthread_mutex_lock(&lock);
    for (size_t done = 0; done < n;) {
        const ssize_t written = write(STDERR_FILENO, line + done, n - done);

        if (written <= 0)
            break; /* nobody reads: a log line is not worth a stall */
        done += (size_t)written;
    }
    pthread_mutex_unlock(&lock);
}
