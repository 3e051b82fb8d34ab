"""One gateway for each worker of the run: real processes, its own database, official clients in front, a provider behind.

After each file its server must stop by itself with status 0. When the last test is over it must have logged nothing that is
our fault, and left books that balance.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from openai import AsyncOpenAI, OpenAI

from tests.fakes.launch import FakeProvider, running_provider
from tests.live.books import Books
from tests.live.gateway import Installation, Server

TIMEOUT_S = 20.0


@pytest.fixture(scope="session")
def provider_process() -> Iterator[FakeProvider]:
    with running_provider() as provider:
        yield provider


@pytest.fixture(scope="session", autouse=True)
def _no_proxy_of_the_environment() -> Iterator[None]:
    """The official clients would ask it even for this machine."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("NO_PROXY", "no_proxy"):
            patch.setenv(name, "127.0.0.1")
        yield


@pytest.fixture(scope="session")
def installation(provider_process: FakeProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    folder = tmp_path_factory.mktemp("gateway")
    made = Installation(folder, provider_process, environment={"TESTS_MAILS": str(folder / "mails")})
    yield made
    made.run("manage.py", "reconcile_ledger")
    assert made.books.open_holds() == 0
    made.books.close()
    for log in made.logs:
        text = log.read_text(encoding="utf-8")
        assert faults_in(text) == []
        assert [name for name, key in made.keys.items() if key in text] == []


@pytest.fixture(scope="session")
def hasty(provider_process: FakeProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A gateway whose leases last seconds, for tests that kill it. It is not started yet."""
    made = Installation(tmp_path_factory.mktemp("hasty"), provider_process, settings="tests.live.hasty")
    yield made
    made.run("manage.py", "reconcile_ledger")
    made.books.close()


def faults_in(log: str) -> list[str]:
    """Lines that are our fault: errors, exceptions, and whatever is not a record. An alarm about a provider is not."""
    return [line for line in log.splitlines() if not line.startswith("{") or _is_fault(json.loads(line))]


def _is_fault(record: dict[str, object]) -> bool:
    return "exception" in record or (record["level"] == "error" and record["event"] != "overrun")


@pytest.fixture(scope="module")
def server(installation: Installation) -> Iterator[Server]:
    """Of one file. It is forked, and one that nobody asks for is not free either: it looks at its database all the time."""
    with installation.server() as running:
        yield running


@pytest.fixture
def provider(provider_process: FakeProvider) -> FakeProvider:
    """The provider behind the gateway, with nothing scripted and nothing remembered."""
    provider_process.reset()
    return provider_process


@pytest.fixture
def keys(installation: Installation) -> dict[str, str]:
    """`acme` is funded, `modest` has one credit, `broke` none; `limited` is a key of acme for few requests a minute."""
    return installation.keys


@pytest.fixture
def books(installation: Installation) -> Books:
    return installation.books


@pytest.fixture
def label() -> str:
    """An `x-request-id` that no other request has."""
    return f"live-{uuid.uuid4()}"


@pytest.fixture
def client(server: Server, keys: dict[str, str], provider: FakeProvider) -> Iterator[OpenAI]:
    """The official client as acme would make it, except that it does not try again.

    The provider has nothing scripted, as for all who ask: what a test before left there would be their answer.
    """
    with OpenAI(base_url=server.base_url, api_key=keys["acme"], max_retries=0, timeout=TIMEOUT_S) as client:
        yield client


@pytest.fixture
async def async_client(server: Server, keys: dict[str, str], provider: FakeProvider) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=server.base_url, api_key=keys["acme"], max_retries=0, timeout=TIMEOUT_S) as client:
        yield client


@pytest.fixture
def http(server: Server, keys: dict[str, str], provider: FakeProvider) -> Iterator[httpx.Client]:
    """A plain HTTP client with acme's key, where the bytes matter."""
    headers = {"authorization": f"Bearer {keys['acme']}"}
    with httpx.Client(base_url=server.base_url, headers=headers, timeout=TIMEOUT_S, trust_env=False) as client:
        yield client
