"""Reading what a child says: lines of JSON, each followed by as many bytes as it announces, and a last line.

Whoever has broken into a child writes these lines, too: their number, length and types are bounded here, and whoever asked
for them judges what is in them.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

MAX_LINE_BYTES = 4_096
MAX_FRAMES = 10_000


class Frame(msgspec.Struct, frozen=True):
    """One thing that a program emitted."""

    meta: dict[str, Any]
    data: bytes


class BadFrames(Exception):
    """The child did not keep to the protocol, said too much, or died before it was done."""


async def read_frames(stream: asyncio.StreamReader, *, max_bytes: int) -> list[Frame]:
    """All frames of a child that came to its end. Raises BadFrames."""
    frames: list[Frame] = []
    left_bytes = max_bytes
    try:
        while len(frames) < MAX_FRAMES:
            meta = msgspec.json.decode(await stream.readuntil(b"\n"), type=dict[str, Any])
            size_bytes = msgspec.convert(meta.pop("bytes", None), int)
            if meta == {"is_over": True} and not await stream.read(1):
                return frames
            if not 0 <= size_bytes <= left_bytes:
                raise BadFrames("The child said more than it may.")
            left_bytes -= size_bytes
            frames.append(Frame(meta, await stream.readexactly(size_bytes)))
    except asyncio.IncompleteReadError as error:
        raise BadFrames("The child died before it was done.") from error
    except (msgspec.MsgspecError, ValueError, asyncio.LimitOverrunError) as error:
        raise BadFrames("The child did not keep to the protocol.") from error
    raise BadFrames("The child said too many things.")
