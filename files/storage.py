"""Where the bytes of files are: a folder, or a bucket of an S3-speaking store (`STORAGE_URL`).

Names in the store are ours alone: the workspace's public id, and the file's. Whatever a store raises, `StorageUnavailable` is
answered, except that reading what it does not have raises `Lost`.

Blocking: call it from threads. What reads for a request goes through `in_time` or `waited_for`, on threads that are for
nothing else: a store that hangs keeps those alone, and each request for `most_s` at most.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import IO, Any, TypeVar

import structlog
from django.conf import settings
from django.core.files.base import File
from django.core.files.storage import FileSystemStorage, Storage, storages
from django.db import close_old_connections

from files.errors import StorageUnavailable

log = structlog.get_logger(__name__)

ALIAS = "files"
COPY_BYTES = 1024 * 1024
MOST_FAILURES = 3
"""In one round of purging: a store that fails more often is away, and each time it may take as long as it likes to say so."""

LEAST_BYTES_PER_S = 1024 * 1024

T = TypeVar("T")

_threads = ThreadPoolExecutor(max_workers=16, thread_name_prefix="store")


class Lost(LookupError):
    """The store does not have what a row says that it has."""


class FolderStorage(FileSystemStorage):
    """A folder whose files are on the disk when they are said to be stored."""

    def _save(self, name: str, content: Any) -> str:
        saved: str = super()._save(name, content)  # type: ignore[misc] # Django's own hook, which the stubs leave out
        descriptor = os.open(self.path(saved), os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return saved

    def get_available_name(self, name: str, max_length: int | None = None) -> str:
        return name  # ours, and used once


class _Chunked(File):  # type: ignore[type-arg] # not generic at run time
    DEFAULT_CHUNK_SIZE = COPY_BYTES


def spool() -> IO[bytes]:
    """A file without a name, gone with its last handle, for what arrives. Raises StorageUnavailable."""
    with answered("spool"):
        settings.FILE_SPOOL_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
        return tempfile.TemporaryFile(dir=settings.FILE_SPOOL_DIR)


def put(name: str, content: IO[bytes], size_bytes: int) -> None:
    """Store `content` from its beginning. Raises StorageUnavailable, also if the store then has another number of bytes."""
    with answered("put"):
        content.seek(0)
        saved = _store().save(name, _Chunked(content, name))
        found_bytes = _store().size(saved)
    if saved != name or found_bytes != size_bytes:
        log.error("the store keeps something else than it was given", path=name, saved_path=saved, size_bytes=found_bytes)
        raise StorageUnavailable


def opened(name: str, size_bytes: int) -> File[bytes]:
    """The bytes, to be read and closed. Raises Lost, also if there are not so many of them, and StorageUnavailable."""
    with answered("open"):
        try:
            file = _store().open(name)
        except FileNotFoundError as error:
            raise Lost(name) from error
        if file.size != size_bytes:
            file.close()
            raise Lost(name)
        return file


def destroy(name: str) -> None:
    """There is nothing of this name afterwards. Raises StorageUnavailable."""
    with answered("destroy"):
        _store().delete(name)


def destroy_each(things: Iterable[T], destroyed: Callable[[T], bool]) -> int:
    """Goes past what could not be destroyed, for another round to try, MOST_FAILURES times. Gives how many were.

    Raises StorageUnavailable if none was and one should have been.
    """
    count = failures = 0
    for thing in things:
        if destroyed(thing):
            count += 1
        elif (failures := failures + 1) == MOST_FAILURES:
            break
    if failures and not count:
        raise StorageUnavailable
    return count


def workspaces() -> list[str]:
    """The public ids under which anything is stored. Raises StorageUnavailable."""
    with answered("list"):
        try:
            return _store().listdir("")[0]
        except FileNotFoundError:
            return []


def names(workspace: str) -> Iterator[str]:
    """The names stored for a workspace. Raises StorageUnavailable."""
    with answered("list"):
        found = _store().listdir(workspace)[1]
    return (f"{workspace}/{name}" for name in found)


def most_s(size_bytes: int) -> float:
    """How long it may take to read so much."""
    limit_s: float = settings.STORE_TOTAL_S + size_bytes / LEAST_BYTES_PER_S
    return limit_s


async def in_time(work: Callable[[], T], size_bytes: int = 0, *, undo: Callable[[T], object] | None = None) -> T:
    """What `work` reads, on a thread of the store's. Raises StorageUnavailable when that takes longer than `most_s`.

    The thread goes on; what it gives too late, for a caller who was cancelled as well, is for `undo`.
    """
    future = _begun(work)
    try:
        async with asyncio.timeout(most_s(size_bytes)):
            return await asyncio.wrap_future(future)
    except TimeoutError as error:
        _give_up(future, undo)
        raise StorageUnavailable from error
    except asyncio.CancelledError:
        _give_up(future, undo)
        raise


def waited_for(work: Callable[[], T], size_bytes: int = 0, *, undo: Callable[[T], object] | None = None) -> T:
    """`in_time` for a thread."""
    future = _begun(work)
    try:
        return future.result(most_s(size_bytes))
    except TimeoutError as error:
        _give_up(future, undo)
        raise StorageUnavailable from error


def let_go(file: File[bytes]) -> None:
    """Close a file, which waits for whoever still reads in it."""
    _threads.submit(file.close)


def _begun(work: Callable[[], T]) -> Future[T]:
    def with_sound_connection() -> T:
        close_old_connections()
        try:
            return work()
        finally:
            close_old_connections()

    return _threads.submit(contextvars.copy_context().run, with_sound_connection)


def _give_up(future: Future[T], undo: Callable[[T], object] | None) -> None:
    def ended(late: Future[T]) -> None:
        if undo is not None and not late.cancelled() and late.exception() is None:
            result = late.result()
            _begun(lambda: undo(result))

    if not future.cancel():
        log.warning("the store is slow, whoever waited for it was sent away")
    future.add_done_callback(ended)


def _store() -> Storage:
    return storages[ALIAS]


@contextmanager
def answered(act: str) -> Iterator[None]:
    """What fails inside is answered as StorageUnavailable."""
    try:
        yield
    except OSError as error:  # which those of a bucket are as well, see `files.bucket`
        log.error("the store failed", act=act, exc_info=error)  # noqa: TRY400 - as one record, with its cause
        raise StorageUnavailable from error
