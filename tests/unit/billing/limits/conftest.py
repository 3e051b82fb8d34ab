"""A clock that stands at noon, and a Redis of the test's own."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.redis_server import RedisServer
from tests.unit.billing.limits.asking import NOON, Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(NOON)
    monkeypatch.setattr(time, "time", clock)
    return clock


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    server = RedisServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()
