"""What tests of several doors share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.cache import cache


@pytest.fixture
def forgotten_attempts(settings: Any) -> Iterator[None]:
    """No attempts at signing in are remembered, and passwords cost a test nothing."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    cache.clear()
    yield
    cache.clear()
