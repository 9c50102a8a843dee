/* model/gguf.c - see gguf.h.
 *
 * Layout: "GGUF", u32 version 3, u64 tensors, u64 entries; the metadata entries; the tensor infos;
 * padding to the alignment; the data section.  Everything little-endian.
 *
 * Memory taken is proportional to entries that were really read from the file, never to counts that
 * it claims: a count is first compared with the bytes that its items take at least. */
#include "model/gguf.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/buf.h"
#include "base/rng.h"

enum {
    KV_MAX = 1 << 16,          /* metadata entries */
    TENSORS_MAX = 1 << 16,     /* tensors */
    KEY_BYTES_MAX = 65535,     /* the specification's own limit */
    NAME_BYTES_MAX = 256,      /* a tensor's name; the specification says 64 */
    ARRAY_ITEMS_MAX = 1 << 24, /* items of one metadata array */
    ALIGNMENT_MAX = 1 << 20,
    NAME_SHOWN = 96 /* bytes of a name that go into an error sentence */
};

typedef struct entry {
    sl_gguf_kv kv;
    size_t value; /* offset of the scalar, of a string's bytes, or of the first item */
    size_t len;   /* a string's length */
    size_t *item; /* string array: offset of each item's length field; owned */
} entry;

struct sl_gguf {
    const uint8_t *data;
    size_t len;
    void *map;   /* to unmap; NULL if borrowed */
    void *owned; /* to free: a file that could not be mapped */
    entry *kv;
    uint32_t kv_count;
    sl_gguf_tensor *tensor;
    uint32_t tensor_count;
    size_t data_start;
    uint32_t *kv_hash; /* open addressing, index + 1; power of two */
    uint32_t *tensor_hash;
    uint32_t kv_slots, tensor_slots;
};

static const struct {
    const char *name;
    uint8_t bytes; /* 0: string or array */
} type_row[SL_GGUF_TYPE_COUNT] = {
    {"u8", 1},   {"i8", 1},     {"u16", 2},   {"i16", 2}, {"u32", 4}, {"i32", 4}, {"f32", 4},
    {"bool", 1}, {"string", 0}, {"array", 0}, {"u64", 8}, {"i64", 8}, {"f64", 8},
};

static int shown(size_t len)
{
    return (int)(len < NAME_SHOWN ? len : NAME_SHOWN);
}

/* --- a small hash table over names ------------------------------------------------------- */

static uint64_t hash_bytes(const char *data, size_t len)
{
    uint64_t h = 0xCBF29CE484222325u; /* FNV-1a, then mixed */

    for (size_t i = 0; i < len; i++)
        h = (h ^ (uint8_t)data[i]) * 0x100000001B3u;
    return sl_mix64(h);
}

static uint32_t *hash_create(uint32_t count, uint32_t *slots)
{
    uint32_t n = 16;

    while (n < count * 2)
        n *= 2;
    *slots = n;
    return sl_alloc(n, sizeof(uint32_t));
}

static sl_str kv_name(const sl_gguf *g, uint32_t i)
{
    return g->kv[i].kv.key;
}

static sl_str tensor_name(const sl_gguf *g, uint32_t i)
{
    return g->tensor[i].name;
}

/* Where `name` is, or the empty place for it. */
static uint32_t hash_place(const sl_gguf *g, const uint32_t *table, uint32_t slots,
                           sl_str (*name_of)(const sl_gguf *, uint32_t), sl_str name)
{
    uint32_t at = (uint32_t)hash_bytes(name.data, name.len) & (slots - 1);

    while (table[at] != 0) {
        const sl_str other = name_of(g, table[at] - 1);

        if (other.len == name.len && memcmp(other.data, name.data, name.len) == 0)
            break;
        at = (at + 1) & (slots - 1);
    }
    return at;
}

static const entry *find_kv(const sl_gguf *g, const char *key)
{
    const sl_str name = {key, strlen(key)};
    const uint32_t i = g->kv_hash[hash_place(g, g->kv_hash, g->kv_slots, kv_name, name)];

    return i == 0 ? NULL : &g->kv[i - 1];
}

const sl_gguf_tensor *sl_gguf_find_tensor(const sl_gguf *g, const char *name)
{
    const sl_str want = {name, strlen(name)};
    const uint32_t i =
        g->tensor_hash[hash_place(g, g->tensor_hash, g->tensor_slots, tensor_name, want)];

    return i == 0 ? NULL : &g->tensor[i - 1];
}

/* --- reading the header ------------------------------------------------------------------ */

static sl_status short_file(const sl_reader *r, const char *what, sl_err *err)
{
    return sl_fail(err, SL_EFORMAT, "the file ends at byte %zu, inside %s", r->pos, what);
}

/* u64 length + bytes. */
static sl_status read_string(sl_reader *r, const char *what, size_t limit, sl_str *out, sl_err *err)
{
    const size_t at = r->pos;
    const uint8_t *bytes;
    uint64_t len;

    if (!sl_read_u64(r, &len))
        return short_file(r, what, err);
    if (len > limit)
        return sl_fail(err, SL_EFORMAT, "%s at byte %zu claims %" PRIu64 " bytes, at most %zu",
                       what, at, len, limit);
    if (!sl_read_bytes(r, (size_t)len, &bytes))
        return sl_fail(err, SL_EFORMAT,
                       "%s at byte %zu claims %" PRIu64 " bytes, but only %zu are left", what, at,
                       len, sl_reader_left(r));
    *out = (sl_str){(const char *)bytes, (size_t)len};
    return SL_OK;
}

static sl_status read_string_items(sl_reader *r, entry *e, sl_err *err)
{
    e->item = sl_alloc((size_t)e->kv.count, sizeof(*e->item));
    if (e->item == NULL)
        return sl_fail(err, SL_ENOMEM, "index of %" PRIu64 " strings", e->kv.count);
    for (uint64_t i = 0; i < e->kv.count; i++) {
        sl_str item;
        sl_status status;

        e->item[i] = r->pos;
        status = read_string(r, "a string of an array", sl_reader_left(r), &item, err);
        if (status != SL_OK)
            return status;
    }
    return SL_OK;
}

static sl_status read_array(sl_reader *r, entry *e, sl_err *err)
{
    const sl_str key = e->kv.key;
    uint32_t type;
    uint64_t count;
    size_t item_bytes, bytes;
    const uint8_t *skipped;

    if (!sl_read_u32(r, &type) || !sl_read_u64(r, &count))
        return short_file(r, "an array's head", err);
    if (type >= SL_GGUF_TYPE_COUNT || type == SL_GGUF_ARRAY)
        return sl_fail(err, SL_EFORMAT, "key '%.*s': arrays of type %u are not supported",
                       shown(key.len), key.data, type);
    item_bytes = type == SL_GGUF_STRING ? 8 : type_row[type].bytes;
    if (count > ARRAY_ITEMS_MAX || count > sl_reader_left(r) / item_bytes)
        return sl_fail(err, SL_EFORMAT,
                       "key '%.*s' claims an array of %" PRIu64 " items, more than fit",
                       shown(key.len), key.data, count);
    e->kv.item_type = (sl_gguf_type)type;
    e->kv.count = count;
    e->value = r->pos;
    if (type == SL_GGUF_STRING)
        return read_string_items(r, e, err);
    bytes = (size_t)count * item_bytes;
    if (!sl_read_bytes(r, bytes, &skipped))
        return short_file(r, "an array", err);
    return SL_OK;
}

static sl_status read_value(sl_reader *r, entry *e, sl_err *err)
{
    const sl_str key = e->kv.key;
    const uint8_t *bytes;
    sl_status status;
    sl_str text;

    e->kv.count = 1;
    e->kv.item_type = e->kv.type;
    switch (e->kv.type) {
    case SL_GGUF_STRING:
        status = read_string(r, "a string value", sl_reader_left(r), &text, err);
        if (status != SL_OK)
            return status;
        e->value = (size_t)((const uint8_t *)text.data - r->data);
        e->len = text.len;
        return SL_OK;
    case SL_GGUF_ARRAY:
        return read_array(r, e, err);
    default:
        e->value = r->pos;
        if (!sl_read_bytes(r, type_row[e->kv.type].bytes, &bytes))
            return sl_fail(err, SL_EFORMAT, "the file ends at byte %zu, inside key '%.*s'", r->pos,
                           shown(key.len), key.data);
        if (e->kv.type == SL_GGUF_BOOL && bytes[0] > 1)
            return sl_fail(err, SL_EFORMAT, "key '%.*s': %u is not a bool", shown(key.len),
                           key.data, bytes[0]);
        return SL_OK;
    }
}

static sl_status read_kv(sl_gguf *g, sl_reader *r, uint32_t index, sl_err *err)
{
    entry *e = &g->kv[index];
    uint32_t type, place;
    sl_status status;

    status = read_string(r, "a metadata key", KEY_BYTES_MAX, &e->kv.key, err);
    if (status != SL_OK)
        return status;
    if (!sl_read_u32(r, &type))
        return short_file(r, "a metadata type", err);
    if (type >= SL_GGUF_TYPE_COUNT)
        return sl_fail(err, SL_EFORMAT, "key '%.*s' has the unknown type %u", shown(e->kv.key.len),
                       e->kv.key.data, type);
    e->kv.type = (sl_gguf_type)type;
    place = hash_place(g, g->kv_hash, g->kv_slots, kv_name, e->kv.key);
    if (g->kv_hash[place] != 0)
        return sl_fail(err, SL_EFORMAT, "key '%.*s' stands twice in the file", shown(e->kv.key.len),
                       e->kv.key.data);
    g->kv_hash[place] = index + 1;
    return read_value(r, e, err);
}

/* Elements of a tensor by its dimensions; every dimension at least 1. */
static bool tensor_elements(const sl_gguf_tensor *t, uint64_t *out)
{
    uint64_t n = 1;

    for (uint32_t i = 0; i < t->dim_count; i++)
        if (t->dim[i] == 0 || __builtin_mul_overflow(n, t->dim[i], &n) || n > INT64_MAX)
            return false;
    *out = n;
    return true;
}

static sl_status read_tensor(sl_gguf *g, sl_reader *r, uint32_t index, sl_err *err)
{
    sl_gguf_tensor *t = &g->tensor[index];
    uint64_t elements;
    uint32_t place;
    size_t row_bytes;
    sl_status status;

    status = read_string(r, "a tensor's name", NAME_BYTES_MAX, &t->name, err);
    if (status != SL_OK)
        return status;
    if (!sl_read_u32(r, &t->dim_count))
        return short_file(r, "a tensor's entry", err);
    if (t->dim_count == 0 || t->dim_count > SL_GGUF_DIMS_MAX)
        return sl_fail(err, SL_EFORMAT, "tensor '%.*s' has %u dimensions, 1 to %d are possible",
                       shown(t->name.len), t->name.data, t->dim_count, SL_GGUF_DIMS_MAX);
    for (uint32_t i = 0; i < t->dim_count; i++)
        if (!sl_read_u64(r, &t->dim[i]))
            return short_file(r, "a tensor's entry", err);
    if (!sl_read_u32(r, &t->type_id) || !sl_read_u64(r, &t->offset))
        return short_file(r, "a tensor's entry", err);
    if (!tensor_elements(t, &elements))
        return sl_fail(err, SL_EFORMAT, "tensor '%.*s' has an impossible shape", shown(t->name.len),
                       t->name.data);

    place = hash_place(g, g->tensor_hash, g->tensor_slots, tensor_name, t->name);
    if (g->tensor_hash[place] != 0)
        return sl_fail(err, SL_EFORMAT, "tensor '%.*s' stands twice in the file",
                       shown(t->name.len), t->name.data);
    g->tensor_hash[place] = index + 1;

    t->supported = sl_dtype_from_gguf(t->type_id, &t->dtype);
    if (!t->supported)
        return SL_OK;
    if (sl_dtype_row_bytes(t->dtype, t->dim[0], &row_bytes) != SL_OK)
        return sl_fail(err, SL_EFORMAT,
                       "tensor '%.*s': rows of %" PRIu64 " elements are no multiple of a %s block",
                       shown(t->name.len), t->name.data, t->dim[0], sl_dtype_name(t->dtype));
    if (!sl_mul_size((size_t)(elements / t->dim[0]), row_bytes, &t->bytes))
        return sl_fail(err, SL_EFORMAT, "tensor '%.*s' is larger than memory", shown(t->name.len),
                       t->name.data);
    return SL_OK;
}

static int by_offset(const void *a, const void *b)
{
    const sl_gguf_tensor *const *x = a, *const *y = b;

    return (*x)->offset < (*y)->offset ? -1 : (*x)->offset > (*y)->offset;
}

/* Every tensor aligned, inside the data section, overlapping no other. */
static sl_status place_tensors(sl_gguf *g, uint64_t alignment, sl_err *err)
{
    const size_t room = g->len - g->data_start;
    const sl_gguf_tensor **order;
    sl_status status = SL_OK;
    uint64_t end = 0;

    order = sl_alloc(g->tensor_count, sizeof(*order));
    if (order == NULL)
        return sl_fail(err, SL_ENOMEM, "table of %u tensors", g->tensor_count);
    for (uint32_t i = 0; i < g->tensor_count; i++) {
        sl_gguf_tensor *t = &g->tensor[i];

        order[i] = t;
        if (t->offset % alignment != 0 || t->offset > room || t->bytes > room - t->offset) {
            status =
                sl_fail(err, SL_EFORMAT,
                        "tensor '%.*s' (%zu bytes at offset %" PRIu64
                        ") does not lie inside the %zu bytes of data, aligned to %" PRIu64,
                        shown(t->name.len), t->name.data, t->bytes, t->offset, room, alignment);
            goto out;
        }
        if (t->supported)
            t->data = g->data + g->data_start + t->offset;
        t->offset += g->data_start;
    }
    qsort(order, g->tensor_count, sizeof(*order), by_offset);
    for (uint32_t i = 0; i < g->tensor_count; i++) {
        if (order[i]->offset < end) {
            status = sl_fail(err, SL_EFORMAT, "tensor '%.*s' overlaps the one before it",
                             shown(order[i]->name.len), order[i]->name.data);
            goto out;
        }
        end = order[i]->offset + order[i]->bytes;
    }
out:
    sl_free(order);
    return status;
}

static sl_status read_counts(sl_gguf *g, sl_reader *r, sl_err *err)
{
    const uint8_t *magic;
    uint32_t version;
    uint64_t tensors, kvs;

    if (!sl_read_bytes(r, 4, &magic) || memcmp(magic, "GGUF", 4) != 0)
        return sl_fail(err, SL_EFORMAT, "this is no GGUF file: it does not begin with 'GGUF'");
    if (!sl_read_u32(r, &version) || !sl_read_u64(r, &tensors) || !sl_read_u64(r, &kvs))
        return short_file(r, "the header", err);
    if (version != 3 && version != 2) /* 2 has the same layout */
        return sl_fail(err, SL_EFORMAT, "GGUF version %u is not supported, 2 and 3 are", version);
    /* The least an entry takes: a length, a type and a byte; a name, a dimension, type, offset. */
    if (kvs > KV_MAX || kvs > sl_reader_left(r) / 13)
        return sl_fail(err, SL_EFORMAT, "the file claims %" PRIu64 " metadata entries, too many",
                       kvs);
    if (tensors > TENSORS_MAX || tensors > sl_reader_left(r) / 32)
        return sl_fail(err, SL_EFORMAT, "the file claims %" PRIu64 " tensors, too many", tensors);

    g->kv = sl_alloc((size_t)kvs, sizeof(*g->kv));
    g->tensor = sl_alloc((size_t)tensors, sizeof(*g->tensor));
    g->kv_hash = hash_create((uint32_t)kvs, &g->kv_slots);
    g->tensor_hash = hash_create((uint32_t)tensors, &g->tensor_slots);
    if (g->kv == NULL || g->tensor == NULL || g->kv_hash == NULL || g->tensor_hash == NULL)
        return sl_fail(err, SL_ENOMEM, "directory of %" PRIu64 " tensors", tensors);
    g->kv_count = (uint32_t)kvs;
    g->tensor_count = (uint32_t)tensors;
    return SL_OK;
}

static sl_status read_header(sl_gguf *g, sl_err *err)
{
    sl_reader r = {g->data, g->len, 0};
    uint32_t alignment = 32;
    sl_status status;

    status = read_counts(g, &r, err);
    for (uint32_t i = 0; status == SL_OK && i < g->kv_count; i++)
        status = read_kv(g, &r, i, err);
    for (uint32_t i = 0; status == SL_OK && i < g->tensor_count; i++)
        status = read_tensor(g, &r, i, err);
    if (status != SL_OK)
        return status;

    if (sl_gguf_has(g, "general.alignment")) {
        status = sl_gguf_get_u32(g, "general.alignment", &alignment, err);
        if (status != SL_OK)
            return status;
    }
    if (alignment == 0 || alignment > ALIGNMENT_MAX || (alignment & (alignment - 1)) != 0)
        return sl_fail(err, SL_EFORMAT, "general.alignment is %u, not a power of two up to %d",
                       alignment, ALIGNMENT_MAX);
    g->data_start = (r.pos + alignment - 1) / alignment * alignment;
    if (g->data_start > g->len) {
        if (g->tensor_count > 0)
            return short_file(&r, "the padding before the data", err);
        g->data_start = g->len;
    }
    return place_tensors(g, alignment, err);
}

/* --- open and close ---------------------------------------------------------------------- */

sl_status sl_gguf_open_memory(const void *data, size_t len, sl_gguf **out, sl_err *err)
{
    sl_gguf *g = sl_alloc(1, sizeof(*g));
    sl_status status;

    if (g == NULL)
        return sl_fail(err, SL_ENOMEM, "model file handle");
    g->data = data;
    g->len = len;
    status = read_header(g, err);
    if (status != SL_OK) {
        sl_gguf_close(g);
        return status;
    }
    *out = g;
    return SL_OK;
}

/* Read a file that cannot be mapped (a pipe, some network file systems). */
static void *read_whole(int fd, size_t len)
{
    uint8_t *data = malloc(len > 0 ? len : 1);
    size_t done = 0;

    while (data != NULL && done < len) {
        const ssize_t n = pread(fd, data + done, len - done, (off_t)done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            free(data);
            return NULL;
        }
        done += (size_t)n;
    }
    return data;
}

sl_status sl_gguf_open(const char *path, sl_gguf **out, sl_err *err)
{
    void *map = MAP_FAILED, *owned = NULL;
    sl_gguf *g = NULL;
    struct stat st;
    sl_status status;
    size_t len = 0;
    int fd;

    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return sl_fail(err, SL_EIO, "cannot open the model file '%.256s': %s", path,
                       strerror(errno));
    if (fstat(fd, &st) != 0) {
        status = sl_fail(err, SL_EIO, "cannot stat '%.256s': %s", path, strerror(errno));
        goto out;
    }
    if (!S_ISREG(st.st_mode)) {
        status = sl_fail(err, SL_EIO, "'%.256s' is not a regular file", path);
        goto out;
    }
    len = (size_t)st.st_size;
    if (len < 24) {
        status =
            sl_fail(err, SL_EFORMAT, "'%.256s' has %zu bytes, too few for a GGUF file", path, len);
        goto out;
    }
    map = mmap(NULL, len, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED) {
        owned = read_whole(fd, len);
        if (owned == NULL) {
            status = sl_fail(err, SL_EIO, "cannot read '%.256s': %s", path, strerror(errno));
            goto out;
        }
    }
    status = sl_gguf_open_memory(owned != NULL ? owned : map, len, &g, err);
    if (status != SL_OK)
        goto out;
    g->map = owned == NULL ? map : NULL;
    g->owned = owned;
    map = MAP_FAILED; /* the handle's from here on */
    owned = NULL;
    *out = g;
out:
    if (map != MAP_FAILED)
        munmap(map, len);
    free(owned);
    close(fd); /* the mapping outlives the descriptor */
    return status;
}

void sl_gguf_close(sl_gguf *g)
{
    if (g == NULL)
        return;
    for (uint32_t i = 0; g->kv != NULL && i < g->kv_count; i++)
        sl_free(g->kv[i].item);
    sl_free(g->kv);
    sl_free(g->tensor);
    sl_free(g->kv_hash);
    sl_free(g->tensor_hash);
    if (g->map != NULL)
        munmap(g->map, g->len);
    free(g->owned);
    sl_free(g);
}

/* --- access ------------------------------------------------------------------------------ */

size_t sl_gguf_file_bytes(const sl_gguf *g)
{
    return g->len;
}

uint32_t sl_gguf_kv_count(const sl_gguf *g)
{
    return g->kv_count;
}

sl_gguf_kv sl_gguf_kv_at(const sl_gguf *g, uint32_t index)
{
    SL_ASSERT(index < g->kv_count);
    return g->kv[index].kv;
}

uint32_t sl_gguf_tensor_count(const sl_gguf *g)
{
    return g->tensor_count;
}

const sl_gguf_tensor *sl_gguf_tensor_at(const sl_gguf *g, uint32_t index)
{
    SL_ASSERT(index < g->tensor_count);
    return &g->tensor[index];
}

bool sl_gguf_has(const sl_gguf *g, const char *key)
{
    return find_kv(g, key) != NULL;
}

/* A scalar of any kind as an integer and as a double. */
static bool load_scalar(const sl_gguf *g, sl_gguf_type type, size_t at, int64_t *integer,
                        double *real)
{
    sl_reader r = {g->data, g->len, at};
    const uint8_t *p;
    uint64_t u = 0;
    float f;

    if (type_row[type].bytes == 0 || !sl_read_bytes(&r, type_row[type].bytes, &p))
        return false;
    for (uint32_t i = 0; i < type_row[type].bytes; i++)
        u |= (uint64_t)p[i] << (8 * i);
    switch (type) {
    case SL_GGUF_I8:
        *integer = (int8_t)u;
        break;
    case SL_GGUF_I16:
        *integer = (int16_t)u;
        break;
    case SL_GGUF_I32:
        *integer = (int32_t)u;
        break;
    case SL_GGUF_F32:
        memcpy(&f, p, 4);
        *real = (double)f;
        *integer = 0;
        return true;
    case SL_GGUF_F64:
        memcpy(real, p, 8);
        *integer = 0;
        return true;
    default:
        if (u > INT64_MAX && type == SL_GGUF_U64)
            u = INT64_MAX; /* fits nowhere we read it into: a range error there */
        *integer = (int64_t)u;
    }
    *real = (double)*integer;
    return true;
}

static sl_status get_entry(const sl_gguf *g, const char *key, const entry **out, sl_err *err)
{
    *out = find_kv(g, key);
    if (*out == NULL)
        return sl_fail(err, SL_ENOTFOUND, "the file has no key '%s'", key);
    return SL_OK;
}

static bool is_float(sl_gguf_type type)
{
    return type == SL_GGUF_F32 || type == SL_GGUF_F64;
}

sl_status sl_gguf_get_u32(const sl_gguf *g, const char *key, uint32_t *out, sl_err *err)
{
    const entry *e;
    sl_status status = get_entry(g, key, &e, err);
    int64_t value;
    double real;

    if (status != SL_OK)
        return status;
    if (is_float(e->kv.type) || e->kv.type == SL_GGUF_BOOL ||
        !load_scalar(g, e->kv.type, e->value, &value, &real))
        return sl_fail(err, SL_EFORMAT, "key '%s' is a %s, not an integer", key,
                       type_row[e->kv.type].name);
    if (value < 0 || value > UINT32_MAX)
        return sl_fail(err, SL_EFORMAT, "key '%s' is %" PRId64 ", out of range", key, value);
    *out = (uint32_t)value;
    return SL_OK;
}

sl_status sl_gguf_get_f32(const sl_gguf *g, const char *key, float *out, sl_err *err)
{
    const entry *e;
    sl_status status = get_entry(g, key, &e, err);
    int64_t value;
    double real;

    if (status != SL_OK)
        return status;
    if (e->kv.type == SL_GGUF_BOOL || !load_scalar(g, e->kv.type, e->value, &value, &real))
        return sl_fail(err, SL_EFORMAT, "key '%s' is a %s, not a number", key,
                       type_row[e->kv.type].name);
    if (!isfinite(real) || fabs(real) > 3.4e38)
        return sl_fail(err, SL_EFORMAT, "key '%s' is not a finite number", key);
    *out = (float)real;
    return SL_OK;
}

sl_status sl_gguf_get_bool(const sl_gguf *g, const char *key, bool *out, sl_err *err)
{
    const entry *e;
    sl_status status = get_entry(g, key, &e, err);

    if (status != SL_OK)
        return status;
    if (e->kv.type != SL_GGUF_BOOL)
        return sl_fail(err, SL_EFORMAT, "key '%s' is a %s, not a bool", key,
                       type_row[e->kv.type].name);
    *out = g->data[e->value] != 0;
    return SL_OK;
}

sl_status sl_gguf_get_str(const sl_gguf *g, const char *key, sl_str *out, sl_err *err)
{
    const entry *e;
    sl_status status = get_entry(g, key, &e, err);

    if (status != SL_OK)
        return status;
    if (e->kv.type != SL_GGUF_STRING)
        return sl_fail(err, SL_EFORMAT, "key '%s' is a %s, not a string", key,
                       type_row[e->kv.type].name);
    *out = (sl_str){(const char *)g->data + e->value, e->len};
    return SL_OK;
}

sl_status sl_gguf_get_array(const sl_gguf *g, const char *key, sl_gguf_type *item_type,
                            uint64_t *count, sl_err *err)
{
    const entry *e;
    sl_status status = get_entry(g, key, &e, err);

    if (status != SL_OK)
        return status;
    if (e->kv.type != SL_GGUF_ARRAY)
        return sl_fail(err, SL_EFORMAT, "key '%s' is a %s, not an array", key,
                       type_row[e->kv.type].name);
    *item_type = e->kv.item_type;
    *count = e->kv.count;
    return SL_OK;
}

static const entry *array_entry(const sl_gguf *g, const char *key, uint64_t index)
{
    const entry *e = find_kv(g, key);

    SL_ASSERT(e != NULL && e->kv.type == SL_GGUF_ARRAY);
    SL_ASSERT(index < e->kv.count);
    return e;
}

static sl_str item_str(const sl_gguf *g, const entry *e, uint64_t index)
{
    sl_reader r = {g->data, g->len, e->item[index]};
    uint64_t len = 0;

    const bool there = sl_read_u64(&r, &len); /* open read it once before */

    SL_ASSERT(there);
    return (sl_str){(const char *)g->data + r.pos, (size_t)len};
}

sl_str sl_gguf_array_str(const sl_gguf *g, const char *key, uint64_t index)
{
    const entry *e = array_entry(g, key, index);

    SL_ASSERT(e->kv.item_type == SL_GGUF_STRING);
    return item_str(g, e, index);
}

static void array_scalar(const sl_gguf *g, const entry *e, uint64_t index, int64_t *integer,
                         double *real)
{
    const bool is_scalar =
        load_scalar(g, e->kv.item_type, e->value + (size_t)index * type_row[e->kv.item_type].bytes,
                    integer, real);

    SL_ASSERT(is_scalar);
}

float sl_gguf_array_f32(const sl_gguf *g, const char *key, uint64_t index)
{
    int64_t integer;
    double real;

    array_scalar(g, array_entry(g, key, index), index, &integer, &real);
    return (float)real;
}

int64_t sl_gguf_array_int(const sl_gguf *g, const char *key, uint64_t index)
{
    int64_t integer;
    double real;

    array_scalar(g, array_entry(g, key, index), index, &integer, &real);
    return integer;
}

/* One item as text; returns bytes written (without NUL). */
static size_t item_text(const sl_gguf *g, const entry *e, uint64_t index, char *text, size_t n)
{
    const sl_gguf_type type = e->kv.item_type;
    int64_t integer = 0;
    double real = 0;
    int len;

    if (type == SL_GGUF_STRING) {
        const sl_str s = e->kv.type == SL_GGUF_ARRAY
                             ? item_str(g, e, index)
                             : (sl_str){(const char *)g->data + e->value, e->len};

        len = snprintf(text, n, "\"%.*s\"", shown(s.len), s.data);
        if (len > 1 && s.len > NAME_SHOWN && (size_t)len + 3 < n)
            len += snprintf(text + len, n - (size_t)len, "...");
    } else {
        array_scalar(g, e, index, &integer, &real);
        if (is_float(type))
            len = snprintf(text, n, "%.9g", real);
        else if (type == SL_GGUF_BOOL)
            len = snprintf(text, n, "%s", integer != 0 ? "true" : "false");
        else
            len = snprintf(text, n, "%" PRId64, integer);
    }
    return len < 0 ? 0 : (size_t)len < n ? (size_t)len : n - 1;
}

void sl_gguf_kv_text(const sl_gguf *g, uint32_t index, char *text, size_t n)
{
    const entry *e;
    size_t at = 0;

    SL_ASSERT(index < g->kv_count && n > 0);
    e = &g->kv[index];
    if (e->kv.type != SL_GGUF_ARRAY) {
        item_text(g, e, 0, text, n);
        return;
    }
    at +=
        (size_t)snprintf(text, n, "%s[%" PRIu64 "] ", type_row[e->kv.item_type].name, e->kv.count);
    for (uint64_t i = 0; i < e->kv.count && i < 4 && at + 1 < n; i++) {
        if (i > 0 && at + 2 < n) {
            text[at++] = ' ';
            text[at] = '\0';
        }
        at += item_text(g, e, i, text + at, n - at);
    }
    if (e->kv.count > 4 && at + 5 < n)
        snprintf(text + at, n - at, " ...");
}
