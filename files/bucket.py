"""A bucket of an S3-speaking store. Imported only where STORAGE_URL names one, because boto3 is large.

Its failures are OSErrors, like those of a folder. Transfers use no threads of their own, and so keep one part in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from storages.backends.s3 import S3Storage

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 60
IN_MEMORY_BYTES = 1024 * 1024

_PLAIN = {"request_checksum_calculation": "when_required", "response_checksum_validation": "when_required"}


class StoreFault(OSError):
    """What the store answered, or that it did not."""


class BucketStorage(S3Storage):
    """By `bucket_name`, `endpoint_url` and `region_name`; the credentials are those that every S3 client looks for."""

    def __init__(self, **options: Any) -> None:
        # A store by address has no names below that, and may know no checksums but its own.
        other = {"s3": {"addressing_style": "path"}, **_PLAIN} if options.get("endpoint_url") else {}
        config = Config(
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            retries={"total_max_attempts": 2, "mode": "standard"},
            signature_version="s3v4",
            **other,
        )
        transfer = TransferConfig(use_threads=False)
        super().__init__(client_config=config, transfer_config=transfer, max_memory_size=IN_MEMORY_BYTES, **options)

    def _save(self, name: str, content: Any) -> str:
        with _as_os_error():
            saved: str = super()._save(name, content)
        return saved

    def _open(self, name: str, mode: str = "rb") -> Any:
        with _as_os_error():
            file = super()._open(name, mode)
            _ = file.file  # fetched now, to a file of its own, so that it cannot fail later
        return file

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


@contextmanager
def _as_os_error() -> Iterator[None]:
    try:
        yield
    except (Boto3Error, BotoCoreError, ClientError) as error:
        raise StoreFault(f"{type(error).__name__}: {error}") from error
