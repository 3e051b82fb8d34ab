"""People who use the gateway while something is done to it: threads that ask one thing after the other, and note every answer.

A label stands in the message of each request, too, so that what the provider saw can be held against the books.
"""

from __future__ import annotations

import random
import re
import threading
import uuid
from types import TracebackType
from typing import Any, Self

import httpx
import msgspec

from tests.fakes.launch import FakeProvider
from tests.fakes.script import Script
from tests.live.books import Books
from tests.live.faults.siege import Siege
from tests.live.test_killing import charge_in

LABELLED = re.compile(rb"traffic-[0-9a-f-]{36}")
TIMEOUT_S = 60.0
PAUSE_S = 0.05
"""Between an answer and the next request: the load is to be there, not to take the machine."""
WORD = f"{'abcdefg' * 9} "
SCRIPTS = {
    "main": Script(text=WORD, delay_first_s=0.05),
    "slow": Script(text=WORD * 12, delay_between_s=0.03),
    "metered": Script(text=WORD * 200, delay_between_s=0.001),  # takes further holds as it flows
}


class Answered(msgspec.Struct, frozen=True):
    """One request. `status` 0: the connection ended before an answer, or in the middle of one.

    `told_microcredits` is its charge as the client knows it, None where it was not told; `code` is that of an error, also of
    one in a stream.
    """

    label: str
    status: int
    code: str = ""
    told_microcredits: int | None = None
    headers: dict[str, str] = {}
    fault: str = ""

    @property
    def is_whole(self) -> bool:
        return self.told_microcredits is not None


class Traffic:
    """Runs while the block does; `answers` is complete when it has ended."""

    def __init__(self, port: int, key: str, *, people: int = 8, parts: tuple[Any, ...] = (), seed: int = 0) -> None:
        self._base_url = f"http://127.0.0.1:{port}/v1"
        self._key = key
        self._parts = parts
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._use, args=[random.Random(seed + number)]) for number in range(people)]
        self.answers: list[Answered] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def _use(self, choices: random.Random) -> None:
        headers = {"authorization": f"Bearer {self._key}"}
        with httpx.Client(base_url=self._base_url, headers=headers, timeout=TIMEOUT_S, trust_env=False) as client:
            while not self._is_over.is_set():
                answered = self._ask(client, choices)
                self.answers.append(answered)
                self._is_over.wait(choices.uniform(0, 2 * PAUSE_S) if answered.status == 200 else 2 * PAUSE_S)

    def _ask(self, client: httpx.Client, choices: random.Random) -> Answered:
        label, model, stream = f"traffic-{uuid.uuid4()}", choices.choice(list(SCRIPTS)), choices.random() < 0.7
        stream = stream or model == "metered"
        content: list[Any] = [{"type": "text", "text": label}]
        if self._parts and model != "metered":
            content += choices.choices([*self._parts, None], k=1)
        content = [part for part in content if part is not None]
        body = {
            "model": model,
            "messages": [{"role": "user", "content": content}],
            "stream": stream,
            "max_tokens": 50_000 if model == "metered" else 400,
        }
        try:
            answer = client.post("/chat/completions", json=body, headers={"x-request-id": label})
        except httpx.TransportError as fault:
            return Answered(label, 0, fault=repr(fault))
        headers = dict(answer.headers)
        if answer.status_code != 200:
            return Answered(label, answer.status_code, answer.json()["error"]["code"], None, headers)
        if not stream:
            return Answered(label, 200, "", charge_in(answer.content), headers)
        *_, before, last, rest = answer.content.split(b"\n\n")
        assert rest == b"", "a stream ends with an event"
        if last == b"data: [DONE]":
            return Answered(label, 200, "", charge_in(before.removeprefix(b"data: ")), headers)
        return Answered(label, 200, msgspec.json.decode(last.removeprefix(b"data: "))["error"]["code"], None, headers)


def script(provider: FakeProvider) -> None:
    """What the models of the traffic answer; what the provider has seen before is forgotten."""
    provider.reset()
    for model, one in SCRIPTS.items():
        provider.script(model, one)


def assert_accounted_for(siege: Siege, answers: list[Answered]) -> None:
    """Nobody was told a charge that is not booked, and nobody's provider was called for without a hold."""
    with siege.books() as books:
        charges = dict(_rows(books, "SELECT request_id, charged_microcredits FROM billing_usagerecord"))
        generations = dict(_rows(books, "SELECT request_id, generation FROM billing_usagerecord"))
        held = {generation for (generation,) in books.rows("SELECT DISTINCT generation FROM billing_hold")}
    told = {answered.label: answered.told_microcredits for answered in answers if answered.is_whole}
    assert told
    assert {label: charges.get(label) for label in told} == told
    called = {label.decode() for seen in siege.provider.requests() for label in LABELLED.findall(seen.body)}
    assert called >= told.keys()
    assert [label for label in called if generations.get(label) not in held] == []


def _rows(books: Books, query: str) -> list[tuple[Any, Any]]:
    return [(first, second) for first, second in books.rows(query)]
