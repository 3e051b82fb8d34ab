"""Runs children, a few at a time, and sees each of them to its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import IO, Any, cast

import msgspec
import structlog

from files import telemetry
from files.errors import ConversionsBusy
from files.sandbox.frames import MAX_LINE_BYTES, BadFrames, Frame, read_frames
from files.sandbox.protection import NOBODY, PROGRAMS, Protection, command, current_protection, environment, job
from files.sandbox.tree import MOST_PROCESSES, taken

log = structlog.get_logger(__name__)

FOLDER_PREFIX = "gateway-sandbox-"
WATCH_EVERY_S = 0.05


class Limits(msgspec.Struct, frozen=True):
    """Of one child. CPU, memory and file size count for each process in it, time, output and `tree_bytes` for the whole.

    The memory leaves room for what a child needs beside the process that decodes.
    """

    cpu_s: int
    wall_s: float
    output_bytes: int
    memory_bytes: int = 896 * 1024 * 1024
    tree_bytes: int = 1024 * 1024 * 1024
    file_bytes: int = 64 * 1024 * 1024


class SandboxFailed(Exception):
    """A child did not do what it was started for: it crashed, met a limit, or was stopped. Says nothing of the input."""


class Sandbox:
    """Bound to the event loop that first waits in it.

    `at_once` children run at a time, and whoever has waited `queue_s` for a place is refused. `kept_in` is for tests; what
    the system offers is found out without it. For tests is also `programs`, a folder of other children.
    """

    def __init__(
        self, *, at_once: int = 2, queue_s: float = 30.0, kept_in: Protection | None = None, programs: Path = PROGRAMS
    ) -> None:
        self._places = asyncio.Semaphore(at_once)
        self._queue_s = queue_s
        self._protection = kept_in
        self._programs = programs

    async def protection(self) -> Protection:
        """What children are kept in."""
        if self._protection is None:
            self._protection = await asyncio.to_thread(_prepared)
        return self._protection

    async def run(self, program: str, request: dict[str, Any], data: bytes, limits: Limits) -> list[Frame]:
        """What `program` emitted about `data`. Raises SandboxFailed, ConversionsBusy."""
        is_boxed = (await self.protection()).is_boxed
        async with self._place():
            started_s = time.monotonic()
            try:
                with tempfile.TemporaryFile() as source, _folder(is_boxed=is_boxed) as folder:
                    await asyncio.to_thread(_fill, source, data)
                    told = job(program, request, _process_limits(limits), folder=folder, programs=self._programs)
                    return await _said(told, source, limits)
            except (BadFrames, TimeoutError) as error:
                telemetry.CHILD_FAILURES.labels(program, "limit").inc()
                log.warning("a conversion did not come to its end", command=program, cause=str(error) or "time limit")
                raise SandboxFailed from error
            except OSError as error:  # no disk, no process: not the fault of what was to be converted
                log.exception("a conversion could not be started", command=program)
                telemetry.CHILD_FAILURES.labels(program, "start").inc()
                raise ConversionsBusy from error
            finally:
                telemetry.CHILD_SECONDS.labels(program).observe(time.monotonic() - started_s)

    @contextlib.asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._queue_s):
                await self._places.acquire()
        except TimeoutError:
            telemetry.CHILD_FAILURES.labels("any", "queue").inc()
            raise ConversionsBusy from None
        try:
            yield
        finally:
            self._places.release()


def _prepared() -> Protection:
    sweep()
    return current_protection()


async def _said(told: dict[str, Any], source: IO[bytes], limits: Limits) -> list[Frame]:
    async with asyncio.timeout(limits.wall_s), _child(told, source) as child:
        watching = asyncio.create_task(_watch(child, limits.tree_bytes, is_boxed=told["is_boxed"]))
        try:
            frames = await read_frames(child.output, max_bytes=limits.output_bytes)
            await child.has_ended.wait()
        finally:
            watching.cancel()
        return frames


async def _watch(child: _Child, most_bytes: int, *, is_boxed: bool) -> None:
    """End a child that takes more memory in all, or has more processes, than it may."""
    pid = child.transport.get_pid()
    while not child.has_ended.is_set():
        processes, memory_bytes = taken(pid)
        if memory_bytes > most_bytes or processes > MOST_PROCESSES:
            log.warning("a conversion took too much", processes=processes, memory_bytes=memory_bytes)
            _kill(pid, is_boxed=is_boxed)
        await asyncio.sleep(WATCH_EVERY_S)


def _process_limits(limits: Limits) -> dict[str, int]:
    return {"cpu_s": limits.cpu_s, "memory_bytes": limits.memory_bytes, "file_bytes": limits.file_bytes}


def _fill(source: IO[bytes], data: bytes) -> None:
    """The input is a file without a name: nobody else can open it, and it is gone with this process, however that ends."""
    source.write(data)
    source.seek(0)


@contextlib.contextmanager
def _folder(*, is_boxed: bool) -> Iterator[str | None]:
    """Where a child without a box may write. Of a process that is killed meanwhile it stays until `sweep`."""
    if is_boxed:
        yield None
        return
    folder = tempfile.mkdtemp(prefix=FOLDER_PREFIX)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(*, older_than_s: float = 3_600) -> int:
    """Take away the folders of processes that were killed while they converted something. Gives how many."""
    old = [
        path
        for path in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*")
        if path.stat().st_uid in {os.geteuid(), int(NOBODY)} and path.stat().st_mtime <= time.time() - older_than_s
    ]
    for path in old:
        shutil.rmtree(path, ignore_errors=True)
    return len(old)


class _Child(asyncio.SubprocessProtocol):
    """A child, what it says in `output`, and when it has ended."""

    def __init__(self) -> None:
        self.output = asyncio.StreamReader(limit=MAX_LINE_BYTES)
        self.has_ended = asyncio.Event()
        self.transport: asyncio.SubprocessTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.SubprocessTransport", transport)
        said = self.transport.get_pipe_transport(1)
        assert said is not None  # noqa: S101 - it was started with one
        self.output.set_transport(said)  # so that a child waits that says more than is read

    def pipe_data_received(self, fd: int, data: bytes | str) -> None:
        self.output.feed_data(cast("bytes", data))

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self.output.feed_eof()

    def process_exited(self) -> None:
        self.has_ended.set()


@contextlib.asynccontextmanager
async def _child(told: dict[str, Any], source: IO[bytes]) -> AsyncIterator[_Child]:
    """A child. When this is left, it and all that it started are gone."""
    starting: asyncio.Future[tuple[asyncio.SubprocessTransport, _Child]] = asyncio.ensure_future(
        asyncio.get_running_loop().subprocess_exec(
            _Child,
            *command(told),
            stdin=source,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=environment(),
            cwd="/",
            start_new_session=True,
        )
    )
    try:
        _, child = await asyncio.shield(starting)
        yield child
    finally:
        _, child = await starting  # it is there in a moment, if it is not there yet
        if not told["is_boxed"] or not child.has_ended.is_set():
            _kill(child.transport.get_pid(), is_boxed=told["is_boxed"])
        await child.has_ended.wait()
        child.transport.close()


def _kill(pid: int, *, is_boxed: bool) -> None:
    """End a child and all that it started, if it has not ended by itself.

    Of a box, its first process is killed, with which the system ends all others in it; the bubblewrap outside of it sees
    that and goes, so that nothing is left for others to wait for.
    """
    with contextlib.suppress(ProcessLookupError):
        inside = _children(pid) if is_boxed else []
        for process in inside:
            os.kill(process, signal.SIGKILL)
        if not inside:
            os.killpg(pid, signal.SIGKILL)


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    except OSError:
        return []
