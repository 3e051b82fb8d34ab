"""The sandbox as an httpx transport.

Models by the name the catalogue calls them upstream: `echo` takes everything, `text` refuses attachments as a model
without eyes does, `flaky` answers 503 unless told `[[status 200]]`, so that its fallback chain can be seen at work.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Iterator
from typing import Self

import httpx
import msgspec

from chat.sandbox import wire
from chat.sandbox.answers import RefusalError, compose, last_user_text
from chat.sandbox.directives import Directives, parse
from chat.schema.request import ChatRequest, Part, TextPart

_MODELS = frozenset({"echo", "text", "flaky"})
_PATH = "/chat/completions"
_JSON = ("content-type", "application/json")
_EVENT_STREAM = ("content-type", "text/event-stream; charset=utf-8")

_CODES = {
    401: "invalid_api_key",
    404: "model_not_found",
    429: "rate_limit_exceeded",
}


class SandboxTransport(httpx.AsyncBaseTransport):
    """Answers chat completions in this process. `pace_s` is the time between the events of a stream."""

    def __init__(self, *, pace_s: float = 0.02) -> None:
        self._pace_s = pace_s
        self._decoder = msgspec.json.Decoder(ChatRequest)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The answer to one request. Raises httpx.ReadTimeout if a delay is longer than the request's read limit."""
        body = await request.aread()
        if request.method != "POST" or not request.url.path.endswith(_PATH):
            return _error(404, "The sandbox serves chat completions only.")
        try:
            chat = self._decoder.decode(body)
        except msgspec.DecodeError as error:
            return _error(400, str(error))
        if chat.model not in _MODELS:
            return _error(404, f"The sandbox has no model '{chat.model}'.", param="model")
        directives, said = parse(last_user_text(chat))
        await _wait(directives.delay_s, request)
        status = directives.status or (503 if chat.model == "flaky" else 200)
        if status != 200:
            return _error(status, f"The sandbox was told to answer {status}.")
        try:
            return self._answer(chat, directives, said)
        except RefusalError as refusal:
            return _error(400, refusal.message, param=refusal.param)

    def _answer(self, chat: ChatRequest, directives: Directives, said: str) -> httpx.Response:
        if chat.model == "text":
            _refuse_attachments(chat)
        answer = compose(chat, directives, said)
        frame = wire.Frame(
            digest=_digest(chat),
            model=chat.model,
            choice_count=chat.choice_count,
            includes_usage=chat.stream_options is not None and chat.stream_options.include_usage is True,
            top_logprobs=(chat.top_logprobs or 0) if chat.logprobs else None,
        )
        if chat.stream:
            parts: Iterable[bytes] = (b"data: " + data + b"\n\n" for data in wire.events(frame, answer))
            return _response(200, _EVENT_STREAM, _Body(parts, pace_s=self._pace_s, cut_after=directives.cut_after))
        reply = wire.whole(frame, answer)
        if directives.cut_after is None:
            return _response(200, _JSON, _Body([reply]))
        return _response(200, _JSON, _Body([reply[: len(reply) // 2], b""], cut_after=1))


class _Body(httpx.AsyncByteStream):
    """Parts of a body in their pace; after `cut_after` of them the connection breaks, if there would be more."""

    def __init__(self, parts: Iterable[bytes], *, pace_s: float = 0.0, cut_after: int | None = None) -> None:
        self._parts: Iterator[bytes] = iter(parts)
        self._pace_s = pace_s
        self._cut_after = cut_after
        self._count = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        part = next(self._parts, None)
        if part is None:
            raise StopAsyncIteration
        await asyncio.sleep(self._pace_s if self._count else 0)
        if self._count == self._cut_after:
            raise httpx.RemoteProtocolError("The sandbox was told to break the connection.")
        self._count += 1
        return part

    async def aclose(self) -> None:
        self._parts = iter(())


def _digest(chat: ChatRequest) -> str:
    """The same for requests that differ only in how the answer is sent and for whom."""
    plain = msgspec.structs.replace(
        chat, stream=None, stream_options=None, user=None, safety_identifier=None, prompt_cache_key=None
    )
    return hashlib.sha256(msgspec.json.encode(plain)).hexdigest()


def _refuse_attachments(chat: ChatRequest) -> None:
    for index, message in enumerate(chat.messages):
        parts: list[Part] = message.content if isinstance(message.content, list) else []
        if any(not isinstance(part, TextPart) for part in parts):
            raise RefusalError("This model takes text only.", f"messages[{index}].content")


async def _wait(delay_s: float, request: httpx.Request) -> None:
    timeout: dict[str, float | None] = request.extensions.get("timeout") or {}
    read_s = timeout.get("read")
    if read_s is not None and read_s < delay_s:
        await asyncio.sleep(read_s)
        raise httpx.ReadTimeout("The sandbox was told to answer later than this.", request=request)
    if delay_s:
        await asyncio.sleep(delay_s)


def _error(status: int, message: str, *, param: str | None = None) -> httpx.Response:
    body = wire.error(status, message, param=param, code=_CODES.get(status))
    response = _response(status, _JSON, _Body([body]))
    if status in {429, 503}:
        response.headers["retry-after"] = "1"
    return response


def _response(status: int, content_type: tuple[str, str], body: _Body) -> httpx.Response:
    return httpx.Response(status, headers=[content_type, ("x-request-id", "sandbox")], stream=body)
