"""As many open files as the system allows: each stream takes two, and a shell's usual limit would end at five hundred streams."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import httpx
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


@pytest.mark.slow
def test_a_server_asks_for_what_it_may_have(hasty: Installation, low_limit: int):
    with hasty.server(LOG_LEVEL="info") as server:  # not forked by what was started before
        soft, hard = psutil.Process(server.pid).rlimit(psutil.RLIMIT_NOFILE)
    assert hard == low_limit
    assert soft == (65_536 if low_limit == resource.RLIM_INFINITY else min(low_limit, 65_536))


@pytest.mark.slow
def test_requests_leave_no_connection_to_the_database(installation: Installation):
    """Each has a thread of its own, and the collector of garbage is not waited for."""
    with installation.server() as server:
        process = psutil.Process(server.pid)
        headers = {"authorization": f"Bearer {installation.keys['acme']}"}
        with httpx.Client(base_url=server.base_url, headers=headers, trust_env=False) as client:
            assert [client.get("/usage").status_code for _ in range(5)] == [200] * 5
            before = process.num_fds()
            assert [client.get("/usage").status_code for _ in range(60)] == [200] * 60
            assert process.num_fds() <= before + 10  # chores have connections of their own, now and then
