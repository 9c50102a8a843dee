#!/usr/bin/env python3
"""Goal: `sluice bench serve|sweep|compare` as a command: exit codes, files, help, wrong usage.

Method: the real binary against a server of the standard library with a scripted answer.

usage: tests/bench/cli.py SLUICE
"""
import http.server
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import unittest

SLUICE = os.path.abspath(sys.argv[1])


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    status, delay = 200, 0.01

    def log_message(self, *args):
        pass

    def reply(self, status, body, kind="application/json"):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        if self.path == "/v1/models":
            self.reply(200, {"data": [{"id": "scripted"}]})
        else:
            self.reply(404, {"error": {"message": "no"}})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/v1/chat/completions":
            return self.reply(404, {"error": {"message": "no"}})
        words = len(body["messages"][-1]["content"].split())
        usage = {"prompt_tokens": words + 3, "completion_tokens": body["max_tokens"]}
        if not body.get("stream"):
            return self.reply(200, {"choices": [], "usage": usage})
        type(self).keys.append(self.headers.get("Authorization"))
        if self.status != 200:
            return self.reply(self.status, {"error": {"message": "scripted trouble"}})
        time.sleep(self.delay)
        events = [{"choices": [{"delta": {"content": "x"}}]} for _ in range(body["max_tokens"])]
        events += [{"choices": [{"delta": {}, "finish_reason": "length"}]}, {"choices": [], "usage": usage}]
        text = "".join(f"data: {json.dumps(e)}\n\n" for e in events) + "data: [DONE]\n\n"
        self.reply(200, text.encode(), "text/event-stream")


class Cli(unittest.TestCase):
    def setUp(self):
        self.handler = type("H", (Handler,), {"keys": []})
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self.handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.tmp = tempfile.TemporaryDirectory()

    def tearDown(self):
        self.server.shutdown()
        self.server.server_close()
        self.tmp.cleanup()

    def path(self, name):
        return os.path.join(self.tmp.name, name)

    def bench(self, *args, rc=0, env=()):
        run = subprocess.run([SLUICE, "bench", *map(str, args)], capture_output=True, text=True, timeout=60,
                             env={**{k: v for k, v in os.environ.items() if k != "OPENAI_API_KEY"}, **dict(env)},
                             cwd=self.tmp.name)
        self.assertEqual(run.returncode, rc, run.stdout + run.stderr)
        return run

    def serve(self, *args, **kwargs):
        return self.bench("serve", "--base-url", self.url, "--users", 2, "--requests", 6, "--input-len", 20,
                          "--output-len", 3, "--max-lag", 5000, *args, **kwargs)

    def test_a_good_run_exits_with_0_and_writes_its_files(self):
        out = self.serve("--json", self.path("a.json"), "--jsonl", self.path("a.jsonl"), "--html", self.path("a.html"),
                         "--goodput", "ttft:20000,tbt:20000", "--slo-fail").stdout
        with open(self.path("a.json")) as f:
            result = json.load(f)
        self.assertEqual(result["kind"], "sluice.bench.serve")
        self.assertEqual(result["version"], 1)
        self.assertEqual(result["requests"]["ok"], 6)
        self.assertEqual(result["tokens"]["input"]["p50"], 20)
        self.assertEqual(result["goodput"]["attainment"], 1)
        self.assertGreaterEqual(result["latency_ms"]["ttft"]["p50"], 10)
        with open(self.path("a.jsonl")) as f:
            lines = [json.loads(line) for line in f]
        self.assertEqual(len(lines), 6)
        self.assertEqual({line["outcome"] for line in lines}, {"OK"})
        with open(self.path("a.html")) as f:
            self.assertEqual(f.read().count("<svg"), 3)
        self.assertIn("scripted", out)

    def test_json_on_standard_output_is_alone_there(self):
        self.assertEqual(json.loads(self.serve("--json", "-").stdout)["requests"]["sent"], 6)

    def test_save_result_names_a_file_itself(self):
        self.serve("--save-result")
        names = os.listdir(self.tmp.name)
        self.assertEqual(len(names), 1)
        with open(self.path(names[0])) as f:
            json.load(f)

    def test_failures_exit_with_1(self):
        self.handler.status = 429
        out = self.serve(rc=1).stdout
        self.assertIn("429", out)
        self.assertIn("scripted trouble", out)

    def test_missed_targets_exit_with_3_only_if_asked(self):
        self.serve("--goodput", "ttft:1")
        self.serve("--goodput", "ttft:1", "--slo-fail", rc=3)
        self.serve("--goodput", "ttft:1", "--slo-fail=0")

    def test_an_invalid_run_exits_with_4(self):
        run = self.serve("--max-lag", "0.0001", "--json", self.path("a.json"), rc=4)
        self.assertIn("INVALID", run.stdout)
        with open(self.path("a.json")) as f:
            result = json.load(f)
        self.assertFalse(result["valid"])
        self.assertIn("late", result["invalid_why"])

    def test_names_of_vllm_bench_are_known(self):
        self.bench("serve", "--base-url", self.url, "--request-rate", 100, "--burstiness", 2, "--max-concurrency", 4,
                   "--num-prompts", 5, "--random-input-len", 12, "--random-output-len", 2, "--goodput", "ttft:9000",
                   "tpot:9000", "--seed", 3, "--max-lag", 5000)
        out = self.bench("serve", "--base-url", self.url, "--request-rate", "inf", "--max-concurrency", 2,
                         "--num-prompts", 4, "--random-input-len", 12, "--random-output-len", 2, "--max-lag", 5000).stdout
        self.assertIn("closed loop, 2 users", out)

    def test_the_key_comes_from_a_file_or_the_environment(self):
        with open(self.path("key"), "w") as f:
            f.write("from-file\n")
        self.serve("--api-key-file", self.path("key"))
        self.assertEqual(set(self.handler.keys), {"Bearer from-file"})
        self.handler.keys.clear()
        self.serve(env={"OPENAI_API_KEY": "from-env"}.items())
        self.assertEqual(set(self.handler.keys), {"Bearer from-env"})
        self.handler.keys.clear()
        self.serve()
        self.assertEqual(set(self.handler.keys), {None})

    def test_wrong_usage_exits_with_2_and_says_why(self):
        for args, word in [(["serve"], "--rate"), (["serve", "--users", "x"], "--users"), (["serve", "--nonsense"], "nonsense"),
                           (["serve", "--users", 1, "--input-len", "9-3"], "9-3"), (["serve", "--users", 1, "word"], "word"),
                           (["serve", "--users", 1, "--goodput", "x:1"], "x:1"), (["serve", "--users", 1, "--slo-fail"], "--goodput"),
                           (["compare", "--users", 1, "--base-url", "http://127.0.0.1:1"], "two"), (["nothing"], "nothing"), ([], "usage")]:
            self.assertIn(word, self.bench(*args, rc=2).stderr)

    def test_a_server_that_is_not_there_exits_with_1(self):
        self.assertIn("running", self.bench("serve", "--base-url", "http://127.0.0.1:9", "--users", 1, rc=1).stderr)
        self.assertIn("https", self.bench("serve", "--base-url", "https://127.0.0.1", "--users", 1, rc=1).stderr)

    def test_every_kind_has_help(self):
        for kind in ("engine", "serve", "sweep", "compare"):
            self.assertIn("usage: sluice bench " + kind, self.bench(kind, "--help").stdout)
            self.assertIn(kind, self.bench("--help").stdout)
        self.assertNotIn("--blocks", self.bench("serve", "--help").stdout)

    def test_a_sweep_and_a_comparison_write_json(self):
        self.bench("sweep", "--base-url", self.url, "--rate", 50, "--rate-max", 100, "--requests", 5, "--input-len", 12, "--output-len",
                   2, "--goodput", "ttft:20000", "--max-lag", 5000, "--json", self.path("s.json"))
        with open(self.path("s.json")) as f:
            sweep = json.load(f)
        self.assertEqual([p["rate"] for p in sweep["points"]], [50, 100])
        self.assertEqual(sweep["rate_at_99"], 100)
        self.assertFalse(sweep["unfinished"])
        self.bench("compare", "--base-url", self.url, "--base-url", self.url, "--users", 2, "--requests", 4, "--input-len", 12,
                   "--output-len", 2, "--blocks", 2, "--max-lag", 5000, "--json", self.path("c.json"))
        with open(self.path("c.json")) as f:
            compare = json.load(f)
        self.assertEqual(compare["a_requests"], 8)
        self.assertLess(compare["figures"]["ttft_p50"]["low_95"], compare["figures"]["ttft_p50"]["high_95"])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
