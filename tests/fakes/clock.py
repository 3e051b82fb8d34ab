"""A clock that can be set under processes that run: a few lines of C that they are started with, and a file for both sides.

The compiler is the system's. Where there is none, the tests of jumping clocks cannot be had; on CI that is a failure.
"""

from __future__ import annotations

import mmap
import os
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("clock.c")


class JumpingClock:
    """`environment` is what a process has to be started with. `jump` counts from the system's clock, not from the last jump."""

    def __init__(self) -> None:
        compiler = _compiler()
        # Not below pytest's own folder, which it keeps from others: the database runs as somebody else.
        self._folder = Path(tempfile.mkdtemp(prefix="clock-"))
        self._folder.chmod(0o755)
        library, state = self._folder / "clock.so", self._folder / "clock"
        subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, SOURCE], check=True)
        state.write_bytes(struct.pack("l", 0))
        for path in (library, state):
            path.chmod(0o755)
        with state.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), struct.calcsize("l"))
        self.environment = {"LD_PRELOAD": str(library), "TESTS_CLOCK": str(state)}

    def jump(self, ahead_s: int) -> None:
        self._shared[:] = struct.pack("l", ahead_s)

    def close(self) -> None:
        self._shared.close()
        shutil.rmtree(self._folder)


def _compiler() -> str:
    for name in ("cc", "gcc", "clang"):
        if path := shutil.which(name):
            return path
    reason = "no compiler of C is installed"
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(reason)
    pytest.skip(reason)
