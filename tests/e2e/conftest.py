"""End-to-end tests: the real daemon over real sockets.

Method: each test module starts the daemon once (fixture `tiny`: a generated random model; `smol`: SmolLM2
from the cache, skipped visibly when it is absent) and talks to it as users do: with the `openai` client, with
raw bytes.  SLUICE_BUILD is the build folder to test (default: build).
"""
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import pytest

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.environ.get("SLUICE_BUILD", os.path.join(ROOT, "build"))
BINARY = os.path.join(BUILD, "sluice")
MODELS = os.path.join(os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")), "sluice", "models")
SMOL = os.path.join(MODELS, "SmolLM2-135M-Instruct.Q4_1.gguf")
SANITIZED = "asan" in os.path.basename(BUILD) or "tsan" in os.path.basename(BUILD)


def pytest_configure(config):
    config.addinivalue_line("markers", "real_model: needs a real model")
    config.addinivalue_line("markers", "slow: takes more than a few seconds")


class Daemon:
    """A running daemon; `log` is what it wrote so far."""

    def __init__(self, *args, ready=True):
        self.lines = []
        env = {k: v for k, v in os.environ.items() if not k.startswith("SLUICE_")}
        env.setdefault("ASAN_OPTIONS", "detect_leaks=1:abort_on_error=1")
        env.setdefault("UBSAN_OPTIONS", "print_stacktrace=1")
        self.process = subprocess.Popen([BINARY, "serve", "--host", "127.0.0.1", "--port", "0", *map(str, args)],
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                        env=env, text=True, errors="replace")
        self.port = None
        self.listening = threading.Event()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        if ready:
            self.wait_ready()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line)
            m = re.search(r"listening.*?127\.0\.0\.1:(\d+)", line)
            if m:
                self.port = int(m[1])
                self.listening.set()
        self.listening.set()

    @property
    def log(self):
        return "".join(self.lines)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def wait_ready(self, timeout=120):
        end = time.monotonic() + timeout
        self.listening.wait(timeout)
        if self.port is None:
            self.process.kill()
            raise RuntimeError("the daemon did not listen:\n" + self.log)
        while time.monotonic() < end:
            status, _, _ = self.get("/ready")
            if status == 200:
                return
            time.sleep(0.02)
        raise RuntimeError("the daemon did not become ready:\n" + self.log)

    def connect(self, timeout=30):
        s = socket.create_connection(("127.0.0.1", self.port), timeout=timeout)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return s

    def request(self, method, path, body=None, headers=()):
        """One request on its own connection: (status, headers, body)."""
        head = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers]
        data = b""
        if body is not None:
            data = body if isinstance(body, bytes) else body.encode()
            head += [f"Content-Length: {len(data)}", "Content-Type: application/json"]
        with self.connect() as s:
            s.sendall(("\r\n".join(head) + "\r\n\r\n").encode() + data)
            return read_response(s)

    def get(self, path, headers=()):
        return self.request("GET", path, None, headers)

    def metrics(self):
        status, _, body = self.get("/metrics")
        assert status == 200
        out = {}
        for line in body.decode().splitlines():
            if line and not line.startswith("#"):
                key, value = line.rsplit(" ", 1)
                out[key] = float(value)
        return out

    def wait_metric(self, name, value, timeout=10):
        end = time.monotonic() + timeout
        while True:
            now = self.metrics()[name]
            if now == value:
                return
            if time.monotonic() > end:
                raise AssertionError(f"{name} is {now}, not {value}, after {timeout} s")
            time.sleep(0.01)

    def stop(self, sig=signal.SIGTERM, timeout=60):
        if self.process.poll() is None:
            self.process.send_signal(sig)
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise RuntimeError("the daemon did not stop:\n" + self.log[-4000:])
        self.reader.join(5)
        assert "Sanitizer" not in self.log and "assertion failed" not in self.log, self.log[-8000:]
        return code


def read_exactly(s, n, data=b""):
    while len(data) < n:
        more = s.recv(65536)
        if not more:
            break
        data += more
    return data


def read_response(s, data=b""):
    """Read one HTTP response: (status, headers, body); status 0 if the peer closed without one."""
    while b"\r\n\r\n" not in data:
        try:
            more = s.recv(65536)
        except ConnectionResetError:
            more = b""
        if not more:
            return 0, {}, data
        data += more
    head, rest = data.split(b"\r\n\r\n", 1)
    lines = head.decode("latin-1").split("\r\n")
    status = int(lines[0].split()[1])
    headers = {}
    for line in lines[1:]:
        k, v = line.split(":", 1)
        headers[k.lower()] = v.strip()
    if status == 100:
        return read_response(s, rest)
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while True:
            while b"\r\n" not in rest:
                more = s.recv(65536)
                if not more:
                    return status, headers, body
                rest += more
            size, rest = rest.split(b"\r\n", 1)
            n = int(size, 16)
            rest = read_exactly(s, n + 2, rest)
            body += rest[:n]
            rest = rest[n + 2:]
            if n == 0:
                return status, headers, body
    if "content-length" in headers:
        n = int(headers["content-length"])
        return status, headers, read_exactly(s, n, rest)[:n]
    return status, headers, read_exactly(s, 1 << 62, rest)


@pytest.fixture(scope="session")
def tiny_files():
    """Tiny random models: arch -> path."""
    with tempfile.TemporaryDirectory() as d:
        out = {}
        for arch, dtype, context in (("llama", "Q4_1", 2048), ("qwen2", "F32", 512), ("qwen3", "Q8_0", 512), ("gemma3", "F32", 512)):
            out[arch] = os.path.join(d, f"tiny-{arch}.gguf")
            subprocess.run([os.path.join(BUILD, "tests", "support", "sluice_tiny_model"), arch, out[arch], dtype, str(context)], check=True)
        yield out


@pytest.fixture(scope="session")
def start():
    """Start daemons that are stopped (and checked for sanitizer reports) at the end."""
    running = []

    def begin(*args, **kw):
        d = Daemon(*args, **kw)
        running.append(d)
        return d

    yield begin
    for d in running:
        d.stop()


@pytest.fixture(scope="session")
def tiny(start, tiny_files):
    return start("--model", tiny_files["llama"], "--served-model-name", "tiny,also-tiny", "--max-num-seqs", 64)


@pytest.fixture(scope="session")
def smol(start):
    if not os.path.exists(SMOL):
        pytest.skip("SmolLM2 is not in the cache (deploy/get-model.sh smollm2-135m)")
    return start("--model", SMOL, "--served-model-name", "smol", "--max-num-seqs", 64)


@pytest.fixture
def client(tiny):
    import openai
    return openai.OpenAI(base_url=tiny.url + "/v1", api_key="none", max_retries=0, timeout=120)


@pytest.fixture
def smol_client(smol):
    import openai
    return openai.OpenAI(base_url=smol.url + "/v1", api_key="none", max_retries=0, timeout=300)
