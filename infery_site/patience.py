"""How long the event loop waits for the database: everybody who asks it from there asks through this.

A server that is gone says so; one that hangs, or a network that swallows everything, says nothing at all, and a driver in
a thread waits for it as long as the system keeps the connection. Whoever waits for that thread does not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from django.conf import settings
from django.db import OperationalError

T = TypeVar("T")


async def in_time(asking: Awaitable[T]) -> T:
    """What `asking` gives. Raises OperationalError after `settings.DATABASE_ANSWER_S`; what runs in a thread goes on there."""
    try:
        async with asyncio.timeout(settings.DATABASE_ANSWER_S):
            return await asking
    except TimeoutError as error:
        raise OperationalError("The database did not answer in time") from error
