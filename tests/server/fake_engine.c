/* tests/server/fake_engine.c - see fake_engine.h */
#include "tests/server/fake_engine.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/threads.h"

enum { SCRIPT_MAX = 4096, FIRST_BYTE_TOKEN = 3, POLL_US = 2000 };

typedef struct job {
    sl_slot_handle handle;
    sl_slot *slot; /* NULL: free */
    bool running;
    char text[SCRIPT_MAX];
    size_t len;
    uint32_t repeat, gap_us, fail_at;
    sl_status fail_status;
    bool hang;
    uint32_t made; /* tokens */
    uint64_t due_us;
    uint64_t order;
} job;

struct sl_fake_engine {
    sl_mailbox *box;
    const sl_tokenizer *tokenizer;
    uint32_t seqs_max;
    job *job; /* [slot_count] */
    uint64_t orders;
    sl_wake wake;
    sl_thread thread;
    bool ending;
    sl_engine_stats stats;
};

/* --- scripts ------------------------------------------------------------------------------- */

static void read_hex(job *j, const char *text, size_t n)
{
    j->len = 0;
    for (size_t i = 0; i + 1 < n && j->len < SCRIPT_MAX; i += 2) {
        char two[3] = {text[i], text[i + 1], '\0'};

        j->text[j->len++] = (char)strtoul(two, NULL, 16);
    }
}

static void read_part(job *j, const char *part, size_t n, uint64_t now_us)
{
    char name[16] = "";
    const char *equal = memchr(part, '=', n);
    const size_t name_len = equal != NULL ? (size_t)(equal - part) : n;
    const char *value = equal != NULL ? equal + 1 : "";
    const size_t value_len = equal != NULL ? n - name_len - 1 : 0;
    char number[32] = "";
    unsigned long v;

    memcpy(name, part, name_len < 15 ? name_len : 15);
    memcpy(number, value, value_len < 31 ? value_len : 31);
    v = strtoul(number, NULL, 10);
    if (strcmp(name, "say") == 0) {
        j->len = value_len < SCRIPT_MAX ? value_len : SCRIPT_MAX;
        memcpy(j->text, value, j->len);
    } else if (strcmp(name, "hex") == 0) {
        read_hex(j, value, value_len);
    } else if (strcmp(name, "repeat") == 0) {
        j->repeat = (uint32_t)v;
    } else if (strcmp(name, "first") == 0) {
        j->due_us = now_us + v;
    } else if (strcmp(name, "gap") == 0) {
        j->gap_us = (uint32_t)v;
    } else if (strcmp(name, "fail") == 0 || strcmp(name, "full") == 0) {
        j->fail_at = (uint32_t)v;
        j->fail_status = name[1] == 'a' ? SL_EINTERNAL : SL_EFULL;
    } else if (strcmp(name, "hang") == 0) {
        j->hang = true;
    }
}

/* The last [[...]] of the prompt. */
static void read_script(const sl_fake_engine *e, job *j, uint64_t now_us)
{
    const char *begin = NULL, *end, *text;
    sl_buf prompt;

    sl_buf_init(&prompt, 64u << 20);
    sl_tokenizer_decode_all(e->tokenizer, j->slot->prompt, j->slot->prompt_count, true, &prompt);
    text = sl_buf_text(&prompt);
    for (const char *p = text; p != NULL && (p = strstr(p, "[[")) != NULL; p += 2)
        begin = p + 2;
    end = begin != NULL ? strstr(begin, "]]") : NULL;
    while (end != NULL && begin < end) {
        const char *bar = memchr(begin, '|', (size_t)(end - begin));
        const char *stop = bar != NULL ? bar : end;

        read_part(j, begin, (size_t)(stop - begin), now_us);
        begin = stop + 1;
    }
    sl_buf_done(&prompt);
}

/* --- playing ------------------------------------------------------------------------------- */

static void count(atomic_ullong *counter, unsigned long long n)
{
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static void accept(sl_fake_engine *e, sl_slot_handle handle, uint64_t now_us)
{
    job *j = &e->job[handle.index];

    memset(j, 0, sizeof(*j));
    j->handle = handle;
    j->slot = &e->box->slot[handle.index];
    j->order = ++e->orders;
    j->fail_at = UINT32_MAX;
    j->repeat = 1;
    j->len = 11;
    memcpy(j->text, "hello world", 11);
    j->due_us = now_us;
    read_script(e, j, now_us);
}

static void end(sl_fake_engine *e, job *j, sl_finish finish, sl_status status)
{
    const sl_event_message message = {.kind = status == SL_OK ? SL_EVENT_DONE : SL_EVENT_FAILED,
                                      .slot = j->handle,
                                      .token_end = j->made,
                                      .finish = finish,
                                      .status = status};

    count(status == SL_OK           ? &e->stats.requests_done
          : status == SL_ECANCELLED ? &e->stats.requests_cancelled
                                    : &e->stats.requests_failed,
          1);
    j->slot->times.done_us = sl_clock_us();
    j->slot = NULL;
    sl_mailbox_push_end(e->box, &message);
}

static void make_token(sl_fake_engine *e, job *j, uint64_t now_us)
{
    sl_slot *slot = j->slot;
    const uint32_t i = j->made++;
    const uint32_t token = FIRST_BYTE_TOKEN + (uint8_t)j->text[i % j->len];

    slot->out_token[i] = token;
    slot->out_us[i] = now_us;
    if (slot->out_sample != NULL) {
        sl_sample *s = &slot->out_sample[i];

        *s = (sl_sample){.token = token, .logprob = -0.5f, .top_count = slot->params.top_logprobs};
        for (uint32_t k = 0; k < s->top_count; k++)
            s->top[k] = (sl_token_logprob){.token = k == 0 ? token : FIRST_BYTE_TOKEN + 'a' + k,
                                           .logprob = -0.5f - (float)k};
    }
    if (slot->times.first_token_us == 0)
        slot->times.first_token_us = now_us;
    slot->times.last_token_us = now_us;
    j->due_us = now_us + j->gap_us;
    count(&e->stats.generation_tokens, 1);
    count(&e->stats.progress, 1);
}

/* What is due of one job.  True: it announced or ended. */
static bool play(sl_fake_engine *e, job *j, uint64_t now_us)
{
    const uint32_t before = j->made;

    if (atomic_load_explicit(&j->slot->cancelled, memory_order_relaxed)) {
        end(e, j, SL_FINISH_NONE, SL_ECANCELLED);
        return true;
    }
    if (j->hang)
        return false;
    /* A few tokens a turn, as a step of a real engine makes one. */
    for (int burst = 0; burst < 16 && j->due_us <= now_us; burst++) {
        const bool over = j->made >= j->len * j->repeat && !j->slot->ignore_eos;

        if (j->made == j->fail_at) {
            end(e, j, SL_FINISH_NONE, j->fail_status);
            return true;
        }
        if (j->len == 0 || over) {
            j->slot->stop_token =
                j->slot->params.stop_token_count > 0 ? j->slot->params.stop_token[0] : UINT32_MAX;
            end(e, j, SL_FINISH_STOP, SL_OK);
            return true;
        }
        make_token(e, j, now_us);
        if (j->made == j->slot->max_tokens) {
            end(e, j, SL_FINISH_LENGTH, SL_OK);
            return true;
        }
    }
    return j->made > before && sl_mailbox_push_tokens(e->box, j->handle, j->made);
}

static void take_messages(sl_fake_engine *e, uint64_t now_us)
{
    sl_submit_message message;

    while (sl_mailbox_next_submit(e->box, &message)) {
        if (message.kind == SL_SUBMIT_SHUTDOWN)
            e->ending = true;
        else
            accept(e, message.slot, now_us);
    }
}

/* Let the oldest waiting jobs run. */
static void admit(sl_fake_engine *e, uint64_t now_us)
{
    uint32_t running = 0, waiting = 0;

    for (uint32_t i = 0; i < e->box->slot_count; i++) {
        running += e->job[i].slot != NULL && e->job[i].running;
        waiting += e->job[i].slot != NULL && !e->job[i].running;
    }
    while (waiting > 0 && running < e->seqs_max) {
        job *oldest = NULL;

        for (uint32_t i = 0; i < e->box->slot_count; i++)
            if (e->job[i].slot != NULL && !e->job[i].running &&
                (oldest == NULL || e->job[i].order < oldest->order))
                oldest = &e->job[i];
        oldest->running = true;
        oldest->slot->times.admitted_us = now_us;
        count(&e->stats.requests_admitted, 1);
        count(&e->stats.prompt_tokens, oldest->slot->prompt_count);
        running++;
        waiting--;
    }
    atomic_store(&e->stats.queued, waiting);
    atomic_store(&e->stats.decoding, running);
}

static void run(void *arg)
{
    sl_fake_engine *e = arg;

    while (!e->ending) {
        const uint64_t now_us = sl_clock_us();
        bool busy = false, announced = false;

        take_messages(e, now_us);
        admit(e, now_us);
        for (uint32_t i = 0; i < e->box->slot_count; i++) {
            job *j = &e->job[i];

            if (j->slot == NULL)
                continue;
            if (j->running || atomic_load(&j->slot->cancelled))
                announced |= play(e, j, now_us);
            busy |= j->slot != NULL && j->running && !j->hang && j->due_us <= now_us;
        }
        admit(e, now_us);
        if (announced)
            sl_mailbox_wake_loop(e->box);
        if (!busy)
            sl_wake_wait(&e->wake, POLL_US);
    }
    for (uint32_t i = 0; i < e->box->slot_count; i++)
        if (e->job[i].slot != NULL)
            end(e, &e->job[i], SL_FINISH_NONE, SL_EUNAVAILABLE);
    sl_mailbox_wake_loop(e->box);
}

static void wake(void *user)
{
    sl_fake_engine *e = user;

    sl_wake_post(&e->wake);
}

sl_fake_engine *sl_fake_engine_start(sl_mailbox *box, const sl_tokenizer *tokenizer,
                                     uint32_t seqs_max)
{
    sl_fake_engine *e = sl_xalloc(1, sizeof(*e));

    e->box = box;
    e->tokenizer = tokenizer;
    e->seqs_max = seqs_max;
    e->job = sl_xalloc(box->slot_count, sizeof(*e->job));
    atomic_store(&e->stats.planes_total, 100);
    atomic_store(&e->stats.planes_free, 75);
    sl_wake_init(&e->wake);
    box->engine_user = e;
    box->wake_engine = wake;
    SL_ASSERT(sl_thread_start(&e->thread, "fake-engine", -1, run, e) == SL_OK);
    return e;
}

const sl_engine_stats *sl_fake_engine_stats(const sl_fake_engine *engine)
{
    return &engine->stats;
}

void sl_fake_engine_destroy(sl_fake_engine *engine)
{
    sl_thread_join(&engine->thread);
    sl_free(engine->job);
    sl_free(engine);
}
