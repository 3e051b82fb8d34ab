"""Waiting for the database, but not for long."""

import asyncio
import threading

import pytest
from asgiref.sync import sync_to_async
from django.db import OperationalError

from infery_site.patience import in_time


async def test_an_answer_in_time_is_given():
    assert await in_time(asyncio.sleep(0, "answer")) == "answer"


async def test_a_failure_passes():
    async def fail():
        raise OperationalError("gone")

    with pytest.raises(OperationalError, match="gone"):
        await in_time(fail())


@pytest.mark.parametrize("thread_sensitive", [False, True])
async def test_a_thread_that_hangs_is_left(settings, thread_sensitive):
    """It is a fault of the database like any other, and the thread ends when it can."""
    settings.DATABASE_ANSWER_S = 0.05
    released, ended = threading.Event(), threading.Event()

    def hang():
        released.wait(20)
        ended.set()

    with pytest.raises(OperationalError, match="did not answer in time"):
        await in_time(sync_to_async(hang, thread_sensitive=thread_sensitive)())
    assert not ended.is_set()
    released.set()
    assert await asyncio.to_thread(ended.wait, 20)


async def test_a_cancellation_stays_one(settings):
    task = asyncio.create_task(in_time(asyncio.Event().wait()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
