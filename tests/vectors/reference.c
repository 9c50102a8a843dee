/* tests/vectors/reference.c - see reference.h */
#include "tests/vectors/reference.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEADER_BYTES = 20 };

static size_t row_bytes(const sl_reference *r)
{
    return 8 + 2 * (((size_t)r->vocab + 1) & ~(size_t)1);
}

uint32_t sl_reference_first(const sl_reference *r)
{
    return r->n_ctx / 2;
}

uint32_t sl_reference_count(const sl_reference *r)
{
    return r->n_ctx - 1 - r->n_ctx / 2;
}

static sl_status read_header(sl_reference *r, sl_err *err)
{
    int32_t number[3];
    size_t want;

    if (r->bytes < HEADER_BYTES || memcmp(r->map, "_logits_", 8) != 0)
        return sl_fail(err, SL_EFORMAT, "no file of log-probabilities");
    memcpy(number, r->map + 8, sizeof(number));
    for (int i = 0; i < 3; i++) {
        if (number[i] < 1 || number[i] > 1 << 24)
            return sl_fail(err, SL_EFORMAT, "a header with the number %d", number[i]);
    }
    r->n_ctx = (uint32_t)number[0];
    r->vocab = (uint32_t)number[1];
    r->chunks = (uint32_t)number[2];
    r->token = (const int32_t *)(const void *)(r->map + HEADER_BYTES);
    want = HEADER_BYTES + (size_t)r->chunks * r->n_ctx * 4 +
           (size_t)r->chunks * sl_reference_count(r) * row_bytes(r);
    if (r->bytes != want)
        return sl_fail(err, SL_EFORMAT, "%zu bytes, %zu by the header", r->bytes, want);
    return SL_OK;
}

sl_status sl_reference_open(const char *path, sl_reference *out, sl_err *err)
{
    sl_reference r = {0};
    struct stat st;
    sl_status status;
    void *map;
    int fd;

    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0) {
        status = sl_fail(err, SL_EIO, "open '%s': %s", path, strerror(errno));
        goto out;
    }
    r.bytes = (size_t)st.st_size;
    map = mmap(NULL, r.bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED) {
        status = sl_fail(err, SL_EIO, "map '%s': %s", path, strerror(errno));
        goto out;
    }
    r.map = map;
    status = read_header(&r, err);
    if (status == SL_OK) {
        *out = r;
        r.map = NULL;
    }
    sl_reference_close(&r);
out:
    if (fd >= 0)
        close(fd);
    return status;
}

void sl_reference_close(sl_reference *r)
{
    if (r->map != NULL)
        munmap((void *)(uintptr_t)r->map, r->bytes);
    r->map = NULL;
}

void sl_reference_row(const sl_reference *r, uint32_t chunk, uint32_t i, float *log_p)
{
    const uint8_t *row = r->map + HEADER_BYTES + (size_t)r->chunks * r->n_ctx * 4 +
                         ((size_t)chunk * sl_reference_count(r) + i) * row_bytes(r);
    float scale, min;

    memcpy(&scale, row, 4);
    memcpy(&min, row + 4, 4);
    for (uint32_t t = 0; t < r->vocab; t++) {
        uint16_t code;

        memcpy(&code, row + 8 + 2 * (size_t)t, 2);
        log_p[t] = code == 0 ? -INFINITY : scale * (float)code + min;
    }
}

double sl_reference_kl(const float *log_p, const float *logits, uint32_t vocab, int *same_top)
{
    double sum_p = 0.0, sum_q = 0.0, kl = 0.0;
    uint32_t top_p = 0, top_q = 0;

    for (uint32_t t = 1; t < vocab; t++) {
        if (log_p[t] > log_p[top_p])
            top_p = t;
        if (logits[t] > logits[top_q])
            top_q = t;
    }
    *same_top = log_p[top_q] == log_p[top_p]; /* a tie in the file is no disagreement */
    for (uint32_t t = 0; t < vocab; t++) {
        if (isinf(log_p[t]))
            continue;
        sum_p += exp((double)log_p[t]);
        sum_q += exp((double)logits[t] - (double)logits[top_q]);
    }
    for (uint32_t t = 0; t < vocab; t++) {
        if (isinf(log_p[t]))
            continue;
        kl += exp((double)log_p[t]) / sum_p *
              (((double)log_p[t] - log(sum_p)) -
               ((double)logits[t] - (double)logits[top_q] - log(sum_q)));
    }
    return kl;
}
