"""What a child and all that it started take up, as the system tells it. Limits of a process say nothing of how many there are."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

from files.sandbox.protection import BOX_DISK_BYTES, FOLDER_IN_BOX

MOST_PROCESSES = 32
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Taken(NamedTuple):
    """`processes` are counted to one above MOST_PROCESSES. What several of them share counts for each."""

    processes: int
    memory_bytes: int


def taken(pid: int) -> Taken:
    """By a process and its descendants: what they have in memory, with the files of their box. Nothing where they are gone."""
    processes = memory_bytes = files_bytes = 0
    left = [pid]
    while left and processes <= MOST_PROCESSES:
        one = Path("/proc", str(left.pop()))
        with contextlib.suppress(OSError):  # gone meanwhile, or another system
            memory_bytes += int((one / "statm").read_bytes().split()[1]) * _PAGE_BYTES
            processes += 1
            for thread in (one / "task").iterdir():
                left += map(int, (thread / "children").read_bytes().split())
            files_bytes = files_bytes or _box_bytes(one)
    return Taken(processes, memory_bytes + files_bytes)


def _box_bytes(process: Path) -> int:
    """The files of a box, which are in memory; known by their file system's size, as who is not in a box yet sees another."""
    disk = os.statvfs(process / "root" / FOLDER_IN_BOX.lstrip("/"))
    return (disk.f_blocks - disk.f_bfree) * disk.f_frsize if disk.f_blocks * disk.f_frsize == BOX_DISK_BYTES else 0
