/* protocol/template_lex.c - template source to tokens.
 *
 * White space is settled here, as jinja2 does it with trim_blocks and lstrip_blocks: "-" beside a
 * tag strips all white space on that side; a block tag or comment takes the newline after it, and
 * the blanks before it when it begins its line; "+" keeps them. */
#include "protocol/template_tree_internal.h"

#include <string.h>

#include "base/alloc.h"

typedef struct lexer {
    const char *src;
    size_t len;
    size_t pos;
    uint32_t line;
    bool line_starting; /* the last thing matched ended in a newline */
    sl_tpl_tokens *out;
    sl_err *err;
    char closer[SL_TEMPLATE_NESTING_MAX]; /* open brackets within the tag */
    size_t open;
} lexer;

static sl_status fail(const lexer *lx, const char *what)
{
    return sl_fail(lx->err, SL_EFORMAT, "chat template line %u: %s", lx->line, what);
}

static bool at(const lexer *lx, size_t pos, const char *text)
{
    const size_t n = strlen(text);

    return pos <= lx->len && n <= lx->len - pos && memcmp(lx->src + pos, text, n) == 0;
}

static sl_status push(lexer *lx, sl_tpl_token_kind kind, size_t pos, size_t len)
{
    sl_tpl_tokens *t = lx->out;

    if (t->count == t->capacity) {
        const size_t capacity = t->capacity == 0 ? 256 : t->capacity * 2;
        sl_tpl_token *token = sl_realloc(t->token, capacity, sizeof(*token));

        if (token == NULL)
            return sl_fail(lx->err, SL_ENOMEM, "no memory for the chat template");
        t->token = token;
        t->capacity = capacity;
    }
    t->token[t->count++] = (sl_tpl_token){kind, lx->line, lx->src + pos, len};
    return SL_OK;
}

/* Go on to `pos`, counting lines. */
static void advance(lexer *lx, size_t pos)
{
    for (size_t i = lx->pos; i < pos; i++)
        lx->line += lx->src[i] == '\n';
    if (pos > lx->pos)
        lx->line_starting = lx->src[pos - 1] == '\n';
    lx->pos = pos;
}

static size_t skip_space(const lexer *lx, size_t pos)
{
    return pos + sl_tpl_space_front(lx->src + pos, lx->len - pos);
}

/* The end of data [pos, end) once the tag after it, with this sign, has stripped it. */
static size_t strip_before(const lexer *lx, size_t end, char sign, bool is_print)
{
    const char *data = lx->src + lx->pos;
    const size_t len = end - lx->pos;
    size_t line = len;

    if (sign == '-')
        return end - sl_tpl_space_back(data, len);
    if (sign == '+' || is_print)
        return end;
    while (line > 0 && data[line - 1] != '\n')
        line--;
    if ((line > 0 || lx->line_starting) &&
        sl_tpl_space_front(data + line, len - line) == len - line)
        return lx->pos + line;
    return end;
}

static char sign_at(const lexer *lx, size_t pos)
{
    return pos < lx->len && (lx->src[pos] == '-' || lx->src[pos] == '+') ? lx->src[pos] : '\0';
}

/* Does the end of a block stand at pos?  Gives where it ends, with what it strips. */
static bool block_end(const lexer *lx, size_t pos, const char *mark, size_t *end)
{
    const char sign = sign_at(lx, pos);
    const size_t mark_pos = pos + (sign != '\0');

    if (!at(lx, mark_pos, mark))
        return false;
    *end = mark_pos + 2;
    if (sign == '-')
        *end = skip_space(lx, *end);
    else if (sign == '\0' && *end < lx->len && lx->src[*end] == '\n')
        (*end)++;
    return true;
}

/* "{% raw %}" at pos: where its content begins. */
static bool raw_begin(const lexer *lx, size_t pos, size_t *content)
{
    size_t i = skip_space(lx, pos + 2 + (sign_at(lx, pos + 2) != '\0'));

    if (!at(lx, i, "raw"))
        return false;
    i = skip_space(lx, i + 3);
    if (at(lx, i, "-%}")) {
        *content = skip_space(lx, i + 3);
        return true;
    }
    *content = i + 2;
    return at(lx, i, "%}");
}

/* "{% endraw %}" at pos: where it ends. */
static bool raw_end(const lexer *lx, size_t pos, size_t *end)
{
    size_t i = skip_space(lx, pos + 2 + (sign_at(lx, pos + 2) != '\0'));

    if (!at(lx, i, "endraw"))
        return false;
    return block_end(lx, skip_space(lx, i + 6), "%}", end);
}

static sl_status push_data(lexer *lx, size_t end)
{
    return end > lx->pos ? push(lx, SL_TPL_T_DATA, lx->pos, end - lx->pos) : SL_OK;
}

static sl_status lex_raw(lexer *lx, size_t content)
{
    advance(lx, content);
    for (size_t i = content; i + 1 < lx->len; i++) {
        size_t end;

        if (!at(lx, i, "{%") || !raw_end(lx, i, &end))
            continue;
        SL_TPL_TRY(push_data(lx, strip_before(lx, i, sign_at(lx, i + 2), false)));
        advance(lx, end);
        return SL_OK;
    }
    return fail(lx, "missing end of raw directive");
}

static sl_status lex_comment(lexer *lx)
{
    /* A "-" or "+" right after "{#" belongs to the opening. */
    for (size_t i = lx->pos + 2 + (sign_at(lx, lx->pos + 2) != '\0'); i < lx->len; i++) {
        size_t end;

        if (!block_end(lx, i, "#}", &end))
            continue;
        advance(lx, end);
        return SL_OK;
    }
    return fail(lx, "missing end of comment tag");
}

static bool is_name_start(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_digit_of(char c, unsigned base)
{
    const int lower = c | 0x20;
    const unsigned v = is_digit(c)                    ? (unsigned)(c - '0')
                       : lower >= 'a' && lower <= 'f' ? (unsigned)(lower - 'a' + 10)
                                                      : 99;
    return v < base;
}

/* Digits with single "_" between them, from pos. */
static size_t digits(const lexer *lx, size_t pos, unsigned base)
{
    while (pos < lx->len) {
        if (is_digit_of(lx->src[pos], base))
            pos++;
        else if (lx->src[pos] == '_' && pos + 1 < lx->len && is_digit_of(lx->src[pos + 1], base))
            pos += 2;
        else
            break;
    }
    return pos;
}

/* The end of a float at pos, or pos. */
static size_t float_end(const lexer *lx, size_t pos)
{
    size_t end = digits(lx, pos, 10), e;
    bool is_float = false;

    if (pos > 0 && lx->src[pos - 1] == '.')
        return pos;
    if (end + 1 < lx->len && lx->src[end] == '.' && is_digit(lx->src[end + 1])) {
        end = digits(lx, end + 1, 10);
        is_float = true;
    }
    if (end < lx->len && (lx->src[end] | 0x20) == 'e') {
        e = end + 1 + (sign_at(lx, end + 1) != '\0');
        if (e < lx->len && is_digit(lx->src[e])) {
            end = digits(lx, e, 10);
            is_float = true;
        }
    }
    return is_float ? end : pos;
}

static size_t int_end(const lexer *lx, size_t pos)
{
    size_t end;

    if (lx->src[pos] != '0')
        return digits(lx, pos, 10);
    if (pos + 1 < lx->len) {
        const int c = lx->src[pos + 1] | 0x20;
        const unsigned base = c == 'x' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 0;
        const size_t from = pos + 2 + (pos + 2 < lx->len && lx->src[pos + 2] == '_');

        if (base != 0 && from < lx->len && is_digit_of(lx->src[from], base))
            return digits(lx, from, base);
    }
    end = pos + 1; /* a leading zero takes zeros only: "007" is no number */
    while (end < lx->len && (lx->src[end] == '0' ||
                             (lx->src[end] == '_' && end + 1 < lx->len && lx->src[end + 1] == '0')))
        end++;
    return end;
}

static sl_status lex_string(lexer *lx)
{
    const char quote = lx->src[lx->pos];
    size_t i = lx->pos + 1;

    while (i < lx->len && lx->src[i] != quote)
        i += lx->src[i] == '\\' ? 2 : 1;
    if (i >= lx->len)
        return fail(lx, "a string has no end");
    SL_TPL_TRY(push(lx, SL_TPL_T_STRING, lx->pos + 1, i - lx->pos - 1));
    advance(lx, i + 1);
    return SL_OK;
}

static sl_status lex_operator(lexer *lx)
{
    static const char *const pairs[] = {"**", "//", "==", "!=", "<=", ">="};
    const char c = lx->src[lx->pos];
    size_t n = 1;

    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
        if (at(lx, lx->pos, pairs[i]))
            n = 2;
    if (n == 1 && (c == '\0' || strchr("+-*/%~[](){}<>=.:|,;", c) == NULL))
        return fail(lx, "unexpected character");
    if (c == '(' || c == '[' || c == '{') {
        if (lx->open == SL_TEMPLATE_NESTING_MAX)
            return fail(lx, "too many brackets inside each other");
        lx->closer[lx->open++] = c == '(' ? ')' : c == '[' ? ']' : '}';
    } else if (c == ')' || c == ']' || c == '}') {
        if (lx->open == 0 || lx->closer[lx->open - 1] != c)
            return fail(lx, "a closing bracket does not match");
        lx->open--;
    }
    SL_TPL_TRY(push(lx, SL_TPL_T_OP, lx->pos, n));
    advance(lx, lx->pos + n);
    return SL_OK;
}

/* One token inside a tag. */
static sl_status lex_inside(lexer *lx)
{
    const char c = lx->src[lx->pos];
    size_t end;

    end = skip_space(lx, lx->pos);
    if (end > lx->pos) {
        advance(lx, end);
        return SL_OK;
    }
    if (is_digit(c)) {
        end = float_end(lx, lx->pos);
        if (end > lx->pos) {
            SL_TPL_TRY(push(lx, SL_TPL_T_FLOAT, lx->pos, end - lx->pos));
        } else {
            end = int_end(lx, lx->pos);
            SL_TPL_TRY(push(lx, SL_TPL_T_INT, lx->pos, end - lx->pos));
        }
        advance(lx, end);
        return SL_OK;
    }
    if (is_name_start(c)) {
        end = lx->pos + 1;
        while (end < lx->len && (is_name_start(lx->src[end]) || is_digit(lx->src[end])))
            end++;
        SL_TPL_TRY(push(lx, SL_TPL_T_NAME, lx->pos, end - lx->pos));
        advance(lx, end);
        return SL_OK;
    }
    if (c == '\'' || c == '"')
        return lex_string(lx);
    return lex_operator(lx);
}

/* From behind "{{" or "{%" to behind the end of the tag. */
static sl_status lex_tag(lexer *lx, bool is_print)
{
    lx->open = 0;
    while (lx->pos < lx->len) {
        size_t end = 0;
        bool is_end = false;

        if (lx->open == 0 && is_print) {
            const bool minus = at(lx, lx->pos, "-}}");

            is_end = minus || at(lx, lx->pos, "}}");
            if (is_end)
                end = minus ? skip_space(lx, lx->pos + 3) : lx->pos + 2;
        } else if (lx->open == 0) {
            is_end = block_end(lx, lx->pos, "%}", &end);
        }
        if (is_end) {
            SL_TPL_TRY(push(lx, is_print ? SL_TPL_T_PRINT_END : SL_TPL_T_BLOCK_END, lx->pos, 2));
            advance(lx, end);
            return SL_OK;
        }
        SL_TPL_TRY(lex_inside(lx));
    }
    return fail(lx, "the template ends inside a tag");
}

/* Data up to the next tag, and the tag. */
static sl_status lex_next(lexer *lx)
{
    size_t tag = lx->pos, content;
    char sign, type = '\0';

    while (tag + 1 < lx->len) {
        const char *brace = memchr(lx->src + tag, '{', lx->len - tag - 1);

        if (brace == NULL)
            break;
        tag = (size_t)(brace - lx->src);
        type = brace[1];
        if (type == '{' || type == '%' || type == '#')
            break;
        type = '\0';
        tag++;
    }
    if (type == '\0') {
        SL_TPL_TRY(push_data(lx, lx->len));
        advance(lx, lx->len);
        return SL_OK;
    }
    sign = sign_at(lx, tag + 2);
    SL_TPL_TRY(push_data(lx, strip_before(lx, tag, sign, type == '{')));
    if (type == '#') {
        advance(lx, tag);
        return lex_comment(lx);
    }
    if (type == '%' && raw_begin(lx, tag, &content)) {
        advance(lx, tag);
        return lex_raw(lx, content);
    }
    advance(lx, tag);
    SL_TPL_TRY(push(lx, type == '{' ? SL_TPL_T_PRINT_BEGIN : SL_TPL_T_BLOCK_BEGIN, tag, 2));
    advance(lx, tag + 2 + (sign != '\0'));
    return lex_tag(lx, type == '{');
}

sl_status sl_tpl_lex(const char *source, size_t len, sl_tpl_tokens *tokens, sl_err *err)
{
    lexer lx = {.src = source, .len = len, .line = 1, .line_starting = true};

    lx.out = tokens;
    lx.err = err;
    while (lx.pos < lx.len)
        SL_TPL_TRY(lex_next(&lx));
    return push(&lx, SL_TPL_T_END, len, 0);
}
