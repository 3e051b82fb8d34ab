from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest

from chat.sse import SseDecoder
from tests.fakes.launch import FakeProvider
from tests.fakes.script import Script, ToolCall

STREAM: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=5) as client:
        yield client


class Asking:
    """One request after another to one provider."""

    def __init__(self, client: httpx.Client, provider: FakeProvider) -> None:
        self._client = client
        self._url = f"{provider.base_url}/chat/completions"

    def post(self, text: str = "Hello", **fields: object) -> httpx.Response:
        body = {"model": "m", "messages": [{"role": "user", "content": text}], **fields}
        return self._client.post(self._url, json=body)

    def whole(self, text: str = "Hello", **fields: object) -> dict[str, Any]:
        return msgspec.json.decode(self.post(text, **fields).raise_for_status().content, type=dict[str, Any])

    def chunks(self, text: str = "Hello", **fields: object) -> list[dict[str, Any]]:
        """The chunks of a stream, without `[DONE]`."""
        decoder = SseDecoder()
        events = decoder.feed(self.post(text, **STREAM, **fields).raise_for_status().content) + decoder.flush()
        return [msgspec.json.decode(event.data) for event in events if event.data != b"[DONE]"]


@pytest.fixture
def asking(client: httpx.Client, fake_provider: FakeProvider) -> Asking:
    return Asking(client, fake_provider)


def test_a_good_reply_without_a_script(asking: Asking) -> None:
    reply = asking.whole()
    assert reply["choices"][0]["message"]["content"] == "Hello from upstream."
    assert reply["usage"]["completion_tokens"] == 3
    chunks = asking.chunks()
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks[:-1]) == "Hello from upstream."
    assert chunks[-1]["usage"] == reply["usage"] | {"prompt_tokens": chunks[-1]["usage"]["prompt_tokens"]}


def test_scripts_are_used_up_in_order(asking: Asking, fake_provider: FakeProvider) -> None:
    fake_provider.script("m", Script(status=500), Script(status=429, headers={"retry-after": "3"}), Script(text="Well."))
    answers = [asking.post() for _ in range(4)]
    assert [answer.status_code for answer in answers] == [500, 429, 200, 200]
    assert answers[1].headers["retry-after"] == "3"
    assert answers[1].json()["error"]["code"] == "rate_limit_exceeded"


def test_a_marker_chooses_the_script(asking: Asking, fake_provider: FakeProvider) -> None:
    fake_provider.script("odd", Script(text="Odd."))
    assert asking.whole("Please @script:odd")["choices"][0]["message"]["content"] == "Odd."
    assert [seen.script for seen in fake_provider.requests()] == ["odd"]
    fake_provider.reset()
    assert fake_provider.requests() == []
    assert asking.whole("Please @script:odd")["choices"][0]["message"]["content"] == "Hello from upstream."


def test_what_was_sent_is_remembered(asking: Asking, fake_provider: FakeProvider) -> None:
    started_s = time.monotonic()
    asking.post("Remember")
    (seen,) = fake_provider.requests()
    assert (seen.method, seen.path) == ("POST", "/v1/chat/completions")
    assert seen.json["messages"][0]["content"] == "Remember"
    assert seen.header("Content-Type") == "application/json"
    assert seen.header("x-nothing") is None
    assert seen.answered_s is not None
    assert started_s <= seen.arrived_s <= seen.answered_s <= time.monotonic()
    assert seen.closed_s is None


def test_when_the_client_leaves(client: httpx.Client, fake_provider: FakeProvider) -> None:
    fake_provider.script("m", Script(hang_after=2))
    url = f"{fake_provider.base_url}/chat/completions"
    with client.stream("POST", url, json={"model": "m", "messages": [], "stream": True}) as response:
        parts = response.iter_raw()
        next(parts)
        left_s = time.monotonic()
    (seen,) = fake_provider.wait_for(lambda seen: seen[0].closed_s is not None)
    assert seen.closed_s is not None
    assert 0 <= seen.closed_s - left_s < 0.25
    assert seen.answered_s is None
    assert seen.events_sent == 2


@pytest.mark.parametrize("cut_with", ["fin", "rst"])
@pytest.mark.parametrize("cut", [{"cut_head": True}, {"cut_after": 2}, {"cut_after": 99}, {"cut_after_bytes": 10}])
def test_cuts(asking: Asking, fake_provider: FakeProvider, cut: dict[str, Any], cut_with: Any) -> None:
    fake_provider.script("m", Script(**cut, cut_with=cut_with))
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        asking.post(**STREAM)


def test_how_much_arrives_before_a_cut(client: httpx.Client, fake_provider: FakeProvider) -> None:
    fake_provider.script("m", Script(body=b"0123456789", cut_after_bytes=7, framing="close"))
    assert client.post(f"{fake_provider.base_url}/chat/completions", json={"model": "m"}).content == b"0123456"


@pytest.mark.parametrize("script", [Script(hang="head"), Script(hang="body"), Script(delay_head_s=2), Script(delay_first_s=2)])
def test_waits(client: httpx.Client, fake_provider: FakeProvider, script: Script) -> None:
    fake_provider.script("m", script)
    with pytest.raises(httpx.ReadTimeout):
        client.post(f"{fake_provider.base_url}/chat/completions", json={"model": "m"}, timeout=0.2)


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("body", [b"{", b"<html>", b"\xff\xfe", b"{}", b""])
def test_any_body(asking: Asking, fake_provider: FakeProvider, body: bytes, *, is_stream: bool) -> None:
    fake_provider.script("m", Script(body=body, content_type="text/html"))
    answer = asking.post(stream=is_stream)
    assert answer.content == body
    assert answer.headers["content-type"] == "text/html"


@pytest.mark.parametrize("usage", [{}, {"prompt_tokens": -1}, "many", 0, {"prompt_tokens": 10**30}])
def test_any_usage(asking: Asking, fake_provider: FakeProvider, usage: Any) -> None:
    fake_provider.script("m", Script(usage=usage))
    assert asking.whole()["usage"] == usage
    assert asking.chunks()[-1]["usage"] == usage


def test_where_usage_is(asking: Asking, fake_provider: FakeProvider) -> None:
    def usages(script: Script) -> list[Any]:
        fake_provider.script("m", script)
        return [chunk.get("usage") for chunk in asking.chunks()]

    assert usages(Script(text="a", usage=None)) == [None, None, None]
    assert usages(Script(text="a", usage=[1, 2])) == [None, None, None, 1, 2]
    assert usages(Script(text="a", usage=7, usage_on="choice")) == [None, None, 7]
    assert usages(Script(text="a", usage=[3, 2], usage_on="every")) == [3, 2, 2]


def test_usage_is_sent_in_a_stream_only_when_asked_for(asking: Asking) -> None:
    assert b'"usage"' not in asking.post(stream=True).content


def test_what_a_reply_can_hold(asking: Asking, fake_provider: FakeProvider) -> None:
    calls = (ToolCall("get_weather", '{"city": "Rome"}'), ToolCall("now", id="call_2"))
    fake_provider.script("m", Script(tool_calls=calls, reasoning="Hm."))
    choice = asking.whole(n=2)["choices"][1]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["reasoning_content"] == "Hm."
    assert choice["message"]["tool_calls"][1]["function"] == {"name": "now", "arguments": "{}"}
    deltas = [chunk["choices"][0]["delta"] for chunk in asking.chunks()[:-1]]
    pieces = [delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta]
    assert "".join(piece["function"].get("arguments", "") for piece in pieces if piece["index"] == 0) == '{"city": "Rome"}'
    fake_provider.script("m", Script(echoes=True, finish_reason="length"))
    choice = asking.whole("Again", logprobs=True, top_logprobs=1)["choices"][0]
    assert choice["message"]["content"] == "Again"
    assert choice["finish_reason"] == "length"
    assert choice["logprobs"]["content"][0]["token"] == "Again"
    fake_provider.script("m", Script(refusal="No."))
    assert asking.whole()["choices"][0]["message"]["refusal"] == "No."


def test_what_a_stream_can_hold(asking: Asking, fake_provider: FakeProvider) -> None:
    fake_provider.script("m", Script(events=(b'{"a":1}', b"nonsense"), has_comments=True, line_end="\r"))
    assert asking.post(**STREAM).content == b': ping\r\rdata: {"a":1}\r\r: ping\r\rdata: nonsense\r\r'
    fake_provider.script("m", Script(is_done_sent=False, usage=None))
    assert not asking.post(**STREAM).content.rstrip().endswith(b"[DONE]")
    fake_provider.script("m", Script(error_after=2, write_bytes=7))
    assert [min(chunk) for chunk in asking.chunks()] == ["choices", "choices", "error"]
