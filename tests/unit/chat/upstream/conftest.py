"""The upstream under both event loops: uvloop serves in production, asyncio where uvloop is missing."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable

import pytest
import uvloop

from chat.upstream import Upstream
from tests.fakes.launch import fake_provider, provider_process
from tests.fakes.tls import certificate, client_tls, server_tls

__all__ = ["certificate", "client_tls", "fake_provider", "provider_process", "server_tls"]


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
async def upstream(client_tls: ssl.SSLContext) -> AsyncIterator[Upstream]:
    started = Upstream(max_exchanges=4, ssl_context=client_tls)
    await started.start()
    yield started
    await started.stop()
