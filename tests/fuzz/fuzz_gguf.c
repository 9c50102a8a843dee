/* tests/fuzz/fuzz_gguf.c - any bytes as a model file.
 *
 * Oracle: no crash and no read outside the input; what opens has all regions inside the file, and
 * the model's configuration either reads or names its fault. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "model/gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    sl_err err = {0};
    sl_gguf *g = NULL;

    if (sl_gguf_open_memory(data, size, &g, &err) != SL_OK) {
        SL_ASSERT(err.text[0] != '\0');
        return 0;
    }
    for (uint32_t i = 0; i < sl_gguf_tensor_count(g); i++) {
        const sl_gguf_tensor *t = sl_gguf_tensor_at(g, i);

        if (t->data == NULL)
            continue;
        SL_ASSERT(t->data >= data && t->bytes <= size);
        SL_ASSERT(t->data + t->bytes <= data + size);
    }
    for (uint32_t i = 0; i < sl_gguf_kv_count(g); i++) {
        char text[300];

        sl_gguf_kv_text(g, i, text, sizeof(text));
        SL_ASSERT(memchr(text, '\0', sizeof(text)) != NULL);
    }
    sl_gguf_close(g);
    return 0;
}
