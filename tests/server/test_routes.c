/* Goal: what is not in the table does not exist, and only two routes are open.
 * Method: walk the table; paths that are nearly routes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "server/routes.h"

static void test_only_live_and_health_are_open(void **state)
{
    const sl_route *r;
    size_t i = 0;

    (void)state;
    for (; (r = sl_route_at(i)) != NULL; i++) {
        const bool open = strcmp(r->path, "/live") == 0 || strcmp(r->path, "/health") == 0;

        assert_int_equal(r->auth == SL_AUTH_OPEN, open);
        assert_true(r->methods != 0);
        assert_true(r->id < SL_ROUTE_NONE);
    }
    assert_int_equal(i, 13);
}

static void test_routes_are_found_by_their_whole_path(void **state)
{
    static const char *const none[] = {"",          "/",           "/v1",          "/v1/",
                                       "/v1/model", "/v1/models/", "/v1/modelsx",  "/live/",
                                       "/LIVE",     "/metrics2",   "/v1/chat",     "*",
                                       "//live",    "/v1/live",    "/../v1/models"};
    const sl_route *r;

    (void)state;
    for (size_t i = 0; (r = sl_route_at(i)) != NULL; i++)
        if (!r->prefix)
            assert_ptr_equal(sl_route_find(r->path), r);
    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
        assert_null(sl_route_find(none[i]));
    assert_int_equal(sl_route_find("/v1/models/org/name")->id, SL_ROUTE_MODEL);
    assert_int_equal(sl_route_find("/v1/tokenize")->id, SL_ROUTE_TOKENIZE);
}

static void test_methods(void **state)
{
    const sl_route *chat = sl_route_find("/v1/chat/completions");
    const sl_route *models = sl_route_find("/v1/models");

    (void)state;
    assert_true(sl_route_allows(chat, SL_HTTP_POST));
    assert_false(sl_route_allows(chat, SL_HTTP_GET));
    assert_false(sl_route_allows(chat, SL_HTTP_OTHER));
    assert_true(sl_route_allows(models, SL_HTTP_GET));
    assert_true(sl_route_allows(models, SL_HTTP_HEAD));
    assert_false(sl_route_allows(models, SL_HTTP_POST));
    assert_false(sl_route_allows(models, SL_HTTP_OPTIONS));
    assert_string_equal(sl_route_methods_text(chat), "POST");
    assert_string_equal(sl_route_methods_text(models), "GET, HEAD");
}

static void test_every_id_has_a_label(void **state)
{
    (void)state;
    for (int i = 0; i < SL_ROUTE_NONE; i++)
        assert_string_not_equal(sl_route_label((sl_route_id)i), "other");
    assert_string_equal(sl_route_label(SL_ROUTE_NONE), "other");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_live_and_health_are_open),
        cmocka_unit_test(test_routes_are_found_by_their_whole_path),
        cmocka_unit_test(test_methods),
        cmocka_unit_test(test_every_id_has_a_label),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
