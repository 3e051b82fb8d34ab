"""A folder as a store of files that hangs or fails, as a network file system or a bucket can."""

from __future__ import annotations

import threading
from typing import Any

from files.storage import FolderStorage

BACKEND = "tests.fakes.trouble.TroubledStorage"


class Trouble:
    """What ails the store. `asked` are the names that it was asked for meanwhile, and then it `is_met`; `begin` to hang, and `end` it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.is_away = False
        self.is_met = threading.Event()
        self._goes_on = threading.Event()
        self._goes_on.set()

    def begin(self) -> None:
        self._goes_on.clear()

    def end(self) -> None:
        self.is_away = False
        self._goes_on.set()
        self.asked.clear()
        self.is_met.clear()

    def meet(self, name: str) -> None:
        if self.is_away or not self._goes_on.is_set():
            self.asked.append(name)
            self.is_met.set()
        self._goes_on.wait(60)
        if self.is_away:
            raise OSError("The store is away")


TROUBLE = Trouble()
"""One for the process: Django makes the store."""


class TroubledStorage(FolderStorage):
    def _open(self, name: str, mode: str = "rb") -> Any:
        TROUBLE.meet(name)
        return super()._open(name, mode)  # type: ignore[misc] # Django's own hook, which the stubs leave out

    def _save(self, name: str, content: Any) -> str:
        TROUBLE.meet(name)
        return super()._save(name, content)

    def delete(self, name: str) -> None:
        TROUBLE.meet(name)
        super().delete(name)
