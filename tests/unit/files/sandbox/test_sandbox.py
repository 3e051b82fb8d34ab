from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from files.errors import ConversionsBusy
from files.sandbox import Limits, Sandbox, SandboxFailed, sweep
from files.sandbox.protection import NOBODY
from tests.unit.files.sandbox.conftest import PROGRAMS

LIMITS = Limits(cpu_s=5, wall_s=60, output_bytes=4_000_000)
SECRETS = [str(Path(__file__)), "/etc/passwd", "/etc/shadow", f"/proc/{os.getpid()}/environ"]


@pytest.fixture
async def sentinel():
    """Somebody on the loopback who counts who comes."""
    visits = []
    server = await asyncio.start_server(lambda reader, writer: (visits.append(1), writer.close()), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], visits


async def look(sandbox, port, data=b"hello", paths=(), folders=()):
    request = {"port": port, "paths": list(paths), "folders": list(folders)}
    (frame,) = await sandbox.run("look", request, data, LIMITS)
    return json.loads(frame.data)


async def test_a_child_gets_its_input_and_nothing_else(sandbox, kept_in, sentinel, tmp_path):
    port, visits = sentinel
    secret = tmp_path / "secret"
    secret.write_text("a")
    secret.chmod(0o600)
    seen = await look(
        sandbox,
        port,
        paths=[*SECRETS, str(secret)],
        folders=["/", "/usr", "/dev", str(tmp_path), str(Path(__file__).parent)],
    )
    assert seen["data"] == "hello"
    assert set(seen["environment"]) <= {"PATH", "LANG", "LC_CTYPE", "PWD"}
    assert seen["descriptors"] == [0, 1, 2]
    if kept_in.is_fenced:
        assert seen["can_read"] == seen["can_write"] == []
        assert len(seen["processes"]) <= 3
    if kept_in.is_other_user:
        assert seen["user"] == int(NOBODY)
        assert str(secret) not in seen["can_read"]
        assert seen["can_write"] == []
    if kept_in.is_offline or kept_in.is_fenced:
        assert (seen["connected"], visits) == (False, [])


async def test_limits_are_in_force(sandbox, sentinel):
    limits = (await look(sandbox, sentinel[0]))["limits"]
    assert limits == {"CPU": [5, 6], "AS": [LIMITS.memory_bytes] * 2, "FSIZE": [LIMITS.file_bytes] * 2, "NOFILE": [64, 64]}


async def test_a_large_input_arrives_whole(sandbox, sentinel):
    assert (await look(sandbox, sentinel[0], b"x" * 3_000_000))["data"] == "x" * 3_000_000


@pytest.mark.parametrize("what", ["crash", "die", "hoard", "write_much", "say_much"])
async def test_a_child_that_misbehaves_says_nothing(sandbox, what):
    limits = Limits(cpu_s=5, wall_s=60, output_bytes=1_000_000, memory_bytes=200_000_000)
    with pytest.raises(SandboxFailed):
        await sandbox.run("misbehave", {}, what.encode(), limits)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "limits"), [("burn", Limits(1, 60, 1_000)), ("sleep", Limits(5, 0.7, 1_000)), ("breed", Limits(5, 1, 1_000))]
)
async def test_a_child_that_does_not_end_is_ended(sandbox, what, limits):
    started = time.monotonic()
    with pytest.raises(SandboxFailed):
        await sandbox.run("misbehave", {}, what.encode(), limits)
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("what", ["crowd", "multiply"])
async def test_what_a_child_starts_is_bounded_with_it(sandbox, what):
    limits = Limits(cpu_s=5, wall_s=60, output_bytes=1_000, memory_bytes=200_000_000, tree_bytes=400_000_000)
    started = time.monotonic()
    with pytest.raises(SandboxFailed):
        await sandbox.run("misbehave", {}, what.encode(), limits)
    assert time.monotonic() - started < 30


async def test_files_in_a_box_are_memory(sandbox, kept_in):
    if not kept_in.is_boxed:
        pytest.skip("without a box they are on the disk")
    limits = Limits(cpu_s=5, wall_s=60, output_bytes=1_000, tree_bytes=200_000_000)
    started = time.monotonic()
    with pytest.raises(SandboxFailed):
        await sandbox.run("misbehave", {}, b"fill", limits)
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("after_s", [0, 0.001, 0.01, 0.05, 0.3])
async def test_whoever_leaves_takes_the_child_along(sandbox, after_s):
    running = asyncio.create_task(sandbox.run("misbehave", {}, b"breed", LIMITS))
    await asyncio.sleep(after_s)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_only_so_many_run_at_once(kept_in, sentinel):
    sandbox = Sandbox(at_once=1, queue_s=0.2, kept_in=kept_in, programs=PROGRAMS)
    first = asyncio.create_task(sandbox.run("misbehave", {}, b"sleep", LIMITS))
    await asyncio.sleep(0.1)
    with pytest.raises(ConversionsBusy) as refusal:
        await look(sandbox, sentinel[0])
    assert (refusal.value.status, refusal.value.code) == (503, "conversions_busy")
    first.cancel()
    await asyncio.wait({first})
    assert (await look(sandbox, sentinel[0]))["data"] == "hello"


async def test_a_machine_without_room_is_not_the_inputs_fault(kept_in, monkeypatch):
    monkeypatch.setattr("tempfile.TemporaryFile", full_disk)
    with pytest.raises(ConversionsBusy):
        await Sandbox(kept_in=kept_in).run("image", {}, b"", LIMITS)


def full_disk():
    raise OSError(28, "No space left on device")


async def test_the_probe_tells_what_a_child_is_kept_in(kept_in):
    (frame,) = await Sandbox(kept_in=kept_in).run("probe", {}, b"", LIMITS)
    assert (frame.meta["is_offline"], frame.meta["is_fenced"]) == (kept_in.is_offline, kept_in.is_fenced)
    assert (frame.meta["user"] != os.geteuid()) == kept_in.is_other_user
    assert kept_in.engine in {f"{name}-{frame.meta[name]}" for name in ("poppler", "pdfium")}


KILLED = """
import asyncio, sys
from pathlib import Path
from files.sandbox import Limits, Sandbox
from files.sandbox import Protection
kept_in = Protection(is_boxed=sys.argv[1] == "True", is_fenced=True, is_offline=True, is_other_user=True, engine="")
sandbox = Sandbox(kept_in=kept_in, programs=Path(sys.argv[2]))
asyncio.run(sandbox.run("misbehave", {}, b"sleep", Limits(60, 600, 1000)))
"""


@pytest.mark.slow
def test_a_child_does_not_outlive_a_gateway_that_is_killed(kept_in):
    arguments = [sys.executable, "-c", KILLED, str(kept_in.is_boxed), str(PROGRAMS)]
    gateway = subprocess.Popen(arguments, env={**os.environ, "TMPDIR": tempfile.gettempdir()})
    process = psutil.Process(gateway.pid)
    deadline = time.monotonic() + 60
    while len(started := process.children(recursive=True)) < (3 if kept_in.is_boxed else 1):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.5)
    gateway.send_signal(signal.SIGKILL)
    gateway.wait()
    assert psutil.wait_procs(started, timeout=10)[1] == []
    assert sweep() == 0
    assert sweep(older_than_s=0) == (0 if kept_in.is_boxed else 1)
