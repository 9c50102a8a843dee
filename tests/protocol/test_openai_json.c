/* tests/protocol/test_openai_json.c - goal: bodies are read as strict JSON within the memory
 * budget, by several threads at once, and every failed allocation is an error.
 *
 * Method: JSONTestSuite (../shared/data/json/test_parsing), each file as a body and as a member of
 * one; bodies made to cost much memory; two threads; a loop over "the N-th allocation fails". */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/threads.h"
#include "protocol/openai.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

static sl_status read_body(const char *body, size_t len, sl_err *err)
{
    sl_api_request *q = malloc(sizeof(*q));
    char *exact = malloc(len > 0 ? len : 1);
    sl_arena arena;
    sl_status status;

    if (q == NULL || exact == NULL)
        abort();
    memcpy(exact, body, len);
    sl_arena_init(&arena, 32 << 20);
    status = sl_api_read(SL_API_COMPLETION, exact, len, false, &arena, q, err);
    sl_arena_done(&arena);
    free(exact);
    free(q);
    return status;
}

static sl_status read_text(const char *body, sl_err *err)
{
    return read_body(body, strlen(body), err);
}

/* --- JSONTestSuite ------------------------------------------------------------------------- */

/* Refused on purpose: duplicate keys, and NUL in keys and strings. */
static bool refused_by_choice(const char *name)
{
    return strcmp(name, "y_object_duplicated_key.json") == 0 ||
           strcmp(name, "y_object_duplicated_key_and_value.json") == 0 ||
           strcmp(name, "y_object_escaped_null_in_key.json") == 0 ||
           strcmp(name, "y_string_null_escape.json") == 0;
}

static size_t read_file(const char *path, char **out)
{
    FILE *f = fopen(path, "rb");
    long n;

    assert_non_null(f);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    n = ftell(f);
    assert_true(n >= 0);
    rewind(f);
    *out = malloc((size_t)n + 1);
    assert_non_null(*out);
    assert_int_equal(fread(*out, 1, (size_t)n, f), (size_t)n);
    fclose(f);
    return (size_t)n;
}

static void check_file(const char *name, const char *text, size_t n)
{
    static const char before[] = "{\"prompt\":\"a\",\"metadata\":{\"x\":";
    static const char after[] = "}}";
    sl_err err = {0};
    const sl_status alone = read_body(text, n, &err);
    sl_status inside;
    sl_buf body;

    sl_buf_init(&body, 1 << 24);
    sl_buf_add_str(&body, before);
    sl_buf_add(&body, text, n);
    sl_buf_add_str(&body, after);
    inside = read_body(body.data, body.len, &err);
    if (name[0] == 'n' || refused_by_choice(name)) {
        if (alone != SL_EFORMAT || inside != SL_EFORMAT)
            fail_msg("%s: %s alone, %s inside", name, sl_status_name(alone),
                     sl_status_name(inside));
    } else if (name[0] == 'y') {
        /* Alone, an object is JSON without a prompt; anything else is not an object. */
        const bool object = memchr(text, '{', n) != NULL && text[strspn(text, " \t\r\n")] == '{';

        if (inside != SL_OK || alone != (object ? SL_EINVAL : SL_EFORMAT))
            fail_msg("%s: %s alone, %s inside", name, sl_status_name(alone),
                     sl_status_name(inside));
    }
    sl_buf_done(&body);
}

static void the_test_suite_of_json_gets_its_verdicts(void **state)
{
    char folder[1024];
    struct dirent *entry;
    int files = 0;
    DIR *dir;

    (void)state;
    snprintf(folder, sizeof(folder), "%s/../shared/data/json/test_parsing",
             getenv("SLUICE_SOURCE_ROOT"));
    dir = opendir(folder);
    if (dir == NULL) {
        print_message("SKIPPED: no %s\n", folder);
        skip();
    }
    while ((entry = readdir(dir)) != NULL) {
        char path[2048];
        char *text = NULL;
        size_t n;

        if (strstr(entry->d_name, ".json") == NULL)
            continue;
        snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
        n = read_file(path, &text);
        text[n] = '\0';
        check_file(entry->d_name, text, n);
        free(text);
        files++;
    }
    closedir(dir);
    print_message("%d files\n", files);
    assert_int_equal(files, 318);
}

/* --- limits -------------------------------------------------------------------------------- */

static void bodies_that_are_not_json_objects_are_refused(void **state)
{
    static const char *const bodies[] = {"",
                                         " ",
                                         "null",
                                         "[]",
                                         "\"a\"",
                                         "1",
                                         "{",
                                         "{\"a\":1",
                                         "{\"prompt\":\"",
                                         "{}{}",
                                         "{} x",
                                         "\xEF\xBB\xBF{}",
                                         "{,}",
                                         "{'a':1}",
                                         "{\"a\":NaN}",
                                         "{\"a\":01}",
                                         "{\"a\":1,}",
                                         "{\"a\":1e999}",
                                         "{\"a\":18446744073709551616}",
                                         "{\"prompt\":\"\xC0\x80\"}",
                                         "{\"prompt\":\"\xED\xA0\x80\"}",
                                         "{\"prompt\":\"\\ud800\"}",
                                         "{\"prompt\":\"a\\u0000b\"}",
                                         "{\"prompt\":\"a\",\"prompt\":\"b\"}",
                                         "{\"prompt\":\"a\nb\"}"};

    (void)state;
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        sl_err err = {0};

        if (read_text(bodies[i], &err) != SL_EFORMAT)
            fail_msg("accepted: %s", bodies[i]);
        assert_string_equal(err.code, "invalid_json");
        assert_true(err.text[0] != '\0');
    }
    assert_int_equal(read_text("{\"prompt\":\"\\ud83d\\ude00 \xC3\xA9\"}", NULL), SL_OK);
}

/* {"prompt":"a","metadata":{"x":[[[...]]]}} */
static sl_status read_nested(size_t depth)
{
    sl_err err = {0};
    sl_status status;
    sl_buf body;

    sl_buf_init(&body, 1 << 20);
    sl_buf_add_str(&body, "{\"prompt\":\"[[[[\\\"[{{\",\"metadata\":{\"x\":");
    for (size_t i = 0; i < depth; i++)
        sl_buf_add_char(&body, '[');
    for (size_t i = 0; i < depth; i++)
        sl_buf_add_char(&body, ']');
    sl_buf_add_str(&body, "}}");
    status = read_body(body.data, body.len, &err);
    sl_buf_done(&body);
    return status;
}

static void nesting_is_limited(void **state)
{
    (void)state;
    assert_int_equal(read_nested(1), SL_OK);
    assert_int_equal(read_nested(SL_JSON_DEPTH_MAX - 2), SL_OK);
    assert_int_equal(read_nested(SL_JSON_DEPTH_MAX - 1), SL_EFORMAT);
    assert_int_equal(read_nested(100000), SL_EFORMAT);
}

/* A body of about 4 MiB of copies of `item`. */
static void fill_body(sl_buf *body, const char *item, bool keys)
{
    sl_buf_reset(body);
    sl_buf_add_str(body, keys ? "{\"prompt\":\"a\",\"metadata\":{\"k\":1"
                              : "{\"prompt\":\"a\",\"metadata\":{\"x\":[0");
    for (unsigned i = 0; body->len < 4u << 20; i++) {
        sl_buf_add_char(body, ',');
        if (keys)
            sl_buf_addf(body, "\"%x\":", i);
        sl_buf_add_str(body, item);
    }
    sl_buf_add_str(body, keys ? "}}" : "]}}");
    assert_false(body->failed);
}

static void bodies_made_to_cost_memory_stay_within_the_budget(void **state)
{
    static const struct {
        const char *item;
        bool keys;
        bool refused; /* it would take more than the budget */
    } cases[] = {{"{}", false, true},      {"[]", false, true},   {"\"\"", false, true},
                 {"1", false, true},       {"1.5", false, false}, {"{\"a\":{}}", false, true},
                 {"1", true, false},       {"{}", true, true},    {"null", false, false},
                 {"[[[[]]]]", false, true}};
    struct rusage before, after;
    sl_buf body;

    (void)state;
    sl_buf_init(&body, 8 << 20);
    fill_body(&body, "0", false);
    getrusage(RUSAGE_SELF, &before);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        sl_err err = {0};
        sl_status status;

        fill_body(&body, cases[i].item, cases[i].keys);
        status = read_body(body.data, body.len, &err);
        print_message("4 MiB of %s%s: %s\n", cases[i].item, cases[i].keys ? " by key" : "",
                      sl_status_name(status));
        assert_true(status == SL_OK || status == SL_EFORMAT);
        if (cases[i].refused)
            assert_int_equal(status, SL_EFORMAT);
    }
    getrusage(RUSAGE_SELF, &after);
    print_message("grew by %ld MiB\n", (after.ru_maxrss - before.ru_maxrss) >> 10);
    /* 64 MiB of budget, the copy of the body that this test makes, and what the allocator cannot
     * use again at once. */
    if (!SANITIZED)
        assert_true(after.ru_maxrss - before.ru_maxrss < (64 + 4 + 16) << 10);
    sl_buf_done(&body);
}

static void a_large_text_fits(void **state)
{
    sl_err err = {0};
    sl_buf body;

    (void)state;
    sl_buf_init(&body, 8 << 20);
    sl_buf_add_str(&body, "{\"prompt\":\"");
    while (body.len < 4u << 20)
        sl_buf_add_str(&body, "All the world's a stage. ");
    sl_buf_add_str(&body, "\"}");
    assert_int_equal(read_body(body.data, body.len, &err), SL_OK);
    sl_buf_done(&body);
}

static void a_small_arena_is_too_small_and_not_out_of_memory(void **state)
{
    static const char body[] = "{\"prompt\":\"0123456789012345678901234567890123456789\"}";
    sl_api_request *q = calloc(1, sizeof(*q));
    sl_err err = {0};
    sl_arena arena;

    (void)state;
    assert_non_null(q);
    sl_arena_init(&arena, 1000);
    assert_int_equal(sl_api_read(SL_API_COMPLETION, body, strlen(body), false, &arena, q, &err),
                     SL_ETOOBIG);
    assert_int_equal(q->n, 0); /* untouched */
    sl_arena_done(&arena);
    free(q);
}

/* --- threads and failures ------------------------------------------------------------------ */

typedef struct job {
    const sl_buf *body;
    sl_status want;
    int wrong;
} job;

static void run_job(void *arg)
{
    job *j = arg;

    for (int i = 0; i < 2; i++) {
        sl_err err = {0};

        if (read_body(j->body->data, j->body->len, &err) != j->want)
            j->wrong++;
    }
}

static void two_threads_have_a_budget_each(void **state)
{
    sl_buf heavy, light;
    sl_thread threads[3];
    job jobs[3] = {{&heavy, SL_EFORMAT, 0}, {&light, SL_OK, 0}, {&light, SL_OK, 0}};

    (void)state;
    sl_buf_init(&heavy, 8 << 20);
    sl_buf_init(&light, 8 << 20);
    fill_body(&heavy, "{}", false);
    /* Two of these at once pass the budget of one. */
    sl_buf_add_str(&light, "{\"prompt\":\"a\",\"metadata\":{\"x\":[0");
    for (int i = 0; i < 150000; i++)
        sl_buf_add_str(&light, ",{}");
    sl_buf_add_str(&light, "]}}");
    for (int i = 0; i < 3; i++)
        assert_int_equal(sl_thread_start(&threads[i], "reader", -1, run_job, &jobs[i]), SL_OK);
    for (int i = 0; i < 3; i++) {
        sl_thread_join(&threads[i]);
        assert_int_equal(jobs[i].wrong, 0);
    }
    sl_buf_done(&heavy);
    sl_buf_done(&light);
}

static void every_allocation_may_fail(void **state)
{
    static const char body[] =
        "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"}]},"
        "{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"1\",\"type\":\"function\",\"function\":"
        "{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":[1]}\"}}]}],\"stop\":[\"x\"],"
        "\"chat_template_kwargs\":{\"a\":true},\"model\":\"m\",\"unknown\":1}";
    sl_api_request *q = calloc(1, sizeof(*q));
    uint64_t nth;

    (void)state;
    assert_non_null(q);
    for (nth = 1; nth < 1000; nth++) {
        sl_arena arena;
        sl_err err = {0};
        sl_status status;

        sl_arena_init(&arena, 1 << 20);
        sl_alloc_fail_at(nth);
        status = sl_api_read(SL_API_CHAT, body, strlen(body), false, &arena, q, &err);
        sl_alloc_fail_at(0);
        sl_arena_done(&arena);
        if (status == SL_OK)
            break;
        assert_int_equal(status, SL_ENOMEM);
        assert_int_equal(err.status, SL_ENOMEM);
        assert_int_equal(q->n, 0);
    }
    print_message("%d allocations\n", (int)nth - 1);
    assert_in_range(nth, 40, 999);
    free(q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_test_suite_of_json_gets_its_verdicts),
        cmocka_unit_test(bodies_that_are_not_json_objects_are_refused),
        cmocka_unit_test(nesting_is_limited),
        cmocka_unit_test(bodies_made_to_cost_memory_stay_within_the_budget),
        cmocka_unit_test(a_large_text_fits),
        cmocka_unit_test(a_small_arena_is_too_small_and_not_out_of_memory),
        cmocka_unit_test(two_threads_have_a_budget_each),
        cmocka_unit_test(every_allocation_may_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
