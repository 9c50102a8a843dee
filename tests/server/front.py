#!/usr/bin/env python3
"""The front over real sockets: routes, keys, limits, timeouts, pipelining, slow readers, disconnects, drain.

Goal: what server/ promises, seen from a client's side of the socket.
Method: fake_daemon (the real front, an engine that plays what the prompt says) is started with the options that a
test needs; plain sockets talk to it.  At the end of every daemon its log must hold no report of a sanitizer, and all
its slots must be free again.

usage: front.py PATH_OF_FAKE_DAEMON [names of tests]
"""
import atexit
import json
import os
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

BINARY = ""
JSON = "Content-Type: application/json\r\n"


class Daemon:
    def __init__(self, *args, env=None, files=None, ready=True):
        environ = {k: v for k, v in os.environ.items() if not k.startswith("SLUICE_")}
        environ.update(env or {})
        limit = (lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))) if files else None
        listen = [] if "--uds" in args else ["--port", "0"]
        self.process = subprocess.Popen([BINARY, *listen, *map(str, args)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, env=environ, preexec_fn=limit)
        atexit.register(self.process.kill)  # a test that failed leaves it running
        self.lines = []
        self.port = None
        self.listening = threading.Event()
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        if not self.listening.wait(60):
            raise RuntimeError("it does not listen:\n" + self.log)
        end = time.monotonic() + 60
        while ready and "server ready" not in self.log:
            if time.monotonic() > end or self.process.poll() is not None:
                raise RuntimeError("it is not ready:\n" + self.log)
            time.sleep(0.005)

    def read(self):
        for line in self.process.stderr:
            line = line.decode("utf-8", "replace")
            self.lines.append(line)
            m = re.search(r"listening address=(?:http://[^ ]*?:(\d+)|unix:)", line)
            if m:
                self.port = int(m[1]) if m[1] else None
                self.listening.set()
        self.listening.set()

    @property
    def log(self):
        return "".join(self.lines)

    def connect(self, timeout=20):
        s = socket.create_connection(("127.0.0.1", self.port), timeout=timeout)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return s

    def ask(self, method, path, body=None, headers=""):
        """One request on its own connection: Reply."""
        with self.connect() as s:
            s.sendall(request(method, path, body, headers + "Connection: close\r\n"))
            return Reply(s)

    def complete(self, prompt, **kw):
        return self.ask("POST", "/v1/completions", {"prompt": prompt, "max_tokens": 64, **kw})

    def chat(self, text, **kw):
        return self.ask("POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": text}], **kw})

    def metric(self, name):
        for line in self.ask("GET", "/metrics").body.decode().splitlines():
            if line.startswith(name + " "):
                return float(line.split(" ")[1])
        raise KeyError(name)

    def wait_metric(self, name, value, timeout=10):
        end = time.monotonic() + timeout
        while (now := self.metric(name)) != value:
            if time.monotonic() > end:
                raise AssertionError(f"{name} is {now}, not {value}, after {timeout} s\n{self.log[-3000:]}")
            time.sleep(0.01)

    def command(self, text):
        self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def stop(self, expect=0):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        self.reader.join(10)
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.stderr.close()
        assert "Sanitizer" not in self.log and "assertion" not in self.log, self.log[-8000:]
        assert code == expect, (code, self.log[-4000:])


def request(method, path, body=None, headers=""):
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}"
    if body is not None:
        head += f"Content-Length: {len(data)}\r\n" + ("" if "Content-Type" in headers else JSON)
    return head.encode() + b"\r\n" + data


class Reply:
    """Reads one reply from a socket; `rest` is what came behind it."""

    def __init__(self, s, data=b"", head=False):
        self.s, self.data = s, data
        while True:
            while b"\r\n\r\n" not in self.data:
                if not self.more():
                    raise EOFError(f"closed without a reply: {self.data[:200]!r}")
            text, self.data = self.data.split(b"\r\n\r\n", 1)
            lines = text.decode("latin-1").split("\r\n")
            self.status = int(lines[0].split()[1])
            if self.status != 100:
                break
        self.headers = {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in lines[1:])}
        self.body = b"" if head else self.read_body()
        self.rest = self.data

    def more(self):
        try:
            got = self.s.recv(65536)
        except ConnectionResetError:
            got = b""
        self.data += got
        return bool(got)

    def take(self, n):
        while len(self.data) < n:
            if not self.more():
                raise EOFError("closed inside a body")
        got, self.data = self.data[:n], self.data[n:]
        return got

    def read_body(self):
        if self.headers.get("transfer-encoding") == "chunked":
            body = b""
            while True:
                while b"\r\n" not in self.data:
                    if not self.more():
                        raise EOFError("closed inside a stream: " + body[-300:].decode("utf-8", "replace"))
                size, self.data = self.data.split(b"\r\n", 1)
                chunk = self.take(int(size, 16) + 2)
                if int(size, 16) == 0:
                    return body
                body += chunk[:-2]
        if "content-length" in self.headers:
            return self.take(int(self.headers["content-length"]))
        while self.more():
            pass
        got, self.data = self.data, b""
        return got

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        error = self.json["error"]
        assert set(error) == {"message", "type", "param", "code"}, error
        return error

    @property
    def events(self):
        """The JSON of each event; the last must be [DONE]."""
        parts = [p for p in self.body.decode().split("\n\n") if p and not p.startswith(":")]
        assert parts[-1] == "data: [DONE]", parts[-1]
        return [json.loads(p.removeprefix("data: ")) for p in parts[:-1]]

    @property
    def text(self):
        """The text of choice 0, streamed or not."""
        if self.headers["content-type"] != "text/event-stream":
            c = self.json["choices"][0]
            return c["message"]["content"] if "message" in c else c["text"]
        return "".join(c["delta"].get("content", "") if "delta" in c else c["text"]
                       for e in self.events for c in e["choices"] if c["index"] == 0)


class Front(unittest.TestCase):
    """One daemon for a class of tests."""
    options = ()
    env = None

    @classmethod
    def setUpClass(cls):
        cls.d = Daemon(*cls.options, env=cls.env)

    @classmethod
    def tearDownClass(cls):
        cls.d.wait_metric("sluice_slots_free", cls.d.metric("sluice_slots_total"))
        cls.d.stop()


class Routes(Front):
    def test_small_routes(self):
        for path in ("/live", "/ready", "/health"):
            r = self.d.ask("GET", path)
            self.assertEqual((r.status, r.json), (200, {"status": "ok"}))
        self.assertIn("version", self.d.ask("GET", "/version").json)
        self.assertEqual([m["id"] for m in self.d.ask("GET", "/v1/models").json["data"]], ["fake"])
        self.assertEqual(self.d.ask("GET", "/v1/models/fake").json["max_model_len"], 512)
        r = self.d.ask("GET", "/v1/models/no%2Fbody")
        self.assertEqual((r.status, r.error["code"]), (404, "model_not_found"))
        self.assertIn("no/body", r.error["message"])

    def test_unknown_routes_and_methods(self):
        r = self.d.ask("GET", "/nowhere?x=1")
        self.assertEqual((r.status, r.error["param"]), (404, None))
        self.assertEqual(r.headers["x-should-retry"], "false")
        for method, path, allow in (("GET", "/v1/chat/completions", "POST"), ("DELETE", "/v1/models/fake", "GET, HEAD"),
                                    ("POST", "/health", "GET, HEAD"), ("OPTIONS", "/v1/completions", "POST")):
            r = self.d.ask(method, path, {} if method == "POST" else None)
            self.assertEqual((r.status, r.headers["allow"]), (405, allow))
            self.assertNotIn("access-control-allow-origin", r.headers)

    def test_head(self):
        with self.d.connect() as s:
            s.sendall(request("HEAD", "/v1/models") + request("GET", "/v1/models", headers="Connection: close\r\n"))
            head = Reply(s, head=True)
            got = Reply(s, head.rest)
        self.assertEqual(head.headers["content-length"], got.headers["content-length"])
        self.assertEqual(got.status, 200)

    def test_request_ids(self):
        self.assertRegex(self.d.ask("GET", "/live").headers["x-request-id"], "^[0-9a-f]{32}$")
        ids = {self.d.ask("GET", "/nowhere").headers["x-request-id"] for _ in range(5)}
        self.assertEqual(len(ids), 5)
        self.assertEqual(self.d.ask("GET", "/live", headers="X-Request-Id: my.id_1-2\r\n").headers["x-request-id"], "my.id_1-2")
        for bad in ("a b", "x" * 65, "a\"b", "ä"):
            self.assertNotEqual(self.d.ask("GET", "/live", headers=f"X-Request-Id: {bad}\r\n").headers["x-request-id"], bad)

    def test_media_types(self):
        for kind, status in (("application/json", 200), ("application/json; charset=utf-8", 200), ("Application/JSON", 200),
                             ("text/plain", 415), ("application/x-www-form-urlencoded", 415), ("application/jsonx", 415)):
            r = self.d.ask("POST", "/tokenize", {"prompt": "x"}, f"Content-Type: {kind}\r\n")
            self.assertEqual(r.status, status, kind)
        body = b'{"prompt":"x"}'
        plain = b"POST /tokenize HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%sContent-Length: %d\r\n\r\n%s"
        for extra, status in ((b"", 200), (b"Origin: http://evil\r\n", 415)):
            with self.d.connect() as s:
                s.sendall(plain % (extra, len(body), body))
                self.assertEqual(Reply(s).status, status)

    def test_tokenize_and_back(self):
        for path in ("/tokenize", "/v1/tokenize"):
            r = self.d.ask("POST", path, {"prompt": "hello \u20ac", "return_token_strs": True}).json
            self.assertEqual(r["count"], len(r["tokens"]))
            self.assertEqual(len(r["token_strs"]), r["count"])
            back = self.d.ask("POST", path.replace("tokenize", "detokenize"), {"tokens": r["tokens"]}).json
            self.assertEqual(back["prompt"], "hello \u20ac")
        r = self.d.ask("POST", "/tokenize", {"messages": [{"role": "user", "content": "<|im_end|>"}]}).json
        self.assertEqual(r["tokens"].count(2), 1)
        r = self.d.ask("POST", "/detokenize", {"tokens": [384]})
        self.assertEqual((r.status, r.error["param"]), (400, "tokens"))
        big = "word " * 60000
        r = self.d.ask("POST", "/tokenize", {"prompt": big}).json
        self.assertEqual(self.d.ask("POST", "/detokenize", {"tokens": r["tokens"]}).json["prompt"], big)

    def test_state_signal(self):
        self.d.process.send_signal(signal.SIGUSR1)
        end = time.monotonic() + 10
        while "server state condition=ok" not in self.d.log:
            self.assertLess(time.monotonic(), end)
            time.sleep(0.01)


class Answers(Front):
    options = ("--served-model-name", "fake-1,fake-2", "--max-num-seqs", "8")

    def test_whole_chat(self):
        r = self.d.chat("[[say=hi there]]", model="fake-2")
        self.assertEqual(r.status, 200)
        a = r.json
        self.assertEqual((a["object"], a["model"]), ("chat.completion", "fake-2"))
        self.assertTrue(a["id"].startswith("chatcmpl-"))
        self.assertEqual(a["choices"], [{"index": 0, "message": {"role": "assistant", "content": "hi there", "refusal": None},
                                         "logprobs": None, "finish_reason": "stop"}])
        self.assertEqual(a["usage"]["completion_tokens"], 9)  # and the token that ended it
        self.assertEqual(a["usage"]["total_tokens"], a["usage"]["prompt_tokens"] + 9)
        self.assertRegex(r.headers["server-timing"], r"^queue;dur=[\d.]+, prefill;dur=[\d.]+, decode;dur=[\d.]+$")

    def test_stream_of_a_chat(self):
        r = self.d.chat("[[say=hi there|gap=2000]]", stream=True, stream_options={"include_usage": True})
        self.assertEqual(r.headers["content-type"], "text/event-stream")
        self.assertEqual((r.headers["cache-control"], r.headers["x-accel-buffering"]), ("no-cache", "no"))
        e = r.events
        self.assertEqual(e[0]["choices"][0]["delta"], {"role": "assistant", "content": ""})
        self.assertTrue(all("role" not in c["delta"] for x in e[1:] for c in x["choices"]))
        self.assertTrue(all(c["delta"]["content"] for x in e[1:-2] for c in x["choices"]))
        self.assertEqual((e[-2]["choices"][0]["delta"], e[-2]["choices"][0]["finish_reason"]), ({}, "stop"))
        self.assertEqual(e[-1]["choices"], [])
        self.assertEqual(e[-1]["usage"]["completion_tokens"], 9)
        self.assertTrue(all(x["usage"] is None for x in e[:-1]))
        self.assertEqual({(x["id"], x["created"], x["model"]) for x in e}, {(e[0]["id"], e[0]["created"], "fake-1")})
        self.assertEqual(r.text, "hi there")
        self.assertGreater(len(e), 5)

    def test_no_usage_unless_asked(self):
        self.assertTrue(all("usage" not in e for e in self.d.chat("[[say=x]]", stream=True).events))
        e = self.d.chat("[[say=abc|gap=1000]]", stream=True, stream_options={"include_usage": True, "continuous_usage_stats": True}).events
        counts = [x["usage"]["completion_tokens"] for x in e if x.get("usage")]
        self.assertEqual(counts, sorted(counts))
        self.assertEqual(counts[-1], 4)

    def test_stop_strings(self):
        for stream in (False, True):
            for gap in (0, 300):
                for stop, want in (("wor", "hello "), (["xx", "o w"], "hell"), ("world", "hello "), ("zzz", "hello world"), ("h", "")):
                    r = self.d.chat(f"[[say=hello world|gap={gap}]]", stop=stop, stream=stream)
                    self.assertEqual(r.text, want, (stop, stream))
                r = self.d.chat(f"[[say=hello world|gap={gap}]]", stop=["o w"], stream=stream, include_stop_str_in_output=True)
                self.assertEqual(r.text, "hello w")
        r = self.d.chat("[[say=hello world|repeat=30]]", stop="o w")
        self.assertEqual((r.json["choices"][0]["finish_reason"], r.json["choices"][0]["stop_reason"]), ("stop", "o w"))
        self.assertEqual(r.json["usage"]["completion_tokens"], 7)

    def test_characters_are_never_cut(self):
        want = "\u00e9\u20ac\U0001f30d\U0001f469\u200d\U0001f467 z"
        r = self.d.chat(f"[[hex={want.encode().hex()}|gap=1000]]", stream=True)
        self.assertEqual(r.text, want)
        self.assertNotIn("\ufffd", r.body.decode())
        self.assertEqual(self.d.chat("[[hex=61E282]]").text.rstrip("\ufffd"), "a")

    def test_completions(self):
        r = self.d.complete("[[say=abc]]", max_tokens=2)
        self.assertEqual((r.json["object"], r.text, r.json["choices"][0]["finish_reason"]), ("text_completion", "ab", "length"))
        self.assertEqual(r.json["usage"]["completion_tokens"], 2)
        for stream in (False, True):
            self.assertEqual(self.d.complete("[[say=abc]]", echo=True, stream=stream).text, "[[say=abc]]abc")
        r = self.d.complete(["[[say=one]]", "[[say=two]]"], n=2)
        self.assertEqual([(c["index"], c["text"]) for c in r.json["choices"]], [(0, "one"), (1, "one"), (2, "two"), (3, "two")])
        e = self.d.complete(["[[say=one]]", "[[say=two]]"], n=2, stream=True).events
        text = ["", "", "", ""]
        for x in e:
            for c in x["choices"]:
                text[c["index"]] += c["text"]
        self.assertEqual(text, ["one", "one", "two", "two"])
        self.assertEqual(sum(c["finish_reason"] is not None for x in e for c in x["choices"]), 4)

    def test_prompts_of_ids(self):
        ids = self.d.ask("POST", "/tokenize", {"prompt": "[[say=abc]]"}).json["tokens"]
        self.assertEqual(self.d.complete(ids, echo=True).text, "[[say=abc]]abc")
        r = self.d.complete([1, 2, 384])
        self.assertEqual((r.status, r.error["param"], r.error["code"]), (400, "prompt", "invalid_token"))

    def test_no_tokens_asked_for(self):
        for stream in (False, True):
            r = self.d.complete("abc", max_tokens=0, echo=True, stream=stream)
            self.assertEqual(r.text, "abc")
        self.assertEqual(self.d.complete("abc", max_tokens=0, logprobs=None).json["usage"]["completion_tokens"], 0)
        r = self.d.chat("abc", max_tokens=0, logprobs=True, return_token_ids=True)
        self.assertEqual(r.json["choices"][0]["finish_reason"], "length")

    def test_logprobs(self):
        for stream in (False, True):
            r = self.d.chat("[[hex=C3A97A|gap=1000]]", logprobs=True, top_logprobs=2, stream=stream)
            choices = [c for e in (r.events if stream else [r.json]) for c in e["choices"]]
            content = [t for c in choices if c["logprobs"] for t in c["logprobs"]["content"]]
            self.assertEqual([t["bytes"] for t in content], [[0xC3], [0xA9], [0x7A]])
            self.assertEqual([len(t["top_logprobs"]) for t in content], [2, 2, 2])
        r = self.d.complete("[[say=abc]]", logprobs=1)
        self.assertEqual(r.json["choices"][0]["logprobs"]["text_offset"], [0, 1, 2])
        r = self.d.complete("x", logprobs=1, echo=True)
        self.assertEqual((r.status, r.error["code"]), (400, "unsupported_parameter"))

    def test_token_ids(self):
        r = self.d.chat("[[say=ab]]", return_token_ids=True)
        self.assertEqual(r.json["choices"][0]["token_ids"], [3 + 97, 3 + 98])
        e = self.d.chat("[[say=ab|gap=1000]]", return_token_ids=True, stream=True).events
        self.assertEqual([i for x in e for c in x["choices"] for i in c.get("token_ids") or []], [100, 101])

    def test_lengths(self):
        r = self.d.chat("x" * 600)
        self.assertEqual((r.status, r.error["code"], r.error["param"]), (400, "context_length_exceeded", "messages"))
        self.assertRegex(r.error["message"], r"\b6\d\d\b.*\b512\b")
        r = self.d.complete("x" * 5000)
        self.assertIn("more than", r.error["message"])
        r = self.d.complete("")
        self.assertEqual((r.status, r.error["code"]), (400, "empty_prompt"))
        r = self.d.chat("[[say=abc]]", ignore_eos=True)
        self.assertEqual(r.json["usage"]["total_tokens"], 512)
        self.assertEqual(r.json["choices"][0]["finish_reason"], "length")
        self.assertEqual(self.d.chat("[[say=abc]]", ignore_eos=True, max_tokens=100000).json["usage"]["total_tokens"], 512)

    def test_parameters_are_checked_against_the_vocabulary(self):
        for field, value in (("logit_bias", {"384": 1}), ("stop_token_ids", [384])):
            r = self.d.complete("x", **{field: value})
            self.assertEqual((r.status, r.error["param"]), (400, field))
            self.assertEqual(self.d.complete("x", **{field: {"383": 1} if field == "logit_bias" else [383]}).status, 200)

    def test_models(self):
        for name in ("fake-1", "fake-2", "fake"):
            self.assertEqual(self.d.complete("x", model=name).status, 200)
        r = self.d.complete("x", model="gpt-4")
        self.assertEqual((r.status, r.error["code"]), (404, "model_not_found"))
        self.assertEqual([m["id"] for m in self.d.ask("GET", "/v1/models").json["data"]], ["fake-1", "fake-2"])

    def test_ignored_fields_are_named(self):
        r = self.d.complete("x", user="me", no_such_field=1, stream=True)
        self.assertIn("no_such_field", r.headers["x-sluice-ignored"])
        self.assertNotIn("x-sluice-ignored", self.d.complete("x").headers)

    def test_failures(self):
        r = self.d.chat("[[fail=0]]", stream=True)
        self.assertEqual((r.status, r.error["type"], r.headers["x-should-retry"]), (500, "server_error", "false"))
        r = self.d.chat("[[full=0]]")
        self.assertEqual((r.status, r.error["type"]), (429, "rate_limit_error"))
        self.assertIn("retry-after", r.headers)
        r = self.d.chat("[[say=abcdef|gap=1000|fail=3]]", stream=True)
        self.assertEqual(r.status, 200)
        self.assertEqual(r.events[-1]["error"]["type"], "server_error")
        self.assertEqual("".join(c["delta"].get("content", "") for e in r.events[:-1] for c in e["choices"]), "abc")
        r = self.d.chat("[[say=abcdef|gap=1000|fail=3]]")
        self.assertEqual(r.status, 500)
        r = self.d.complete(["[[hang]]", "[[fail=2]]"])
        self.assertEqual(r.status, 500)

    def test_too_many_choices(self):
        r = self.d.complete(["x"] * 40, n=8)
        self.assertEqual((r.status, r.error["code"]), (400, "too_many_choices"))

    def test_http_1_0(self):
        body = json.dumps({"prompt": "[[say=abc|gap=1000]]", "stream": True}).encode()
        for stream in (b"true", b"false"):
            with self.d.connect() as s:
                s.sendall(b"POST /v1/completions HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s" % (len(body) + (stream == b"false"),
                                                                                      body.replace(b"true", stream)))
                r = Reply(s)
            self.assertNotIn("transfer-encoding", r.headers)
            self.assertEqual(r.headers["connection"], "close")
            self.assertEqual(r.text, "abc")

    def test_log_has_figures_and_no_text(self):
        self.d.chat("canary-prompt [[say=canary-answer]]", user="canary-user")
        time.sleep(0.05)
        self.assertNotIn("canary", self.d.log)
        self.assertRegex(self.d.log, r"path=/v1/chat/completions status=200 ms=[\d.]+ prompt=\d+ cached=0 completion=14 .*finish=stop")

    def test_metrics(self):
        before = self.d.metric("sluice_request_e2e_seconds_count")
        self.d.chat("[[say=abcd]]")
        self.assertEqual(self.d.metric("sluice_request_e2e_seconds_count"), before + 1)
        text = self.d.ask("GET", "/metrics").body.decode()
        self.assertIn('sluice_http_requests_total{route="/v1/chat/completions",status="200"}', text)
        self.assertNotIn("vllm:", text)

    def test_a_large_body_is_prepared_in_the_pool(self):
        r = self.d.complete("x" * 400 + "[[say=abc]]", metadata={"a": "y" * 20000})
        self.assertEqual((r.status, r.text), (200, "abc"))
        with self.d.connect() as s:  # gone while the pool works
            s.sendall(request("POST", "/v1/completions", {"prompt": "x" * 400, "metadata": {"a": "y" * 300000}}))
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class NoTemplate(Front):
    options = ("--chat-template", "none", "--strict-params", "--vllm-metric-aliases")

    def test_chat_is_refused_with_advice(self):
        r = self.d.chat("x")
        self.assertEqual((r.status, r.error["code"]), (400, "no_chat_template"))
        self.assertIn("--chat-template", r.error["message"])
        self.assertEqual(self.d.complete("x").status, 200)

    def test_strict_parameters(self):
        r = self.d.complete("x", no_such_field=1)
        self.assertEqual((r.status, r.error["param"]), (400, "no_such_field"))

    def test_aliases(self):
        self.assertIn("vllm:num_requests_running{model_name=\"fake\",engine=\"0\"} 0", self.d.ask("GET", "/metrics").body.decode())


class Keys(unittest.TestCase):
    def test_every_route_but_two_needs_a_key(self):
        with tempfile.NamedTemporaryFile("w") as f:
            f.write("# comment\nfirst-canary\nsecond-canary\n")
            f.flush()
            d = Daemon("--api-key-file", f.name)
        for path in ("/live", "/health"):
            self.assertEqual(d.ask("GET", path).status, 200)
        for method, path in (("GET", "/ready"), ("GET", "/metrics"), ("GET", "/version"), ("GET", "/v1/models"), ("GET", "/v1/models/x"),
                             ("POST", "/v1/chat/completions"), ("POST", "/v1/completions"), ("POST", "/tokenize"), ("POST", "/detokenize"),
                             ("POST", "/v1/tokenize"), ("POST", "/v1/detokenize"), ("GET", "/"), ("GET", "/nowhere"), ("PUT", "/live/")):
            for headers in ("", "Authorization: Bearer wrong\r\n", "Authorization: Bearer first-canar\r\n", "Authorization: Bearer \r\n",
                            "X-Api-Key: first-canary2\r\n", "Authorization: Basic first-canary\r\n"):
                r = d.ask(method, path, {} if method == "POST" else None, headers)
                self.assertEqual((r.status, r.error["code"]), (401, "invalid_api_key"), (path, headers))
                self.assertIn("Bearer", r.headers["www-authenticate"])
        for headers in ("Authorization: Bearer first-canary\r\n", "authorization: bearer second-canary\r\n", "X-Api-Key: second-canary\r\n"):
            self.assertEqual(d.ask("GET", "/v1/models", headers=headers).status, 200)
            self.assertEqual(d.ask("GET", "/nowhere", headers=headers).status, 404)
        with d.connect() as s:  # a large body is refused before it comes
            s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
            r = Reply(s)
            self.assertEqual((r.status, r.headers["connection"]), (401, "close"))
        with d.connect() as s:
            s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n")
            self.assertTrue(s.recv(100).startswith(b"HTTP/1.1 401"))
        with d.connect() as s:  # a small one is read, and the connection goes on
            s.sendall(request("POST", "/v1/completions", {"prompt": "x"}) + request("GET", "/live"))
            self.assertEqual(Reply(s, Reply(s).rest).status, 200)
        self.assertNotIn("canary", d.log)
        d.stop()

    def test_who_may_listen_where(self):
        for args in (("--host", "0.0.0.0"), ("--host", "::")):
            p = subprocess.run([BINARY, "--port", "0", *args], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
            self.assertEqual(p.returncode, 1)
            self.assertIn("--api-key-file", p.stderr)
        d = Daemon("--host", "0.0.0.0", "--insecure")
        self.assertEqual(d.ask("GET", "/live").status, 200)
        d.stop()
        p = subprocess.run([BINARY, "--port", "0", "--api-key-file", "/nowhere"], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
        self.assertEqual(p.returncode, 1)
        self.assertIn("/nowhere", p.stderr)

    def test_port_in_use(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            s.listen()
            port = s.getsockname()[1]
            p = subprocess.run([BINARY, "--port", str(port)], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
        self.assertEqual(p.returncode, 1)
        self.assertIn("in use", p.stderr)
        self.assertIn(str(port), p.stderr)


class Connections(Front):
    options = ("--max-num-seqs", "4", "--max-queued-requests", "60", "--max-model-len", "8192", "--max-body-bytes", "65536")

    def test_pipelined_requests_are_answered_in_order(self):
        want, raw = [], b""
        for i in range(40):
            if i % 3 == 0:
                raw += request("POST", "/v1/completions", {"prompt": f"[[say=answer{i}|first={(40 - i) * 100}]]", "stream": i % 2 == 0})
                want.append(f"answer{i}")
            elif i % 3 == 1:
                raw += request("GET", f"/v1/models/m{i}")
                want.append(f"m{i}")
            else:
                raw += request("POST", "/tokenize", {"prompt": "x" * i})
                want.append(f"\"count\":{i}")
        with self.d.connect() as s:
            sender = threading.Thread(target=s.sendall, args=(raw,))
            sender.start()
            rest = b""
            for w in want:
                r = Reply(s, rest)
                rest = r.rest
                self.assertIn(w, r.text if r.status == 200 and "choices" in r.body.decode() else r.body.decode())
            sender.join()
        self.assertEqual(rest, b"")

    def test_bytes_one_by_one(self):
        raw = request("POST", "/v1/completions", {"prompt": "[[say=abc]]"}) + request("GET", "/live")
        with self.d.connect() as s:
            for b in raw:
                s.sendall(bytes([b]))
            r = Reply(s)
            self.assertEqual(r.text, "abc")
            self.assertEqual(Reply(s, r.rest).status, 200)

    def test_a_client_that_pipelines_and_never_reads(self):
        """It is not read from any more, long before memory is gone."""
        with self.d.connect() as s:
            s.settimeout(2)
            raw, sent = request("GET", "/metrics") * 200, 0
            with self.assertRaises(TimeoutError):
                while sent < 200 << 20:
                    sent += s.send(raw)
        self.assertLess(self.d.metric("sluice_resident_memory_bytes"), 2 << 30)

    def test_much_is_pipelined_behind_an_answer(self):
        raw = request("POST", "/v1/completions", {"prompt": "[[say=abc|first=300000]]"}) + request("GET", "/live") * 5000
        with self.d.connect() as s:
            sender = threading.Thread(target=s.sendall, args=(raw,))
            sender.start()
            r = Reply(s)
            self.assertEqual(r.text, "abc")
            for _ in range(5000):
                r = Reply(s, r.rest)
                self.assertEqual(r.status, 200)
            sender.join()

    def test_keep_alive_and_close(self):
        with self.d.connect() as s:
            for _ in range(3):
                s.sendall(request("GET", "/live"))
                self.assertEqual(Reply(s).headers["connection"], "keep-alive")
            s.sendall(request("GET", "/live", headers="Connection: close\r\n"))
            self.assertEqual(Reply(s).headers["connection"], "close")
            self.assertEqual(s.recv(1), b"")

    def test_bodies_over_the_limit(self):
        with self.d.connect() as s:
            s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 65537\r\n\r\n" + b"x" * 65537)
            r = Reply(s)
            self.assertEqual((r.status, r.headers["connection"]), (413, "close"))
        with self.d.connect() as s:
            s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + (b"1000\r\n" + b"x" * 4096 + b"\r\n") * 17)
            self.assertEqual(Reply(s).status, 413)
        body = json.dumps({"prompt": "[[say=abc]]", "user": "u" * 400}).encode()
        pad = b" " * (65536 - len(body))
        self.assertEqual(self.d.ask("POST", "/v1/completions", body + pad).status, 200)

    def test_malformed_bytes_are_answered_and_cut(self):
        for raw, status in ((b"\x16\x03\x01\x02\x00", 400), (b"GET / HTTP/1.1\r\n\r\n", 400), (b"GET /" + b"a" * 5000, 414),
                            (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20000, 431)):
            with self.d.connect() as s:
                s.sendall(raw)
                r = Reply(s)
                self.assertEqual((r.status, r.headers["connection"]), (status, "close"))
                r.error
                self.assertEqual(s.recv(1), b"")

    def test_half_closed_clients_get_their_answer(self):
        for stream in (False, True):
            with self.d.connect() as s:
                s.sendall(request("POST", "/v1/completions", {"prompt": "[[say=abcdef|gap=50000]]", "stream": stream}))
                s.shutdown(socket.SHUT_WR)
                r = Reply(s)
                self.assertEqual(r.text, "abcdef")
                self.assertEqual(s.recv(1), b"")

    def gone(self, prompt, reset, wait=0.1, **kw):
        s = self.d.connect()
        s.sendall(request("POST", "/v1/completions", {"prompt": prompt, **kw}))
        time.sleep(wait)
        if reset:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.close()

    def test_a_client_that_goes_frees_its_slot(self):
        before = self.d.metric("sluice_requests_cancelled_total")
        for reset in (False, True):
            for kw in ({"stream": True}, {"stream": False}):
                self.gone("[[say=abc|gap=20000]]", reset, ignore_eos=True, max_tokens=8000, **kw)
                self.gone("[[hang]]", reset, **kw)
        self.d.wait_metric("sluice_slots_free", 64, timeout=3)
        self.assertEqual(self.d.metric("sluice_requests_cancelled_total"), before + 8)
        self.assertGreaterEqual(self.d.metric("sluice_clients_gone_total"), 8)
        self.assertIn("status=499", self.d.log)

    def test_a_queued_client_that_goes_frees_its_slot(self):
        blockers = [self.d.connect() for _ in range(4)]
        for s in blockers:
            s.sendall(request("POST", "/v1/completions", {"prompt": "[[hang]]"}))
        self.d.wait_metric("sluice_requests_running", 4)
        for reset in (False, True):
            self.gone("x", reset)
            self.gone("x", reset, stream=True)
        self.d.wait_metric("sluice_requests_queued", 0, timeout=3)
        self.assertEqual(self.d.metric("sluice_requests_running"), 4)
        for s in blockers:
            s.close()
        self.d.wait_metric("sluice_slots_free", 64, timeout=3)

    def test_full_is_a_429(self):
        socks = [self.d.connect() for _ in range(63)]
        for s in socks:
            s.sendall(request("POST", "/v1/completions", {"prompt": "[[hang]]"}))
        self.d.wait_metric("sluice_slots_free", 1)
        r = self.d.complete("x", n=2)
        self.assertEqual((r.status, r.error["code"]), (429, "queue_full"))
        last = self.d.connect()
        last.sendall(request("POST", "/v1/completions", {"prompt": "[[hang]]"}))
        self.d.wait_metric("sluice_slots_free", 0)
        with self.d.connect() as s:  # refused without a look at the body; the connection goes on
            s.sendall(request("POST", "/v1/completions", b"no json") + request("GET", "/live"))
            r = Reply(s)
            self.assertEqual((r.status, r.error["type"]), (429, "rate_limit_error"))
            self.assertGreaterEqual(int(r.headers["retry-after"]), 1)
            self.assertGreater(int(r.headers["retry-after-ms"]), 0)
            self.assertEqual(Reply(s, r.rest).status, 200)
        for s in socks + [last]:
            s.close()
        self.d.wait_metric("sluice_slots_free", 64, timeout=5)
        self.assertEqual(self.d.complete("[[say=a]]").status, 200)

    def test_a_slow_reader_gets_everything_and_disturbs_nobody(self):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.settimeout(60)
        s.connect(("127.0.0.1", self.d.port))
        s.sendall(request("POST", "/v1/completions", {"prompt": "[[say=0123456789]]", "max_tokens": 8000, "ignore_eos": True, "stream": True}))
        time.sleep(0.3)
        begin = time.monotonic()
        self.assertEqual(self.d.complete("[[say=quick]]").text, "quick")
        self.assertLess(time.monotonic() - begin, 2)
        r = Reply(s)
        s.close()
        self.assertEqual(r.text, "0123456789" * 800)

    def test_a_slow_reader_with_logprobs(self):
        """Enough bytes that tokens have to wait in their slot."""
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.settimeout(60)
        s.connect(("127.0.0.1", self.d.port))
        s.sendall(request("POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": "[[say=0123456789]]"}], "max_tokens": 6000,
                                                           "ignore_eos": True, "stream": True, "logprobs": True, "top_logprobs": 5}))
        time.sleep(1)
        r = Reply(s)
        s.close()
        self.assertEqual(r.text, "0123456789" * 600)
        self.assertEqual(sum(len(c["logprobs"]["content"]) for e in r.events for c in e["choices"] if c["logprobs"]), 6000)

    def test_many_idle_connections(self):
        before = self.d.metric("sluice_resident_memory_bytes")
        socks = [self.d.connect() for _ in range(400)]
        for s in socks[::2]:  # half of them have had an answer
            s.sendall(request("GET", "/live"))
            self.assertEqual(Reply(s).status, 200)
        self.d.wait_metric("sluice_connections_open", 401)
        grown = self.d.metric("sluice_resident_memory_bytes") - before
        for s in socks:
            s.close()
        if "san" not in BINARY:
            self.assertLess(grown / 400, 8192)
        self.d.wait_metric("sluice_connections_open", 1)


class Limits(unittest.TestCase):
    def test_connections_over_the_limit(self):
        d = Daemon("--max-connections", 4)
        socks = [d.connect() for _ in range(4)]
        for s in socks:
            s.sendall(request("GET", "/live"))
            self.assertEqual(Reply(s).status, 200)
        with d.connect() as s:
            r = Reply(s)
            self.assertEqual((r.status, r.error["code"]), (503, "too_many_connections"))
        socks.pop().close()
        time.sleep(0.1)
        self.assertEqual(d.ask("GET", "/live").status, 200)
        for s in socks:
            s.close()
        d.stop()

    def test_few_file_descriptors(self):
        d = Daemon(files=200)
        self.assertIn("file descriptors allow 136 connections", d.log)
        socks = []
        for _ in range(300):
            socks.append(d.connect())
        time.sleep(0.2)
        for s in socks:
            s.close()
        end = time.monotonic() + 10
        while True:
            try:
                if d.ask("GET", "/live").status == 200:
                    break
            except (OSError, EOFError):
                pass
            self.assertLess(time.monotonic(), end)
        d.stop()

    def test_unix_socket(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "s")
            for _ in range(2):
                d = Daemon("--uds", path)
                with socket.socket(socket.AF_UNIX) as s:
                    s.settimeout(20)
                    s.connect(path)
                    s.sendall(request("POST", "/v1/completions", {"prompt": "[[say=abc]]"}))
                    self.assertEqual(Reply(s).text, "abc")
                p = subprocess.run([BINARY, "--uds", path], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
                self.assertEqual(p.returncode, 1)
                self.assertIn("in use", p.stderr)
                with socket.socket(socket.AF_UNIX) as s:  # one that goes while it waits
                    s.connect(path)
                    s.sendall(request("POST", "/v1/completions", {"prompt": "[[hang]]"}))
                    time.sleep(0.1)
                time.sleep(0.5)
                self.assertIn("status=499", d.log)
                d.stop()
                self.assertFalse(os.path.exists(path))
            with socket.socket(socket.AF_UNIX) as s:  # left behind by a crash
                s.bind(path)
            Daemon("--uds", path).stop()

    def test_failed_allocations_harm_one_request_at_most(self):
        """Every allocation of a request fails once (a text may then be called malformed: 400)."""
        d = Daemon("--max-num-seqs", 4)

        def once(raw):
            with d.connect() as s:
                s.sendall(raw)
                try:
                    return Reply(s).status
                except EOFError:
                    return 0

        for stream in (False, True):
            raw = request("POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": "[[say=abc]]"}], "stream": stream,
                                                           "logprobs": True, "top_logprobs": 1, "stop": ["zz"], "frequency_penalty": 1,
                                                           "logit_bias": {"5": 1}, "metadata": {"a": "y" * 5000}})
            d.command("fail 0")
            self.assertEqual(once(raw), 200)
            count = d.command("fail 0")
            self.assertGreater(count, 20)
            statuses = []
            for n in range(1, count + 1):
                d.command(f"fail {n}")
                statuses.append(once(raw))
                d.command("fail 0")
                if n % 5 == 0:
                    self.assertEqual(d.chat("[[say=abc]]").text, "abc")
            self.assertLessEqual(set(statuses), {0, 200, 400, 500, 503})
            self.assertGreater(len([s for s in statuses if s in (0, 500, 503)]), 10)
        d.wait_metric("sluice_slots_free", d.metric("sluice_slots_total"))
        d.stop()


class Timeouts(unittest.TestCase):
    """All at once, because they mostly wait."""

    def run_all(self, *parts):
        failures = []

        def guarded(part):
            try:
                part()
            except Exception as e:  # noqa: BLE001 (told below)
                failures.append((part.__name__, repr(e)))

        threads = [threading.Thread(target=guarded, args=(p,)) for p in parts]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(failures, [])

    def test_deadlines(self):
        d = Daemon("--header-timeout", 1, "--body-timeout", 2, "--idle-timeout", 1, "--write-timeout", 1, "--stall-timeout", 1,
                   "--max-model-len", 8192)

        def close_time(s):
            begin = time.monotonic()
            data = b""
            while more := s.recv(65536):
                data += more
            return time.monotonic() - begin, data

        def idle():
            with d.connect() as s:
                took, data = close_time(s)
                assert 0.8 < took < 4 and data == b"", (took, data)

        def idle_between_requests():
            with d.connect() as s:
                s.sendall(request("GET", "/live"))
                Reply(s)
                took, data = close_time(s)
                assert 0.8 < took < 4 and data == b"", (took, data)

        def headers():
            with d.connect() as s:
                s.sendall(b"GET /live HTT")
                took, data = close_time(s)
                assert 0.8 < took < 4 and b" 408 " in data, (took, data)

        def dripping_headers():
            with d.connect() as s:
                begin = time.monotonic()
                s.settimeout(0.1)
                data = b""
                for b in b"GET /live HTTP/1.1\r\nHost: " + b"a" * 200:
                    s.sendall(bytes([b]))
                    try:
                        data = s.recv(1000)
                        break
                    except TimeoutError:
                        pass
                assert b" 408 " in data and time.monotonic() - begin < 5, data

        def body():
            with d.connect() as s:
                s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
                took, data = close_time(s)
                assert 1.8 < took < 5 and b" 408 " in data, (took, data)
                assert b"request_timeout" in data

        def reader_that_stops():
            s = socket.socket()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.connect(("127.0.0.1", d.port))
            s.sendall(request("POST", "/v1/completions", {"prompt": "[[say=x|gap=200]]", "max_tokens": 8000, "ignore_eos": True, "stream": True, "logprobs": 5}))
            d.wait_metric("sluice_clients_gone_total", 1, timeout=20)
            s.close()

        self.run_all(idle, idle_between_requests, headers, dripping_headers, body, reader_that_stops)
        self.assertIn("stopped reading", d.log)
        # A stalled engine, and one that moves again.
        s = d.connect()
        s.sendall(request("POST", "/v1/completions", {"prompt": "[[hang]]"}))
        end = time.monotonic() + 10
        while (r := d.ask("GET", "/health")).status != 503:
            self.assertLess(time.monotonic(), end)
            time.sleep(0.05)
        self.assertEqual(r.json, {"status": "stalled"})
        self.assertEqual(d.ask("GET", "/live").status, 200)
        s.close()
        while d.ask("GET", "/ready").status != 200:
            self.assertLess(time.monotonic(), end)
            time.sleep(0.05)
        d.wait_metric("sluice_slots_free", d.metric("sluice_slots_total"))
        d.stop()

    def test_slow_bodies_and_silent_streams(self):
        d = Daemon()

        def slow_body():
            with d.connect() as s:
                s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
                begin = time.monotonic()
                s.settimeout(0.5)
                data = b""
                while not data and time.monotonic() - begin < 20:
                    s.sendall(b" " * 100)
                    try:
                        data = s.recv(1000)
                    except TimeoutError:
                        pass
                assert b" 408 " in data and 9 < time.monotonic() - begin < 16, data

        def silent_stream():
            with d.connect(timeout=30) as s:
                s.sendall(request("POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": "[[say=abc|first=10700000]]"}], "stream": True}))
                r = Reply(s)
                assert r.body.startswith(b": ping\n\n"), r.body[:100]
                assert r.text == "abc"

        self.run_all(slow_body, silent_stream)
        d.stop()


class Life(unittest.TestCase):
    def stream(self, d, prompt, **kw):
        s = d.connect()
        s.sendall(request("POST", "/v1/completions", {"prompt": prompt, "stream": True, "max_tokens": 400, **kw}))
        return s, s.recv(20)

    def test_loading(self):
        d = Daemon(env={"FAKE_LOAD_MS": "1500"}, ready=False)
        self.assertEqual(d.ask("GET", "/live").status, 200)
        for path in ("/ready", "/health"):
            r = d.ask("GET", path)
            self.assertEqual((r.status, r.json), (503, {"status": "loading"}))
        r = d.chat("x")
        self.assertEqual((r.status, r.error["code"], r.headers["retry-after"]), (503, "loading", "1"))
        self.assertEqual(d.ask("GET", "/v1/models").status, 503)
        self.assertEqual(d.metric("sluice_ready"), 0)
        end = time.monotonic() + 20
        while d.ask("GET", "/ready").status != 200:
            self.assertLess(time.monotonic(), end)
            time.sleep(0.05)
        self.assertEqual(d.chat("[[say=abc]]").text, "abc")
        d.stop()

    def test_stop_while_loading(self):
        d = Daemon(env={"FAKE_LOAD_MS": "700"}, ready=False)
        d.stop()

    def test_drain(self):
        d = Daemon("--shutdown-timeout", 20)
        s, first = self.stream(d, "[[say=abcdefghij|gap=100000]]")
        idle = d.connect()
        idle.sendall(request("GET", "/live"))
        self.assertEqual(Reply(idle).status, 200)
        d.process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        r = d.ask("GET", "/ready")
        self.assertEqual((r.status, r.json), (503, {"status": "shutting_down"}))
        self.assertEqual(d.ask("GET", "/live").status, 200)
        r = d.complete("x")
        self.assertEqual((r.status, r.error["code"]), (503, "shutting_down"))
        self.assertIn("retry-after-ms", r.headers)
        idle.sendall(request("POST", "/v1/completions", {"prompt": "x"}))
        r = Reply(idle)
        self.assertEqual((r.status, r.headers["connection"]), (503, "close"))
        r = Reply(s, first)
        self.assertEqual(r.text, "abcdefghij")
        self.assertEqual(d.process.wait(10), 0)
        s.close()
        idle.close()
        d.stop()

    def test_the_end_of_a_drain(self):
        d = Daemon("--shutdown-timeout", 1)
        s, first = self.stream(d, "[[say=abc|gap=50000]]", ignore_eos=True)
        waiting = d.connect()
        waiting.sendall(request("POST", "/v1/completions", {"prompt": "[[hang]]"}))
        d.wait_metric("sluice_requests_running", 2)
        begin = time.monotonic()
        d.process.send_signal(signal.SIGINT)
        r = Reply(s, first)
        self.assertEqual(r.events[-1]["error"]["type"], "server_error")
        self.assertEqual(Reply(waiting).status, 503)
        self.assertEqual(d.process.wait(10), 0)
        self.assertLess(time.monotonic() - begin, 8)
        s.close()
        waiting.close()
        d.stop()

    def test_a_second_signal(self):
        d = Daemon("--shutdown-timeout", 600)
        s, _ = self.stream(d, "[[say=abc|gap=50000]]", ignore_eos=True)
        d.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        self.assertIsNone(d.process.poll())
        d.process.send_signal(signal.SIGTERM)
        self.assertEqual(d.process.wait(10), 143)
        s.close()
        d.stop(expect=143)

    def test_random_disconnects(self):
        import random
        rng = random.Random(1)
        d = Daemon("--max-num-seqs", 8, "--max-queued-requests", 40)
        raw = request("POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": "[[say=abcdefgh|gap=300]]"}], "stream": True,
                                                       "ignore_eos": True, "max_tokens": 200, "n": 2})

        def one(seed):
            rng = random.Random(seed)
            for _ in range(12):
                s = d.connect()
                try:
                    s.sendall(raw[:int(len(raw) * min(1.0, rng.random() * 3))])
                    if rng.random() < 0.6:
                        s.settimeout(0.05)
                        s.recv(rng.randrange(1, 3000))
                except OSError:
                    pass
                if rng.random() < 0.5:
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                s.close()

        threads = [threading.Thread(target=one, args=(rng.random(),)) for _ in range(16)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        d.wait_metric("sluice_slots_free", 48, timeout=20)
        d.wait_metric("sluice_requests_running", 0)
        d.wait_metric("sluice_connections_open", 1)
        d.stop()


if __name__ == "__main__":
    BINARY = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=2)
