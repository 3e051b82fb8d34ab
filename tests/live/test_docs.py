"""The examples of the documentation, run as they stand on the page."""

from __future__ import annotations

import html
import re

import httpx
import pytest
from openai import OpenAI

from tests.live.answers import ask
from tests.live.gateway import Installation, Server


def examples(server: Server, page: str, mark: str) -> list[str]:
    """The texts of the code blocks of a page that bear this mark, with the address that readers see."""
    site = server.base_url.removesuffix("/v1")
    text = httpx.get(f"{site}/docs/{page}", trust_env=False).raise_for_status().text
    blocks = re.findall(rf"<pre [^>]*{mark}[^>]*>(.*?)</pre>", text, re.DOTALL)
    return [html.unescape(re.sub(r"<[^>]+>", "", block)) for block in blocks]


@pytest.mark.parametrize(
    ("page", "mark", "words"),
    [
        ("quickstart", 'id="q-python"', ["Hello"]),
        ("streaming", "data-runs", [r"\d+ tokens, [\d.e-]+ credits"]),
        ("tools", "data-runs", ["get_weather", "name.*age"]),
        ("idempotency", "data-runs", ["True"]),
    ],
)
def test_an_example_runs(server: Server, installation: Installation, monkeypatch, capsys, page, mark, words):
    monkeypatch.setenv("GATEWAY_API_KEY", installation.keys["acme"])
    found = examples(server, page, mark)
    assert len(found) == len(words)
    for code, expected in zip(found, words, strict=True):
        exec(compile(code, page, "exec"), {})  # noqa: S102 - it is our own page
        assert re.search(expected, capsys.readouterr().out, re.DOTALL), code


def test_a_receipt_is_verified_as_the_page_says(
    server: Server, client: OpenAI, installation: Installation, monkeypatch, capsys, tmp_path
):
    answer = ask(client, model="sandbox-echo")
    headers = {"authorization": f"Bearer {installation.keys['acme']}"}
    for name, path in (("receipt", f"generations/{answer.id}"), ("keys", "receipt-keys")):
        got = httpx.get(f"{server.base_url}/{path}", headers=headers, trust_env=False).raise_for_status()
        (tmp_path / f"{name}.json").write_bytes(got.content)
    monkeypatch.chdir(tmp_path)
    (code,) = examples(server, "receipts", "data-verifies")
    exec(compile(code, "receipts", "exec"), {})  # noqa: S102
    assert capsys.readouterr().out.startswith("valid: ")
