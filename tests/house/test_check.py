#!/usr/bin/env python3
"""Plant one violation of each house rule in a small tree: check.py must find every one of them, and
nothing in the tree without it."""
import os
import subprocess
import sys
import tempfile

CHECK = os.path.join(os.path.dirname(os.path.abspath(__file__)), "check.py")
GOOD = {
    "base/a.h": "#ifndef SL_BASE_A_H\n#define SL_BASE_A_H\nint sl_a(void);\n#endif\n",
    "base/a.c": '#include "base/a.h"\n\nint sl_a(void)\n{\n    return 1;\n}\n',
    "docs/tour.md": "`base/a.c` has `sl_a`.\n",
}
PLANTED = {
    "layers: upwards": ("base/b.c", '#include "server/server.h"\n', "layers"),
    "layers: sideways": ("kvcache/b.c", '#include "model/model.h"\n', "layers"),
    "layers: missing": ("base/b.c", '#include "base/none.h"\n', "layers"),
    "layers: internal": ("tests/base/b.c", '#include "engine/x_internal.h"\n', "layers"),
    "foreign: uv": ("engine/b.c", "#include <uv.h>\n", "foreign"),
    "foreign: jansson in a header": ("protocol/b.h", "#ifndef SL_PROTOCOL_B_H\n#define SL_PROTOCOL_B_H\n#include <jansson.h>\n#endif\n", "foreign"),
    "lengths: file": ("base/b.c", "int x;\n" * 1300, "lengths"),
    "lengths: function": ("base/b.c", "int sl_b(void)\n{\n" + "    sl_a();\n" * 160 + "}\n", "lengths"),
    "lengths: ratchet": ("base/b.c", "int sl_b(void)\n{\n" + "    sl_a();\n" * 80 + "}\n", "lengths"),
    "comments: slashes": ("base/b.c", "int x; // no\n", "comments"),
    "comments: todo": ("base/b.c", "/* TODO */\n", "comments"),
    "alone": ("base/b.h", "#ifndef SL_BASE_B_H\n#define SL_BASE_B_H\nuint32_t x(void);\n#endif\n", "alone"),
    "guards": ("base/b.h", "#ifndef WRONG_H\n#define WRONG_H\n#endif\n", "guards"),
    "tour: file": ("docs/tour.md", "`base/none.c`\n", "tour"),
    "tour: function": ("docs/tour.md", "`sl_none()`\n", "tour"),
    "clean: path": ("docs/x.md", "see /root" + "/x\n", "clean"),
    "clean: host": ("docs/x.md", "from pypi" + ".org\n", "clean"),
    "clean: binary": ("docs/x", "\x7fELF", "clean"),
}


def run(extra):
    with tempfile.TemporaryDirectory() as root:
        for f, text in {**GOOD, "server/server.h": GOOD["base/a.h"].replace("BASE_A", "SERVER_SERVER"), "model/model.h": GOOD["base/a.h"].replace("BASE_A", "MODEL_MODEL"),
                        "engine/x_internal.h": GOOD["base/a.h"].replace("BASE_A", "ENGINE_X_INTERNAL"), **extra}.items():
            path = os.path.join(root, f)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w") as h:
                h.write(text)
        # The real tree's ratchet does not apply to this one.
        with open(CHECK) as h:
            source = h.read().replace("LONG_FUNCTIONS = ", "LONG_FUNCTIONS = 0 * ", 1)
        check = os.path.join(root, "..", os.path.basename(root) + "-check.py")
        with open(check, "w") as h:
            h.write(source)
        done = subprocess.run([sys.executable, check, root], capture_output=True, text=True)
        os.remove(check)
        return done.stdout


bad = 0
clean = run({})
if "FAIL" in clean:
    print("a clean tree fails:\n" + clean)
    bad += 1
for name, (f, text, rule) in PLANTED.items():
    if f"FAIL {rule}" not in run({f: text}):
        print(f"not found: {name}")
        bad += 1
print(f"{len(PLANTED) - bad} of {len(PLANTED)} planted violations found")
sys.exit(1 if bad else 0)
