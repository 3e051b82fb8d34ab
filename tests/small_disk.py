"""A disk that a test can really fill: a small tmpfs on a folder, there while a block runs.

To mount one takes the rights of root, which those of a namespace are as well: where the tests run as somebody else, begin
them with `unshare --user --map-root-user --mount`.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

FILLING = "filling"
TRIES = 100


class SmallDisk:
    """`mounted_disk` makes it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextlib.contextmanager
    def filled(self, left_bytes: int = 0) -> Iterator[None]:
        """Nearly full while the block runs: whoever writes more than what is left, in whole pages, has no room."""
        filling = self._folder / FILLING
        with filling.open("wb") as file:
            try:
                self._fill(file.fileno(), left_bytes)
                yield
            finally:
                filling.unlink()

    def _fill(self, descriptor: int, left_bytes: int) -> None:
        """What somebody else writes meanwhile may take the room first."""
        for _ in range(TRIES):
            size_bytes = os.fstat(descriptor).st_size
            room = os.fstatvfs(descriptor)
            more_bytes = room.f_bavail * room.f_frsize - left_bytes
            if more_bytes <= 0:
                return
            with contextlib.suppress(OSError):
                os.posix_fallocate(descriptor, size_bytes, more_bytes)
        raise AssertionError("the disk does not get full")


@contextlib.contextmanager
def mounted_disk(folder: Path, size_bytes: int) -> Iterator[SmallDisk]:
    """Where it cannot be mounted, as in many containers, the test is skipped; others fill what is allowed to a process."""
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes},mode=700", "tmpfs", str(folder)]
    try:
        tried = subprocess.run(mount, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        fault = tried.stderr.strip() if tried.returncode else ""
    except FileNotFoundError as error:
        fault = str(error)
    if fault:
        pytest.skip(f"no disk can be mounted: {fault}; try `unshare --user --map-root-user --mount` before pytest")
    try:
        yield SmallDisk(folder)
    finally:
        # Lazily, so that a test that fails leaves none behind although something of it is open.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
