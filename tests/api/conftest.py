"""What tests of several doors share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client

from tests import described


@pytest.fixture
def forgotten_attempts(settings: Any) -> Iterator[None]:
    """No attempts at signing in are remembered, and passwords cost a test nothing."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    cache.clear()
    yield
    cache.clear()


@pytest.fixture(autouse=True)
def _as_described(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every answer that a test gets is as `/openapi.json` says."""
    ask = Client.request

    def request(self: Client, **told: Any) -> Any:
        response: Any = ask(self, **told)
        if told["REQUEST_METHOD"] != "HEAD" and not response.streaming:
            kind = response.get("content-type", "")
            described.check(told["REQUEST_METHOD"], told["PATH_INFO"], response.status_code, kind, response.content)
        return response

    monkeypatch.setattr(Client, "request", request)
