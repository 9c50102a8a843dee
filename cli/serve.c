/* cli/serve.c - `sluice serve`: from options to a running daemon.
 *
 * The listener is opened first, so that /live answers and a port in use is known at once; a thread
 * of its own then loads the model and hands it to the server. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/rng.h"
#include "base/threads.h"
#include "cli/cli.h"
#include "cli/plan.h"
#include "engine/engine.h"
#include "engine/exec_cpu.h"
#include "kernels/kernels.h"
#include "model/gguf.h"
#include "model/model.h"
#include "model/tokenizer.h"
#include "protocol/template.h"
#include "server/config.h"
#include "server/server.h"

extern char **environ;

/* Prompt tokens of a step beside decodes, and of slices until their cost is known: about 50 to 500
 * ms on one core of the CPUs we know, for models of 0.1 to 1.5 billion weights. */
enum { CHUNK_TOKENS = 64 };

/* All that a served model consists of. */
typedef struct serving {
    sl_config config;
    sl_model_config model_config;
    sl_model_plan weights;
    sl_serve_plan plan;
    char model_name[128];
    const sl_ops *ops;
    const char *features;

    sl_gguf *file;
    sl_tokenizer *tokenizer;
    sl_template *chat_template;
    sl_model *model;
    sl_exec *exec;
    sl_mailbox mailbox;
    bool mailbox_ready;
    sl_engine *engine;

    sl_server *server;
    sl_server_model served;
    sl_thread loader;
    atomic_bool loader_done; /* then everything above may be read */
    uint64_t progress_us;
    int progress_percent;
} serving;

/* --- before the load ----------------------------------------------------------------------- */

/* "model.gguf" of "/some/where/model.gguf", without the ending. */
static void name_model(serving *s)
{
    const char *slash = strrchr(s->config.model, '/');
    const char *base = slash != NULL ? slash + 1 : s->config.model;
    size_t n = strlen(base);

    if (n > 5 && strcmp(base + n - 5, ".gguf") == 0)
        n -= 5;
    snprintf(s->model_name, sizeof(s->model_name), "%.*s", (int)(n < 127 ? n : 127), base);
}

static sl_status pick_device(serving *s, sl_err *err)
{
    if (strcmp(s->config.device, "cuda") == 0)
        return sl_fail(err, SL_EUNSUPPORTED,
                       "--device cuda: this build has no CUDA plug-in; use --device cpu");
    s->ops = sl_ops_cpu(&s->features);
    if (s->ops == NULL) {
        s->ops = sl_ops_ref();
        s->features = "no fast kernels for this CPU";
    }
    return SL_OK;
}

/* The text of --chat-template's file; to be freed. */
static sl_status read_text(const char *path, char **out, size_t *len, sl_err *err)
{
    char *text = sl_alloc(SL_TEMPLATE_BYTES_MAX + 1, 1);
    FILE *f = fopen(path, "re");
    sl_status status = SL_OK;

    if (text == NULL)
        status = sl_fail(err, SL_ENOMEM, "out of memory for '%.200s'", path);
    else if (f == NULL)
        status = sl_fail(err, SL_EIO, "cannot read the chat template '%.200s': %s", path,
                         strerror(errno));
    if (status == SL_OK) {
        *len = fread(text, 1, SL_TEMPLATE_BYTES_MAX + 1, f);
        if (ferror(f))
            status = sl_fail(err, SL_EIO, "cannot read the chat template '%.200s': %s", path,
                             strerror(errno));
        else if (*len > SL_TEMPLATE_BYTES_MAX)
            status = sl_fail(err, SL_EFORMAT, "the chat template '%.200s' is larger than %d bytes",
                             path, SL_TEMPLATE_BYTES_MAX);
    }
    if (f != NULL)
        fclose(f);
    if (status == SL_OK)
        *out = text;
    else
        sl_free(text);
    return status;
}

static sl_status compile_template(serving *s, sl_err *err)
{
    const char *path = s->config.chat_template;
    sl_err inner = {0};
    char *text = NULL;
    size_t len = 0;
    sl_status status;

    if (path[0] != '\0') {
        status = read_text(path, &text, &len, err);
        if (status != SL_OK)
            return status;
        status = sl_template_compile(text, len, &s->chat_template, &inner);
        sl_free(text);
        if (status != SL_OK)
            return sl_fail(err, status, "chat template '%.120s': %s", path, inner.text);
        return SL_OK;
    }
    if (sl_gguf_has(s->file, "tokenizer.chat_template")) {
        sl_str source;

        status = sl_gguf_get_str(s->file, "tokenizer.chat_template", &source, &inner);
        if (status == SL_OK)
            status = sl_template_compile(source.data, source.len, &s->chat_template, &inner);
        /* Completions work without it, so that a template we cannot read refuses chats only. */
        if (status != SL_OK)
            sl_log(SL_LOG_WARN,
                   "serve the file's chat template cannot be used: %s; chats are "
                   "refused unless --chat-template names another",
                   inner.text);
    }
    return SL_OK;
}

/* All that can be known before memory is taken. */
static sl_status examine(serving *s, sl_err *err)
{
    sl_status status = pick_device(s, err);

    if (status == SL_OK)
        status = sl_gguf_open(s->config.model, &s->file, err);
    if (status == SL_OK)
        status = sl_model_plan_read(s->file, s->ops, &s->model_config, &s->weights, err);
    if (status == SL_OK)
        status = sl_serve_plan_make(&s->config, &s->model_config, &s->weights, sl_available_bytes(),
                                    &s->plan, err);
    if (status == SL_OK)
        status = sl_tokenizer_create(s->file, &s->tokenizer, err);
    if (status == SL_OK && sl_tokenizer_vocab(s->tokenizer) > s->model_config.vocab)
        status = sl_fail(err, SL_EFORMAT, "the tokenizer has %u tokens, the model %u",
                         sl_tokenizer_vocab(s->tokenizer), s->model_config.vocab);
    if (status == SL_OK)
        status = compile_template(s, err);
    return status;
}

/* The start table: what will be used for what. */
static void print_plan(const serving *s, FILE *f)
{
    const sl_config *c = &s->config;
    const sl_serve_plan *p = &s->plan;
    char a[32];

    fprintf(f, "sluice %s\n", SL_VERSION);
    fprintf(f, "  device       %s, %u cores (%s)\n", s->ops->name,
            c->threads != 0 ? c->threads : sl_cpu_count(), s->features);
    fprintf(f, "  model        %s (%s, %u layers, vocabulary %u)\n", s->model_name,
            s->model_config.arch, s->model_config.layer_count, s->model_config.vocab);
    fprintf(f, "  chat         %s\n",
            s->chat_template != NULL ? "yes" : "no: the model has no usable chat template");
    fprintf(f, "  weights      %s\n", sl_size_text(p->weight_bytes, a));
    fprintf(f, "  KV cache     %s", sl_size_text(p->kv_bytes, a));
    fprintf(f, ", %u pages of %u tokens, f16, %s\n", p->kv_pages, SL_PAGE_TOKENS,
            c->enable_prefix_caching ? "prefixes are reused" : "no prefix reuse");
    fprintf(f, "  activations  about %s (%u tokens a batch)\n",
            sl_size_text(p->activation_bytes, a), p->batch_rows);
    fprintf(f, "  available    %s\n", sl_size_text(p->available_bytes, a));
    fprintf(f, "  limits       %u tokens a sequence, %u sequences at once, %u may wait\n",
            p->context_max, c->max_num_seqs, c->max_queued_requests);
    if (p->note[0] != '\0')
        fprintf(f, "  note         %s\n", p->note);
    if (s->ops == sl_ops_ref())
        fputs("  WARNING      this CPU has none of the features that the fast kernels need: the "
              "reference kernels run, which are many times slower\n",
              f);
    fflush(f);
}

/* --- the load ------------------------------------------------------------------------------ */

static void on_progress(size_t done_bytes, size_t all_bytes, void *user)
{
    serving *s = user;
    const int percent = all_bytes > 0 ? (int)(done_bytes * 100 / all_bytes) : 100;
    const bool terminal = isatty(STDERR_FILENO);
    const uint64_t now_us = sl_clock_us();
    char a[32], b[32];

    if (percent == s->progress_percent || now_us - s->progress_us < (terminal ? 50000u : 2000000u))
        return;
    s->progress_percent = percent;
    s->progress_us = now_us;
    if (terminal)
        fprintf(stderr, "\rloading %3d%%  %s of %s  ", percent, sl_size_text(done_bytes, a),
                sl_size_text(all_bytes, b));
    else
        sl_log(SL_LOG_INFO, "serve loading percent=%d", percent);
}

static sl_status load_model(serving *s, sl_err *err)
{
    const sl_model_load_args args = {.file = s->file,
                                     .ops = s->ops,
                                     .threads = s->config.threads,
                                     .progress = on_progress,
                                     .user = s};
    const uint64_t start_us = sl_clock_us();
    sl_status status = sl_model_load(&args, &s->model, err);

    if (isatty(STDERR_FILENO))
        fputs("\r\033[K", stderr);
    if (status == SL_OK)
        sl_log(SL_LOG_INFO, "serve loaded weights=%zuMiB seconds=%.2f", s->plan.weight_bytes >> 20,
               (double)(sl_clock_us() - start_us) * 1e-6);
    return status;
}

static sl_status make_exec(serving *s, sl_err *err)
{
    const sl_exec_cpu_options options = {.model = s->model,
                                         .units = s->config.threads,
                                         .plane_count = s->plan.plane_count,
                                         .rows_max = s->plan.batch_rows,
                                         .logit_rows_max = s->config.max_num_seqs,
                                         .seqs_max = s->config.max_num_seqs,
                                         .pin = s->config.pin_threads};

    return sl_exec_cpu_create(&options, &s->exec, err);
}

static sl_status make_mailbox(serving *s, sl_err *err)
{
    const uint32_t slots = s->config.max_num_seqs + s->config.max_queued_requests;
    const sl_status status = sl_mailbox_init(
        &s->mailbox, slots, sl_server_slot_bytes(s->plan.context_max, s->model_config.vocab));

    if (status != SL_OK)
        return sl_fail(err, status, "cannot make room for %u requests", slots);
    s->mailbox_ready = true;
    return SL_OK;
}

/* A name for the prefix index: other weights, other pages.  The cache lives in this process only,
 * so the path, size and time of the file tell models apart well enough. */
static uint64_t name_space(const serving *s)
{
    uint64_t h = sl_gguf_file_bytes(s->file);
    struct stat st;

    for (const char *p = s->config.model; *p != '\0'; p++)
        h = sl_mix64_pair(h, (unsigned char)*p);
    if (stat(s->config.model, &st) == 0)
        h = sl_mix64_pair(h, (uint64_t)st.st_mtime);
    return h;
}

static sl_status make_engine(serving *s, sl_err *err)
{
    sl_engine_options options = {
        .exec = s->exec,
        .mailbox = &s->mailbox,
        .config = &s->model_config,
        .vocab_used = sl_tokenizer_vocab(s->tokenizer),
        .seqs_max = s->config.max_num_seqs,
        .context_max = s->plan.context_max,
        .queue_max = s->mailbox.slot_count,
        .slice_target_us = s->config.slice_target_ms * 1000,
        .chunk_tokens = s->plan.batch_rows < CHUNK_TOKENS ? s->plan.batch_rows : CHUNK_TOKENS,
        .prefix_caching = s->config.enable_prefix_caching,
        .name_space = name_space(s),
        .preemptions_max = 8};
    sl_status status;

    if (!sl_sched_parse_policy(s->config.policy, &options.policy))
        return sl_fail(err, SL_EINVAL, "--policy: '%s' is none", s->config.policy);
    status = sl_engine_create(&options, &s->engine, err);
    if (status == SL_OK) {
        status = sl_engine_start(s->engine);
        if (status != SL_OK)
            (void)sl_fail(err, status, "cannot start the engine's thread");
    }
    return status;
}

static sl_status load(serving *s, sl_err *err)
{
    sl_status status = load_model(s, err);

    if (status == SL_OK)
        status = make_exec(s, err);
    if (status == SL_OK)
        status = make_mailbox(s, err);
    if (status == SL_OK)
        status = make_engine(s, err);
    if (status != SL_OK)
        return status;
    sl_gguf_close(s->file);
    s->file = NULL;
    s->served = (sl_server_model){.mailbox = &s->mailbox,
                                  .stats = sl_engine_get_stats(s->engine),
                                  .tokenizer = s->tokenizer,
                                  .chat_template = s->chat_template,
                                  .model_name = s->model_name,
                                  .context_max = s->plan.context_max,
                                  .device = s->ops->name};
    return SL_OK;
}

static void loader_main(void *arg)
{
    serving *s = arg;
    sl_err err = {0};

    const sl_status status = load(s, &err);

    if (status != SL_OK)
        fprintf(stderr, "sluice serve: %s\n", err.text);
    atomic_store(&s->loader_done, true); /* first: the server may stop at once */
    if (status == SL_OK)
        sl_server_attach(s->server, &s->served);
    else
        sl_server_give_up(s->server);
}

/* --- the end ------------------------------------------------------------------------------- */

static void destroy(serving *s)
{
    if (s->engine != NULL) {
        sl_mailbox_shutdown(&s->mailbox);
        sl_engine_join(s->engine);
    }
    sl_server_destroy(s->server);
    sl_engine_destroy(s->engine);
    sl_exec_destroy(s->exec);
    if (s->mailbox_ready)
        sl_mailbox_done(&s->mailbox);
    sl_model_destroy(s->model);
    sl_template_destroy(s->chat_template);
    sl_tokenizer_destroy(s->tokenizer);
    sl_gguf_close(s->file);
}

static int serve(serving *s)
{
    sl_err err = {0};
    int rc;

    if (sl_server_create(&s->config, &s->server, &err) != SL_OK) {
        fprintf(stderr, "sluice serve: %s\n", err.text);
        return 1;
    }
    if (sl_thread_start(&s->loader, "sluice-load", -1, loader_main, s) != SL_OK) {
        fprintf(stderr, "sluice serve: cannot start a thread\n");
        return 1;
    }
    rc = sl_server_run(s->server);
    if (!atomic_load(&s->loader_done)) {
        /* Stopped in the middle of loading: nothing was served, and a load cannot be hurried. */
        fflush(stderr);
        _exit(rc);
    }
    sl_thread_join(&s->loader);
    return rc;
}

static int usage_error(const char *text)
{
    fprintf(stderr, "sluice serve: %s\n", text);
    return 2;
}

int sl_cli_serve(int argc, char **argv)
{
    serving *s = sl_xalloc(1, sizeof(*s));
    sl_log_level level;
    sl_err err = {0};
    sl_status status;
    int rc = 1;

    status = sl_config_read(argc, argv, environ, &s->config, &err);
    if (status != SL_OK) {
        rc = usage_error(err.text);
    } else if (s->config.help) {
        sl_config_help(stdout);
        rc = 0;
    } else if (s->config.print_config) {
        sl_config_print(&s->config, stdout);
        rc = 0;
    } else if (s->config.model[0] == '\0') {
        rc = usage_error("which model? Give --model FILE (see --help)");
    } else {
        name_model(s);
        if (sl_log_parse_level(s->config.log_level, &level))
            sl_log_set_level(level);
        if (examine(s, &err) != SL_OK) {
            /* Sentences about a file's content do not name the file. */
            const bool content = s->file != NULL || err.status == SL_EFORMAT;

            fprintf(stderr, "sluice serve: %s%s%s\n", content ? s->config.model : "",
                    content ? ": " : "", err.text);
        } else {
            print_plan(s, s->config.check ? stdout : stderr);
            rc = s->config.check ? 0 : serve(s);
        }
    }
    destroy(s);
    sl_free(s);
    return rc;
}
