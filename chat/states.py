"""Provider state: what a provider wants back with a tool call in a later turn, and no client of OpenAI's API can carry.

Gemini signs the thoughts behind a call, Anthropic the thinking before it. The state is kept for the workspace under the id
of the call, encrypted, for 24 hours, and given back to the very upstream model that made it. It is never read here.

Keeping is best effort: without its state a call is still answered, by what the dialect does without. So a database that
fails here is logged and nothing else. Only requests with tool calls come here.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from asgiref.sync import sync_to_async
from django.db import Error as DatabaseFault
from django.db import close_old_connections
from django.utils import timezone

from chat.models import ProviderState
from chat.schema.content import KeptState
from chat.schema.reply import ToolState
from chat.schema.request import AssistantMessage, ChatRequest
from chat.schema.route import Route, TargetInfo
from infery_site import secretbox
from infery_site.patience import in_time

KEPT_FOR = timedelta(hours=24)
MAX_CALLS = 512
"""Calls of one conversation whose state is looked up: the last ones."""

# Of its own: who may use a key is asked in another, and a table of states that hangs must not keep anybody out.
_threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="provider-states")

_WITHOUT_STATE = {"openai"}
_PURGE_BATCH_ROWS = 500

logger = logging.getLogger(__name__)


async def recall(workspace_id: int, request: ChatRequest, route: Route) -> dict[str, KeptState]:
    """The state of the tool calls that the messages replay, by their ids, if somebody on the route may want it."""
    if all(target.provider.dialect in _WITHOUT_STATE for step in route.steps for target in step.targets):
        return {}
    calls = [
        call.id for message in request.messages if isinstance(message, AssistantMessage) for call in message.tool_calls or ()
    ]
    if not calls:
        return {}
    try:
        recalled = sync_to_async(_recall, thread_sensitive=False, executor=_threads)
        return await in_time(recalled(workspace_id, calls[-MAX_CALLS:]))
    except DatabaseFault:
        logger.exception("provider state could not be read")
        return {}


async def remember(workspace_id: int, target: TargetInfo, states: Sequence[ToolState]) -> None:
    """Keep what `target` gave. Await it before the client has the whole answer: its next turn may follow at once."""
    if not states:
        return
    try:
        remembered = sync_to_async(_remember, thread_sensitive=False, executor=_threads)
        await in_time(remembered(workspace_id, target.maker, states))
    except DatabaseFault:
        logger.exception("provider state could not be kept")


def purge() -> int:
    """Delete what is old enough, in batches, so that no writer waits long. Gives the number of rows."""
    rows = ProviderState.objects.filter(created_at__lt=timezone.now() - KEPT_FOR)
    deleted = 0
    while ids := list(rows.values_list("pk", flat=True)[:_PURGE_BATCH_ROWS]):
        deleted += rows.filter(pk__in=ids).delete()[0]
    return deleted


def _digest(call_id: str) -> str:
    return hashlib.sha256(call_id.encode()).hexdigest()


def _context(workspace_id: int, digest: str) -> str:
    return f"provider_state:{workspace_id}:{digest}"


def _recall(workspace_id: int, call_ids: Iterable[str]) -> dict[str, KeptState]:
    by_digest = {_digest(call_id): call_id for call_id in call_ids}
    rows = ProviderState.objects.filter(
        workspace_id=workspace_id, call_digest__in=by_digest, created_at__gte=timezone.now() - KEPT_FOR
    )
    kept = {}
    close_old_connections()
    try:
        for row in rows:
            try:
                data = secretbox.decrypt(row.data_encrypted, context=_context(workspace_id, row.call_digest))
            except secretbox.SecretError as error:
                logger.error("provider state cannot be read: %s", error)  # noqa: TRY400 - no traceback near secrets
                continue
            kept[by_digest[row.call_digest]] = KeptState(row.maker, data)
    finally:
        close_old_connections()
    return kept


def _remember(workspace_id: int, maker: str, states: Iterable[ToolState]) -> None:
    by_digest = {_digest(state.tool_call_id): state.data for state in states}
    rows = [
        ProviderState(
            workspace_id=workspace_id,
            call_digest=digest,
            maker=maker,
            data_encrypted=secretbox.encrypt(data, context=_context(workspace_id, digest)),
        )
        for digest, data in by_digest.items()
    ]
    close_old_connections()
    try:
        ProviderState.objects.bulk_create(
            rows,
            update_conflicts=True,
            unique_fields=["workspace", "call_digest"],
            update_fields=["maker", "data_encrypted", "created_at"],
        )
    finally:
        close_old_connections()
