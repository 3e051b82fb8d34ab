"""A store of files for each test, and what every test must leave behind: nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.kept import running
from tests.fakes.trouble import BACKEND, TROUBLE, Trouble


@pytest.fixture
def store(settings: Any, tmp_path: Path) -> Path:
    """A folder that is the store for the test."""
    folder = tmp_path / "store"
    options = {"location": str(folder)}
    settings.STORAGES = {
        **settings.STORAGES,
        "files": {"BACKEND": "files.storage.FolderStorage", "OPTIONS": options},
        "pages": {"BACKEND": "files.storage.FolderStorage", "OPTIONS": {"location": str(tmp_path / "pages")}},
    }
    settings.FILE_SPOOL_DIR = tmp_path / "spool"
    return folder


@pytest.fixture
def troubled_store(store: Path, settings: Any) -> Iterator[Trouble]:
    """The store and that of pages, with trouble that the test makes."""
    files = {"BACKEND": BACKEND, "OPTIONS": {"location": str(store)}}
    pages = {"BACKEND": BACKEND, "OPTIONS": {"location": str(store / "pages")}}
    settings.STORAGES = {**settings.STORAGES, "files": files, "pages": pages}
    yield TROUBLE
    TROUBLE.end()


@pytest.fixture(autouse=True)
def _nothing_is_left(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No process of a sandbox and no temporary file, whatever the test did."""
    tmp_path_factory.getbasetemp()  # is made where the following does not lead
    folder = Path(tempfile.mkdtemp())  # and not pytest's, into which nobody else may look
    folder.chmod(0o711)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield
    assert running() == []
    folder.rmdir()  # which refuses if there is something in it
