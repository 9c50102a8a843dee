#!/usr/bin/env python3
"""The house checks: what STYLE promises about the tree, as tests.

usage: tests/house/check.py [ROOT] [--cc gcc]      one line a check; exit 1 if any fails

layers      a folder includes only the folders it may
foreign     headers of other projects stay behind their one door
lengths     files up to 1,200 lines; functions up to 70, and the longer ones may not become more
comments    no // comments, no TODO
alone       every header compiles by itself
guards      every header's guard is named after its path
tour        every file and function that docs/tour.md names exists
clean       no paths of this machine, no binaries, no registry hosts in the tree
"""
import os
import re
import subprocess
import sys
import tempfile

ALLOWED = {
    "base": set(),
    "quant": {"base"},
    "kernels": {"quant", "base"},
    "kvcache": {"quant", "base"},
    "scheduler": {"base"},
    "grammar": {"base"},
    "protocol": {"base"},
    "model": {"kernels", "quant", "base"},
    "engine": {"scheduler", "kvcache", "model", "grammar", "kernels", "quant", "base"},
    "server": {"protocol", "engine", "model", "grammar", "base"},
    "bench": {"protocol", "scheduler", "kvcache", "engine", "model", "kernels", "quant", "base"},
}
# What an allowed header may itself bring in is not counted: only what a file names.
SERVER_MODEL = {"model/tokenizer.h"}  # of model/, the server may see the tokenizer only
DOORS = {
    "uv.h": lambda f: f.startswith(("server/", "bench/")),
    "llhttp.h": lambda f: f == "protocol/http.c",
    "jansson.h": lambda f: f.endswith(".c"),
    "ini.h": lambda f: f == "server/config.c",
    "pcre2.h": lambda f: re.match(r"model/tokenizer\w*\.c$", f),
    "utf8proc.h": lambda f: re.match(r"model/tokenizer\w*\.c$", f),
    "cuda": lambda f: f.startswith("kernels/cuda/"),
}
FILE_MAX, FUNCTION_MAX, FUNCTION_HARD = 1200, 70, 150
# The ratchet: how many functions are longer than FUNCTION_MAX today.  It may only go down.
LONG_FUNCTIONS = 0


def sources(root):
    out = subprocess.run(["git", "-C", root, "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True)
    files = out.stdout.split("\n") if out.returncode == 0 and out.stdout else []
    if not files:  # an exported tree
        files = [os.path.relpath(os.path.join(d, f), root) for d, _, fs in os.walk(root) for f in fs if "/.git" not in d and "/build" not in d]
    return sorted(f for f in files if f and os.path.isfile(os.path.join(root, f)))


def read(root, f):
    with open(os.path.join(root, f), encoding="utf-8", errors="replace") as h:
        return h.read()


def strip(text):
    """Comments and string contents blanked, line structure kept."""
    keep_lines = lambda m: re.sub(r"[^\n]", " ", m[0])
    return re.sub(r"/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", keep_lines, text, flags=re.S)


def code(files):
    return [f for f in files if f.endswith((".c", ".h", ".cu", ".cuh"))]


def check_layers(root, files):
    for f in code(files):
        folder = f.split("/")[0]
        for m in re.finditer(r'^\s*#\s*include\s+"([^"]+)"', read(root, f), re.M):
            inc, other = m[1], m[1].split("/")[0]
            if not os.path.exists(os.path.join(root, inc)):
                yield f"{f}: includes \"{inc}\", which is no path from the root"
            elif folder == "tests":
                if inc.endswith("_internal.h") and not f.startswith("tests/" + other + "/"):
                    yield f"{f}: a test may not include {inc}"
            elif folder == "cli" or other == folder:
                continue
            elif other not in ALLOWED.get(folder, set()):
                yield f"{f}: {folder}/ may not include {inc}"
            elif folder == "server" and other == "model" and inc not in SERVER_MODEL:
                yield f"{f}: server/ may see the tokenizer of model/, not {inc}"
            elif inc.endswith("_internal.h"):
                yield f"{f}: {inc} is internal to {other}/"


def check_foreign(root, files):
    for f in code(files):
        if f.startswith("tests/"):
            continue
        for m in re.finditer(r"^\s*#\s*include\s+<([^>]+)>", read(root, f), re.M):
            for door, ok in DOORS.items():
                if (m[1] == door or (door == "cuda" and m[1].startswith("cuda"))) and not ok(f):
                    yield f"{f}: <{m[1]}> has another door"


def functions(text):
    """(name, first line, lines) of every function body, found by braces at the start of a line."""
    lines = strip(text).split("\n")
    start = None
    for i, line in enumerate(lines):
        if line.startswith("{") and start is None:
            start = i
        elif line.startswith("}") and start is not None:
            head = " ".join(lines[max(0, start - 6):start])
            names = re.findall(r"(\w+)\s*\(", head)
            if not line.startswith("};") and names:
                yield names[-1] if len(names) == 1 else names[0], start + 1, i - start + 1
            start = None


def check_lengths(root, files):
    long_count = 0
    for f in code(files):
        text = read(root, f)
        if text.count("\n") > FILE_MAX:
            yield f"{f}: {text.count(chr(10))} lines, at most {FILE_MAX}"
        if f.startswith("tests/"):
            continue
        for name, line, n in functions(text):
            if n > FUNCTION_HARD:
                yield f"{f}:{line}: {name} has {n} lines, none may have more than {FUNCTION_HARD}"
            elif n > FUNCTION_MAX:
                long_count += 1
                if "-v" in sys.argv:
                    print(f"  note: {f}:{line}: {name} has {n} lines")
    if long_count > LONG_FUNCTIONS:
        yield f"{long_count} functions are longer than {FUNCTION_MAX} lines, {LONG_FUNCTIONS} were (run with -v to see them)"
    elif long_count < LONG_FUNCTIONS:
        yield f"only {long_count} functions are longer than {FUNCTION_MAX} lines: lower LONG_FUNCTIONS in tests/house/check.py"


def check_comments(root, files):
    for f in code(files):
        text = read(root, f)
        for i, line in enumerate(strip(text).split("\n"), 1):
            if "//" in line:
                yield f"{f}:{i}: a // comment"
        if re.search(r"\b(TODO|FIXME|XXX)\b", text):
            yield f"{f}: a TODO without an owner"


def check_alone(root, files, cc):
    with tempfile.TemporaryDirectory() as tmp:
        unit = os.path.join(tmp, "unit.c")
        for f in files:
            if not f.endswith(".h") or f.startswith("tests/fuzz/"):
                continue
            with open(unit, "w") as h:
                h.write(f'#include "{f}"\n#include "{f}"\nint unit;\n')
            run = subprocess.run([cc, "-std=c17", "-D_GNU_SOURCE", "-Wall", "-Werror", "-Wno-unused-function",
                                  "-fsyntax-only", "-mavx2", "-mfma", "-mf16c", "-I", root, unit] if os.uname().machine == "x86_64" else
                                 [cc, "-std=c17", "-D_GNU_SOURCE", "-Wall", "-Werror", "-Wno-unused-function", "-fsyntax-only", "-I", root, unit],
                                 capture_output=True, text=True)
            if run.returncode != 0:
                yield f"{f}: does not compile alone: {run.stderr.strip().splitlines()[0]}"


def check_guards(root, files):
    for f in files:
        if f.endswith(".h"):
            want = "SL_" + re.sub(r"\W", "_", f).upper()
            if f"#ifndef {want}\n#define {want}\n" not in read(root, f):
                yield f"{f}: its guard should be {want}"


def check_tour(root, files):
    if "docs/tour.md" not in files:
        yield "docs/tour.md is missing"
        return
    everything = "\n".join(read(root, f) for f in code(files))
    for name in re.findall(r"`([^`\n]+)`", read(root, "docs/tour.md")):
        path = name.split(":")[0]
        if re.fullmatch(r"[\w./-]+\.(c|h|py|sh|md|cu)", path):
            if path not in files:
                yield f"docs/tour.md names the file {path}, which is not there"
        elif re.fullmatch(r"sl_\w+(\(\))?", name) and not re.search(r"\b" + name.rstrip("()") + r"\b", everything):
            yield f"docs/tour.md names {name}, which is not in the code"


def check_clean(root, files):
    home = re.compile(r"/root/|/home/\w+|/work/")
    hosts = re.compile(r"\b(pypi\.org|pythonhosted|deb\.debian\.org|huggingface\.co|registry\.npmjs)\b")
    for f in files:
        path = os.path.join(root, f)
        if os.path.getsize(path) > 2 << 20:
            yield f"{f}: {os.path.getsize(path)} bytes: too large for the tree"
        with open(path, "rb") as h:
            head = h.read(4)
        if head == b"\x7fELF" or (head == b"GGUF" and not f.startswith("tests/fuzz/corpus/")):
            yield f"{f}: a generated binary or a model"
        if f.startswith("tests/") and not f.endswith((".c", ".h", ".py", ".sh", ".build")) or f == "tests/house/check.py":
            continue
        text = read(root, f)
        if home.search(text):
            yield f"{f}: a path of somebody's machine: {home.search(text)[0]}"
        if hosts.search(text):
            yield f"{f}: the host name of a registry: {hosts.search(text)[0]}"


def main():
    args = [a for a in sys.argv[1:] if a != "-v"]
    cc = "gcc"
    if "--cc" in args:
        i = args.index("--cc")
        cc = args[i + 1]
        del args[i:i + 2]
    root = os.path.abspath(args[0] if args else os.path.join(os.path.dirname(__file__), "..", ".."))
    files = sources(root)
    bad = 0
    for name in ("layers", "foreign", "lengths", "comments", "alone", "guards", "tour", "clean"):
        check = globals()["check_" + name]
        found = list(check(root, files, cc) if name == "alone" else check(root, files))
        print(f"{'FAIL' if found else 'ok  '} {name}")
        for line in found:
            print("     " + line)
        bad += len(found)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
