/* tests/protocol/test_http.c - goal: the HTTP parser accepts, refuses and waits as documented,
 * whatever the splits, and the writers write what a client can read.
 *
 * Method: the catalogue http_cases.txt, each case run whole, in pieces, and cut at every offset;
 * then what a data file cannot say: fields of the request, memory, allocation failures. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "tests/protocol/http_digest.h"

enum { CASE_BODY_LIMIT = 1000, CUT_EVERYWHERE_MAX = 400 };

/* --- the catalogue ------------------------------------------------------------------------- */

/* Expand \r \n \t \0 \\ \xHH and {N*text} from *p up to `end` (or to the closing brace). */
static const char *expand(const char *p, bool nested, sl_buf *out)
{
    while (*p != '\0' && !(nested && *p == '}')) {
        unsigned n = 0, hex = 0;
        int used = 0;

        if (*p == '{' && sscanf(p, "{%u*%n", &n, &used) == 1 && used > 0) {
            const char *after = p;
            sl_buf inner;

            sl_buf_init(&inner, 1 << 20);
            after = expand(p + used, true, &inner);
            for (unsigned i = 0; i < n; i++)
                sl_buf_add(out, inner.data, inner.len);
            sl_buf_done(&inner);
            assert_int_equal(*after, '}');
            p = after + 1;
        } else if (*p == '\\') {
            const char *const names = "rnt0\\";
            const char *at = strchr(names, p[1]);

            if (p[1] == 'x') {
                assert_int_equal(sscanf(p + 2, "%2x", &hex), 1);
                sl_buf_add_char(out, (char)hex);
                p += 4;
            } else {
                assert_non_null(at);
                sl_buf_add_char(out, "\r\n\t\0\\"[at - names]);
                p += 2;
            }
        } else {
            sl_buf_add_char(out, *p++);
        }
    }
    return p;
}

static void describe(const http_outcome *o, char *text, size_t n)
{
    if (o->status != SL_OK)
        snprintf(text, n, "%d", sl_status_http(o->status));
    else if (o->closed)
        snprintf(text, n, "close");
    else if (o->requests > 0 && o->idle && o->requests == o->heads)
        snprintf(text, n, o->requests == 1 ? "keep" : "keep%zu", o->requests);
    else
        snprintf(text, n, "wait");
}

static void same_for_all_splits(const char *data, size_t n, size_t limit, const http_outcome *whole)
{
    static const size_t steps[] = {1, 2, 3, 5, 7, 64, 1000};

    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        http_outcome o = http_run_steps(data, n, limit, steps[i]);

        assert_string_equal(o.text.data, whole->text.data);
        http_outcome_done(&o);
    }
    for (size_t at = 0; at <= n && n <= CUT_EVERYWHERE_MAX; at++) {
        http_outcome o = http_run(data, n, limit, &at, 1);

        assert_string_equal(o.text.data, whole->text.data);
        http_outcome_done(&o);
    }
}

static void run_case(char *line)
{
    char *what = strstr(line, " | ");
    char *bytes = what != NULL ? strstr(what + 3, " |") : NULL;
    char got[16];
    http_outcome o;
    sl_buf data;

    assert_non_null(bytes);
    *what = '\0';
    *bytes = '\0';
    bytes += 2;
    if (*bytes == ' ')
        bytes++;
    sl_buf_init(&data, 1 << 20);
    expand(bytes, false, &data);
    assert_non_null(sl_buf_text(&data));
    o = http_run(data.data, data.len, CASE_BODY_LIMIT, NULL, 0);
    describe(&o, got, sizeof(got));
    if (strcmp(got, line) != 0)
        fail_msg("%s: want %s, got %s\n%s", what + 3, line, got, o.text.data);
    same_for_all_splits(data.data, data.len, CASE_BODY_LIMIT, &o);
    http_outcome_done(&o);
    sl_buf_done(&data);
}

static void every_case_of_the_catalogue_gets_its_verdict(void **state)
{
    char path[1024], line[4096];
    int cases = 0;
    FILE *f;

    (void)state;
    snprintf(path, sizeof(path), "%s/tests/protocol/http_cases.txt", getenv("SLUICE_SOURCE_ROOT"));
    f = fopen(path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof(line), f) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (line[0] == '\0' || line[0] == '#')
            continue;
        run_case(line);
        cases++;
    }
    fclose(f);
    print_message("%d cases\n", cases);
    assert_true(cases >= 220);
}

/* --- what a verdict does not say ----------------------------------------------------------- */

static sl_http_event feed_text(sl_http_parser *p, const char *text, size_t *used, sl_err *err)
{
    return sl_http_parser_feed(p, text, strlen(text), used, err);
}

static void a_request_has_its_fields(void **state)
{
    static const char text[] = "POST /v1/chat%2Fx?a=1%20&b HTTP/1.1\r\nHOST: example:8000\r\n"
                               "x-api-key:  secret \t\r\nExpect: 100-Continue\r\n"
                               "Content-Length: 5\r\nAccept: a\r\nAccept: b\r\n\r\nhelloGET";
    const size_t head = (size_t)(strstr(text, "hello") - text);
    sl_http_parser *p = NULL;
    sl_http_request *r;
    size_t used = 0;

    (void)state;
    assert_int_equal(sl_http_parser_create(100, &p), SL_OK);
    assert_true(sl_http_parser_idle(p));
    assert_int_equal(feed_text(p, text, &used, NULL), SL_HTTP_HEADERS);
    assert_int_equal(used, head);
    assert_false(sl_http_parser_idle(p));
    r = sl_http_parser_request(p);
    assert_int_equal(r->method, SL_HTTP_POST);
    assert_string_equal(r->path, "/v1/chat/x");
    assert_string_equal(r->query, "a=1%20&b");
    assert_true(r->keep_alive && r->expect_continue && !r->http10 && !r->chunked);
    assert_int_equal(r->content_length, 5);
    assert_string_equal(sl_http_parser_header(p, "X-Api-Key"), "secret");
    assert_string_equal(sl_http_parser_header(p, "host"), "example:8000");
    assert_string_equal(sl_http_parser_header(p, "ACCEPT"), "a");
    assert_null(sl_http_parser_header(p, "accep"));
    assert_null(sl_http_parser_header(p, ""));
    assert_int_equal(feed_text(p, text + head, &used, NULL), SL_HTTP_COMPLETE);
    assert_int_equal(used, 5);
    assert_int_equal(r->body.len, 5);
    assert_memory_equal(r->body.data, "hello", 5);
    assert_string_equal(r->path, "/v1/chat/x");
    sl_http_parser_next(p);
    assert_true(sl_http_parser_idle(p));
    assert_int_equal(feed_text(p, "\r\n", &used, NULL), SL_HTTP_NEED_MORE);
    assert_true(sl_http_parser_idle(p));
    assert_int_equal(feed_text(p, "G", &used, NULL), SL_HTTP_NEED_MORE);
    assert_false(sl_http_parser_idle(p));
    sl_http_parser_destroy(p);
}

static void a_request_without_a_body_ends_by_an_empty_feed(void **state)
{
    sl_http_parser *p = NULL;
    size_t used = 7;

    (void)state;
    assert_int_equal(sl_http_parser_create(100, &p), SL_OK);
    assert_int_equal(sl_http_parser_feed(p, NULL, 0, &used, NULL), SL_HTTP_NEED_MORE);
    assert_int_equal(used, 0);
    assert_int_equal(feed_text(p, "GET / HTTP/1.0\r\n\r\n", &used, NULL), SL_HTTP_HEADERS);
    assert_int_equal(used, 18);
    assert_true(sl_http_parser_request(p)->http10);
    assert_null(sl_http_parser_header(p, "host"));
    assert_int_equal(sl_http_parser_feed(p, NULL, 0, &used, NULL), SL_HTTP_COMPLETE);
    sl_http_parser_destroy(p);
}

static void absolute_targets_and_the_asterisk_become_paths(void **state)
{
    static const struct {
        const char *target, *path, *query;
    } cases[] = {
        {"http://a/x/y?z", "/x/y", "z"}, {"http://a", "/", ""}, {"http://a?q=1", "/", "q=1"},
        {"HTTPS://A/", "/", ""},         {"*", "*", ""},        {"/?", "/", ""},
        {"/a?b?c", "/a", "b?c"},         {"//x", "//x", ""}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        sl_http_parser *p = NULL;
        char text[128];
        size_t used;

        snprintf(text, sizeof(text), "OPTIONS %s HTTP/1.1\r\nHost: a\r\n\r\n", cases[i].target);
        assert_int_equal(sl_http_parser_create(0, &p), SL_OK);
        assert_int_equal(feed_text(p, text, &used, NULL), SL_HTTP_HEADERS);
        assert_string_equal(sl_http_parser_request(p)->path, cases[i].path);
        assert_string_equal(sl_http_parser_request(p)->query, cases[i].query);
        sl_http_parser_destroy(p);
    }
}

static void an_error_stays(void **state)
{
    sl_http_parser *p = NULL;
    sl_err err = {0}, again = {0};
    size_t used;

    (void)state;
    assert_int_equal(sl_http_parser_create(100, &p), SL_OK);
    assert_int_equal(feed_text(p, "GET / HTTP/3.0\r\n\r\n", &used, &err), SL_HTTP_ERROR);
    assert_int_equal(err.status, SL_EFORMAT);
    assert_true(strlen(err.text) > 10);
    assert_false(sl_http_parser_idle(p));
    assert_int_equal(feed_text(p, "GET / HTTP/1.0\r\n\r\n", &used, &again), SL_HTTP_ERROR);
    assert_int_equal(used, 0);
    assert_string_equal(again.text, err.text);
    sl_http_parser_destroy(p);
}

static void a_flood_of_small_chunks_is_refused_and_a_large_body_is_not(void **state)
{
    static const char head[] = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    static const char flood[] = "1\r\nx\r\n";
    sl_http_parser *p = NULL;
    sl_err err = {0};
    char *big = malloc(100000);
    size_t used, chunks = 0;

    (void)state;
    assert_non_null(big);
    memset(big, 'y', 100000);
    assert_int_equal(sl_http_parser_create(1 << 20, &p), SL_OK);
    assert_int_equal(feed_text(p, head, &used, &err), SL_HTTP_HEADERS);
    while (feed_text(p, flood, &used, &err) == SL_HTTP_NEED_MORE)
        chunks++;
    /* Each brings 5 bytes of framing for 1 of payload: 5n > n - 1 + 64 KiB. */
    assert_int_equal(err.status, SL_EFORMAT);
    assert_int_equal(chunks, SL_HTTP_CHUNK_OVERHEAD_MAX / 4);
    assert_int_equal(used, 0); /* exactly at the limit */
    sl_http_parser_destroy(p);

    assert_int_equal(sl_http_parser_create(1 << 20, &p), SL_OK);
    assert_int_equal(feed_text(p, head, &used, &err), SL_HTTP_HEADERS);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(feed_text(p, "186a0\r\n", &used, &err), SL_HTTP_NEED_MORE);
        assert_int_equal(sl_http_parser_feed(p, big, 100000, &used, &err), SL_HTTP_NEED_MORE);
        assert_int_equal(feed_text(p, "\r\n", &used, &err), SL_HTTP_NEED_MORE);
    }
    assert_int_equal(feed_text(p, "0\r\n\r\n", &used, &err), SL_HTTP_COMPLETE);
    assert_int_equal(sl_http_parser_request(p)->body.len, 1000000);
    /* An idle connection does not keep the memory of its largest body. */
    sl_http_parser_next(p);
    assert_int_equal(feed_text(p, "GET / HTTP/1.0\r\n\r\n", &used, &err), SL_HTTP_HEADERS);
    assert_true(sl_http_parser_request(p)->body.capacity <= 64 << 10);
    sl_http_parser_destroy(p);
    free(big);
}

static void a_refused_head_is_not_buffered(void **state)
{
    sl_http_parser *p = NULL;
    char *flood = malloc(1 << 20);
    sl_err err = {0};
    size_t used;

    (void)state;
    assert_non_null(flood);
    memset(flood, 'a', 1 << 20);
    assert_int_equal(sl_http_parser_create(1 << 20, &p), SL_OK);
    assert_int_equal(feed_text(p, "GET / HTTP/1.1\r\nX: ", &used, &err), SL_HTTP_NEED_MORE);
    assert_int_equal(sl_http_parser_feed(p, flood, 1 << 20, &used, &err), SL_HTTP_ERROR);
    assert_int_equal(err.status, SL_EHEADERS);
    assert_true(used <= SL_HTTP_HEADER_LINE_MAX);
    sl_http_parser_destroy(p);
    free(flood);
}

static void every_allocation_may_fail(void **state)
{
    static const char text[] = "POST /a?b HTTP/1.1\r\nHost: a\r\nContent-Length: 300\r\n\r\n";
    char body[300];
    int failures = 0;

    (void)state;
    memset(body, 'b', sizeof(body));
    for (uint64_t nth = 1; nth < 100; nth++) {
        sl_http_parser *p = NULL;
        sl_http_event event = SL_HTTP_ERROR;
        sl_err err = {0};
        size_t used;
        sl_status status;

        sl_alloc_fail_at(nth);
        status = sl_http_parser_create(1000, &p);
        if (status == SL_OK) {
            event = feed_text(p, text, &used, &err);
            if (event == SL_HTTP_HEADERS)
                event = sl_http_parser_feed(p, body, sizeof(body), &used, &err);
            status = err.status;
        }
        sl_alloc_fail_at(0);
        sl_http_parser_destroy(p);
        if (event == SL_HTTP_COMPLETE) {
            assert_true(failures >= 3); /* parser, head, body */
            return;
        }
        assert_int_equal(status, SL_ENOMEM);
        failures++;
    }
    fail();
}

/* --- replies ------------------------------------------------------------------------------- */

static const char *written(sl_buf *buf)
{
    const char *text = sl_buf_text(buf);

    assert_non_null(text);
    return text;
}

static void heads_have_the_fields_they_need(void **state)
{
    sl_buf out;

    (void)state;
    sl_buf_init(&out, 4096);
    sl_http_write_head(&out, 200, "application/json", 12, true, "X-Request-Id: 1\r\n");
    assert_int_equal(strncmp(written(&out), "HTTP/1.1 200 OK\r\nDate: ", 23), 0);
    assert_non_null(strstr(out.data, " GMT\r\nContent-Type: application/json\r\nContent-Length: 12"
                                     "\r\nConnection: keep-alive\r\nX-Request-Id: 1\r\n\r\n"));
    sl_buf_reset(&out);
    sl_http_write_head(&out, 200, "text/event-stream", SL_HTTP_CHUNKED, false, NULL);
    assert_non_null(
        strstr(written(&out), "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"));
    assert_null(strstr(out.data, "Content-Length"));
    sl_buf_reset(&out);
    sl_http_write_head(&out, 200, "text/event-stream", SL_HTTP_UNTIL_CLOSE, false, NULL);
    assert_null(strstr(written(&out), "Content-Length"));
    assert_null(strstr(out.data, "Transfer-Encoding"));
    sl_buf_reset(&out);
    sl_http_write_head(&out, 204, NULL, 0, true, NULL);
    assert_null(strstr(written(&out), "Content-Length"));
    assert_null(strstr(out.data, "Content-Type"));
    sl_buf_done(&out);
}

static void every_status_of_the_table_has_a_reason(void **state)
{
    sl_buf out;

    (void)state;
    sl_buf_init(&out, 4096);
    for (int i = 0; i < SL_STATUS_COUNT; i++) {
        sl_buf_reset(&out);
        sl_http_write_head(&out, sl_status_http((sl_status)i), NULL, 0, true, NULL);
        assert_null(strstr(written(&out), "Unknown"));
    }
    assert_int_equal(sl_status_http(SL_ETOOLONGURI), 414);
    sl_buf_done(&out);
}

/* RFC 9110's form, and the present time. */
static void dates_are_right(void **state)
{
    struct tm tm = {0};
    const time_t before = time(NULL);
    time_t said;
    sl_buf out;

    (void)state;
    sl_buf_init(&out, 4096);
    sl_http_write_head(&out, 200, NULL, 0, true, NULL);
    assert_non_null(
        strptime(strstr(written(&out), "Date: ") + 6, "%a, %d %b %Y %H:%M:%S GMT", &tm));
    said = timegm(&tm);
    assert_true(said >= before && said <= time(NULL));
    sl_buf_done(&out);
}

static void chunks_read_back_as_the_body(void **state)
{
    sl_http_parser *p = NULL;
    size_t used;
    sl_buf out;

    (void)state;
    sl_buf_init(&out, 1 << 20);
    sl_buf_add_str(&out, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    sl_http_write_chunk(&out, "data: ", 6);
    sl_http_write_chunk(&out, NULL, 0);
    sl_http_write_chunk(&out, "0123456789abcdefg\n\n", 19);
    sl_http_write_last_chunk(&out);
    assert_int_equal(sl_http_parser_create(100, &p), SL_OK);
    assert_int_equal(feed_text(p, written(&out), &used, NULL), SL_HTTP_HEADERS);
    assert_int_equal(feed_text(p, out.data + used, &used, NULL), SL_HTTP_COMPLETE);
    assert_int_equal(sl_http_parser_request(p)->body.len, 25);
    assert_memory_equal(sl_http_parser_request(p)->body.data, "data: 0123456789abcdefg\n\n", 25);
    sl_http_parser_destroy(p);
    sl_buf_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_case_of_the_catalogue_gets_its_verdict),
        cmocka_unit_test(a_request_has_its_fields),
        cmocka_unit_test(a_request_without_a_body_ends_by_an_empty_feed),
        cmocka_unit_test(absolute_targets_and_the_asterisk_become_paths),
        cmocka_unit_test(an_error_stays),
        cmocka_unit_test(a_flood_of_small_chunks_is_refused_and_a_large_body_is_not),
        cmocka_unit_test(a_refused_head_is_not_buffered),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(heads_have_the_fields_they_need),
        cmocka_unit_test(every_status_of_the_table_has_a_reason),
        cmocka_unit_test(dates_are_right),
        cmocka_unit_test(chunks_read_back_as_the_body),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
