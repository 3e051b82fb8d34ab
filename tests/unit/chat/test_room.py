"""What requests name is read into a bounded room, and no workspace keeps all others out of it."""

from __future__ import annotations

import asyncio

import pytest

from chat.content.room import Room
from files.errors import ConversionsBusy

PATIENCE_S = 5.0


async def is_taken(room, workspace_id, size_bytes):
    """Whether there was room at once."""
    try:
        async with asyncio.timeout(0.05):
            await room.stay(workspace_id).take(size_bytes)
    except TimeoutError:
        return False
    return True


async def test_a_workspace_has_half_of_it_at_most():
    room = Room(100)
    assert await is_taken(room, 1, 50)
    assert not await is_taken(room, 1, 1)
    assert await is_taken(room, 2, 50)
    assert not await is_taken(room, 3, 1)


async def test_who_waits_gets_what_others_give_back():
    room = Room(100)
    with room.stay(1) as first, room.stay(2) as second:
        await first.take(50)
        await second.take(50)
        waiting = [asyncio.create_task(room.stay(number).take(20)) for number in (1, 3)]
        await asyncio.sleep(0)
        second.keep(30)
        async with asyncio.timeout(PATIENCE_S):
            await waiting[1]
        assert not waiting[0].done()
        first.keep(30)
        async with asyncio.timeout(PATIENCE_S):
            await waiting[0]
    assert await is_taken(room, 4, 50)


async def test_who_waits_too_long_is_told_to_come_again():
    room = Room(100, within_s=0.01)
    await room.stay(1).take(50)
    await room.stay(2).take(50)
    with pytest.raises(ConversionsBusy):
        await room.stay(3).take(1)


async def test_who_leaves_while_it_waits_takes_nothing():
    room = Room(100)
    with room.stay(1) as one:
        await one.take(50)
        with room.stay(1) as other:
            waiting = asyncio.create_task(other.take(50))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
    assert await is_taken(room, 1, 50)
