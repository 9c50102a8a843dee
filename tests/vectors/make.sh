#!/bin/sh
# make.sh - produce the reference log-probabilities that README.md describes.
#
# Run by hand; needs llama.cpp's llama-quantize and llama-perplexity, and disk for what it makes
# (about 15 GB for all four models).  What exists already is kept.
#
#   make.sh [tiny | smollm2 | gemma3 | qwen05 | qwen15 ...]      default: all
#
#   LLAMA_BIN       where the two programs are
#   VECTORS_CACHE   where the big files go
#   THREADS         for them (default 1)
#   BUILD           sluice's build folder (default build): the comparison program there writes the
#                   golden files beside this script anew
set -eu

here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sluice
bin=${LLAMA_BIN:-$cache/peers/llama-build/bin}
out=${VECTORS_CACHE:-$cache/vectors}
threads=${THREADS:-1}
build=${BUILD:-$here/../../build}
mkdir -p "$out"

# The long text is read only so far as one context goes; the tool wants two contexts of it.
cat "$here/text.txt" "$here/text.txt" >"$out/text-twice.txt"

# reference NAME CONTEXT CHUNKS TEXT: log-probabilities of the fp32 model, with an fp32 KV cache.
reference() {
    base=$out/$1-ctx$2.base
    [ -s "$base" ] && return
    nice "$bin/llama-perplexity" -m "$out/$1-f32.gguf" -f "$4" -c "$2" --chunks "$3" -t "$threads" \
        -ctk f32 -ctv f32 -fa off --save-all-logits "$base.part"
    mv "$base.part" "$base"
}

# peer NAME MODEL CONTEXT CHUNKS TEXT: what llama.cpp itself makes of the file as it is.
peer() {
    base=$out/$1-ctx$3.peer
    [ -s "$base" ] && return
    nice "$bin/llama-perplexity" -m "$2" -f "$5" -c "$3" --chunks "$4" -t "$threads" \
        --save-all-logits "$base.part"
    mv "$base.part" "$base"
    nice "$bin/llama-perplexity" -m "$2" -f "$5" -c "$3" --chunks "$4" -t "$threads" \
        --kl-divergence --kl-divergence-base "$out/$1-ctx$3.base" >"$base.txt" 2>&1
}

# golden NAME CONTEXT: the small file for the tests.
golden() {
    "$build/tests/vectors/sluice_kl" "$out/$1-ctx$2.base" --golden 16 >"$out/$1.golden"
    cp "$out/$1.golden" "$here/$1.golden"
}

# tiny ARCH: a tiny random model, in fp32 as it is.
tiny() {
    "$build/tests/support/sluice_tiny_model" "$1" "$out/tiny-$1-f32.gguf" F32 2048
    rm -f "$out/tiny-$1-ctx256.base"
    reference "tiny-$1" 256 1 "$here/text.txt"
    golden "tiny-$1" 256
}

# model NAME FILE [LONG_CONTEXT]
model() {
    file=$cache/models/$2
    if [ ! -s "$out/$1-f32.gguf" ]; then
        nice "$bin/llama-quantize" --allow-requantize "$file" "$out/$1-f32.gguf.part" F32 "$threads"
        mv "$out/$1-f32.gguf.part" "$out/$1-f32.gguf"
    fi
    reference "$1" 64 1 "$here/text.txt"
    golden "$1" 64
    reference "$1" 512 8 "$here/text.txt"
    peer "$1" "$file" 512 8 "$here/text.txt"
    if [ $# -gt 2 ]; then
        reference "$1" "$3" 1 "$out/text-twice.txt"
        peer "$1" "$file" "$3" 1 "$out/text-twice.txt"
    fi
}

[ $# -gt 0 ] || set -- tiny smollm2 gemma3 qwen05 qwen15
for name in "$@"; do
    case $name in
    tiny) for arch in llama qwen2 qwen3 gemma3; do tiny $arch; done ;;
    smollm2) model smollm2 SmolLM2-135M-Instruct.Q4_1.gguf 4096 ;;
    gemma3) model gemma3 gemma-3-270m-q4_k_m.gguf 2048 ;;
    qwen05) model qwen05 qwen2.5-coder-0.5b-instruct.gguf ;;
    qwen15) model qwen15 qwen2.5-coder-1.5b-instruct.gguf ;;
    *) echo "make.sh: no model is called '$name'" >&2; exit 2 ;;
    esac
done
