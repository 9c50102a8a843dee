#!/usr/bin/env python3
"""Compare sluice with llama.cpp's server on one machine: start, memory, and the stall of running streams.

usage: bench/peers/server.py --model FILE --sluice build/sluice --llama PATH/llama-server [--threads 2] [--runs 3] [--json FILE]

For each run, interleaved: start the server; time until the first token of a short chat answer; memory after load; then
two streams decode, and while they do a prompt of 1,100 words arrives: the longest gap between two tokens of either
stream from then on until that prompt's first token, and that prompt's own time to first token.
Prints medians and ratios (llama.cpp / sluice: above 1 sluice is better).
"""
import argparse
import http.client
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import threading
import time

WORDS = ("system memory network signal matrix garden window letter engine planet river mountain history "
         "measure function variable process thread kernel buffer packet server client request answer").split()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def rss_mb(pid):
    for line in open(f"/proc/{pid}/status"):
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def stream(port, prompt, tokens, times, started=None):
    """One streaming chat; the arrival time of every content event goes to `times`."""
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    body = {"model": "m", "messages": [{"role": "user", "content": prompt}], "max_tokens": tokens, "temperature": 0,
            "stream": True, "ignore_eos": True, "cache_prompt": False}
    c.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    r = c.getresponse()
    if r.status != 200:
        raise RuntimeError(f"status {r.status}: {r.read()[:300]}")
    if started:
        started.set()
    for line in r:
        if line.startswith(b"data: {"):
            choices = json.loads(line[6:]).get("choices") or [{}]
            # A token may have no text of its own (part of a character): its end is an event all the same.
            if choices[0].get("delta", {}).get("content") or (choices[0].get("finish_reason") and not times):
                times.append(time.monotonic())
    c.close()


def measure(command, port, seed):
    rng = random.Random(seed)
    begin = time.monotonic()
    p = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                c = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                c.request("GET", "/health")
                if c.getresponse().status == 200:
                    break
            except OSError:
                pass
            if p.poll() is not None:
                raise RuntimeError(f"{command[0]} ended with {p.returncode}")
            time.sleep(0.01)
        healthy = time.monotonic() - begin
        times = []
        stream(port, "Hello", 1, times)
        first = times[0] - begin
        rss = rss_mb(p.pid)

        running = [[], []]
        threads = [threading.Thread(target=stream, args=(port, f"Write a long story number {rng.random()}", 400, t)) for t in running]
        [t.start() for t in threads]
        while min(len(t) for t in running) < 20:
            time.sleep(0.01)
        sent = time.monotonic()
        prompt_times = []
        stream(port, " ".join(rng.choice(WORDS) for _ in range(1100)), 1, prompt_times)
        done = prompt_times[0]
        [t.join() for t in threads]
        gaps, before = [], []
        for t in running:
            for a, b in zip(t, t[1:]):
                if b > sent and a < done:
                    gaps.append(b - a)
                elif b <= sent:
                    before.append(b - a)
        return {"healthy_s": healthy, "first_token_s": first, "rss_mb": rss, "stall_s": max(gaps),
                "gap_p50_ms": statistics.median(before) * 1e3, "gap_p50_during_ms": statistics.median(gaps) * 1e3, "prompt_ttft_s": done - sent}
    finally:
        p.send_signal(signal.SIGTERM)
        try:
            p.wait(20)
        except subprocess.TimeoutExpired:
            p.kill()


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--model", required=True)
    a.add_argument("--sluice", default="build/sluice")
    a.add_argument("--llama", required=True)
    a.add_argument("--threads", type=int, default=os.cpu_count())
    a.add_argument("--context", type=int, default=4096)
    a.add_argument("--runs", type=int, default=3)
    a.add_argument("--json")
    o = a.parse_args()
    results = {"llama.cpp": [], "sluice": []}
    for run in range(o.runs):
        for name in results:
            port = free_port()
            if name == "sluice":
                command = [o.sluice, "serve", "--model", o.model, "--port", port, "--threads", o.threads, "--max-model-len", o.context, "--max-num-seqs", 8, "--served-model-name", "m"]
            else:
                command = [o.llama, "-m", o.model, "--port", port, "-t", o.threads, "-c", o.context * 4, "-np", 4, "--no-webui"]
            results[name].append(measure([str(x) for x in command], port, run))
            print(f"run {run + 1} {name}: " + "  ".join(f"{k} {v:.3g}" for k, v in results[name][-1].items()), flush=True)
    print(f"\n{'median of ' + str(o.runs):22} {'llama.cpp':>12} {'sluice':>12} {'ratio':>8}")
    for k in results["sluice"][0]:
        l, s = (statistics.median(r[k] for r in results[n]) for n in ("llama.cpp", "sluice"))
        print(f"{k:22} {l:12.3f} {s:12.3f} {l / s:8.2f}")
    if o.json:
        with open(o.json, "w") as f:
            json.dump(results, f, indent=1)


if __name__ == "__main__":
    main()
