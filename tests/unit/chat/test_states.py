"""Provider state: kept per workspace and call, encrypted, for a day, for the model that made it."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta

import msgspec
import pytest
from django.utils import timezone

from billing.apikeys import KeyRing, new_key
from billing.errors import InvalidApiKey
from billing.workspaces import create_workspace
from chat import states
from chat.catalog import following
from chat.models import ProviderState
from chat.schema.content import KeptState
from chat.schema.reply import ToolState
from chat.schema.request import AssistantMessage, FunctionCall, ToolCall, ToolMessage
from chat.schema.route import Route
from tests.unit.chat.values import PROVIDER, model, request, route, target

pytestmark = pytest.mark.django_db(transaction=True)

GEMINI = msgspec.structs.replace(target(), provider=msgspec.structs.replace(PROVIDER, dialect="gemini"))
SIGNATURE = ToolState("call_1", b"signed thoughts")


@pytest.fixture
def acme():
    return create_workspace("acme", actor="test")


@pytest.fixture
def rival():
    return create_workspace("rival", actor="test")


def route_over(dialect: str) -> Route:
    one = msgspec.structs.replace(target(), provider=msgspec.structs.replace(PROVIDER, dialect=dialect))
    return route(msgspec.structs.replace(model(), targets=(one,)))


def replaying(*call_ids: str):
    calls = [ToolCall(call_id, "function", FunctionCall("f", "{}")) for call_id in call_ids]
    return request(messages=[AssistantMessage(tool_calls=calls), *[ToolMessage("4", call_id) for call_id in call_ids]])


async def test_what_was_remembered_is_recalled_with_the_call(acme):
    await states.remember(acme.pk, GEMINI, [SIGNATURE, ToolState("call_2", b"more")])
    kept = await states.recall(acme.pk, replaying("call_1", "call_3"), route_over("gemini"))
    assert kept == {"call_1": KeptState("gemini/upstream-model", b"signed thoughts")}


async def test_another_workspace_recalls_nothing(acme, rival):
    await states.remember(acme.pk, GEMINI, [SIGNATURE])
    assert await states.recall(rival.pk, replaying("call_1"), route_over("gemini")) == {}


async def test_states_that_hang_keep_no_key_waiting(acme, monkeypatch):
    """Neither does a catalogue that cannot be read: who may call is asked in a thread that nothing else can block."""
    is_over = threading.Event()
    for asked in (states, following):
        monkeypatch.setattr(asked, "close_old_connections", lambda: is_over.wait(30))
    hanging = [asyncio.create_task(states.recall(acme.pk, replaying("call_1"), route_over("gemini"))) for _ in range(8)]
    hanging.append(asyncio.create_task(following._read(None)))
    await asyncio.sleep(0.1)
    try:
        async with asyncio.timeout(5):
            with pytest.raises(InvalidApiKey):
                await KeyRing().principal((b"Bearer " + new_key().encode(),), scope="chat", address=None)
        assert not any(task.done() for task in hanging)
    finally:
        is_over.set()
        await asyncio.gather(*hanging, return_exceptions=True)


async def test_nothing_is_looked_up_where_nobody_wants_it(acme):
    await states.remember(acme.pk, GEMINI, [SIGNATURE])
    assert await states.recall(acme.pk, replaying("call_1"), route_over("openai")) == {}
    assert await states.recall(acme.pk, request(), route_over("gemini")) == {}


async def test_the_same_call_again_replaces_its_state(acme):
    await states.remember(acme.pk, GEMINI, [SIGNATURE])
    await states.remember(acme.pk, GEMINI, [ToolState("call_1", b"newer")])
    kept = await states.recall(acme.pk, replaying("call_1"), route_over("gemini"))
    assert kept["call_1"].data == b"newer"


async def test_it_is_stored_encrypted_and_bound_to_its_workspace(acme, rival):
    await states.remember(acme.pk, GEMINI, [SIGNATURE])
    row = await ProviderState.objects.aget()
    assert b"signed" not in bytes(row.data_encrypted)
    await ProviderState.objects.filter(pk=row.pk).aupdate(workspace=rival)
    assert await states.recall(rival.pk, replaying("call_1"), route_over("gemini")) == {}


async def test_after_a_day_it_is_forgotten(acme):
    await states.remember(acme.pk, GEMINI, [SIGNATURE, ToolState("call_2", b"more")])
    row = await ProviderState.objects.afirst()
    await ProviderState.objects.filter(pk=row.pk).aupdate(created_at=timezone.now() - timedelta(hours=25))
    assert len(await states.recall(acme.pk, replaying("call_1", "call_2"), route_over("gemini"))) == 1


def test_old_state_is_purged(acme):
    old = timezone.now() - timedelta(hours=25)
    for number, made in enumerate([old, old, timezone.now()]):
        ProviderState.objects.create(
            workspace=acme, call_digest=str(number), maker="gemini/m", data_encrypted=b"", created_at=made
        )
    assert states.purge() == 2
    assert ProviderState.objects.get().call_digest == "2"
