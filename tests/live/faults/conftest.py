"""One siege for each worker of the run, and the server in it, which is one of each file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.fakes.launch import FakeProvider
from tests.live.conftest import TIMEOUT_S
from tests.live.faults.siege import Siege, besieged
from tests.live.gateway import Server

FOLDER = Path(__file__).parent
TIMEOUT_WITH_SIEGE_S = 400


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test of a worker waits until six servers have started; the machine may be busy."""
    for item in items:
        if FOLDER in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TIMEOUT_WITH_SIEGE_S))


@pytest.fixture(scope="session")
def siege(provider_process: FakeProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Siege]:
    with besieged(tmp_path_factory.mktemp("siege"), provider_process) as made:
        yield made
        made.assert_quiet()
        for log in made.gateway.logs:
            assert [name for name, key in made.keys.items() if key in log.read_text(encoding="utf-8")] == []


@pytest.fixture(scope="module")
def fortress(siege: Siege) -> Iterator[Server]:
    """The server of the siege. Whatever the tests of a file do to what is around it, it must serve after all of them."""
    with siege.server() as running:
        yield running


@pytest.fixture
def acme(siege: Siege, fortress: Server) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {siege.keys['counted']}"}
    with httpx.Client(base_url=fortress.base_url, headers=headers, timeout=TIMEOUT_S, trust_env=False) as client:
        yield client
