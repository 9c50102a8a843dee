#!/usr/bin/env python3
"""Count what the suites did: meson test logs (a cmocka program counts test by test) and pytest's XML.

usage: tests/summary.py FOLDER    prints "N passed, N failed, N skipped" last; exit 1 if any failed
"""
import glob
import json
import os
import re
import sys
import xml.etree.ElementTree as ET

passed = failed = skipped = 0
notes = []
for path in sorted(glob.glob(os.path.join(sys.argv[1], "*.json"))):
    suite = os.path.basename(path)[:-5]
    for line in open(path, encoding="utf-8", errors="replace"):
        t = json.loads(line)
        text = (t.get("stdout") or "") + (t.get("stderr") or "")
        ok = len(re.findall(r"^\[       OK \] ", text, re.M))
        skip = re.findall(r"^\[  SKIPPED \] (\w+)$", text, re.M)
        skip = list(dict.fromkeys(skip))
        if t["result"] in ("OK", "EXPECTEDFAIL"):
            passed += ok if ok or skip else 1
            skipped += len(skip)
            notes += [f"skipped: {suite} {t['name']} {s}" for s in skip]
        elif t["result"] == "SKIP":
            skipped += 1
            notes.append(f"skipped: {suite} {t['name']}")
        else:
            failed += 1
            passed += ok
            notes.append(f"FAILED: {suite} {t['name']} ({t['result']})")
for path in sorted(glob.glob(os.path.join(sys.argv[1], "*.xml"))):
    suite = os.path.basename(path)[:-4]
    for case in ET.parse(path).getroot().iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}"
        kinds = {child.tag for child in case}
        if kinds & {"failure", "error"}:
            failed += 1
            notes.append(f"FAILED: {suite} {name}")
        elif "skipped" in kinds:
            skipped += 1
            notes.append(f"skipped: {suite} {name}: {case.find('skipped').get('message')}")
        else:
            passed += 1
steps = os.path.join(sys.argv[1], "steps")
if os.path.exists(steps):
    for line in open(steps):
        failed += 1
        notes.append("FAILED: step " + line.strip()[5:])
print("\n" + "\n".join(notes))
print(f"{passed} passed, {failed} failed, {skipped} skipped")
sys.exit(1 if failed or not passed else 0)
