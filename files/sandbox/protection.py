"""What this system offers to keep a child in. Found out once per process, by running a child.

Bubblewrap needs user namespaces, which containers and some distributions switch off: whether it is installed says nothing.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import logging
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

import msgspec

logger = logging.getLogger(__name__)

PROGRAMS = Path(__file__).with_name("programs")
NOBODY = "65534"
BOX_DISK_BYTES = 256 * 1024 * 1024

_PROBE_LIMIT_S = 20
_PROBE_LIMITS = {"cpu_s": 10, "memory_bytes": 1 << 30, "file_bytes": 1 << 20}
FOLDER_IN_BOX = "/tmp"  # noqa: S108 - a file system of its own
_PATH = "/usr/local/bin:/usr/bin:/bin"
# Fonts, their index, and where the linker finds libraries. Nothing else of the system is a child's business.
_SYSTEM_FOLDERS = ("/usr", "/bin", "/lib", "/lib32", "/lib64")
_SYSTEM_FILES = ("/etc/fonts", "/var/cache/fontconfig", "/etc/ld.so.cache", "/etc/alternatives")


_IMPORT_ALL = """
import pathlib, runpy, sys
sys.path.extend(sys.argv[1:-1])
for program in pathlib.Path(sys.argv[-1]).glob("*.py"):
    runpy.run_path(str(program))
"""


class Protection(msgspec.Struct, frozen=True):
    """`engine` names what converts PDFs and its version; empty if nothing can."""

    is_boxed: bool
    is_fenced: bool
    is_offline: bool
    is_other_user: bool
    engine: str

    def __str__(self) -> str:
        parts = ["limits on CPU, memory, output and time"]
        if self.is_boxed:
            parts.append("a bubblewrap box without files, processes and secrets of this system")
        elif self.is_fenced:
            parts.append("no files of this system and no TCP by Landlock")
        if self.is_offline:
            parts.append("no network")
        if self.is_other_user and not self.is_boxed:
            parts.append("another user")
        return ", ".join(parts)


NO_PROTECTION = Protection(is_boxed=False, is_fenced=False, is_offline=False, is_other_user=False, engine="")


@functools.cache
def current_protection() -> Protection:
    """The best that works. Takes a fifth of a second the first time, and some more if it is the first after an installation."""
    _compile_packages()
    if shutil.which("bwrap") and (found := _probed(is_boxed=True)) is not None:
        return found
    return _probed(is_boxed=False) or NO_PROTECTION


def _compile_packages() -> None:
    """Installers differ in whether they compile what they install. A child may not, and would do it anew each time."""
    sources = [Path(folder, "PIL", "Image.py") for folder in _package_paths()]
    if any(source.exists() and not Path(importlib.util.cache_from_source(str(source))).exists() for source in sources):
        command = [_interpreter(), "-I", "-S", "-c", _IMPORT_ALL, *_package_paths(), str(PROGRAMS)]
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.run(command, env=environment(), cwd="/", stderr=subprocess.DEVNULL, timeout=60, check=False)  # noqa: S603


def command(told: dict[str, Any]) -> list[str]:
    """How to start a child that is told a job."""
    inner = [_interpreter(), "-I", "-S", "-B", str(PROGRAMS / "confine.py"), json.dumps(told)]
    return [*_box(told["programs"]), *inner] if told["is_boxed"] else inner


def job(
    program: str, request: dict[str, Any], limits: dict[str, int], *, folder: str | None, programs: Path = PROGRAMS
) -> dict[str, Any]:
    """What a child is told. `folder` is where it may write if it has no box, whose own is its whole disk."""
    return {
        "program": program,
        "programs": str(programs),
        "request": request,
        "limits": limits,
        "paths": _package_paths(),
        "readable": [*_SYSTEM_FOLDERS, *_SYSTEM_FILES, *_own_paths(), str(programs)],
        "folder": folder or FOLDER_IN_BOX,
        "is_boxed": folder is None,
    }


def environment() -> dict[str, str]:
    """Nothing of the gateway's own."""
    return {"PATH": _PATH, "LANG": "C.UTF-8"}


def _probed(*, is_boxed: bool) -> Protection | None:
    """None if a child cannot be run like this."""
    with tempfile.TemporaryDirectory() as folder:
        told = job("probe", {}, _PROBE_LIMITS, folder=None if is_boxed else folder)
        try:
            result = subprocess.run(  # noqa: S603 - our own program
                command(told),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env=environment(),
                cwd="/",
                timeout=_PROBE_LIMIT_S,
                check=True,
            )
            said = json.loads(result.stdout.splitlines()[0])
        except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
            way = "in a box" if is_boxed else "without a box"
            logger.info("this system cannot run a child %s: %s", way, type(error).__name__)
            return None
    engine = f"poppler-{said['poppler']}" if said["poppler"] else f"pdfium-{said['pdfium']}" if said["pdfium"] else ""
    return Protection(is_boxed, said["is_fenced"], said["is_offline"], said["user"] != os.geteuid(), engine)


def _interpreter() -> str:
    """The one that the environment was made from: a child finds its packages by the paths it is told."""
    return os.path.realpath(sys.executable)


@functools.cache
def _package_paths() -> list[str]:
    return list(dict.fromkeys(os.path.realpath(sysconfig.get_path(kind)) for kind in ("purelib", "platlib")))


def _own_paths() -> list[str]:
    """What a child is made of."""
    return [os.path.realpath(sys.base_prefix), *_package_paths(), str(PROGRAMS)]


def _box(programs: str) -> list[str]:
    arguments = ["bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    if os.geteuid() == 0:
        arguments += ["--unshare-user", "--uid", NOBODY, "--gid", NOBODY]
    arguments += ["--size", str(BOX_DISK_BYTES), "--tmpfs", FOLDER_IN_BOX, "--chdir", FOLDER_IN_BOX]
    arguments += ["--ro-bind", "/usr", "/usr", "--proc", "/proc", "--dev", "/dev"]
    for path in _SYSTEM_FOLDERS[1:]:
        if os.path.islink(path):
            arguments += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            arguments += ["--ro-bind", path, path]
    for path in _SYSTEM_FILES:
        arguments += ["--ro-bind-try", path, path]
    for path in (*_own_paths(), programs):
        if not path.startswith("/usr/"):
            arguments += ["--ro-bind", path, path]
    return [*arguments, "--remount-ro", "/dev", "--remount-ro", "/", "--"]
