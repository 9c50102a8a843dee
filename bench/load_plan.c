/* bench/load_plan.c - options, and the schedule they mean. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "bench/load.h"
#include "bench/load_trace.h"

/* Seeds of what is drawn: each its own sequence, so that one option does not shift another's. */
enum { DRAW_INPUT = 1, DRAW_OUTPUT, DRAW_PREFIX, DRAW_THINK, DRAW_CANCEL, DRAW_SLOW, DRAW_ARRIVAL };

void sl_load_options_init(sl_load_options *options)
{
    *options = (sl_load_options){
        .base_url = "http://127.0.0.1:8000",
        .timeout_s = 600.0,
        .requests = 100,
        .input = {.kind = SL_LOAD_FIXED, .min = 256, .max = 256},
        .output = {.kind = SL_LOAD_FIXED, .min = 64, .max = 64},
        .arrivals = {.process = SL_LOAD_POISSON, .burstiness = 1.0, .on_s = 10.0, .off_s = 10.0},
        .prefix_count = 1,
        .turns = 1,
        .rate_scale = 1.0,
        .cancel_after_ms = 500.0,
        .slow_bytes_per_s = 200.0,
        .lag_max_ms = 5.0,
    };
}

static sl_status check_rates(const sl_load_options *o, sl_err *err)
{
    const sl_load_arrivals *a = &o->arrivals;

    if (o->rate < 0.0 || isnan(o->rate))
        return sl_fail(err, SL_EINVAL, "--rate must be above 0 (or inf)");
    if (o->rate == 0.0 && o->users == 0 && o->trace_path == NULL)
        return sl_fail(err, SL_EINVAL, "say --rate R (open loop) or --users N (closed loop)");
    if (o->users > SL_LOAD_USERS_MAX)
        return sl_fail(err, SL_EINVAL, "--users is at most %d", SL_LOAD_USERS_MAX);
    if (!(a->burstiness > 0.0) || a->burstiness > 1e6)
        return sl_fail(err, SL_EINVAL, "--burstiness must be above 0");
    if (a->shape == SL_LOAD_ON_OFF && (!(a->on_s > 0.0) || !(a->off_s >= 0.0)))
        return sl_fail(err, SL_EINVAL, "--on must be above 0, and --off not below");
    if (a->shape == SL_LOAD_RAMP && (!(a->rate_end > 0.0) || isinf(a->rate_end)))
        return sl_fail(err, SL_EINVAL, "--ramp-to must be above 0");
    if (a->shape != SL_LOAD_FLAT && (o->rate == 0.0 || isinf(o->rate)))
        return sl_fail(err, SL_EINVAL, "a ramp, or on and off, needs a --rate");
    if (!(o->rate_scale > 0.0))
        return sl_fail(err, SL_EINVAL, "--rate-scale must be above 0");
    return SL_OK;
}

static sl_status check_content(const sl_load_options *o, sl_err *err)
{
    if (o->input.max == 0 || o->output.max == 0 || o->input.min == 0 || o->output.min == 0)
        return sl_fail(err, SL_EINVAL, "--input-len and --output-len must be above 0");
    if (o->turns == 0 || o->turns > 1000)
        return sl_fail(err, SL_EINVAL, "--turns must be 1 to 1000");
    if (o->turns > 1 && o->trace_path != NULL)
        return sl_fail(err, SL_EINVAL, "--turns and --dataset do not go together");
    if (o->prefix_tokens > SL_LOAD_LENGTH_MAX || o->prefix_count == 0)
        return sl_fail(err, SL_EINVAL, "--prefix-len is too large, or --prefix-count is 0");
    if (!(o->cancel_share >= 0.0 && o->cancel_share <= 1.0) ||
        !(o->slow_share >= 0.0 && o->slow_share <= 1.0))
        return sl_fail(err, SL_EINVAL, "--cancel-rate and --slow-readers are shares from 0 to 1");
    if (o->slow_share > 0.0 && !(o->slow_bytes_per_s >= 1.0))
        return sl_fail(err, SL_EINVAL, "--read-bytes-per-s must be at least 1");
    if (!(o->cancel_after_ms >= 0.0) || !(o->timeout_s > 0.0) || !(o->lag_max_ms > 0.0))
        return sl_fail(err, SL_EINVAL, "--cancel-after, --timeout or --max-lag is out of range");
    return SL_OK;
}

sl_status sl_load_options_check(const sl_load_options *o, sl_err *err)
{
    const sl_status status = check_rates(o, err);

    if (status != SL_OK)
        return status;
    if (o->requests == 0 || o->requests > SL_LOAD_REQUESTS_MAX)
        return sl_fail(err, SL_EINVAL, "--requests must be 1 to %d", SL_LOAD_REQUESTS_MAX);
    if (!(o->duration_s >= 0.0) || o->duration_s > 1e7)
        return sl_fail(err, SL_EINVAL, "--duration is out of range");
    if (o->warmup.requests + o->cooldown.requests >= o->requests)
        return sl_fail(err, SL_EINVAL, "--warmup and --cooldown leave nothing to measure");
    return check_content(o, err);
}

sl_status sl_load_slo_parse(const char *text, sl_load_slo *slo, sl_err *err)
{
    static const struct {
        const char *name;
        size_t offset;
    } target[] = {
        {"ttft", offsetof(sl_load_slo, ttft_ms)}, {"tbt", offsetof(sl_load_slo, tbt_ms)},
        {"itl", offsetof(sl_load_slo, tbt_ms)},   {"tpot", offsetof(sl_load_slo, tpot_ms)},
        {"e2e", offsetof(sl_load_slo, e2e_ms)},   {"e2el", offsetof(sl_load_slo, e2e_ms)},
    };
    sl_load_slo result = *slo;
    const char *at = text + strspn(text, " ,");

    while (*at != '\0') {
        const size_t n = strcspn(at, ":= ,");
        size_t i = 0;
        char *end;
        double ms;

        while (i < sizeof(target) / sizeof(*target) &&
               (strlen(target[i].name) != n || memcmp(target[i].name, at, n) != 0))
            i++;
        if (i == sizeof(target) / sizeof(*target) || (at[n] != ':' && at[n] != '='))
            return sl_fail(err, SL_EINVAL,
                           "'%.64s' is no target: write ttft:MS,tbt:MS,tpot:MS,e2e:MS", at);
        ms = strtod(at + n + 1, &end);
        if (end == at + n + 1 || !(ms > 0.0) || isinf(ms) || strchr(" ,", *end) == NULL)
            return sl_fail(err, SL_EINVAL, "'%.64s' has no number of milliseconds above 0", at);
        *(double *)((char *)&result + target[i].offset) = ms;
        at = end + strspn(end, " ,");
    }
    *slo = result;
    return SL_OK;
}

sl_status sl_load_margin_parse(const char *text, sl_load_margin *out, sl_err *err)
{
    char *end;
    const double v = strtod(text, &end);

    if (end == text || !(v >= 0.0) || v > 1e6 || (*end != '\0' && strcmp(end, "s") != 0) ||
        (*end == '\0' && v != floor(v)))
        return sl_fail(err, SL_EINVAL, "'%.64s' is neither seconds (5s) nor requests (20)", text);
    *out = *end == 's' ? (sl_load_margin){.seconds = v} : (sl_load_margin){.requests = (uint32_t)v};
    return SL_OK;
}

/* --- the plan ------------------------------------------------------------------------------ */

static uint64_t draw_seed(const sl_load_options *o, uint64_t what)
{
    return sl_mix64_pair(o->seed, what);
}

static uint32_t clip(uint32_t value, uint32_t max)
{
    return max != 0 && value > max ? max : value;
}

/* What does not come from a trace or from the clock. */
static void draw_item(const sl_load_options *o, uint32_t i, sl_load_item *item)
{
    item->input_tokens = sl_load_length_draw(&o->input, draw_seed(o, DRAW_INPUT), i);
    item->output_tokens = sl_load_length_draw(&o->output, draw_seed(o, DRAW_OUTPUT), i);
    item->think_ms = sl_load_length_draw(&o->think_ms, draw_seed(o, DRAW_THINK), i);
    item->cancel = sl_rng_unit(draw_seed(o, DRAW_CANCEL), i) < o->cancel_share;
    item->slow = sl_rng_unit(draw_seed(o, DRAW_SLOW), i) < o->slow_share;
    item->next = SL_LOAD_NONE;
}

static void place_prefix(const sl_load_options *o, sl_load_item *item)
{
    if (o->prefix_tokens == 0 || item->turn > 0 || item->block_count > 0)
        return;
    item->prefix =
        (uint32_t)(sl_rng_unit(draw_seed(o, DRAW_PREFIX), item->session) * o->prefix_count);
    item->prefix_tokens = o->prefix_tokens;
    /* The lengths drawn are those of what follows the prefix. */
    item->input_tokens += o->prefix_tokens;
}

static void clip_item(const sl_load_options *o, sl_load_item *item)
{
    const uint32_t blocks_max =
        (clip(item->input_tokens, o->input_max) + SL_LOAD_BLOCK_TOKENS - 1) / SL_LOAD_BLOCK_TOKENS;

    item->input_tokens = clip(item->input_tokens, o->input_max);
    item->output_tokens = clip(item->output_tokens, o->output_max);
    if (item->input_tokens == 0)
        item->input_tokens = 1;
    if (item->output_tokens == 0)
        item->output_tokens = 1;
    item->prefix_tokens =
        item->prefix_tokens < item->input_tokens ? item->prefix_tokens : item->input_tokens;
    item->block_count = item->block_count < blocks_max ? item->block_count : blocks_max;
}

static sl_status take_trace(const sl_load_options *o, sl_load_plan *plan, bool *timed, sl_err *err)
{
    sl_load_trace trace = {0};
    const sl_status status = sl_load_trace_read(o->trace_path, o->requests, &trace, err);

    if (status != SL_OK)
        return status;
    plan->item = sl_alloc(trace.count, sizeof(*plan->item));
    if (plan->item == NULL) {
        sl_load_trace_done(&trace);
        return sl_fail(err, SL_ENOMEM, "no memory for the plan");
    }
    plan->count = (uint32_t)trace.count;
    plan->block = trace.block;
    plan->block_count = trace.block_count;
    plan->trace_format = trace.format;
    trace.block = NULL;
    *timed = trace.timed && o->rate == 0.0 && o->users == 0;
    for (uint32_t i = 0; i < plan->count; i++) {
        const sl_load_row *row = &trace.row[i];
        sl_load_item *item = &plan->item[i];

        draw_item(o, i, item);
        item->session = i;
        item->input_tokens = row->input_tokens;
        item->output_tokens = row->output_tokens;
        item->block_first = row->block_first;
        item->block_count = row->block_count;
        if (*timed)
            item->at_us = (uint64_t)((double)row->at_us / o->rate_scale);
    }
    sl_load_trace_done(&trace);
    return SL_OK;
}

static sl_load_arrivals arrivals_of(const sl_load_options *o, uint32_t sessions)
{
    sl_load_arrivals a = o->arrivals;

    a.rate = o->rate;
    a.seed = draw_seed(o, DRAW_ARRIVAL);
    if (a.shape == SL_LOAD_RAMP && !(a.ramp_s > 0.0))
        a.ramp_s = o->duration_s > 0.0 ? o->duration_s : 2.0 * sessions / (a.rate + a.rate_end);
    return a;
}

/* Sessions of turns, drawn. */
static sl_status make_sessions(const sl_load_options *o, sl_load_plan *plan, sl_err *err)
{
    uint32_t sessions = (o->requests + o->turns - 1) / o->turns;

    if (o->rate > 0.0 && o->duration_s > 0.0 && !isinf(o->rate)) {
        const sl_load_arrivals a = arrivals_of(o, sessions);

        sessions = (uint32_t)sl_load_arrivals_count(&a, o->duration_s, sessions);
    }
    plan->count = sessions * o->turns;
    plan->item = sl_alloc(plan->count, sizeof(*plan->item));
    if (plan->item == NULL)
        return sl_fail(err, SL_ENOMEM, "no memory for the plan");
    for (uint32_t i = 0; i < plan->count; i++) {
        sl_load_item *item = &plan->item[i];

        draw_item(o, i, item);
        item->session = i / o->turns;
        item->turn = i % o->turns;
        if (item->turn + 1 < o->turns)
            item->next = i + 1;
        place_prefix(o, item);
    }
    return SL_OK;
}

static sl_status set_times(const sl_load_options *o, sl_load_plan *plan, sl_err *err)
{
    const uint32_t sessions = plan->item[plan->count - 1].session + 1;
    const sl_load_arrivals a = arrivals_of(o, sessions);
    uint64_t *at_us = sl_alloc(sessions, sizeof(*at_us));

    if (at_us == NULL)
        return sl_fail(err, SL_ENOMEM, "no memory for the plan");
    sl_load_arrivals_fill(&a, at_us, sessions);
    for (uint32_t i = 0; i < plan->count; i++)
        plan->item[i].at_us = at_us[plan->item[i].session];
    sl_free(at_us);
    return SL_OK;
}

/* Drop what an open loop would send after the end. */
static void cut_at_duration(const sl_load_options *o, sl_load_plan *plan)
{
    if (o->duration_s == 0.0)
        return;
    while (plan->count > 1 && (double)plan->item[plan->count - 1].at_us > o->duration_s * 1e6)
        plan->count--;
}

sl_status sl_load_plan_make(const sl_load_options *o, sl_load_plan *out, sl_err *err)
{
    sl_load_plan plan = {.text_seed = sl_mix64_pair(o->seed, o->text_seed)};
    bool timed = false;
    sl_status status =
        o->trace_path != NULL ? take_trace(o, &plan, &timed, err) : make_sessions(o, &plan, err);

    if (status == SL_OK && o->trace_path != NULL && !timed && o->rate == 0.0 && o->users == 0)
        status = sl_fail(err, SL_EINVAL, "the data set has no times: say --rate or --users");
    if (status == SL_OK && !timed && o->rate > 0.0)
        status = set_times(o, &plan, err);
    if (status != SL_OK) {
        sl_load_plan_done(&plan);
        return status;
    }
    cut_at_duration(o, &plan);
    for (uint32_t i = 0; i < plan.count; i++)
        clip_item(o, &plan.item[i]);
    plan.open_loop = timed || o->rate > 0.0;
    plan.span_s = (double)plan.item[plan.count - 1].at_us * 1e-6;
    *out = plan;
    return SL_OK;
}

void sl_load_plan_done(sl_load_plan *plan)
{
    sl_free(plan->item);
    sl_free(plan->block);
    *plan = (sl_load_plan){0};
}

const char *sl_load_outcome_name(sl_load_outcome outcome)
{
    static const char *const name[] = {
#define SL_LOAD_OUTCOME_NAME(name, text) #name,
        SL_LOAD_OUTCOME_ROWS(SL_LOAD_OUTCOME_NAME)
#undef SL_LOAD_OUTCOME_NAME
    };

    return (unsigned)outcome < SL_LOAD_OUTCOME_COUNT ? name[outcome] : "?";
}

const char *sl_load_outcome_text(sl_load_outcome outcome)
{
    static const char *const text[] = {
#define SL_LOAD_OUTCOME_TEXT(name, text) text,
        SL_LOAD_OUTCOME_ROWS(SL_LOAD_OUTCOME_TEXT)
#undef SL_LOAD_OUTCOME_TEXT
    };

    return (unsigned)outcome < SL_LOAD_OUTCOME_COUNT ? text[outcome] : "?";
}
