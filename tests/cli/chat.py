#!/usr/bin/env python3
"""`sluice chat` against the front with its playing engine (tests/server/fake_engine.h).

Goal: what a person at a terminal gets: answers, a conversation with a memory, sentences for every mishap.
Method: run the client with pipes; the script of an answer stands in what it sends, so that the answer shows what
of the conversation was sent.

usage: chat.py CHAT_PROGRAM FAKE_DAEMON
"""
import atexit
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

CHAT = DAEMON = ""


class Chat(unittest.TestCase):
    options = ()

    def setUp(self):
        self.d = subprocess.Popen([DAEMON, "--port", "0", *self.options], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                                  env={k: v for k, v in os.environ.items() if not k.startswith("SLUICE_")})
        atexit.register(self.d.kill)
        self.url = None
        for line in self.d.stderr:
            m = re.search(r"listening address=(http://\S+)", line)
            self.url = m[1] if m else self.url
            if "server ready" in line:
                break
        self.reader = threading.Thread(target=self.d.stderr.read, daemon=True)
        self.reader.start()

    def tearDown(self):
        self.d.send_signal(signal.SIGTERM)
        self.assertEqual(self.d.wait(30), 0)
        self.reader.join(10)
        self.d.stderr.close()

    def run_chat(self, *args, text=None, key=None):
        env = {**os.environ, "SLUICE_URL": self.url}
        env.pop("OPENAI_API_KEY", None)
        if key:
            env["OPENAI_API_KEY"] = key
        return subprocess.run([CHAT, *args], input=text, capture_output=True, text=True, timeout=60, env=env)

    def test_one_answer(self):
        r = self.run_chat("[[say=hi", "there]]")
        self.assertEqual((r.returncode, r.stdout, r.stderr), (0, "hi there\n", ""))
        r = self.run_chat("--url", self.url + "/v1", "--max-tokens", "2", "--temperature", "0", "--model", "fake", "[[say=abc]]")
        self.assertEqual((r.returncode, r.stdout), (0, "ab\n"))
        r = self.run_chat("-", text="[[hex=C3A9]]\n")
        self.assertEqual((r.returncode, r.stdout), (0, "\u00e9\n"))
        r = self.run_chat("--system", "[[say=by the system]]", "x")
        self.assertEqual(r.stdout, "by the system\n")

    def test_a_conversation_has_a_memory(self):
        r = self.run_chat(text="[[say=one]]\nagain\n/reset\nagain\n\n/quit\nnot read\n")
        self.assertEqual((r.returncode, r.stdout), (0, "one\none\nhello world\n"))
        r = self.run_chat("--system", "[[say=S]]", text="a\n[[say=U]]\nb\n/reset\nb")
        self.assertEqual(r.stdout, "S\nU\nU\nS\n")

    def test_mishaps(self):
        for args, status, want in ((("--model", "nobody", "x"), 1, "nobody"), (("--url", "http://127.0.0.1:1", "x"), 1, "127.0.0.1"),
                                   (("--url", "https://x", "x"), 2, "https"), (("--temperature", "3", "x"), 2, "'3'"),
                                   (("--max-tokens", "0", "x"), 2, "'0'"), (("--nonsense",), 2, "usage"), (("[[fail=0]]",), 1, "internal"),
                                   (("[[say=abcdef|gap=1000|fail=3]]",), 1, "internal"), (("--api-key-file", "/nowhere", "x"), 1, "/nowhere"),
                                   (("-",), 1, "empty")):
            r = self.run_chat(*args, text="")
            self.assertEqual(r.returncode, status, (args, r.stderr))
            self.assertIn(want, r.stderr, args)
        r = self.run_chat(text="[[say=one]]\n[[fail=0]]\nagain\n")  # a failed turn is not remembered
        self.assertEqual((r.returncode, r.stdout), (0, "one\none\n"))

    def test_an_interrupt_stops_the_answer(self):
        p = subprocess.Popen([CHAT, "--url", self.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        p.stdin.write("[[say=abc|gap=100000]]" + "x" * 10 + "\n")
        p.stdin.flush()
        self.assertEqual(p.stdout.read(1), "a")
        p.send_signal(signal.SIGINT)
        begin = time.monotonic()
        out, err = p.communicate("[[say=next]]\n", timeout=30)
        self.assertLess(time.monotonic() - begin, 5)
        self.assertTrue(out.endswith("\nnext\n"), out)
        self.assertEqual((p.returncode, err), (0, ""))

    def test_help(self):
        r = self.run_chat("--help")
        self.assertEqual(r.returncode, 0)
        self.assertIn("--url", r.stdout)


class ChatWithKeys(Chat):
    def setUp(self):
        self.keys = tempfile.NamedTemporaryFile("w")
        self.keys.write("the-key\n")
        self.keys.flush()
        self.options = ("--api-key-file", self.keys.name)
        super().setUp()

    def tearDown(self):
        super().tearDown()
        self.keys.close()

    def test_one_answer(self):
        self.assertEqual(self.run_chat("[[say=hi]]", key="the-key").stdout, "hi\n")
        self.assertEqual(self.run_chat("--api-key-file", self.keys.name, "[[say=hi]]").stdout, "hi\n")
        r = self.run_chat("[[say=hi]]", key="other-key")
        self.assertEqual((r.returncode, r.stdout), (1, ""))
        self.assertIn("key", r.stderr)
        self.assertNotIn("other-key", r.stderr)

    test_a_conversation_has_a_memory = test_mishaps = test_an_interrupt_stops_the_answer = test_help = None


if __name__ == "__main__":
    DAEMON = os.path.abspath(sys.argv.pop())
    CHAT = os.path.abspath(sys.argv.pop())
    unittest.main(verbosity=2)
