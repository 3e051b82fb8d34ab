"""A gateway as an operator runs it: a database of its own, filled by the commands, and `manage.py serve` as a process."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import psutil

from tests.engine_plugin import SETTINGS_NAMES
from tests.fakes.ports import free_port
from tests.live.books import Books
from tests.live.catalog import PROVIDER_KEY, PROVIDER_KEY_ENV, catalog_yaml
from tests.live.forkserver import INHERITED, ForkServer, Process
from tests.migrated import copy_sqlite, create_database
from tests.programs import ROOT, TIMEOUT_S, run_python

START_TIMEOUT_S = 300.0  # this machine may be busy: it bounds a server that never starts
STOP_TIMEOUT_S = 40.0


class Listening(Protocol):
    """What answers on a port of loopback."""

    port: int


class Installation:
    """A gateway that is ready to be started, as often as a test likes.

    `folder` is its state folder; its name tells the installations of one run apart. `database_url` is that of a database of
    the test's own, or empty for SQLite; without it the engine of the run decides. `provider` is where providers are called.
    `environment` is that of all its commands and servers, which are forked from one process that has read it.
    """

    def __init__(
        self,
        folder: Path,
        provider: Listening,
        *,
        settings: str = "tests.live.settings",
        database_url: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        if database_url is None and (database_url := os.environ.get("DATABASE_URL", "")):
            worker = os.environ.get("PYTEST_XDIST_WORKER", "gw")
            database_url = create_database(database_url, f"live_{folder.name}_{worker}", is_migrated=True)
        self.database_url = database_url
        self.sqlite_path = folder / "gateway.sqlite3"
        """The database is the one of `database_url`, or without it this file."""
        if not database_url:
            copy_sqlite(self.sqlite_path)
        self.environment = {name: value for name, value in os.environ.items() if name not in SETTINGS_NAMES} | {
            "INFERY_STATE_DIR": str(folder),
            "DATABASE_URL": database_url,
            "DJANGO_SETTINGS_MODULE": settings,
            PROVIDER_KEY_ENV: PROVIDER_KEY,
            **(environment or {}),
        }
        self._fork_server = ForkServer(self.environment)
        with socket.socket() as closed:  # bound and not listening: refuses, and nobody else can take it
            closed.bind(("127.0.0.1", 0))
            self._write_catalog(provider.port, closed.getsockname()[1])
            made = self.run("-m", "tests.live.install", str(folder / "catalog.yaml"))
        self.keys: dict[str, str] = json.loads(made)
        self.books = Books(database_url, self.sqlite_path)
        self.logs: list[Path] = []

    def _write_catalog(self, provider_port: int, closed_port: int) -> None:
        (self.folder / "catalog.yaml").write_text(catalog_yaml(provider_port, closed_port), encoding="utf-8")

    def run(self, *arguments: str, **environment: str) -> str:
        """What a Python program of the project printed. Raises AssertionError if it failed.

        One with settings of its own, in `environment`, is started from nothing.
        """
        if not environment.keys() <= INHERITED:
            return run_python(*arguments, environment=self.environment | environment)
        with tempfile.TemporaryDirectory() as folder:
            output, errors = Path(folder, "output"), Path(folder, "errors")
            process = self._fork_server.start(list(arguments), output=output, errors=errors, environment=environment)
            try:
                status = process.wait(TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
            printed, told = output.read_text(encoding="utf-8"), errors.read_text(encoding="utf-8")
        assert status == 0, f"{' '.join(arguments)} failed:\n{printed}{told}"
        return printed

    @contextlib.contextmanager
    def server(self, *, workers: int = 1, **environment: str) -> Iterator[Server]:
        """A server on a free port of loopback, which answers when this is entered. Leaving it sends SIGTERM.

        With one worker it is one process, else one more for each. `environment` is added to that of the installation; a
        server with settings of its own is started from nothing.
        """
        port = free_port()
        log = self.folder / f"server-{port}.log"
        self.logs.append(log)
        command = ["manage.py", "serve", "--port", str(port), "--workers", str(workers)]
        process: Process
        if environment.keys() <= INHERITED:
            process = self._fork_server.start(command, output=log, errors=log, environment=environment)
        else:
            with log.open("wb") as output:
                process = subprocess.Popen(
                    [sys.executable, *command],
                    cwd=ROOT,
                    env=self.environment | environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                )
        server = Server(process, port, log)
        try:
            server.wait_until_healthy()
            if workers > 1:
                server.wait_for_workers(workers)
            yield server
        finally:
            status = server.stop()
        assert server.was_killed or status == 0, f"the server ended with {status}:\n{server.log_text()}"


class Server:
    """One running process of an installation."""

    def __init__(self, process: Process, port: int, log: Path) -> None:
        self._process = process
        self._log = log
        self.was_killed = False
        self.port = port
        self.base_url = f"http://127.0.0.1:{port}/v1"

    @property
    def pid(self) -> int:
        return self._process.pid

    def log_text(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def wait_until_healthy(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._is_healthy():
            assert self._process.poll() is None, f"the server ended while starting:\n{self.log_text()}"
            assert time.monotonic() < deadline, f"the server did not start in {START_TIMEOUT_S} s:\n{self.log_text()}"
            time.sleep(0.05)

    def wait_for_workers(self, count: int) -> None:
        """Until each has its catalogue, which is when it begins to take requests."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while self.log_text().count("models can be called") < count:
            assert time.monotonic() < deadline, f"{count} workers did not start in {START_TIMEOUT_S} s:\n{self.log_text()}"
            time.sleep(0.05)

    def terminate(self) -> None:
        """Ask it to stop, and return at once."""
        self._process.send_signal(signal.SIGTERM)

    def interrupt(self) -> None:
        """Ctrl-C, which a terminal sends to all its processes; returns at once."""
        for process in (*psutil.Process(self.pid).children(), self._process):
            process.send_signal(signal.SIGINT)

    def replace_workers(self) -> None:
        """Ask it to replace its worker processes one after the other, and return at once."""
        self._process.send_signal(signal.SIGHUP)

    def worker_pids(self) -> set[int]:
        """The processes that serve, where they are more than one; multiprocessing has another, which looks after what they share."""
        pids = set()
        for child in psutil.Process(self.pid).children():
            with contextlib.suppress(psutil.Error):  # it ends just now
                if "resource_tracker" not in " ".join(child.cmdline()):
                    pids.add(child.pid)
        return pids

    def worker_of(self, client_port: int) -> int:
        """The process that serves the connection from that port."""
        for pid in self.worker_pids():
            if any(one.raddr and one.raddr.port == client_port for one in psutil.Process(pid).net_connections("tcp4")):
                return pid
        raise LookupError(client_port)

    def kill(self) -> None:
        """End it in the middle of whatever it does, as the system does when memory runs out."""
        self.was_killed = True
        self._process.kill()
        self._process.wait()

    def wait_until_killed(self) -> None:
        """Until it has killed itself, at the point that it was told."""
        assert self._process.wait(STOP_TIMEOUT_S) == -signal.SIGKILL
        self.was_killed = True

    def stop(self) -> int:
        """The exit status, after SIGTERM if it still runs; negative for a signal that ended it."""
        if self._process.poll() is None:
            self.terminate()
        try:
            return self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _is_healthy(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            return b" 200 " in connection.recv(64)
        return False
