"""Start, stop, keys, bad files, options: what an operator meets."""
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time

import pytest

from conftest import BINARY, read_response


def run(*args, timeout=60, **kw):
    return subprocess.run([BINARY, *map(str, args)], capture_output=True, text=True, timeout=timeout, **kw)


def test_keys(start, tiny_files):
    with tempfile.NamedTemporaryFile("w", suffix=".keys") as f:
        f.write("# a comment\nfirst-key\nsecond-key\n")
        f.flush()
        d = start("--model", tiny_files["llama"], "--api-key-file", f.name, ready=False)
        d.listening.wait(60)
        while d.get("/ready", ["Authorization: Bearer first-key"])[0] != 200:
            time.sleep(0.02)
    assert d.get("/live")[0] == 200 and d.get("/health")[0] == 200
    for path in ("/v1/models", "/metrics", "/version", "/ready", "/nowhere"):
        status, headers, body = d.get(path)
        assert status == 401, path
        assert headers["www-authenticate"].startswith("Bearer")
        assert json.loads(body)["error"]["code"] == "invalid_api_key"
    for path in ("/v1/chat/completions", "/v1/completions", "/tokenize", "/detokenize"):
        assert d.request("POST", path, "{}")[0] == 401
    assert d.get("/v1/models", ["Authorization: Bearer wrong"])[0] == 401
    assert d.get("/v1/models", ["Authorization: Bearer first-ke"])[0] == 401
    assert d.get("/v1/models", ["Authorization: Bearer # a comment"])[0] == 401
    assert d.get("/v1/models", ["Authorization: Bearer second-key"])[0] == 200
    assert d.get("/v1/models", ["X-Api-Key: first-key"])[0] == 200
    assert "first-key" not in d.log


def test_an_open_address_needs_keys(tiny_files):
    r = run("serve", "--model", tiny_files["llama"], "--host", "0.0.0.0", "--port", 0)
    assert r.returncode != 0 and "--api-key-file" in r.stderr


def stream_request(d, tokens):
    body = json.dumps({"prompt": "hello", "max_tokens": tokens, "ignore_eos": True, "stream": True, "model": d.name})
    s = d.connect(timeout=60)
    s.sendall(f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
    return s


def test_sigterm_drains(start, tiny_files):
    d = start("--model", tiny_files["llama"], "--shutdown-timeout", 30, "--served-model-name", "tiny")
    d.name = "tiny"
    s = stream_request(d, 1200)
    first = s.recv(100)
    d.process.send_signal(signal.SIGTERM)
    time.sleep(0.05)
    try:
        status = d.request("POST", "/v1/completions", json.dumps({"model": "tiny", "prompt": "x"}))[0]
        assert status == 503
    except ConnectionError:
        pass  # it may have stopped listening already
    status, _, body = read_response(s, first)
    assert status == 200 and body.rstrip().endswith(b"data: [DONE]") and b'"error"' not in body
    assert d.stop() == 0


def test_drain_has_an_end(start, tiny_files):
    d = start("--model", tiny_files["llama"], "--shutdown-timeout", 0, "--served-model-name", "tiny")
    d.name = "tiny"
    s = stream_request(d, 2000)
    first = s.recv(100)
    begin = time.monotonic()
    d.process.send_signal(signal.SIGTERM)
    status, _, body = read_response(s, first)
    assert b'"error"' in body or b"[DONE]" in body
    d.stop()
    assert time.monotonic() - begin < 15


def test_second_signal_stops_at_once(start, tiny_files):
    d = start("--model", tiny_files["llama"], "--shutdown-timeout", 600, "--max-num-seqs", 1, "--served-model-name", "tiny")
    d.name = "tiny"
    socks = [stream_request(d, 2000) for _ in range(40)]
    socks[0].recv(100)
    d.process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    begin = time.monotonic()
    d.process.send_signal(signal.SIGTERM)
    d.process.wait(15)
    assert time.monotonic() - begin < 10


def test_port_in_use(tiny_files):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        r = run("serve", "--model", tiny_files["llama"], "--port", port)
        assert r.returncode == 1 and str(port) in r.stderr and "in use" in r.stderr


def test_bad_model_files(tiny_files, tmp_path):
    good = open(tiny_files["llama"], "rb").read()
    cases = {
        "missing.gguf": (None, "missing.gguf"),
        "empty.gguf": (b"", "empty.gguf"),
        "text.gguf": (b"this is no model " * 10, "GGUF"),
        "truncated.gguf": (good[:len(good) // 2], "does not lie inside"),
        "header.gguf": (good[:1000], "tokenizer.ggml.tokens"),
        "arch.gguf": (good.replace(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0mamba"), "mamba"),
        "missing-tensor.gguf": (good.replace(b"blk.1.attn_q.weight", b"blk.1.attn_x.weight"), "blk.1.attn_q.weight"),
        "zero-heads.gguf": (good.replace(b"attention.head_count_kv\x04\0\0\0\x02", b"attention.head_count_kv\x04\0\0\0\x00"), "head_count_kv"),
        "odd-heads.gguf": (good.replace(b"attention.head_count_kv\x04\0\0\0\x02", b"attention.head_count_kv\x04\0\0\0\x03"), "head"),
        "tokenizer.gguf": (good.replace(b"smollm", b"smallm"), "smallm"),
    }
    for name, (data, want) in cases.items():
        path = tmp_path / name
        if data is not None:
            assert data != good
            path.write_bytes(data)
        r = run("serve", "--model", path, "--port", 0)
        assert r.returncode == 1, (name, r.stderr)
        assert want in r.stderr, (name, r.stderr)
        check = run("serve", "--model", path, "--check")
        assert check.returncode == 1, (name, check.stdout, check.stderr)


def test_check_and_print_config(tiny_files, tmp_path):
    r = run("serve", "--model", tiny_files["llama"], "--check")
    assert r.returncode == 0 and "KV" in r.stdout + r.stderr
    conf = tmp_path / "sluice.conf"
    conf.write_text("[server]\nport = 1234\nmax_num_seqs = 3\n")
    env = {**os.environ, "SLUICE_PORT": "2345"}
    r = run("serve", "--config", conf, "--print-config", env=env)
    assert r.returncode == 0 and "2345" in r.stdout and "max_num_seqs" in r.stdout
    back = tmp_path / "back.conf"
    back.write_text(r.stdout)
    again = run("serve", "--config", back, "--print-config")
    assert "2345" in again.stdout
    conf.write_text("prot = 1234\n")
    r = run("serve", "--config", conf, "--print-config")
    assert r.returncode == 2 and "port" in r.stderr and "sluice.conf" in r.stderr


@pytest.mark.parametrize("args, want", [
    (["serve"], "--model"), (["serve", "--modle", "x"], "--model"), (["serve", "--port", "99999", "--model", "x"], "port"),
    (["serve", "--api-key", "secret", "--model", "x"], "--api-key-file"), (["server"], "serve"), (["inspect"], "file"),
    (["serve", "--model", "x", "--device", "cuda"], "CUDA"), (["serve", "--model", "x", "--max-num-seqs", "0"], "max-num-seqs"),
])
def test_wrong_usage_is_explained(args, want):
    r = run(*args)
    assert r.returncode in (1, 2) and want in r.stderr, r.stderr


def test_help_and_version():
    for args in (["--help"], ["help"], ["serve", "--help"], ["inspect", "--help"], ["chat", "--help"], ["bench", "--help"]):
        r = run(*args)
        assert r.returncode == 0 and len(r.stdout) > 200, args
    assert run("--version").stdout.startswith("sluice ")


def test_inspect(tiny_files):
    r = run("inspect", "--metadata", "--tensors", tiny_files["llama"])
    assert r.returncode == 0 and "llama" in r.stdout and "blk.0.attn_q.weight" in r.stdout and "tokenizer.ggml.tokens" in r.stdout


def test_chat_client(tiny):
    r = run("chat", "--url", tiny.url, "--model", "tiny", "--max-tokens", 8, "hello")
    assert r.returncode == 0, r.stderr
    r = run("chat", "--url", tiny.url, "--model", "tiny", "--max-tokens", 8, input="hello\nagain\n/quit\n")
    assert r.returncode == 0, r.stderr
    r = run("chat", "--url", "http://127.0.0.1:1", "hello")
    assert r.returncode == 1 and "127.0.0.1" in r.stderr


def test_bad_template(tiny_files, tmp_path):
    bad = tmp_path / "bad.jinja"
    bad.write_text("line one\n{% for %}\n")
    r = run("serve", "--model", tiny_files["llama"], "--chat-template", bad, "--port", 0)
    assert r.returncode == 1 and "line 2" in r.stderr


def test_template_that_raises_is_a_400(start, tiny_files, tmp_path):
    t = tmp_path / "raise.jinja"
    t.write_text("{% if messages|length > 1 %}\n{{ raise_exception('only one message') }}{% endif %}{{ messages[0].content }}")
    d = start("--model", tiny_files["gemma3"], "--chat-template", t, "--served-model-name", "tiny")
    one = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}
    assert d.request("POST", "/v1/chat/completions", json.dumps(one))[0] == 200
    one["messages"] *= 2
    status, _, body = d.request("POST", "/v1/chat/completions", json.dumps(one))
    message = json.loads(body)["error"]["message"]
    assert status == 400 and "only one message" in message and "line 2" in message


def test_random_disconnects_leave_nothing(tiny):
    import random
    rng = random.Random(4)
    body = json.dumps({"model": "tiny", "prompt": "hello world " * 50, "max_tokens": 300, "ignore_eos": True, "stream": True}).encode()
    raw = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body

    def one(_):
        s = tiny.connect()
        cut = rng.random()
        s.sendall(raw[:int(len(raw) * min(1.0, cut * 2))])
        if cut > 0.6:
            s.recv(rng.randrange(1, 5000))
        if cut > 0.8:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        s.close()

    threads = [threading.Thread(target=one, args=(i,)) for i in range(120)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    tiny.wait_metric("sluice_requests_running", 0, timeout=20)
    tiny.wait_metric("sluice_requests_queued", 0, timeout=20)
