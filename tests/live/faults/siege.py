"""A gateway with everything it may depend on, and between it and each of them a network that can be broken."""

from __future__ import annotations

import contextlib
import http.server
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from tests.fakes.launch import FakeProvider
from tests.fakes.network import FaultProxy
from tests.fakes.pictures import picture
from tests.fakes.ports import free_port
from tests.fakes.store import CREDENTIALS, Store, storage_url
from tests.live.books import Books
from tests.live.faults.application import IMAGE_PORT
from tests.live.faults.traffic import Answered, assert_accounted_for
from tests.live.gateway import Installation, Server
from tests.migrated import copy_database, migrated_server
from tests.postgres import PostgresServer
from tests.programs import ROOT
from tests.redis_server import RedisServer

PLACES = ("provider", "database", "redis", "store", "images")
SETTINGS = "tests.live.faults.settings"
PATIENT = {"TESTS_ANSWER_S": "20", "TESTS_STORE_S": "20"}
"""For servers whose database and store are well: this machine may be busy."""
QUIET_WITHIN_S = 40.0
"""A lease and a watch of the clock, on a machine that may be busy."""


class Siege:
    """What stands around one gateway. `networks` are by the names of PLACES."""

    def __init__(
        self, folder: Path, provider: FakeProvider, postgres: PostgresServer, redis: RedisServer, store: Store
    ) -> None:
        self.provider = provider
        self.postgres = postgres
        self.redis = redis
        self.store = store
        self.images = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Images)
        self.networks = {
            "provider": FaultProxy(provider.port),
            "database": FaultProxy(postgres.socket_path),
            "redis": FaultProxy(redis.socket_path),
            "store": FaultProxy(store.port),
            "images": FaultProxy(self.images.server_port),
        }
        url = copy_database(postgres.url, f"faults_{folder.name}")
        self.gateway = Installation(folder, self.networks["provider"], settings=SETTINGS, database_url=url)
        self._auditor = subprocess.Popen(
            [sys.executable, "-m", "tests.live.faults.auditor"],
            cwd=ROOT,
            env=self.gateway.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        # With limits that are counted and never reached.
        counted = self.mint(max_requests_per_minute=1_000_000, max_concurrent_requests=1_000)
        self.keys = self.gateway.keys | {"counted": counted}

    @property
    def image_url(self) -> str:
        return f"http://127.0.0.1:{self.networks['images'].port}/a.png"

    def server(self, *, workers: int = 1, **environment: str) -> contextlib.AbstractContextManager[Server]:
        """A server that reaches everything through the networks."""
        database = urlsplit(self.gateway.database_url)
        return self.gateway.server(
            workers=workers,
            DATABASE_URL=database._replace(netloc=f"{database.username}@127.0.0.1:{self.networks['database'].port}").geturl(),
            REDIS_URL=f"redis://127.0.0.1:{self.networks['redis'].port}",
            STORAGE_URL=storage_url(self.networks["store"].port),
            **CREDENTIALS,
            **{IMAGE_PORT: str(self.networks["images"].port)},
            **environment,
        )

    @contextlib.contextmanager
    def books(self) -> Iterator[Books]:
        """On a connection of its own, past the network: the server may have been stopped since the last."""
        books = Books(self.gateway.database_url, self.gateway.sqlite_path)
        try:
            yield books
        finally:
            books.close()

    def assert_quiet(self) -> None:
        """Nothing is held any more, at the latest when its lease has ended, and the ledger is whole."""
        with self.books() as books:
            deadline = time.monotonic() + QUIET_WITHIN_S
            while books.open_holds():
                assert time.monotonic() < deadline, "a hold is still open"
                time.sleep(0.02)
        assert self._tell("reconcile") == ""

    def assert_accounted_for(self, answers: list[Answered]) -> None:
        """See `tests.live.faults.traffic`."""
        with self.books() as books:
            assert_accounted_for(books, self.provider, answers)

    def close(self) -> None:
        self._auditor.communicate(timeout=20)
        self.images.server_close()
        self.gateway.books.close()

    def mint(self, **terms: Any) -> str:
        """A key of acme with these terms."""
        return self._tell("mint", terms)

    def revoke(self, key: str) -> None:
        self._tell("revoke", key)

    def run_sql(self, *statements: str) -> None:
        self._tell("run", statements)

    def _tell(self, *words: Any) -> str:
        assert self._auditor.stdin is not None
        assert self._auditor.stdout is not None
        self._auditor.stdin.write(msgspec.json.encode(words) + b"\n")
        self._auditor.stdin.flush()
        return msgspec.json.decode(self._auditor.stdout.readline(), type=str)


class _Images(http.server.BaseHTTPRequestHandler):
    """One image, whatever is asked for."""

    picture = picture("PNG")

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "image/png")
        self.send_header("content-length", str(len(self.picture)))
        self.end_headers()
        self.wfile.write(self.picture)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing."""


@contextlib.contextmanager
def besieged(folder: Path, provider: FakeProvider) -> Iterator[Siege]:
    """Everything runs and is healthy; no server of the gateway is started yet."""
    with contextlib.ExitStack() as stack:
        postgres, redis = migrated_server(), RedisServer()
        stack.callback(postgres.stop)
        stack.callback(redis.remove)
        postgres.start()
        redis.start()
        store = Store(free_port())
        stack.callback(store.stop)
        stack.callback(store.client.close)
        siege = Siege(folder, provider, postgres, redis, store)
        stack.callback(siege.close)
        for network in siege.networks.values():
            stack.enter_context(network)
        thread = threading.Thread(target=siege.images.serve_forever)
        thread.start()
        stack.callback(thread.join)
        stack.callback(siege.images.shutdown)
        yield siege
