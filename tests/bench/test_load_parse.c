/* Goal: bytes of servers are read the same in any splits, and wrong ones are refused.
 * Method: every text is fed whole, and cut at every position; expectations are written by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "bench/load_internal.h"
#include "bench/load_sse.h"

/* Feed pieces [0, cut), [cut, n) to a reply; collect the body; '\x01' separates nothing else. */
static size_t feed_reply(sl_load_reply *r, const char *data, size_t n, sl_buf *body)
{
    size_t at = 0;

    while (at < n && r->state != SL_REPLY_DONE && r->state != SL_REPLY_BAD) {
        const char *part;
        size_t len;

        at += sl_load_reply_feed(r, data + at, n - at, &part, &len);
        sl_buf_add(body, part, len);
    }
    return at;
}

typedef struct reply_case {
    const char *bytes, *body;
    int status;
    bool keep_alive, event_stream, ends_by_close;
    size_t left_over;
} reply_case;

static const reply_case replies[] = {
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello", 200, true, false, false, 0},
    {"HTTP/1.1 200 OK\r\ncontent-length:5\r\n\r\nhelloHTTP", "hello", 200, true, false, false, 4},
    {"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: "
     "chunked\r\n\r\n5\r\nhello\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n",
     "hello0123456789", 200, true, true, false, 0},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-T: 1\r\n\r\nrest", "a",
     200, true, false, false, 4},
    {"HTTP/1.1 429 Too Many\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}", "{}", 429, false,
     false, false, 0},
    {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", "x", 200, true,
     false, false, 0},
    {"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\nall of it", "all of it", 200, false,
     true, true, 0},
    {"HTTP/1.1 204 No Content\r\n\r\n", "", 204, true, false, false, 0},
    {"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", "ok", 200, true, false, false, 0},
    {"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 0\r\n\r\n", "", 200, true, false,
     false, 0},
};

static void replies_are_the_same_at_every_split(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(replies) / sizeof(*replies); i++) {
        const reply_case *c = &replies[i];
        const size_t n = strlen(c->bytes);

        for (size_t cut = 0; cut <= n; cut++) {
            static sl_load_reply r;
            size_t used;
            sl_buf body;

            sl_buf_init(&body, 1 << 20);
            sl_load_reply_init(&r);
            used = feed_reply(&r, c->bytes, cut, &body);
            if (used == cut)
                used += feed_reply(&r, c->bytes + cut, n - cut, &body);
            if (c->ends_by_close)
                assert_true(sl_load_reply_closed(&r));
            assert_int_equal(r.state, SL_REPLY_DONE);
            assert_int_equal(r.status, c->status);
            assert_true(r.keep_alive == c->keep_alive);
            assert_true(r.event_stream == c->event_stream);
            assert_int_equal(n - used, c->left_over);
            assert_int_equal(body.len, strlen(c->body));
            assert_memory_equal(body.data != NULL ? body.data : "", c->body, body.len);
            sl_buf_done(&body);
        }
    }
}

static void wrong_replies_are_refused(void **state)
{
    static const char *const wrong[] = {
        "hello\r\n",
        "HTTP/2 200 OK\r\n",
        "HTTP/1.1 99 Low\r\n",
        "HTTP/1.1 200 OK\r\nno colon here\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
        for (size_t cut = 0; cut <= strlen(wrong[i]); cut++) {
            static sl_load_reply r;
            sl_buf body;

            sl_buf_init(&body, 1 << 20);
            sl_load_reply_init(&r);
            feed_reply(&r, wrong[i], cut, &body);
            feed_reply(&r, wrong[i] + cut, strlen(wrong[i]) - cut, &body);
            assert_int_equal(r.state, SL_REPLY_BAD);
            assert_false(sl_load_reply_closed(&r));
            sl_buf_done(&body);
        }
}

static void a_header_line_without_end_is_refused_not_kept(void **state)
{
    static sl_load_reply r;
    static char line[SL_LOAD_LINE_MAX + 100];
    const char *part;
    size_t len;

    (void)state;
    memset(line, 'a', sizeof(line));
    sl_load_reply_init(&r);
    sl_load_reply_feed(&r, line, sizeof(line), &part, &len);
    assert_int_equal(r.state, SL_REPLY_BAD);
}

static void a_reply_that_ends_early_is_not_complete(void **state)
{
    static const char *const cut[] = {
        "", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"};

    (void)state;
    for (size_t i = 0; i < sizeof(cut) / sizeof(*cut); i++) {
        static sl_load_reply r;
        sl_buf body;

        sl_buf_init(&body, 1000);
        sl_load_reply_init(&r);
        feed_reply(&r, cut[i], strlen(cut[i]), &body);
        assert_false(sl_load_reply_closed(&r));
        sl_buf_done(&body);
    }
}

/* --- events -------------------------------------------------------------------------------- */

/* All events of data[0..n) in the pieces that `cuts` (ascending, ending in n) say, as "a|b|". */
static void events_of(const char *data, const size_t *cuts, size_t count, char *out)
{
    sl_load_sse sse;
    size_t from = 0;

    out[0] = '\0';
    sl_load_sse_init(&sse);
    for (size_t i = 0; i < count; i++) {
        const char *at = data + from;
        size_t n = cuts[i] - from, used, len;
        const char *event;

        while (n > 0) {
            /* The bytes move, as a receive buffer's do: the parser may keep no pointer to them. */
            char *copy = malloc(n);

            assert_non_null(copy);
            memcpy(copy, at, n);
            if (sl_load_sse_next(&sse, copy, n, &used, &event, &len)) {
                strncat(out, event, len);
                strcat(out, "|");
            }
            free(copy);
            at += used;
            n -= used;
        }
        from = cuts[i];
    }
    sl_load_sse_done(&sse);
}

static const struct {
    const char *bytes, *events;
} streams[] = {
    {"data: a\n\ndata: b\n\n", "a|b|"},
    {"data: a\r\n\r\ndata: b\r\n\r\n", "a|b|"},
    {"data: a\r\rdata: b\r\r", "a|b|"},
    {"data:a\n\ndata:  b\n\n", "a| b|"},
    {"\xEF\xBB\xBF"
     "data: a\n\n",
     "a|"},
    {": comment\n\ndata: a\n: another\nid: 4\nevent: x\nretry: 5\n\n", "a|"},
    {"data: one\ndata: two\n\n", "one\ntwo|"},
    {"data: one\r\ndata: two\r\n\r\ndata: three\r\n\r\n", "one\ntwo|three|"},
    {"data: one\rdata: two\r\r", "one\ntwo|"},
    {"data\n\ndata:\n\n", "||"},
    {"\n\n\n\ndata: a\n\n\n\n", "a|"},
    {"data: cut off", ""},
    {"data: cut off\n", ""},
    {"database: no\n\n", ""},
    {"data: \xF0\x9F\x98\x80\n\n", "\xF0\x9F\x98\x80|"},
    {"data: {\"a\":1}\n\ndata: [DONE]\n\n", "{\"a\":1}|[DONE]|"},
};

static void events_are_the_same_at_every_split(void **state)
{
    char out[256];

    (void)state;
    for (size_t i = 0; i < sizeof(streams) / sizeof(*streams); i++) {
        const size_t n = strlen(streams[i].bytes);

        for (size_t a = 0; a <= n; a++)
            for (size_t b = a; b <= n; b++) {
                const size_t cuts[] = {a, b, n};

                events_of(streams[i].bytes, cuts, 3, out);
                assert_string_equal(out, streams[i].events);
            }
    }
}

static void events_are_the_same_byte_by_byte(void **state)
{
    size_t cuts[256];
    char out[256];

    (void)state;
    for (size_t i = 0; i < sizeof(streams) / sizeof(*streams); i++) {
        const size_t n = strlen(streams[i].bytes);

        for (size_t k = 0; k < n; k++)
            cuts[k] = k + 1;
        events_of(streams[i].bytes, cuts, n, out);
        assert_string_equal(out, streams[i].events);
    }
}

static void an_endless_event_fails_and_takes_no_more_memory(void **state)
{
    static char data[1 << 16];
    const char *event;
    size_t used, len;
    sl_load_sse sse;

    (void)state;
    memset(data, 'x', sizeof(data));
    sl_load_sse_init(&sse);
    for (int i = 0; i < 2 * (SL_LOAD_EVENT_BYTES_MAX / (int)sizeof(data)); i++)
        assert_false(sl_load_sse_next(&sse, data, sizeof(data), &used, &event, &len));
    assert_true(sl_load_sse_failed(&sse));
    assert_true(sse.line.capacity <= 2 * SL_LOAD_EVENT_BYTES_MAX + 16);
    sl_load_sse_done(&sse);
}

static void read_event(const char *json, sl_load_event *e, sl_buf *text)
{
    sl_buf_reset(text);
    sl_load_event_read(json, strlen(json), text, e);
}

static void chunks_of_known_servers_are_understood(void **state)
{
    sl_load_event e;
    sl_buf text;

    (void)state;
    sl_buf_init(&text, 1000);
    read_event("{\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}", &e, &text);
    assert_false(e.content || e.last || e.malformed || e.error || e.has_usage);
    read_event("{\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":null}}]}", &e, &text);
    assert_false(e.content || e.malformed);
    read_event("{\"choices\":[{\"delta\":{\"content\":\"hi\"},\"finish_reason\":null}]}", &e,
               &text);
    assert_true(e.content && e.finish[0] == '\0');
    assert_string_equal(sl_buf_text(&text), "hi");
    read_event("{\"choices\":[{\"text\":\"yo\",\"finish_reason\":\"stop\"}]}", &e, &text);
    assert_true(e.content);
    assert_string_equal(e.finish, "stop");
    assert_string_equal(sl_buf_text(&text), "yo");
    read_event("{\"choices\":[{\"delta\":{\"reasoning_content\":\"hm\"}}]}", &e, &text);
    assert_true(e.content && text.len == 0);
    read_event("{\"choices\":[{\"delta\":{\"tool_calls\":[{\"function\":{\"name\":\"f\","
               "\"arguments\":\"\"}}]}}]}",
               &e, &text);
    assert_true(e.content);
    read_event("{\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":4,"
               "\"prompt_tokens_details\":{\"cached_tokens\":5}}}",
               &e, &text);
    assert_true(e.has_usage && !e.content);
    assert_true(e.prompt_tokens == 9 && e.output_tokens == 4 && e.cached_tokens == 5);
    read_event("{\"choices\":[{\"delta\":{}}],\"usage\":null}", &e, &text);
    assert_false(e.has_usage);
    read_event("[DONE]", &e, &text);
    assert_true(e.last && !e.malformed);
    read_event("{\"error\":{\"message\":\"too long\",\"code\":400}}", &e, &text);
    assert_true(e.error);
    assert_string_equal(e.message, "too long");
    read_event("{\"error\":\"plain\"}", &e, &text);
    assert_string_equal(e.message, "plain");
    sl_buf_done(&text);
}

static void what_is_no_chunk_is_malformed(void **state)
{
    static const char *const wrong[] = {
        "",         "x",     "[]",
        "3",        "\"a\"", "{",
        "{\"a\":}", "null",  "{\"choices\":[{\"delta\":{\"content\":\"\xff\"}}]}"};
    static const char *const harmless[] = {"{}",
                                           "{\"choices\":3}",
                                           "{\"choices\":[3,null]}",
                                           "{\"choices\":[{\"delta\":[]}]}",
                                           "{\"usage\":[1]}",
                                           "{\"usage\":{\"prompt_tokens\":-4}}",
                                           "{\"error\":null}"};
    sl_load_event e;

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        sl_load_event_read(wrong[i], strlen(wrong[i]), NULL, &e);
        assert_true(e.malformed);
    }
    for (size_t i = 0; i < sizeof(harmless) / sizeof(*harmless); i++) {
        sl_load_event_read(harmless[i], strlen(harmless[i]), NULL, &e);
        assert_false(e.malformed || e.content || e.error || e.has_usage);
    }
}

/* Nothing to compare with: the sanitizers watch. */
static void random_bytes_do_no_harm(void **state)
{
    static const char alphabet[] = "HTTP/1.1 200\r\n:;data[{\"choices\"}]0fc,\\x\xff\x00";
    sl_rng rng = {.seed = 77};

    (void)state;
    for (int round = 0; round < 3000; round++) {
        static sl_load_reply r;
        char data[200];
        sl_load_event e;
        const char *event;
        size_t used, len, n = sl_rng_below(&rng, sizeof(data));
        sl_load_sse sse;
        sl_buf body;

        for (size_t i = 0; i < n; i++)
            data[i] = alphabet[sl_rng_below(&rng, sizeof(alphabet))];
        sl_buf_init(&body, 1 << 16);
        sl_load_reply_init(&r);
        if (round % 2 == 0)
            feed_reply(&r, "HTTP/1.1 200 OK\r\n", 17, &body);
        feed_reply(&r, data, n, &body);
        sl_load_sse_init(&sse);
        for (size_t at = 0; at < n; at += used)
            sl_load_sse_next(&sse, data + at, n - at, &used, &event, &len);
        sl_load_event_read(data, n, &body, &e);
        sl_load_sse_done(&sse);
        sl_buf_done(&body);
    }
}

/* --- addresses, metrics -------------------------------------------------------------------- */

static void addresses_are_read(void **state)
{
    sl_load_target t;
    sl_err err;

    (void)state;
    assert_int_equal(sl_load_target_parse("http://127.0.0.1:8123/v1/", &t, &err), SL_OK);
    assert_string_equal(t.host, "127.0.0.1:8123");
    assert_string_equal(t.prefix, "");
    assert_int_equal(sl_load_target_parse("http://127.0.0.1/a/b/v1", &t, &err), SL_OK);
    assert_string_equal(t.prefix, "/a/b");
    assert_int_equal(sl_load_target_parse("http://[::1]:9", &t, &err), SL_OK);
    assert_string_equal(t.host, "[::1]:9");
    assert_int_equal(sl_load_target_parse("unix:/tmp/x.sock", &t, &err), SL_OK);
    assert_false(t.tcp);
    assert_int_equal(sl_load_target_parse("unix:///tmp/x.sock", &t, &err), SL_OK);
    assert_int_equal(sl_load_target_parse("https://127.0.0.1", &t, &err), SL_EINVAL);
    assert_non_null(strstr(err.text, "https"));
    assert_int_equal(sl_load_target_parse("http://127.0.0.1:x", &t, &err), SL_EINVAL);
    assert_int_equal(sl_load_target_parse("http://127.0.0.1:", &t, &err), SL_EINVAL);
    assert_int_equal(sl_load_target_parse("http://", &t, &err), SL_EINVAL);
    assert_int_equal(sl_load_target_parse("http://:80", &t, &err), SL_EINVAL);
    assert_int_equal(sl_load_target_parse("unix:relative", &t, &err), SL_EINVAL);
}

static void counters_are_summed_over_labels_and_aliases_not_added(void **state)
{
    sl_load_scrape s;

    (void)state;
    sl_load_scrape_read("# TYPE x counter\n"
                        "sluice_prompt_tokens_total 100\n"
                        "sluice_prompt_tokens_cached_total 7\n"
                        "vllm:prompt_tokens_total{m=\"a\"} 55\n"
                        "vllm:generation_tokens_total{m=\"a}b\",x=\"1\"} 4\n"
                        "vllm:generation_tokens_total{m=\"b\"} 6.5\n"
                        "sluice_scheduler_state_seconds_total{state=\"idle\"} 1.5\n"
                        "sluice_scheduler_state_seconds_total{state=\"mixed\"} 2\n",
                        &s);
    assert_true(s.found && s.prompt_tokens == 100.0 && s.output_tokens == 10.5);
    assert_int_equal(s.state_count, 2);
    assert_string_equal(s.state_name[1], "mixed");
    assert_true(s.state_s[0] == 1.5 && s.state_s[1] == 2.0);
    sl_load_scrape_read("", &s);
    assert_false(s.found);
    assert_true(s.prompt_tokens < 0.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replies_are_the_same_at_every_split),
        cmocka_unit_test(wrong_replies_are_refused),
        cmocka_unit_test(a_header_line_without_end_is_refused_not_kept),
        cmocka_unit_test(a_reply_that_ends_early_is_not_complete),
        cmocka_unit_test(events_are_the_same_at_every_split),
        cmocka_unit_test(events_are_the_same_byte_by_byte),
        cmocka_unit_test(an_endless_event_fails_and_takes_no_more_memory),
        cmocka_unit_test(chunks_of_known_servers_are_understood),
        cmocka_unit_test(what_is_no_chunk_is_malformed),
        cmocka_unit_test(random_bytes_do_no_harm),
        cmocka_unit_test(addresses_are_read),
        cmocka_unit_test(counters_are_summed_over_labels_and_aliases_not_added),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
