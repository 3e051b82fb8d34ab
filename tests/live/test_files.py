"""The Files API by the official client, against a real server and its real store."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
from openai import OpenAI

from tests.live.gateway import Installation, Server

PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\nnothing that anybody renders here\n%%EOF\n"
BIG_BYTES = 200 * 1024 * 1024
MOST_GROWTH_BYTES = 64 * 1024 * 1024
DAY_S = 24 * 3600


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory, installation: Installation) -> Path:
    return installation.folder / "files"


def stored(store: Path) -> list[Path]:
    return sorted(path for path in store.rglob("*") if path.is_file())


def test_a_file_is_uploaded_found_read_and_deleted(client: OpenAI, store: Path):
    before = stored(store)
    file = client.files.create(file=("report.pdf", PDF), purpose="user_data")
    assert (file.object, file.bytes, file.filename, file.purpose, file.status) == (
        "file",
        len(PDF),
        "report.pdf",
        "user_data",
        "processed",
    )
    assert file.id.startswith("file_")
    assert abs(file.created_at - time.time()) < 60
    assert file.expires_at is None
    [path] = set(stored(store)) - set(before)
    assert path.read_bytes() == PDF
    assert "report" not in str(path)
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert client.files.retrieve(file.id) == file
    content = client.files.content(file.id)
    assert content.read() == PDF
    headers = content.response.headers
    assert headers["content-type"] == "application/pdf"
    assert headers["content-disposition"] == 'attachment; filename="report.pdf"'
    assert (headers["cache-control"], headers["x-content-type-options"]) == ("private", "nosniff")
    assert headers["content-length"] == str(len(PDF))
    deleted = client.files.delete(file.id)
    assert (deleted.id, deleted.object, deleted.deleted) == (file.id, "file", True)
    assert not path.exists()
    for gone in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError) as refused:
            gone(file.id)
        assert refused.value.code == "file_not_found"


@pytest.mark.slow
def test_lists_page_by_themselves_in_both_orders(client: OpenAI):
    made = [client.files.create(file=(f"{n}.txt", b"some text"), purpose="assistants").id for n in range(5)]
    other = client.files.create(file=("a.jsonl", b'{"a": 1}\n'), purpose="batch").id
    first = client.files.list(limit=2, purpose="assistants")
    assert ([file.id for file in first.data], first.has_more) == ([made[4], made[3]], True)
    newest_first = [file.id for file in client.files.list(limit=2, purpose="assistants")]
    assert [one for one in newest_first if one in made] == made[::-1]
    oldest_first = [file.id for file in client.files.list(limit=2, order="asc")]
    assert [one for one in oldest_first if one in {*made, other}] == [*made, other]
    raw = client.files.with_raw_response.list(limit=2, order="asc").http_response.json()
    assert (raw["object"], raw["first_id"], raw["last_id"]) == ("list", raw["data"][0]["id"], raw["data"][1]["id"])
    # The mark of the next page is gone by then.
    for file in client.files.list(limit=2):
        client.files.delete(file.id)
    empty = client.files.with_raw_response.list().http_response.json()
    assert (empty["data"], empty["has_more"], empty["first_id"], empty["last_id"]) == ([], False, None, None)


def test_headers_say_how_much_room_there_is(client: OpenAI, http: httpx.Client):
    before = http.get("/files").headers
    uploaded = client.files.with_raw_response.create(file=("a.txt", b"twelve bytes"), purpose="user_data")
    file_id = uploaded.parse().id
    for answer in (uploaded.http_response, http.get("/files"), http.get(f"/files/{file_id}"), http.get("/files/file_x")):
        assert int(answer.headers["x-storage-used-bytes"]) == int(before["x-storage-used-bytes"]) + 12
        assert int(answer.headers["x-files-used"]) == int(before["x-files-used"]) + 1
        assert (answer.headers["x-storage-limit-bytes"], answer.headers["x-files-limit"]) == (str(10 * 1024**3), "10000")
    after = http.delete(f"/files/{file_id}").headers
    assert [after[name] for name in ("x-storage-used-bytes", "x-files-used")] == [
        before[name] for name in ("x-storage-used-bytes", "x-files-used")
    ]


def test_a_file_expires_when_it_was_told_to(client: OpenAI):
    file = client.files.create(
        file=("a.txt", b"text"), purpose="batch", expires_after={"anchor": "created_at", "seconds": DAY_S}
    )
    assert file.expires_at == file.created_at + DAY_S
    client.files.delete(file.id)


def test_a_repeated_upload_gives_the_first_file(client: OpenAI, label: str):
    def upload(data: bytes, name: str = "a.txt") -> openai.types.FileObject:
        return client.files.create(file=(name, data), purpose="user_data", extra_headers={"idempotency-key": label})

    first = upload(b"the same")
    assert upload(b"the same") == first
    for data, name in ((b"another", "a.txt"), (b"the same", "b.txt")):
        with pytest.raises(openai.UnprocessableEntityError) as refused:
            upload(data, name)
        assert refused.value.code == "idempotency_mismatch"
    assert [file.id for file in client.files.list()].count(first.id) == 1
    client.files.delete(first.id)


def test_the_name_comes_back_as_it_was_given(client: OpenAI):
    name = 'Übersicht "Q3" – 報告.txt'
    file = client.files.create(file=(name, b"text"), purpose="user_data")
    assert file.filename == name
    disposition = client.files.content(file.id).response.headers["content-disposition"]
    assert disposition.startswith("attachment; filename*=utf-8''%C3%9Cbersicht")
    client.files.delete(file.id)


class Pattern(io.RawIOBase):
    """So many bytes of text, made while they are read."""

    def __init__(self, size_bytes: int) -> None:
        self._left = size_bytes
        self.digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def read(self, count: int = -1) -> bytes:
        piece = (b"0123456789abcde\n" * 65536)[: min(self._left, count if count >= 0 else self._left)]
        self._left -= len(piece)
        self.digest.update(piece)
        return piece


def form(parts: Iterator[bytes]) -> Iterator[bytes]:
    yield b'--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n'
    yield b'--b\r\ncontent-disposition: form-data; name="file"; filename="big.txt"\r\n\r\n'
    yield from parts
    yield b"\r\n--b--\r\n"


def peak_bytes(pid: int) -> int:
    """The most memory it ever had, as the kernel counts it."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


@pytest.mark.slow
def test_a_large_file_moves_without_being_held_in_memory(server: Server, http: httpx.Client):
    """The process answers others meanwhile, and grows by a fraction of what moves, in both directions."""
    small = http.post("/files", data={"purpose": "user_data"}, files={"file": ("a.txt", b"text")}, timeout=60).json()
    assert http.get(f"/files/{small['id']}/content").content == b"text"
    before = peak_bytes(server.pid)
    source = Pattern(BIG_BYTES)
    headers = {"content-type": "multipart/form-data; boundary=b"}
    pieces = iter(lambda: source.read(1024 * 1024), b"")
    made = http.post("/files", content=form(pieces), headers=headers, timeout=100)
    assert (made.status_code, made.json()["bytes"]) == (200, BIG_BYTES)
    digest = hashlib.sha256()
    with http.stream("GET", f"/files/{made.json()['id']}/content", timeout=100) as answer:
        for piece in answer.iter_bytes():
            digest.update(piece)
    assert digest.digest() == source.digest.digest()
    grown = peak_bytes(server.pid) - before
    assert grown < MOST_GROWTH_BYTES, f"grew by {grown // 1024**2} MB"
    for file_id in (small["id"], made.json()["id"]):
        assert http.delete(f"/files/{file_id}").status_code == 200
