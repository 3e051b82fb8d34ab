"""Rows 107, 108 and 141: where there is no room for a file, whatever else is happening."""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.fakes.launch import FakeProvider
from tests.live.gateway import Installation, Server
from tests.live.rows.refusals import assert_refused
from tests.small_disk import mounted_disk

MEGABYTE = 1024 * 1024
MOST_BYTES = 100 * MEGABYTE
MOST_FILES = 8
AT_ONCE = 24


@pytest.fixture(scope="module")
def narrow(provider_process: FakeProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    made = Installation(tmp_path_factory.mktemp("narrow"), provider_process, settings="tests.live.narrow")
    yield made
    made.books.close()


@pytest.fixture(scope="module")
def workers(narrow: Installation) -> Iterator[Server]:
    with narrow.server(workers=2) as running:
        yield running


def client_of(server: Server, narrow: Installation) -> httpx.Client:
    headers = {"authorization": f"Bearer {narrow.keys['acme']}"}
    return httpx.Client(base_url=server.base_url, headers=headers, timeout=60, trust_env=False)


@pytest.fixture
def http(workers: Server, narrow: Installation) -> Iterator[httpx.Client]:
    """Two processes behind one port; each test leaves an empty store."""
    with client_of(workers, narrow) as client:
        yield client
        for file in client.get("/files", params={"limit": 100}).json()["data"]:
            assert client.delete(f"/files/{file['id']}").status_code == 200
        assert used(client) == (0, 0)
    assert [path for path in (narrow.folder / "files").rglob("*") if path.is_file()] == []


def used(client: httpx.Client) -> tuple[int, int]:
    headers = client.get("/files").headers
    return int(headers["x-files-used"]), int(headers["x-storage-used-bytes"])


def upload(client: httpx.Client, data: bytes, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post("/files", data={"purpose": "user_data"}, files={"file": ("a.txt", data)}, headers=named)


def uploads_at_once(client: httpx.Client, data: bytes, count: int, **headers: str) -> list[httpx.Response]:
    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(lambda _: upload(client, data, **headers), range(count)))


def outcomes(answers: list[httpx.Response]) -> Counter[str]:
    return Counter("stored" if answer.status_code == 200 else answer.json()["error"]["code"] for answer in answers)


@pytest.mark.slow
def test_row_107_a_file_that_becomes_too_large(http: httpx.Client):
    """Its length is not declared, so only the bytes themselves tell."""
    head = b'--b\r\ncontent-disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
    headers = {"content-type": "multipart/form-data; boundary=b"}
    answer = http.post("/files", content=iter([head, *[b"x" * MEGABYTE] * 41]), headers=headers)
    assert_refused(answer, 413, "file_too_large", "file")
    assert upload(http, b"x" * 40 * MEGABYTE).status_code == 200
    assert_refused(upload(http, b"x" * (40 * MEGABYTE + 1)), 413, "file_too_large", "file")


@pytest.mark.slow
def test_row_108_of_many_files_at_once_as_many_are_taken_as_there_is_room_for(http: httpx.Client, label: str):
    first = upload(http, b"a text", idempotency_key=label)
    answers = uploads_at_once(http, b"some text", AT_ONCE)
    assert outcomes(answers) == {"stored": MOST_FILES - 1, "file_count_quota_exceeded": AT_ONCE - MOST_FILES + 1}
    assert used(http) == (MOST_FILES, 6 + 9 * (MOST_FILES - 1))
    refused = next(answer for answer in answers if answer.status_code == 413)
    assert_refused(refused, 413, "file_count_quota_exceeded", "file")
    again = upload(http, b"a text", idempotency_key=label)
    assert (again.status_code, again.content, again.headers["idempotent-replayed"]) == (200, first.content, "true")


@pytest.mark.slow
def test_row_108_of_many_bytes_at_once_as_many_are_taken_as_there_is_room_for(http: httpx.Client):
    answers = uploads_at_once(http, b"x" * 30 * MEGABYTE, 6)
    assert outcomes(answers) == {"stored": 3, "storage_quota_exceeded": 3}
    assert used(http) == (3, 90 * MEGABYTE)
    assert upload(http, b"x" * 10 * MEGABYTE).status_code == 200
    assert used(http) == (4, MOST_BYTES)
    assert_refused(upload(http, b"x"), 413, "storage_quota_exceeded", "file")


@pytest.mark.slow
def test_one_idempotency_key_makes_one_file_however_many_send_it_at_once(http: httpx.Client, label: str):
    answers = uploads_at_once(http, b"x" * MEGABYTE, 10, idempotency_key=label)
    assert set(outcomes(answers)) <= {"stored", "idempotency_in_progress"}
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 200}) == 1
    assert used(http) == (1, MEGABYTE)


@pytest.mark.slow
def test_row_141_a_disk_without_room(narrow: Installation):
    """The process may write no file beyond 8 MB, which it meets as it would a full disk. Everything else goes on."""
    with narrow.server() as server, client_of(server, narrow) as client:
        kept = upload(client, b"kept").json()["id"]
        _, hard = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (8 * MEGABYTE, hard))
        refused = upload(client, b"x" * 20 * MEGABYTE)
        assert_refused(refused, 503, "storage_unavailable")
        assert used(client) == (1, 4)
        assert client.get(f"/files/{kept}/content").content == b"kept"
        assert upload(client, b"small").status_code == 200
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, hard))
        assert upload(client, b"x" * 20 * MEGABYTE).status_code == 200
        for file in client.get("/files").json()["data"]:
            client.delete(f"/files/{file['id']}")
        assert used(client) == (0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["uploads", "files"], ids=["where-it-arrives", "where-it-is-kept"])
def test_row_141_a_disk_that_is_full(http: httpx.Client, narrow: Installation, place: str):
    """A real one. Nothing of the file is left, what is there can be read, and with room again it is taken."""
    with mounted_disk(narrow.folder / place, 32 * MEGABYTE) as disk:
        kept = upload(http, b"kept").json()["id"]
        with disk.filled(8 * MEGABYTE):
            assert_refused(upload(http, b"x" * 20 * MEGABYTE), 503, "storage_unavailable")
            assert used(http) == (1, 4)
            assert http.get(f"/files/{kept}/content").content == b"kept"
            assert upload(http, b"small").status_code == 200
        assert sizes_in(narrow.folder / "files") == [4, 5]
        assert upload(http, b"x" * 20 * MEGABYTE).status_code == 200
        assert sizes_in(narrow.folder / "files") == [4, 5, 20 * MEGABYTE]
        for file in http.get("/files").json()["data"]:
            assert http.delete(f"/files/{file['id']}").status_code == 200
        assert sizes_in(narrow.folder / "files") == []


def sizes_in(folder: Path) -> list[int]:
    return sorted(path.stat().st_size for path in folder.rglob("*") if path.is_file())
