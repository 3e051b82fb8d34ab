"""The staff admin as people have it: a real server, a real Chromium, a provider behind that does what it is told.

Whatever a test does, no page may have logged an error, run a stranger's script, or asked another host for anything.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.e2e.browsing import Visitor
from tests.e2e.customers import Person
from tests.fakes.identity import CLIENT_ID, CLIENT_SECRET, IdentityProvider
from tests.fakes.launch import FakeProvider, running_provider
from tests.fakes.receiver import Receiver
from tests.fakes.stripe_api import SECRET_KEY, WEBHOOK_SECRET, FakeStripe
from tests.live.gateway import Installation, Server
from tests.programs import ROOT

Visit = Callable[..., Visitor]
FIRST_LIMIT_S = 600
"""The first test of a process has the database, the people and the server made."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(FIRST_LIMIT_S))


class Clerk:
    """Makes people and credits in an installation, see `people.py`. `sessions` are those of the staff."""

    def __init__(self, installation: Installation) -> None:
        command = [sys.executable, "-m", "tests.e2e.people"]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=installation.environment, stdin=pipe, stdout=pipe, text=True, encoding="utf-8"
        )
        self.sessions: dict[str, str] = self._answer()

    def ask(self, what: str, *told: str) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([what, *told]) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"people.py ended with {self._process.wait()}"
        return json.loads(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._process.communicate()


@pytest.fixture(scope="session")
def provider_process() -> Iterator[FakeProvider]:
    with running_provider() as provider:
        yield provider


@pytest.fixture
def provider(provider_process: FakeProvider) -> FakeProvider:
    provider_process.reset()
    return provider_process


@pytest.fixture(scope="session")
def installation(provider_process: FakeProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    made = Installation(tmp_path_factory.mktemp("staff"), provider_process)
    yield made
    made.run("manage.py", "reconcile_ledger")
    made.books.close()


@pytest.fixture(scope="session")
def clerk(installation: Installation) -> Iterator[Clerk]:
    with Clerk(installation) as one:
        yield one


@pytest.fixture(scope="session")
def sessions(clerk: Clerk) -> dict[str, str]:
    """Sessions of the staff by user name, past password and second factor."""
    return clerk.sessions


@pytest.fixture
def give(clerk: Clerk) -> Callable[[str, str], Any]:
    """Credits to a workspace."""
    return lambda workspace, credits: clerk.ask("give", workspace, credits)


@pytest.fixture(scope="session")
def receiver() -> Iterator[Receiver]:
    """Somebody's receiver of webhooks, in a network that staff opened."""
    with Receiver() as running:
        yield running


@pytest.fixture(scope="session")
def stripe() -> Iterator[FakeStripe]:
    with FakeStripe() as running:
        yield running


@pytest.fixture(scope="session")
def identity() -> Iterator[IdentityProvider]:
    with IdentityProvider() as running:
        yield running


@pytest.fixture(scope="session")
def server(
    installation: Installation,
    sessions: dict[str, str],
    receiver: Receiver,
    stripe: FakeStripe,
    identity: IdentityProvider,
) -> Iterator[Server]:
    with installation.server(
        WEBHOOK_NETWORKS="127.0.0.1/32",
        WEBHOOK_PORTS=f"80,443,{receiver.port}",
        STRIPE_SECRET_KEY=SECRET_KEY,
        STRIPE_WEBHOOK_SECRET=WEBHOOK_SECRET,
        STRIPE_API_URL=stripe.url,
        OIDC_NAME="Acme",
        OIDC_SERVER_URL=identity.url,
        OIDC_CLIENT_ID=CLIENT_ID,
        OIDC_CLIENT_SECRET=CLIENT_SECRET,
    ) as running:
        stripe.events_url = f"http://127.0.0.1:{running.port}/stripe/events"
        yield running


@pytest.fixture(scope="session")
def site(server: Server) -> str:
    return f"http://127.0.0.1:{server.port}"


@pytest.fixture
def api(server: Server, installation: Installation, provider: FakeProvider) -> Iterator[httpx.Client]:
    """A customer's program: acme's key; the provider behind has nothing scripted."""
    headers = {"authorization": f"Bearer {installation.keys['acme']}"}
    with httpx.Client(base_url=server.base_url, headers=headers, timeout=20, trust_env=False) as client:
        yield client


# Of a module, because its event loop would otherwise be in the way of asynchronous tests.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium")
    assert program, "The browser tests need Chromium: apt-get install chromium"
    with sync_playwright() as playwright:
        # Debian's Chromium would paint by a graphics card that it has to imitate.
        options = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        chromium = playwright.chromium.launch(executable_path=program, args=options)
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser: Browser, site: str, sessions: dict[str, str]) -> Iterator[Visit]:
    """Opens a window as a member of the staff, by name, or as nobody."""
    visitors: list[Visitor] = []

    def open_window(name: str = "ada", **options: Any) -> Visitor:
        visitors.append(Visitor(browser, site, session=sessions.get(name, ""), **options))
        return visitors[-1]

    yield open_window
    for visitor in visitors:
        visitor.close()
    assert [fault for visitor in visitors for fault in visitor.faults] == []


@pytest.fixture
def person(browser: Browser, site: str, server: Server, clerk: Clerk) -> Iterator[Callable[..., Person]]:
    people: list[Person] = []

    def come(email: str, session: str | None = None) -> Person:
        people.append(Person(browser, site, server, email, clerk.ask("come", email) if session is None else session))
        return people[-1]

    yield come
    for one in people:
        one.visitor.close()
    assert [fault for one in people for fault in one.visitor.faults] == []
