"""The charge table of the ledger: every row, in both modes, against what is booked.

Where only a stream can end as the row says, the other mode shows what the same behaviour comes to there. The row of PDF
conversion is in `test_pdf.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx
import msgspec
import pytest

from tests.fakes.launch import FakeProvider
from tests.fakes.script import Script
from tests.live.catalog import cost
from tests.live.gateway import Installation, Server
from tests.live.sweeps import wait_until_swept
from tests.live.wire import WireClient

PROMPT = "Tell me everything."
PROMPT_TOKENS = 5
WORD = "abcdefg "
WORD_TOKENS = 2
REPORTED_TOKENS = (50, 500)
USAGE = dict(zip(("prompt_tokens", "completion_tokens"), REPORTED_TOKENS, strict=True))
WORKING = Script(text=WORD * 3, usage=USAGE)
ERROR_IN_200 = msgspec.json.encode({"error": {"message": "Broken.", "type": "server_error", "code": None}})


class Ask(msgspec.Struct, frozen=True):
    """One request of a row, and who answers it."""

    installation: Installation
    server: Server
    provider: FakeProvider
    label: str
    key: str
    body: dict[str, Any]

    def post(self, *, label: str = "", query: str = "", **headers: str) -> int:
        """The status of the whole answer."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()} | {
            "authorization": f"Bearer {self.key}",
            "x-request-id": label or self.label,
        }
        url = f"{self.server.base_url}/chat/completions{query}"
        return httpx.post(url, json=self.body, headers=headers, timeout=20, trust_env=False).status_code

    def connect(self, server: Server) -> WireClient:
        return WireClient(server.port, self.key, self.body, x_request_id=self.label)

    def wait_until_heard(self, client: WireClient, words: int) -> None:
        """Until so many words of a stream have come, or without any until the provider is at work."""
        if words and self.body["stream"]:
            client.read_head()
            assert client.read_contents(words) == [WORD] * words
        else:
            self.provider.wait_for(lambda requests: len(requests) == 1)


def stays(ask: Ask) -> int:
    return ask.post()


def leaves_after(words: int) -> Callable[[Ask], int]:
    def leaves(ask: Ask) -> int:
        with ask.connect(ask.server) as client:
            ask.wait_until_heard(client, words)
            client.leave(by_reset=True)
        ask.provider.wait_for(lambda requests: all(seen.closed_s for seen in requests))
        return 0

    return leaves


def asks_for_a_quote(ask: Ask) -> int:
    return ask.post(query="?dry_run=true")


def repeats(ask: Ask) -> int:
    """The answer of the second time; the first is what is booked."""
    assert ask.post(idempotency_key=ask.label) == 200
    again = ask.post(idempotency_key=ask.label, label=f"{ask.label}-again")
    replayed = ask.installation.books.of_request(f"{ask.label}-again")
    assert (replayed.end_state, replayed.charged_microcredits, replayed.holds) == ("replayed", 0, ())
    return again


def sees_the_gateway_die(ask: Ask) -> int:
    """Killed while it answers; another process gives back what it held, when the lease is over and not before."""
    hasty = ask.installation
    expired = hasty.books.count_holds("expired")
    with hasty.server() as server, ask.connect(server) as client:
        ask.wait_until_heard(client, 3)
        assert hasty.books.count_holds("open") == 1
        server.kill()
        killed_s = time.monotonic()
    with hasty.server():
        wait_until_swept(hasty.books, killed_s=killed_s, served_s=time.monotonic())
    assert hasty.books.count_holds("expired") == expired + 1
    return 0


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How one mode ends: what the client is answered (0: nobody is there to hear it), and what is booked."""

    script: dict[str, Script] = msgspec.field(default_factory=lambda: {"alone": WORKING})
    answered: int = 200
    booked: tuple[int, str, str] | None
    """Status, end and error of the record; None for no record at all."""
    charged: int = 0
    states: list[str] = []
    models_called: tuple[str, ...] = ("alone",)


def served(charged: int, **fields: Any) -> Ending:
    return Ending(booked=(200, "done", ""), charged=charged, states=["settled"], **fields)


def failed(status: int, code: str, **fields: Any) -> Ending:
    return Ending(answered=status, booked=(status, "failed", code), states=["voided"], **fields)


def refused(status: int, code: str) -> Ending:
    return Ending(answered=status, booked=(status, "refused", code), models_called=())


def cut(charged: int, script: Script) -> Ending:
    return Ending(booked=(200, "cut", "upstream_error"), charged=charged, states=["settled"], script={"alone": script})


def left(status: int, error_code: str, charged: int, script: Script) -> Ending:
    states = ["settled" if charged else "voided"]
    booked = (status, "client_gone", error_code)
    return Ending(answered=0, booked=booked, charged=charged, states=states, script={"alone": script})


def unbooked(answered: int, *models_called: str, **fields: Any) -> Ending:
    return Ending(answered=answered, booked=None, models_called=models_called, **fields)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One row. `does` is what the client does or sees."""

    whole: Ending
    stream: Ending
    model: str = "alone"
    key: str = "acme"
    fields: dict[str, Any] = {}
    does: Callable[[Ask], int] = stays


def both(ending: Ending, **fields: Any) -> Row:
    return Row(whole=ending, stream=ending, **fields)


REPORTED = cost("alone", *REPORTED_TOKENS)
THREE_WORDS = cost("alone", PROMPT_TOKENS, 3 * WORD_TOKENS)
SPEAKING = Script(text=WORD * 9, hang_after=4)  # the role and three words
CHAIN_FAILS = {"first": Script(status=429), "second": Script(status=500), "third": Script(cut_head=True)}

TABLE = {
    "refused-as-a-bad-request": both(refused(400, "out_of_range"), fields={"temperature": 9}),
    "refused-for-its-model": both(refused(404, "model_not_found"), model="nothing"),
    "refused-for-want-of-credit": both(refused(402, "insufficient_credits"), key="broke"),
    "every-attempt-failed": both(
        failed(429, "upstream_rate_limited", script=CHAIN_FAILS, models_called=("first", "second", "third")), model="first"
    ),
    "success": both(served(REPORTED)),
    "success-without-text": both(served(REPORTED, script={"alone": Script(text="", usage=USAGE)})),
    "success-without-a-figure": both(served(THREE_WORDS, script={"alone": Script(text=WORD * 3, usage=None)})),
    "success-after-a-failed-attempt": both(
        served(
            cost("second", *REPORTED_TOKENS),
            script={"first": Script(status=500), "second": WORKING},
            models_called=("first", "second"),
        ),
        model="first",
    ),
    "an-error-after-content": Row(
        whole=failed(502, "upstream_error", script={"alone": Script(body=ERROR_IN_200)}),
        stream=cut(THREE_WORDS, Script(text=WORD * 9, error_after=4)),
    ),
    "a-cut-after-content": Row(
        whole=failed(502, "upstream_error", script={"alone": Script(text=WORD * 9, cut_after_bytes=300)}),
        stream=cut(THREE_WORDS, Script(text=WORD * 9, cut_after=4)),
    ),
    "the-client-left": Row(
        whole=left(499, "client_gone", 0, Script(text=WORD * 9, hang="body")),
        stream=left(200, "", THREE_WORDS, SPEAKING),
        does=leaves_after(3),
    ),
    "the-client-left-before-content": both(left(499, "client_gone", 0, Script(hang="head")), does=leaves_after(0)),
    "the-gateway-crashed": Row(
        whole=unbooked(0, "alone", script={"alone": Script(hang="body")}),
        stream=unbooked(0, "alone", script={"alone": SPEAKING}),
        does=sees_the_gateway_die,
    ),
    "dry-run": both(Ending(booked=(200, "dry_run", ""), models_called=()), does=asks_for_a_quote),
    "replay": both(served(REPORTED), does=repeats),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("row", "mode"),
    [pytest.param(row, mode, id=f"{name}-{mode}") for name, row in TABLE.items() for mode in ("whole", "stream")],
)
def test_the_charge(
    installation: Installation,
    server: Server,
    hasty: Installation,
    provider: FakeProvider,
    label: str,
    row: Row,
    mode: str,
):
    ending: Ending = getattr(row, mode)
    for name, script in ending.script.items():
        provider.script(name, script)
    place = hasty if row.does is sees_the_gateway_die else installation
    messages = [{"role": "user", "content": PROMPT}]
    body = {"model": row.model, "messages": messages, "stream": mode == "stream", **row.fields}
    charged_before = place.books.charged_microcredits()
    answered = row.does(Ask(place, server, provider, label, place.keys[row.key], body))
    assert answered == ending.answered
    if ending.booked is None:
        assert place.books.count(label) == 0
    else:
        booked = place.books.of_request(label)
        assert (booked.status, booked.end_state, booked.error_code) == ending.booked
        assert (booked.charged_microcredits, booked.entry_microcredits) == (ending.charged, ending.charged)
        assert booked.states == ending.states
        assert sum(hold.settled_microcredits for hold in booked.holds) == ending.charged <= booked.held_microcredits
    assert place.books.charged_microcredits() - charged_before == ending.charged
    assert place.books.count_holds("open") == 0
    assert tuple(seen.json["model"] for seen in provider.requests()) == ending.models_called
