"""A block is ended when its key may no longer be used, wherever it waits, and by nothing else."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from django.db import connections
from django.utils import timezone

from billing.apikeys import KeyWatch
from billing.errors import ExpiredApiKey, InvalidApiKey, WorkspaceSuspended
from billing.models import ApiKey, Workspace

pytestmark = pytest.mark.django_db(transaction=True)

EVERY_S = 0.05


@pytest.fixture
async def watch():
    watch = KeyWatch(every_s=EVERY_S)
    await watch.start()
    yield watch
    await watch.stop()


async def wait(watch, world, *, seconds=20.0):
    """A stream that says nothing."""
    async with watch.over(world.key.pk):
        await asyncio.sleep(seconds)


async def revoke(world):
    await ApiKey.objects.filter(pk=world.key.pk).aupdate(revoked_at=timezone.now())


async def expire(world):
    await ApiKey.objects.filter(pk=world.key.pk).aupdate(expires_at=timezone.now() - timedelta(seconds=1))


async def suspend(world):
    await Workspace.objects.filter(pk=world.workspace.pk).aupdate(state=Workspace.State.SUSPENDED)


async def everything(world):
    await revoke(world)
    await expire(world)
    await suspend(world)


@pytest.mark.parametrize(
    ("act", "refusal"),
    [(revoke, InvalidApiKey), (expire, ExpiredApiKey), (suspend, WorkspaceSuspended), (everything, InvalidApiKey)],
)
async def test_a_key_that_may_no_longer_be_used_ends_its_blocks_and_no_others(watch, acme, rival, act, refusal):
    ours = [asyncio.create_task(wait(watch, acme)) for _ in range(3)]
    theirs = asyncio.create_task(wait(watch, rival))
    await asyncio.sleep(3 * EVERY_S)
    assert not any(task.done() for task in ours)
    await act(acme)
    results = await asyncio.wait_for(asyncio.gather(*ours, return_exceptions=True), 10)
    assert [type(result) for result in results] == [refusal] * 3
    assert len({id(result) for result in results}) == 3, "each has an error of its own, which it may add headers to"
    assert not theirs.done()
    theirs.cancel()
    with pytest.raises(asyncio.CancelledError):
        await theirs


async def test_a_key_that_will_expire_is_let_be(watch, acme):
    await ApiKey.objects.filter(pk=acme.key.pk).aupdate(expires_at=timezone.now() + timedelta(hours=1))
    await wait(watch, acme, seconds=6 * EVERY_S)


async def test_a_task_goes_on_after_its_block_was_ended(watch, acme):
    await revoke(acme)
    with pytest.raises(InvalidApiKey):
        await wait(watch, acme)
    await asyncio.sleep(4 * EVERY_S)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_block_that_is_over_is_not_ended_any_more(watch, acme):
    await wait(watch, acme, seconds=0)
    await revoke(acme)
    await asyncio.sleep(4 * EVERY_S)


@pytest.mark.parametrize("is_client_first", [False, True])
async def test_a_client_that_left_at_the_same_time_has_left(watch, acme, is_client_first):
    """Two cancellations, of which only one is the watch's: nobody must answer an error to somebody who is not there."""
    block, begun = watch.over(acme.key.pk), asyncio.Event()

    async def stream():
        async with block:
            begun.set()
            await asyncio.sleep(20)

    task = asyncio.create_task(stream())
    await begun.wait()
    ends = [task.cancel, lambda: block.end(InvalidApiKey())]
    for end in ends if is_client_first else reversed(ends):
        end()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cleanup_in_the_block_runs_to_its_end(watch, acme):
    cleaned = []

    async def stream():
        async with watch.over(acme.key.pk):
            try:
                await asyncio.sleep(20)
            finally:
                await asyncio.sleep(4 * EVERY_S)
                cleaned.append(True)

    await revoke(acme)
    with pytest.raises(InvalidApiKey):
        await stream()
    assert cleaned == [True]


async def test_a_database_that_is_away_ends_nothing(watch, acme, monkeypatch, caplog):
    task = asyncio.create_task(wait(watch, acme))
    with monkeypatch.context() as outage:
        outage.setitem(connections.settings["default"], "NAME", "/absent/database")
        await asyncio.sleep(6 * EVERY_S)
        assert not task.done()
    assert "could not be read" in caplog.text
    await revoke(acme)
    with pytest.raises(InvalidApiKey):
        await asyncio.wait_for(task, 10)
