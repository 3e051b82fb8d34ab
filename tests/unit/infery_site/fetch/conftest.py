"""Fetching under both event loops, and a stranger's server for each test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import uvloop

from tests.fakes.tls import certificate, client_tls, server_tls
from tests.unit.infery_site.fetch.strangers import Stranger, World

__all__ = ["certificate", "client_tls", "server_tls"]


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
async def stranger() -> AsyncIterator[Stranger]:
    async with Stranger() as started:
        yield started


@pytest.fixture
def world(stranger: Stranger) -> World:
    """Every public address leads to the stranger, every name has one; what is not public, nobody may dial."""
    return World(stranger)
