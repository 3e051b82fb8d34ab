"""How much memory the files and images of requests take that were small when they came: they name what is read for them.

A request takes its room at once, before anything is read, and keeps it until it is answered. Who asks for more than is left
waits for others to go, and no workspace has more than half of it, so that it cannot keep all others waiting.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from types import TracebackType
from typing import Self

from files.errors import ConversionsBusy

MOST_BYTES = 256 * 1024 * 1024
"""Of the bytes themselves; what is made of them for a provider is a few times as much."""
WITHIN_S = 30.0


class Room:
    """Bound to the event loop that works in it."""

    def __init__(self, most_bytes: int = MOST_BYTES, *, within_s: float = WITHIN_S) -> None:
        self._most_bytes = most_bytes
        self._within_s = within_s
        self._taken: Counter[int] = Counter()
        self._waiting: list[asyncio.Future[None]] = []

    def stay(self, workspace_id: int) -> Stay:
        """Of one request; the room it takes is given back when the block is left."""
        return Stay(self, workspace_id)

    async def take(self, workspace_id: int, size_bytes: int) -> None:
        """Raises ConversionsBusy if others keep it for too long."""
        try:
            async with asyncio.timeout(self._within_s):
                while not self._has(workspace_id, size_bytes):
                    given_back = asyncio.get_running_loop().create_future()
                    self._waiting.append(given_back)
                    await given_back
        except TimeoutError:
            raise ConversionsBusy from None
        self._taken[workspace_id] += size_bytes

    def give_back(self, workspace_id: int, size_bytes: int) -> None:
        self._taken[workspace_id] -= size_bytes
        if not self._taken[workspace_id]:
            del self._taken[workspace_id]
        waiting, self._waiting = self._waiting, []
        for given_back in waiting:
            if not given_back.done():
                given_back.set_result(None)

    def _has(self, workspace_id: int, size_bytes: int) -> bool:
        own = self._taken[workspace_id] + size_bytes
        return own <= self._most_bytes // 2 and self._taken.total() + size_bytes <= self._most_bytes


class Stay:
    """The room of one request of `workspace_id`."""

    def __init__(self, room: Room, workspace_id: int) -> None:
        self.workspace_id = workspace_id
        self._room = room
        self._size_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._size_bytes:
            self.keep(0)

    async def take(self, size_bytes: int) -> None:
        """Raises ConversionsBusy (see Room). To be asked once, or two could wait for each other."""
        if size_bytes:
            await self._room.take(self.workspace_id, size_bytes)
            self._size_bytes = size_bytes

    def keep(self, size_bytes: int) -> None:
        """Give back what is beyond so much."""
        beyond, self._size_bytes = self._size_bytes - size_bytes, min(size_bytes, self._size_bytes)
        if beyond > 0:
            self._room.give_back(self.workspace_id, beyond)
