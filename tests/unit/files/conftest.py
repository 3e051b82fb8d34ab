"""A store of files for each test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def store(settings: Any, tmp_path: Path) -> Path:
    """A folder that is the store for the test."""
    folder = tmp_path / "store"
    options = {"location": str(folder)}
    settings.STORAGES = {
        **settings.STORAGES,
        "files": {"BACKEND": "files.storage.FolderStorage", "OPTIONS": options},
    }
    settings.FILE_SPOOL_DIR = tmp_path / "spool"
    return folder
