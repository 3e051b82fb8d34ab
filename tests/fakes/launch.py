"""Starts the scripted provider and speaks to it. Its fixtures become known by `pytest_plugins` in the top conftest."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import msgspec
import pytest

from tests.fakes.script import Script, Seen

_ROOT = Path(__file__).resolve().parents[2]


class FakeProvider:
    """The test's side of one running provider. `base_url` is what a catalogue would say."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.base_url = f"http://127.0.0.1:{port}/v1"
        self._control = httpx.Client(base_url=f"http://127.0.0.1:{port}/_control", trust_env=False)

    def script(self, name: str, *scripts: Script) -> None:
        """Answer requests for the model `name`, or marked `@script:name`, with these in order; the last one stays."""
        self._control.put(f"/scripts/{name}", content=msgspec.json.encode(scripts)).raise_for_status()

    def requests(self) -> list[Seen]:
        """Everything seen since the last reset, in the order of arrival."""
        return msgspec.json.decode(self._control.get("/requests").raise_for_status().content, type=list[Seen])

    def reset(self) -> None:
        self._control.post("/reset").raise_for_status()

    def wait_for(self, condition: Callable[[list[Seen]], bool], timeout_s: float = 5.0) -> list[Seen]:
        """Poll until what was seen meets `condition`. Raises AssertionError if it never does."""
        deadline = time.monotonic() + timeout_s
        while not condition(seen := self.requests()):
            assert time.monotonic() < deadline, f"still {seen}"
            time.sleep(0.01)
        return seen

    def close(self) -> None:
        self._control.close()


@contextlib.contextmanager
def running_provider() -> Iterator[FakeProvider]:
    """A provider process on a free port of loopback, ready when this is entered and gone when it is left."""
    command = [sys.executable, "-m", "tests.fakes.provider"]
    with subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        provider = FakeProvider(int(process.stdout.readline()))
        try:
            yield provider
        finally:
            provider.close()
            process.stdin.close()
            process.wait(timeout=10)


@pytest.fixture(scope="session")
def provider_process() -> Iterator[FakeProvider]:
    with running_provider() as provider:
        yield provider


@pytest.fixture
def fake_provider(provider_process: FakeProvider) -> FakeProvider:
    """The provider of this test run, with nothing scripted and nothing remembered."""
    provider_process.reset()
    return provider_process
