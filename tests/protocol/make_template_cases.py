#!/usr/bin/env python3
"""Render templates with jinja2, configured as Hugging Face configures it, and write the results
that test_template_cases.c replays: templates/expected.jsonl, snippets.jsonl and context.json.

The marks (which bytes are the user's) are found without the engine under test: the user's
characters are moved into a private range of Unicode, the template is rendered with them, and where
moving the output back gives the ordinary output, the range tells the origin of each character.
White space is not moved (templates trim it), and its marks are not compared.

usage: make_template_cases.py        (Python with jinja2 3.1.6)
"""
import datetime
import json
import pathlib

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedEnvironment

from template_snippets import CONTEXT, SNIPPETS

HERE = pathlib.Path(__file__).resolve().parent / "templates"
NOW = datetime.datetime.fromtimestamp(1750000000, datetime.timezone.utc)
SHIFT = 0xF0000  # user characters go to the supplementary private use plane


class Generation(Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        call = self.call_method("_run")
        return nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _run(self, caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                      sort_keys=sort_keys)


def environment(mutable=False):
    kind = SandboxedEnvironment if mutable else ImmutableSandboxedEnvironment
    env = kind(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    env.filters["tojson"] = tojson
    env.filters["from_json"] = json.loads
    env.filters["split"] = lambda s, sep=None, maxsplit=-1: s.split(sep, maxsplit)
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = NOW.strftime
    for name in ("lipsum", "cycler", "joiner"):
        del env.globals[name]
    return env


def shifted(text):
    return "".join(c if c.isspace() else chr(ord(c) + SHIFT) for c in text)


def mark(value, protocol=False):
    """A copy with every string moved, but for keys and the protocol's own words."""
    if isinstance(value, str):
        return shifted(value)
    if isinstance(value, list):
        return [mark(v, protocol) for v in value]
    if isinstance(value, dict):
        return {k: v if protocol and k in ("role", "type") and isinstance(v, str)
                else mark(v, protocol and k in ("content", "tool_calls"))
                for k, v in value.items()}
    return value


def marks_of(template, user, trusted, plain):
    """[[end byte, user], ...] of the output, or None where it cannot be told."""
    moved = {k: mark(v, k == "messages") for k, v in user.items()}
    try:
        out = template.render(**moved, **trusted)
    except Exception:
        return None
    back = "".join(chr(ord(c) - SHIFT) if ord(c) >= SHIFT else c for c in out)
    if back != plain:
        return None
    runs, end = [], 0
    for c, p in zip(out, plain):
        user_char = ord(c) >= SHIFT
        end += len(p.encode())
        if p.isspace() and runs:
            runs[-1][0] = end
        elif runs and runs[-1][1] == user_char:
            runs[-1][0] = end
        else:
            runs.append([end, user_char])
    return [[e, int(u)] for e, u in runs]


def render(source, user, trusted, mutable=False, with_marks=False):
    result = {}
    try:
        template = environment(mutable).from_string(source)
        result["out"] = template.render(**json.loads(json.dumps(user)), **trusted)
    except jinja2.exceptions.TemplateSyntaxError as e:
        return {"error": "compile", "message": str(e)}
    except Exception as e:
        return {"error": type(e).__name__, "message": str(e)}
    if with_marks:
        marks = marks_of(template, user, trusted, result["out"])
        if marks is not None:
            result["marks"] = marks
    return result


def write_lines(name, rows):
    with open(HERE / name, "w", encoding="utf-8") as f:
        for row in rows:
            f.write(json.dumps(row, ensure_ascii=False) + "\n")
    print(f"{name}: {len(rows)} cases, {(HERE / name).stat().st_size} bytes")


def main():
    conversations = json.loads((HERE / "conversations.json").read_text(encoding="utf-8"))
    rows = []
    for path in sorted(HERE.glob("*.jinja")):
        source = path.read_text(encoding="utf-8")
        for c in conversations:
            trusted = {"bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": True}
            trusted.update(c.get("trusted", {}))
            user = {"messages": c["messages"], "tools": c.get("tools")}
            result = render(source, user, trusted, with_marks=True)
            rows.append({"template": path.name, "conversation": c["name"], **result})
    write_lines("expected.jsonl", rows)
    print("with marks:", sum("marks" in r for r in rows), "errors:", sum("error" in r for r in rows))

    rows = []
    for source in SNIPPETS:
        mutable = ".append(" in source or ".pop(" in source
        rows.append({"template": source, **render(source, CONTEXT, {}, mutable)})
    write_lines("snippets.jsonl", rows)
    print("errors:", sum("error" in r for r in rows))
    (HERE / "context.json").write_text(json.dumps(CONTEXT, ensure_ascii=False) + "\n",
                                       encoding="utf-8")


if __name__ == "__main__":
    main()
