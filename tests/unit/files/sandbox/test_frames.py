"""What a child says is the word of a stranger."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from files.sandbox.frames import MAX_FRAMES, MAX_LINE_BYTES, BadFrames, Frame, read_frames

OVER = b'{"is_over": true, "bytes": 0}\n'
SAYINGS = {
    "nothing": b"",
    "not-over": b'{"bytes": 0}\n',
    "nonsense": b"\xff\xfe\n" + OVER,
    "no-json": b"hello\n" + OVER,
    "a-list": b"[]\n" + OVER,
    "no-size": b'{"a": 1}\n' + OVER,
    "size-below-zero": b'{"bytes": -1}\n' + OVER,
    "size-too-large": b'{"bytes": 101}\n' + bytes(101) + OVER,
    "sizes-too-large-together": (b'{"bytes": 51}\n' + bytes(51)) * 2 + OVER,
    "size-a-string": b'{"bytes": "1"}\na' + OVER,
    "size-true": b'{"bytes": true}\na' + OVER,
    "endless-line": b"a" * 1_000_000,
    "too-many": b'{"bytes": 0}\n' * (MAX_FRAMES + 1) + OVER,
    "cut-in-a-line": b'{"bytes"',
    "cut-in-the-bytes": b'{"bytes": 100}\nabc',
    "over-and-more": OVER + b'{"bytes": 0}\n',
}


async def read(said, max_bytes=100):
    stream = asyncio.StreamReader(limit=MAX_LINE_BYTES)
    stream.feed_data(said)
    stream.feed_eof()
    return await read_frames(stream, max_bytes=max_bytes)


async def test_frames_come_as_they_were_said():
    assert await read(b'{"a": [1], "bytes": 3}\nx\ny{"bytes": 0}\n' + OVER) == [Frame({"a": [1]}, b"x\ny"), Frame({}, b"")]
    assert await read(OVER) == []


@pytest.mark.parametrize("said", SAYINGS.values(), ids=SAYINGS)
async def test_whoever_breaks_the_protocol_is_not_believed(said):
    with pytest.raises(BadFrames):
        await read(said)


@given(said=st.binary(max_size=200), is_over=st.booleans())
def test_anything_is_read_or_refused(said, is_over):
    try:
        frames = asyncio.run(read(said + OVER * is_over))
    except BadFrames:
        return
    assert sum(len(frame.data) for frame in frames) <= 100
