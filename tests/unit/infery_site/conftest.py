"""Connections are tested under both event loops: uvloop serves in production, asyncio where it is missing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import uvloop

_OF_CONNECTIONS = {"test_ending", "test_framing", "test_stalling", "test_transport", "test_wire"}
_ASYNCIO = {"asyncio": asyncio.new_event_loop}


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    is_of_connections = item.path.stem in _OF_CONNECTIONS
    return {**_ASYNCIO, "uvloop": uvloop.new_event_loop} if is_of_connections else _ASYNCIO
