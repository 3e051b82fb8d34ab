"""A child that does what its input says, none of which a child should do."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SAYINGS = {
    "nonsense": b"\xff\xfe\n",
    "no-json": b"hello\n",
    "a-list": b"[]\n",
    "no-size": b'{"a": 1}\n',
    "size-below-zero": b'{"bytes": -1}\n',
    "size-too-large": b'{"bytes": 1000000000}\n',
    "size-a-string": b'{"bytes": "1"}\na',
    "size-true": b'{"bytes": true}\na',
    "endless-line": b"a" * 1_000_000,
    "too-many": b'{"bytes": 0}\n' * 20_000,
    "cut": b'{"bytes": 100}\nabc',
    "over-and-more": b'{"is_over": true, "bytes": 0}\n{"bytes": 0}\n',
}


def run(request: dict[str, Any], source: Path, emit: Any) -> None:
    what = source.read_bytes().decode()
    if what in SAYINGS:
        sys.stdout.buffer.write(SAYINGS[what])
        sys.stdout.buffer.flush()
        os._exit(0)
    globals()[what](source.parent, emit)


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


def say_much(_folder: Path, emit: Any) -> None:
    for _ in range(100):
        emit(bytes(100_000))
