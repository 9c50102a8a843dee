/* quant/kvpage.h - what a KV page is: its tokens, its tiers, its planes.
 *
 * Shared by kvcache/ (which counts planes) and kernels/ (which read and write them).
 *
 * A page holds K and V of 64 consecutive token positions, per *chunk* of layers (a set of layers
 * with one attention span).  Its bytes lie in *planes* of one size:
 *     plane_bytes = 64 tokens * chunk_layers * kv_heads * head_dim / 2
 * one nibble of every element of K or of V.  A tier says how many planes a page takes:
 *
 *     F16   8   planes 0-3 are K, 4-7 V; plane i holds the halves of tokens [16 (i % 4), +16)
 *     K8V8  4   K high, K low, V high, V low nibbles of all 64 tokens
 *     K8V4  3   K high, K low, V high
 *     K4V4  2   K high, V high
 *
 * Only F16 is written today. */
#ifndef SL_QUANT_KVPAGE_H
#define SL_QUANT_KVPAGE_H

#include <stdint.h>

enum {
    SL_PAGE_TOKENS = 64,    /* token positions of a page, and the key tile of the kernels */
    SL_PAGE_PLANES_MAX = 8, /* planes of a page in its widest tier */
    SL_KV_CHUNKS_MAX = 64   /* chunks of layers of a model */
};

#define SL_PLANE_NONE UINT32_MAX

typedef enum sl_kv_tier {
    SL_KV_F16,
    SL_KV_K8V8,
    SL_KV_K8V4,
    SL_KV_K4V4,
    SL_KV_TIER_COUNT
} sl_kv_tier;

/* One page of one chunk: which planes hold it.  Entries beyond the tier's count, and all entries of
 * a page that a window has left behind, are SL_PLANE_NONE. */
typedef struct sl_kv_page {
    uint32_t plane[SL_PAGE_PLANES_MAX];
    sl_kv_tier tier;
} sl_kv_page;

#endif
