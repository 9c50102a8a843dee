/* bench/load_site.c - what is known of the server before a run: address, model, how long words are;
 * and the bodies of its requests. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "bench/load_internal.h"
#include "bench/load_sse.h"

enum { ANSWER_BYTES_MAX = 8 << 20, CALL_TIMEOUT_MS = 60000 };

/* --- bodies -------------------------------------------------------------------------------- */

static void add_message(sl_buf *out, const char *role, const char *text, size_t n)
{
    sl_buf_addf(out, "{\"role\":\"%s\",\"content\":", role);
    sl_buf_add_json(out, text, n);
    sl_buf_add_char(out, '}');
}

static void add_prompt(const sl_load_site *site, const sl_load_body *body, sl_buf *out)
{
    const bool more = body->history != NULL && body->history->len > 0;

    if (!site->options->completions) {
        sl_buf_add_str(out, "\"messages\":[");
        if (more) {
            sl_buf_add(out, body->history->data, body->history->len);
            sl_buf_add_char(out, ',');
        }
        add_message(out, "user", body->text, body->text_len);
        sl_buf_add_char(out, ']');
        return;
    }
    sl_buf_add_str(out, "\"prompt\":");
    if (!more) {
        sl_buf_add_json(out, body->text, body->text_len);
        return;
    }
    sl_buf whole;

    sl_buf_init(&whole, SL_LOAD_BODY_MAX);
    sl_buf_add(&whole, body->history->data, body->history->len);
    sl_buf_add_char(&whole, ' ');
    sl_buf_add(&whole, body->text, body->text_len);
    sl_buf_add_json(out, whole.data, whole.len);
    out->failed = out->failed || whole.failed;
    sl_buf_done(&whole);
}

void sl_load_site_body(const sl_load_site *site, const sl_load_body *body, sl_buf *out)
{
    const sl_load_options *o = site->options;

    sl_buf_add_char(out, '{');
    if (!site->extra_has_model) {
        sl_buf_add_str(out, "\"model\":");
        sl_buf_add_json(out, site->info.model, strlen(site->info.model));
        sl_buf_add_char(out, ',');
    }
    add_prompt(site, body, out);
    if (!site->extra_has_max_tokens)
        sl_buf_addf(out, ",\"max_tokens\":%u", body->output_tokens);
    if (!site->extra_has_temperature && o->temperature >= 0.0)
        sl_buf_addf(out, ",\"temperature\":%.6g", o->temperature);
    if (!site->extra_has_ignore_eos && !o->keep_eos)
        sl_buf_add_str(out, ",\"ignore_eos\":true");
    if (body->stream) {
        sl_buf_add_str(out, ",\"stream\":true");
        if (!site->extra_has_stream_options && !o->no_usage)
            sl_buf_add_str(out, ",\"stream_options\":{\"include_usage\":true}");
    }
    sl_buf_add_str(out, site->extra);
    sl_buf_add_char(out, '}');
}

void sl_load_site_remember(const sl_load_site *site, const sl_load_body *asked, const char *answer,
                           size_t answer_len, sl_buf *history)
{
    if (site->options->completions) {
        if (history->len > 0)
            sl_buf_add_char(history, ' ');
        sl_buf_add(history, asked->text, asked->text_len);
        sl_buf_add(history, answer, answer_len);
        return;
    }
    if (history->len > 0)
        sl_buf_add_char(history, ',');
    add_message(history, "user", asked->text, asked->text_len);
    sl_buf_add_char(history, ',');
    add_message(history, "assistant", answer, answer_len);
}

/* --- extra members ------------------------------------------------------------------------- */

static sl_status note_member(sl_load_site *site, const char *name, sl_err *err)
{
    if (strcmp(name, "stream") == 0 || strcmp(name, "messages") == 0 || strcmp(name, "prompt") == 0)
        return sl_fail(err, SL_EINVAL, "--extra may not set '%s': the load client does", name);
    site->extra_has_max_tokens |=
        strcmp(name, "max_tokens") == 0 || strcmp(name, "max_completion_tokens") == 0;
    site->extra_has_temperature |= strcmp(name, "temperature") == 0;
    site->extra_has_ignore_eos |= strcmp(name, "ignore_eos") == 0;
    site->extra_has_model |= strcmp(name, "model") == 0;
    site->extra_has_stream_options |= strcmp(name, "stream_options") == 0;
    return SL_OK;
}

static sl_status read_extra(sl_load_site *site, sl_err *err)
{
    const char *text = site->options->extra_json;
    sl_status status = SL_OK;
    json_error_t error;
    const char *name;
    json_t *root, *value;
    char *dump;

    if (text == NULL) {
        site->extra = sl_strndup("", 0);
        return site->extra != NULL ? SL_OK : sl_fail(err, SL_ENOMEM, "no memory");
    }
    root = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    if (!json_is_object(root)) {
        json_decref(root);
        return sl_fail(err, SL_EINVAL, "--extra is no JSON object: %.200s", error.text);
    }
    json_object_foreach(root, name, value) if (status == SL_OK) status =
        note_member(site, name, err);
    dump = status == SL_OK ? json_dumps(root, JSON_COMPACT) : NULL;
    if (dump != NULL) {
        /* "{...}" becomes ",..." and "{}" becomes "". */
        site->extra = sl_strndup(dump, strlen(dump) - 1);
        if (site->extra != NULL && json_object_size(root) > 0)
            site->extra[0] = ',';
        else if (site->extra != NULL)
            site->extra[0] = '\0';
    }
    free(dump);
    json_decref(root);
    if (status == SL_OK && site->extra == NULL)
        status = sl_fail(err, SL_ENOMEM, "no memory");
    return status;
}

/* --- calls --------------------------------------------------------------------------------- */

static sl_status refused(const sl_load_site *site, const char *path, int http_status,
                         const sl_buf *answer, sl_err *err)
{
    sl_load_event event;

    sl_load_event_read(answer->data != NULL ? answer->data : "", answer->len, NULL, &event);
    return sl_fail(err, http_status == 401 ? SL_EAUTH : SL_EUNAVAILABLE, "%s%s answers %d%s%s",
                   site->target.url, path, http_status, event.message[0] != '\0' ? ": " : "",
                   event.message);
}

/* Post, and read the answer's JSON; *out is the caller's. */
static sl_status post_json(const sl_load_site *site, const char *path, const sl_buf *body,
                           json_t **out, sl_err *err)
{
    const sl_load_call call = {.path = path,
                               .key = site->options->key,
                               .body = body != NULL ? body->data : NULL,
                               .body_len = body != NULL ? body->len : 0,
                               .timeout_ms = CALL_TIMEOUT_MS};
    json_error_t error;
    int http_status = 0;
    json_t *root = NULL;
    sl_status status;
    sl_buf answer;

    if (body != NULL && body->failed)
        return sl_fail(err, SL_ENOMEM, "no memory for a request");
    sl_buf_init(&answer, ANSWER_BYTES_MAX);
    status = sl_load_call_run(&site->target, &call, &http_status, &answer, err);
    if (status == SL_OK && http_status != 200)
        status = refused(site, path, http_status, &answer, err);
    if (status == SL_OK) {
        root = answer.len > 0 ? json_loadb(answer.data, answer.len, 0, &error) : NULL;
        if (!json_is_object(root))
            status =
                sl_fail(err, SL_EFORMAT, "%s%s answers no JSON object", site->target.url, path);
    }
    sl_buf_done(&answer);
    if (status == SL_OK)
        *out = root;
    else
        json_decref(root);
    return status;
}

static sl_status find_model(sl_load_site *site, sl_err *err)
{
    const json_t *id;
    json_t *root = NULL;
    sl_status status;

    if (site->options->model != NULL) {
        snprintf(site->info.model, sizeof(site->info.model), "%s", site->options->model);
        return SL_OK;
    }
    status = post_json(site, "/v1/models", NULL, &root, err);
    if (status != SL_OK)
        return status;
    id = json_object_get(json_array_get(json_object_get(root, "data"), 0), "id");
    if (json_is_string(id))
        snprintf(site->info.model, sizeof(site->info.model), "%s", json_string_value(id));
    else
        status =
            sl_fail(err, SL_EFORMAT, "%s lists no model: name one with --model", site->target.url);
    json_decref(root);
    return status;
}

/* --- ways to count tokens ------------------------------------------------------------------ */

typedef enum tokenize_form { FORM_MESSAGES, FORM_PROMPT, FORM_CONTENT } tokenize_form;

typedef struct counting {
    sl_load_site *site;
    tokenize_form form;
} counting;

/* The server's /tokenize, in one of its dialects. */
static sl_status count_by_server(void *user, const char *text, size_t n, uint32_t *tokens,
                                 sl_err *err)
{
    const counting *c = user;
    const json_t *count, *list;
    json_t *root = NULL;
    sl_status status;
    sl_buf body;

    sl_buf_init(&body, SL_LOAD_BODY_MAX);
    sl_buf_add_str(&body, "{");
    if (c->form != FORM_CONTENT) {
        sl_buf_add_str(&body, "\"model\":");
        sl_buf_add_json(&body, c->site->info.model, strlen(c->site->info.model));
        sl_buf_add_char(&body, ',');
    }
    sl_buf_add_str(&body, c->form == FORM_MESSAGES ? "\"messages\":["
                          : c->form == FORM_PROMPT ? "\"prompt\":"
                                                   : "\"add_special\":true,\"content\":");
    if (c->form == FORM_MESSAGES)
        add_message(&body, "user", text, n);
    else
        sl_buf_add_json(&body, text, n);
    sl_buf_add_str(&body, c->form == FORM_MESSAGES ? "]}" : "}");
    status = post_json(c->site, "/tokenize", &body, &root, err);
    sl_buf_done(&body);
    if (status != SL_OK)
        return status;
    count = json_object_get(root, "count");
    list = json_object_get(root, "tokens");
    if (json_is_integer(count) && json_integer_value(count) > 0)
        *tokens = (uint32_t)json_integer_value(count);
    else if (json_array_size(list) > 0)
        *tokens = (uint32_t)json_array_size(list);
    else
        status = sl_fail(err, SL_EFORMAT, "/tokenize answers no count");
    json_decref(root);
    return status;
}

static sl_status count_by_file(void *user, const char *text, size_t n, uint32_t *tokens,
                               sl_err *err)
{
    const counting *c = user;
    const sl_text_piece piece = {.data = text, .len = n};
    sl_token_list list = {.limit = SL_LOAD_LENGTH_MAX};
    const sl_status status = sl_tokenizer_encode(c->site->tokenizer, &piece, 1,
                                                 c->site->options->completions, &list, err);

    if (status == SL_OK)
        *tokens = (uint32_t)list.count;
    sl_free(list.id);
    return status;
}

/* A real request for one token: every server says in `usage` what it counted. */
static sl_status count_by_usage(void *user, const char *text, size_t n, uint32_t *tokens,
                                sl_err *err)
{
    const counting *c = user;
    const sl_load_body request = {.text = text, .text_len = n, .output_tokens = 1};
    const json_t *count;
    json_t *root = NULL;
    sl_status status;
    sl_buf body;

    sl_buf_init(&body, SL_LOAD_BODY_MAX);
    sl_load_site_body(c->site, &request, &body);
    status = post_json(c->site, c->site->path, &body, &root, err);
    sl_buf_done(&body);
    if (status != SL_OK)
        return status;
    count = json_object_get(json_object_get(root, "usage"), "prompt_tokens");
    if (json_is_integer(count) && json_integer_value(count) > 0)
        *tokens = (uint32_t)json_integer_value(count);
    else
        status = sl_fail(err, SL_EFORMAT, "the server's answers hold no usage");
    json_decref(root);
    return status;
}

/* The tokens a chat template adds, where the counter does not know it. */
static void add_template(sl_load_site *site)
{
    counting c = {.site = site};
    const char *word = site->words.word[0];
    uint32_t tokens = 0;

    if (site->options->completions)
        return;
    if (count_by_usage(&c, word, strlen(word), &tokens, NULL) == SL_OK)
        site->words.overhead = tokens - 1;
    else
        site->words.exact = false;
}

static bool try_counter(sl_load_site *site, counting *c,
                        sl_status (*count)(void *, const char *, size_t, uint32_t *, sl_err *),
                        const char *how)
{
    const sl_load_counter counter = {.count = count, .user = c};

    if (sl_load_words_calibrate(&site->words, &counter, NULL) != SL_OK)
        return false;
    if (count != count_by_usage && c->form != FORM_MESSAGES)
        add_template(site);
    site->info.lengths_exact = site->words.exact;
    site->info.overhead_tokens = site->words.overhead;
    if (site->words.exact)
        snprintf(site->info.lengths, sizeof(site->info.lengths), "exact, by %s", how);
    else
        snprintf(site->info.lengths, sizeof(site->info.lengths),
                 "approximate, %.2f tokens a word by %s", site->words.per_word, how);
    return true;
}

static sl_status find_lengths(sl_load_site *site, sl_err *err)
{
    const char *path = site->options->tokenizer_path;
    counting c = {.site = site, .form = FORM_PROMPT};
    sl_gguf *file = NULL;
    sl_status status;

    if (path != NULL) {
        status = sl_gguf_open(path, &file, err);
        if (status == SL_OK)
            status = sl_tokenizer_create(file, &site->tokenizer, err);
        sl_gguf_close(file);
        if (status != SL_OK)
            return status;
        if (try_counter(site, &c, count_by_file, "the tokenizer file"))
            return SL_OK;
    }
    c.form = FORM_MESSAGES;
    if (!site->options->completions &&
        try_counter(site, &c, count_by_server, "the server's /tokenize"))
        return SL_OK;
    c.form = FORM_PROMPT;
    if (try_counter(site, &c, count_by_server, "the server's /tokenize"))
        return SL_OK;
    c.form = FORM_CONTENT;
    if (try_counter(site, &c, count_by_server, "the server's /tokenize"))
        return SL_OK;
    if (try_counter(site, &c, count_by_usage, "the server's usage"))
        return SL_OK;
    sl_load_words_init(&site->words);
    snprintf(site->info.lengths, sizeof(site->info.lengths),
             "approximate, one word for one token: the server counts none, and no --tokenizer was "
             "given");
    return SL_OK;
}

sl_status sl_load_site_open(const sl_load_options *options, sl_load_site **out, sl_err *err)
{
    sl_load_site *site = sl_alloc(1, sizeof(*site));
    sl_status status;

    if (site == NULL)
        return sl_fail(err, SL_ENOMEM, "no memory");
    site->options = options;
    site->path = options->completions ? "/v1/completions" : "/v1/chat/completions";
    status = sl_load_target_parse(options->base_url, &site->target, err);
    if (status == SL_OK)
        status = read_extra(site, err);
    if (status == SL_OK) {
        snprintf(site->info.url, sizeof(site->info.url), "%s", site->target.url);
        status = find_model(site, err);
    }
    if (status == SL_OK)
        status = find_lengths(site, err);
    if (status != SL_OK) {
        sl_load_site_close(site);
        return status;
    }
    *out = site;
    return SL_OK;
}

void sl_load_site_close(sl_load_site *site)
{
    if (site == NULL)
        return;
    sl_tokenizer_destroy(site->tokenizer);
    sl_free(site->extra);
    sl_free(site);
}

const sl_load_site_info *sl_load_site_get_info(const sl_load_site *site)
{
    return &site->info;
}
