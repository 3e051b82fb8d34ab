"""As many open files as the system allows: each stream takes two, and a shell's usual limit would end at five hundred streams."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import psutil
import pytest

from tests.live.gateway import Installation


@pytest.fixture
def low_limit() -> Iterator[int]:
    """What is started now may open few files, and could ask for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, hard), hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_server_asks_for_what_it_may_have(hasty: Installation, low_limit: int):
    with hasty.server() as server:
        soft, hard = psutil.Process(server.pid).rlimit(psutil.RLIMIT_NOFILE)
    assert hard == low_limit
    assert soft == (65_536 if low_limit == resource.RLIM_INFINITY else min(low_limit, 65_536))
