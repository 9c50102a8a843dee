/* tests/fuzz/fuzz_http.c - goal: no input crashes the HTTP parser, and splits never matter.
 *
 * Method: the first byte of the input chooses where to cut (a seed); the rest is run whole, byte by
 * byte and in pieces; all three must say the same.  What is accepted must keep the promises of
 * http.h. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/protocol/http_digest.h"

enum { BODY_LIMIT = 4096, CUTS_MAX = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must_equal(const http_outcome *a, const http_outcome *b)
{
    if (a->text.len == b->text.len && memcmp(a->text.data, b->text.data, a->text.len) == 0)
        return;
    fprintf(stderr, "splits matter:\n%.*s---\n%.*s", (int)a->text.len, a->text.data,
            (int)b->text.len, b->text.data);
    abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t cut[CUTS_MAX], cuts = 0;
    http_outcome whole, bytes, pieces;
    const char *text;
    size_t n;

    if (size < 1 || size > 1 << 16)
        return 0;
    text = (const char *)data + 1;
    n = size - 1;
    for (size_t at = data[0] % 13; at <= n && cuts < CUTS_MAX; at += 1 + (data[0] * 7 + at) % 29)
        cut[cuts++] = at;
    whole = http_run(text, n, BODY_LIMIT, NULL, 0);
    bytes = http_run_steps(text, n, BODY_LIMIT, 1);
    pieces = http_run(text, n, BODY_LIMIT, cut, cuts);
    must_equal(&whole, &bytes);
    must_equal(&whole, &pieces);
    if (whole.body_bytes > n || whole.requests > whole.heads || whole.heads > whole.requests + 1)
        abort();
    http_outcome_done(&whole);
    http_outcome_done(&bytes);
    http_outcome_done(&pieces);
    return 0;
}
