"""A child that looks around: what it can see, reach and change."""

from __future__ import annotations

import contextlib
import encodings.idna  # noqa: F401 - asked for by a connection, when it may be out of reach
import json
import os
import resource
import socket
from pathlib import Path
from typing import Any


def run(request: dict[str, Any], source: Path, emit: Any) -> None:
    seen = {
        "data": source.read_bytes().decode(),
        "environment": sorted(os.environ),
        "user": os.getuid(),
        "can_read": [path for path in request["paths"] if _is_readable(path)],
        "can_write": [folder for folder in request["folders"] if _is_writable(folder)],
        "processes": _processes(),
        "connected": _connects(request["port"]),
        "descriptors": [number for number in range(1_000) if _is_open(number)],
        "limits": {name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}")) for name in ("CPU", "AS", "FSIZE", "NOFILE")},
    }
    emit(json.dumps(seen).encode())


def _processes() -> list[str]:
    with contextlib.suppress(OSError):
        return [name for name in os.listdir("/proc") if name.isdigit()]
    return []


def _is_open(number: int) -> bool:
    with contextlib.suppress(OSError):
        os.fstat(number)
        return True
    return False


def _is_readable(path: str) -> bool:
    with contextlib.suppress(OSError):
        Path(path).read_bytes()
        return True
    return False


def _is_writable(folder: str) -> bool:
    with contextlib.suppress(OSError):
        path = Path(folder, "written-by-a-child")
        path.write_bytes(b"")
        path.unlink()
        return True
    return False


def _connects(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2):
        return True
    return False
