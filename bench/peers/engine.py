#!/usr/bin/env python3
"""Compare the engine with its peers on one machine: prefill of 512 tokens, decode of 1, 8 and 32 streams.

usage: bench/peers/engine.py --sluice build/sluice --llama BUILD_DIR/bin --ik VENV/bin/python [--runs 5] [--threads 2] MODEL.gguf...

Runs are interleaved (sluice, llama.cpp, ik_llama.cpp, sluice, ...), the same files and threads; the table has medians,
the spread of sluice's runs, and the ratio to the faster peer.  A peer that is not named is left out.
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def sluice(o, model):
    out = subprocess.run([o.sluice, "bench", "engine", "-m", model, "--threads", str(o.threads), "--repeats", "1", "--steps", str(o.steps),
                          "--batches", ",".join(map(str, o.batches)), "--json"], capture_output=True, text=True, check=True).stdout
    r = json.loads(out)
    return {"prefill": r["prefill"]["tps"], **{f"decode {b}": r["decode"][str(b)]["tps"] for b in o.batches}, "ops": r["ops"]}


def llama(o, model):
    run = lambda *a: subprocess.run(a, capture_output=True, text=True, check=True).stdout
    r = {}
    for row in json.loads(run(os.path.join(o.llama, "llama-bench"), "-m", model, "-p", "512", "-n", "0", "-t", str(o.threads), "-r", "1", "-o", "json")):
        r["prefill"] = row["avg_ts"]
    text = run(os.path.join(o.llama, "llama-batched-bench"), "-m", model, "-c", str((128 + o.steps) * max(o.batches) + 512), "-npp", "128", "-ntg", str(o.steps),
               "-npl", ",".join(map(str, o.batches)), "-t", str(o.threads))
    for line in text.splitlines():
        cell = [c.strip() for c in line.strip("| \n").split("|")]
        if len(cell) >= 10 and cell[0] == "128":
            r[f"decode {cell[2]}"] = float(cell[7])
    return r


def ik(o, model):
    out = subprocess.run([o.ik, o.ik_bench, model, f"threads={o.threads}", f"steps={o.steps}", "batches=" + ",".join(map(str, o.batches))],
                         capture_output=True, text=True, check=True).stdout
    r = json.loads(out.strip().splitlines()[-1])
    return {"prefill": r["prefill_tps"], **{f"decode {b}": r[f"decode{b}_tps"] for b in o.batches}}


def main():
    a = argparse.ArgumentParser()
    a.add_argument("models", nargs="+")
    a.add_argument("--sluice", default="build/sluice")
    a.add_argument("--llama", help="folder with llama-bench and llama-batched-bench")
    a.add_argument("--ik", help="Python with ik-llama-cpp-python")
    a.add_argument("--ik-bench", default=os.path.join(HERE, "..", "..", "..", "shared", "tools", "ik_bench.py"))
    a.add_argument("--threads", type=int, default=2)
    a.add_argument("--runs", type=int, default=5)
    a.add_argument("--steps", type=int, default=48)
    a.add_argument("--batches", type=lambda s: [int(x) for x in s.split(",")], default=[1, 8, 32])
    a.add_argument("--json")
    o = a.parse_args()
    engines = {"sluice": sluice}
    if o.llama:
        engines["llama.cpp"] = llama
    if o.ik:
        engines["ik_llama.cpp"] = ik
    everything = {}
    for model in o.models:
        name = os.path.basename(model)
        got = {e: [] for e in engines}
        for run in range(o.runs):
            for e, f in engines.items():
                try:
                    got[e].append(f(o, model))
                except (subprocess.CalledProcessError, KeyError, ValueError) as error:
                    print(f"{name}: {e} failed: {error}", file=sys.stderr)
        everything[name] = got
        ops = got["sluice"][0]["ops"]
        print(f"\n{name}, {o.threads} threads, medians of {o.runs}, {ops}")
        print(f"{'':12}" + "".join(f"{e:>16}" for e in engines) + f"{'spread':>18}{'ratio to the best peer':>26}")
        for key in ["prefill"] + [f"decode {b}" for b in o.batches]:
            med = {e: statistics.median(r[key] for r in rs if key in r) for e, rs in got.items() if any(key in r for r in rs)}
            mine = [r[key] for r in got["sluice"]]
            peers = [v for e, v in med.items() if e != "sluice"]
            print(f"{key:12}" + "".join(f"{med.get(e, float('nan')):16.1f}" for e in engines) +
                  f"{min(mine):10.1f}-{max(mine):<8.1f}" + (f"{med['sluice'] / max(peers):22.2f}x" if peers else ""), flush=True)
    if o.json:
        with open(o.json, "w") as f:
            json.dump(everything, f, indent=1)


if __name__ == "__main__":
    main()
