"""The keys that one process has seen lately.

It answers from memory for up to `settings.API_KEY_CACHE_S`; that is no security decision, because the hold statement
checks the key again. A key in steady use is looked up anew shortly before its time is over, so that its requests need not
wait for the query.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import Error as DatabaseFault
from django.db import close_old_connections

from billing.apikeys.grammar import HeaderValues, parse_authorization
from billing.apikeys.principal import Found, Principal, admitted, find
from billing.errors import LedgerUnavailable
from infery_site.patience import in_time

RENEWED_BEFORE_S: Final = 0.1
"""How long before its time is over a key that is used again is looked up anew: longer than a look-up nearly always takes, and
so short that a key is looked up little more often than its time to live asks for."""


class _Entry(msgspec.Struct, frozen=True):
    found: Found
    stale_at: float


class KeyRing:
    """The keys one process has seen lately, refusals included; at most `max_entries`, the oldest leave first.

    For one event loop. `clock` counts seconds and never goes back.
    """

    def __init__(
        self,
        *,
        ttl_s: float | None = None,
        max_entries: int = 20_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ttl_s = settings.API_KEY_CACHE_S if ttl_s is None else ttl_s
        self._max_entries = max_entries
        self._clock = clock
        # In the order of their look-ups: the first entry is the first to become stale.
        self._entries: dict[str, _Entry] = {}
        self._look_ups: dict[str, asyncio.Task[Found]] = {}

    async def principal(self, authorization: HeaderValues, *, scope: str | None, address: str | None) -> Principal:
        """Who calls, from the values of all `Authorization` headers and the caller's network address.

        Does not wait when the key was seen within the time to live. Raises the refusals of `billing.errors`, among
        them LedgerUnavailable if the database cannot be asked.
        """
        return await self.of_digest(parse_authorization(authorization, self._entries), scope=scope, address=address)

    async def of_digest(self, digest: str, *, scope: str | None, address: str | None) -> Principal:
        """The same for a key that the caller has shown to be his in another way."""
        entry, now = self._entries.get(digest), self._clock()
        if entry is None or entry.stale_at <= now:
            return admitted(await self._looked_up(digest), scope=scope, address=address)
        if entry.stale_at - RENEWED_BEFORE_S <= now:
            self._look_up(digest)
        return admitted(entry.found, scope=scope, address=address)

    async def _looked_up(self, digest: str) -> Found:
        """What the look-up finds, which goes on when one of those who wait for it is cancelled."""
        try:
            return await asyncio.shield(self._look_up(digest))
        except DatabaseFault as error:
            raise LedgerUnavailable from error

    def _look_up(self, digest: str) -> asyncio.Task[Found]:
        """One query for all who ask for this digest now."""
        look_up = self._look_ups.get(digest)
        if look_up is None:
            look_up = self._look_ups[digest] = asyncio.create_task(self._find(digest))
            look_up.add_done_callback(_heard)
        return look_up

    async def _find(self, digest: str) -> Found:
        # Counted from before the query, so that no answer from memory is older than the time to live.
        asked_at = self._clock()
        try:
            found = await in_time(sync_to_async(_find_in_thread)(digest))
        finally:
            del self._look_ups[digest]
        self._remember(digest, _Entry(found, asked_at + self._ttl_s))
        return found

    def _remember(self, digest: str, entry: _Entry) -> None:
        self._entries.pop(digest, None)
        self._entries[digest] = entry
        now = self._clock()
        while True:
            oldest = next(iter(self._entries))
            if oldest == digest or (len(self._entries) <= self._max_entries and self._entries[oldest].stale_at > now):
                return
            del self._entries[oldest]


def _heard(look_up: asyncio.Task[Any]) -> None:
    """Take note of a fault that nobody waits for: whoever asks once the entry is stale meets it, or its end."""
    if not look_up.cancelled():
        look_up.exception()


def _find_in_thread(digest: str) -> Found:
    """`find` outside a request of Django's, which would have cared for the connection."""
    close_old_connections()
    try:
        return find(digest)
    finally:
        close_old_connections()
