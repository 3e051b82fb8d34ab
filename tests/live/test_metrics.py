"""`GET /metrics` of a server with several workers: whichever is asked answers for all of them."""

from __future__ import annotations

import re

import httpx
import pytest

from tests.fakes import pdfs
from tests.fakes.launch import FakeProvider
from tests.live.gateway import Installation
from tests.live.test_pdf import about, fresh, inline

ASKED = 12


@pytest.mark.slow
def test_workers_count_together(installation: Installation, keys: dict[str, str], provider: FakeProvider):
    part = inline(fresh(pdfs.of_pages(["Counted", "Twice"])))
    body = {"model": "listening", "messages": about(part)}
    headers = {"authorization": f"Bearer {keys['acme']}"}
    with installation.server(workers=2, METRICS_TOKEN="figures") as server:
        root = server.base_url.removesuffix("/v1")
        for _ in range(ASKED):  # each on a connection of its own, so that both workers get some
            answer = httpx.post(f"{server.base_url}/chat/completions", json=body, headers=headers, timeout=30, trust_env=False)
            assert answer.status_code == 200
        told = [httpx.get(f"{root}/metrics", timeout=30, trust_env=False).text for _ in range(6)]
        proxied = {"x-forwarded-for": "203.0.113.9"}
        assert httpx.get(f"{root}/metrics", headers=proxied, trust_env=False).status_code == 403
        token = proxied | {"authorization": "Bearer figures"}
        assert httpx.get(f"{root}/metrics", headers=token, trust_env=False).status_code == 200
    for text in told:
        found = re.findall(r'gateway_pdf_conversions_total\{form="text",result="(\w+)"\} (\d+)\.0', text)
        assert dict(found) == {"made": "1", "kept": str(ASKED - 1)}
        assert re.search(r"^gateway_pdf_pages_new_total 2\.0$", text, re.MULTILINE)
