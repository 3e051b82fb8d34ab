"""A provider that resets the connection after every byte of a stream: no request hangs, each ends in one declared way.

What was delivered is paid and nothing else, and nothing stays held.
"""

from __future__ import annotations

import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from billing.pricing import microcredits
from tests.fakes.script import Script, inline
from tests.live.books import Booked, Books
from tests.live.catalog import PRICES
from tests.live.gateway import Server
from tests.live.wire import WireClient

MODEL = "main"
SIZE_BYTES = 2048
AT_ONCE = 8
WORDS = [f"{number} \N{GRINNING FACE}, " for number in range(9)]
DONE = b"data: [DONE]"


def chunk(delta: dict[str, str], **fields: Any) -> bytes:
    choices = fields.pop("choices", [{"index": 0, "delta": delta, "finish_reason": fields.pop("finish_reason", None)}])
    body = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices} | fields
    return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n"


def stream_of(size_bytes: int) -> bytes:
    """A good stream of just so many bytes."""
    usage = {"prompt_tokens": 9, "completion_tokens": 40, "total_tokens": 49}
    begin = [chunk({"role": "assistant", "content": ""}), *[chunk({"content": word}) for word in WORDS]]
    end = [chunk({}, finish_reason="stop"), chunk({}, choices=[], usage=usage), DONE + b"\n\n"]
    comment = size_bytes - sum(map(len, [*begin, *end]))
    return b"".join([*begin, b":" + b" " * (comment - 3) + b"\n\n", *end])


STREAM = stream_of(SIZE_BYTES)
FINISHED_BYTES = STREAM.index(b'"stop"')
"""Before so many bytes nobody can know that the answer is whole."""


class Ended:
    """How one request ended for its client."""

    def __init__(self, server: Server, key: str, offset: int) -> None:
        self.offset = offset
        self.label = f"offset-{offset}-{uuid.uuid4()}"
        prompt = inline({MODEL: Script(body=STREAM, cut_after_bytes=offset, cut_with="rst")})
        body = {"model": MODEL, "messages": [{"role": "user", "content": prompt}], "stream": True}
        with WireClient(server.port, key, body, x_request_id=self.label, connection="close") as client:
            self.status, headers = client.read_head()
            self.events = []
            if headers.get("transfer-encoding") == "chunked":
                while event := client.read_event():
                    self.events.append(event)

    @property
    def text(self) -> str:
        chunks = [json.loads(event[6:]) for event in self.events if event != DONE]
        deltas = [choice["delta"] for chunk in chunks for choice in chunk.get("choices", ())]
        return "".join(delta.get("content") or "" for delta in deltas)


def assert_ended_well(ended: Ended, booked: Booked) -> None:
    """In one of three ways: before anything was said, in the middle, or with the whole answer."""
    assert "open" not in booked.states
    if ended.status != 200:
        assert (ended.status, booked.error_code, booked.states, booked.entries) == (502, "upstream_error", ["voided"], ())
        return
    input_microcredits, output_microcredits = PRICES[MODEL]
    cost = booked.prompt_tokens * input_microcredits + booked.completion_tokens * output_microcredits
    assert booked.charged_microcredits == booked.entry_microcredits == cost > 0
    assert cost <= booked.held_microcredits
    if ended.events[-1] == DONE:
        assert ended.offset > FINISHED_BYTES
        assert (ended.text, booked.end_state) == ("".join(WORDS), "done")
        said = json.loads(ended.events[-2][6:], parse_float=str, parse_int=str)
        assert microcredits(said["credits_used"]) == cost
        return
    assert json.loads(ended.events[-1][6:])["error"]["code"] == "upstream_error"
    assert (booked.end_state, booked.error_code, booked.usage_source) == ("cut", "upstream_error", "estimated")
    assert "".join(WORDS).startswith(ended.text)
    assert ended.text
    assert booked.completion_tokens == -(-len(ended.text.encode()) // 4)


def test_the_stream_is_as_long_as_it_should_be():
    assert len(STREAM) == SIZE_BYTES
    assert STREAM.endswith(DONE + b"\n\n")


@pytest.mark.parametrize(
    "step", [pytest.param(37, id="short"), pytest.param(1, id="long", marks=[pytest.mark.long, pytest.mark.timeout(900)])]
)
def test_a_reset_after_every_byte(server: Server, keys: dict[str, str], books: Books, step: int):
    with ThreadPoolExecutor(AT_ONCE) as pool:
        all_ended = list(pool.map(lambda offset: Ended(server, keys["acme"], offset), range(0, SIZE_BYTES, step)))
    for ended in all_ended:
        booked = books.of_request(ended.label, is_over=lambda booked: "open" not in booked.states)
        assert_ended_well(ended, booked)
    assert {ended.status for ended in all_ended} == {200, 502}
    assert {ended.events[-1] == DONE for ended in all_ended if ended.events} == {True, False}
