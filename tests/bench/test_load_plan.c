/* Goal: the plan is fixed by the seed and follows every option; texts have the token counts asked
 * for; data sets are read, and wrong ones refused with the line's number.
 * Method: plans compared item by item; texts counted by a counter written here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "bench/load_internal.h"
#include "bench/load_trace.h"

static sl_load_options options(void)
{
    sl_load_options o;

    sl_load_options_init(&o);
    o.rate = 5.0;
    return o;
}

static sl_load_plan plan_of(const sl_load_options *o)
{
    sl_load_plan plan;
    sl_err err = {0};

    assert_int_equal(sl_load_options_check(o, &err), SL_OK);
    assert_int_equal(sl_load_plan_make(o, &plan, &err), SL_OK);
    return plan;
}

static void the_same_options_give_the_same_plan(void **state)
{
    sl_load_options o = options();
    sl_load_plan a, b;

    (void)state;
    assert_int_equal(sl_load_length_parse("10-500", &o.input, NULL), SL_OK);
    assert_int_equal(sl_load_length_parse("lognormal:40:1:200", &o.output, NULL), SL_OK);
    o.cancel_share = 0.2;
    o.slow_share = 0.1;
    o.prefix_tokens = 64;
    o.prefix_count = 4;
    a = plan_of(&o);
    b = plan_of(&o);
    assert_int_equal(a.count, 100);
    assert_memory_equal(a.item, b.item, a.count * sizeof(*a.item));
    sl_load_plan_done(&b);
    o.seed = 1;
    b = plan_of(&o);
    assert_memory_not_equal(a.item, b.item, a.count * sizeof(*a.item));
    sl_load_plan_done(&a);
    sl_load_plan_done(&b);
}

static void one_option_does_not_shift_what_another_draws(void **state)
{
    sl_load_options o = options();
    sl_load_plan a, b;

    (void)state;
    assert_int_equal(sl_load_length_parse("10-500", &o.input, NULL), SL_OK);
    a = plan_of(&o);
    o.cancel_share = 0.5;
    assert_int_equal(sl_load_length_parse("5-50", &o.output, NULL), SL_OK);
    b = plan_of(&o);
    for (uint32_t i = 0; i < a.count; i++) {
        assert_int_equal(a.item[i].input_tokens, b.item[i].input_tokens);
        assert_true(a.item[i].at_us == b.item[i].at_us);
    }
    sl_load_plan_done(&a);
    sl_load_plan_done(&b);
}

static void shares_clips_and_prefixes_are_those_asked_for(void **state)
{
    sl_load_options o = options();
    uint32_t cancelled = 0, slow = 0, prefix[3] = {0};
    sl_load_plan plan;

    (void)state;
    o.requests = 5000;
    o.cancel_share = 0.3;
    o.slow_share = 0.05;
    o.prefix_tokens = 100;
    o.prefix_count = 3;
    o.input_max = 300;
    o.output_max = 20;
    assert_int_equal(sl_load_length_parse("100-400", &o.input, NULL), SL_OK);
    plan = plan_of(&o);
    for (uint32_t i = 0; i < plan.count; i++) {
        const sl_load_item *item = &plan.item[i];

        cancelled += item->cancel;
        slow += item->slow;
        assert_in_range(item->input_tokens, 200, 300);
        assert_int_equal(item->output_tokens, 20);
        assert_int_equal(item->prefix_tokens, 100);
        assert_in_range(item->prefix, 0, 2);
        prefix[item->prefix]++;
    }
    assert_in_range(cancelled, 1350, 1650);
    assert_in_range(slow, 190, 310);
    for (int i = 0; i < 3; i++)
        assert_in_range(prefix[i], 1500, 1840);
    sl_load_plan_done(&plan);
}

static void turns_follow_each_other(void **state)
{
    sl_load_options o = options();
    sl_load_plan plan;

    (void)state;
    o.turns = 3;
    o.requests = 10;
    plan = plan_of(&o);
    assert_int_equal(plan.count, 12); /* whole sessions */
    for (uint32_t i = 0; i < plan.count; i++) {
        assert_int_equal(plan.item[i].session, i / 3);
        assert_int_equal(plan.item[i].turn, i % 3);
        assert_int_equal(plan.item[i].next, i % 3 < 2 ? i + 1 : SL_LOAD_NONE);
    }
    sl_load_plan_done(&plan);
}

static void a_duration_bounds_an_open_loop(void **state)
{
    sl_load_options o = options();
    sl_load_plan plan;

    (void)state;
    o.requests = SL_LOAD_REQUESTS_MAX;
    o.duration_s = 20.0;
    plan = plan_of(&o);
    assert_in_range(plan.count, 70, 130); /* five a second */
    assert_true(plan.item[plan.count - 1].at_us < 20000000);
    sl_load_plan_done(&plan);
}

static void impossible_options_are_refused(void **state)
{
    sl_load_options o;
    sl_err err;

    (void)state;
#define REFUSED(change)                                                                            \
    o = options();                                                                                 \
    change;                                                                                        \
    err.text[0] = '\0';                                                                            \
    assert_int_equal(sl_load_options_check(&o, &err), SL_EINVAL);                                  \
    assert_true(err.text[0] != '\0');
    REFUSED(o.rate = 0.0)
    REFUSED(o.rate = -1.0)
    REFUSED(o.rate = NAN)
    REFUSED(o.requests = 0)
    REFUSED(o.requests = SL_LOAD_REQUESTS_MAX + 1)
    REFUSED(o.turns = 0)
    REFUSED((o.turns = 2, o.trace_path = "x"))
    REFUSED(o.cancel_share = 1.5)
    REFUSED(o.slow_share = -0.1)
    REFUSED((o.slow_share = 0.1, o.slow_bytes_per_s = 0.0))
    REFUSED(o.input = (sl_load_length){0})
    REFUSED(o.arrivals.burstiness = 0.0)
    REFUSED((o.arrivals.shape = SL_LOAD_RAMP, o.arrivals.rate_end = 0.0))
    REFUSED((o.arrivals.shape = SL_LOAD_ON_OFF, o.rate = INFINITY))
    REFUSED((o.warmup.requests = 60, o.cooldown.requests = 40))
    REFUSED(o.rate_scale = 0.0)
    REFUSED(o.timeout_s = 0.0)
#undef REFUSED
    o = options();
    assert_int_equal(sl_load_options_check(&o, &err), SL_OK);
}

static void targets_and_margins_are_read(void **state)
{
    static const char *const wrong[] = {"x:1",     "ttft",        "ttft:",    "ttft:0",  "ttft:-1",
                                        "ttft:1x", "ttft:1,,tbt", "ttft:inf", "ttft:nan"};
    sl_load_slo slo = {0};
    sl_load_margin m;
    sl_err err;

    (void)state;
    assert_int_equal(sl_load_slo_parse("ttft:200,tbt:50.5 e2e:9000", &slo, &err), SL_OK);
    assert_int_equal(sl_load_slo_parse("tpot:7", &slo, &err), SL_OK);
    assert_true(slo.ttft_ms == 200 && slo.tbt_ms == 50.5 && slo.e2e_ms == 9000 && slo.tpot_ms == 7);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
        assert_int_equal(sl_load_slo_parse(wrong[i], &slo, &err), SL_EINVAL);
    assert_int_equal(sl_load_margin_parse("5s", &m, &err), SL_OK);
    assert_true(m.seconds == 5.0 && m.requests == 0);
    assert_int_equal(sl_load_margin_parse("20", &m, &err), SL_OK);
    assert_true(m.seconds == 0.0 && m.requests == 20);
    assert_int_equal(sl_load_margin_parse("2.5s", &m, &err), SL_OK);
    assert_int_equal(sl_load_margin_parse("2.5", &m, &err), SL_EINVAL);
    assert_int_equal(sl_load_margin_parse("x", &m, &err), SL_EINVAL);
    assert_int_equal(sl_load_margin_parse("-1", &m, &err), SL_EINVAL);
}

/* --- texts --------------------------------------------------------------------------------- */

enum { TEMPLATE = 11 };

typedef struct toy_tokenizer {
    char long_initial; /* words with this first letter are two tokens; 0: none */
    bool all_long;
    uint32_t calls;
} toy_tokenizer;

static sl_status toy_count(void *user, const char *text, size_t n, uint32_t *tokens, sl_err *err)
{
    toy_tokenizer *t = user;
    uint32_t count = 0;

    (void)err;
    t->calls++;
    for (size_t i = 0; i < n; i++)
        if (i == 0 || text[i - 1] == ' ')
            count += t->all_long || text[i] == t->long_initial ? 2 : 1;
    *tokens = count + TEMPLATE;
    return SL_OK;
}

static uint32_t tokens_of(toy_tokenizer *t, const sl_load_words *words, const sl_load_plan *plan,
                          const sl_load_item *item)
{
    uint32_t tokens = 0;
    sl_buf text;

    sl_buf_init(&text, 16 << 20);
    sl_load_words_text(words, plan, item, &text);
    assert_int_equal(toy_count(t, text.data, text.len, &tokens, NULL), SL_OK);
    sl_buf_done(&text);
    return tokens;
}

static void texts_have_exactly_the_tokens_asked_for(void **state)
{
    static const uint32_t lengths[] = {TEMPLATE + 1, TEMPLATE + 2, 63, 64, 65, 511, 512, 513, 9999};
    toy_tokenizer t = {.long_initial = 'p'};
    const sl_load_counter counter = {.count = toy_count, .user = &t};
    const sl_load_plan plan = {.text_seed = 5};
    sl_load_words words;

    (void)state;
    assert_int_equal(sl_load_words_calibrate(&words, &counter, NULL), SL_OK);
    assert_true(words.exact);
    assert_int_equal(words.overhead, TEMPLATE);
    assert_true(words.count > 64);
    assert_true(t.calls <= 110);
    for (uint32_t i = 0; i < words.count; i++)
        assert_true(words.word[i][0] != 'p');
    for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
        const sl_load_item item = {.session = (uint32_t)i, .input_tokens = lengths[i]};

        assert_int_equal(tokens_of(&t, &words, &plan, &item), lengths[i]);
    }
}

static void a_tokenizer_that_splits_every_word_gives_an_honest_guess(void **state)
{
    toy_tokenizer t = {.all_long = true};
    const sl_load_counter counter = {.count = toy_count, .user = &t};
    const sl_load_item item = {.input_tokens = 1000};
    const sl_load_plan plan = {.text_seed = 5};
    sl_load_words words;
    uint32_t tokens;

    (void)state;
    assert_int_equal(sl_load_words_calibrate(&words, &counter, NULL), SL_OK);
    assert_false(words.exact);
    assert_true(fabs(words.per_word - 2.0) < 0.02);
    tokens = tokens_of(&t, &words, &plan, &item);
    assert_in_range(tokens, 980, 1020);
}

static size_t shared_bytes(const sl_load_words *words, const sl_load_plan *plan, uint32_t a,
                           uint32_t b)
{
    sl_buf x, y;
    size_t n = 0;

    sl_buf_init(&x, 1 << 20);
    sl_buf_init(&y, 1 << 20);
    sl_load_words_text(words, plan, &plan->item[a], &x);
    sl_load_words_text(words, plan, &plan->item[b], &y);
    while (n < x.len && n < y.len && x.data[n] == y.data[n])
        n++;
    sl_buf_done(&x);
    sl_buf_done(&y);
    return n;
}

static void prompts_share_their_beginning_only_with_their_group(void **state)
{
    sl_load_options o = options();
    sl_load_words words;
    sl_load_plan plan;

    (void)state;
    o.prefix_tokens = 200;
    o.prefix_count = 2;
    o.requests = 20;
    plan = plan_of(&o);
    sl_load_words_init(&words);
    for (uint32_t i = 1; i < plan.count; i++) {
        const size_t n = shared_bytes(&words, &plan, 0, i);

        /* 200 words of 2 to 10 letters and a blank each. */
        if (plan.item[i].prefix == plan.item[0].prefix)
            assert_in_range(n, 600, 1500);
        else
            assert_true(n < 40);
    }
    sl_load_plan_done(&plan);
}

/* --- data sets ----------------------------------------------------------------------------- */

static char path[] = "/tmp/sluice-trace-XXXXXX";

static void write_trace(const char *text)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static int make_path(void **state)
{
    const int fd = mkstemp(path);

    (void)state;
    if (fd < 0)
        return -1;
    close(fd);
    return 0;
}

static int remove_path(void **state)
{
    (void)state;
    return unlink(path);
}

static void a_csv_of_lengths_is_read(void **state)
{
    sl_load_trace t;

    (void)state;
    write_trace("num_prefill_tokens,pd_ratio,num_decode_tokens\r\n100,3.5,7\r\n\r\n2,0.1,900\n");
    assert_int_equal(sl_load_trace_read(path, 0, &t, NULL), SL_OK);
    assert_int_equal(t.count, 2);
    assert_false(t.timed);
    assert_string_equal(t.format, "lengths");
    assert_true(t.row[0].input_tokens == 100 && t.row[0].output_tokens == 7);
    assert_true(t.row[1].input_tokens == 2 && t.row[1].output_tokens == 900);
    sl_load_trace_done(&t);
}

static void an_azure_csv_is_read_in_the_order_of_time(void **state)
{
    sl_load_trace t;

    (void)state;
    write_trace("TIMESTAMP,ContextTokens,GeneratedTokens\n"
                "2023-11-16 18:17:03.9799600,374,44\n"
                "2023-11-16 18:17:02.9799600,10,5\n"
                "2023-11-17 18:17:02.9799600+00:00,11,6\n");
    assert_int_equal(sl_load_trace_read(path, 0, &t, NULL), SL_OK);
    assert_true(t.timed);
    assert_string_equal(t.format, "azure");
    assert_true(t.row[0].input_tokens == 10 && t.row[0].at_us == 0);
    assert_true(t.row[1].input_tokens == 374 && llabs((long long)t.row[1].at_us - 1000000) <= 1);
    assert_true(llabs((long long)t.row[2].at_us - 86400000000) <= 1);
    sl_load_trace_done(&t);
}

static const char mooncake[] =
    "{\"timestamp\": 1000, \"input_length\": 1100, \"output_length\": 5, \"hash_ids\": [0, 1, 2]}\n"
    "{\"timestamp\": 3500, \"input_length\": 1536, \"output_length\": 6, \"hash_ids\": [0, 1, 9]}\n"
    "{\"timestamp\": 4000, \"input_length\": 700, \"output_length\": 6, \"hash_ids\": [7, 1]}\n";

static void mooncake_lines_are_read_and_equal_ids_are_equal_text(void **state)
{
    sl_load_options o = options();
    sl_load_words words;
    sl_load_plan plan;
    size_t n;

    (void)state;
    write_trace(mooncake);
    o.rate = 0.0;
    o.trace_path = path;
    o.rate_scale = 2.0;
    plan = plan_of(&o);
    assert_true(plan.open_loop);
    assert_int_equal(plan.count, 3);
    assert_true(plan.item[1].at_us == 1250000 && plan.item[2].at_us == 1500000);
    assert_int_equal(plan.item[0].input_tokens, 1100);
    sl_load_words_init(&words);
    n = shared_bytes(&words, &plan, 0, 1);
    /* Two blocks of 512 words of 2 to 10 letters and a blank. */
    assert_in_range(n, 1024 * 3, 1024 * 7);
    assert_true(shared_bytes(&words, &plan, 0, 2) < 40);
    sl_load_plan_done(&plan);
    o.input_max = 600;
    plan = plan_of(&o);
    assert_int_equal(plan.item[0].input_tokens, 600);
    assert_int_equal(plan.item[0].block_count, 2);
    sl_load_plan_done(&plan);
}

static void a_trace_may_be_played_at_a_rate_of_ones_own(void **state)
{
    sl_load_options o = options();
    sl_load_plan plan;

    (void)state;
    write_trace(mooncake);
    o.trace_path = path;
    o.arrivals.process = SL_LOAD_CONSTANT;
    plan = plan_of(&o);
    assert_true(plan.item[1].at_us == 200000);
    sl_load_plan_done(&plan);
    o.rate = 0.0;
    o.users = 2;
    plan = plan_of(&o);
    assert_false(plan.open_loop);
    sl_load_plan_done(&plan);
}

static void wrong_data_sets_name_the_line(void **state)
{
    static const struct {
        const char *text, *word;
    } wrong[] = {
        {"", "no requests"},
        {"a,b\n1,2\n", "line 1"},
        {"num_prefill_tokens,num_decode_tokens\n", "no requests"},
        {"num_prefill_tokens,num_decode_tokens\n1,2\n3\n", "line 3"},
        {"num_prefill_tokens,num_decode_tokens\n1,2\n-3,4\n", "line 3"},
        {"num_prefill_tokens,num_decode_tokens\n1,2\nnan,4\n", "line 3"},
        {"num_prefill_tokens,num_decode_tokens\n99999999999,4\n", "line 2"},
        {"TIMESTAMP,ContextTokens,GeneratedTokens\nyesterday,1,2\n", "line 2"},
        {"{\"timestamp\":1,\"input_length\":5,\"output_length\":1}\n{\"timestamp\"", "line 2"},
        {"{\"timestamp\":1,\"input_length\":\"5\",\"output_length\":1}\n", "line 1"},
        {"{\"timestamp\":1,\"input_length\":5,\"output_length\":1,\"hash_ids\":[\"x\"]}\n",
         "line 1"},
        {"{\"timestamp\":-1,\"input_length\":5,\"output_length\":1}\n", "line 1"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        sl_load_trace t = {0};
        sl_err err = {0};

        write_trace(wrong[i].text);
        assert_int_equal(sl_load_trace_read(path, 0, &t, &err), SL_EFORMAT);
        assert_non_null(strstr(err.text, wrong[i].word));
        assert_null(t.row);
    }
}

static void failing_memory_is_an_error(void **state)
{
    sl_load_options o = options();

    (void)state;
    write_trace(mooncake);
    o.rate = 0.0;
    o.trace_path = path;
    for (uint64_t n = 1; n < 20; n++) {
        sl_load_plan plan = {0};
        sl_status status;

        sl_alloc_fail_at(n);
        status = sl_load_plan_make(&o, &plan, NULL);
        sl_alloc_fail_at(0);
        if (status == SL_OK) {
            sl_load_plan_done(&plan);
            assert_true(n > 2);
            return;
        }
        assert_int_equal(status, SL_ENOMEM);
    }
    fail();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_options_give_the_same_plan),
        cmocka_unit_test(one_option_does_not_shift_what_another_draws),
        cmocka_unit_test(shares_clips_and_prefixes_are_those_asked_for),
        cmocka_unit_test(turns_follow_each_other),
        cmocka_unit_test(a_duration_bounds_an_open_loop),
        cmocka_unit_test(impossible_options_are_refused),
        cmocka_unit_test(targets_and_margins_are_read),
        cmocka_unit_test(texts_have_exactly_the_tokens_asked_for),
        cmocka_unit_test(a_tokenizer_that_splits_every_word_gives_an_honest_guess),
        cmocka_unit_test(prompts_share_their_beginning_only_with_their_group),
        cmocka_unit_test(a_csv_of_lengths_is_read),
        cmocka_unit_test(an_azure_csv_is_read_in_the_order_of_time),
        cmocka_unit_test(mooncake_lines_are_read_and_equal_ids_are_equal_text),
        cmocka_unit_test(a_trace_may_be_played_at_a_rate_of_ones_own),
        cmocka_unit_test(wrong_data_sets_name_the_line),
        cmocka_unit_test(failing_memory_is_an_error),
    };

    return cmocka_run_group_tests(tests, make_path, remove_path);
}
