"""The keys of what one process does for long: a request ends soon after its key may no longer be used.

A hold checks the key, but a whole answer, and a slow or a short stream, take no further one. So the process asks for the keys
of all open requests together, every `settings.KEY_WATCH_S`, in one query. A database that is away ends nothing: what flows is
paid for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from contextlib import AbstractAsyncContextManager
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import Error as DatabaseFault
from django.db import close_old_connections
from django.db.models import Q
from django.db.models.functions import Now

from billing.apikeys.principal import Refusal
from billing.errors import ExpiredApiKey, InvalidApiKey, WorkspaceSuspended
from billing.models import ApiKey, Workspace
from infery_site.errors import ApiError
from infery_site.patience import in_time

logger = logging.getLogger(__name__)


class KeyWatch:
    """See the module. For one event loop; `start` before the first stream, `stop` after the last."""

    def __init__(self, *, every_s: float | None = None) -> None:
        self._every_s = settings.KEY_WATCH_S if every_s is None else every_s
        self._open: dict[int, set[_Watched]] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._look_for_ever(), name="key-watch")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def over(self, api_key_id: int) -> AbstractAsyncContextManager[None]:
        """While the block runs it is ended, wherever it waits, when the key may no longer be used.

        It then raises InvalidApiKey, ExpiredApiKey or WorkspaceSuspended, as the look-up of the key does. Any other
        cancellation passes, also one that came at the same time.
        """
        return _Watched(self._open, api_key_id)

    async def _look_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            if self._open:
                await self._look()

    async def _look(self) -> None:
        try:
            refusals = await in_time(sync_to_async(_refusals, thread_sensitive=False)(list(self._open)))
        except DatabaseFault:
            logger.warning("the keys of open requests could not be read", extra={"count": len(self._open)}, exc_info=True)
            return
        except Exception:
            logger.exception("the keys of open requests cannot be judged")  # and the next look is due all the same
            return
        for api_key_id, refusal in refusals.items():
            for watched in list(self._open.get(api_key_id, ())):
                watched.end(refusal())


class _Watched(AbstractAsyncContextManager[None]):
    """One block, as `asyncio.timeout` is one: of the cancellations of its task it turns exactly its own into an error."""

    __slots__ = ("_api_key_id", "_cancelling", "_open", "_refusal", "_task")

    def __init__(self, open_blocks: dict[int, set[_Watched]], api_key_id: int) -> None:
        self._open = open_blocks
        self._api_key_id = api_key_id
        self._task: asyncio.Task[Any] | None = None
        self._cancelling = 0
        self._refusal: ApiError | None = None

    async def __aenter__(self) -> None:
        self._task = asyncio.current_task()
        self._cancelling = 0 if self._task is None else self._task.cancelling()
        self._open.setdefault(self._api_key_id, set()).add(self)

    async def __aexit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        blocks = self._open[self._api_key_id]
        blocks.discard(self)
        if not blocks:
            del self._open[self._api_key_id]
        if self._refusal is None or self._task is None:
            return
        is_only_ours = self._task.uncancel() <= self._cancelling
        if is_only_ours and isinstance(error, asyncio.CancelledError):
            raise self._refusal from error

    def end(self, refusal: ApiError) -> None:
        if self._refusal is None and self._task is not None:
            self._refusal = refusal
            self._task.cancel()


def _refusals(api_key_ids: list[int]) -> dict[int, Refusal]:
    """Which of these keys may no longer be used, and why. By the database's clock."""
    is_expired = Q(expires_at__lte=Now())
    is_over = Q(revoked_at__isnull=False) | is_expired | ~Q(workspace__state=Workspace.State.ACTIVE)
    keys = ApiKey.objects.filter(is_over, pk__in=api_key_ids)
    close_old_connections()
    try:
        rows = list(keys.annotate(is_expired=is_expired).values_list("pk", "revoked_at", "is_expired"))
    finally:
        close_old_connections()
    return {pk: _refusal(is_revoked=revoked_at is not None, is_expired=expired) for pk, revoked_at, expired in rows}


def _refusal(*, is_revoked: bool, is_expired: bool) -> Refusal:
    if is_revoked:
        return InvalidApiKey
    return ExpiredApiKey if is_expired else WorkspaceSuspended
