/* protocol/openai.h - the OpenAI REST API's JSON: requests in, answers out; no sockets, no tokens.
 *
 * Reading.  One typed table says for every field of a request: its type, range, default, and
 * whether it is honoured, ignored (named in a reply header), or refused (400 that names it).
 * Nothing else looks into the JSON.  JSON is strict (UTF-8, no duplicate keys, objects only, no NUL
 * in strings), at most SL_JSON_DEPTH_MAX deep, and parsing takes at most SL_JSON_MEMORY_MAX bytes.
 * Null means absent, for every field.  An integer written as a real (1.0) is not an integer.
 *
 * Writing.  Answers, chunks, errors, model lists: exact shapes, always valid JSON and UTF-8.
 *
 * Thread: any (loop or pool); no shared state. */
#ifndef SL_PROTOCOL_OPENAI_H
#define SL_PROTOCOL_OPENAI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/status.h"

enum {
    SL_JSON_DEPTH_MAX = 64,
    SL_JSON_MEMORY_MAX = 64 << 20,
    SL_API_MESSAGES_MAX = 2048,
    SL_API_STOP_MAX = 16,        /* stop strings */
    SL_API_STOP_BYTES_MAX = 256, /* of one */
    SL_API_STOP_IDS_MAX = 32,
    SL_API_LOGIT_BIAS_MAX = 1024,
    SL_API_N_MAX = 8,
    SL_API_TOP_LOGPROBS_MAX = 20,
    SL_API_IGNORED_MAX = 32,
    SL_API_PROMPTS_MAX = 64 /* prompts of one completions request */
};

typedef enum sl_api_kind { SL_API_CHAT, SL_API_COMPLETION } sl_api_kind;

typedef struct sl_api_bias {
    int64_t token;
    double bias;
} sl_api_bias;

/* A completions prompt: text, or ready token ids. */
typedef struct sl_api_prompt {
    const char *text; /* NULL: ids */
    size_t text_len;
    const uint32_t *id;
    size_t id_count;
} sl_api_prompt;

typedef struct sl_api_request {
    sl_api_kind kind;
    const char *model; /* as asked; "" if absent */

    /* chat: the messages as one compact JSON array, normalised (openai_messages.c): role developer
     * -> system; null or missing content of an assistant, tool or function -> "", left out beside
     * tool_calls; text parts joined by newlines; tool_calls [] dropped; arguments strings turned to
     * objects where they are JSON objects; function_call -> tool_calls.  Members in this order:
     * role, content, name, tool_calls, tool_call_id, reasoning_content; no others. */
    const char *messages_json;
    size_t messages_json_len;
    const char *template_kwargs_json; /* chat_template_kwargs: an object of scalars, its names not
                                         those of our variables; the client's text; or NULL */
    size_t template_kwargs_json_len;
    bool add_generation_prompt; /* default true; false with continue_final_message */
    bool continue_final_message;

    /* completions */
    sl_api_prompt prompt[SL_API_PROMPTS_MAX];
    size_t prompt_count;
    bool echo;

    /* both */
    int64_t max_tokens; /* 0 to 2^31 - 1; -1: not given (chat only: completions default to 16) */
    int64_t min_tokens;
    bool stream, include_usage, continuous_usage;
    uint32_t n;
    double temperature, top_p, min_p;
    int64_t top_k; /* 0: all (-1 is read as 0) */
    double repetition_penalty, presence_penalty, frequency_penalty;
    bool has_seed;
    uint64_t seed; /* of any int64 */
    bool logprobs; /* completions: the integer `logprobs` was given */
    uint32_t top_logprobs;
    const char *stop[SL_API_STOP_MAX];
    size_t stop_len[SL_API_STOP_MAX];
    size_t stop_count;
    uint32_t stop_id[SL_API_STOP_IDS_MAX];
    size_t stop_id_count;
    bool include_stop_str; /* include_stop_str_in_output */
    bool ignore_eos;
    bool skip_special_tokens; /* default true */
    bool return_token_ids;
    sl_api_bias bias[SL_API_LOGIT_BIAS_MAX];
    size_t bias_count;
    const char *cache_salt; /* or NULL */
    const char *user;       /* or NULL: accepted, unused */

    /* Fields accepted and ignored, for the reply header: only letters, digits, '_', '.' and '-',
     * at most 64 bytes each; further ones are not listed. */
    const char *ignored[SL_API_IGNORED_MAX];
    size_t ignored_count;
} sl_api_request;

/* Read a request body.  Strings live in `arena`, which must allow about the body's length twice and
 * 32 KiB more.  `strict`: unknown and ignored fields are errors.
 * Errors: SL_EFORMAT (not JSON, not an object, too deep, takes too much memory; code
 * "invalid_json"), SL_EINVAL (a field's type or range, missing messages or prompt; err->param names
 * it, as "messages[2].content"), SL_ETOOBIG (the arena's limit), SL_ENOMEM.  A field that is not
 * served yet is SL_EINVAL with code "unsupported_parameter".  err->param may point into `arena`:
 * write the error before the arena is reset. */
SL_MUST_CHECK sl_status sl_api_read(sl_api_kind kind, const char *body, size_t len, bool strict,
                                    sl_arena *arena, sl_api_request *out, sl_err *err);

/* The table as JSON: {"object":"list","data":[{"name","requests":["chat","completion"],"policy":
 * "honoured"|"ignored"|"refused","type", ranges and default in JSON Schema's words}]}. */
void sl_api_write_policy(sl_buf *out);

/* /tokenize: {"prompt": text} or {"messages": [...]}, with add_special_tokens (default true),
 * return_token_strs; /detokenize: {"tokens": [ids]}. */
typedef struct sl_api_tokenize {
    const char *model;
    const char *prompt; /* NULL: messages */
    size_t prompt_len;
    const char *messages_json;
    size_t messages_json_len;
    bool add_special_tokens;
    bool add_generation_prompt;
    bool return_token_strs;
    const uint32_t *token; /* detokenize; may be empty */
    size_t token_count;
} sl_api_tokenize;
/* Errors: as sl_api_read. */
SL_MUST_CHECK sl_status sl_api_read_tokenize(const char *body, size_t len, bool detokenize,
                                             sl_arena *arena, sl_api_tokenize *out, sl_err *err);

/* --- answers ----------------------------------------------------------------------------- */

/* One alternative or chosen token with its logprob; bytes are raw (need not be UTF-8).  A logprob
 * that is not finite is written as -9999.0; NaN means none (the first token of an echoed prompt),
 * which completions write as null. */
typedef struct sl_api_logprob {
    const char *bytes;
    size_t len;
    float logprob;
    uint32_t token;
} sl_api_logprob;

/* One generated token with its alternatives. */
typedef struct sl_api_token {
    sl_api_logprob chosen;
    const sl_api_logprob *top;
    size_t top_count;
    size_t text_offset; /* completions: of its text in the answer, in characters */
} sl_api_token;

typedef struct sl_api_usage {
    uint64_t prompt_tokens;
    uint64_t completion_tokens;
    uint64_t cached_tokens;
} sl_api_usage;

/* What is constant over one answer. */
typedef struct sl_api_answer {
    sl_api_kind kind;
    const char *id; /* "chatcmpl-..." or "cmpl-..." */
    int64_t created;
    const char *model;
    const char *fingerprint; /* system_fingerprint; NULL: left out */
} sl_api_answer;

/* One choice, whole (not streamed). */
typedef struct sl_api_choice {
    uint32_t index;
    const char *text; /* UTF-8 (anything invalid is replaced) */
    size_t text_len;
    const char *finish_reason;
    const sl_api_token *token; /* logprobs: NULL if not asked for */
    size_t token_count;
    const uint32_t *token_id; /* return_token_ids: NULL if not asked for */
    size_t token_id_count;
    int64_t stop_token;      /* vLLM's stop_reason: token id, or -1 */
    const char *stop_string; /* or the string, or NULL; without either, stop_reason is left out */
} sl_api_choice;

void sl_api_write_answer(sl_buf *out, const sl_api_answer *answer, const sl_api_choice *choice,
                         size_t choice_count, const sl_api_usage *usage);

/* Streaming: each appends one complete SSE event, "data: {...}\n\n".  With `running`, the chunk
 * carries that usage; else with usage_null it carries "usage":null. */
/* The first chunk of a choice: delta {"role":"assistant","content":""} (chat only). */
void sl_api_write_role_chunk(sl_buf *out, const sl_api_answer *answer, uint32_t index,
                             bool usage_null);
/* Text; finish_reason null. */
void sl_api_write_text_chunk(sl_buf *out, const sl_api_answer *answer, const sl_api_choice *part,
                             bool usage_null, const sl_api_usage *running);
/* delta {} with the finish reason. */
void sl_api_write_finish_chunk(sl_buf *out, const sl_api_answer *answer, const sl_api_choice *part,
                               bool usage_null, const sl_api_usage *running);
/* choices [] with usage. */
void sl_api_write_usage_chunk(sl_buf *out, const sl_api_answer *answer, const sl_api_usage *usage);
/* An error in mid-stream: data: {"error":{...}}. */
void sl_api_write_error_event(sl_buf *out, const sl_err *err);
void sl_api_write_done_event(sl_buf *out); /* data: [DONE] */
void sl_api_write_ping(sl_buf *out);       /* ": ping" comment */

/* {"error":{"message","type","param","code"}}: all four keys, always.  The text of 5xx errors is
 * the status table's, never err->text. */
void sl_api_write_error(sl_buf *out, const sl_err *err);

typedef struct sl_api_model {
    const char *id;
    int64_t created;
    uint32_t max_model_len;
    const char *root;
} sl_api_model;
void sl_api_write_models(sl_buf *out, const sl_api_model *model, size_t count);
void sl_api_write_model(sl_buf *out, const sl_api_model *model);

/* {"count":n,"max_model_len":m,"tokens":[...],"token_strs":[...]|null}; {"prompt":"..."}. */
void sl_api_write_tokenize(sl_buf *out, const uint32_t *id, const sl_api_logprob *str, size_t count,
                           uint32_t max_model_len);
void sl_api_write_detokenize(sl_buf *out, const char *text, size_t len);

#endif
