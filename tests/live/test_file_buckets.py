"""The Files API over a bucket: a store that speaks S3, as a process of its own."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from openai import OpenAI

from tests.fakes.launch import FakeProvider
from tests.fakes.ports import free_port
from tests.fakes.store import BUCKET, CREDENTIALS, Store, storage_url
from tests.live.gateway import Installation, Server
from tests.live.rows.refusals import assert_refused
from tests.live.test_files import MOST_GROWTH_BYTES, PDF, peak_bytes

BIG_BYTES = 100 * 1024 * 1024


@pytest.fixture
def bucket() -> Iterator[Store]:
    store = Store(free_port())
    yield store
    store.client.close()
    store.stop()


@pytest.fixture(scope="module")
def apart(provider_process: FakeProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    made = Installation(tmp_path_factory.mktemp("apart"), provider_process)
    yield made
    made.books.close()


@pytest.fixture
def server(bucket: Store, apart: Installation) -> Iterator[Server]:
    with apart.server(workers=1, STORAGE_URL=storage_url(bucket.port), **CREDENTIALS) as running:
        yield running


@pytest.fixture
def keys(apart: Installation) -> dict[str, str]:
    return apart.keys


@pytest.mark.slow
def test_a_file_lives_in_the_bucket(client: OpenAI, http: httpx.Client, bucket: Store, apart: Installation):
    file = client.files.create(file=("report.pdf", PDF), purpose="user_data")
    [key] = bucket.keys()
    assert key.endswith(f"/{file.id}")
    assert key.startswith("ws_")
    assert bucket.client.get_object(Bucket=BUCKET, Key=key)["Body"].read() == PDF
    assert client.files.content(file.id).read() == PDF
    assert not (apart.folder / "files").exists()
    bucket.client.put_object(Bucket=BUCKET, Key=key, Body=PDF[::-1])
    with pytest.raises(httpx.RemoteProtocolError):  # other bytes are no download
        http.get(f"/files/{file.id}/content")
    client.files.delete(file.id)
    assert bucket.keys() == []
    # Something that no row answers for, as after a restored database; and an object that is lost.
    orphans = {"ws_gone/file_gone", "pages/7/ff/page_gone"}
    for orphan in orphans:
        bucket.client.put_object(Bucket=BUCKET, Key=orphan, Body=b"x")
    lost = client.files.create(file=("a.txt", b"text"), purpose="user_data").id
    [key] = set(bucket.keys()) - orphans
    url = storage_url(bucket.port)
    assert apart.run("manage.py", "purge_files", STORAGE_URL=url, **CREDENTIALS) == "0 files and 2 orphans purged.\n"
    assert bucket.keys() == [key]
    bucket.client.delete_object(Bucket=BUCKET, Key=key)
    assert_refused(http.get(f"/files/{lost}/content"), 503, "storage_unavailable")
    assert client.files.delete(lost).deleted


@pytest.mark.slow
def test_a_large_file_moves_without_being_held_in_memory(client: OpenAI, http: httpx.Client, server: Server, bucket: Store):
    small = client.files.create(file=("a.txt", b"text"), purpose="user_data").id
    assert client.files.content(small).read() == b"text"
    before = peak_bytes(server.pid)
    data = b"0123456789abcde\n" * (BIG_BYTES // 16)
    made = http.post("/files", data={"purpose": "user_data"}, files={"file": ("a.txt", data)}, timeout=100).json()
    assert made["bytes"] == BIG_BYTES
    assert http.get(f"/files/{made['id']}/content", timeout=100).content == data
    grown = peak_bytes(server.pid) - before
    assert grown < MOST_GROWTH_BYTES, f"grew by {grown // 1024**2} MB"
    for file_id in (small, made["id"]):
        client.files.delete(file_id)


@pytest.mark.slow
def test_a_store_that_is_down_is_answered_as_such(client: OpenAI, http: httpx.Client, bucket: Store):
    """U13. What was deleted meanwhile is out of reach."""
    kept = client.files.create(file=("a.txt", b"text"), purpose="user_data").id
    bucket.stop()
    refused = http.post("/files", data={"purpose": "user_data"}, files={"file": ("b.txt", b"more")})
    assert_refused(refused, 503, "storage_unavailable")
    assert_refused(http.get(f"/files/{kept}/content"), 503, "storage_unavailable")
    assert http.get("/files").headers["x-files-used"] == "1"
    assert http.delete(f"/files/{kept}").status_code == 200
    assert_refused(http.get(f"/files/{kept}/content"), 404, "file_not_found")
    assert http.get("/files").headers["x-files-used"] == "0"
