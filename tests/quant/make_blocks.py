"""Write tests/quant/data/blocks.txt: random blocks of every dtype and their values as the PyPI package
`gguf` dequantises them, an implementation that is independent of ours.

usage: pip install gguf numpy; python3 tests/quant/make_blocks.py > tests/quant/data/blocks.txt
A line: dtype, the block's bytes in hex, the values' fp32 bits in hex (little-endian).
"""
import numpy as np
import gguf
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as T

rng = np.random.default_rng(20260131)
for t in (T.F16, T.BF16, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, T.Q4_K, T.Q5_K, T.Q6_K):
    elems, size = GGML_QUANT_SIZES[t]
    n = max(1, 32 // elems)
    halves = {T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0], T.Q4_K: [0, 2],
              T.Q5_K: [0, 2], T.Q6_K: [208]}.get(t, [])
    for _ in range(3):
        b = rng.integers(0, 256, n * size, dtype=np.uint8)
        if t in (T.F16, T.BF16):
            v = rng.normal(0, 1, n).astype(np.float32)
            b = (v.astype(np.float16).view(np.uint8) if t == T.F16
                 else (v.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8))
        for h in halves:  # a finite scale of ordinary size, either sign
            b[h:h + 2] = np.array([rng.normal(0, 0.1)], np.float16).view(np.uint8)
        y = gguf.quants.dequantize(b.reshape(1, -1), t).astype(np.float32).reshape(-1)
        print(t.name, b.tobytes().hex(), y.tobytes().hex())
