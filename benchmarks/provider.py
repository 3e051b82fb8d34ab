"""A provider of the openai dialect that costs next to nothing: `python -m benchmarks.provider --port N`.

The answer is chosen by the request: without `"stream":true` it is a short whole reply; a stream has as many content
events as the prompt says by `events=N`, one write each and `pace_ms=N` apart, or all in one write when the pace is 0.
All bytes are made once. It judges nothing: whatever is sent gets its answer.
"""

from __future__ import annotations

import argparse
import asyncio
import re
from typing import cast

import httptools
import uvloop

_COUNT = re.compile(rb"events=(\d{1,6})")
_PACE = re.compile(rb"pace_ms=(\d{1,6})")

_REPLY = (
    b'{"id":"chatcmpl-B2xTr0Vq7JmKd93LwNfYcAh5eUgSi","object":"chat.completion","created":1793000000,"model":"bench-1",'
    b'"choices":[{"index":0,"message":{"role":"assistant","content":"A ledger records every movement twice: what one '
    b"account gives, another one receives. The sum of all accounts is therefore always zero, and an error shows as a sum "
    b'that is not.","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":58,'
    b'"completion_tokens":36,"total_tokens":94,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},'
    b'"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,'
    b'"rejected_prediction_tokens":0}},"service_tier":"default","system_fingerprint":"fp_7c1d9a2be4"}'
)
_START = (
    b'data: {"id":"chatcmpl-B2xTr0Vq7JmKd93LwNfYcAh5eUgSi","object":"chat.completion.chunk","created":1793000000,'
    b'"model":"bench-1","service_tier":"default","system_fingerprint":"fp_7c1d9a2be4","choices":['
)
_ROLE = (
    _START + b'{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}],'
    b'"usage":null}\n\n'
)
_CONTENT = _START + b'{"index":0,"delta":{"content":" movement"},"logprobs":null,"finish_reason":null}],"usage":null}\n\n'
_FINISH = _START + b'{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"usage":null}\n\n'
_USAGE = _START + (
    b'],"usage":{"prompt_tokens":58,"completion_tokens":36,"total_tokens":94,"prompt_tokens_details":{"cached_tokens":0,'
    b'"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0}}}\n\n'
)
_DONE = b"data: [DONE]\n\n"


def _http_chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


_WHOLE_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(_REPLY), _REPLY)
_STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
_STREAM_BEGIN = _STREAM_HEAD + _http_chunk(_ROLE + _CONTENT)
_STREAM_EVENT = _http_chunk(_CONTENT)
_STREAM_END = _http_chunk(_FINISH + _USAGE + _DONE) + b"0\r\n\r\n"


class Provider(asyncio.Protocol):
    """One connection. A paced stream sends its first event at once, so that the time to it is the gateway's own."""

    # Where in its pace the next stream begins to tick: spread evenly, because the streams of many callers are, too.
    _phase = 0.0

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._transport = asyncio.Transport()
        self._body = b""
        self._events_left = 0
        self._pace_s = 0.0
        self._next_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by class

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, _error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def on_message_begin(self) -> None:
        self._body = b""

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_message_complete(self) -> None:
        if b'"stream":true' not in self._body:
            self._transport.write(_WHOLE_ANSWER)
            return
        events = _number(_COUNT, self._body)
        pace_ms = _number(_PACE, self._body)
        if pace_ms:
            self._transport.write(_STREAM_BEGIN)
            self._pace(events - 1, pace_ms / 1000)
        else:
            burst = _http_chunk(_ROLE + _CONTENT * events + _FINISH + _USAGE + _DONE)
            self._transport.write(_STREAM_HEAD + burst + b"0\r\n\r\n")

    def _pace(self, events: int, pace_s: float) -> None:
        self._events_left = events
        self._pace_s = pace_s
        Provider._phase = (Provider._phase + 0.618034) % 1
        self._next_s = self._loop.time() + pace_s * (0.5 + Provider._phase)
        self._timer = self._loop.call_at(self._next_s, self._tick)

    def _tick(self) -> None:
        if not self._events_left:
            self._transport.write(_STREAM_END)
            return
        self._events_left -= 1
        self._transport.write(_STREAM_EVENT)
        self._next_s += self._pace_s
        self._timer = self._loop.call_at(self._next_s, self._tick)


def _number(pattern: re.Pattern[bytes], body: bytes) -> int:
    found = pattern.search(body)
    return int(found.group(1)) if found else 0


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Provider, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description="A provider of the openai dialect that costs next to nothing.")
    arguments.add_argument("--port", type=int, required=True)
    uvloop.run(_serve(arguments.parse_args().port))
