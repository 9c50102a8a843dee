/* tests/protocol/test_template_cases.c
 *
 * Goal: templates render as Python's jinja2 renders them, set up as Hugging Face does.
 * Method: cases with jinja2's results, made by make_template_cases.py, are replayed: whole chat
 * templates over conversations, with the marks of user text, and small templates for each piece of
 * the language.  An error there must be an error here; only raise_exception's text is compared. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "protocol/template.h"

enum { NOW = 1750000000 }; /* as make_template_cases.py has it */

static char *read_file(const char *name, size_t *len)
{
    const char *root = getenv("SLUICE_SOURCE_ROOT");
    char path[4096], *data;
    FILE *f;
    long size;

    snprintf(path, sizeof(path), "%s/tests/protocol/templates/%s", root != NULL ? root : ".", name);
    f = fopen(path, "rb");
    if (f == NULL)
        fail_msg("cannot open %s", path);
    fseek(f, 0, SEEK_END);
    size = ftell(f);
    rewind(f);
    data = malloc((size_t)size + 1);
    assert_non_null(data);
    assert_int_equal(fread(data, 1, (size_t)size, f), size);
    fclose(f);
    data[size] = '\0';
    *len = (size_t)size;
    return data;
}

static const char *text_of(const json_t *row, const char *key)
{
    return json_string_value(json_object_get(row, key));
}

typedef struct result {
    sl_status status;
    bool compiled;
    sl_template_output out;
    sl_err err;
} result;

static void render(const char *source, size_t len, const char *user, const char *trusted,
                   result *res)
{
    sl_template_args args = {.user_json = user, .trusted_json = trusted, .now_unix_s = NOW};
    sl_template *t = NULL;

    memset(res, 0, sizeof(*res));
    sl_template_output_init(&res->out);
    args.user_json_len = strlen(user);
    args.trusted_json_len = trusted != NULL ? strlen(trusted) : 0;
    res->status = sl_template_compile(source, len, &t, &res->err);
    res->compiled = res->status == SL_OK;
    if (!res->compiled)
        return;
    res->status = sl_template_render(t, &args, &res->out, &res->err);
    sl_template_destroy(t);
}

static bool is_space(uint32_t code)
{
    return code <= ' ' || code == 0x85 || code == 0xA0 || code == 0x1680 ||
           (code >= 0x2000 && code <= 0x200A) || code == 0x2028 || code == 0x2029 ||
           code == 0x202F || code == 0x205F || code == 0x3000;
}

/* Each run is where the oracle has it; the marks of white space are not known to it. */
static size_t wrong_marks(const sl_template_output *out, const json_t *marks)
{
    size_t wrong = 0, run = 0, mark = 0, step;

    for (size_t i = 0; i < out->text.len; i += step) {
        uint32_t code;

        step = sl_utf8_next(out->text.data + i, out->text.len - i, &code);
        while (i >= out->run[run].end)
            run++;
        while (i >= (size_t)json_integer_value(json_array_get(json_array_get(marks, mark), 0)))
            mark++;
        wrong += !is_space(code) &&
                 out->run[run].user !=
                     (json_integer_value(json_array_get(json_array_get(marks, mark), 1)) != 0);
    }
    return wrong;
}

static void check_runs(const sl_template_output *out)
{
    size_t before = 0;

    for (size_t i = 0; i < out->run_count; i++) {
        assert_true(out->run[i].end > before);
        if (i > 0)
            assert_int_not_equal(out->run[i].user, out->run[i - 1].user);
        before = out->run[i].end;
    }
    assert_int_equal(before, out->text.len);
}

/* Compare with jinja2's result; prints what differs and returns whether it does. */
static bool differs(const char *name, const json_t *row, const result *res)
{
    const char *error = text_of(row, "error"), *want = text_of(row, "out");
    const json_t *marks = json_object_get(row, "marks");
    const size_t want_len = json_string_length(json_object_get(row, "out"));

    if (error != NULL) {
        if (res->status == SL_OK) {
            print_error("%s\n  wanted an error (%s: %s), got [%.*s]\n", name, error,
                        text_of(row, "message"), (int)res->out.text.len, res->out.text.data);
            return true;
        }
        if (strcmp(error, "TemplateError") == 0 &&
            strstr(res->err.text, text_of(row, "message")) == NULL) {
            print_error("%s\n  wanted '%s', got '%s'\n", name, text_of(row, "message"),
                        res->err.text);
            return true;
        }
        return false;
    }
    if (res->status != SL_OK) {
        print_error("%s\n  error: %s\n  wanted [%s]\n", name, res->err.text, want);
        return true;
    }
    if (res->out.text.len != want_len ||
        (want_len > 0 && memcmp(res->out.text.data, want, want_len) != 0)) {
        print_error("%s\n  got    [%.*s]\n  wanted [%s]\n", name, (int)res->out.text.len,
                    res->out.text.data != NULL ? res->out.text.data : "", want);
        return true;
    }
    check_runs(&res->out);
    if (marks != NULL && wrong_marks(&res->out, marks) > 0) {
        print_error("%s\n  %zu bytes have the wrong mark\n", name, wrong_marks(&res->out, marks));
        return true;
    }
    return false;
}

/* Call `check` for each line of a file of JSON lines; returns how many it was true for. */
static size_t each_row(const char *file, bool (*check)(const json_t *row, void *data), void *data,
                       size_t *rows)
{
    size_t len, bad = 0;
    char *text = read_file(file, &len);

    *rows = 0;
    for (char *line = text; *line != '\0';) {
        char *end = strchr(line, '\n');
        json_error_t error;
        json_t *row;

        assert_non_null(end);
        row = json_loadb(line, (size_t)(end - line), JSON_ALLOW_NUL, &error);
        if (row == NULL)
            fail_msg("%s line %zu: %s", file, *rows + 1, error.text);
        bad += check(row, data);
        json_decref(row);
        (*rows)++;
        line = end + 1;
    }
    free(text);
    return bad;
}

static json_t *find_conversation(json_t *all, const char *name)
{
    json_t *c;
    size_t i;

    json_array_foreach(all, i, c)
    {
        if (strcmp(text_of(c, "name"), name) == 0)
            return c;
    }
    fail_msg("no conversation '%s'", name);
    return NULL;
}

static bool check_conversation(const json_t *row, void *data)
{
    json_t *c = find_conversation(data, text_of(row, "conversation")), *own, *tools;
    json_t *trusted = json_pack("{s:s, s:s, s:b}", "bos_token", "<s>", "eos_token", "</s>",
                                "add_generation_prompt", 1);
    json_t *user;
    char *user_text, *trusted_text, *source, name[256];
    size_t len;
    result res;
    bool bad;

    own = json_object_get(c, "trusted");
    if (own != NULL)
        json_object_update(trusted, own);
    tools = json_object_get(c, "tools");
    user = json_pack("{s:O, s:O}", "messages", json_object_get(c, "messages"), "tools",
                     tools != NULL ? tools : json_null());
    user_text = json_dumps(user, 0);
    trusted_text = json_dumps(trusted, 0);
    source = read_file(text_of(row, "template"), &len);
    render(source, len, user_text, trusted_text, &res);
    snprintf(name, sizeof(name), "%s, %s", text_of(row, "template"), text_of(row, "conversation"));
    bad = differs(name, row, &res);

    sl_template_output_done(&res.out);
    free(source);
    free(user_text);
    free(trusted_text);
    json_decref(user);
    json_decref(trusted);
    return bad;
}

static void chat_templates_render_as_jinja2_renders_them(void **state)
{
    json_error_t error;
    json_t *conversations;
    size_t len, rows;
    char *text = read_file("conversations.json", &len);
    (void)state;

    conversations = json_loadb(text, len, 0, &error);
    assert_non_null(conversations);
    assert_int_equal(each_row("expected.jsonl", check_conversation, conversations, &rows), 0);
    assert_true(rows >= 400);
    json_decref(conversations);
    free(text);
}

static bool check_snippet(const json_t *row, void *data)
{
    const json_t *source = json_object_get(row, "template");
    result res;
    bool bad;

    render(json_string_value(source), json_string_length(source), data, NULL, &res);
    bad = differs(json_string_value(source), row, &res);
    sl_template_output_done(&res.out);
    return bad;
}

static void pieces_of_the_language_behave_as_in_jinja2(void **state)
{
    size_t len, rows;
    char *context = read_file("context.json", &len);
    (void)state;

    assert_int_equal(each_row("snippets.jsonl", check_snippet, context, &rows), 0);
    assert_true(rows >= 300);
    free(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chat_templates_render_as_jinja2_renders_them),
        cmocka_unit_test(pieces_of_the_language_behave_as_in_jinja2),
    };
    return cmocka_run_group_tests_name("protocol/template_cases", tests, NULL, NULL);
}
