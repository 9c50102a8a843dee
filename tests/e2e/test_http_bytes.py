"""HTTP as bytes: llhttp's own request cases over a real socket, each split at every byte; pipelining; keep-alive;
malformed and oversized requests; connections that send nothing or stop reading."""
import json
import os
import re
import socket
import time

import pytest

from conftest import ROOT, SANITIZED, read_response

CASES = os.path.join(ROOT, "..", "shared", "data", "http", "test", "request")


def llhttp_cases():
    """(name, bytes) of every request case of llhttp's suite; one that ends in a body limit of its own is as good."""
    out = []
    if not os.path.isdir(CASES):
        return out
    for f in sorted(os.listdir(CASES)):
        text = open(os.path.join(CASES, f), encoding="utf-8").read()
        for i, m in enumerate(re.finditer(r"```http\n(.*?)```", text, re.S)):
            raw = m[1]
            raw = re.sub(r"\\\n", "", raw)  # a backslash at the end of a line joins it to the next
            raw = raw.replace("\n", "\r\n").replace("\\r", "\r").replace("\\n", "\n").replace("\\t", "\t").replace("\\f", "\f")
            raw = re.sub(r"\\x([0-9a-fA-F]{2})", lambda h: chr(int(h[1], 16)), raw)
            out.append((f"{f}#{i}", raw.encode("latin-1", "replace")))
    return out


def talk(daemon, parts, wait=0.25):
    """Send the parts, then close our side for writing; the statuses of all replies, and whether it closed."""
    with daemon.connect(timeout=5) as s:
        try:
            for i, part in enumerate(parts):
                if i:
                    time.sleep(0.0005)
                s.sendall(part)
            s.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        data = b""
        try:
            while more := s.recv(65536):
                data += more
        except OSError:
            pass
    return re.findall(rb"^HTTP/1\.[01] (\d{3}) ", data, re.M)


@pytest.mark.slow
def test_llhttp_cases_split_at_every_byte(tiny):
    cases = llhttp_cases()
    if not cases:
        pytest.skip("llhttp's cases are not at ../shared/data/http")
    assert len(cases) > 100
    step = 7 if SANITIZED else 1
    for name, raw in cases:
        whole = talk(tiny, [raw])
        for at in range(1, len(raw), step):
            split = talk(tiny, [raw[:at], raw[at:]])
            assert split == whole, f"{name}, split at {at}: {split}, whole: {whole}"
    assert tiny.get("/health")[0] == 200


GET = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"


def test_keep_alive_and_pipelining_in_order(tiny):
    with tiny.connect() as s:
        s.sendall(GET + b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n" + GET + b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        data = b""
        while more := s.recv(65536):
            data += more
    assert re.findall(rb"HTTP/1.1 (\d+)", data) == [b"200", b"404", b"200", b"200"]


def test_pipelined_completions_are_answered_in_order(tiny):
    body = json.dumps({"model": "tiny", "prompt": "hello", "max_tokens": 5, "temperature": 0})
    post = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    with tiny.connect() as s:
        s.sendall(post + GET + post.replace(b"hello", b"jello") + GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        data = b""
        while more := s.recv(65536):
            data += more
    assert re.findall(rb'"object": ?"(text_completion|list)"', data) == [b"text_completion", b"list", b"text_completion", b"list"]


@pytest.mark.parametrize("raw, status", [
    (b"GET / HTTP/1.1\r\n\r\n", 400),                                                       # no Host
    (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 400),
    (b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    (b"GET /health HTTP/1.1\r\nHost : x\r\n\r\n", 400),
    (b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc", 400),
    (b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
    (b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
    (b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}", 415),
    (b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    (b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999999\r\n\r\n", 413),
    (b"GET /" + b"a" * 6000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
    (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20000 + b"\r\n\r\n", 431),
    (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: a\r\n" * 150 + b"\r\n", 431),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),                                  # TLS to a plain port
])
def test_malformed_requests_are_answered_and_closed(tiny, raw, status):
    with tiny.connect(timeout=10) as s:
        s.sendall(raw)
        got, headers, body = read_response(s)
        assert got == status, (got, body)
        if got != 0:
            assert headers.get("connection") == "close"
            assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}
        try:
            assert s.recv(1) == b""
        except ConnectionResetError:
            pass


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"model":"tiny","model":"tiny"}', b'{"a":' + b"[" * 100 + b"]" * 100 + b"}",
                                  b'{"model":"\xff\xfe"}', b"[" * 100000, b'{"prompt":"' + b"\\u0000" + b'"}x'])
def test_malformed_json_is_a_400(tiny, body):
    status, _, data = tiny.request("POST", "/v1/completions", body)
    assert status == 400, data
    assert json.loads(data)["error"]["type"] == "invalid_request_error"


def test_memory_amplification_is_bounded(tiny):
    body = b'{"model":"tiny","prompt":"x","metadata":[' + b"{}," * 1300000 + b"{}]}"
    status, _, data = tiny.request("POST", "/v1/completions", body)
    assert status in (400, 413), data
    assert tiny.get("/health")[0] == 200


def test_wrong_method_and_route(tiny):
    status, headers, body = tiny.get("/v1/chat/completions")
    assert status == 405 and "POST" in headers["allow"]
    assert tiny.get("/v1/../etc/passwd")[0] == 404
    assert json.loads(tiny.get("/nope")[2])["error"]["param"] is None
    status, headers, body = tiny.request("HEAD", "/v1/models")
    assert status == 200 and body == b""
    assert tiny.get("/v1/models")[1]["x-request-id"]


def test_expect_continue(tiny):
    body = json.dumps({"model": "tiny", "prompt": "hello", "max_tokens": 2})
    with tiny.connect() as s:
        s.sendall(f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        assert s.recv(100).startswith(b"HTTP/1.1 100")
        s.sendall(body.encode())
        assert read_response(s)[0] == 200


def test_chunked_body(tiny):
    body = json.dumps({"model": "tiny", "prompt": "hello", "max_tokens": 2}).encode()
    chunks = b"".join(b"1\r\n" + bytes([b]) + b"\r\n" for b in body) + b"0\r\n\r\n"
    with tiny.connect() as s:
        s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
        assert read_response(s)[0] == 200


def test_a_thousand_connections_that_send_nothing(tiny):
    socks = []
    try:
        for _ in range(1000):
            socks.append(tiny.connect())
        begin = time.monotonic()
        assert tiny.get("/health")[0] in (200, 503)
        status, _, _ = tiny.request("POST", "/v1/completions", json.dumps({"model": "tiny", "prompt": "x", "max_tokens": 2}))
        assert status == 200 and time.monotonic() - begin < 10
    finally:
        for s in socks:
            s.close()


@pytest.mark.slow
def test_slow_headers_are_cut(start, tiny_files):
    d = start("--model", tiny_files["llama"], "--header-timeout", 1)
    with d.connect(timeout=20) as s:
        begin = time.monotonic()
        data = b""
        try:
            for byte in b"GET /health HTTP/1.1\r\nHost: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa":
                s.sendall(bytes([byte]))
                time.sleep(0.1)
        except OSError:
            pass
        try:
            while more := s.recv(4096):
                data += more
        except OSError:
            pass
        assert time.monotonic() - begin < 10
        assert data == b"" or b"408" in data.split(b"\r\n")[0]


@pytest.mark.slow
def test_a_client_that_stops_reading(start, tiny_files):
    d = start("--model", tiny_files["llama"], "--write-timeout", 2, "--served-model-name", "tiny")
    socks = []
    for i in range(8):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.connect(("127.0.0.1", d.port))
        body = json.dumps({"model": "tiny", "prompt": "hello", "max_tokens": 2000, "ignore_eos": True, "stream": True, "logprobs": 5})
        s.sendall(f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        socks.append(s)
    begin = time.monotonic()
    status, _, _ = d.request("POST", "/v1/completions", json.dumps({"model": "tiny", "prompt": "x", "max_tokens": 20}))
    assert status == 200 and time.monotonic() - begin < 20
    d.wait_metric("sluice_requests_running", 0, timeout=60)
    for s in socks:
        s.close()
    assert d.get("/health")[0] == 200


def test_full_queue_is_a_429(start, tiny_files):
    import openai
    from concurrent.futures import ThreadPoolExecutor
    d = start("--model", tiny_files["llama"], "--max-num-seqs", 1, "--max-queued-requests", 2, "--served-model-name", "tiny")
    body = json.dumps({"model": "tiny", "prompt": "hello", "max_tokens": 300, "ignore_eos": True})
    with ThreadPoolExecutor(24) as pool:
        results = list(pool.map(lambda _: d.request("POST", "/v1/completions", body), range(24)))
    codes = [r[0] for r in results]
    assert set(codes) <= {200, 429} and codes.count(429) > 0 and codes.count(200) >= 3, codes
    refused = next(r for r in results if r[0] == 429)
    assert int(refused[1]["retry-after"]) >= 1 and "retry-after-ms" in refused[1]
    assert json.loads(refused[2])["error"]["type"] == "rate_limit_error"
    client = openai.OpenAI(base_url=d.url + "/v1", api_key="none", max_retries=8)
    assert client.completions.create(model="tiny", prompt="x", max_tokens=2).choices
