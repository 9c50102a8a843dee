/* tests/server/fake_engine.h - an engine that plays scripts: for tests of the front.
 *
 * It takes the engine's end of a mailbox on a thread of its own.  What it answers is written in the
 * prompt's text, between "[[" and "]]", with "|" between the parts:
 *
 *     say=TEXT    answer with this text, a token a byte (default: "hello world")
 *     hex=C3A9    the same as hexadecimal digits: any bytes
 *     repeat=N    the text N times
 *     first=US    microseconds before the first token
 *     gap=US      microseconds between tokens
 *     fail=K      fail with SL_EINTERNAL after K tokens; full=K: with SL_EFULL
 *     hang        nothing happens until the request is cancelled
 *
 * At the end of the text it stops by the model's end-of-answer token, unless ignore_eos: then the
 * text begins again until max_tokens.  The script of a prompt is the last one in it.
 *
 * Thread: create and destroy: main; its stats may be read by anyone. */
#ifndef SL_TESTS_SERVER_FAKE_ENGINE_H
#define SL_TESTS_SERVER_FAKE_ENGINE_H

#include "engine/engine.h"
#include "engine/mailbox.h"
#include "model/tokenizer.h"

typedef struct sl_fake_engine sl_fake_engine;

/* `seqs_max` requests run at once, the others wait.  Dies when memory is short. */
sl_fake_engine *sl_fake_engine_start(sl_mailbox *box, const sl_tokenizer *tokenizer,
                                     uint32_t seqs_max);
const sl_engine_stats *sl_fake_engine_stats(const sl_fake_engine *engine);
/* After sl_mailbox_shutdown: wait for its end and free it. */
void sl_fake_engine_destroy(sl_fake_engine *engine);

#endif
