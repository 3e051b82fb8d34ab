"""Keeps the snapshot of a serving process current.

`Catalog` compares `CatalogStamp` every `settings.CATALOG_POLL_S` and reads everything anew when it moved, so a change is
served within a second and no request asks the database. While the database is away the last snapshot stays in force, with
the prices that were scheduled when it was read: each counts from its moment on, whoever asks.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import Error as DatabaseFault
from django.db import close_old_connections
from django.utils import timezone

from chat.catalog.snapshot import Snapshot, load_snapshot, read_version

logger = logging.getLogger(__name__)

_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="catalog")


class Catalog:
    """Keeps the snapshot of a serving process current. For one event loop; `start` and `stop` may be called again."""

    serving: ClassVar[Catalog | None] = None

    def __init__(self, *, poll_s: float | None = None) -> None:
        self._poll_s = settings.CATALOG_POLL_S if poll_s is None else poll_s
        self._snapshot: Snapshot | None = None
        self._following: asyncio.Task[None] | None = None

    @property
    def snapshot(self) -> Snapshot:
        if self._snapshot is None:
            raise RuntimeError("The catalogue has not been started")
        return self._snapshot.at(timezone.now()) if self._snapshot.coming else self._snapshot

    async def start(self) -> None:
        """Read the catalogue, then follow it. Raises the database's error if the first read fails."""
        if self._following is not None and not self._following.done():
            return
        self._snapshot = await _read(None)
        self._following = asyncio.create_task(self._follow(), name="catalog")
        Catalog.serving = self

    async def stop(self) -> None:
        if Catalog.serving is self:
            Catalog.serving = None
        following, self._following = self._following, None
        if following is not None:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    async def _follow(self) -> None:
        is_away = False
        while True:
            await asyncio.sleep(self._poll_s)
            try:
                self._snapshot = await _read(self.snapshot)
            except DatabaseFault as error:
                if not is_away:
                    logger.warning("The database cannot be asked for the catalogue; the last one stays in force: %s", error)
                is_away = True
            except Exception:
                logger.exception("The catalogue cannot be read; the last one stays in force")
            else:
                is_away = False


async def _read(known: Snapshot | None) -> Snapshot:
    """In a thread of its own, so that a catalogue that hangs keeps no question of another kind waiting."""
    return await sync_to_async(_in_thread, thread_sensitive=False, executor=_thread)(known)


def _in_thread(known: Snapshot | None) -> Snapshot:
    """The snapshot to serve from now on: `known`, unless the catalogue moved."""
    close_old_connections()
    try:
        if known is not None and read_version() == known.version:
            return known
        snapshot = load_snapshot()
        logger.info("Catalogue version %d: %d models can be called", snapshot.version, len(snapshot.models))
        return snapshot
    finally:
        close_old_connections()


def current() -> Snapshot:
    """The snapshot of the serving process, else one read now (in a command, or a server that has not started one)."""
    return Catalog.serving.snapshot if Catalog.serving is not None else load_snapshot()
