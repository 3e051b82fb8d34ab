"""How long is waited for the database: by the event loop, from where everybody asks through `in_time`, and for its locks.

A server that is gone says so; one that hangs, or a network that swallows everything, says nothing at all, and a driver in
a thread waits for it as long as the system keeps the connection. Whoever waits for that thread does not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from django.conf import settings
from django.db import DatabaseError, InterfaceError, OperationalError

T = TypeVar("T")


async def in_time(asking: Awaitable[T]) -> T:
    """What `asking` gives. Raises OperationalError after `settings.DATABASE_ANSWER_S`; what runs in a thread goes on there."""
    try:
        async with asyncio.timeout(settings.DATABASE_ANSWER_S):
            return await asking
    except TimeoutError as error:
        raise OperationalError("The database did not answer in time") from error


@contextmanager
def short_lock_waits(connection: Any, most_s: float) -> Iterator[None]:
    """Gives up what somebody keeps locked, instead of waiting for ever with everybody else behind it.

    On SQLite everybody waits for a few seconds at most (`infery_site.sqlite`).
    """
    if connection.vendor != "postgresql":
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('lock_timeout', %s, false)", [f"{round(most_s * 1000)}ms"])
    try:
        yield
    finally:
        # A connection that is gone needs no more.
        with suppress(DatabaseError, InterfaceError), connection.cursor() as cursor:
            cursor.execute("RESET lock_timeout")
