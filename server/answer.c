/* server/answer.c - tokens to text, chunks and answers.
 *
 * Pumping turns what a generation's slots hold into what its client may see.  A client that does
 * not read is left behind: the tokens stay in their slot, and what has come meanwhile goes out as
 * one chunk once there is room again. */
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "server/server_internal.h"

enum { TOKEN_TEXT_MAX = 64 << 10 };

/* --- tokens to text ------------------------------------------------------------------------ */

static uint64_t characters(const char *text, size_t n)
{
    uint64_t count = 0;

    for (size_t i = 0; i < n; i++)
        count += ((unsigned char)text[i] & 0xC0) != 0x80;
    return count;
}

static void observe_token(sl_choice *choice, uint32_t i)
{
    sl_metrics *metrics = &choice->generation->server->metrics;
    const uint64_t *at_us = choice->slot->out_us;

    if (i > 0)
        sl_metrics_observe(metrics, SL_HIST_TBT, (double)(at_us[i] - at_us[i - 1]) * 1e-6);
    else if (at_us[0] > choice->generation->begin_us)
        sl_metrics_observe(metrics, SL_HIST_TTFT,
                           (double)(at_us[0] - choice->generation->begin_us) * 1e-6);
}

/* A stop string is complete: this choice is done, whatever the engine still makes of it. */
static void stop_by_string(sl_choice *choice)
{
    const sl_generation *gen = choice->generation;

    choice->finished = true;
    choice->stop_string = gen->request.stop[choice->text.matched];
    gen->server->metrics.stop_strings++;
    if (!choice->ended)
        atomic_store_explicit(&choice->slot->cancelled, true, memory_order_relaxed);
}

/* The engine's last word, once all its tokens are taken. */
static void take_end(sl_choice *choice)
{
    if (choice->finished || !choice->ended || choice->pos < choice->token_end ||
        choice->status != SL_OK)
        return;
    choice->finished = true;
    if (choice->slot == NULL || choice->slot->stop_token == UINT32_MAX)
        return;
    /* vLLM's rule: the model's own end says nothing more than "stop". */
    if (!sl_tokenizer_is_eog(choice->generation->server->model->tokenizer,
                             choice->slot->stop_token))
        choice->stop_token = choice->slot->stop_token;
}

/* Take the tokens that came; move the text that may be shown to choice->ready. */
static void take_tokens(sl_choice *choice, sl_buf *piece)
{
    const sl_generation *gen = choice->generation;
    const sl_tokenizer *t = gen->server->model->tokenizer;
    size_t n;

    while (!choice->finished && choice->pos < choice->token_end) {
        const uint32_t i = choice->pos++;

        observe_token(choice, i);
        sl_buf_reset(piece);
        sl_tokenizer_decode(t, choice->slot->out_token[i], !gen->request.skip_special_tokens,
                            piece);
        if (sl_answer_text_add(&choice->text, piece->data, piece->len))
            stop_by_string(choice);
    }
    take_end(choice);
    n = sl_answer_text_ready(&choice->text, choice->finished);
    sl_buf_add(&choice->ready, choice->text.held.data, n);
    sl_answer_text_take(&choice->text, n);
}

static const char *reason(const sl_choice *choice)
{
    return choice->stop_string != NULL || choice->finish == SL_FINISH_STOP ? "stop" : "length";
}

/* Tokens that the model made for this choice: those of the text, and the one that ended it. */
static uint32_t token_count(const sl_choice *choice)
{
    return choice->pos + (choice->finished && choice->ended && choice->stop_string == NULL &&
                          choice->finish == SL_FINISH_STOP);
}

void sl_answer_usage(const sl_generation *gen, sl_api_usage *usage)
{
    *usage = (sl_api_usage){0};
    for (uint32_t i = 0; i < gen->prompt_count; i++)
        usage->prompt_tokens += gen->prompt[i].count;
    for (uint32_t i = 0; i < gen->choice_count; i++) {
        const sl_choice *choice = &gen->choice[i];

        usage->completion_tokens += token_count(choice);
        if (i % gen->request.n == 0 && choice->ended && choice->slot != NULL)
            usage->cached_tokens += choice->slot->times.cached_tokens;
    }
}

/* --- logprobs ------------------------------------------------------------------------------ */

static bool decode_into(sl_arena *arena, const sl_tokenizer *t, uint32_t token, float logprob,
                        sl_api_logprob *out)
{
    sl_buf text;
    char *copy;

    sl_buf_init(&text, TOKEN_TEXT_MAX);
    sl_tokenizer_decode(t, token, true, &text);
    copy = sl_arena_strndup(arena, text.data != NULL ? text.data : "", text.len);
    *out = (sl_api_logprob){.bytes = copy, .len = text.len, .logprob = logprob, .token = token};
    sl_buf_done(&text);
    return copy != NULL;
}

/* Tokens [first, end) of a choice with their logprobs, in the arena; NULL: out of memory. */
static sl_api_token *logprobs(sl_choice *choice, uint32_t first, uint32_t end, sl_arena *arena)
{
    const sl_tokenizer *t = choice->generation->server->model->tokenizer;
    sl_api_token *token = sl_arena_alloc(arena, (size_t)(end - first) + 1, sizeof(*token));
    bool good = token != NULL;

    for (uint32_t i = first; good && i < end; i++) {
        const sl_sample *s = &choice->slot->out_sample[i];
        sl_api_logprob *top = sl_arena_alloc(arena, (size_t)s->top_count + 1, sizeof(*top));
        sl_api_token *out = &token[i - first];

        good = top != NULL && decode_into(arena, t, s->token, s->logprob, &out->chosen);
        for (uint32_t k = 0; good && k < s->top_count; k++)
            good = decode_into(arena, t, s->top[k].token, s->top[k].logprob, &top[k]);
        out->top = top;
        out->top_count = s->top_count;
        out->text_offset = choice->chars;
        if (good && (!choice->generation->request.skip_special_tokens ||
                     !sl_tokenizer_is_control(t, s->token)))
            choice->chars += characters(out->chosen.bytes, out->chosen.len);
    }
    return good ? token : NULL;
}

/* What of a choice goes to the client now: its ready text and the tokens not told yet. */
static sl_status describe(sl_choice *choice, sl_arena *arena, sl_api_choice *out)
{
    const sl_api_request *q = &choice->generation->request;
    const uint32_t first = choice->reported;

    *out = (sl_api_choice){.index = choice->index,
                           .text = choice->ready.data != NULL ? choice->ready.data : "",
                           .text_len = choice->ready.len,
                           .finish_reason = choice->finished ? reason(choice) : NULL,
                           .stop_token = choice->stop_token,
                           .stop_string = choice->stop_string};
    if (choice->ready.failed || choice->text.held.failed)
        return SL_ENOMEM;
    if (choice->slot == NULL) {
        static const sl_api_token no_token;
        static const uint32_t no_id;

        out->token = q->logprobs ? &no_token : NULL;
        out->token_id = q->return_token_ids ? &no_id : NULL;
        return SL_OK;
    }
    if (q->return_token_ids) {
        out->token_id = choice->slot->out_token + first;
        out->token_id_count = choice->pos - first;
    }
    if (q->logprobs) {
        out->token = logprobs(choice, first, choice->pos, arena);
        out->token_count = choice->pos - first;
        if (out->token == NULL)
            return SL_ENOMEM;
    }
    choice->reported = choice->pos;
    return SL_OK;
}

/* --- streams ------------------------------------------------------------------------------- */

static void add_ignored(const sl_generation *gen, sl_buf *extra)
{
    const sl_api_request *q = &gen->request;

    for (size_t i = 0; i < q->ignored_count; i++)
        sl_buf_addf(extra, "%s%s", i == 0 ? "x-sluice-ignored: " : ", ", q->ignored[i]);
    if (q->ignored_count > 0)
        sl_buf_add_str(extra, "\r\n");
}

static void begin_stream(sl_generation *gen)
{
    sl_conn *conn = gen->conn;
    const bool chunked = !sl_http_parser_request(conn->parser)->http10;
    sl_buf extra;

    sl_buf_init(&extra, 16 << 10);
    sl_reply_headers(conn, NULL, &extra);
    sl_buf_add_str(&extra, "Cache-Control: no-cache\r\nX-Accel-Buffering: no\r\n");
    add_ignored(gen, &extra);
    conn->keep_alive = conn->keep_alive && chunked && !conn->eof;
    sl_http_write_head(&conn->out, 200, "text/event-stream",
                       chunked ? SL_HTTP_CHUNKED : SL_HTTP_UNTIL_CLOSE, conn->keep_alive,
                       sl_buf_text(&extra));
    sl_buf_done(&extra);
    gen->head_sent = true;
}

void sl_answer_send(sl_generation *gen)
{
    sl_conn *conn = gen->conn;
    sl_buf *events = &gen->server->scratch;

    if (events->len == 0 && !events->failed)
        return;
    if (!gen->head_sent)
        begin_stream(gen);
    if (events->failed)
        conn->out.failed = true;
    else if (sl_http_parser_request(conn->parser)->http10)
        sl_buf_add(&conn->out, events->data, events->len);
    else
        sl_http_write_chunk(&conn->out, events->data, events->len);
    sl_buf_reset(events);
    gen->sent_us = sl_clock_us();
}

void sl_answer_finish_stream(sl_generation *gen)
{
    sl_conn *conn = gen->conn;

    if (!sl_http_parser_request(conn->parser)->http10)
        sl_http_write_last_chunk(&conn->out);
    if (gen->server->state >= SL_SERVER_DRAINING)
        conn->keep_alive = false;
}

void sl_answer_ping(sl_generation *gen)
{
    sl_buf_reset(&gen->server->scratch);
    sl_api_write_ping(&gen->server->scratch);
    sl_answer_send(gen);
}

/* The events of one choice. */
static sl_status stream_choice(sl_choice *choice, sl_arena *arena, sl_buf *out)
{
    sl_generation *gen = choice->generation;
    const sl_api_request *q = &gen->request;
    const bool usage_null = q->include_usage && !q->continuous_usage;
    const bool detailed = q->logprobs || q->return_token_ids;
    sl_api_usage usage;
    sl_api_choice part;
    sl_status status;

    sl_answer_usage(gen, &usage);
    if (!choice->role_sent && gen->answer.kind == SL_API_CHAT &&
        (choice->pos > 0 || choice->finished))
        sl_api_write_role_chunk(out, &gen->answer, choice->index, usage_null);
    choice->role_sent |= choice->pos > 0 || choice->finished;
    if (choice->ready.len > 0 || (choice->finished && detailed && choice->reported < choice->pos)) {
        status = describe(choice, arena, &part);
        if (status != SL_OK)
            return status;
        sl_api_write_text_chunk(out, &gen->answer, &part, usage_null,
                                q->continuous_usage ? &usage : NULL);
        sl_buf_reset(&choice->ready);
    }
    if (choice->finished) {
        part = (sl_api_choice){.index = choice->index,
                               .finish_reason = reason(choice),
                               .stop_token = choice->stop_token,
                               .stop_string = choice->stop_string};
        sl_api_write_finish_chunk(out, &gen->answer, &part, usage_null,
                                  q->continuous_usage ? &usage : NULL);
        choice->closed = true;
    }
    return choice->ready.failed || choice->text.held.failed ? SL_ENOMEM : SL_OK;
}

static sl_status stream_parts(sl_generation *gen)
{
    sl_buf *out = &gen->server->scratch;
    sl_status status = SL_OK;
    sl_arena arena;

    sl_arena_init(&arena, SL_OUT_MAX);
    for (uint32_t i = 0; i < gen->choice_count && status == SL_OK; i++)
        if (!gen->choice[i].closed)
            status = stream_choice(&gen->choice[i], &arena, out);
    sl_arena_done(&arena);
    return status;
}

/* --- the end of an answer ------------------------------------------------------------------ */

static double since_ms(uint64_t from_us, uint64_t to_us)
{
    return from_us == 0 || to_us < from_us ? 0.0 : (double)(to_us - from_us) * 1e-3;
}

/* Times of the first choice that ran. */
static const sl_slot_times *times_of(const sl_generation *gen)
{
    static const sl_slot_times none;

    for (uint32_t i = 0; i < gen->choice_count; i++)
        if (gen->choice[i].slot != NULL)
            return &gen->choice[i].slot->times;
    return &none;
}

static void observe_end(sl_generation *gen)
{
    sl_metrics *m = &gen->server->metrics;

    for (uint32_t i = 0; i < gen->choice_count; i++) {
        const sl_choice *choice = &gen->choice[i];
        const sl_slot_times *t = choice->slot != NULL ? &choice->slot->times : NULL;

        if (t == NULL || t->first_token_us == 0)
            continue;
        sl_metrics_observe(m, SL_HIST_QUEUE, since_ms(t->submitted_us, t->admitted_us) * 1e-3);
        sl_metrics_observe(m, SL_HIST_PREFILL, since_ms(t->admitted_us, t->first_token_us) * 1e-3);
        sl_metrics_observe(m, SL_HIST_DECODE, since_ms(t->first_token_us, t->last_token_us) * 1e-3);
        sl_metrics_observe(m, SL_HIST_E2E, since_ms(gen->begin_us, t->last_token_us) * 1e-3);
        sl_metrics_observe(m, SL_HIST_PROMPT_TOKENS, gen->prompt[choice->prompt].count);
        sl_metrics_observe(m, SL_HIST_GENERATION_TOKENS, token_count(choice));
    }
}

/* The log's part about an answer: figures only, never text. */
static void detail_of(const sl_generation *gen, const sl_api_usage *usage, char *out, size_t n)
{
    const sl_slot_times *t = times_of(gen);

    snprintf(out, n,
             "prompt=%llu cached=%llu completion=%llu choices=%u queue_ms=%.1f ttft_ms=%.1f "
             "decode_ms=%.1f preemptions=%u finish=%s%s",
             (unsigned long long)usage->prompt_tokens, (unsigned long long)usage->cached_tokens,
             (unsigned long long)usage->completion_tokens, gen->choice_count,
             since_ms(t->submitted_us, t->admitted_us), since_ms(gen->begin_us, t->first_token_us),
             since_ms(t->first_token_us, t->last_token_us), t->preemptions, reason(&gen->choice[0]),
             gen->stream ? " stream" : "");
}

static void fail(sl_generation *gen, sl_status status)
{
    static const char *const text[SL_STATUS_COUNT] = {
        [SL_EFULL] = "the KV cache is full: try again later",
        [SL_ETIMEOUT] = "the deadline has passed",
        [SL_ETOOLONG] = "prompt and answer exceed the context",
        [SL_EUNAVAILABLE] = "the server is shutting down",
    };
    sl_err err;

    (void)sl_fail(&err, status, "%s", text[status] != NULL ? text[status] : sl_status_text(status));
    sl_generation_fail(gen, &err);
}

static void finish_stream(sl_generation *gen)
{
    sl_buf *out = &gen->server->scratch;
    sl_api_usage usage;
    char detail[320];

    sl_answer_usage(gen, &usage);
    if (gen->request.include_usage)
        sl_api_write_usage_chunk(out, &gen->answer, &usage);
    sl_api_write_done_event(out);
    sl_answer_send(gen);
    sl_answer_finish_stream(gen);
    observe_end(gen);
    detail_of(gen, &usage, detail, sizeof(detail));
    sl_generation_complete(gen, 200, detail);
}

static sl_status write_whole(sl_generation *gen, const sl_api_usage *usage, sl_buf *out)
{
    sl_api_choice *choice = sl_alloc(gen->choice_count, sizeof(*choice));
    sl_status status = choice != NULL ? SL_OK : SL_ENOMEM;
    sl_arena arena;

    sl_arena_init(&arena, SL_OUT_MAX);
    for (uint32_t i = 0; i < gen->choice_count && status == SL_OK; i++)
        status = describe(&gen->choice[i], &arena, &choice[i]);
    if (status == SL_OK)
        sl_api_write_answer(out, &gen->answer, choice, gen->choice_count, usage);
    if (out->failed)
        status = SL_ENOMEM;
    sl_arena_done(&arena);
    sl_free(choice);
    return status;
}

static void finish_whole(sl_generation *gen)
{
    const sl_slot_times *t = times_of(gen);
    sl_api_usage usage;
    char detail[320];
    sl_buf body, extra;
    sl_status status;

    sl_buf_init(&body, SL_OUT_MAX);
    sl_buf_init(&extra, 16 << 10);
    sl_answer_usage(gen, &usage);
    status = write_whole(gen, &usage, &body);
    if (status == SL_OK) {
        sl_reply_headers(gen->conn, NULL, &extra);
        add_ignored(gen, &extra);
        sl_buf_addf(&extra, "Server-Timing: queue;dur=%.3f, prefill;dur=%.3f, decode;dur=%.3f\r\n",
                    since_ms(t->submitted_us, t->admitted_us),
                    since_ms(t->admitted_us, t->first_token_us),
                    since_ms(t->first_token_us, t->last_token_us));
        sl_reply(gen->conn, 200, "application/json", &body, sl_buf_text(&extra));
        observe_end(gen);
        detail_of(gen, &usage, detail, sizeof(detail));
        sl_generation_complete(gen, 200, detail);
    } else {
        fail(gen, status);
    }
    sl_buf_done(&body);
    sl_buf_done(&extra);
}

/* --- pumping ------------------------------------------------------------------------------- */

/* SL_OK, or why a choice failed that nobody had stopped. */
static sl_status take_all(sl_generation *gen, bool *finished, bool *ended)
{
    sl_status status = SL_OK;
    sl_buf piece;

    sl_buf_init(&piece, TOKEN_TEXT_MAX);
    *finished = *ended = true;
    for (uint32_t i = 0; i < gen->choice_count; i++) {
        sl_choice *choice = &gen->choice[i];

        take_tokens(choice, &piece);
        if (choice->ended && !choice->finished && choice->status != SL_OK)
            status = choice->status;
        *finished &= choice->finished;
        *ended &= choice->ended;
    }
    if (piece.failed)
        status = SL_ENOMEM;
    sl_buf_done(&piece);
    return status;
}

void sl_answer_pump(sl_generation *gen)
{
    bool finished, ended;
    sl_status status;

    gen->backlog = gen->stream && sl_conn_queued(gen->conn) >= SL_QUEUED_MAX;
    if (gen->backlog)
        return;
    status = take_all(gen, &finished, &ended);
    if (status == SL_OK && gen->stream) {
        sl_buf_reset(&gen->server->scratch);
        status = stream_parts(gen);
        if (status == SL_OK)
            sl_answer_send(gen);
    }
    if (status != SL_OK)
        fail(gen, status);
    else if (!finished || !ended) /* figures of a slot can be read once it has ended */
        return;
    else if (gen->stream)
        finish_stream(gen);
    else
        finish_whole(gen);
}
