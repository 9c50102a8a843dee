/* cli/chat.c - `sluice chat`: a small terminal client that streams answers. */
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "cli/cli.h"
#include "cli/http_client.h"

enum { ANSWER_MAX = 16 << 20, KEY_MAX = 520 };

static volatile sig_atomic_t stopped;

static void on_interrupt(int number)
{
    (void)number;
    stopped = 1;
}

typedef struct chat {
    sl_http_url url;
    const char *model;
    double temperature; /* < 0: the server's default */
    long max_tokens;    /* 0: the server's default */
    const char *system;
    char key[KEY_MAX];
    json_t *messages;

    /* The reply at hand. */
    sl_buf line;   /* of the stream, not complete yet */
    sl_buf answer; /* text so far */
    char error[SL_ERR_TEXT_MAX];
    bool done;
} chat;

static void usage(FILE *f)
{
    fputs("usage: sluice chat [options] [PROMPT]\n"
          "\n"
          "Talk to a server that speaks the OpenAI API.  With a PROMPT: one answer, then the end;\n"
          "PROMPT '-' is all of standard input.  Without: a line is a turn.\n"
          "\n"
          "  --url URL            the server (http://127.0.0.1:8000, or SLUICE_URL)\n"
          "  --model NAME         which of its models (default: its first)\n"
          "  --system TEXT        the system message\n"
          "  --temperature X      0 (always the likeliest token) to 2\n"
          "  --max-tokens N       longest answer\n"
          "  --api-key-file FILE  its first line is the key (or OPENAI_API_KEY)\n"
          "\n"
          "In a conversation: /reset forgets it, /quit ends it, Ctrl-C stops an answer.\n",
          f);
}

static void add_message(chat *c, const char *role, const char *text, size_t n)
{
    json_array_append_new(c->messages, json_pack("{s:s, s:s%}", "role", role, "content", text, n));
}

static void reset(chat *c)
{
    json_array_clear(c->messages);
    if (c->system != NULL)
        add_message(c, "system", c->system, strlen(c->system));
}

/* --- one answer ---------------------------------------------------------------------------- */

/* The text of {"error":{"message":...}}, if that is what it is. */
static bool take_error(chat *c, json_t *root)
{
    const json_t *error = json_object_get(root, "error");
    const char *text = json_string_value(json_object_get(error, "message"));

    if (error == NULL)
        return false;
    snprintf(c->error, sizeof(c->error), "%s", text != NULL ? text : "the server reports an error");
    return true;
}

static void take_event(chat *c, const char *data)
{
    json_t *root, *choice;
    const char *text;

    if (strncmp(data, "[DONE]", 6) == 0) {
        c->done = true;
        return;
    }
    root = json_loads(data, 0, NULL);
    if (root != NULL && !take_error(c, root)) {
        choice = json_array_get(json_object_get(root, "choices"), 0);
        text = json_string_value(json_object_get(json_object_get(choice, "delta"), "content"));
        if (text != NULL && text[0] != '\0') {
            fputs(text, stdout);
            fflush(stdout);
            sl_buf_add_str(&c->answer, text);
        }
    }
    json_decref(root);
}

/* Lines of the stream, in any pieces. */
static bool on_body(const char *data, size_t n, void *user)
{
    chat *c = user;
    const char *text, *newline;

    sl_buf_add(&c->line, data, n);
    while ((text = sl_buf_text(&c->line)) != NULL && (newline = strchr(text, '\n')) != NULL) {
        const size_t len = (size_t)(newline - text) + 1;

        c->line.data[len - 1] = '\0';
        if (strncmp(text, "data:", 5) == 0)
            take_event(c, text + 5 + strspn(text + 5, " "));
        sl_buf_consume(&c->line, len);
    }
    return !c->line.failed && !c->answer.failed;
}

static char *request_body(const chat *c)
{
    json_t *root = json_pack("{s:O, s:b}", "messages", c->messages, "stream", 1);
    char *text;

    if (root == NULL)
        return NULL;
    if (c->model != NULL)
        json_object_set_new(root, "model", json_string(c->model));
    if (c->temperature >= 0)
        json_object_set_new(root, "temperature", json_real(c->temperature));
    if (c->max_tokens > 0)
        json_object_set_new(root, "max_tokens", json_integer(c->max_tokens));
    text = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    return text;
}

/* What a reply that is no stream says. */
static void take_plain(chat *c, int http)
{
    const char *text = sl_buf_text(&c->line);
    json_t *root = text != NULL ? json_loads(text, 0, NULL) : NULL;

    if (root == NULL || !take_error(c, root))
        snprintf(c->error, sizeof(c->error), "the server answers with status %d", http);
    json_decref(root);
}

/* Ask with the history and `text`; print the answer; 0, or 1 with a sentence. */
static int ask(chat *c, const char *text, size_t n)
{
    sl_http_post post = {.url = &c->url,
                         .path = "/v1/chat/completions",
                         .key = c->key[0] != '\0' ? c->key : NULL,
                         .on_body = on_body,
                         .user = c,
                         .stop = &stopped};
    sl_err err = {0};
    sl_status status = SL_ENOMEM;
    char *body;
    int http = 0;

    add_message(c, "user", text, n);
    sl_buf_init(&c->line, ANSWER_MAX);
    sl_buf_init(&c->answer, ANSWER_MAX);
    c->error[0] = '\0';
    c->done = false;
    stopped = 0;
    body = request_body(c);
    if (body != NULL) {
        post.body = body;
        post.body_len = strlen(body);
        status = sl_http_post_run(&post, &http, &err);
    }
    free(body);
    if (status == SL_OK && http != 200)
        take_plain(c, http);
    else if (status != SL_OK && status != SL_ECANCELLED)
        snprintf(c->error, sizeof(c->error), "%s", body == NULL ? "out of memory" : err.text);
    else if (status == SL_OK && !c->done && c->error[0] == '\0')
        snprintf(c->error, sizeof(c->error), "the answer was cut off");
    if (c->answer.len > 0 || c->error[0] == '\0')
        putchar('\n');
    /* A failed turn is not part of the conversation. */
    if (c->error[0] != '\0') {
        fprintf(stderr, "sluice chat: %s\n", c->error);
        json_array_remove(c->messages, json_array_size(c->messages) - 1);
    } else {
        add_message(c, "assistant", c->answer.len > 0 ? c->answer.data : "", c->answer.len);
    }
    sl_buf_done(&c->line);
    sl_buf_done(&c->answer);
    return c->error[0] != '\0';
}

/* --- the conversation ---------------------------------------------------------------------- */

static int converse(chat *c)
{
    const bool terminal = isatty(STDIN_FILENO);
    char *line = NULL;
    size_t size = 0;
    int rc = 0;

    if (terminal)
        fputs("/reset forgets, /quit ends, Ctrl-C stops an answer\n", stderr);
    for (;;) {
        ssize_t n;

        if (terminal)
            fputs("> ", stderr);
        stopped = 0;
        n = getline(&line, &size, stdin);
        if (n < 0) {
            if (stopped && !terminal)
                rc = 1;
            break;
        }
        while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r'))
            line[--n] = '\0';
        if (strcmp(line, "/quit") == 0 || strcmp(line, "/exit") == 0)
            break;
        if (strcmp(line, "/reset") == 0)
            reset(c);
        else if (n > 0)
            rc = ask(c, line, (size_t)n);
    }
    if (terminal)
        fputc('\n', stderr);
    free(line);
    return terminal ? 0 : rc;
}

static int ask_stdin(chat *c)
{
    char data[4096];
    sl_buf text;
    size_t n;
    int rc;

    sl_buf_init(&text, ANSWER_MAX);
    while ((n = fread(data, 1, sizeof(data), stdin)) > 0)
        sl_buf_add(&text, data, n);
    if (text.failed || text.len == 0) {
        fprintf(stderr, "sluice chat: standard input is %s\n", text.failed ? "too large" : "empty");
        rc = 1;
    } else {
        rc = ask(c, text.data, text.len);
    }
    sl_buf_done(&text);
    return rc;
}

/* --- options ------------------------------------------------------------------------------- */

static bool read_key(chat *c, const char *path)
{
    const char *from_environment = getenv("OPENAI_API_KEY");
    FILE *f;

    if (path == NULL) {
        if (from_environment != NULL)
            snprintf(c->key, sizeof(c->key), "%s", from_environment);
        return true;
    }
    f = fopen(path, "re");
    if (f == NULL || fgets(c->key, sizeof(c->key), f) == NULL) {
        fprintf(stderr, "sluice chat: cannot read a key from '%s': %s\n", path,
                f == NULL ? strerror(errno) : "it is empty");
        if (f != NULL)
            fclose(f);
        return false;
    }
    fclose(f);
    c->key[strcspn(c->key, "\r\n")] = '\0';
    return true;
}

static bool number(const char *text, double low, double high, double *out)
{
    char *end;
    const double x = strtod(text, &end);

    if (end == text || *end != '\0' || !(x >= low && x <= high))
        return false;
    *out = x;
    return true;
}

/* 0: go on; else the exit status + 1. */
static int read_options(int argc, char **argv, chat *c)
{
    static const struct option options[] = {
        {"url", required_argument, NULL, 'u'},
        {"model", required_argument, NULL, 'm'},
        {"system", required_argument, NULL, 's'},
        {"temperature", required_argument, NULL, 't'},
        {"max-tokens", required_argument, NULL, 'n'},
        {"api-key-file", required_argument, NULL, 'k'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    const char *url = getenv("SLUICE_URL"), *key_file = NULL;
    sl_err err = {0};
    double x = 0;
    int o;

    c->temperature = -1;
    optind = 1;
    while ((o = getopt_long(argc, argv, "hm:", options, NULL)) != -1) {
        if (o == 'h') {
            usage(stdout);
            return 1;
        }
        if (o == '?' || (o == 't' && !number(optarg, 0, 2, &c->temperature)) ||
            (o == 'n' && !number(optarg, 1, 1e9, &x))) {
            if (o != '?')
                fprintf(stderr, "sluice chat: '%s' is not a number that fits there\n", optarg);
            usage(stderr);
            return 3;
        }
        url = o == 'u' ? optarg : url;
        key_file = o == 'k' ? optarg : key_file;
        c->model = o == 'm' ? optarg : c->model;
        c->system = o == 's' ? optarg : c->system;
        c->max_tokens = o == 'n' ? (long)x : c->max_tokens;
    }
    if (sl_http_url_parse(url != NULL ? url : "http://127.0.0.1:8000", &c->url, &err) != SL_OK) {
        fprintf(stderr, "sluice chat: %s\n", err.text);
        return 3;
    }
    return read_key(c, key_file) ? 0 : 2;
}

/* The arguments behind the options, joined: a prompt without quotes works too. */
static int ask_arguments(chat *c, int argc, char **argv)
{
    sl_buf text;
    int rc;

    sl_buf_init(&text, ANSWER_MAX);
    for (int i = 0; i < argc; i++) {
        sl_buf_add_str(&text, i > 0 ? " " : "");
        sl_buf_add_str(&text, argv[i]);
    }
    rc = text.failed ? 1 : ask(c, text.len > 0 ? text.data : "", text.len);
    sl_buf_done(&text);
    return rc;
}

int sl_cli_chat(int argc, char **argv)
{
    const struct sigaction action = {.sa_handler = on_interrupt};
    chat c = {0};
    int rc = read_options(argc, argv, &c);

    if (rc != 0)
        return rc - 1;
    c.messages = json_array();
    if (c.messages == NULL)
        return 1;
    reset(&c);
    sigaction(SIGINT, &action, NULL); /* without SA_RESTART: a read ends */
    if (optind == argc)
        rc = converse(&c);
    else if (optind + 1 == argc && strcmp(argv[optind], "-") == 0)
        rc = ask_stdin(&c);
    else
        rc = ask_arguments(&c, argc - optind, argv + optind);
    json_decref(c.messages);
    explicit_bzero(c.key, sizeof(c.key));
    return rc;
}
