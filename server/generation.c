/* server/generation.c - a request that takes time: its job in the pool, its slots, its end. */
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/rng.h"
#include "server/server_internal.h"

enum { ARENA_FIXED_BYTES = 1 << 20, REPLY_MAX = 64 << 20, READY_MAX = 64 << 20 };

size_t sl_server_slot_bytes(uint32_t context_max, uint32_t vocab)
{
    const size_t token = sizeof(uint32_t) + sizeof(uint64_t) + sizeof(sl_sample);

    return (size_t)context_max * token + (size_t)vocab * sizeof(uint16_t) + vocab / 8 +
           SL_LOGIT_BIAS_MAX * sizeof(sl_logit_bias) + (64 << 10);
}

/* --- the end ------------------------------------------------------------------------------- */

static void free_generation(sl_generation *gen)
{
    sl_server *server = gen->server;

    SL_ASSERT(gen->conn == NULL && !gen->working && gen->slots_open == 0);
    if (gen->prev != NULL)
        gen->prev->next = gen->next;
    else
        server->generations = gen->next;
    if (gen->next != NULL)
        gen->next->prev = gen->prev;
    for (uint32_t i = 0; i < gen->choice_count; i++) {
        sl_answer_text_done(&gen->choice[i].text);
        sl_buf_done(&gen->choice[i].ready);
    }
    sl_free(gen->choice);
    for (uint32_t i = 0; i < gen->prompt_count; i++)
        if (gen->prompt[i].owned)
            sl_free(gen->prompt[i].id);
    sl_buf_done(&gen->body);
    sl_buf_done(&gen->reply);
    sl_arena_done(&gen->arena);
    sl_free(gen);
}

void sl_generation_release(sl_generation *gen)
{
    sl_mailbox *box = gen->server->model->mailbox;

    if (gen->conn != NULL || gen->working || gen->dirty)
        return;
    for (uint32_t i = 0; i < gen->choice_count; i++) {
        sl_choice *choice = &gen->choice[i];

        if (choice->slot == NULL || !choice->ended)
            continue;
        sl_mailbox_give_slot(box, choice->slot);
        choice->slot = NULL;
        gen->slots_open--;
    }
    if (gen->slots_open == 0)
        free_generation(gen);
}

/* Nobody waits any more: whatever still runs is told to stop. */
static void detach(sl_generation *gen)
{
    if (gen->conn != NULL) {
        gen->conn->generation = NULL;
        gen->conn = NULL;
        gen->server->generation_count--;
    }
    for (uint32_t i = 0; i < gen->choice_count; i++)
        if (gen->choice[i].slot != NULL && !gen->choice[i].ended)
            atomic_store_explicit(&gen->choice[i].slot->cancelled, true, memory_order_relaxed);
    sl_generation_release(gen);
}

void sl_generation_abandon(sl_generation *gen)
{
    detach(gen);
}

void sl_generation_fail(sl_generation *gen, const sl_err *err)
{
    sl_conn *conn = gen->conn;

    if (!gen->head_sent) {
        sl_generation_note_end(gen, sl_status_http(err->status));
        sl_reply_error(conn, err);
    } else {
        sl_buf *out = &gen->server->scratch;

        sl_buf_reset(out);
        sl_api_write_error_event(out, err);
        sl_api_write_done_event(out);
        sl_answer_send(gen);
        sl_answer_finish_stream(gen);
        sl_generation_note_end(gen, sl_status_http(err->status));
        sl_conn_answered(conn, sl_status_http(err->status), sl_status_name(err->status));
    }
    detach(gen);
}

void sl_generation_complete(sl_generation *gen, int http, const char *detail)
{
    sl_conn *conn = gen->conn;

    sl_generation_note_end(gen, http);
    sl_conn_answered(conn, http, detail);
    detach(gen);
}

void sl_generation_note_end(sl_generation *gen, int http)
{
    sl_server *server = gen->server;
    const uint64_t now_us = sl_clock_us();
    const double interval_us = (double)(now_us - server->last_end_us);

    /* Only the ends of work that was done say when the next slot will be free. */
    if (http != 200 || gen->choice_count == 0)
        return;
    if (server->last_end_us != 0)
        server->end_interval_us += 0.2 * (interval_us - server->end_interval_us);
    server->last_end_us = now_us;
}

/* --- slots --------------------------------------------------------------------------------- */

/* The stop tokens: the model's ends of an answer, unless they are to be ignored, and the request's
 * own. */
static bool fill_stops(sl_generation *gen, sl_slot *slot)
{
    const sl_api_request *q = &gen->request;
    uint32_t *stop = sl_arena_alloc(&slot->arena, SL_STOP_TOKENS_MAX, sizeof(*stop));
    uint32_t count = 0;

    if (stop == NULL)
        return false;
    if (!q->ignore_eos)
        count = sl_tokenizer_eog(gen->server->model->tokenizer, stop);
    for (size_t i = 0; i < q->stop_id_count; i++)
        stop[count++] = q->stop_id[i];
    slot->params.stop_token = stop;
    slot->params.stop_token_count = count;
    slot->ignore_eos = count == 0;
    return true;
}

_Static_assert(SL_TOKENIZER_EOG_MAX + SL_API_STOP_IDS_MAX <= SL_STOP_TOKENS_MAX,
               "stop tokens of the model and of a request fit together");

static bool fill_bias(const sl_api_request *q, sl_slot *slot)
{
    sl_logit_bias *bias = sl_arena_alloc(&slot->arena, q->bias_count + 1, sizeof(*bias));

    if (bias == NULL)
        return false;
    for (size_t i = 0; i < q->bias_count; i++)
        bias[i] =
            (sl_logit_bias){.token = (uint32_t)q->bias[i].token, .bias = (float)q->bias[i].bias};
    slot->params.bias = bias;
    slot->params.bias_count = (uint32_t)q->bias_count;
    return true;
}

/* What penalties need to remember; the prompt's tokens are noted here. */
static bool fill_sampler(sl_generation *gen, sl_slot *slot)
{
    const uint32_t vocab = sl_tokenizer_vocab(gen->server->model->tokenizer);

    slot->sampler = (sl_sampler){.params = &slot->params, .vocab_used = vocab};
    if (!sl_sample_params_penalize(&slot->params))
        return true;
    slot->sampler.answer_count =
        sl_arena_alloc(&slot->arena, vocab, sizeof(*slot->sampler.answer_count));
    slot->sampler.prompt_seen = sl_arena_alloc(&slot->arena, vocab / 8 + 1, 1);
    if (slot->sampler.answer_count == NULL || slot->sampler.prompt_seen == NULL)
        return false;
    for (uint32_t i = 0; i < slot->prompt_count; i++) {
        uint8_t *byte = &slot->sampler.prompt_seen[slot->prompt[i] / 8];

        *byte = (uint8_t)(*byte | 1u << slot->prompt[i] % 8);
    }
    return true;
}

static bool fill_slot(sl_choice *choice, uint64_t seed, uint64_t salt)
{
    sl_generation *gen = choice->generation;
    const sl_api_request *q = &gen->request;
    sl_slot *slot = choice->slot;

    slot->user = choice;
    slot->prompt = gen->prompt[choice->prompt].id;
    slot->prompt_count = gen->prompt[choice->prompt].count;
    slot->max_tokens = gen->max_tokens[choice->prompt];
    slot->salt = salt;
    slot->params = (sl_sample_params){
        .temperature = (float)q->temperature,
        .top_k = (uint32_t)q->top_k,
        .top_p = (float)q->top_p,
        .min_p = (float)q->min_p,
        .repetition_penalty = (float)q->repetition_penalty,
        .presence_penalty = (float)q->presence_penalty,
        .frequency_penalty = (float)q->frequency_penalty,
        .seed = seed,
        .top_logprobs = q->logprobs ? q->top_logprobs : 0,
        .logprobs = q->logprobs,
        .min_tokens = q->min_tokens < slot->max_tokens ? (uint32_t)q->min_tokens : slot->max_tokens,
    };
    slot->out_token = sl_arena_alloc(&slot->arena, slot->max_tokens, sizeof(*slot->out_token));
    slot->out_us = sl_arena_alloc(&slot->arena, slot->max_tokens, sizeof(*slot->out_us));
    if (q->logprobs)
        slot->out_sample = sl_arena_alloc(&slot->arena, slot->max_tokens, sizeof(sl_sample));
    return slot->out_token != NULL && slot->out_us != NULL &&
           (!q->logprobs || slot->out_sample != NULL) && fill_stops(gen, slot) &&
           fill_bias(q, slot) && fill_sampler(gen, slot);
}

/* All of a request's slots, or none. */
static sl_status take_slots(sl_generation *gen, sl_err *err)
{
    sl_server *server = gen->server;
    sl_mailbox *box = server->model->mailbox;
    const sl_api_request *q = &gen->request;
    const uint64_t salt = sl_keys_salt(server->keys, gen->conn->key, q->cache_salt, server->secret);
    const uint64_t seed =
        q->has_seed ? q->seed : sl_mix64_pair(server->id_seed, server->id_count++);

    for (uint32_t i = 0; i < gen->choice_count; i++) {
        sl_choice *choice = &gen->choice[i];

        if (gen->max_tokens[choice->prompt] == 0) { /* nothing to generate: it ends at once */
            choice->ended = true;
            choice->finish = SL_FINISH_LENGTH;
            continue;
        }
        choice->slot = sl_mailbox_take_slot(box);
        if (choice->slot == NULL)
            return sl_fail_param(err, SL_EFULL, NULL, "queue_full",
                                 "%u choices do not fit beside what is running and waiting",
                                 gen->choice_count);
        gen->slots_open++;
        if (!fill_slot(choice, i % q->n == 0 ? seed : sl_mix64_pair(seed, i % q->n), salt))
            return sl_fail(err, SL_ENOMEM, "out of memory for a request's slot");
    }
    return SL_OK;
}

static void give_slots(sl_generation *gen)
{
    for (uint32_t i = 0; i < gen->choice_count; i++)
        if (gen->choice[i].slot != NULL)
            gen->choice[i].ended = true; /* never submitted: release takes them back */
}

static sl_status submit_slots(sl_generation *gen, sl_err *err)
{
    sl_mailbox *box = gen->server->model->mailbox;
    const uint64_t now_us = sl_clock_us();
    sl_status status = SL_OK;

    for (uint32_t i = 0; i < gen->choice_count; i++) {
        sl_choice *choice = &gen->choice[i];
        const sl_choice *first = &gen->choice[i - i % gen->request.n];

        if (choice->slot == NULL)
            continue;
        choice->slot->times.submitted_us = now_us;
        if (choice != first)
            choice->slot->fork_of = sl_mailbox_handle(box, first->slot);
        if (status == SL_OK)
            status = sl_mailbox_submit(box, choice->slot);
        if (status != SL_OK)
            choice->ended = true;
    }
    if (status != SL_OK)
        return sl_fail(err, status, "the engine takes no requests");
    return SL_OK;
}

/* --- choices ------------------------------------------------------------------------------- */

static sl_status make_choices(sl_generation *gen, sl_err *err)
{
    const sl_api_request *q = &gen->request;
    const uint32_t count = gen->prompt_count * q->n;
    const uint32_t slots = gen->server->model->mailbox->slot_count;

    if (count > slots)
        return sl_fail_param(err, SL_EINVAL, q->n > 1 ? "n" : "prompt", "too_many_choices",
                             "%u choices are more than the %u sequences this server takes", count,
                             slots);
    gen->choice = sl_alloc(count, sizeof(*gen->choice));
    if (gen->choice == NULL)
        return sl_fail(err, SL_ENOMEM, "out of memory for %u choices", count);
    gen->choice_count = count;
    for (uint32_t i = 0; i < count; i++) {
        sl_choice *choice = &gen->choice[i];

        choice->generation = gen;
        choice->index = i;
        choice->prompt = i / q->n;
        choice->stop_token = -1;
        sl_answer_text_init(&choice->text, q->stop, q->stop_len, q->stop_count, q->include_stop_str,
                            READY_MAX);
        sl_buf_init(&choice->ready, READY_MAX);
        if (gen->prompt[choice->prompt].echo != NULL)
            sl_buf_add(&choice->ready, gen->prompt[choice->prompt].echo,
                       gen->prompt[choice->prompt].echo_len);
    }
    return SL_OK;
}

static void begin_answer(sl_generation *gen)
{
    char text[33];

    sl_random_text(gen->server, text);
    gen->stream = gen->request.stream;
    snprintf(gen->id, sizeof(gen->id), "%s%s",
             gen->request.kind == SL_API_CHAT ? "chatcmpl-" : "cmpl-", text);
    gen->answer.kind = gen->request.kind;
    gen->answer.id = gen->id;
    gen->answer.created = sl_clock_unix_s();
    gen->answer.fingerprint = gen->server->fingerprint;
}

static void reply_tokens(sl_generation *gen)
{
    sl_conn *conn = gen->conn;
    sl_buf extra;

    sl_buf_init(&extra, 1024);
    sl_reply_headers(conn, NULL, &extra);
    sl_reply(conn, 200, "application/json", &gen->reply, sl_buf_text(&extra));
    sl_buf_done(&extra);
    sl_generation_complete(gen, 200, NULL);
}

/* The body is read: take slots and go, or say why not. */
static void begin(sl_generation *gen)
{
    sl_status status = gen->status;
    sl_err err = gen->err;

    if (status == SL_OK && !sl_server_accepts(gen->server))
        status = sl_fail(&err, SL_EUNAVAILABLE, "the server is shutting down");
    if (status == SL_OK && gen->route != SL_ROUTE_CHAT && gen->route != SL_ROUTE_COMPLETIONS) {
        reply_tokens(gen);
        return;
    }
    if (status == SL_OK)
        status = make_choices(gen, &err);
    if (status == SL_OK) {
        begin_answer(gen);
        status = take_slots(gen, &err);
        if (status != SL_OK)
            give_slots(gen);
        else
            status = submit_slots(gen, &err);
    }
    if (status != SL_OK) {
        sl_generation_fail(gen, &err);
        return;
    }
    sl_answer_pump(gen); /* choices of no tokens are complete already */
}

/* --- the job ------------------------------------------------------------------------------- */

static void on_work(uv_work_t *work)
{
    sl_prepare(work->data);
}

static void after_prepare(sl_generation *gen)
{
    gen->working = false;
    if (gen->reserved) {
        gen->reserved = false;
        gen->server->reserved--;
    }
    if (gen->conn == NULL)
        sl_generation_release(gen);
    else
        begin(gen);
}

static void on_work_done(uv_work_t *work, int status)
{
    sl_generation *gen = work->data;
    sl_conn *conn = gen->conn;

    if (status != 0) /* the loop is being torn down: the job never ran */
        gen->status = sl_fail(&gen->err, SL_EUNAVAILABLE, "the server is shutting down");
    after_prepare(gen);
    if (conn != NULL)
        sl_conn_progress(conn);
}

static sl_generation *new_generation(sl_conn *conn)
{
    sl_server *server = conn->server;
    sl_http_request *r = sl_http_parser_request(conn->parser);
    sl_generation *gen = sl_alloc(1, sizeof(*gen));

    if (gen == NULL)
        return NULL;
    gen->server = server;
    gen->conn = conn;
    gen->route = conn->route->id;
    gen->begin_us = gen->sent_us = conn->complete_us;
    /* The job must not depend on the connection: the body changes hands. */
    gen->body = r->body;
    sl_buf_init(&r->body, server->config->max_body_bytes);
    sl_arena_init(&gen->arena, 3 * gen->body.len + ARENA_FIXED_BYTES);
    sl_buf_init(&gen->reply, REPLY_MAX);
    gen->work.data = gen;
    gen->next = server->generations;
    if (gen->next != NULL)
        gen->next->prev = gen;
    server->generations = gen;
    server->generation_count++;
    conn->generation = gen;
    return gen;
}

void sl_generation_start(sl_conn *conn)
{
    sl_server *server = conn->server;
    sl_generation *gen = new_generation(conn);
    sl_err err;

    if (gen == NULL) {
        (void)sl_fail(&err, SL_ENOMEM, "out of memory for a request");
        sl_reply_error(conn, &err);
        return;
    }
    gen->working = true;
    gen->reserved = conn->route->takes_slot;
    server->reserved += gen->reserved;
    /* A small body is prepared sooner than a thread of the pool wakes up. */
    if (gen->body.len <= SL_INLINE_BODY_MAX) {
        sl_prepare(gen);
        after_prepare(gen);
    } else if (uv_queue_work(&server->loop, &gen->work, on_work, on_work_done) != 0) {
        gen->status = sl_fail(&gen->err, SL_ENOMEM, "the pool takes no jobs");
        after_prepare(gen);
    }
}

/* --- events -------------------------------------------------------------------------------- */

static void take_event(sl_server *server, const sl_event_message *event)
{
    sl_slot *slot = sl_mailbox_find(server->model->mailbox, event->slot);
    sl_choice *choice;

    SL_ASSERT(slot != NULL);
    choice = slot->user;
    if (event->kind == SL_EVENT_TOKENS) {
        choice->token_end = event->token_end;
    } else {
        choice->ended = true;
        if (event->token_end > choice->token_end)
            choice->token_end = event->token_end;
        choice->finish = event->finish;
        choice->status = event->kind == SL_EVENT_FAILED ? event->status : SL_OK;
    }
    if (!choice->generation->dirty) {
        choice->generation->dirty = true;
        choice->generation->next_dirty = server->dirty;
        server->dirty = choice->generation;
    }
}

void sl_generation_drain_events(sl_server *server)
{
    sl_event_message event;
    sl_generation *gen;

    /* All events first: tokens of one answer that came meanwhile go out together. */
    while (sl_mailbox_next_event(server->model->mailbox, &event))
        take_event(server, &event);
    while ((gen = server->dirty) != NULL) {
        sl_conn *conn = gen->conn;

        server->dirty = gen->next_dirty;
        gen->dirty = false;
        if (conn == NULL) {
            sl_generation_release(gen);
            continue;
        }
        sl_answer_pump(gen);
        sl_conn_progress(conn);
    }
}
