"""Children of the tests, in every way that this machine can keep them, under both event loops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import uvloop

import tests.fakes.programs
from files.sandbox import Protection, Sandbox
from tests.fakes.kept import WAYS

PROGRAMS = Path(next(iter(tests.fakes.programs.__path__)))


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(params=WAYS.values(), ids=list(WAYS))
def kept_in(request: pytest.FixtureRequest) -> Protection:
    kept: Protection = request.param
    return kept


@pytest.fixture
def sandbox(kept_in: Protection) -> Sandbox:
    return Sandbox(kept_in=kept_in, programs=PROGRAMS)


@pytest.fixture(autouse=True)
def _no_file_stays_open() -> Iterator[None]:
    descriptors = psutil.Process().num_fds()
    yield
    assert psutil.Process().num_fds() <= descriptors + 8  # what an event loop keeps
