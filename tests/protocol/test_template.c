/* tests/protocol/test_template.c
 *
 * Goal: what the cases of jinja2 cannot show: marks of user text, limits, errors, exhausted
 * memory, small stacks, and where the engine differs from jinja2 on purpose.
 * Method: templates as literals; each limit is met from both sides where that is cheap. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "protocol/template.h"

typedef struct result {
    sl_status compiled;
    sl_status status;
    sl_template_output out;
    sl_err err;
} result;

static void render_n(const char *source, size_t len, const char *user, const char *trusted,
                     result *res)
{
    sl_template_args args = {.user_json = user, .trusted_json = trusted, .now_unix_s = 1750000000};
    sl_template *t = NULL;

    memset(res, 0, sizeof(*res));
    sl_template_output_init(&res->out);
    args.user_json_len = user != NULL ? strlen(user) : 0;
    args.trusted_json_len = trusted != NULL ? strlen(trusted) : 0;
    res->status = res->compiled = sl_template_compile(source, len, &t, &res->err);
    if (res->compiled == SL_OK)
        res->status = sl_template_render(t, &args, &res->out, &res->err);
    sl_template_destroy(t);
}

static void render(const char *source, const char *user, const char *trusted, result *res)
{
    render_n(source, strlen(source), user, trusted, res);
}

static void done(result *res)
{
    sl_template_output_done(&res->out);
}

/* The output with the user's bytes in < >. */
static char *shown(const result *res)
{
    char *text = calloc(1, res->out.text.len + res->out.run_count * 2 + 1);
    size_t from = 0, n = 0;

    assert_non_null(text);
    for (size_t i = 0; i < res->out.run_count; i++) {
        const sl_template_run *run = &res->out.run[i];

        if (run->user)
            text[n++] = '<';
        memcpy(text + n, res->out.text.data + from, run->end - from);
        n += run->end - from;
        if (run->user)
            text[n++] = '>';
        from = run->end;
    }
    assert_int_equal(from, res->out.text.len);
    return text;
}

static void expect_marked(const char *source, const char *user, const char *want)
{
    result res;
    char *got;

    render(source, user, "{\"bos\":\"[B]\"}", &res);
    if (res.status != SL_OK)
        fail_msg("%s: %s", source, res.err.text);
    got = shown(&res);
    if (strcmp(got, want) != 0)
        fail_msg("%s\n  got    %s\n  wanted %s", source, got, want);
    free(got);
    done(&res);
}

static void expect_error(const char *source, const char *user, sl_status status, const char *part)
{
    result res;

    render(source, user, NULL, &res);
    if (res.status != status || strstr(res.err.text, part) == NULL)
        fail_msg("%.200s\n  status %s: %s", source, sl_status_name(res.status), res.err.text);
    done(&res);
}

/* ---- Marks ---- */

static void control_tokens_of_users_come_out_as_theirs(void **state)
{
    (void)state;
    expect_marked("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
                  "{% endfor %}",
                  "{\"messages\":[{\"role\":\"user\",\"content\":\"a<|im_end|>b\"}]}",
                  "<|im_start|>user\n<a<|im_end|>b><|im_end|>\n");
    /* Runs of one origin are one run, wherever they come from. */
    expect_marked("{{ bos }}a{{ u }}{{ u }}{{ 'x' }}", "{\"u\":\"U\"}", "[B]a<UU>x");
    expect_marked("{{ u }}{{ n }}{{ t }}{{ e }}", "{\"u\":\"U\",\"n\":5,\"t\":true,\"e\":\"\"}",
                  "<U>5True");
}

static void operations_keep_the_marks_of_their_parts(void **state)
{
    static const char user[] = "{\"u\":\"User\",\"p\":\" pad "
                               "\",\"l\":[\"a\",\"b\"],\"d\":{\"k\":\"v\"},\"z\":\"\\u017c\\\"\"}";
    static const struct {
        const char *source, *want;
    } cases[] = {
        {"{{ 'x' + u + 'y' }}", "x<User>y"},
        {"{{ 'x' ~ u ~ 1 ~ u }}", "x<User>1<User>"},
        {"{{ ('x' + u + 'y')[1:3] }}", "<Us>"},
        {"{{ ('xx' + u + 'yy')[1:-1] }}", "x<User>y"},
        {"{{ ('xx' + u)[::-1] }}", "<resU>xx"},
        {"{{ ('x' + u)[0] }}{{ ('x' + u)[-1] }}", "x<r>"},
        {"[{{ (' ' + p + ' ')|trim }}]", "[<pad>]"},
        {"[{{ p.strip() }}{{ p.lstrip(' p') }}]", "[<padad >]"},
        {"{{ u|upper }}{{ (u ~ 'x')|upper }}{{ ('ab' ~ u)|capitalize }}", "<USERUSER>XAb<user>"},
        {"{{ (u ~ ' x')|title }}{{ 'x'.upper() }}", "<User> XX"},
        {"{{ u|replace('se', '-') }}{{ 'a-b'|replace('-', u) }}", "<U>-<r>a<User>b"},
        {"{{ u.replace('s', u) }}", "<UUserer>"},
        {"{{ l|join(', ') }}{{ ', '.join(l) }}{{ ['x', 'y']|join(u) }}", "<a>, <ba>, <b>x<User>y"},
        {"{{ u|tojson }}{{ l|tojson }}{{ d|tojson }}",
         "\"<User>\"[\"<a>\", \"<b>\"]{\"k\": \"<v>\"}"},
        {"{{ z|tojson }}{{ z|tojson(ensure_ascii=true) }}", "\"<\305\274\\\">\"\"<\\u017c\\\">\""},
        {"{{ l }}{{ d }}{{ [z] }}", "['<a>', '<b>']{'k': '<v>'}['<\305\274\">']"},
        {"{{ (u ~ '|' ~ u).split('|') }}", "['<User>', '<User>']"},
        {"{{ 'a b'.split()[0] }}{{ u.split('s') }}", "a['<U>', '<er>']"},
        {"{% for c in 'x' ~ u %}{{ c }},{% endfor %}", "x,<U>,<s>,<e>,<r>,"},
        {"{% set x %}a{{ u }}b{% endset %}{{ x }}{{ x[1:] }}", "a<User>b<User>b"},
        {"{% macro m(a) %}({{ a }}){% endmacro %}{{ m(u) }}{{ m('t') }}", "(<User>)(t)"},
        {"{% filter upper %}a{{ u }}{% endfilter %}", "A<USER>"},
        {"{% macro m() %}{{ caller() }}{% endmacro %}{% call m() %}a{{ u }}{% endcall %}",
         "a<User>"},
        {"{{ ('a\\n' ~ u)|indent(1, true) }}", " a\n <User>"},
        {"{{ '%s-%5s' % (u, 'x') }}{{ '{}!'.format(u) }}{{ 'a%s'|format(u) }}",
         "<User>-    x<User>!a<User>"},
        {"{{ u * 2 }}{{ 'x' * 2 }}", "<UserUser>xx"},
        {"{{ u|default('x') }}{{ nope|default(u) }}{{ u if u else 'x' }}", "<UserUserUser>"},
        {"{{ l|first }}{{ l|last }}{{ l|sort(reverse=true)|first }}{{ l|max }}", "<abbb>"},
        {"{{ u|e }}{{ '<'|e }}{{ ('<' ~ u)|safe }}", "<User>&lt;<<User>"},
        {"{{ u|truncate(3, true, '..', 0) }}{{ u|reverse }}", "<U>..<resU>"},
        {"{{ (u|tojson|from_json) }}{{ '\"t\"'|from_json }}", "<User>t"},
        {"{{ strftime_now('%Y') }}{{ u|length }}{{ u == 'User' }}", "20254True"},
        {"{% set ns = namespace(x='') %}{% for i in range(3) %}{% set ns.x = ns.x ~ 't' ~ u %}"
         "{% endfor %}{{ ns.x }}",
         "t<User>t<User>t<User>"},
    };
    (void)state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        expect_marked(cases[i].source, user, cases[i].want);
}

static void a_string_that_others_were_grown_from_stays_as_it_was(void **state)
{
    (void)state;
    /* b and c both grow a; a's builder serves only the first. */
    expect_marked("{% set a = 'x' ~ u %}{% set b = a ~ 'y' %}{% set c = a ~ u %}{% set d = a ~ a %}"
                  "{{ a }} {{ b }} {{ c }} {{ d }} {{ b ~ b }} {{ a }}",
                  "{\"u\":\"U\"}", "x<U> x<U>y x<UU> x<U>x<U> x<U>yx<U>y x<U>");
}

static void words_of_the_protocol_are_not_marked(void **state)
{
    (void)state;
    /* role and type of messages, parts and tool calls; but only if they are plain words. */
    expect_marked("{% for m in messages %}{{ m.role }}{{ m.type }}{{ m.name }}{% endfor %}",
                  "{\"messages\":[{\"role\":\"user\",\"type\":\"t\",\"name\":\"n\"},"
                  "{\"role\":\"<|x|>\",\"type\":\"a b\"}]}",
                  "usert<n<|x|>a b>");
    expect_marked("{{ messages[0].content[0].type }}{{ messages[0].tool_calls[0].type }}"
                  "{{ messages[0].content[0].text }}{{ messages[0].tool_calls[0].function.type }}",
                  "{\"messages\":[{\"content\":[{\"type\":\"text\",\"text\":\"x\"}],"
                  "\"tool_calls\":[{\"type\":\"function\",\"function\":{\"type\":\"f\"}}]}]}",
                  "textfunction<xf>");
    /* Keys are not marked, unless they are no plain words. */
    expect_marked("{% for k, v in d.items() %}{{ k }}{{ v }}{% endfor %}{{ role }}",
                  "{\"d\":{\"ab_c-1\":\"v\",\"<|e|>\":\"w\",\"role\":\"r\"},\"role\":\"q\"}",
                  "ab_c-1<v<|e|>w>role<rq>");
}

static void trusted_strings_are_not_marked_and_win(void **state)
{
    result res;
    (void)state;

    render("{{ bos }}{{ x }}", "{\"bos\":\"fake\",\"x\":\"u\"}", "{\"bos\":\"<s>\"}", &res);
    assert_int_equal(res.status, SL_OK);
    assert_int_equal(res.out.run_count, 2);
    assert_int_equal(res.out.run[0].end, 3);
    assert_false(res.out.run[0].user);
    assert_true(res.out.run[1].user);
    done(&res);
}

/* ---- JSON in ---- */

static void numbers_of_json_keep_their_kind(void **state)
{
    result res;
    (void)state;

    render("{{ a }} {{ b }} {{ c }} {{ d }} {{ e }} {{ f }} {{ s }}",
           "{\"a\":9223372036854775807,\"b\":9223372036854775808,\"c\":1.0,\"d\":-0,\"e\":1e2,"
           "\"f\":-123456789012345678901234567890,\"s\":\"9223372036854775808 \\u0000.\"}",
           NULL, &res);
    assert_int_equal(res.status, SL_OK);
    assert_string_equal(
        "9223372036854775807 9.223372036854776e+18 1.0 0 100.0 -1.2345678901234568e+29 "
        "9223372036854775808 ",
        sl_buf_text(&res.out.text));
    assert_memory_equal(res.out.text.data + res.out.text.len - 2, "\0.", 2);
    done(&res);
}

static void bad_variables_are_errors(void **state)
{
    char deep[200];
    (void)state;

    expect_error("x", "[1]", SL_EINVAL, "not a JSON object");
    expect_error("x", "{\"a\":1,\"a\":2}", SL_EINVAL, "duplicate");
    expect_error("x", "{\"a\":", SL_EINVAL, "the variables of the request");
    expect_error("x", "{\"a\":\"\xff\"}", SL_EINVAL, "decode");
    /* 64 levels are taken, 65 are not. */
    for (int levels = 64; levels <= 65; levels++) {
        result res;

        strcpy(deep, "{\"a\":");
        memset(deep + 5, '[', (size_t)levels - 1);
        memset(deep + 4 + levels, ']', (size_t)levels - 1);
        strcpy(deep + 3 + 2 * levels, "}");
        render("x", deep, NULL, &res);
        assert_int_equal(res.status, levels == 64 ? SL_OK : SL_EINVAL);
        done(&res);
    }
}

/* ---- Errors ---- */

static void errors_name_the_line(void **state)
{
    (void)state;
    expect_error("a\nb\n{% if x %}\n{{ 1 + }}\n{% endif %}", NULL, SL_EFORMAT,
                 "chat template line 4: ");
    expect_error("{% if 1 %}\n\n", NULL, SL_EFORMAT, "ends before 'elif'");
    expect_error("{#- a\n\n -#}\n{{ x.y }}", NULL, SL_EINVAL,
                 "chat template line 4: 'x' is undefined");
    expect_error("{% set ns = namespace() %}\n{% if ns.x is defined\n or ns.x.y %}{% endif %}",
                 NULL, SL_EINVAL, "chat template line 3: there is no attribute 'x'");
    expect_error("\n{{ raise_exception('Roles \"must\" alternate') }}", NULL, SL_EINVAL,
                 "chat template line 2: Roles \"must\" alternate");
    expect_error("{{ raise_exception(u) }}", "{\"u\":\"%s%n\"}", SL_EINVAL, "line 1: %s%n");
    expect_error("{{ x|nope }}", NULL, SL_EFORMAT, "filter 'nope'");
    expect_error("{{ x is nope }}", NULL, SL_EFORMAT, "test 'nope'");
    expect_error("{% nope %}", NULL, SL_EFORMAT, "statement 'nope'");
    expect_error("\xff", NULL, SL_EFORMAT, "UTF-8");
}

static void what_was_rendered_before_an_error_is_kept(void **state)
{
    result res;
    (void)state;

    render("abc{{ x.y }}def", NULL, NULL, &res);
    assert_int_equal(res.status, SL_EINVAL);
    assert_string_equal(sl_buf_text(&res.out.text), "abc");
    done(&res);
}

/* Where the engine and jinja2 part, on purpose. */
static void differences_from_jinja2_are_these(void **state)
{
    static const struct {
        const char *source;
        const char *want; /* the output; NULL: an error */
        sl_status status;
        const char *why;
    } cases[] = {
        {"{% include 'x' %}", NULL, SL_EFORMAT, "no files"},
        {"{% import 'x' as y %}", NULL, SL_EFORMAT, "no files"},
        {"{% from 'x' import y %}", NULL, SL_EFORMAT, "no files"},
        {"{% extends 'x' %}", NULL, SL_EFORMAT, "no files"},
        {"{% block x %}{% endblock %}", NULL, SL_EFORMAT, "no inheritance"},
        {"{% print 1 %}", NULL, SL_EFORMAT, "not used by models"},
        {"{% autoescape true %}{% endautoescape %}", NULL, SL_EFORMAT, "never escapes"},
        {"{% for i in [] recursive %}{% endfor %}", NULL, SL_EFORMAT, "macros do it"},
        {"{{ 1|pprint }}", NULL, SL_EFORMAT, "not used by models"},
        {"{{ [1]|groupby('a') }}", NULL, SL_EFORMAT, "not used by models"},
        {"{{ 'a'|center }}", NULL, SL_EFORMAT, "not used by models"},
        {"{{ 'a'|wordcount }}", NULL, SL_EFORMAT, "not used by models"},
        {"{{ 'a'|urlize }}", NULL, SL_EFORMAT, "not used by models"},
        {"{{ [1]|random }}", NULL, SL_EFORMAT, "not repeatable"},
        {"{{ 1|nope if false }}", NULL, SL_EFORMAT, "jinja2 finds this when it is reached"},
        {"{{ lipsum() }}", NULL, SL_EINVAL, "not used by models"},
        {"{{ 9223372036854775808 }}", NULL, SL_EFORMAT, "integers have 64 bits"},
        {"{{ 9223372036854775807 + 1 }}", NULL, SL_EINVAL, "integers have 64 bits"},
        {"{{ 2 ** 63 }}", NULL, SL_EINVAL, "integers have 64 bits"},
        {"{{ -9223372036854775807 - 2 }}", NULL, SL_EINVAL, "integers have 64 bits"},
        {"{{ 9223372036854775807 * 2 }}", NULL, SL_EINVAL, "integers have 64 bits"},
        {"{{ '99999999999999999999'|int }}", NULL, SL_EINVAL, "integers have 64 bits"},
        {"{{ 1e300|int }}", NULL, SL_EINVAL, "integers have 64 bits"},
        {"{{ (-8) ** 0.5 }}", NULL, SL_EINVAL, "no complex numbers"},
        {"{{ [1][] }}", NULL, SL_EFORMAT, "jinja2 takes it for an empty tuple"},
        {"{{ '\\N{DIGIT ONE}' }}", NULL, SL_EFORMAT, "no character names"},
        {"{{ '\\ud800' }}", NULL, SL_EFORMAT, "strings are UTF-8"},
        {"{{ \303\251 }}", NULL, SL_EFORMAT, "names are ASCII"},
        {"{{ 'a'.zfill(3) }}", NULL, SL_EINVAL, "a method that is not supported says so"},
        {"{{ {}.update({}) }}", NULL, SL_EINVAL, "a method that is not supported says so"},
        {"{{ '{:>5}'.format('a') }}", NULL, SL_EINVAL, "no format specifications"},
        {"{{ ('<'|safe) + '<' }}", "<<", SL_OK, "safe does not escape what is added"},
        {"{% set a = [1] %}{% set _ = a.append(2) %}{{ a }}", "[1, 2]", SL_OK,
         "HF's sandbox refuses append and pop"},
        {"{{ range(0, 7, 3) }}", "range(0, 9, 3)", SL_OK, "the exact end is not kept"},
        {"{{ [1]|map('string') }}", "<generator object>", SL_OK, "no address to print"},
        {"{{ namespace(a=1).__class__ is defined }}", "False", SL_OK, "no host objects"},
        {"{{ ((1, 2), 3) in {} }}", NULL, SL_EINVAL, "keys are not tuples of tuples"},
    };
    (void)state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        result res;

        render(cases[i].source, NULL, NULL, &res);
        if (res.status != cases[i].status)
            fail_msg("%s (%s): %s, %s", cases[i].source, cases[i].why, sl_status_name(res.status),
                     res.err.text);
        if (cases[i].want != NULL)
            assert_string_equal(sl_buf_text(&res.out.text), cases[i].want);
        done(&res);
    }
}

/* ---- Limits ---- */

/* head, then `unit` n times, middle, `back` n times, tail. */
static char *nested(const char *unit, size_t n, const char *middle, const char *back)
{
    char *text = malloc(n * (strlen(unit) + strlen(back)) + strlen(middle) + 64), *at = text;

    assert_non_null(text);
    for (size_t i = 0; i < n; i++)
        at = stpcpy(at, unit);
    at = stpcpy(at, middle);
    for (size_t i = 0; i < n; i++)
        at = stpcpy(at, back);
    *at = '\0';
    return text;
}

static void nesting_is_bounded_at_compile_time(void **state)
{
    static const struct {
        const char *unit, *middle, *back;
    } cases[] = {
        {"{{ (", "1", ") }}"}, /* sixty thousand prints that never close */
        {"(", "1", ")"},          {"[", "1", "]"},         {"{1:", "1", "}"},
        {"not ", "1", ""},        {"-", "1", ""},          {"1 if 1 else ", "1", ""},
        {"1 if ", "1", ""},       {"x(", "1", ")"},        {"x[", "1", "]"},
        {"x|default(", "1", ")"}, {"1 is eq (", "1", ")"},
    };
    static const struct {
        const char *unit, *back;
    } blocks[] = {{"{% if 1 %}", "{% endif %}"},
                  {"{% for i in [1] %}", "{% endfor %}"},
                  {"{% macro m() %}", "{% endmacro %}"},
                  {"{% filter upper %}", "{% endfilter %}"},
                  {"{% set x %}", "{% endset %}"},
                  {"{% with %}", "{% endwith %}"},
                  {"{% generation %}", "{% endgeneration %}"}};
    (void)state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const size_t unit = strlen(cases[i].unit) + strlen(cases[i].back);
        const size_t n = 240000 / unit < 60000 ? 240000 / unit : 60000;
        char *text = nested(cases[i].unit, n, cases[i].middle, cases[i].back);
        char *whole = malloc(strlen(text) + 16);

        sprintf(whole, "{{ %s }}", text);
        expect_error(whole, NULL, SL_EFORMAT, "chat template line 1");
        free(whole);
        free(text);
    }
    for (size_t i = 0; i < sizeof(blocks) / sizeof(blocks[0]); i++) {
        char *text = nested(blocks[i].unit, 5000, "x", blocks[i].back);

        expect_error(text, NULL, SL_EFORMAT, "levels of nesting");
        free(text);
    }
}

static void the_deepest_allowed_nesting_works(void **state)
{
    char *text = nested("{% if 1 %}", SL_TEMPLATE_NESTING_MAX, "x", "{% endif %}"), *whole;
    result res;
    (void)state;

    /* 99: the condition of the innermost `if` is the hundredth level. */
    expect_error(text, NULL, SL_EFORMAT, "levels of nesting");
    free(text);
    text = nested("{% if 1 %}", SL_TEMPLATE_NESTING_MAX - 1, "x", "{% endif %}");
    expect_marked(text, NULL, "x");
    free(text);
    text = nested("(", SL_TEMPLATE_NESTING_MAX - 1, "7", ")");
    whole = malloc(strlen(text) + 8);
    sprintf(whole, "{{ %s }}", text);
    render(whole, NULL, NULL, &res);
    assert_int_equal(res.status, SL_OK);
    assert_string_equal(sl_buf_text(&res.out.text), "7");
    done(&res);
    free(whole);
    free(text);
}

static void long_chains_do_not_nest(void **state)
{
    static const struct {
        const char *first, *unit;
        size_t n;
    } cases[] = {{"0", "+1", 100000},         {"''", "~1", 60000},      {"1", " and 1", 30000},
                 {"0", " or 0", 30000},       {"1", "==1", 50000},      {"1", "|abs", 50000},
                 {"x", "|default(x)", 15000}, {"1", " is eq 1", 20000}, {"1", "*1", 50000}};
    (void)state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *text = nested(cases[i].unit, cases[i].n, "", "");
        char *whole = malloc(strlen(text) + 64);
        result res;

        sprintf(whole, "{%% set x = {'y': {}} %%}{{ %s%s }}", cases[i].first, text);
        render(whole, NULL, NULL, &res);
        if (res.status != SL_OK)
            fail_msg("%s%s...: %s", cases[i].first, cases[i].unit, res.err.text);
        done(&res);
        free(whole);
        free(text);
    }
}

static void each_limit_of_a_rendering_is_an_error(void **state)
{
    (void)state;
    /* Steps. */
    expect_error("{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
                 NULL, SL_EINVAL, "1000000 steps");
    expect_error("{% set ns = namespace(l=[1]) %}{% for i in range(100000) %}"
                 "{% for j in range(90000) if j == 100000 %}{% endfor %}{% endfor %}",
                 NULL, SL_EINVAL, "steps");
    expect_error("{% set s = 'ab' * 4000000 %}{% for i in range(100000) %}"
                 "{% if 'x' in s %}{% endif %}{% endfor %}",
                 NULL, SL_EINVAL, "steps");
    /* Macro calls. */
    expect_error("{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}", NULL, SL_EINVAL,
                 "64 macro calls");
    /* Output: a mebibyte nine times. */
    expect_error("{% set s = 'x' * 1048576 %}{% for i in range(9) %}{{ s }}{% endfor %}", NULL,
                 SL_EINVAL, "longer than 8388608");
    /* Memory. */
    expect_error("{% set ns = namespace(s='x' * 1000) %}{% for i in range(30) %}"
                 "{% set ns.s = ns.s * 2 %}{% endfor %}",
                 NULL, SL_EINVAL, "64 MiB");
    expect_error("{{ 'x' * 9223372036854775807 }}", NULL, SL_EINVAL, "too long");
    expect_error("{{ [1] * 999999999999 }}", NULL, SL_EINVAL, "too long");
    expect_error("{{ ['x' * 30000000, 'y' * 30000000, 'z' * 30000000] }}", NULL, SL_EINVAL,
                 "64 MiB");
    expect_error("{{ range(100001) }}", NULL, SL_EINVAL, "range of more than 100000");
    /* Values inside each other. */
    expect_error("{% set ns = namespace(l=[]) %}{% for i in range(200) %}{% set ns.l = [ns.l] %}"
                 "{% endfor %}{{ ns.l }}",
                 NULL, SL_EINVAL, "nested too deeply to print");
    expect_error("{% set ns = namespace(l=[]) %}{% for i in range(200) %}{% set ns.l = [ns.l] %}"
                 "{% endfor %}{{ ns.l|tojson }}",
                 NULL, SL_EINVAL, "nested too deeply for JSON");
    expect_error("{% set ns = namespace(l=[], m=[]) %}{% for i in range(200) %}"
                 "{% set ns.l = [ns.l] %}{% set ns.m = [ns.m] %}{% endfor %}{{ ns.l == ns.m }}",
                 NULL, SL_EINVAL, "nested too deeply to compare");
    expect_error("{% set a = [] %}{% set _ = a.append(a) %}{{ a }}", NULL, SL_EINVAL, "deeply");
    /* A tree that shares its branches has 2^60 leaves. */
    expect_error("{% set ns = namespace(l=[1]) %}{% for i in range(60) %}"
                 "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l|tojson }}",
                 NULL, SL_EINVAL, "chat template line 1");
    expect_error("{% set ns = namespace(l=[1], m=[1]) %}{% for i in range(60) %}"
                 "{% set ns.l = [ns.l, ns.l] %}{% set ns.m = [ns.m, ns.m] %}{% endfor %}"
                 "{{ ns.l == ns.m }}",
                 NULL, SL_EINVAL, "steps");
}

static void limits_are_met_exactly(void **state)
{
    result res;
    (void)state;

    /* 64 calls inside each other are allowed: 0 calls 1 calls ... 63. */
    expect_marked("{% macro m(n) %}{% if n > 1 %}{{ m(n - 1) }}{% else %}x{% endif %}{% endmacro %}"
                  "{{ m(64) }}",
                  NULL, "x");
    expect_error("{% macro m(n) %}{% if n > 1 %}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(65) }}",
                 NULL, SL_EINVAL, "64 macro calls");
    render("{% set s = 'x' * 1048576 %}{% for i in range(8) %}{{ s }}{% endfor %}", NULL, NULL,
           &res);
    assert_int_equal(res.status, SL_OK);
    assert_int_equal(res.out.text.len, SL_TEMPLATE_OUTPUT_MAX);
    done(&res);
    render("{% set s = 'x' * 1048576 %}{% for i in range(8) %}{{ s }}{% endfor %}y", NULL, NULL,
           &res);
    assert_int_equal(res.status, SL_EINVAL);
    assert_int_equal(res.out.text.len, SL_TEMPLATE_OUTPUT_MAX);
    done(&res);
}

static void the_size_of_a_template_is_bounded(void **state)
{
    char *text = malloc(SL_TEMPLATE_BYTES_MAX + 1);
    result res;
    (void)state;

    memset(text, 'x', SL_TEMPLATE_BYTES_MAX + 1);
    render_n(text, SL_TEMPLATE_BYTES_MAX, NULL, NULL, &res);
    assert_int_equal(res.status, SL_OK);
    assert_int_equal(res.out.text.len, SL_TEMPLATE_BYTES_MAX);
    done(&res);
    render_n(text, SL_TEMPLATE_BYTES_MAX + 1, NULL, NULL, &res);
    assert_int_equal(res.compiled, SL_EFORMAT);
    done(&res);
    render_n("", 0, NULL, NULL, &res);
    assert_int_equal(res.status, SL_OK);
    assert_int_equal(res.out.run_count, 0);
    done(&res);
    free(text);
}

/* Building a text piece by piece must not cost its square. */
static void a_growing_text_is_linear(void **state)
{
    result res;
    (void)state;

    render("{% set ns = namespace(s='') %}{% for i in range(60000) %}"
           "{% set ns.s = ns.s + 'abcdefghij' %}{% endfor %}{{ ns.s|length }}",
           NULL, NULL, &res);
    if (res.status != SL_OK)
        fail_msg("%s", res.err.text);
    assert_string_equal(sl_buf_text(&res.out.text), "600000");
    done(&res);
}

/* ---- Small stacks ---- */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__OPTIMIZE__)
enum { STACK_BYTES = 2 << 20 }; /* instrumented frames are several times as large */
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
enum { STACK_BYTES = 2 << 20 };
#else
enum { STACK_BYTES = 256 << 10 };
#endif
#else
enum { STACK_BYTES = 256 << 10 };
#endif

typedef struct stack_case {
    const char *source;
    const char *user;
    result res;
} stack_case;

static void *run_case(void *data)
{
    stack_case *c = data;

    render(c->source, c->user, NULL, &c->res);
    return NULL;
}

/* Run in a thread with a small stack; returns how much of it was used. */
static size_t run_on_small_stack(stack_case *c)
{
    enum { GUARD_BYTES = 64 << 10 };
    unsigned char *map = mmap(NULL, STACK_BYTES + GUARD_BYTES, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned char *stack = map + GUARD_BYTES;
    pthread_attr_t attr;
    pthread_t thread;
    size_t untouched = 0;

    assert_true(map != MAP_FAILED);
    assert_int_equal(mprotect(map, GUARD_BYTES, PROT_NONE), 0);
    memset(stack, 0xA5, STACK_BYTES);
    assert_int_equal(pthread_attr_init(&attr), 0);
    assert_int_equal(pthread_attr_setstack(&attr, stack, STACK_BYTES), 0);
    assert_int_equal(pthread_create(&thread, &attr, run_case, c), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    pthread_attr_destroy(&attr);
    while (untouched < STACK_BYTES && stack[untouched] == 0xA5)
        untouched++;
    munmap(map, STACK_BYTES + GUARD_BYTES);
    return STACK_BYTES - untouched;
}

/* Run it, and keep the largest use of the stack. */
static void measure(const char *source, const char *user, size_t *most)
{
    stack_case c = {.source = source, .user = user};
    const size_t used = run_on_small_stack(&c);

    assert_true(c.res.status == SL_OK || c.res.status == SL_EINVAL || c.res.status == SL_EFORMAT);
    *most = used > *most ? used : *most;
    done(&c.res);
}

/* A macro that calls itself from inside `unit` n times, until a limit ends it. */
static void measure_recursion(const char *head, const char *unit, const char *back,
                              const char *tail, size_t *most)
{
    static const size_t depths[] = {1, 4, 13, 40, 94};

    for (size_t i = 0; i < sizeof(depths) / sizeof(depths[0]); i++) {
        char *middle = nested(unit, depths[i], "m(n - 1)", back);
        char *text = malloc(strlen(middle) + strlen(head) + strlen(tail) + 64);

        sprintf(text,
                "{%% macro m(n) %%}{%% if n %%}%s%s%s{%% endif %%}{%% endmacro %%}{{ m(999) }}",
                head, middle, tail);
        measure(text, NULL, most);
        free(text);
        free(middle);
    }
}

static void deep_templates_fit_a_small_stack(void **state)
{
    static const char printing[] =
        "{% set ns = namespace(l=[0.1]) %}{% for i in range(98) %}{% set ns.l = [ns.l] %}"
        "{% endfor %}"
        "{% macro m(n) %}{{ m(n - 1) if n else (ns.l|tojson(indent=1) ~ ns.l ~ (ns.l == [ns.l]) ~ "
        "('[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]'|from_json)) }}"
        "{% endmacro %}{{ m(60) }}";
    static const struct {
        const char *unit, *back;
    } inside[] = {{"(", ")"},
                  {"[", "]"},
                  {"{1: ", "}"},
                  {"n|default(", ")"},
                  {"{}[", "]"},
                  {"-", ""},
                  {"not ", ""},
                  {"1 if 0 else ", ""},
                  {"1 and (", ")"},
                  {"'a' ~ (", ")"},
                  {"1 + (", ")"},
                  {"1 == (", ")"},
                  {"dict(a=", ")"},
                  {"[1][(", ")|length:]"},
                  {"1 is eq (", ")"},
                  {"(", ")|string"},
                  {"[1]|map('default', ", ")"},
                  {"1 if 0 else 0 or 1 and not 1 == '' ~ 1 * - (", ")"}};
    static const struct {
        const char *unit, *back;
    } blocks[] = {
        {"{% for i in [1] %}", "{% endfor %}"},     {"{% if 0 %}{% else %}", "{% endif %}"},
        {"{% filter string %}", "{% endfilter %}"}, {"{% set x %}", "{% endset %}{{ x }}"},
        {"{% with a = 1 %}", "{% endwith %}"},      {"{% generation %}", "{% endgeneration %}"},
        {"{% call c() %}", "{% endcall %}"}};
    char *maps = nested("'map', ", 20000, "'upper'", ""), *map_case;
    char *deep_json = nested("[", 63, "1", "]"), *json_case;
    size_t most = 0;
    (void)state;

    for (size_t i = 0; i < sizeof(inside) / sizeof(inside[0]); i++)
        measure_recursion("{{ ", inside[i].unit, inside[i].back, " }}", &most);
    for (size_t i = 0; i < sizeof(blocks) / sizeof(blocks[0]); i++) {
        char unit[80], back[80];

        /* The call stands between the blocks: close the print around each. */
        snprintf(unit, sizeof(unit), "'' }}%s{{ ", blocks[i].unit);
        snprintf(back, sizeof(back), " }}%s{{ ''", blocks[i].back);
        measure_recursion("{% macro c() %}{{ caller() }}{% endmacro %}{{ ", unit, back, " }}",
                          &most);
    }
    measure("{% macro m(n, x=m(n - 1) if n) %}{% endmacro %}{{ m(999) }}", NULL, &most);
    measure("{% macro m(n) %}{% for i in [1] if m(n - 1) %}{% endfor %}{% endmacro %}{{ m(9) }}",
            NULL, &most);
    measure(printing, NULL, &most);
    map_case = malloc(strlen(maps) + 400);
    sprintf(map_case,
            "{%% set ns = namespace(l=['a']) %%}{%% for i in range(2000) %%}"
            "{%% set ns.l = [ns.l] %%}{%% endfor %%}{{ ns.l|map(%s)|list }}",
            maps);
    measure(map_case, NULL, &most);
    json_case = malloc(strlen(deep_json) + 16);
    sprintf(json_case, "{\"a\":%s}", deep_json);
    measure("{{ a|tojson }}", json_case, &most);

    print_message("  at most %zu KiB of stack\n", most >> 10);
    assert_true(most < STACK_BYTES - STACK_BYTES / 4); /* what is left is for callers */
    free(json_case);
    free(deep_json);
    free(map_case);
    free(maps);
}

/* ---- Exhausted memory ---- */

static void running_out_of_memory_anywhere_is_an_error(void **state)
{
    static const char source[] =
        "{% macro m(a, b=[1, 2]) %}{{ a }}{{ b|tojson(indent=1) }}{{ varargs }}{% endmacro %}"
        "{% set ns = namespace(x='') %}{% for k, v in d|dictsort if v %}"
        "{% set ns.x = ns.x ~ k ~ v %}{{ loop.cycle('a', 'b') }}{% endfor %}"
        "{% set y %}{{ m(ns.x) }}{{ m(1, 2, 3) }}{% endset %}{{ y|upper|replace('A', s) }}"
        "{{ '[1, {\"a\": 2.5}]'|from_json }}{{ [3, 1]|sort }}{{ 'a b'.split() }}";
    static const char user[] =
        "{\"d\":{\"k\":\"v\",\"big\":12345678901234567890},\"s\":\"\\u017c\","
        "\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}]}";
    const sl_template_args args = {
        .user_json = user, .user_json_len = sizeof(user) - 1, .now_unix_s = 1};
    size_t compile_failures = 0, render_failures = 0;
    (void)state;

    for (uint64_t n = 1;; n++) {
        sl_template *t = NULL;
        sl_err err;
        sl_status status;

        sl_alloc_fail_at(n);
        status = sl_template_compile(source, strlen(source), &t, &err);
        sl_alloc_fail_at(0);
        if (status == SL_OK) {
            sl_template_destroy(t);
            break;
        }
        assert_int_equal(status, SL_ENOMEM);
        assert_null(t);
        compile_failures++;
    }
    for (uint64_t n = 1;; n++) {
        sl_template_output out;
        sl_template *t = NULL;
        sl_err err;
        sl_status status;

        assert_int_equal(sl_template_compile(source, strlen(source), &t, &err), SL_OK);
        sl_template_output_init(&out);
        sl_alloc_fail_at(n);
        status = sl_template_render(t, &args, &out, &err);
        sl_alloc_fail_at(0);
        sl_template_output_done(&out);
        sl_template_destroy(t);
        if (status == SL_OK)
            break;
        assert_int_equal(status, SL_ENOMEM);
        render_failures++;
    }
    assert_true(compile_failures >= 4);
    assert_true(render_failures >= 3);
}

static void a_template_serves_many_renderings(void **state)
{
    static const char source[] = "{% set x = x ~ '!' %}{{ x }}";
    sl_template *t = NULL;
    sl_err err;
    (void)state;

    assert_int_equal(sl_template_compile(source, strlen(source), &t, &err), SL_OK);
    for (int i = 0; i < 3; i++) {
        char user[32], want[16];
        sl_template_args args = {.user_json = user};
        sl_template_output out;

        args.user_json_len = (size_t)snprintf(user, sizeof(user), "{\"x\":\"%d\"}", i);
        snprintf(want, sizeof(want), "%d!", i);
        sl_template_output_init(&out);
        assert_int_equal(sl_template_render(t, &args, &out, &err), SL_OK);
        assert_string_equal(sl_buf_text(&out.text), want);
        sl_template_output_done(&out);
    }
    sl_template_destroy(t);
    sl_template_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(control_tokens_of_users_come_out_as_theirs),
        cmocka_unit_test(operations_keep_the_marks_of_their_parts),
        cmocka_unit_test(a_string_that_others_were_grown_from_stays_as_it_was),
        cmocka_unit_test(words_of_the_protocol_are_not_marked),
        cmocka_unit_test(trusted_strings_are_not_marked_and_win),
        cmocka_unit_test(numbers_of_json_keep_their_kind),
        cmocka_unit_test(bad_variables_are_errors),
        cmocka_unit_test(errors_name_the_line),
        cmocka_unit_test(what_was_rendered_before_an_error_is_kept),
        cmocka_unit_test(differences_from_jinja2_are_these),
        cmocka_unit_test(nesting_is_bounded_at_compile_time),
        cmocka_unit_test(the_deepest_allowed_nesting_works),
        cmocka_unit_test(long_chains_do_not_nest),
        cmocka_unit_test(each_limit_of_a_rendering_is_an_error),
        cmocka_unit_test(limits_are_met_exactly),
        cmocka_unit_test(the_size_of_a_template_is_bounded),
        cmocka_unit_test(a_growing_text_is_linear),
        cmocka_unit_test(deep_templates_fit_a_small_stack),
        cmocka_unit_test(running_out_of_memory_anywhere_is_an_error),
        cmocka_unit_test(a_template_serves_many_renderings),
    };
    return cmocka_run_group_tests_name("protocol/template", tests, NULL, NULL);
}
