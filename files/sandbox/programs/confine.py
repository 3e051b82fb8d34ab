"""The first code of every child: gives up what it can, then runs one program on the bytes at its standard input.

    python -I confine.py JOB      JOB is the JSON of `files.sandbox.protection.job`

The program is a file with a function `run(request, source, emit)`: `source` is the path of the input,
alone in a folder in which the program may write. What it emits goes to standard output as a line of JSON with the number
of bytes that follow it. A last line says that it came to its end; without that line, nothing it said may be believed.

This is not a part of the project at run time: it imports the standard library only, before there is any limit, and every
library that meets the input after that.
"""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

NOBODY = 65_534
_CLONE_NEWNET, _CLONE_NEWUSER = 0x4000_0000, 0x1000_0000
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_FOLDER = 1, 2, 4, 8
_READ = _EXECUTE | _READ_FILE | _READ_FOLDER
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _SIGKILL = 1, 38, 9

Emit = Callable[..., None]


def limit(limits: dict[str, int]) -> None:
    """Of this process and of all that it starts, each of them anew."""
    seconds = limits["cpu_s"]
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    for name, value in (("AS", limits["memory_bytes"]), ("FSIZE", limits["file_bytes"]), ("NOFILE", 64), ("CORE", 0)):
        kind = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(kind)[1]
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (most, most))


def give_up_privileges(job: dict[str, Any]) -> bool:
    """What a process can do for itself where there is no box, as far as it may. True if it has no network any more."""
    import ctypes  # noqa: PLC0415 - not needed in a box, where starting is all that takes time

    try:
        system = ctypes.CDLL(None)
        unshare, prctl, call = system.unshare, system.prctl, system.syscall
    except (OSError, AttributeError):
        return False  # not Linux
    is_root = os.geteuid() == 0
    is_offline = unshare(_CLONE_NEWNET if is_root else _CLONE_NEWNET | _CLONE_NEWUSER) == 0
    if is_root:
        become_nobody(Path(job["folder"]))
    prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)  # after the change of user, which forgets it
    fence(call, job["readable"], job["folder"])
    return bool(is_offline)


def fence(call: Any, readable: list[str], writable: str) -> None:
    """By Landlock: from here on, no files but these, no TCP, no signals to others. Does nothing where the system has none.

    Layouts of the structures and the growth of the interface from version to version: landlock(7).
    """
    version = call(_CREATE_RULESET, None, 0, 1)
    if version < 1:
        return
    files = (1 << (13, 14, 15, 15, 16)[min(version, 5) - 1]) - 1
    network = 3 if version >= 4 else 0  # to bind, to connect
    others = 3 if version >= 6 else 0  # abstract sockets, signals
    handled = struct.pack("=QQQ", files, network, others)[: 24 if others else 16 if network else 8]
    rules = call(_CREATE_RULESET, handled, len(handled), 0)
    for path, allowed in ((writable, files), (os.devnull, _READ_FILE | _WRITE_FILE), *((path, _READ) for path in readable)):
        try:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        of_files = allowed if os.path.isdir(path) else allowed & (_EXECUTE | _READ_FILE | _WRITE_FILE)
        call(_ADD_RULE, rules, 1, struct.pack("=Qi", of_files, place), 0)
        os.close(place)
    call(_RESTRICT_SELF, rules, 0)
    os.close(rules)


def become_nobody(folder: Path) -> None:
    """Does nothing where root is not allowed to, as in some containers."""
    try:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.chown(folder, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    except OSError:
        os.chown(folder, os.geteuid(), os.getegid())


def load(folder: str, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(folder, f"{name}.py"))
    if spec is None or spec.loader is None:
        raise ImportError(name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def emit(data: bytes = b"", **meta: Any) -> None:
    head = json.dumps({**meta, "bytes": len(data)}).encode()
    sys.stdout.buffer.write(head + b"\n" + data)
    sys.stdout.buffer.flush()


def main() -> None:
    os.closerange(3, 65_536)  # whatever the gateway had open without saying that it is not to be handed on
    job = json.loads(sys.argv[1])
    limit(job["limits"])
    os.umask(0o077)
    sys.path.extend(job["paths"])
    program = load(job["programs"], job["program"])
    folder = Path(job["folder"])
    is_offline = job["is_boxed"] or give_up_privileges(job)
    source = folder / "source"
    with source.open("wb") as file:
        while piece := sys.stdin.buffer.read(1 << 20):
            file.write(piece)
    program.run({**job["request"], "is_offline": is_offline}, source, emit)
    emit(is_over=True)


if __name__ == "__main__":
    main()
