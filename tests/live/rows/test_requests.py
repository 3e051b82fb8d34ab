"""Rows 14 to 26 and 30: the request line, the headers and the framing, but for `test_media` (17 to 19) and `test_troubles` (22)."""

from __future__ import annotations

import time

import pytest

from infery_site.protocol import HEAD_LIMIT_BYTES, HEADERS_LIMIT
from tests.fakes.launch import FakeProvider
from tests.live.books import Books
from tests.live.gateway import Server
from tests.live.rows.raw import CHAT, Line, Post, RawConnection, chat, chunk, chunked, exchange, head, request
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


READS = ["/v1/models", "/v1/models/main", "/v1/usage", "/v1/usage/requests", "/v1/credits", "/v1/key", "/v1/receipt-keys"]
READ = "GET, HEAD, OPTIONS"
TAKEN = {
    **dict.fromkeys([*READS, "/v1/generations/x", "/api/workspaces"], READ),
    "/api/workspaces/ws_x": "GET, PATCH, HEAD, OPTIONS",
    "/api/workspaces/ws_x/presets": "GET, POST, HEAD, OPTIONS",
}
OTHERS = [
    row(15 if method == "TRACE" else 14, f"{method}-{target}", method, target)
    for method in [*METHODS[1:], "TRACE"]
    for target, taken in TAKEN.items()
    if method not in taken.split(", ")
]


@pytest.mark.parametrize("key", ["acme", None], ids=["with-a-key", "without-a-key"])
@pytest.mark.parametrize(("method", "target"), OTHERS)
def test_another_method_elsewhere(server: Server, keys: dict[str, str], label: str, method: str, target: str, key: str | None):
    """The method is judged before the key, as at the chat endpoint."""
    data = request(key and keys[key], ("x-request-id", label), method=method, target=target)
    answer = exchange(server.port, data)
    assert_refused(answer, 405, "method_not_allowed", label=label)
    assert answer.headers["allow"] == TAKEN[target]


OPENED = {
    CHAT: (200, "POST, OPTIONS"),
    "/v1/models": (204, "GET, HEAD, OPTIONS"),
    "/api/workspaces": (204, "GET, HEAD, OPTIONS"),
}


@pytest.mark.parametrize("target", [row(14, f"OPTIONS-{target}", target) for target in OPENED])
def test_what_a_url_takes_is_told_to_everybody(server: Server, target: str):
    """Browsers ask so before they send a key."""
    with RawConnection(server.port) as connection:
        answer = connection.ask(head(method="OPTIONS", target=target))
        assert (answer.status_code, answer.headers["allow"]) == OPENED[target]
        assert connection.ask(request(None)).status_code == 401


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


@pytest.mark.parametrize("target", [row(15, "tunnel", CHAT), row(15, "tunnel-elsewhere", "example.com:443")])
def test_a_tunnel(server: Server, keys: dict[str, str], target: str):
    """What follows is for the other end of a tunnel that there is none of: it is not read as a request."""
    with RawConnection(server.port) as connection:
        connection.send(head(("authorization", f"Bearer {keys['acme']}"), method="CONNECT", target=target))
        connection.send(request(keys["acme"]))
        assert_refused(connection.read(), 405, "method_not_allowed")
        assert connection.is_closed()


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
    "encoded-slash": "/v1/chat%2Fcompletions",
    "encoded-letter": "/v1/%63hat/completions",
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


@pytest.mark.parametrize("key", [row(20, "with-a-key", "acme"), row(20, "without-a-key", None)])
@pytest.mark.parametrize("length", [BODY_LIMIT_BYTES + 1, 10**12, 2**64 - 1])
def test_a_length_over_the_limit(server: Server, keys: dict[str, str], key: str | None, length: int):
    """Refused by what the header says: not a byte of the body is sent here."""
    answer = exchange(server.port, request(key and keys[key], ("content-length", str(length)), body=b""))
    message = assert_refused(answer, 413, "request_too_large")
    assert str(BODY_LIMIT_BYTES) in message
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("door", [row(20, "at-another-route", "/v1/models")])
def test_a_length_over_the_limit_of_other_routes(server: Server, keys: dict[str, str], label: str, door: str):
    lines = [("content-length", str(2 * 1024 * 1024 + 1)), ("x-request-id", label)]
    answer = exchange(server.port, request(keys["acme"], *lines, target=door, body=b""))
    assert_refused(answer, 413, "request_too_large", label=label)
    assert answer.headers["connection"] == "close"


@pytest.mark.slow
@pytest.mark.parametrize("surplus", [row(21, "the-byte-that-crosses", b" ")])
def test_chunks_over_the_limit(server: Server, keys: dict[str, str], surplus: bytes):
    """The request goes on sending; the connection is closed when it had a moment to read the answer."""
    megabyte = chunk(b" " * 2**20)
    with RawConnection(server.port) as connection:
        connection.send(chunked(keys["acme"], b""))
        for _ in range(BODY_LIMIT_BYTES // 2**20):
            connection.send(megabyte)
        connection.send(chunk(surplus))
        assert_refused(connection.read(), 413, "request_too_large")
        assert connection.is_closed()


@pytest.mark.parametrize("size", [row(21, "at-the-limit", BODY_LIMIT_BYTES)])
def test_chunks_at_the_limit(server: Server, keys: dict[str, str], size: int):
    """Not too large to be read: only too long for the model."""
    start, end = chat(messages=[{"role": "user", "content": "@"}]).split(b"@")
    text = b"x" * (size - len(start) - len(end))
    answer = exchange(server.port, chunked(keys["acme"], chunk(start + text) + chunk(end) + b"0\r\n\r\n"))
    assert_refused(answer, 400, "context_length_exceeded", "messages")


FRAMINGS = {
    "two-lengths": [("content-length", "2"), ("content-length", "3")],
    "two-equal-lengths": [("content-length", "2"), ("content-length", "2")],
    "list-of-lengths": [("content-length", "2, 2")],
    "length-and-chunks": [("content-length", "2"), ("transfer-encoding", "chunked")],
    "chunks-and-length": [("transfer-encoding", "chunked"), ("content-length", "2")],
    "negative-length": [("content-length", "-2")],
    "signed-length": [("content-length", "+2")],
    "hexadecimal-length": [("content-length", "0x2")],
    "huge-length": [("content-length", "9" * 40)],
    "space-before-the-colon": [("content-length ", "2")],
    "unknown-coding": [("transfer-encoding", "xchunked")],
    "coding-after-chunked": [("transfer-encoding", "chunked, gzip")],
    "coding-before-chunked": [("transfer-encoding", "gzip, chunked")],
    "coding-on-a-line-before-chunked": [("transfer-encoding", "gzip"), ("transfer-encoding", "chunked")],
    "chunked-twice": [("transfer-encoding", "chunked, chunked")],
}
CHUNKS = {
    "size-is-no-number": b"zz\r\n{}\r\n0\r\n\r\n",
    "negative-size": b"-2\r\n{}\r\n0\r\n\r\n",
    "huge-size": b"f" * 17 + b"\r\n{}\r\n0\r\n\r\n",
    "size-too-small": b"1\r\n{}\r\n0\r\n\r\n",
    "later": b"1\r\n{\r\nx\r\n}\r\n0\r\n\r\n",
    "bare-line-feeds": b"2\n{}\n0\n\n",
}
HEADS = {
    "folded-header": b"POST %s HTTP/1.1\r\nhost: 127.0.0.1\r\nx-a: b\r\n c\r\n\r\n" % CHAT.encode(),
    "bare-line-feeds": b"POST %s HTTP/1.1\nhost: 127.0.0.1\ncontent-length: 2\n\n{}" % CHAT.encode(),
    "no-http": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "nul-in-a-header": head(("x-a", "b\0c")),
    "carriage-return-in-a-header": head(("x-a", "b\rc: d")),
    "relative-url": head(target="v1/chat/completions"),
    "url-not-ascii": head(target="/v1/ch\xe9t"),
}


def assert_cut_off(server: Server, data: bytes) -> None:
    with RawConnection(server.port) as connection:
        assert_refused(connection.ask(data), 400, "invalid_http")
        assert connection.is_closed()


@pytest.mark.parametrize("lines", [row(23, name, lines) for name, lines in FRAMINGS.items()])
def test_a_length_that_is_none(server: Server, keys: dict[str, str], lines: list[Line]):
    usual = [("authorization", f"Bearer {keys['acme']}"), ("content-type", "application/json")]
    assert_cut_off(server, head(*usual, *lines) + b"{}")


@pytest.mark.parametrize("body", [row(23, f"chunk-{name}", body) for name, body in CHUNKS.items()])
def test_chunks_that_are_none(server: Server, keys: dict[str, str], body: bytes):
    assert_cut_off(server, chunked(keys["acme"], body))


@pytest.mark.parametrize("data", [row(23, name, data) for name, data in HEADS.items()])
def test_a_head_that_is_none(server: Server, data: bytes):
    assert_cut_off(server, data)


OFFERS = {
    "h2c": [("connection", "Upgrade, HTTP2-Settings"), ("upgrade", "h2c"), ("http2-settings", "AAMAAABkAAQ")],
    "websocket": [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13")],
}


@pytest.mark.parametrize("lines", [row(23, f"upgrade-{name}", lines) for name, lines in OFFERS.items()])
def test_an_upgrade_that_is_not_taken(server: Server, keys: dict[str, str], label: str, lines: list[Line]):
    """As Java's client offers it with every first request: the answer is the usual one, the connection is used on."""
    data = request(keys["acme"], ("x-request-id", label), *lines)
    with RawConnection(server.port) as connection:
        for _ in range(2):
            answer = connection.ask(data)
            assert (answer.status_code, answer.headers["x-request-id"]) == (200, label)
            assert answer.json()["choices"][0]["message"]["content"]


@pytest.mark.parametrize("lines", [row(23, f"smuggled-behind-{name}", lines) for name, lines in OFFERS.items()])
def test_a_body_behind_an_upgrade_is_no_request(
    server: Server, keys: dict[str, str], provider: FakeProvider, label: str, lines: list[Line]
):
    """In a segment of its own, and a good request: it is the body of the first one, and never runs."""
    smuggled = request(keys["acme"])
    with RawConnection(server.port) as connection:
        connection.send(request(keys["acme"], ("x-request-id", label), *lines, body=smuggled)[: -len(smuggled)])
        time.sleep(0.05)
        connection.send(smuggled)
        assert_refused(connection.read(), 400, "invalid_json", label=label)
        assert connection.ask(request(None)).status_code == 401, "the next answer is that of the next request"
    assert provider.requests() == []


@pytest.mark.parametrize("line", [row(23, "body-that-may-not-come", ("expect", "100-continue"))])
def test_a_connection_ends_where_the_body_may_never_come(server: Server, line: Line):
    """The client waits for leave to send its body, and is refused before: what it sends next is not taken for the body."""
    content = chat()
    with RawConnection(server.port) as connection:
        connection.send(head(("content-type", "application/json"), ("content-length", str(len(content))), line))
        assert_refused(connection.read(), 401, "missing_api_key")
        assert connection.is_closed()


@pytest.mark.parametrize("line", [row(23, "body-that-comes-on-demand", ("expect", "100-continue"))])
def test_a_body_that_waits_for_leave(server: Server, keys: dict[str, str], line: Line):
    with RawConnection(server.port) as connection:
        data = request(keys["acme"], line)
        content = chat()
        leave = connection.ask(data[: -len(content)], has_body=False)
        assert leave.status_code == 100
        assert connection.ask(content).status_code == 200


@pytest.mark.parametrize("piece", [row(23, "second-read", b"x\r\n")])
def test_chunks_that_end_badly_later(server: Server, keys: dict[str, str], piece: bytes):
    """The request runs already, and waits for its body."""
    with RawConnection(server.port) as connection:
        connection.send(chunked(keys["acme"], chunk(b"{")))
        assert_refused(connection.ask(piece), 400, "invalid_http")
        assert connection.is_closed()


LARGE_HEADS = {
    "long-value": head(("x-a", "v" * HEAD_LIMIT_BYTES)),
    "long-name": head(("x-" + "n" * HEAD_LIMIT_BYTES, "v")),
    "long-url": head(target="/?" + "q" * HEAD_LIMIT_BYTES),
    "many-headers": head(*[(f"x-{number}", "v") for number in range(HEADERS_LIMIT)]),
    "never-ending-header": head()[:-2] + b"x-a: " + b"v" * 2**20,
    "many-trailers": chunked(None, b"0\r\n" + b"x-a: v\r\n" * 200),
    "never-ending-trailer": chunked(None, b"0\r\nx-a: " + b"v" * 2**20),
    "never-ending-extension": chunked(None, b"2;" + b"e" * 2**20),
}


@pytest.mark.parametrize("data", [row(24, name, data) for name, data in LARGE_HEADS.items()])
def test_a_head_over_the_limits(server: Server, data: bytes):
    with RawConnection(server.port) as connection:
        connection.send(data)
        answer = connection.read()
        if answer.status_code == 401:  # the request itself was complete before its trailers were
            answer = connection.read()
        assert_refused(answer, 431, "headers_too_large")
        assert connection.is_closed()


@pytest.mark.parametrize("line", [row(24, "trailer-is-no-header", ("authorization", "Bearer {key}"))])
def test_what_stands_behind_the_body_is_no_header(server: Server, keys: dict[str, str], line: Line):
    trailer = f"{line[0]}: {line[1].format(key=keys['acme'])}\r\n".encode()
    answer = exchange(server.port, chunked(None, chunk(chat()) + b"0\r\n" + trailer + b"\r\n"))
    assert_refused(answer, 401, "missing_api_key")


LABELS = {
    "encoded-line-break": "a%0d%0ax-evil: 1",
    "129-characters": "a" * 129,
    "8-kb": "a" * 8_192,
    "not-ascii": "\xe9t\xe9",
    "utf-8-of-a-line-break-in-another-plane": "\xc4\x8a\xc4\x8d",
    "spaces": "a b",
    "tab": "a\tb",
    "empty": "",
    "quotes": 'a"b',
    "markup": "<script>",
    "comma": "a,b",
}


@pytest.mark.parametrize("offered", [row(25, name, label) for name, label in LABELS.items()])
def test_a_label_that_cannot_be_echoed(server: Server, keys: dict[str, str], books: Books, offered: str):
    """No error: the request is served under a label of ours, the same in the answer and in the record."""
    answer = exchange(server.port, request(keys["acme"], ("x-request-id", offered)))
    assert answer.status_code == 200
    (shown,) = answer.headers.get_list("x-request-id")
    assert LABEL.fullmatch(shown)
    assert shown != offered
    assert "x-evil" not in answer.headers
    assert books.of_request(shown).generation == answer.json()["id"]


SPLITS = {"line-break": "a\r\nx-evil: 1", "header-after-it": "a\r\n\r\nHTTP/1.1 200 OK\r\nx-evil: 1"}


@pytest.mark.parametrize("offered", [row(25, name, label) for name, label in SPLITS.items()])
def test_a_label_that_would_split_the_answer(server: Server, keys: dict[str, str], offered: str):
    """What looks like a header to us is one; it never becomes one of the answer."""
    data = request(keys["acme"], ("connection", "close"), ("x-request-id", offered))
    with RawConnection(server.port) as connection:
        answer = connection.ask(data)
        assert answer.headers.get_list("x-request-id") == ["a"]
        assert "x-evil" not in answer.headers


REFUSED_LABELS = {
    "nul": "a\0b",
    "carriage-return": "a\rx-evil: 1",
    "folded": "a\r\n x-evil: 1",
    "control-character": "a\x01b",
    "delete": "a\x7fb",
}


@pytest.mark.parametrize("offered", [row(25, f"refused-{name}", label) for name, label in REFUSED_LABELS.items()])
def test_a_label_that_no_header_may_have(server: Server, keys: dict[str, str], offered: str):
    """The HTTP parser is stricter than the row: bytes that may not stand in any header end the request."""
    assert_cut_off(server, request(keys["acme"], ("x-request-id", offered)))


@pytest.mark.parametrize("lines", [row(25, "two", [("x-request-id", "a"), ("x-request-id", "b")])])
@pytest.mark.parametrize("door", ["chat", "models"])
def test_two_labels_are_none(server: Server, keys: dict[str, str], door: str, lines: list[Line]):
    if door == "chat":
        data = request(keys["acme"], *lines)
    else:
        data = head(("authorization", f"Bearer {keys['acme']}"), *lines, method="GET", target="/v1/models")
    answer = exchange(server.port, data)
    assert answer.status_code == 200
    assert answer.headers["x-request-id"].startswith("req-")


IDEMPOTENCY_KEYS = {"empty": "", "256-characters": "k" * 256, "space": "a b", "tab": "a\tb", "not-ascii": "\xe9"}


@pytest.mark.parametrize("key", [row(26, name, key) for name, key in IDEMPOTENCY_KEYS.items()])
def test_an_idempotency_key_that_is_none(server: Server, keys: dict[str, str], provider: FakeProvider, label: str, key: str):
    data = request(keys["acme"], ("idempotency-key", key), ("x-request-id", label))
    assert_refused(exchange(server.port, data), 400, "invalid_idempotency_key", "Idempotency-Key", label=label)
    assert provider.requests() == []


@pytest.mark.parametrize("second", [row(26, "two", "b"), row(26, "two-equal", "a")])
def test_two_idempotency_keys_are_none(server: Server, keys: dict[str, str], provider: FakeProvider, second: str):
    """Nobody could tell which of them makes the request run once."""
    data = request(keys["acme"], ("idempotency-key", "a"), ("idempotency-key", second))
    assert_refused(exchange(server.port, data), 400, "invalid_idempotency_key", "Idempotency-Key")
    assert provider.requests() == []


@pytest.mark.parametrize("key", [row(26, name, key) for name, key in {"nul": "a\0", "bell": "\x07"}.items()])
def test_an_idempotency_key_of_control_characters(server: Server, keys: dict[str, str], key: str):
    assert_cut_off(server, request(keys["acme"], ("idempotency-key", key)))


@pytest.mark.parametrize("key", [row(26, "255-characters", "!~" * 127 + "k")])
def test_an_idempotency_key_at_the_limit(post: Post, label: str, key: str):
    assert post(idempotency_key=label + key[len(label) :]).status_code == 200


HOSTS = {
    "evil": [("host", "evil")],
    "suffix": [("host", "127.0.0.1.evil.example")],
    "user": [("host", "evil@127.0.0.1")],
    "path": [("host", "127.0.0.1/evil")],
    "empty": [("host", "")],
    "two": [("host", "evil"), ("host", "127.0.0.1")],
    "two-the-other-way": [("host", "127.0.0.1"), ("host", "evil")],
    "forwarded": [("host", "evil"), ("x-forwarded-host", "127.0.0.1")],
    "8-kb": [("host", "e" * 8_192)],
}


@pytest.mark.parametrize("door", ["chat", "models"])
@pytest.mark.parametrize("lines", [row(30, name, lines) for name, lines in HOSTS.items()])
def test_another_host(server: Server, keys: dict[str, str], label: str, door: str, lines: list[Line]):
    named = [*lines, ("x-request-id", label)]
    if door == "chat":
        data = request(keys["acme"], *named, host=None)
    else:
        data = head(("authorization", f"Bearer {keys['acme']}"), *named, method="GET", target="/v1/models", host=None)
    message = assert_refused(exchange(server.port, data), 400, "invalid_host", label=label)
    assert "e" * 65 not in message


TARGETS = {
    "absolute": "http://evil.example{path}",
    "absolute-and-encrypted": "https://evil.example:443{path}",
    "absolute-with-a-user": "http://127.0.0.1@evil.example{path}",
    "absolute-with-our-user": "http://evil@127.0.0.1{path}",
    "absolute-without-a-host": "http://{path}",
}


@pytest.mark.parametrize(("method", "path"), [("POST", CHAT), ("GET", "/v1/models")], ids=["chat", "models"])
@pytest.mark.parametrize("target", [row(30, name, target) for name, target in TARGETS.items()])
def test_another_host_in_the_target(server: Server, keys: dict[str, str], label: str, method: str, path: str, target: str):
    """The Host header is ours; the target's own host is the one that counts."""
    data = request(keys["acme"], ("x-request-id", label), method=method, target=target.format(path=path))
    assert_refused(exchange(server.port, data), 400, "invalid_host", label=label)


@pytest.mark.parametrize("target", [row(30, "absolute-and-ours", f"http://127.0.0.1{CHAT}")])
def test_our_host_in_the_target(server: Server, keys: dict[str, str], target: str):
    """As a client sends it that takes us for its proxy."""
    assert exchange(server.port, request(keys["acme"], target=target, host="evil")).status_code == 200


@pytest.mark.parametrize("host", [row(30, "none", None)])
def test_no_host(server: Server, keys: dict[str, str], host: None):
    assert_refused(exchange(server.port, request(keys["acme"], host=host)), 400, "invalid_host")


def test_the_order_of_checks(server: Server, keys: dict[str, str]):
    """Everything is wrong at first; each answer names the earliest fault, which is then put right."""
    faults = {
        "content-length": str(BODY_LIMIT_BYTES + 1),
        "host": "evil",
        "authorization": "Bearer x",
        "content-type": "text/plain",
        "content-encoding": "gzip",
    }
    right = {
        "content-length": "1",
        "host": "127.0.0.1",
        "authorization": f"Bearer {keys['acme']}",
        "content-type": "application/json",
        "content-encoding": "identity",
    }
    codes = []
    method = "PUT"
    for name in ["content-length", "host", "method", "authorization", "content-type", "content-encoding", ""]:
        data = head(*faults.items(), method=method, host=None)
        body = b"{" if faults["content-length"] == "1" else b""
        codes.append(exchange(server.port, data + body).json()["error"]["code"])
        if name == "method":
            method = "POST"
        elif name:
            faults[name] = right[name]
    assert codes == [
        "request_too_large",
        "invalid_host",
        "method_not_allowed",
        "invalid_api_key",
        "unsupported_media_type",
        "unsupported_encoding",
        "invalid_json",
    ]
