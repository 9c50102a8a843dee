/* Goal: the memory plan takes what was asked for, or what is sensible, and says no in time.
 * Method: a made-up model of 1 MiB a page; configurations around every limit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "cli/http_client.h"
#include "cli/plan.h"

#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

static const sl_model_plan weights = {
    .weight_bytes = 100 * MIB, .kv_plane_bytes = MIB / 8, .kv_bytes_per_page = MIB};

static sl_config config_of(uint32_t seqs, uint32_t context, uint64_t kv_bytes)
{
    return (sl_config){.max_num_seqs = seqs,
                       .max_num_batched_tokens = 512,
                       .max_model_len = context,
                       .kv_cache_bytes = kv_bytes};
}

static sl_model_config model_of(uint32_t context)
{
    return (sl_model_config){.context = context,
                             .hidden = 64,
                             .ff = 128,
                             .heads = 4,
                             .kv_heads = 2,
                             .head_dim = 16,
                             .vocab = 1000};
}

static sl_serve_plan make(uint32_t seqs, uint32_t context, uint64_t kv_bytes, uint32_t model,
                          size_t available)
{
    const sl_config c = config_of(seqs, context, kv_bytes);
    const sl_model_config m = model_of(model);
    sl_serve_plan p;
    sl_err err;

    if (sl_serve_plan_make(&c, &m, &weights, available, &p, &err) != SL_OK)
        fail_msg("%s", err.text);
    return p;
}

static void test_the_default_is_what_all_sequences_need(void **state)
{
    const sl_serve_plan p = make(4, 0, 0, 1024, 8 * GIB);

    (void)state;
    assert_int_equal(p.kv_pages, 4 * 16);
    assert_int_equal(p.plane_count, 4 * 16 * 8);
    assert_int_equal(p.kv_bytes, 64 * MIB);
    assert_int_equal(p.context_max, 1024);
    assert_string_equal(p.note, "");
}

static void test_the_default_has_a_limit(void **state)
{
    sl_serve_plan p = make(32, 0, 0, 8192, 64 * GIB);

    (void)state;
    assert_int_equal(p.kv_bytes, GIB);
    assert_int_equal(p.context_max, 8192);
    /* The context is lowered to what the cache holds, and that is said. */
    p = make(32, 0, 0, 131072, 64 * GIB);
    assert_int_equal(p.kv_bytes, GIB);
    assert_int_equal(p.context_max, 65536);
    assert_non_null(strstr(p.note, "65536"));
    assert_non_null(strstr(p.note, "131072"));
    /* A context that was asked for by name is worth more than the limit. */
    p = make(32, 131072, 0, 131072, 64 * GIB);
    assert_int_equal(p.context_max, 131072);
    assert_int_equal(p.kv_bytes, 2 * GIB);
    /* Half of what the weights leave, at most. */
    p = make(32, 0, 0, 131072, 300 * MIB);
    assert_true(p.kv_bytes <= 100 * MIB && p.kv_bytes > 80 * MIB);
    assert_int_equal(p.context_max, p.kv_pages * 64);
}

static void test_bytes_that_were_asked_for_are_taken(void **state)
{
    sl_serve_plan p = make(32, 0, 10 * MIB + 5, 8192, 64 * GIB);

    (void)state;
    assert_int_equal(p.kv_pages, 10);
    assert_int_equal(p.context_max, 640);
    assert_non_null(strstr(p.note, "--kv-cache-bytes"));
    p = make(32, 640, 10 * MIB, 8192, 64 * GIB);
    assert_int_equal(p.context_max, 640);
    assert_string_equal(p.note, "");
    p = make(32, 641, 10 * MIB, 8192, 64 * GIB);
    assert_int_equal(p.context_max, 640);
    p = make(32, 0, 4 * GIB, 8192, 64 * GIB);
    assert_int_equal(p.kv_bytes, 4 * GIB);
}

static void test_a_context_longer_than_the_models_is_cut(void **state)
{
    const sl_serve_plan p = make(4, 4096, 0, 1024, 8 * GIB);

    (void)state;
    assert_int_equal(p.context_max, 1024);
    assert_non_null(strstr(p.note, "4096"));
}

static void test_what_does_not_fit_is_refused(void **state)
{
    const sl_model_config m = model_of(8192);
    sl_config c = config_of(32, 0, MIB - 1);
    sl_serve_plan p = {.kv_pages = 7};
    sl_err err;

    (void)state;
    assert_int_equal(sl_serve_plan_make(&c, &m, &weights, 64 * GIB, &p, &err), SL_EINVAL);
    assert_non_null(strstr(err.text, "--kv-cache-bytes"));
    c.kv_cache_bytes = 2 * GIB;
    assert_int_equal(sl_serve_plan_make(&c, &m, &weights, GIB, &p, &err), SL_ENOMEM);
    assert_non_null(strstr(err.text, "2.00 GiB"));
    assert_non_null(strstr(err.text, "1.00 GiB"));
    c.kv_cache_bytes = 0;
    assert_int_equal(sl_serve_plan_make(&c, &m, &weights, 50 * MIB, &p, &err), SL_ENOMEM);
    assert_int_equal(p.kv_pages, 7);
}

static void test_this_machine_has_memory(void **state)
{
    (void)state;
    assert_true(sl_available_bytes() > 16 * MIB);
}

static void test_sizes_for_people(void **state)
{
    char text[32];

    (void)state;
    assert_string_equal(sl_size_text(0, text), "0 B");
    assert_string_equal(sl_size_text(1023, text), "1023 B");
    assert_string_equal(sl_size_text(1536, text), "1.50 KiB");
    assert_string_equal(sl_size_text(5 * GIB, text), "5.00 GiB");
}

static void test_urls(void **state)
{
    static const struct {
        const char *text, *host, *port, *prefix;
    } good[] = {
        {"http://127.0.0.1:8000", "127.0.0.1", "8000", ""},
        {"http://host", "host", "80", ""},
        {"host:81", "host", "81", ""},
        {"http://host:81/", "host", "81", ""},
        {"http://host:81/v1", "host", "81", ""},
        {"http://host:81/some/v1/", "host", "81", "/some"},
        {"http://[::1]:8000", "::1", "8000", ""},
        {"http://[::1]", "::1", "80", ""},
    };
    static const char *const bad[] = {
        "https://host",       "http://", "http://:80", "http://host:", "http://host:x",
        "http://host:123456", ""};
    sl_http_url url;
    sl_err err;

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_int_equal(sl_http_url_parse(good[i].text, &url, &err), SL_OK);
        assert_string_equal(url.host, good[i].host);
        assert_string_equal(url.port, good[i].port);
        assert_string_equal(url.prefix, good[i].prefix);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(sl_http_url_parse(bad[i], &url, &err), SL_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_default_is_what_all_sequences_need),
        cmocka_unit_test(test_the_default_has_a_limit),
        cmocka_unit_test(test_bytes_that_were_asked_for_are_taken),
        cmocka_unit_test(test_a_context_longer_than_the_models_is_cut),
        cmocka_unit_test(test_what_does_not_fit_is_refused),
        cmocka_unit_test(test_this_machine_has_memory),
        cmocka_unit_test(test_sizes_for_people),
        cmocka_unit_test(test_urls),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
