/* protocol/http.c - see http.h.  The only file that knows llhttp.
 *
 * Each feed runs the guard first, up to the end of the bytes, of the header section or of the
 * message, and gives llhttp exactly the bytes that the guard passed.  llhttp splits the head into
 * fields and takes the framing off the body; it is set up anew for each request, so that nothing
 * of one request reaches into the next. */
#include "protocol/http.h"

#include <llhttp.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "protocol/http_internal.h"

enum {
    HEAD_KEEP_BYTES = 4 << 10, /* memory kept between requests */
    BODY_KEEP_BYTES = 64 << 10
};

static const char ambiguous[] = "the request's framing is ambiguous";

struct sl_http_parser {
    llhttp_t llhttp;
    sl_http_guard guard;
    sl_http_head head;
    sl_http_request request;
    sl_http_fault fault;
    uint64_t body_limit;
    bool begun, headers, complete; /* what llhttp has seen of this request */
};

/* --- what llhttp calls -------------------------------------------------------------------- */

static sl_http_parser *self(llhttp_t *llhttp)
{
    return llhttp->data;
}

static int on_message_begin(llhttp_t *llhttp)
{
    sl_http_parser *p = self(llhttp);

    /* A second message in what the guard holds to be one. */
    if (p->begun) {
        sl_http_fail(&p->fault, SL_EFORMAT, ambiguous);
        return -1;
    }
    p->begun = true;
    return 0;
}

static int on_text(llhttp_t *llhttp, const char *at, size_t n)
{
    sl_http_parser *p = self(llhttp);

    if (!p->headers)
        sl_buf_add(&p->head.text, at, n);
    return 0;
}

static int on_text_complete(llhttp_t *llhttp)
{
    sl_http_parser *p = self(llhttp);

    if (!p->headers)
        sl_buf_add_char(&p->head.text, '\0');
    return 0;
}

static int on_field(llhttp_t *llhttp, const char *at, size_t n)
{
    sl_http_parser *p = self(llhttp);
    sl_http_head *head = &p->head;

    if (p->headers || head->count >= SL_HTTP_HEADERS_MAX)
        return 0;
    if (head->field[head->count].name == 0)
        head->field[head->count].name = (uint32_t)head->text.len;
    sl_buf_add(&head->text, at, n);
    return 0;
}

static int on_field_complete(llhttp_t *llhttp)
{
    sl_http_parser *p = self(llhttp);
    sl_http_head *head = &p->head;

    if (p->headers || head->count >= SL_HTTP_HEADERS_MAX)
        return 0;
    sl_buf_add_char(&head->text, '\0');
    head->field[head->count].value = (uint32_t)head->text.len;
    return 0;
}

static int on_value_complete(llhttp_t *llhttp)
{
    sl_http_parser *p = self(llhttp);
    sl_http_head *head = &p->head;
    size_t begin;

    if (p->headers || head->count >= SL_HTTP_HEADERS_MAX || head->text.failed)
        return 0;
    /* Optional white space is not part of a value. */
    begin = head->field[head->count].value;
    while (head->text.len > begin && (head->text.data[head->text.len - 1] == ' ' ||
                                      head->text.data[head->text.len - 1] == '\t'))
        head->text.len--;
    while (begin < head->text.len &&
           (head->text.data[begin] == ' ' || head->text.data[begin] == '\t'))
        begin++;
    head->field[head->count++].value = (uint32_t)begin;
    sl_buf_add_char(&head->text, '\0');
    return 0;
}

static sl_http_method method_of(uint8_t method)
{
    switch (method) {
    case HTTP_GET:
        return SL_HTTP_GET;
    case HTTP_HEAD:
        return SL_HTTP_HEAD;
    case HTTP_POST:
        return SL_HTTP_POST;
    case HTTP_PUT:
        return SL_HTTP_PUT;
    case HTTP_DELETE:
        return SL_HTTP_DELETE;
    case HTTP_OPTIONS:
        return SL_HTTP_OPTIONS;
    default:
        return SL_HTTP_OTHER;
    }
}

static int on_headers_complete(llhttp_t *llhttp)
{
    sl_http_parser *p = self(llhttp);
    sl_http_request *request = &p->request;

    p->headers = true;
    llhttp->upgrade = 0; /* upgrades are ignored: the body follows as usual */
    request->method = method_of(llhttp->method);
    request->http10 = p->guard.minor == 0;
    if (p->head.text.failed)
        sl_http_fail(&p->fault, SL_ENOMEM, "out of memory");
    else if (llhttp->method == HTTP_CONNECT)
        sl_http_fail(&p->fault, SL_EUNSUPPORTED, "CONNECT is not served");
    else if (p->guard.state != SL_GUARD_DECIDE || p->head.count != p->guard.fields)
        sl_http_fail(&p->fault, SL_EFORMAT, ambiguous);
    else if (sl_http_rules_apply(&p->head, p->body_limit, request, &p->fault) == SL_OK &&
             (((llhttp->flags & F_CHUNKED) != 0) != request->chunked ||
              (!request->chunked && llhttp->content_length != request->content_length)))
        sl_http_fail(&p->fault, SL_EFORMAT, ambiguous);
    return p->fault.status == SL_OK ? 0 : -1;
}

static int on_body(llhttp_t *llhttp, const char *at, size_t n)
{
    sl_http_parser *p = self(llhttp);

    sl_buf_add(&p->request.body, at, n);
    return 0;
}

static int on_message_complete(llhttp_t *llhttp)
{
    self(llhttp)->complete = true;
    return 0;
}

static const llhttp_settings_t settings = {
    .on_message_begin = on_message_begin,
    .on_url = on_text,
    .on_url_complete = on_text_complete,
    .on_header_field = on_field,
    .on_header_field_complete = on_field_complete,
    .on_header_value = on_text,
    .on_header_value_complete = on_value_complete,
    .on_headers_complete = on_headers_complete,
    .on_body = on_body,
    .on_message_complete = on_message_complete,
};

/* --- the parser --------------------------------------------------------------------------- */

static void begin(sl_http_parser *p)
{
    const sl_buf body = p->request.body;

    llhttp_init(&p->llhttp, HTTP_REQUEST, &settings);
    p->llhttp.data = p;
    sl_http_guard_init(&p->guard, p->body_limit);
    memset(p->head.field, 0, sizeof(p->head.field));
    p->head.count = 0;
    p->request = (sl_http_request){.body = body};
    p->begun = p->headers = p->complete = false;
}

sl_status sl_http_parser_create(size_t body_limit_bytes, sl_http_parser **out)
{
    sl_http_parser *p = sl_alloc(1, sizeof(*p));

    if (p == NULL)
        return SL_ENOMEM;
    p->body_limit = body_limit_bytes;
    sl_buf_init(&p->head.text, SL_HTTP_HEAD_TEXT_MAX);
    sl_buf_init(&p->request.body, body_limit_bytes);
    begin(p);
    *out = p;
    return SL_OK;
}

void sl_http_parser_destroy(sl_http_parser *parser)
{
    if (parser == NULL)
        return;
    sl_buf_done(&parser->head.text);
    sl_buf_done(&parser->request.body);
    sl_free(parser);
}

/* Keep small memory for the next request, give back what a large one took. */
static void empty(sl_buf *buf, size_t keep_bytes)
{
    const size_t limit = buf->limit;

    if (buf->capacity <= keep_bytes) {
        sl_buf_reset(buf);
        return;
    }
    sl_buf_done(buf);
    sl_buf_init(buf, limit);
}

void sl_http_parser_next(sl_http_parser *parser)
{
    SL_ASSERT(parser->fault.status == SL_OK);
    empty(&parser->head.text, HEAD_KEEP_BYTES);
    empty(&parser->request.body, BODY_KEEP_BYTES);
    begin(parser);
}

bool sl_http_parser_idle(const sl_http_parser *parser)
{
    return parser->guard.state <= SL_GUARD_START_LF && parser->fault.status == SL_OK;
}

sl_http_request *sl_http_parser_request(sl_http_parser *parser)
{
    SL_ASSERT(parser->headers);
    return &parser->request;
}

const char *sl_http_parser_header(const sl_http_parser *parser, const char *name)
{
    SL_ASSERT(parser->headers);
    return sl_http_head_find(&parser->head, name);
}

/* One sentence for each kind of refusal of llhttp's. */
static const char *sentence_of(llhttp_errno_t code)
{
    switch (code) {
    case HPE_INVALID_METHOD:
        return "the method is not known";
    case HPE_INVALID_URL:
        return "the request target is not valid";
    case HPE_INVALID_VERSION:
    case HPE_INVALID_CONSTANT:
        return "the request line must end in HTTP/1.1 or HTTP/1.0";
    case HPE_INVALID_HEADER_TOKEN:
    case HPE_UNEXPECTED_SPACE:
        return "a header is not valid";
    case HPE_INVALID_CONTENT_LENGTH:
    case HPE_UNEXPECTED_CONTENT_LENGTH:
        return "Content-Length is not valid here";
    case HPE_INVALID_TRANSFER_ENCODING:
        return "Transfer-Encoding is not valid here";
    case HPE_INVALID_CHUNK_SIZE:
        return "a chunk's size is not valid";
    default:
        return "the request is malformed";
    }
}

/* Give llhttp what the guard passed. */
static sl_status follow(sl_http_parser *p, const char *data, size_t n)
{
    const llhttp_errno_t code = n > 0 ? llhttp_execute(&p->llhttp, data, n) : HPE_OK;

    if (p->fault.status != SL_OK)
        return p->fault.status;
    if (code != HPE_OK)
        return sl_http_fail(&p->fault, SL_EFORMAT, sentence_of(code));
    if (p->head.text.failed || p->request.body.failed)
        return sl_http_fail(&p->fault, SL_ENOMEM, "out of memory");
    return SL_OK;
}

/* Where the guard stands, and whether llhttp stands there too. */
static sl_http_event compare(sl_http_parser *p)
{
    const bool done = p->guard.state == SL_GUARD_DONE;

    if (p->guard.state == SL_GUARD_DECIDE) {
        if (p->headers) {
            sl_http_guard_body(&p->guard, p->request.chunked, p->request.content_length);
            return SL_HTTP_HEADERS;
        }
    } else if (p->complete == done && (!done || p->request.body.len == p->guard.body_bytes)) {
        return done ? SL_HTTP_COMPLETE : SL_HTTP_NEED_MORE;
    }
    sl_http_fail(&p->fault, SL_EFORMAT, ambiguous);
    return SL_HTTP_ERROR;
}

sl_http_event sl_http_parser_feed(sl_http_parser *parser, const char *data, size_t n, size_t *used,
                                  sl_err *err)
{
    sl_http_fault guard_fault = {0};
    sl_http_event event = SL_HTTP_ERROR;

    *used = 0;
    if (parser->fault.status == SL_OK) {
        const sl_status status = sl_http_guard_run(&parser->guard, data, n, used, &guard_fault);

        /* llhttp's complaint is about an earlier byte than the guard's. */
        if (follow(parser, data, *used) == SL_OK) {
            if (status != SL_OK)
                parser->fault = guard_fault;
            else
                event = compare(parser);
        }
    }
    if (event == SL_HTTP_ERROR)
        (void)sl_fail(err, parser->fault.status, "%s", parser->fault.text);
    return event;
}
