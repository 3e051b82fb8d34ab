"""A bucket of an S3-speaking store. Imported only where STORAGE_URL names one, because boto3 is large.

Its failures are OSErrors, like those of a folder. An object goes and comes in one exchange, of which a piece is in memory at a
time. boto3's own transfers, which would cut it into parts, wait for ever for some answers that break off.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.handlers import add_expect_header
from django.conf import settings
from django.core.files.base import File
from storages.backends.s3 import S3Storage

from files.storage import most_s

IN_MEMORY_BYTES = 1024 * 1024
PIECE_BYTES = 256 * 1024
_TYPE = "application/octet-stream"

_PLAIN = {"request_checksum_calculation": "when_required", "response_checksum_validation": "when_required"}


class StoreFault(OSError):
    """What the store answered, or that it did not."""


class BucketStorage(S3Storage):
    """By `bucket_name`, `endpoint_url` and `region_name`; the credentials are those that every S3 client looks for."""

    def __init__(self, **options: Any) -> None:
        # A store by address has no names below that, and may know no checksums but its own.
        other = {"s3": {"addressing_style": "path"}, **_PLAIN} if options.get("endpoint_url") else {}
        config = Config(
            connect_timeout=settings.STORE_CONNECT_S,
            read_timeout=settings.STORE_READ_S,
            retries={"total_max_attempts": 2, "mode": "standard"},
            signature_version="s3v4",
            **other,
        )
        super().__init__(client_config=config, **options)

    def _create_session(self) -> Any:
        """One that sends bodies at once: botocore waits for leave to send, and for ever where its answer breaks off."""
        session = super()._create_session()
        session.events.unregister("before-call.s3", add_expect_header)
        return session

    def _save(self, name: str, content: Any) -> str:
        content.seek(0)
        with _as_os_error():
            self.bucket.Object(self._normalize_name(name)).put(Body=content, ContentType=_TYPE)
        return name

    def _open(self, name: str, mode: str = "rb") -> File[bytes]:
        """The object, fetched to a file of its own, so that nothing can fail later."""
        content = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES)  # noqa: SIM115 - given out
        try:
            with _as_os_error():
                _fetch(self.bucket.Object(self._normalize_name(name)).get(), content)
        except BaseException:
            content.close()
            raise
        content.seek(0)
        return File(content, name)

    def delete(self, name: str) -> None:
        with _as_os_error():
            super().delete(name)

    def size(self, name: str) -> int:
        with _as_os_error():
            found: int = super().size(name)
        return found

    def listdir(self, name: str) -> tuple[list[str], list[str]]:
        with _as_os_error():
            found: tuple[list[str], list[str]] = super().listdir(name)
        return found


def _fetch(answer: dict[str, Any], content: IO[bytes]) -> None:
    if "ContentLength" not in answer:  # its head was cut off
        raise StoreFault("the answer does not say how long the object is")
    deadline_s = time.monotonic() + most_s(answer["ContentLength"])
    for piece in answer["Body"].iter_chunks(PIECE_BYTES):
        if time.monotonic() > deadline_s:  # nobody waits any more
            raise StoreFault("the object comes too slowly")
        content.write(piece)


@contextmanager
def _as_os_error() -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        if error.response["ResponseMetadata"].get("HTTPStatusCode") == 404:
            raise FileNotFoundError(str(error)) from error
        raise StoreFault(f"{type(error).__name__}: {error}") from error
    except (Boto3Error, BotoCoreError) as error:
        raise StoreFault(f"{type(error).__name__}: {error}") from error
