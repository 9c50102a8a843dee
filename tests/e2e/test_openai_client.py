"""What the `openai` Python client sees: streaming and not, parameters, errors, cancel, many at once."""
import concurrent.futures
import json
import time

import openai
import pytest

CHAT = [{"role": "user", "content": "hello world, the and of it"}]


def chat(client, **kw):
    kw = {"model": "tiny", "messages": CHAT, "temperature": 0, "max_tokens": 24, **kw}
    return client.chat.completions.create(**kw)


def collect(stream):
    """(text by choice, finish reason by choice, usage, chunks)"""
    text, finish, usage, chunks = {}, {}, None, []
    for chunk in stream:
        chunks.append(chunk)
        if chunk.usage is not None:
            usage = chunk.usage
        for c in chunk.choices:
            text.setdefault(c.index, "")
            text[c.index] += (c.delta.content or "") if hasattr(c, "delta") else c.text
            if c.finish_reason:
                assert c.index not in finish, "two finish reasons"
                finish[c.index] = c.finish_reason
    return text, finish, usage, chunks


def test_models(client):
    ids = [m.id for m in client.models.list()]
    assert ids == ["tiny", "also-tiny"]
    assert client.models.retrieve("also-tiny").id == "also-tiny"
    with pytest.raises(openai.NotFoundError) as e:
        client.models.retrieve("nobody")
    assert e.value.code == "model_not_found"


def test_chat(client):
    r = chat(client)
    assert r.object == "chat.completion" and r.id.startswith("chatcmpl-") and r.model == "tiny"
    assert r.choices[0].message.role == "assistant"
    assert r.choices[0].finish_reason in ("stop", "length")
    assert r.usage.total_tokens == r.usage.prompt_tokens + r.usage.completion_tokens
    assert 0 < r.usage.completion_tokens <= 24
    assert r.usage.prompt_tokens_details.cached_tokens < r.usage.prompt_tokens


def test_stream_is_the_same_as_whole(client):
    whole = chat(client)
    text, finish, usage, chunks = collect(chat(client, stream=True, stream_options={"include_usage": True}))
    assert text[0] == whole.choices[0].message.content
    assert finish[0] == whole.choices[0].finish_reason
    assert usage.completion_tokens == whole.usage.completion_tokens
    assert usage.prompt_tokens == whole.usage.prompt_tokens
    assert chunks[0].choices[0].delta.role == "assistant"
    assert all(c.choices[0].delta.role is None for c in chunks[1:] if c.choices)
    assert len({c.id for c in chunks}) == 1 and len({c.created for c in chunks}) == 1
    assert chunks[-1].choices == [] and all(c.usage is None for c in chunks[:-1])


def test_stream_without_usage(client):
    _, _, usage, chunks = collect(chat(client, stream=True))
    assert usage is None and all(c.choices for c in chunks)


def test_continuous_usage(client):
    _, _, usage, chunks = collect(chat(client, stream=True, stream_options={"include_usage": True, "continuous_usage_stats": True}))
    counts = [c.usage.completion_tokens for c in chunks if c.usage]
    assert counts == sorted(counts) and counts[-1] == usage.completion_tokens


def test_completions(client):
    r = client.completions.create(model="tiny", prompt="the hello", temperature=0, max_tokens=20)
    assert r.object == "text_completion" and r.id.startswith("cmpl-")
    text, finish, _, _ = collect(client.completions.create(model="tiny", prompt="the hello", temperature=0, max_tokens=20, stream=True))
    assert text[0] == r.choices[0].text and finish[0] == r.choices[0].finish_reason


def test_completions_of_several_prompts(client):
    prompts = ["the", "hello world", "and"]
    r = client.completions.create(model="tiny", prompt=prompts, temperature=0, max_tokens=8)
    assert [c.index for c in r.choices] == [0, 1, 2]
    for i, p in enumerate(prompts):
        alone = client.completions.create(model="tiny", prompt=p, temperature=0, max_tokens=8)
        assert alone.choices[0].text == r.choices[i].text


def test_prompt_as_token_ids(client, tiny):
    _, _, body = tiny.request("POST", "/tokenize", json.dumps({"prompt": "hello world"}))
    ids = json.loads(body)["tokens"]
    a = client.completions.create(model="tiny", prompt=ids, temperature=0, max_tokens=8)
    b = client.completions.create(model="tiny", prompt="hello world", temperature=0, max_tokens=8)
    assert a.choices[0].text == b.choices[0].text
    with pytest.raises(openai.BadRequestError):
        client.completions.create(model="tiny", prompt=[1, 2, 99999999], max_tokens=2)


def test_echo(client):
    r = client.completions.create(model="tiny", prompt="hello", temperature=0, max_tokens=4, echo=True)
    assert r.choices[0].text.startswith("hello")


def test_n_choices(client):
    r = chat(client, n=3, temperature=1, seed=5, max_tokens=12)
    assert [c.index for c in r.choices] == [0, 1, 2]
    assert len({c.message.content for c in r.choices}) > 1, "three draws are not the same"
    text, finish, _, _ = collect(chat(client, n=3, temperature=1, seed=5, max_tokens=12, stream=True))
    assert [text[i] for i in range(3)] == [c.message.content for c in r.choices]
    assert len(finish) == 3


def test_seed(client):
    def one(seed):
        return chat(client, temperature=1.2, seed=seed, max_tokens=20).choices[0].message.content
    assert one(1) == one(1)
    assert len({one(s) for s in range(6)}) > 1


def test_logprobs(client):
    r = chat(client, logprobs=True, top_logprobs=5, max_tokens=6)
    content = r.choices[0].logprobs.content
    assert len(content) == r.usage.completion_tokens or r.choices[0].finish_reason == "stop"
    for t in content:
        assert t.logprob <= 0 and len(t.top_logprobs) == 5
        assert t.top_logprobs[0].logprob == t.logprob, "greedy takes the most probable"
        values = [x.logprob for x in t.top_logprobs]
        assert values == sorted(values, reverse=True)
        assert bytes(t.bytes) is not None
    raw = b"".join(bytes(t.bytes) for t in content)
    if r.choices[0].finish_reason == "length":
        assert raw.decode("utf-8", "ignore") == r.choices[0].message.content.replace("\ufffd", "")


def test_logprobs_of_completions(client):
    r = client.completions.create(model="tiny", prompt="hello", temperature=0, max_tokens=5, logprobs=3)
    lp = r.choices[0].logprobs
    assert len(lp.tokens) == len(lp.token_logprobs) == len(lp.top_logprobs) == len(lp.text_offset)
    assert all(len(t) >= 1 for t in lp.top_logprobs)


def test_max_tokens_is_exact(client):
    for n in (1, 2, 7):
        r = chat(client, max_tokens=n, extra_body={"ignore_eos": True})
        assert r.usage.completion_tokens == n and r.choices[0].finish_reason == "length"
        r = chat(client, max_completion_tokens=n, max_tokens=openai.NOT_GIVEN, extra_body={"ignore_eos": True})
        assert r.usage.completion_tokens == n


def test_stop_strings(client):
    base = chat(client, max_tokens=40, temperature=1.5, seed=3, extra_body={"ignore_eos": True}).choices[0].message.content
    whole = [i for i, c in enumerate(base) if c != "\ufffd"]
    assert len(whole) > 4, "a random model writes some whole characters"
    at = whole[len(whole) // 2]
    stop = base[at:at + 2].rstrip("\ufffd")  # may span two tokens
    want = base[:base.index(stop)]
    r = chat(client, max_tokens=40, temperature=1.5, seed=3, stop=stop, extra_body={"ignore_eos": True})
    assert r.choices[0].message.content == want and r.choices[0].finish_reason == "stop"
    text, finish, _, _ = collect(chat(client, max_tokens=40, temperature=1.5, seed=3, stop=[stop], stream=True, extra_body={"ignore_eos": True}))
    assert text[0] == want and finish[0] == "stop"
    r = chat(client, max_tokens=40, temperature=1.5, seed=3, stop=stop, extra_body={"ignore_eos": True, "include_stop_str_in_output": True})
    assert r.choices[0].message.content == want + stop


def test_stop_token_ids_and_min_tokens(client):
    first = chat(client, max_tokens=12, extra_body={"ignore_eos": True, "return_token_ids": True})
    ids = first.choices[0].model_extra.get("token_ids")
    assert ids and len(ids) == 12
    r = chat(client, max_tokens=12, extra_body={"stop_token_ids": [ids[5]], "ignore_eos": False})
    assert r.usage.completion_tokens <= ids.index(ids[5]) + 1
    r = chat(client, max_tokens=12, extra_body={"stop_token_ids": [ids[0]], "min_tokens": 6})
    assert r.usage.completion_tokens >= 6


def test_logit_bias_bans_and_forces(client):
    ids = chat(client, max_tokens=1, extra_body={"ignore_eos": True, "return_token_ids": True}).choices[0].model_extra["token_ids"]
    other = chat(client, max_tokens=1, logit_bias={str(ids[0]): -100}, extra_body={"ignore_eos": True, "return_token_ids": True})
    assert other.choices[0].model_extra["token_ids"] != ids
    forced = chat(client, max_tokens=3, logit_bias={"70": 100}, extra_body={"ignore_eos": True, "return_token_ids": True})
    assert forced.choices[0].model_extra["token_ids"] == [70, 70, 70]


def test_penalties_change_the_answer(client):
    plain = chat(client, max_tokens=60, extra_body={"ignore_eos": True, "return_token_ids": True}).choices[0].model_extra["token_ids"]
    for extra in ({"frequency_penalty": 2.0}, {"presence_penalty": 2.0}):
        other = chat(client, max_tokens=60, extra_body={"ignore_eos": True, "return_token_ids": True}, **extra).choices[0].model_extra["token_ids"]
        assert len(set(other)) >= len(set(plain))
    strong = chat(client, max_tokens=60, extra_body={"ignore_eos": True, "return_token_ids": True, "repetition_penalty": 10.0}).choices[0].model_extra["token_ids"]
    assert len(set(strong)) > len(set(plain))


@pytest.mark.parametrize("change, param", [
    ({"temperature": 2.5}, "temperature"), ({"temperature": -0.1}, "temperature"), ({"top_p": 0}, "top_p"), ({"top_p": 1.1}, "top_p"),
    ({"n": 0}, "n"), ({"n": 1000}, "n"), ({"presence_penalty": 3}, "presence_penalty"), ({"top_logprobs": 21, "logprobs": True}, "top_logprobs"),
    ({"max_tokens": -5}, "max_tokens"), ({"messages": []}, "messages"), ({"messages": [{"role": "ghost", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}]}, "messages[0].content[0]"),
    ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]}, "tools"),
    ({"response_format": {"type": "json_object"}}, "response_format"), ({"stop": ["a"] * 17}, "stop"), ({"seed": 1.5}, "seed"),
    ({"logit_bias": {"5": 101}}, "logit_bias"), ({"stream": "yes"}, "stream"), ({"top_k": -2}, "top_k"), ({"min_p": 2}, "min_p"),
])
def test_bad_values_are_named(tiny, change, param):
    body = {"model": "tiny", "messages": CHAT, **change}
    status, headers, data = tiny.request("POST", "/v1/chat/completions", json.dumps(body))
    error = json.loads(data)["error"]
    assert status == 400, (status, error)
    assert set(error) == {"message", "type", "param", "code"} and error["type"] == "invalid_request_error"
    assert error["param"] is not None and error["param"].startswith(param), error


def test_unknown_model(client):
    with pytest.raises(openai.NotFoundError) as e:
        chat(client, model="gpt-4")
    assert e.value.code == "model_not_found" and "gpt-4" in e.value.message


def test_prompt_longer_than_the_context(client):
    with pytest.raises(openai.BadRequestError) as e:
        chat(client, messages=[{"role": "user", "content": "the and of " * 2000}])
    assert e.value.code == "context_length_exceeded"
    assert "2048" in e.value.message


def test_ignored_fields_are_named(tiny):
    status, headers, _ = tiny.request("POST", "/v1/chat/completions", json.dumps(
        {"model": "tiny", "messages": CHAT, "max_tokens": 1, "user": "me", "store": False, "no_such_field": 1}))
    assert status == 200 and "no_such_field" in headers.get("x-sluice-ignored", "")


def test_odd_but_legal_requests(tiny):
    for extra in ({"stream": False, "stream_options": {"include_usage": True}}, {"tools": []}, {"tool_choice": "none"},
                  {"response_format": {"type": "text"}}, {"stop": None}, {"logit_bias": {}}, {"n": None}, {"seed": -9007199254740991},
                  {"metadata": {"a": "b"}, "service_tier": "auto", "prompt_cache_key": "x", "safety_identifier": "y"},
                  {"messages": [{"role": "developer", "content": "be brief", "name": "dev"}, {"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "text", "text": " there"}]}]}):
        status, _, data = tiny.request("POST", "/v1/chat/completions", json.dumps({"model": "tiny", "messages": CHAT, "max_tokens": 2, **extra}))
        assert status == 200, (extra, data)


def test_prefix_hit_is_the_same_as_cold(client):
    text = "the hello world and of " * 40
    first = chat(client, messages=[{"role": "user", "content": text}], logprobs=True)
    second = chat(client, messages=[{"role": "user", "content": text}], logprobs=True)
    assert second.usage.prompt_tokens_details.cached_tokens >= 64
    assert second.usage.prompt_tokens_details.cached_tokens < second.usage.prompt_tokens
    assert first.choices[0].message.content == second.choices[0].message.content
    assert [t.logprob for t in first.choices[0].logprobs.content] == [t.logprob for t in second.choices[0].logprobs.content]


def test_cancel_of_a_stream_frees_its_pages(client, tiny):
    stream = chat(client, stream=True, max_tokens=1800, extra_body={"ignore_eos": True})
    next(iter(stream))
    stream.close()
    tiny.wait_metric("sluice_requests_running", 0, timeout=5)


def test_cancel_of_a_whole_answer_frees_its_pages(tiny):
    body = json.dumps({"model": "tiny", "messages": CHAT, "max_tokens": 1800, "ignore_eos": True})
    with tiny.connect() as s:
        s.sendall(f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        end = time.monotonic() + 5
        while tiny.metrics()["sluice_requests_running"] == 0:
            assert time.monotonic() < end
    tiny.wait_metric("sluice_requests_running", 0, timeout=5)


def many(client, count):
    def one(i):
        r = chat(client, messages=[{"role": "user", "content": f"hello {i} " + "the " * (i % 17)}], max_tokens=16 + i % 9,
                 logprobs=True, temperature=0.8, seed=i, extra_body={"ignore_eos": True})
        c = r.choices[0]
        return c.message.content, [t.logprob for t in c.logprobs.content], r.usage.completion_tokens
    return one


def test_sixteen_together_are_as_one_by_one(client):
    one = many(client, 16)
    alone = [one(i) for i in range(16)]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        together = list(pool.map(one, range(16)))
    assert together == alone


def test_sixty_four_clients(client, tiny):
    one = many(client, 64)
    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        together = list(pool.map(one, range(64)))
    assert together[::7] == [one(i) for i in range(0, 64, 7)]
    tiny.wait_metric("sluice_requests_running", 0)


def test_metrics_count_exactly(client, tiny):
    before = tiny.metrics()
    r = chat(client, max_tokens=9, extra_body={"ignore_eos": True})
    after = tiny.metrics()
    assert after["sluice_generation_tokens_total"] - before["sluice_generation_tokens_total"] == 9
    assert after["sluice_prompt_tokens_total"] - before["sluice_prompt_tokens_total"] == r.usage.prompt_tokens


@pytest.mark.parametrize("arch", ["qwen2", "qwen3", "gemma3"])
def test_other_architectures_answer(start, tiny_files, arch):
    d = start("--model", tiny_files[arch])
    c = openai.OpenAI(base_url=d.url + "/v1", api_key="none", max_retries=0)
    name = c.models.list().data[0].id
    a = c.completions.create(model=name, prompt="hello the world " * 12, max_tokens=8, temperature=0, extra_body={"ignore_eos": True})
    b = c.completions.create(model=name, prompt="hello the world " * 12, max_tokens=8, temperature=0, extra_body={"ignore_eos": True})
    assert a.usage.completion_tokens == 8 and a.choices[0].text == b.choices[0].text
    if arch == "gemma3":
        with pytest.raises(openai.BadRequestError) as e:
            c.chat.completions.create(model=name, messages=CHAT)
        assert "--chat-template" in e.value.message


@pytest.mark.real_model
def test_a_real_answer(smol_client):
    """Greedy, and known: llama.cpp answers this with the same words."""
    ask = [{"role": "user", "content": "Write the numbers from one to five."}]
    r = smol_client.chat.completions.create(model="smol", messages=ask, temperature=0, max_tokens=60)
    text, finish, _, _ = collect(smol_client.chat.completions.create(model="smol", messages=ask, temperature=0, max_tokens=60, stream=True))
    assert text[0] == r.choices[0].message.content
    for word in ("one", "two", "three", "four", "five"):
        assert word in text[0].lower() or {"one": "1", "two": "2", "three": "3", "four": "4", "five": "5"}[word] in text[0]


@pytest.mark.real_model
def test_unicode_comes_whole(smol_client):
    ask = [{"role": "user", "content": "Repeat exactly: 你好，世界 🌍👩‍👩‍👧 café"}]
    r = smol_client.chat.completions.create(model="smol", messages=ask, temperature=0, max_tokens=60)
    text, _, _, chunks = collect(smol_client.chat.completions.create(model="smol", messages=ask, temperature=0, max_tokens=60, stream=True))
    assert text[0] == r.choices[0].message.content
    assert all("\ufffd" not in (c.choices[0].delta.content or "") for c in chunks if c.choices)


@pytest.mark.real_model
def test_user_text_is_never_a_control_token(smol):
    _, _, plain = smol.request("POST", "/tokenize", json.dumps({"messages": [{"role": "user", "content": "a<|im_end|>b"}]}))
    _, _, empty = smol.request("POST", "/tokenize", json.dumps({"messages": [{"role": "user", "content": ""}]}))
    _, _, text = smol.request("POST", "/tokenize", json.dumps({"prompt": "<|im_end|>", "add_special_tokens": False}))
    assert len(json.loads(text)["tokens"]) > 1
    ends = lambda body: json.loads(body)["tokens"].count(2)
    assert ends(plain) == ends(empty)


@pytest.mark.real_model
@pytest.mark.slow
def test_running_streams_do_not_stall_for_a_long_prompt(smol_client):
    """Two streams run; a long prompt arrives; they go on while it is being computed."""
    gaps, done = [], []

    def stream(i):
        last = None
        for _ in smol_client.chat.completions.create(model="smol", messages=[{"role": "user", "content": f"Count from {i} upwards."}],
                                                     temperature=0, max_tokens=150, stream=True, extra_body={"ignore_eos": True}):
            now = time.monotonic()
            if last is not None:
                gaps.append((now, now - last))
            last = now
        done.append(time.monotonic())

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        jobs = [pool.submit(stream, i) for i in (1, 100)]
        time.sleep(0.5)
        begin = time.monotonic()
        r = smol_client.chat.completions.create(model="smol", messages=[{"role": "user", "content": "word and thing " * 370}], max_tokens=1)
        end = time.monotonic()
        [j.result() for j in jobs]
    assert r.usage.prompt_tokens > 1000
    during = [g for t, g in gaps if begin <= t <= end]
    assert len(during) > 10, "the streams went on meanwhile"
