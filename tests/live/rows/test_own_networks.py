"""Row 84 for an installation with public networks of its own: `OWN_NETWORKS` reaches what fetches images."""

from __future__ import annotations

import httpx
import pytest

from tests.live.gateway import Installation
from tests.live.rows.raw import chat
from tests.live.rows.refusals import assert_refused

OWN = "192.175.48.0/24"
"""Public, and a place where strangers' traffic goes to die (RFC 7535): were it not refused, nobody would be bothered."""


@pytest.mark.slow
@pytest.mark.parametrize("host", [pytest.param("192.175.48.1", id="row-84-own")])
def test_nothing_is_fetched_from_networks_of_our_own(installation: Installation, keys: dict[str, str], host: str):
    part = {"type": "image_url", "image_url": {"url": f"http://{host}/a.png"}}
    headers = {"authorization": f"Bearer {keys['acme']}", "content-type": "application/json"}
    with installation.server(OWN_NETWORKS=OWN) as server:
        answer = httpx.post(
            f"{server.base_url}/chat/completions",
            content=chat(messages=[{"role": "user", "content": [part]}]),
            headers=headers,
            timeout=20,
            trust_env=False,
        )
    assert_refused(answer, 400, "invalid_image_url", "messages[0].content[0].image_url.url")
