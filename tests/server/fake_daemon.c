/* tests/server/fake_daemon.c - the front alone, with the playing engine behind it, as a program.
 *
 * usage: fake_daemon [options of sluice serve]        FAKE_LOAD_MS: how long "loading" takes
 *
 * The model is a tiny generated file: byte-level vocabulary, a ChatML template, 512 tokens of
 * context (or --max-model-len).  A line "fail N" on standard input makes the N-th allocation from
 * then on fail once; the reply is a line on standard output: how many there were since the last. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/threads.h"
#include "model/gguf.h"
#include "server/config.h"
#include "server/server.h"
#include "tests/server/fake_engine.h"
#include "tests/support/tiny_gguf.h"

extern char **environ;

typedef struct fake {
    sl_config config;
    sl_tokenizer *tokenizer;
    sl_template *chat_template;
    sl_mailbox mailbox;
    sl_fake_engine *engine;
    sl_server *server;
    sl_server_model model;
    unsigned load_ms;
} fake;

static void load_model(fake *f)
{
    sl_tiny_options options = sl_tiny_defaults("llama");
    sl_gguf *g = NULL;
    sl_str source;
    sl_buf bytes;

    sl_buf_init(&bytes, 64u << 20);
    sl_tiny_gguf(&options, &bytes);
    SL_ASSERT(sl_gguf_open_memory(bytes.data, bytes.len, &g, NULL) == SL_OK);
    SL_ASSERT(sl_tokenizer_create(g, &f->tokenizer, NULL) == SL_OK);
    if (strcmp(f->config.chat_template, "none") != 0) {
        SL_ASSERT(sl_gguf_get_str(g, "tokenizer.chat_template", &source, NULL) == SL_OK);
        SL_ASSERT(sl_template_compile(source.data, source.len, &f->chat_template, NULL) == SL_OK);
    }
    sl_gguf_close(g);
    sl_buf_done(&bytes);
}

static void loader(void *arg)
{
    fake *f = arg;

    usleep(f->load_ms * 1000);
    sl_server_attach(f->server, &f->model);
}

/* Ends with the process; plain reads, because stdio's lock would be held at exit. */
static void commands(void *arg)
{
    char line[64];
    unsigned long long at;
    ssize_t n;
    int len;

    (void)arg;
    while ((n = read(STDIN_FILENO, line, sizeof(line) - 1)) > 0) {
        line[n] = '\0';
        if (sscanf(line, "fail %llu", &at) != 1)
            continue;
        len = snprintf(line, sizeof(line), "%llu\n", (unsigned long long)sl_alloc_fail_at(at));
        if (write(STDOUT_FILENO, line, (size_t)len) != len)
            break;
    }
    for (;;) /* a thread that has ended and is not joined would be a leak */
        pause();
}

static void make_model(fake *f)
{
    const uint32_t context = f->config.max_model_len != 0 ? f->config.max_model_len : 512;

    load_model(f);
    SL_ASSERT(sl_mailbox_init(&f->mailbox, f->config.max_num_seqs + f->config.max_queued_requests,
                              sl_server_slot_bytes(context, SL_TINY_VOCAB)) == SL_OK);
    f->engine = sl_fake_engine_start(&f->mailbox, f->tokenizer, f->config.max_num_seqs);
    f->model = (sl_server_model){.mailbox = &f->mailbox,
                                 .stats = sl_fake_engine_stats(f->engine),
                                 .tokenizer = f->tokenizer,
                                 .chat_template = f->chat_template,
                                 .model_name = "fake",
                                 .context_max = context,
                                 .device = "fake"};
}

int main(int argc, char **argv)
{
    static fake f;
    const char *load_ms = getenv("FAKE_LOAD_MS");
    sl_log_level level;
    sl_thread load_thread = {0}, command_thread = {0};
    sl_err err = {0};
    int rc;

    if (sl_config_read(argc, argv, environ, &f.config, &err) != SL_OK) {
        fprintf(stderr, "fake_daemon: %s\n", err.text);
        return 2;
    }
    if (sl_log_parse_level(f.config.log_level, &level))
        sl_log_set_level(level);
    make_model(&f);
    if (sl_server_create(&f.config, &f.server, &err) != SL_OK) {
        fprintf(stderr, "fake_daemon: %s\n", err.text);
        return 1;
    }
    f.load_ms = load_ms != NULL ? (unsigned)atoi(load_ms) : 0;
    SL_ASSERT(sl_thread_start(&load_thread, "loader", -1, loader, &f) == SL_OK);
    SL_ASSERT(sl_thread_start(&command_thread, "commands", -1, commands, NULL) == SL_OK);
    rc = sl_server_run(f.server);
    sl_thread_join(&load_thread);
    sl_mailbox_shutdown(&f.mailbox);
    sl_fake_engine_destroy(f.engine);
    sl_server_destroy(f.server);
    sl_mailbox_done(&f.mailbox);
    sl_template_destroy(f.chat_template);
    sl_tokenizer_destroy(f.tokenizer);
    return rc;
}
