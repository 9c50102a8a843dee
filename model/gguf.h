/* model/gguf.h - read a GGUF v3 file: its metadata and where its tensors lie.
 *
 * The file is untrusted.  Everything is checked before it is used: counts and lengths against the
 * bytes that are left, sizes with overflow checks, every tensor inside the data section and
 * overlapping no other, alignment a power of two, keys and tensor names unique.  Any violation is
 * SL_EFORMAT with the offset and the name of the thing at fault.  Limits: gguf.c's table.
 *
 * What it is not: it knows no architecture and no tokenizer; those read metadata through here.
 *
 * The file is mapped read-only (or read into memory when it cannot be mapped).  Strings are
 * borrowed from it: length-counted, not NUL-terminated, valid until close.
 *
 * Thread: any, read-only after open. */
#ifndef SL_MODEL_GGUF_H
#define SL_MODEL_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "quant/dtype.h"

typedef struct sl_gguf sl_gguf;

enum { SL_GGUF_DIMS_MAX = 4 };

typedef struct sl_str {
    const char *data; /* not NUL-terminated */
    size_t len;
} sl_str;

typedef struct sl_gguf_tensor {
    sl_str name;
    uint32_t type_id; /* as in the file */
    sl_dtype dtype;   /* valid if `supported` */
    bool supported;   /* we know the type */
    uint32_t dim_count;
    uint64_t dim[SL_GGUF_DIMS_MAX]; /* fastest first: dim[0] = columns */
    const uint8_t *data;            /* `bytes` bytes, borrowed; NULL if not supported */
    size_t bytes;
    uint64_t offset; /* in the file */
} sl_gguf_tensor;

typedef enum sl_gguf_type {
    SL_GGUF_U8,
    SL_GGUF_I8,
    SL_GGUF_U16,
    SL_GGUF_I16,
    SL_GGUF_U32,
    SL_GGUF_I32,
    SL_GGUF_F32,
    SL_GGUF_BOOL,
    SL_GGUF_STRING,
    SL_GGUF_ARRAY,
    SL_GGUF_U64,
    SL_GGUF_I64,
    SL_GGUF_F64,
    SL_GGUF_TYPE_COUNT
} sl_gguf_type;

/* A metadata entry, for walking (inspect).  For an array, item_type and count describe it. */
typedef struct sl_gguf_kv {
    sl_str key;
    sl_gguf_type type;
    sl_gguf_type item_type;
    uint64_t count; /* 1 for a scalar */
} sl_gguf_kv;

/* Map and check a file.  Errors: SL_EIO (system), SL_EFORMAT (content), SL_ENOMEM. */
SL_MUST_CHECK sl_status sl_gguf_open(const char *path, sl_gguf **out, sl_err *err);
/* The same for bytes in memory (borrowed until close): tests and fuzzing. */
SL_MUST_CHECK sl_status sl_gguf_open_memory(const void *data, size_t len, sl_gguf **out,
                                            sl_err *err);
void sl_gguf_close(sl_gguf *g);

size_t sl_gguf_file_bytes(const sl_gguf *g);
uint32_t sl_gguf_kv_count(const sl_gguf *g);
sl_gguf_kv sl_gguf_kv_at(const sl_gguf *g, uint32_t index);
uint32_t sl_gguf_tensor_count(const sl_gguf *g);
const sl_gguf_tensor *sl_gguf_tensor_at(const sl_gguf *g, uint32_t index);
/* By name, or NULL. */
const sl_gguf_tensor *sl_gguf_find_tensor(const sl_gguf *g, const char *name);

bool sl_gguf_has(const sl_gguf *g, const char *key);

/* Typed getters.  A missing key is SL_ENOTFOUND, a value of another kind SL_EFORMAT; the sentence
 * names the key.  Integers of any width and sign are accepted if the value fits; _f32 accepts
 * F32 and F64 and integers; _bool accepts BOOL only. */
SL_MUST_CHECK sl_status sl_gguf_get_u32(const sl_gguf *g, const char *key, uint32_t *out,
                                        sl_err *err);
SL_MUST_CHECK sl_status sl_gguf_get_f32(const sl_gguf *g, const char *key, float *out, sl_err *err);
SL_MUST_CHECK sl_status sl_gguf_get_bool(const sl_gguf *g, const char *key, bool *out, sl_err *err);
SL_MUST_CHECK sl_status sl_gguf_get_str(const sl_gguf *g, const char *key, sl_str *out,
                                        sl_err *err);

/* Arrays: the item count; then items by index (a bounds violation asserts: check the count).
 * Strings are found in O(1) (an index is built at open for string arrays). */
SL_MUST_CHECK sl_status sl_gguf_get_array(const sl_gguf *g, const char *key,
                                          sl_gguf_type *item_type, uint64_t *count, sl_err *err);
sl_str sl_gguf_array_str(const sl_gguf *g, const char *key, uint64_t index);
float sl_gguf_array_f32(const sl_gguf *g, const char *key, uint64_t index);
int64_t sl_gguf_array_int(const sl_gguf *g, const char *key, uint64_t index);

/* Print a scalar (or the first items of an array) as text, for inspect; at most n bytes with NUL.
 */
void sl_gguf_kv_text(const sl_gguf *g, uint32_t index, char *text, size_t n);

#endif
