/* base/status.h - the one error type.
 *
 * Every row is: name, HTTP status, JSON error type, text.  The log name, the reply status, the
 * error object's `type` and the metrics label all come from this table and from nowhere else.
 *
 * What can fail returns sl_status and is SL_MUST_CHECK.  Results leave by `out` parameters, which
 * are untouched on failure.  A `sl_err *err` (last, may be NULL) holds one human sentence, written
 * once, at the origin; callers pass it up as it is.
 *
 * Thread: any; nothing here has state. */
#ifndef SL_BASE_STATUS_H
#define SL_BASE_STATUS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SL_MUST_CHECK __attribute__((warn_unused_result))

/* clang-format off */
#define SL_STATUS_ROWS(X)                                                              \
    X(OK,          200, "",                      "ok")                                 \
    X(EINVAL,      400, "invalid_request_error", "invalid argument")                   \
    X(EFORMAT,     400, "invalid_request_error", "malformed input")                    \
    X(ETOOLONG,    400, "invalid_request_error", "exceeds the context")                \
    X(EAUTH,       401, "invalid_request_error", "missing or wrong key")               \
    X(EFORBIDDEN,  403, "permission_error",      "not allowed")                        \
    X(ENOTFOUND,   404, "invalid_request_error", "not found")                          \
    X(EMETHOD,     405, "invalid_request_error", "method not allowed")                 \
    X(ETIMEOUT,    408, "timeout_error",         "timed out")                          \
    X(ETOOBIG,     413, "invalid_request_error", "too large")                          \
    X(ETOOLONGURI, 414, "invalid_request_error", "request target too long")            \
    X(EMEDIA,      415, "invalid_request_error", "unsupported encoding or media type") \
    X(EFULL,       429, "rate_limit_error",      "at capacity")                        \
    X(EHEADERS,    431, "invalid_request_error", "header section too large")           \
    X(ECANCELLED,  499, "cancelled",             "the client went away")               \
    X(EINTERNAL,   500, "server_error",          "internal error")                     \
    X(EIO,         500, "server_error",          "input or output failed")             \
    X(ENOMEM,      500, "server_error",          "out of memory")                      \
    X(EUNSUPPORTED,501, "server_error",          "not supported")                      \
    X(EUNAVAILABLE,503, "server_error",          "not ready, or shutting down")
/* clang-format on */

typedef enum sl_status {
#define SL_STATUS_ENUM(name, http, type, text) SL_##name,
    SL_STATUS_ROWS(SL_STATUS_ENUM)
#undef SL_STATUS_ENUM
        SL_STATUS_COUNT
} sl_status;

enum { SL_ERR_TEXT_MAX = 512 }; /* bytes of an error sentence, with its NUL */

/* One human sentence, and (for a client's request) what it is about.  `param` and `code` are
 * static strings or NULL: the `param` and `code` of the OpenAI error object. */
typedef struct sl_err {
    sl_status status;
    const char *param;
    const char *code;
    char text[SL_ERR_TEXT_MAX];
} sl_err;

/* Write the sentence into *err (if not NULL) and return `status`, so that a failing function ends
 * in `return sl_fail(err, SL_EFORMAT, "...", ...)`.  Sets err->param and err->code to NULL; too
 * long a text is cut at a character boundary.  Quote values: '%s', and bound them ('%.64s'). */
sl_status sl_fail(sl_err *err, sl_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* As sl_fail, naming the request field at fault and a machine-readable code (either may be NULL).
 * Both must be static strings. */
sl_status sl_fail_param(sl_err *err, sl_status status, const char *param, const char *code,
                        const char *format, ...) __attribute__((format(printf, 5, 6)));

/* "EINVAL", 400, "invalid_request_error", "invalid argument": the columns of the table. */
const char *sl_status_name(sl_status status);
int sl_status_http(sl_status status);
const char *sl_status_type(sl_status status);
const char *sl_status_text(sl_status status);

#ifdef __cplusplus
}
#endif

#endif
