"""A child that does what its input says, none of which a child should do."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any


def run(request: dict[str, Any], source: Path, emit: Any) -> None:
    globals()[source.read_bytes().decode()](source.parent, emit)


def burn(_folder: Path, _emit: Any) -> None:
    while True:
        pass


def sleep(_folder: Path, _emit: Any) -> None:
    time.sleep(600)


def breed(_folder: Path, emit: Any) -> None:
    """Children of its own that hold on to its output."""
    for _ in range(3):
        subprocess.Popen(["sleep", "600"])
    emit(b"bred")
    time.sleep(600)


def crowd(_folder: Path, _emit: Any) -> None:
    """Each of them has no more than it may."""
    for _ in range(6):
        if os.fork() == 0:
            break
    held = b"x" * 100_000_000
    time.sleep(600)
    del held


def multiply(_folder: Path, _emit: Any) -> None:
    for _ in range(200):
        if os.fork() == 0:
            break
    time.sleep(600)


def crash(_folder: Path, emit: Any) -> None:
    emit(b"half of it")
    raise RuntimeError("as told")


def die(_folder: Path, emit: Any) -> None:
    emit(b"half of it")
    os.kill(os.getpid(), 9)


def hoard(_folder: Path, emit: Any) -> None:
    emit(bytes(300_000_000))


def write_much(folder: Path, emit: Any) -> None:
    with (folder / "much").open("wb") as file:
        for _ in range(100):
            file.write(bytes(10_000_000))
    emit(b"wrote")


def fill(folder: Path, _emit: Any) -> None:
    for number in range(20):
        (folder / str(number)).write_bytes(bytes(12_000_000))
    time.sleep(600)


def say_much(_folder: Path, emit: Any) -> None:
    for _ in range(100):
        emit(bytes(100_000))
