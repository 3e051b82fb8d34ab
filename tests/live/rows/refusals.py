"""What every refusal has in common, whatever the row: one envelope, one set of headers, and no word too many."""

from __future__ import annotations

import re

import httpx

from tests.live.books import Booked, Books

LABEL = re.compile(r"[A-Za-z0-9._:-]{1,128}")
MOST_QUOTED_CHARACTERS = 64
MOST_MESSAGE_CHARACTERS = 400
MOST_PATIENCE_S = 60
"""What the official SDKs wait when they are told; asked to wait longer they would try again at once."""
TYPES = {401: "auth_error", 402: "quota_exceeded", 403: "auth_error", 429: "rate_limit_error"}
WAITS = {409, 429, 503}
NEVER_SHOWN = ("Traceback", ".py", "site-packages", "SELECT ", "INSERT ", "django", "msgspec", "billing.", "chat.")


def assert_refused(
    answer: httpx.Response,
    status: int,
    code: str,
    param: str | None = None,
    *,
    label: str | None = None,
    sent: bytes = b"",
    should_retry: str | None = None,
    most_wait_s: int = 120,
) -> str:
    """The message of a refusal that is sound. `sent` is the body that was refused."""
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    _assert_headers(answer, label=label, should_retry=should_retry, most_wait_s=most_wait_s)
    envelope = answer.json()
    assert envelope.keys() == {"error"}
    error = envelope["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert (error["type"], error["param"]) == (_type(status), param)
    message = error["message"]
    assert isinstance(message, str)
    assert 0 < len(message) <= MOST_MESSAGE_CHARACTERS
    assert message.isprintable()
    assert [word for word in NEVER_SHOWN if word in message] == []
    assert_not_repeated(message, sent)
    return message


def _assert_headers(answer: httpx.Response, *, label: str | None, should_retry: str | None, most_wait_s: int) -> None:
    headers = answer.headers
    assert headers.get_list("content-type") == ["application/json; charset=utf-8"]
    assert headers.get_list("x-credits-used") == ["0"]
    (shown,) = headers.get_list("x-request-id")
    assert LABEL.fullmatch(shown)
    assert label in {None, shown}
    assert headers.get_list("cache-control") == ["no-store"]
    assert headers.get_list("x-content-type-options") == ["nosniff"]
    is_hopeless = answer.status_code == 429 and int(headers["retry-after"]) > MOST_PATIENCE_S
    assert headers.get("x-should-retry") == ("false" if is_hopeless else should_retry)
    assert not {"server", "x-model-used", "x-fallback-depth", "set-cookie"}.intersection(headers)
    if answer.status_code in WAITS:
        assert 1 <= int(headers["retry-after"]) <= most_wait_s
    else:
        assert "retry-after" not in headers
    assert ("www-authenticate" in headers) == (answer.status_code == 401)


def _type(status: int) -> str:
    return "server_error" if status >= 500 else TYPES.get(status, "invalid_request_error")


def assert_not_repeated(message: str, sent: bytes) -> None:
    """No more than 64 characters in a row are what the caller sent."""
    text = sent.decode("utf-8", "replace")
    for start in range(len(message) - MOST_QUOTED_CHARACTERS):
        assert message[start : start + MOST_QUOTED_CHARACTERS + 1] not in text


def assert_free(books: Books, label: str, status: int, code: str) -> Booked:
    """One record is kept of the refusal, nothing was charged for it, and nothing stays held."""
    booked = books.of_request(label)
    assert (booked.status, booked.error_code) == (status, code)
    assert (booked.charged_microcredits, booked.entries) == (0, ())
    assert "open" not in booked.states
    return booked


def headers_of(answer: httpx.Response) -> list[tuple[str, str]]:
    """All that does not depend on the moment."""
    return [(name, value) for name, value in answer.headers.multi_items() if name not in {"date", "x-request-id"}]
