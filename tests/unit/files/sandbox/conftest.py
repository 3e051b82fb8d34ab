"""Children of the tests, in every way that this machine can keep them, under both event loops."""

from __future__ import annotations

import asyncio
import tempfile
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
def _nothing_is_left(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No process, no folder, no open file, whatever the test did."""
    tmp_path_factory.getbasetemp()  # is made where the following does not lead
    folder = Path(tempfile.mkdtemp())  # and not pytest's, into which nobody else may look
    folder.chmod(0o711)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    descriptors = psutil.Process().num_fds()
    yield
    assert psutil.Process().children(recursive=True) == []
    folder.rmdir()  # which refuses if there is something in it
    assert psutil.Process().num_fds() <= descriptors + 8  # what an event loop keeps
