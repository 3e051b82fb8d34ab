"""Which files of tests have none that uses the database: a run that asks for no others need not read these.

Reading them takes as long as reading the rest. A plugin: whoever collects the whole suite notes them in pytest's cache, beside a
digest of all that decides it, the suite itself. Where that has changed since, every file is read.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest

NOTE = "databaseless/files"
EXPRESSIONS = ("database and not long", "database and not long and not slow")
"""What such a run asks for: whole, and in the short form."""


def digest(folder: Path) -> str:
    """Of each program of the suite and its place."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        found.update(f"{path.relative_to(folder)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return found.hexdigest()


_digest = cache(digest)


def files_without(items: Iterable[pytest.Item], folder: Path) -> list[str]:
    """The files of these tests of which none is marked."""
    places = [(item.path.relative_to(folder).as_posix(), item.get_closest_marker("database") is not None) for item in items]
    return sorted({place for place, _ in places} - {place for place, is_marked in places if is_marked})


@pytest.hookimpl(trylast=True)  # after the cache is there
def pytest_configure(config: pytest.Config) -> None:
    """The files that this run may leave out."""
    config.stash[_LEFT_OUT] = set()
    is_asked_for_others = config.option.markexpr in EXPRESSIONS and _is_whole(config)
    if is_asked_for_others and (noted := _cache(config).get(NOTE, None)) and noted["digest"] == _digest(_folder(config)):
        config.stash[_LEFT_OUT] = {_folder(config) / name for name in noted["files"]}


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Also a folder that has nothing else, with what its conftest imports."""
    left_out = config.stash[_LEFT_OUT]
    files = set(collection_path.rglob("test_*.py")) if left_out and collection_path.is_dir() else {collection_path}
    return True if files and files <= left_out else None


def note(config: pytest.Config, items: list[pytest.Item]) -> None:
    """To be called when the tests are marked and none was taken out yet by `-m` or `-k`."""
    is_first = os.environ.get("PYTEST_XDIST_WORKER", "gw0") == "gw0"
    if _is_whole(config) and is_first and not config.stash[_LEFT_OUT]:
        folder = _folder(config)
        _cache(config).set(NOTE, {"digest": _digest(folder), "files": files_without(items, folder)})


def _is_whole(config: pytest.Config) -> bool:
    return [config.rootpath / argument for argument in config.args] == [_folder(config)]


def _folder(config: pytest.Config) -> Path:
    return config.rootpath / "tests"


class _NoCache:
    """Of a run without pytest's plugin for it."""

    def get(self, _key: str, default: None) -> None:
        return default

    def set(self, _key: str, _value: object) -> None:
        pass


def _cache(config: pytest.Config) -> pytest.Cache | _NoCache:
    return getattr(config, "cache", None) or _NoCache()


_LEFT_OUT = pytest.StashKey[set[Path]]()
