"""A child process for what may be hostile: bytes that a library has to decode.

    protection.py   what this system offers to keep a child in, found out once
    runner.py       Sandbox: one child per conversion, its limits, its end
    tree.py         what a child and all that it started take up
    frames.py       what a child says, read as the word of a stranger
    programs/       the children: they import none of the project, and nothing of the project imports them

In a box (bubblewrap) a child sees system libraries, the interpreter and its input, all read-only, has no network, no
secrets in its environment and no other process in sight; its files are in memory and go with it. Without a box it gives up
the network and its user where the system lets it, and by Landlock everybody's files. Limits on CPU, memory, files, output
and time are there always; the memory of all processes of a child together is watched.

Invariants: a child never outlives `run`, whoever cancels it, nor the gateway; nothing that it wrote stays on a disk,
except without a box when the gateway is killed, until `sweep`.
"""

from __future__ import annotations

from files.sandbox.frames import Frame
from files.sandbox.protection import Protection, current_protection
from files.sandbox.runner import Limits, Sandbox, SandboxFailed, sweep

__all__ = ["Frame", "Limits", "Protection", "Sandbox", "SandboxFailed", "current_protection", "sweep"]
