"""A real Redis (or Valkey) server for one test, reached by a socket file, and gone when the test ends.

The binary is the system's: package `redis-server` of Debian. Nothing is written to disk.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

BINARIES = ("redis-server", "valkey-server")
START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 10.0


def find_binary() -> str:
    """Without one the test is skipped, on CI failed: there the proof may not go missing unnoticed."""
    for name in BINARIES:
        if path := shutil.which(name):
            return path
    reason = f"none of {', '.join(BINARIES)} is installed"
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(reason)
    pytest.skip(reason)


class RedisServer:
    """`start` again after `stop` gives an empty server at the same address. `freeze` makes it slow, `thaw` ends that."""

    def __init__(self) -> None:
        self._binary = find_binary()
        self._folder = Path(tempfile.mkdtemp(prefix="redis-"))
        self._socket = self._folder / "redis.sock"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self._socket}"

    @property
    def socket_path(self) -> str:
        return str(self._socket)

    def start(self) -> None:
        options = ["--port", "0", "--unixsocket", str(self._socket), "--save", "", "--dir", str(self._folder)]
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen([self._binary, *options], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server did not start: {(self._folder / 'log').read_text()}")
            time.sleep(0.01)

    def stop(self) -> None:
        if self._process is not None:
            self.thaw()
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def flush(self) -> None:
        """Forget everything, scripts as well, as a replica does that takes over."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self._socket))
            for command in (b"FLUSHALL\r\n", b"SCRIPT FLUSH\r\n"):
                connection.sendall(command)
                assert connection.recv(16) == b"+OK\r\n"

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as connection:
            try:
                connection.connect(str(self._socket))
                connection.sendall(b"PING\r\n")
                return connection.recv(16) == b"+PONG\r\n"
            except OSError:
                return False
