"""The examples of the documentation, run as they stand on the page."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess

import httpx
import pytest
from openai import OpenAI

from chat.console import endpoints
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


# What an answer to this route tells the examples that follow, as a reader would copy it.
TOLD = {
    "get-workspaces": "WORKSPACE",
    "post-keys": "KEY",
    "post-key-roll": "KEY",
    "get-members": "MEMBER",  # the newest, who is not the owner
    "post-presets": "PRESET",
}


@pytest.mark.slow
def test_the_examples_of_the_management_api_run_one_after_the_other(server: Server, installation: Installation, tmp_path):
    key = installation.run("-m", "tests.live.manager").strip()
    installation.keys["manager"] = key  # which no log may hold
    (tmp_path / ".curlrc").write_text("fail-with-body\nsilent\nshow-error\nnoproxy = *\n")
    shell = {**os.environ, "CURL_HOME": str(tmp_path), "GATEWAY_MANAGEMENT_KEY": key}

    def run(code: str) -> dict[str, object]:
        done = subprocess.run(["bash", "-c", code], env=shell, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, f"{code}\n{done.stdout}{done.stderr}"
        answer: dict[str, object] = json.loads(done.stdout)
        return answer

    routes = [one.at for _, group in endpoints.list_groups() for one in group]
    codes = {route: examples(server, "management", f'data-route="{route}"') for route in routes}
    # As they stand on the page: what is looked at was made before.
    for route in routes:
        (code,) = codes[route]
        answer = run(code)
        if route in TOLD:
            shell[TOLD[route]] = str(answer["data"][0]["id"] if "data" in answer else answer["id"])  # type: ignore[index]
        if route == "post-keys":
            assert run(code) == answer, "the key that a repeat makes is the first one"
            (listing,) = examples(server, "management", "data-lists")
            assert run(listing)["object"] == "list"
    assert run(codes["get-key-detail"][0])["state"] == "revoked"
    assert run(codes["get-preset"][0])["maxTokensDaily"] == 5_000_000
