"""Rows 14 to 26 and 30: the request line, the headers and the framing. Row 22 needs shorter limits: see `test_troubles`."""

from __future__ import annotations

import gzip

import httpx
import pytest

from infery_site.protocol import HEAD_LIMIT_BYTES, HEADERS_LIMIT
from tests.fakes.launch import FakeProvider
from tests.live.books import Books
from tests.live.gateway import Server
from tests.live.rows.raw import CHAT, Line, Post, RawConnection, chat, exchange, head, request
from tests.live.rows.refusals import LABEL, assert_refused

BODY_LIMIT_BYTES = 20 * 1024 * 1024


def row(number: int, name: str, *values: object) -> object:
    return pytest.param(*values, id=f"row-{number:02d}-{name}")


METHODS = ["GET", "PUT", "PATCH", "DELETE", "PROPFIND"]


@pytest.mark.parametrize("method", [row(14, method, method) for method in METHODS])
def test_another_method(server: Server, keys: dict[str, str], method: str):
    answer = exchange(server.port, request(keys["acme"], method=method))
    assert_refused(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "POST, OPTIONS"


@pytest.mark.parametrize("method", [row(14, "HEAD", "HEAD")])
def test_a_head(server: Server, keys: dict[str, str], method: str):
    """The answer has the headers of the refusal and no body; the connection can be used on."""
    with RawConnection(server.port) as connection:
        answer = connection.ask(request(keys["acme"], method=method), has_body=False)
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST, OPTIONS")
        assert connection.ask(request(keys["acme"])).status_code == 200


@pytest.mark.parametrize("method", [row(15, method, method) for method in ("TRACE", "CONNECT")])
def test_an_unusual_method(server: Server, keys: dict[str, str], method: str):
    answer = exchange(server.port, head(("authorization", f"Bearer {keys['acme']}"), method=method))
    assert_refused(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "POST, OPTIONS"
    assert keys["acme"] not in answer.text, "nothing is echoed"


@pytest.mark.parametrize("method", [row(15, method, method) for method in ("BREW", "get", "POSTED", "x-a'b")])
def test_a_method_that_does_not_exist(server: Server, keys: dict[str, str], method: str):
    """The parser stops there: the connection is closed, and `Allow` speaks for the server as a whole."""
    with RawConnection(server.port) as connection:
        answer = connection.ask(request(keys["acme"], method=method))
        assert_refused(answer, 405, "method_not_allowed")
        assert "POST" in answer.headers["allow"]
        assert connection.is_closed()


URLS = {
    "unknown": "/v1/nothing",
    "root-of-the-api": "/v1",
    "outside": "/nothing",
    "trailing-slash": "/v1/chat/completions/",
    "two-slashes": "//v1/chat/completions",
    "two-slashes-inside": "/v1//chat/completions",
    "upper-case": "/V1/chat/completions",
    "dots": "/v1/x/../chat/completions",
    "encoded-dots": "/v1/%2e%2e/admin/",
    "encoded-nul": "/v1/chat/completions%00",
    "encoded-line-break": "/v1/chat/completions%0d%0ax-evil:1",
    "not-utf-8": "/v1/%ff%fe",
    "lone-percent": "/v1/%",
    "parameters": "/v1/chat/completions;a=b",
    "long": "/v1/" + "a" * 8_000,
    "embeddings": "/v1/embeddings",
    "asterisk": "*",
}


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("target", [row(16, name, target) for name, target in URLS.items()])
def test_an_unknown_url(server: Server, keys: dict[str, str], label: str, method: str, target: str):
    data = request(keys["acme"], ("x-request-id", label), method=method, target=target)
    assert_refused(exchange(server.port, data), 404, "unknown_url", label=label)


MEDIA = [
    row(17, "text", "unsupported_media_type", ("content-type", "text/plain")),
    row(17, "form", "unsupported_media_type", ("content-type", "application/x-www-form-urlencoded")),
    row(17, "multipart", "unsupported_media_type", ("content-type", "multipart/form-data; boundary=a")),
    row(17, "json-of-another-kind", "unsupported_media_type", ("content-type", "application/json-patch+json")),
    row(17, "empty", "unsupported_media_type", ("content-type", "")),
    row(18, "utf-16", "unsupported_charset", ("content-type", "application/json; charset=utf-16")),
    row(18, "latin-1", "unsupported_charset", ("content-type", 'application/json; charset="iso-8859-1"')),
    *[row(19, name, "unsupported_encoding", ("content-encoding", name)) for name in ("gzip", "br", "deflate", "zstd", "x")],
    row(19, "twice", "unsupported_encoding", ("content-encoding", "identity, gzip")),
]


@pytest.mark.parametrize(("code", "line"), MEDIA)
def test_a_body_of_another_kind(server: Server, keys: dict[str, str], label: str, code: str, line: Line):
    body = gzip.compress(chat()) if line[1] == "gzip" else None
    answer = exchange(server.port, request(keys["acme"], line, ("x-request-id", label), body=body))
    assert_refused(answer, 415, code, label=label)


@pytest.mark.parametrize("none", [row(17, "missing", None)])
def test_a_body_of_no_kind(server: Server, keys: dict[str, str], none: None):
    content = chat()
    lines = [("authorization", f"Bearer {keys['acme']}"), ("content-length", str(len(content)))]
    assert_refused(exchange(server.port, head(*lines) + content), 415, "unsupported_media_type")


@pytest.mark.parametrize("key", [row(20, "with-a-key", "acme"), row(20, "without-a-key", None)])
@pytest.mark.parametrize("length", [BODY_LIMIT_BYTES + 1, 10**12, 2**64 - 1])
def test_a_length_over_the_limit(server: Server, keys: dict[str, str], key: str | None, length: int):
    """Refused by what the header says: not a byte of the body is sent here."""
    data = request(key and keys[key], ("content-length", str(length)), body=b"")
    with RawConnection(server.port) as connection:
        answer = connection.ask(data)
        message = assert_refused(answer, 413, "request_too_large")
        assert str(BODY_LIMIT_BYTES) in message
        assert connection.is_closed()


@pytest.mark.parametrize("surplus", [row(21, "the-byte-that-crosses", 1), row(21, "much-more", 3 * 1024 * 1024)])
def test_chunks_over_the_limit(server: Server, keys: dict[str, str], surplus: int):
    chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    with RawConnection(server.port) as connection:
        connection.send(request(keys["acme"], ("transfer-encoding", "chunked"), ("content-length", ""), body=b"").replace(
            b"content-length: \r\n", b""
        ))
        for _ in range(BODY_LIMIT_BYTES // 65_536):
            connection.send(chunk)
        for _ in range(surplus // 65_536):
            connection.send(chunk)
        if surplus == 1:
            connection.send(b"1\r\n \r\n")
        assert_refused(connection.read(), 413, "request_too_large")
        assert connection.is_closed()
