/* base/status.c - see status.h */
#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"

static const struct {
    const char *name;
    int http;
    const char *type;
    const char *text;
} row[SL_STATUS_COUNT] = {
#define SL_STATUS_ROW(name, http, type, text) {#name, http, type, text},
    SL_STATUS_ROWS(SL_STATUS_ROW)
#undef SL_STATUS_ROW
};

static void write_text(sl_err *err, const char *format, va_list args)
{
    const int n = vsnprintf(err->text, sizeof(err->text), format, args);
    size_t end = sizeof(err->text) - 1;

    if (n < 0) {
        err->text[0] = '\0';
        return;
    }
    if ((size_t)n <= end)
        return;
    /* Cut: do not leave half a UTF-8 character behind. */
    while (end > 0 && ((unsigned char)err->text[end - 1] & 0xC0) == 0x80)
        end--;
    if (end > 0 && ((unsigned char)err->text[end - 1] & 0x80) != 0)
        end--;
    err->text[end] = '\0';
}

sl_status sl_fail(sl_err *err, sl_status status, const char *format, ...)
{
    va_list args;

    SL_ASSERT(status != SL_OK && status < SL_STATUS_COUNT);
    if (err == NULL)
        return status;
    err->status = status;
    err->param = NULL;
    err->code = NULL;
    va_start(args, format);
    write_text(err, format, args);
    va_end(args);
    return status;
}

sl_status sl_fail_param(sl_err *err, sl_status status, const char *param, const char *code,
                        const char *format, ...)
{
    va_list args;

    SL_ASSERT(status != SL_OK && status < SL_STATUS_COUNT);
    if (err == NULL)
        return status;
    err->status = status;
    err->param = param;
    err->code = code;
    va_start(args, format);
    write_text(err, format, args);
    va_end(args);
    return status;
}

const char *sl_status_name(sl_status status)
{
    SL_ASSERT(status < SL_STATUS_COUNT);
    return row[status].name;
}

int sl_status_http(sl_status status)
{
    SL_ASSERT(status < SL_STATUS_COUNT);
    return row[status].http;
}

const char *sl_status_type(sl_status status)
{
    SL_ASSERT(status < SL_STATUS_COUNT);
    return row[status].type;
}

const char *sl_status_text(sl_status status)
{
    SL_ASSERT(status < SL_STATUS_COUNT);
    return row[status].text;
}
