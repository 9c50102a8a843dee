#!/usr/bin/env python3
"""Compare what tiny models cannot show by themselves: scalings of the rotary embedding, and other
keys that files may carry.

usage: variants.py        (needs the package `gguf`; the folders are those of make.sh, run it first)

Each variant is a tiny model with some keys (or a tensor) added; llama.cpp evaluates it in fp32, and
sluice_kl prints how far the twins are.
"""
import os
import subprocess
import sys

import numpy as np
from gguf import GGUFReader, GGUFValueType, GGUFWriter

HERE = os.path.dirname(os.path.abspath(__file__))
CACHE = os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")) + "/sluice"
BIN = os.environ.get("LLAMA_BIN", CACHE + "/peers/llama-build/bin")
OUT = os.environ.get("VECTORS_CACHE", CACHE + "/vectors")
BUILD = os.environ.get("BUILD", HERE + "/../../build")
FACTORS = np.array([1, 1, 1, 1.5, 2, 4, 8, 8], dtype=np.float32)

YARN = {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 128}
VARIANTS = [
    ("llama", "linear", {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}, {}),
    ("llama", "yarn", YARN, {}),
    ("llama", "yarn-beta", {**YARN, "rope.scaling.yarn_beta_fast": 8.0, "rope.scaling.yarn_beta_slow": 2.0}, {}),
    ("llama", "yarn-attn", {**YARN, "rope.scaling.attn_factor": 1.3}, {}),
    ("qwen2", "yarn", {**YARN, "rope.scaling.factor": 8.0, "rope.scaling.original_context_length": 64}, {}),
    ("qwen3", "yarn", YARN, {}),
    ("llama", "factors", {}, {"rope_freqs.weight": FACTORS}),
    ("gemma3", "linear", {"rope.scaling.type": "linear", "rope.scaling.factor": 8.0}, {}),
    ("gemma3", "softcap", {"final_logit_softcapping": 3.0}, {}),
    ("gemma3", "pattern", {"attention.sliding_window_pattern": 3}, {}),
    ("gemma3", "local-base", {"rope.freq_base_swa": 500.0}, {}),
]
KIND = {str: GGUFValueType.STRING, int: GGUFValueType.UINT32, float: GGUFValueType.FLOAT32}


def write_variant(arch, path, keys, tensors):
    reader = GGUFReader(f"{OUT}/tiny-{arch}-f32.gguf")
    writer = GGUFWriter(path, arch)
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture" or name in keys:
            continue
        array = field.types[0] == GGUFValueType.ARRAY
        writer.add_key_value(name, field.contents(), field.types[0], field.types[-1] if array else None)
    for name, value in keys.items():
        writer.add_key_value(f"{arch}.{name}", value, KIND[type(value)])
    for t in reader.tensors:
        writer.add_tensor(t.name, np.array(t.data), raw_dtype=t.tensor_type)
    for name, value in tensors.items():
        writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    for arch, name, keys, tensors in VARIANTS:
        path = f"{OUT}/variant-{arch}-{name}.gguf"
        base = f"{OUT}/variant-{arch}-{name}.base"
        write_variant(arch, path, keys, tensors)
        subprocess.run([BIN + "/llama-perplexity", "-m", path, "-f", HERE + "/text.txt", "-c", "512", "--chunks", "1",
                        "-t", "1", "-ctk", "f32", "-ctv", "f32", "-fa", "off", "--save-all-logits", base],
                       check=True, capture_output=True)
        line = subprocess.run([BUILD + "/tests/vectors/sluice_kl", base, "--model", path, "--ops", "ref"], check=True,
                              capture_output=True, text=True).stdout.splitlines()[-1]
        print(f"{arch:7} {name:11} {line.split('  quarters')[0]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
