/* protocol/template_is.c - tests: what follows `is`. */
#include "protocol/template_internal.h"

static sl_status is_of_kind(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    (void)r;
    *out = sl_tpl_bool((call->builtin->detail >> call->self.kind & 1) != 0);
    return SL_OK;
}

static sl_status is_true(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    (void)r;
    *out = sl_tpl_bool(call->self.kind == SL_TPL_BOOL && call->self.as.b);
    return SL_OK;
}

static sl_status is_false(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    (void)r;
    *out = sl_tpl_bool(call->self.kind == SL_TPL_BOOL && !call->self.as.b);
    return SL_OK;
}

static sl_status is_iterable(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    (void)r;
    *out = sl_tpl_bool(sl_tpl_is_iterable(call->self));
    return SL_OK;
}

/* What has a length and items: to jinja2 also dicts and undefined values. */
static sl_status is_sequence(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    (void)r;
    *out =
        sl_tpl_bool(sl_tpl_is_iterable(call->self) &&
                    (call->self.kind != SL_TPL_SEQ || call->self.as.seq->form < SL_TPL_GENERATOR));
    return SL_OK;
}

static sl_status is_escaped(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    (void)r;
    (void)call;
    *out = sl_tpl_bool(false); /* nothing is: autoescape is off */
    return SL_OK;
}

/* value % by == rest */
static sl_status remainder_is(sl_tpl_render *r, sl_tpl_value v, sl_tpl_value by, int64_t rest,
                              sl_tpl_value *out)
{
    bool equal;

    SL_TPL_TRY(sl_tpl_arith(r, SL_TPL_OP_MOD, v, by, out));
    SL_TPL_TRY(sl_tpl_equal(r, *out, sl_tpl_int(rest), &equal));
    *out = sl_tpl_bool(equal);
    return SL_OK;
}

static sl_status is_odd(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    return remainder_is(r, call->self, sl_tpl_int(2), 1, out);
}

static sl_status is_even(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    return remainder_is(r, call->self, sl_tpl_int(2), 0, out);
}

static sl_status is_divisible(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    return remainder_is(r, call->self, call->arg[0], 0, out);
}

static sl_status is_sameas(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    (void)r;
    *out = sl_tpl_bool(sl_tpl_same(call->self, call->arg[0]));
    return SL_OK;
}

/* Has the text a letter with case, and none of the other case?  detail: upper. */
static sl_status is_case(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    const bool upper = call->builtin->detail != 0;
    bool cased = false, other = false;
    const sl_tpl_str *s;

    SL_TPL_TRY(sl_tpl_to_str(r, call->self, &s));
    SL_TPL_TRY(sl_tpl_step_bytes(r, s->len));
    for (size_t i = 0; i < s->len;) {
        uint32_t code;

        i += sl_utf8_next(s->data + i, s->len - i, &code);
        cased |= upper ? sl_tpl_lower(code) != code : sl_tpl_upper(code) != code;
        other |= upper ? sl_tpl_upper(code) != code : sl_tpl_lower(code) != code;
    }
    *out = sl_tpl_bool(cased && !other);
    return SL_OK;
}

static sl_status is_compared(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    const sl_tpl_op op = (sl_tpl_op)call->builtin->detail;
    bool holds;

    SL_TPL_TRY(sl_tpl_compare(r, op, call->self, call->arg[0], &holds));
    *out = sl_tpl_bool(holds);
    return SL_OK;
}

static sl_status is_filter(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    (void)r;
    *out = sl_tpl_bool(call->self.kind == SL_TPL_STRING &&
                       sl_tpl_find_filter(call->self.as.str->data, call->self.as.str->len) != NULL);
    return SL_OK;
}

static sl_status is_test(sl_tpl_render *r, const sl_tpl_call *call, sl_tpl_value *out)
{
    (void)r;
    *out = sl_tpl_bool(
        call->self.kind == SL_TPL_STRING &&
        sl_tpl_find_builtin(sl_tpl_tests, call->self.as.str->data, call->self.as.str->len) != NULL);
    return SL_OK;
}

enum {
    UNDEFINED = 1 << SL_TPL_UNDEFINED,
    NUMBERS = 1 << SL_TPL_BOOL | 1 << SL_TPL_INT | 1 << SL_TPL_FLOAT,
    CALLABLE = 1 << SL_TPL_MACRO | 1 << SL_TPL_METHOD | 1 << SL_TPL_FUNCTION | 1 << SL_TPL_LOOP |
               UNDEFINED /* to Python it has the method, which raises */
};

const sl_tpl_builtin sl_tpl_tests[] = {
    {"defined", is_of_kind, "", 0, ~(uint32_t)UNDEFINED},
    {"undefined", is_of_kind, "", 0, UNDEFINED},
    {"none", is_of_kind, "", 0, 1 << SL_TPL_NONE},
    {"boolean", is_of_kind, "", 0, 1 << SL_TPL_BOOL},
    {"integer", is_of_kind, "", 0, 1 << SL_TPL_INT},
    {"float", is_of_kind, "", 0, 1 << SL_TPL_FLOAT},
    {"number", is_of_kind, "", 0, NUMBERS},
    {"string", is_of_kind, "", 0, 1 << SL_TPL_STRING},
    {"mapping", is_of_kind, "", 0, 1 << SL_TPL_DICT},
    {"callable", is_of_kind, "", 0, CALLABLE},
    {"true", is_true, "", 0, 0},
    {"false", is_false, "", 0, 0},
    {"iterable", is_iterable, "", 0, 0},
    {"sequence", is_sequence, "", 0, 0},
    {"escaped", is_escaped, "", 0, 0},
    {"odd", is_odd, "", 0, 0},
    {"even", is_even, "", 0, 0},
    {"divisibleby", is_divisible, "num", 1, 0},
    {"sameas", is_sameas, "other", 1, 0},
    {"upper", is_case, "", 0, 1},
    {"lower", is_case, "", 0, 0},
    {"filter", is_filter, "", 0, 0},
    {"test", is_test, "", 0, 0},
    {"in", is_compared, "seq", 1, SL_TPL_OP_IN},
    {"eq", is_compared, "other", 1, SL_TPL_OP_EQ},
    {"equalto", is_compared, "other", 1, SL_TPL_OP_EQ},
    {"==", is_compared, "other", 1, SL_TPL_OP_EQ},
    {"ne", is_compared, "other", 1, SL_TPL_OP_NE},
    {"!=", is_compared, "other", 1, SL_TPL_OP_NE},
    {"lt", is_compared, "other", 1, SL_TPL_OP_LT},
    {"lessthan", is_compared, "other", 1, SL_TPL_OP_LT},
    {"<", is_compared, "other", 1, SL_TPL_OP_LT},
    {"le", is_compared, "other", 1, SL_TPL_OP_LE},
    {"<=", is_compared, "other", 1, SL_TPL_OP_LE},
    {"gt", is_compared, "other", 1, SL_TPL_OP_GT},
    {"greaterthan", is_compared, "other", 1, SL_TPL_OP_GT},
    {">", is_compared, "other", 1, SL_TPL_OP_GT},
    {"ge", is_compared, "other", 1, SL_TPL_OP_GE},
    {">=", is_compared, "other", 1, SL_TPL_OP_GE},
    {NULL, NULL, NULL, 0, 0},
};
