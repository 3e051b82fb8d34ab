"""Rows 104 to 111, 115 and 116: what the Files API refuses, and how; and that nothing of a refused upload stays."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.live.gateway import Installation, Server
from tests.live.rows.raw import exchange
from tests.live.rows.refusals import assert_refused, headers_of

Upload = Callable[..., httpx.Response]

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
PDF = b"%PDF-1.7\n\xe2\xe3"
BOUNDARY = "edge"
MEGABYTE = 1024 * 1024


def part(name: str, value: bytes, *, filename: str | None = None, extra: str = "") -> bytes:
    named = "" if filename is None else f'; filename="{filename}"'
    head = f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="{name}"{named}\r\n{extra}\r\n'
    return head.encode() + value + b"\r\n"


PURPOSE = part("purpose", b"user_data")
FILE = part("file", b"some text", filename="a.txt")
END = f"--{BOUNDARY}--\r\n".encode()


@pytest.fixture
def upload(http: httpx.Client) -> Upload:
    def send(*parts: bytes, boundary: str = BOUNDARY, **headers: str | bytes) -> httpx.Response:
        usual = {"content_type": f"multipart/form-data; boundary={boundary}"}
        sent = {
            name.replace("_", "-").encode(): value if isinstance(value, bytes) else value.encode()
            for name, value in {**usual, **headers}.items()
        }
        return http.post("/files", content=b"".join(parts), headers=sent)

    return send


@pytest.fixture(autouse=True)
def _leaves_nothing(http: httpx.Client, installation: Installation) -> Iterator[None]:
    """Each test takes away what it stored; then there is nothing more than before, in the books and on the disk."""
    before = _everything(http, installation)
    yield
    assert _everything(http, installation) == before


def _everything(http: httpx.Client, installation: Installation) -> tuple[str, str, list[Path]]:
    headers = http.get("/files").headers
    kept = [path for name in ("files", "uploads") for path in (installation.folder / name).rglob("*") if path.is_file()]
    return headers["x-files-used"], headers["x-storage-used-bytes"], sorted(kept)


def named_file(data: bytes, filename: str, declared: str = "") -> bytes:
    return part("file", data, filename=filename, extra=f"content-type: {declared}\r\n" if declared else "")


MANY = b"".join(part("purpose", b"x") for _ in range(10_000))

BAD_FORMS: list[tuple[str, tuple[bytes, ...], str, str | None]] = [
    ("104-no-file", (PURPOSE, END), "missing_required_parameter", "file"),
    ("104-no-purpose", (FILE, END), "missing_required_parameter", "purpose"),
    ("104-unknown-purpose", (part("purpose", b"fun"), FILE, END), "invalid_value", "purpose"),
    ("104-purpose-of-another-api", (part("purpose", b"fine-tune"), FILE, END), "invalid_value", "purpose"),
    ("104-empty-purpose", (part("purpose", b""), FILE, END), "invalid_value", "purpose"),
    ("104-unknown-field", (PURPOSE, part("user", b"me"), FILE, END), "unknown_parameter", "user"),
    ("104-expiry-without-anchor", (PURPOSE, part("expires_after[seconds]", b"3600"), FILE, END), "invalid_value", "expires_after[anchor]"),
    *(
        (
            f"104-expiry-{seconds}",
            (PURPOSE, part("expires_after[anchor]", b"created_at"), part("expires_after[seconds]", seconds.encode()), FILE, END),
            "invalid_value",
            "expires_after[seconds]",
        )
        for seconds in ("3599", "2592001", "-3600", "3600.0", "soon", "9" * 100, "٣٦٠٠")
    ),
    ("105-two-files", (PURPOSE, FILE, FILE, END), "invalid_multipart", None),
    ("105-two-files-of-two-names", (PURPOSE, FILE, part("other", b"x", filename="b"), END), "invalid_multipart", None),
    ("105-purpose-as-a-file", (part("purpose", b"user_data", filename="a"), FILE, END), "invalid_multipart", None),
    ("105-a-repeated-field", (PURPOSE, PURPOSE, FILE, END), "invalid_multipart", None),
    ("105-ten-thousand-parts", (PURPOSE, MANY, FILE, END), "invalid_multipart", None),
    ("105-a-long-field", (part("purpose", b"x" * 1025), FILE, END), "invalid_multipart", None),
    ("105-a-large-head", (PURPOSE, part("file", b"x", filename="a", extra="x-a: " + "b" * 8192 + "\r\n"), END), "invalid_multipart", None),
    ("105-a-head-without-end", (PURPOSE, f"--{BOUNDARY}\r\n".encode(), b"x" * MEGABYTE), "invalid_multipart", None),
    ("105-no-end", (PURPOSE, FILE), "invalid_multipart", None),
    ("105-half-an-end", (PURPOSE, FILE, END[:-4]), "invalid_multipart", None),
    ("105-nothing", (), "invalid_multipart", None),
    ("105-only-an-end", (END,), "invalid_multipart", None),
    ("105-a-preamble", (b"hello\r\n", PURPOSE, FILE, END), "invalid_multipart", None),
    ("105-nested", (PURPOSE, part("file", b"x", filename="a", extra="content-type: multipart/mixed; boundary=b\r\n"), END), "invalid_multipart", None),
    ("105-base64", (PURPOSE, part("file", b"eA==", filename="a", extra="content-transfer-encoding: base64\r\n"), END), "invalid_multipart", None),
    ("105-quoted", (PURPOSE, part("file", b"x", filename="a", extra="content-transfer-encoding: quoted-printable\r\n"), END), "invalid_multipart", None),
    ("105-gzip", (PURPOSE, part("file", b"x", filename="a", extra="content-encoding: gzip\r\n"), END), "invalid_multipart", None),
    ("105-repeated-header", (PURPOSE, part("file", b"x", filename="a", extra='content-disposition: form-data; name="b"\r\n'), END), "invalid_multipart", None),
    ("105-folded-header", (PURPOSE, part("file", b"x", filename="a", extra=" folded: x\r\n"), END), "invalid_multipart", None),
    ("105-two-filenames", (PURPOSE, part("file", b"x", filename='a"; filename="b'), END), "invalid_multipart", None),
    ("105-extended-name", (PURPOSE, part("file", b"x", filename="a\"; filename*=\"utf-16''%ff%fe"), END), "invalid_multipart", None),
    ("105-no-name", (PURPOSE, f"--{BOUNDARY}\r\ncontent-disposition: form-data\r\n\r\nx\r\n".encode(), END), "invalid_multipart", None),
    ("105-not-form-data", (PURPOSE, f'--{BOUNDARY}\r\ncontent-disposition: file; name="file"\r\n\r\nx\r\n'.encode(), END), "invalid_multipart", None),
    ("105-latin-name", (PURPOSE, f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="file"; filename="'.encode() + b'\xfc"\r\n\r\nx\r\n', END), "invalid_multipart", None),
    ("106-no-bytes", (PURPOSE, named_file(b"", "a.txt"), END), "empty_file", "file"),
    ("106-no-bytes-of-a-png", (PURPOSE, named_file(b"", "a.png", "image/png"), END), "empty_file", "file"),
    ("110-exe", (PURPOSE, named_file(b"MZ\x90\0\x03\0\0\0", "a.exe"), END), "unsupported_file_type", "file"),
    ("110-exe-as-png", (PURPOSE, named_file(b"MZ\x90\0\x03\0\0\0", "a.png", "image/png"), END), "unsupported_file_type", "file"),
    ("110-elf", (PURPOSE, named_file(b"\x7fELF\x02\x01\x01\0", "a"), END), "unsupported_file_type", "file"),
    ("110-zip", (PURPOSE, named_file(b"PK\x03\x04\x14\0\0\0", "a.docx"), END), "unsupported_file_type", "file"),
    ("110-latin-text", (PURPOSE, named_file(b"caf\xe9 au lait", "a.txt"), END), "unsupported_file_type", "file"),
    ("110-cut-text", (PURPOSE, named_file(b"caf\xc3", "a.txt"), END), "unsupported_file_type", "file"),
    ("110-late-binary", (PURPOSE, named_file(b"text " * 200_000 + b"\0", "a.txt"), END), "unsupported_file_type", "file"),
    ("110-pdf-behind-something", (PURPOSE, named_file(b"\0\0" + PDF, "a.pdf", "application/pdf"), END), "unsupported_file_type", "file"),
    ("110-png-as-pdf", (PURPOSE, named_file(PNG, "a.pdf", "application/pdf"), END), "mime_mismatch", "file"),
    ("110-pdf-with-another-ending", (PURPOSE, named_file(PDF, "a.png"), END), "mime_mismatch", "file"),
    ("110-pdf-declared-as-text", (PURPOSE, named_file(PDF, "a", "text/plain"), END), "mime_mismatch", "file"),
    ("110-text-as-pdf", (PURPOSE, named_file(b"hello", "a.pdf", "application/pdf"), END), "mime_mismatch", "file"),
    ("110-gif-and-page", (PURPOSE, named_file(b"GIF89a/*<script>*/", "a.html", "text/html"), END), "mime_mismatch", "file"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("parts", "code", "param"), [row[1:] for row in BAD_FORMS], ids=[f"row-{row[0]}" for row in BAD_FORMS])
def test_a_form_is_refused(upload: Upload, label: str, parts: tuple[bytes, ...], code: str, param: str | None):
    answer = upload(*parts, x_request_id=label)
    assert_refused(answer, 400, code, param, label=label)
    assert "x-storage-used-bytes" in answer.headers


@pytest.mark.parametrize("boundary", ["x" * 201, "x" * 10_240, "", '"a"b', "a;a", "ä", '"' + "a" * 201 + '"'])
def test_row_105_a_boundary_is_refused(upload: Upload, boundary: str):
    answer = upload(PURPOSE, FILE, END, content_type=f"multipart/form-data; boundary={boundary}".encode())
    assert_refused(answer, 400, "invalid_multipart")


@pytest.mark.parametrize(
    "declared", ["application/json", "application/x-www-form-urlencoded", "multipart/mixed; boundary=edge", ""]
)
def test_another_type_of_body_is_refused(upload: Upload, declared: str):
    assert_refused(upload(PURPOSE, FILE, END, content_type=declared), 415, "unsupported_media_type")


def test_a_compressed_body_is_refused(upload: Upload):
    assert_refused(upload(PURPOSE, FILE, END, content_encoding="gzip"), 415, "unsupported_encoding")


def declared_upload(server: Server, key: str, size: int, *, body: bytes = b"") -> httpx.Response:
    """An upload that says it will be so large, and of which only this comes."""
    head = (
        f"POST /v1/files HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\ncontent-length: {size}\r\n"
        f"content-type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n"
    )
    return exchange(server.port, head.encode() + body)


def test_row_107_a_body_that_says_it_is_too_large_is_not_read(server: Server, keys: dict[str, str]):
    answer = declared_upload(server, keys["acme"], 600 * MEGABYTE)
    assert_refused(answer, 413, "file_too_large", "file")


def test_a_stranger_is_refused_before_a_byte_is_read(server: Server):
    answer = declared_upload(server, "inf_nobody", 100 * MEGABYTE)
    assert_refused(answer, 401, "invalid_api_key")
    assert "x-storage-used-bytes" not in answer.headers


NAMES: list[tuple[str, str, str]] = [
    ("109-upwards", "../../etc/passwd", "passwd"),
    ("109-absolute", "/etc/passwd", "passwd"),
    ("109-windows", "C:\\\\temp\\\\a.txt", "a.txt"),
    ("109-only-dots", "..", "file"),
    ("109-nothing", "", "file"),
    ("109-long", "a" * 5000 + ".txt", "a" * 251 + ".txt"),
    ("109-line-break", "a%0D%0Ax-evil: 1.txt", "ax-evil: 1.txt"),
    ("109-nul", "a\0.txt", "a.txt"),
    ("109-bidi", "a\u202etxt.exe\u202c.txt", "atxt.exe.txt"),
    ("109-markup", "<script>alert(1)<%2Fscript>.txt", "<script>alert(1)<%2Fscript>.txt"),
    ("109-quotes", "a%22; filename=%22b.txt", 'a"; filename="b.txt'),
]


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "kept"), [row[1:] for row in NAMES], ids=[f"row-{row[0]}" for row in NAMES])
def test_a_name_is_data(upload: Upload, http: httpx.Client, installation: Installation, sent: str, kept: str):
    answer = upload(PURPOSE, named_file(b"some text", sent), END)
    assert (answer.status_code, answer.json()["filename"]) == (200, kept)
    file_id = answer.json()["id"]
    names = [path.name for path in (installation.folder / "files").rglob("*") if path.is_file()]
    assert file_id in names
    content = http.get(f"/files/{file_id}/content")
    assert content.content == b"some text"
    [disposition] = content.headers.get_list("content-disposition")
    assert disposition.startswith("attachment; filename")
    assert disposition.isascii()
    assert disposition.isprintable()
    assert "x-evil" not in content.headers
    assert http.delete(f"/files/{file_id}").status_code == 200


GOOD = [
    ("png", PNG, "a.png", "image/png"),
    ("png-of-another-name-of-its-type", PNG, "a", "image/x-png"),
    ("pdf-that-says-nothing", PDF, "a.pdf", "application/octet-stream"),
    ("jsonl", b'{"a": 1}\n', "a.jsonl", ""),
    ("json", b"{}", "a.json", "application/json"),
    ("typescript", b"let a = 1", "a.ts", "video/mp2t"),
    ("markdown-of-other-languages", "# Überschrift 報告".encode(), "a.md", "text/markdown"),
    ("wav", b"RIFF\x24\0\0\0WAVEfmt ", "a.wav", "audio/x-wav"),
    ("a-delimiter-that-is-none", b"\r\n--edg\r\n--edgf\r\n--", "a.txt", ""),
]


@pytest.mark.slow
@pytest.mark.parametrize(("data", "name", "declared"), [row[1:] for row in GOOD], ids=[row[0] for row in GOOD])
def test_what_is_what_it_says_is_taken(upload: Upload, http: httpx.Client, data: bytes, name: str, declared: str):
    """The order of the fields is the client's."""
    for parts in ((PURPOSE, named_file(data, name, declared), END), (named_file(data, name, declared), PURPOSE, END)):
        answer = upload(*parts)
        assert answer.status_code == 200, answer.text
        assert http.get(f"/files/{answer.json()['id']}/content").content == data
        http.delete(f"/files/{answer.json()['id']}")


STRANGE_IDS = ["file_" + "0" * 22, "file-" + "0" * 22, "file_", "x", "%00", "file_" + "0" * 21 + "%0A", "%E2%80%AE", "a" * 5000]


@pytest.fixture
def made(upload: Upload) -> str:
    file_id: str = upload(PURPOSE, FILE, END).json()["id"]
    return file_id


def test_row_111_nothing_tells_ids_apart_that_are_not_ours(http: httpx.Client, made: str, keys: dict[str, str]):
    """K1: unknown, malformed, foreign and deleted ids, by equal bytes at every route."""
    rival = {"authorization": f"Bearer {keys['modest']}"}
    routes = [("GET", ""), ("DELETE", ""), ("GET", "/content")]
    foreign = http.get(f"/files/{made}", headers=rival)
    for method, rest in routes:
        foreign = http.request(method, f"/files/{made}{rest}", headers=rival)
        assert_refused(foreign, 404, "file_not_found")
        for strange in STRANGE_IDS:
            unknown = http.request(method, f"/files/{strange}{rest}", headers=rival)
            assert (unknown.status_code, unknown.content) == (404, foreign.content)
            assert headers_of(unknown) == headers_of(foreign)
    assert made not in http.get("/files", headers=rival).text
    refused = http.get("/files", params={"after": made}, headers=rival)
    assert_refused(refused, 400, "invalid_value", "after")
    assert refused.content == http.get("/files", params={"after": STRANGE_IDS[0]}, headers=rival).content
    assert http.get(f"/files/{made}/content").content == b"some text"
    assert http.delete(f"/files/{made}").status_code == 200
    for method, rest in routes:
        assert http.request(method, f"/files/{made}{rest}").content == foreign.content


def test_row_116_a_file_is_deleted_once(http: httpx.Client, made: str):
    first, second = http.delete(f"/files/{made}"), http.delete(f"/files/{made}")
    assert (first.status_code, json.loads(first.content)) == (200, {"id": made, "object": "file", "deleted": True})
    assert_refused(second, 404, "file_not_found")


BAD_LISTS: list[tuple[str, dict[str, Any], str]] = [
    *(("115-limit", {"limit": limit}, "limit") for limit in (0, -1, 10**9, "x", "", "1.0", "٣", 101)),
    *(("115-after", {"after": after}, "after") for after in ("", "x", "\0", "file_" + "0" * 22, "' OR 1=1 --", "ä" * 300)),
    *(("115-order", {"order": order}, "order") for order in ("x'", "", "DESC", "asc;", "\0")),
    *(("115-purpose", {"purpose": purpose}, "purpose") for purpose in ("x", "", "vision'")),
]


@pytest.mark.slow
@pytest.mark.parametrize(("params", "param"), [row[1:] for row in BAD_LISTS], ids=[f"row-{row[0]}" for row in BAD_LISTS])
def test_a_list_is_refused(http: httpx.Client, params: dict[str, Any], param: str):
    assert_refused(http.get("/files", params=params), 400, "invalid_value", param)


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_other_methods_are_refused(http: httpx.Client, method: str):
    answer = http.request(method, "/files")
    assert_refused(answer, 405, "method_not_allowed")
    assert {"GET", "POST"} <= set(answer.headers["allow"].split(", "))


@pytest.mark.parametrize("path", ["/files", "/files/x", "/files/x/content"])
def test_what_a_url_takes_is_told_to_everybody(server: Server, path: str):
    with httpx.Client(base_url=server.base_url, trust_env=False) as stranger:
        assert_refused(stranger.put(path), 405, "method_not_allowed")
        assert stranger.options(path).status_code == 204
        assert_refused(stranger.get(path), 401, "missing_api_key")


@pytest.mark.parametrize("name", ["unscoped", "manager"])
def test_a_key_without_the_scope_reads_and_writes_nothing(upload: Upload, http: httpx.Client, keys: dict[str, str], name: str):
    made = upload(PURPOSE, FILE, END).json()["id"]
    key = {"authorization": f"Bearer {keys[name]}"}
    assert_refused(upload(PURPOSE, FILE, END, **key), 403, "insufficient_scope")
    for method, path in (("GET", ""), ("GET", f"/{made}"), ("GET", f"/{made}/content"), ("DELETE", f"/{made}")):
        assert_refused(http.request(method, f"/files{path}", headers=key), 403, "insufficient_scope")
    assert http.delete(f"/files/{made}").status_code == 200


def test_nothing_stays_of_an_upload_whose_client_leaves(server: Server, keys: dict[str, str]):
    """In the middle of the file, and when all of the form but its end is there."""
    for body in (PURPOSE + FILE[:-4] + b"x" * MEGABYTE, PURPOSE + FILE):
        head = (
            f"POST /v1/files HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {keys['acme']}\r\n"
            f"content-length: {2 * MEGABYTE}\r\ncontent-type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", server.port), timeout=15) as connection:
            connection.sendall(head.encode() + body)
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(1024) == b""
