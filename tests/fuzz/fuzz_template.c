/* tests/fuzz/fuzz_template.c - templates and their variables, both hostile.
 *
 * Input: template source, NUL, a JSON object of the user's.  Oracle: nothing crashes or leaks; the
 * limits hold; the runs cover the output, in order, and alternate; who the variables belong to
 * changes the marks and nothing else. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "protocol/template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_runs(const sl_template_output *out)
{
    size_t before = 0;

    SL_ASSERT(out->text.len <= SL_TEMPLATE_OUTPUT_MAX);
    for (size_t i = 0; i < out->run_count; i++) {
        SL_ASSERT(out->run[i].end > before);
        SL_ASSERT(i == 0 || out->run[i].user != out->run[i - 1].user);
        before = out->run[i].end;
    }
    SL_ASSERT(before == out->text.len);
    SL_ASSERT(sl_utf8_valid(out->text.len > 0 ? out->text.data : "", out->text.len));
}

static void check_rendering(const sl_template *t, const char *json, size_t len)
{
    const sl_template_args as_user = {.user_json = json, .user_json_len = len};
    const sl_template_args as_trusted = {.trusted_json = json, .trusted_json_len = len};
    sl_template_output user, trusted;
    sl_status user_status, trusted_status;
    sl_err err = {0};

    sl_template_output_init(&user);
    sl_template_output_init(&trusted);
    user_status = sl_template_render(t, &as_user, &user, &err);
    SL_ASSERT(user_status == SL_OK || user_status == SL_EINVAL);
    SL_ASSERT(user_status == SL_OK || strncmp(err.text, "chat template line ", 19) == 0);
    trusted_status = sl_template_render(t, &as_trusted, &trusted, &err);
    check_runs(&user);
    check_runs(&trusted);
    for (size_t i = 0; i < trusted.run_count; i++)
        SL_ASSERT(!trusted.run[i].user);
    /* Marks take steps and memory, so that only one of the two may meet a limit. */
    if (user_status == SL_OK && trusted_status == SL_OK) {
        SL_ASSERT(user.text.len == trusted.text.len);
        SL_ASSERT(user.text.len == 0 ||
                  memcmp(user.text.data, trusted.text.data, user.text.len) == 0);
    }
    sl_template_output_done(&user);
    sl_template_output_done(&trusted);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *source = (const char *)data;
    const char *end = size > 0 ? memchr(source, '\0', size) : NULL;
    const size_t source_len = end != NULL ? (size_t)(end - source) : size;
    sl_template *t = NULL;
    sl_err err = {0};
    const sl_status status = sl_template_compile(source, source_len, &t, &err);

    SL_ASSERT(status == SL_OK || status == SL_EFORMAT);
    if (status != SL_OK) {
        SL_ASSERT(t == NULL && err.text[0] != '\0');
        return 0;
    }
    check_rendering(t, end != NULL ? end + 1 : "", end != NULL ? size - source_len - 1 : 0);
    sl_template_destroy(t);
    return 0;
}
