"""Child processes of a benchmark: started, waited for, their CPU time read, stopped. Linux and macOS.

Whoever starts one stops it, by `with`. What a process writes to standard error is kept in a file and shown when it fails.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import psutil

from benchmarks.load import LoadPlan, LoadResult

ROOT = Path(__file__).resolve().parent.parent
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 40.0
_POLL_S = 0.005
_SHOWN_CHARS = 4000
_CPU_TIME = 2  # of the three clocks that Linux has for a process, by the number that clock_getcpuclockid(3) would give


class BenchmarkError(Exception):
    """Something broke, so that there is nothing to measure."""


def cpu_seconds(process_id: int) -> float:
    """User and system time so far of a process, its threads and its children, living and reaped.

    Linux has a clock of its own for each process; elsewhere, and of who was reaped, time is told in hundredths of a second.
    """
    root = psutil.Process(process_id)
    seconds = 0.0
    for process in [root, *root.children(recursive=True)]:
        try:
            times = process.cpu_times()
            seconds += times.children_user + times.children_system + _own_seconds(process.pid, times.user + times.system)
        except psutil.NoSuchProcess:
            continue  # Its time is its parent's now.
    return seconds


def _own_seconds(process_id: int, told_s: float) -> float:
    if not sys.platform.startswith("linux"):
        return told_s
    with suppress(OSError):
        return time.clock_gettime(~process_id << 3 | _CPU_TIME)
    return told_s


class Server:
    """A Python process that listens on a loopback port. `with` starts it, waits until it listens, and stops it."""

    def __init__(self, arguments: Sequence[str], port: int, log: Path, environment: Mapping[str, str] = os.environ) -> None:
        self.port = port
        self._command = [sys.executable, *arguments]
        self._log = log
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=ROOT, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            self._wait_until_listening(self._process)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    @property
    def process_id(self) -> int:
        if self._process is None:
            raise BenchmarkError("the server is not running")
        return self._process.pid

    def _wait_until_listening(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if process.poll() is not None:
                break
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(_POLL_S)
        log = self._log.read_text(encoding="utf-8", errors="replace")[-_SHOWN_CHARS:]
        raise BenchmarkError(f"{' '.join(self._command[1:])} did not listen: {log.strip()}")


def run_python(arguments: Sequence[str], environment: Mapping[str, str] = os.environ, *, timeout_s: float = 300.0) -> str:
    """What a Python process wrote to standard output. Raises BenchmarkError if it failed or took too long."""
    name = " ".join(arguments[:2])
    try:
        result = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired as error:
        raise BenchmarkError(f"{name} took longer than {timeout_s:g} s") from error
    if result.returncode != 0:
        raise BenchmarkError(f"{name} failed: {result.stderr[-_SHOWN_CHARS:].strip()}")
    return result.stdout


def run_load(plan: LoadPlan) -> LoadResult:
    """Send the plan's requests from a process of its own. Raises BenchmarkError at the first answer that is not right."""
    arguments = ["-m", "benchmarks.load", msgspec.json.encode(plan).decode()]
    output = run_python(arguments, timeout_s=plan.timeout_s + START_TIMEOUT_S)
    return msgspec.json.decode(output, type=LoadResult)
