"""Ten things that can ail a network, before five things that the gateway depends on: what the client is told, what it pays.

After each the ledger is whole, nothing is held, and the gateway serves as before.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest

from tests.fakes import pdfs
from tests.fakes.launch import FakeProvider
from tests.fakes.network import (
    Bandwidth,
    BlackHole,
    Corrupt,
    Down,
    HalfClose,
    Latency,
    Limit,
    Reset,
    Slicer,
    SlowClose,
)
from tests.fakes.script import Script
from tests.live.catalog import cost
from tests.live.faults.siege import Siege
from tests.live.gateway import Server
from tests.live.rows.refusals import assert_refused
from tests.live.test_killing import charge_in
from tests.live.wire import WireClient

pytestmark = pytest.mark.slow

TEXT = "word " * 80
USAGE = {"prompt_tokens": 9, "completion_tokens": 80}
PROMPT = "Hello"
PROMPT_TOKENS = 2
BYTES_PER_TOKEN = 4
"""Of what was not counted by the provider: the prompt, and what was delivered."""
HEALED_WITHIN_S = 10.0
PDF = pdfs.of_pages(["One page."])

# What a toxic does, given after how many bytes of its answers a place is to break off.
TOXICS = {
    "latency": lambda _: Latency(0.15),
    "bandwidth": lambda _: Bandwidth(40_000),
    "slow-close": lambda _: SlowClose(0.3),
    "timeout": lambda _: BlackHole(),
    "reset": lambda _: Reset(),
    "slicer": lambda _: Slicer(),
    "limit": Limit,
    "down": lambda _: Down(),
    "corrupt": lambda _: Corrupt(),
    "half-close": HalfClose,
}
HARMLESS = {"latency", "bandwidth", "slow-close", "slicer"}
ENDS_EARLY = {"limit", "half-close"}


class Told(msgspec.Struct, frozen=True):
    """What a chat was answered: the code of an error stands in the body or in the last event of a stream."""

    status: int
    code: str
    text: str
    headers: dict[str, str]


def chat(client: httpx.Client, label: str, *parts: Any, stream: bool = False) -> Told:
    content = [{"type": "text", "text": PROMPT}, *parts]
    body = {"model": "alone", "messages": [{"role": "user", "content": content}], "stream": stream}
    answer = client.post("/chat/completions", json=body, headers={"x-request-id": label})
    headers = dict(answer.headers)
    if answer.status_code != 200:
        return Told(answer.status_code, answer.json()["error"]["code"], answer.text, headers)
    if not stream:
        return Told(200, "", answer.json()["choices"][0]["message"]["content"], headers)
    events = [event.removeprefix("data: ") for event in answer.text.split("\n\n") if event.startswith("data: ")]
    last = events.pop()
    chunks = [msgspec.json.decode(event) for event in events]
    text = "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])
    if last == "[DONE]":
        return Told(200, "", text, headers)
    return Told(200, msgspec.json.decode(last)["error"]["code"], text, headers)


@pytest.fixture(autouse=True)
def _willing(provider: FakeProvider) -> None:
    provider.script("alone", Script(text=TEXT, usage=USAGE))


@pytest.fixture(autouse=True)
def _quiet_after_each(siege: Siege, acme: httpx.Client) -> Iterator[None]:
    """The ledger is whole; the gateway serves, and counts with Redis, which it looks for once a second."""
    yield
    siege.assert_quiet()
    deadline = time.monotonic() + HEALED_WITHIN_S
    while (told := chat(acme, f"after-{uuid.uuid4()}")).status != 200 or "x-ratelimit-degraded" in told.headers:
        assert time.monotonic() < deadline, told
        time.sleep(0.1)


def assert_charged(siege: Siege, label: str, told: Told, model: str = "alone") -> None:
    """What the provider has counted; of a stream that was cut before it did, what was delivered."""
    with siege.books() as books:
        booked = books.of_request(label)
    delivered_tokens = -(-len(told.text) // BYTES_PER_TOKEN)
    expected = cost(model, PROMPT_TOKENS, delivered_tokens) if told.code else cost(model, *USAGE.values())
    assert (booked.charged_microcredits, booked.entry_microcredits) == (expected, expected)
    assert (booked.error_code, booked.states) == (told.code, ["settled"])
    assert booked.held_microcredits >= expected
    assert booked.end_state == ("cut" if told.code else "done")


def assert_free(siege: Siege, label: str, told: Told) -> None:
    """No answer, no charge; a record only where the database could be asked for one."""
    assert told.headers["x-credits-used"] == "0"
    with siege.books() as books:
        charged = books.rows("SELECT SUM(charged_microcredits) FROM billing_usagerecord WHERE request_id = %s", label)
    assert charged[0][0] in {None, 0}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("name", TOXICS)
def test_provider(siege: Siege, acme: httpx.Client, label: str, name: str, stream):
    with siege.networks["provider"].suffering(TOXICS[name](700)):
        told = chat(acme, label, stream=stream)
    if name in HARMLESS:
        assert (told.status, told.code, told.text) == (200, "", TEXT)
        assert_charged(siege, label, told)
    elif name in ENDS_EARLY and stream:
        assert (told.status, told.code) == (200, "upstream_error")
        assert TEXT.startswith(told.text)
        assert told.text
        assert_charged(siege, label, told)
    else:
        assert (told.status, told.code) == ((504, "upstream_timeout") if name == "timeout" else (502, "upstream_error"))
        assert_free(siege, label, told)


@pytest.mark.parametrize("name", TOXICS)
def test_database(siege: Siege, acme: httpx.Client, provider: FakeProvider, label: str, name: str):
    """No request is started unheld."""
    with siege.networks["database"].suffering(TOXICS[name](40)):
        told = chat(acme, label)
    if name in HARMLESS:
        assert (told.status, told.text) == (200, TEXT)
        assert_charged(siege, label, told)
    else:
        assert (told.status, told.code, told.headers["retry-after"]) == (503, "ledger_unavailable", "2")
        assert provider.requests() == []
        assert_free(siege, label, told)


@pytest.mark.parametrize("name", TOXICS)
def test_database_while_a_stream_ends(siege: Siege, fortress: Server, provider: FakeProvider, label: str, name: str):
    """What was delivered is paid when the database is back, and told as it was paid: the client waits for it."""
    provider.script("slow", Script(text="word " * 10, delay_between_s=0.03, usage=USAGE))
    body = {"model": "slow", "messages": [{"role": "user", "content": "Go on."}], "stream": True}
    with WireClient(fortress.port, siege.keys["acme"], body, x_request_id=label) as client:
        client.read_head()
        client.read_contents(1)
        with siege.networks["database"].suffering(TOXICS[name](40)):
            assert client.read_contents(9) == ["word "] * 9
            time.sleep(0.3)
        events = client.read_rest()
    assert events[-1] == b"data: [DONE]"
    assert charge_in(events[-2].removeprefix(b"data: ")) == cost("slow", *USAGE.values())
    assert_charged(siege, label, Told(200, "", "word " * 10, {}), "slow")


@pytest.mark.parametrize("name", TOXICS)
def test_redis(siege: Siege, acme: httpx.Client, label: str, name: str):
    """Nothing fails; who counts is told."""
    # A latency is beyond the deadline of an exchange, which no request waits longer for.
    is_harmless = name in HARMLESS - {"latency"}
    with siege.networks["redis"].suffering(TOXICS[name](2)):
        told = chat(acme, label)
        is_degraded = "x-ratelimit-degraded" in told.headers
        deadline_s = time.monotonic() + HEALED_WITHIN_S
        while is_harmless and is_degraded and time.monotonic() < deadline_s:  # a busy machine misses it, too
            time.sleep(0.2)
            is_degraded = "x-ratelimit-degraded" in chat(acme, f"{label}-again").headers
    assert (told.status, told.text) == (200, TEXT)
    assert is_degraded == (not is_harmless)
    assert_charged(siege, label, told)


@pytest.mark.parametrize("name", TOXICS)
def test_store(siege: Siege, acme: httpx.Client, label: str, name: str):
    """An upload is there or it is not; a request that needs a file waits no longer than the store is given."""
    kept = upload(acme, PDF).json()["id"]
    before = used(acme)
    with siege.networks["store"].suffering(TOXICS[name](20)):
        uploaded = upload(acme, PDF)
        told = chat(acme, label, {"type": "file", "file": {"file_id": kept}})
    if name in HARMLESS:
        assert uploaded.status_code == 200
        assert acme.get(f"/files/{uploaded.json()['id']}/content").content == PDF
        assert (told.status, told.text) == (200, TEXT)
        assert_charged(siege, label, told)
    else:
        assert_refused(uploaded, 503, "storage_unavailable")
        assert used(acme) == before
        assert (told.status, told.code) == (503, "storage_unavailable")
        assert_free(siege, label, told)


@pytest.mark.parametrize("name", TOXICS)
def test_image_host(siege: Siege, acme: httpx.Client, provider: FakeProvider, label: str, name: str):
    with siege.networks["images"].suffering(TOXICS[name](60)):
        told = chat(acme, label, {"type": "image_url", "image_url": {"url": siege.image_url}})
    if name in HARMLESS:
        assert (told.status, told.text) == (200, TEXT)
        assert_charged(siege, label, told)
    else:
        assert (told.status, told.code) == (400, "image_fetch_failed")
        assert provider.requests() == []
        assert_free(siege, label, told)


def upload(client: httpx.Client, data: bytes) -> httpx.Response:
    return client.post("/files", data={"purpose": "user_data"}, files={"file": ("a.pdf", data)})


def used(client: httpx.Client) -> tuple[str, str]:
    headers = client.get("/files").headers
    return headers["x-files-used"], headers["x-storage-used-bytes"]
