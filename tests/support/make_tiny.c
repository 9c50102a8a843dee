/* tests/support/make_tiny.c - write a tiny random model to a file, for the end-to-end suites.
 *
 * usage: sluice_tiny_model ARCH FILE [DTYPE [CONTEXT]]     (e.g. llama tiny.gguf Q4_1 2048) */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/tiny_gguf.h"

int main(int argc, char **argv)
{
    sl_tiny_options options;
    sl_buf bytes;
    FILE *f;

    if (argc < 3 || argc > 5) {
        fprintf(stderr, "usage: sluice_tiny_model ARCH FILE [DTYPE [CONTEXT]]\n");
        return 2;
    }
    options = sl_tiny_defaults(argv[1]);
    if (argc > 3) {
        int d = 0;

        while (d < SL_DTYPE_COUNT && strcmp(sl_dtype_name((sl_dtype)d), argv[3]) != 0)
            d++;
        if (d == SL_DTYPE_COUNT) {
            fprintf(stderr, "sluice_tiny_model: no dtype '%s'\n", argv[3]);
            return 2;
        }
        options.dtype = (sl_dtype)d;
        if (sl_dtype_block_elems(options.dtype) == 256) {
            options.hidden = 256;
            options.ff = 512;
            options.head_dim = 64;
        }
    }
    if (argc > 4)
        options.context = (uint32_t)strtoul(argv[4], NULL, 10);
    sl_buf_init(&bytes, 1u << 30);
    sl_tiny_gguf(&options, &bytes);
    f = fopen(argv[2], "wb");
    if (f == NULL || fwrite(bytes.data, 1, bytes.len, f) != bytes.len || fclose(f) != 0) {
        fprintf(stderr, "sluice_tiny_model: cannot write '%s'\n", argv[2]);
        return 1;
    }
    sl_buf_done(&bytes);
    return 0;
}
