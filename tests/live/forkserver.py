"""A process that has read the settings of one installation and imported its code, and forks for each command and server.

What it starts goes on as `python manage.py ...` or `python -m ...` would, by the same settings and in a process of its own; only
the second of a start that is spent on imports was spent once for all of them. As a program it is the server, which answers
each line of JSON on its input by another. Nothing in it has opened a database, started a thread or read a setting that
a variable given to `ForkServer.start` decides (INHERITED).
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from tests.programs import ROOT

INHERITED = {"PGAPPNAME", "INFERY_FAILPOINT"}
"""Variables that are read when what was forked begins: all others are settings, which are read once."""
FIRST_PAUSE_S, MOST_PAUSE_S = 0.001, 0.05
IMPORTED = (
    *("chat.management.commands.serve", "chat.routing", "files.api.uploading", "infery_site.lifespan", "infery_site.urls"),
    *("django.core.handlers.asgi", "uvicorn.lifespan.on", "uvicorn.protocols.http.httptools_impl", "uvloop"),
)
"""What a server needs besides the apps. Not `infery_site.asgi`, which makes what belongs to one process."""


class Process(Protocol):
    """What the tests do with a process: the part of `subprocess.Popen` that one which was forked elsewhere has too."""

    pid: int

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def send_signal(self, sig: int) -> None: ...

    def kill(self) -> None: ...


class ForkServer:
    """The test's side. The process ends with this object, or with the process of the tests."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        command = [sys.executable, "-m", "tests.live.forkserver"]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._lock = threading.Lock()
        weakref.finalize(self, self._process.communicate)

    def start(self, arguments: list[str], *, output: Path, errors: Path, environment: Mapping[str, str]) -> Forked:
        """Go on as a Python program of the project, which writes into these files."""
        assert environment.keys() <= INHERITED
        output.write_bytes(b"")
        errors.write_bytes(b"")
        return Forked(self, self.ask(start=arguments, output=str(output), errors=str(errors), environment=dict(environment)))

    def ask(self, **question: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(f"{json.dumps(question)}\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
            assert line, f"the fork server ended with {self._process.wait()}"
            return json.loads(line)


class Forked:
    """A process that a fork server has started: see `Process`. Nobody else gets its id before its end was asked for."""

    def __init__(self, server: ForkServer, pid: int) -> None:
        self._server = server
        self._status: int | None = None
        self.pid = pid

    def poll(self) -> int | None:
        if self._status is None:
            self._status = self._server.ask(poll=self.pid)
        return self._status

    def wait(self, timeout: float | None = None) -> int:
        deadline_s = None if timeout is None else time.monotonic() + timeout
        pause_s = FIRST_PAUSE_S
        while (status := self.poll()) is None:
            if timeout is not None and deadline_s is not None and time.monotonic() > deadline_s:
                raise subprocess.TimeoutExpired(f"the forked process {self.pid}", timeout)
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, MOST_PAUSE_S)
        return status

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def main() -> None:
    """Returns in what was forked as well, with the program that it is to be."""
    import django  # noqa: PLC0415 - only here, and not in the process of the tests
    from django.core.checks import run_checks  # noqa: PLC0415

    django.setup()
    for name in IMPORTED:
        import_module(name)
    run_checks()  # which imports what the settings and the addresses name
    assert threading.active_count() == 1
    gc.collect()
    gc.freeze()  # so that no collector in what is forked walks through all this, and copies it by that
    for line in sys.stdin:
        question = json.loads(line)
        if "start" in question:
            sys.stdout.flush()
            answer: int | None = os.fork()
            if answer == 0:
                _become(**question)
                return
        else:
            pid, status = os.waitpid(question["poll"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        sys.stdout.write(f"{json.dumps(answer)}\n")
        sys.stdout.flush()
    os._exit(0)


def _become(start: list[str], output: str, errors: str, environment: dict[str, str]) -> None:
    """Run a program as its interpreter would. One that ends by an exception ends this process with it."""
    for number, path, flags in ((0, os.devnull, os.O_RDONLY), (1, output, os.O_WRONLY), (2, errors, os.O_WRONLY)):
        opened = os.open(path, flags | os.O_APPEND | os.O_CREAT, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.update(environment)
    from django.apps import apps  # noqa: PLC0415

    from chat.catalog import planning  # noqa: PLC0415

    apps.get_app_config("chat").ready()  # which arms the point of INFERY_FAILPOINT
    planning._RANDOM.seed()  # which else draws the same in all
    status = [1]
    atexit.register(_end, status)
    try:
        if start[0] == "-m":
            sys.argv = start[1:]
            runpy.run_module(start[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = start
            runpy.run_path(start[0], run_name="__main__")
    except SystemExit as ended:
        status[0] = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        raise
    status[0] = 0


def _end(status: list[int]) -> None:
    """The last of the exit functions of the program, when its threads have ended; to free the memory takes longer than most of it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status[0])


if __name__ == "__main__":
    main()
