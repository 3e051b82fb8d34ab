"""A store that speaks S3, as a process of its own, and the bucket in it."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from typing import Any
from urllib.parse import quote

import boto3

BUCKET = "files-of-tests"
REGION = "eu-central-1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests"}
START_TIMEOUT_S = 60.0


def storage_url(port: int) -> str:
    """What STORAGE_URL says of the bucket, by way of this port."""
    return f"s3://{BUCKET}?endpoint={quote(f'http://127.0.0.1:{port}')}&region={REGION}"


class Store:
    """Answers when it is made."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _is_open(port):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        self.client: Any = boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id="tests",
            aws_secret_access_key="tests",
        )
        self.client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})

    def keys(self) -> list[str]:
        return [entry["Key"] for entry in self.client.list_objects_v2(Bucket=BUCKET).get("Contents", [])]

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


def _is_open(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
