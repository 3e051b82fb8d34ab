"""Exchanges made up at random: requests, what the provider does with them, and what the client does meanwhile.

Each is made from a number alone, so that one can be had again. What the provider is to do travels in the prompt.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import Sequence
from typing import Any

import httptools
import msgspec

from tests.fakes.script import Script, ToolCall, inline

PATIENT = (
    *("main", "plain", "metered", "lavish", "twins", "cheap", "picky"),
    *("claude", "gemini", "leaves-openai", "leaves-anthropic", "leaves-gemini"),
)
HASTY = ("alone", "first", "patient", "unreachable")
"""Models that give up soon on a provider that hangs; from the others only a client may leave."""
CHAINS = {
    "first": ("first", "second", "third"),
    "cheap": ("cheap", "dear"),
    "picky": ("picky", "plain", "third"),
    "patient": ("patient", "second"),
    "twins": ("twin-a", "twin-b", "second"),
    "unreachable": ("second",),
    "metered": ("metered", "second"),
    "leaves-openai": ("leaves-openai", "claude", "gemini"),
    "leaves-anthropic": ("leaves-anthropic", "gemini", "main"),
    "leaves-gemini": ("leaves-gemini", "main", "claude"),
}
"""What the provider may be asked for instead of a model: its targets and its chain."""

TAME = {"claude", "gemini", "leaves-anthropic", "leaves-gemini"}
"""Models of dialects in which the scripted provider cannot say everything that a server of OpenAI's could."""

PATIENCE_S = 60.0
"""How long a client stays that stays."""

WORDS = ("one ", "two ", "Grüße, ", "词语", f"{'abcdefg' * 9} ", "\n", "😀")
COUNTS: tuple[Any, ...] = (0, 1, 3, 17, 250, 4_000, 10**6, 2**31, 2**70, -1, -(2**40), "12", "", 4.5, True, None, [], {})
FAILURES = (400, 401, 403, 404, 408, 413, 422, 429, 500, 502, 503, 529)


class Exchange(msgspec.Struct, frozen=True):
    """One exchange. The client leaves after so many seconds or so many bytes of the answer, or it stays."""

    number: int
    tenant: str
    body: dict[str, Any]
    headers: dict[str, str]
    scripts: dict[str, Script]
    leaves_after_bytes: int | None = None
    leaves_after_s: float | None = None
    is_reset: bool = False

    @property
    def label(self) -> str:
        return f"exchange-{self.number}"

    @property
    def is_stream(self) -> bool:
        return bool(self.body["stream"])

    @property
    def stays(self) -> bool:
        return self.leaves_after_s is None


class Heard(msgspec.Struct):
    """What the client saw of the answer; status 0 for nothing."""

    status: int = 0
    headers: dict[str, str] = {}
    body: bytes = b""
    is_whole: bool = False


def make_exchange(seed: int, number: int, poor: Sequence[str]) -> Exchange:
    """`poor` are tenants who may run out of what they have to spend."""
    choose = random.Random(f"{seed}/{number}")
    leaves = choose.random() < 0.2
    tenant = "rich" if choose.random() < 0.65 else choose.choice(poor)
    model = choose.choice(HASTY if choose.random() < 0.5 else PATIENT)
    runs_on = choose.random() < (0.05 if tenant == "rich" else 0.5)
    if runs_on:
        model = "metered"
    called = CHAINS.get(model, (model,))
    scripts = {
        name: make_script(choose, name, may_hang=leaves or name in HASTY, fails=depth < len(called) - 1)
        for depth, name in enumerate(called)
    }
    body = _make_body(choose, model, scripts)
    if runs_on:
        scripts = {model: Script(text=WORDS[4], times=choose.randint(50, 800), usage=_usage(choose))}
        body |= {"messages": [{"role": "user", "content": inline(scripts)}], "stream": True, "max_tokens": 50_000}
    by_bytes = leaves and choose.random() < 0.6
    return Exchange(
        number,
        tenant,
        body,
        _make_headers(choose),
        scripts,
        leaves_after_bytes=choose.choice((0, 1, 300, 900, 5_000)) if by_bytes else None,
        leaves_after_s=choose.uniform(0.02, 1.0 if by_bytes else 0.5) if leaves else None,
        is_reset=choose.random() < 0.5,
    )


def make_script(choose: random.Random, name: str, *, may_hang: bool, fails: bool) -> Script:
    """An answer, good or bad in one of many ways. `fails`: rather bad, because there are others behind it."""
    fields: dict[str, Any] = {"text": _text(choose), "usage": _usage(choose, is_tame=name in TAME)}
    if choose.random() < (0.5 if fails else 0.15):
        fields["status"] = choose.choice(FAILURES)
    if choose.random() < 0.1:
        fields["tool_calls"] = (ToolCall("look", '{"city": "Rome", "days": 3}'),) * choose.randint(1, 2)
    if choose.random() < 0.1:
        fields["reasoning"] = _text(choose)
    if choose.random() < 0.05:
        fields["refusal"] = _text(choose)
    if choose.random() < 0.3:
        fields["usage_on"] = choose.choice(("own", "choice", "every"))
    if choose.random() < 0.2:
        fields["finish_reason"] = choose.choice(
            ("stop", "length", "content_filter") if name in TAME else ("stop", "length", "eos")
        )
    if choose.random() < 0.25:
        fields["delay_between_s"] = choose.choice((0.001, 0.01))
    if choose.random() < 0.25:
        fields |= _trouble(choose, may_hang=may_hang)
    return Script(**fields)


def _trouble(choose: random.Random, *, may_hang: bool) -> dict[str, Any]:
    after, where = choose.choice((0, 1, 2, 3, 7, 30)), choose.choice(("fin", "rst"))
    troubles: list[dict[str, Any]] = [
        {"cut_after": after, "cut_with": where},
        {"cut_after_bytes": choose.randint(0, 3_000), "cut_with": where},
        {"cut_head": True, "cut_with": where},
        {"error_after": after},
        {"error_after": after, "error": "no object"},
        {"is_done_sent": False},
        {"is_done_sent": False, "framing": "close"},
        {"body": choose.choice((b"", b"<html>", b'{"choices": [', b'data: {"choices": []}\n\n', b'{"error": {"code": "x"}}'))},
        {"has_comments": True, "line_end": choose.choice(("\r", "\r\n"))},
        {"write_bytes": choose.choice((100, 999))},
    ]
    if may_hang:
        troubles += [{"hang_after": after}, {"hang": "head"}, {"hang": "body"}]
    return choose.choice(troubles)


def _text(choose: random.Random) -> str:
    return "".join(choose.choices(WORDS, k=choose.choice((0, 1, 3, 12, 40, 250))))


def _usage(choose: random.Random, *, is_tame: bool = False) -> Any:
    if is_tame:
        counts = [count for count in COUNTS if type(count) is int]
        tame = {"prompt_tokens": choose.choice(counts), "completion_tokens": choose.choice(counts)}
        return choose.choice(("counted", None, tame))
    if choose.random() < 0.4:
        return choose.choice(("counted", None, {}, "x", 7))
    figures = [_figures(choose) for _ in range(choose.randint(1, 3))]
    return figures if choose.random() < 0.3 else figures[0]


def _figures(choose: random.Random) -> dict[str, Any]:
    if choose.random() < 0.5:
        figures: dict[str, Any] = {
            "prompt_tokens": choose.randint(1, 90),
            "completion_tokens": choose.randint(1, choose.choice((90, 4_000, 40_000))),
        }
    else:
        figures = {"prompt_tokens": choose.choice(COUNTS), "completion_tokens": choose.choice(COUNTS)}
    if choose.random() < 0.3:
        figures["total_tokens"] = choose.choice(COUNTS)
    if choose.random() < 0.3:
        figures["prompt_tokens_details"] = choose.choice(({"cached_tokens": choose.choice(COUNTS)}, "x", None))
    if choose.random() < 0.3:
        figures["completion_tokens_details"] = choose.choice(({"reasoning_tokens": choose.choice(COUNTS)}, 7, []))
    return figures


def _make_body(choose: random.Random, model: str, scripts: dict[str, Script]) -> dict[str, Any]:
    prompt = _text(choose) + inline(scripts)
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": prompt}], "stream": choose.random() < 0.6}
    if choose.random() < 0.6:
        body["max_tokens"] = choose.choice((1, 16, 300, 4_000, 4_000))
    if choose.random() < 0.1:
        body["n"] = choose.randint(2, 3)
    if choose.random() < 0.1:
        body["tools"] = [{"type": "function", "function": {"name": "look"}}]
    if body["stream"] and choose.random() < 0.2:
        body["stream_options"] = {"include_usage": choose.random() < 0.5}
    if choose.random() < 0.06:
        body |= choose.choice(({"temperature": 9}, {"model": "nothing"}, {"max_tokens": 0}, {"messages": []}, {"surplus": 1}))
    return body


def _make_headers(choose: random.Random) -> dict[str, str]:
    headers = {}
    if choose.random() < 0.1:
        headers["x-strict"] = "true"
    if choose.random() < 0.2:
        headers["x-disable-fallback"] = "true"
    return headers


async def ask(port: int, key: str, exchange: Exchange) -> Heard:
    """Have one exchange on a connection of its own."""
    heard = _Hearing(exchange.leaves_after_bytes)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(_request(port, key, exchange))
        async with asyncio.timeout(exchange.leaves_after_s or PATIENCE_S):
            while not heard.is_over and (data := await reader.read(65_536)):
                heard.parser.feed_data(data)
    except TimeoutError:
        pass  # It had enough.
    except ConnectionError:
        pass  # The server ended it, which it may while the client does not listen.
    finally:
        if exchange.is_reset and not heard.heard.is_whole:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort() if exchange.is_reset else writer.close()
    return heard.heard


def _request(port: int, key: str, exchange: Exchange) -> bytes:
    content = msgspec.json.encode(exchange.body)
    headers = {
        "host": f"127.0.0.1:{port}",
        "authorization": f"Bearer {key}",
        "content-type": "application/json",
        "content-length": str(len(content)),
        "x-request-id": exchange.label,
        **exchange.headers,
    }
    lines = ["POST /v1/chat/completions HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode() + content


class _Hearing:
    """Reads one answer as far as its client listens."""

    def __init__(self, most_bytes: int | None) -> None:
        self.heard = Heard(headers={})
        self.parser = httptools.HttpResponseParser(self)
        self._most_bytes = most_bytes
        self.is_over = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.heard.headers[name.decode().lower()] = value.decode()

    def on_headers_complete(self) -> None:
        self.heard.status = self.parser.get_status_code()
        self.is_over = self._most_bytes == 0

    def on_body(self, data: bytes) -> None:
        self.heard.body += data
        self.is_over = self.is_over or (self._most_bytes is not None and len(self.heard.body) >= self._most_bytes)

    def on_message_complete(self) -> None:
        self.heard.is_whole = self.is_over = True
