"""People who use the gateway while something is done to it: threads that ask one thing after the other, and note every answer.

A label stands in the message of each request, too, so that what the provider saw can be held against the books.
"""

from __future__ import annotations

import random
import re
import threading
import time
import uuid
from decimal import Decimal
from types import TracebackType
from typing import Any, Self

import httpx
import msgspec

from tests.fakes.launch import FakeProvider
from tests.fakes.script import Script
from tests.live.books import Books
from tests.live.catalog import cost
from tests.live.test_killing import charge_in

LABELLED = re.compile(rb"traffic-[0-9a-f-]{36}")
BYTES_PER_TOKEN = 4
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
    one in a stream, which had delivered so many bytes of text by then. Times are monotonic.
    """

    label: str
    status: int
    code: str = ""
    told_microcredits: int | None = None
    headers: dict[str, str] = {}
    fault: str = ""
    delivered_bytes: int = 0
    asked_s: float = 0.0
    answered_s: float = 0.0

    @property
    def is_whole(self) -> bool:
        return self.told_microcredits is not None


class Traffic:
    """Runs while the block does; `answers` is complete when it has ended.

    One of `parts` goes with a request every `parts_every_s`: images of one host are fetched sixty times a minute at most.
    """

    def __init__(
        self,
        port: int,
        key: str,
        *,
        people: int = 8,
        parts: tuple[Any, ...] = (),
        parts_every_s: float = 1.5,
        seed: int = 0,
    ) -> None:
        self._base_url = f"http://127.0.0.1:{port}/v1"
        self._key = key
        self._parts = parts
        self._parts_every_s = parts_every_s
        self._part_due_s = 0.0
        self._lock = threading.Lock()
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
                asked_s = time.monotonic()
                answered = self._ask(client, choices)
                self.answers.append(msgspec.structs.replace(answered, asked_s=asked_s, answered_s=time.monotonic()))
                self._is_over.wait(choices.uniform(0, 2 * PAUSE_S) if answered.status == 200 else 2 * PAUSE_S)

    def _ask(self, client: httpx.Client, choices: random.Random) -> Answered:
        label, model, stream = f"traffic-{uuid.uuid4()}", choices.choice(list(SCRIPTS)), choices.random() < 0.7
        stream = stream or model == "metered"
        content: list[Any] = [{"type": "text", "text": label}]
        if self._parts and model != "metered":
            content += self._part(choices)
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
        *events, last, rest = answer.content.split(b"\n\n")
        assert rest == b"", "a stream ends with an event"
        if last == b"data: [DONE]":
            return Answered(label, 200, "", charge_in(events[-1].removeprefix(b"data: ")), headers)
        code = msgspec.json.decode(last.removeprefix(b"data: "))["error"]["code"]
        return Answered(label, 200, code, None, headers, delivered_bytes=text_bytes(events))

    def _part(self, choices: random.Random) -> list[Any]:
        with self._lock:
            if (now_s := time.monotonic()) < self._part_due_s:
                return []
            self._part_due_s = now_s + self._parts_every_s
        return [choices.choice(self._parts)]


def text_bytes(events: list[bytes]) -> int:
    """Of the text in some events of a stream, among which may be comments."""
    chunks = [msgspec.json.decode(event.removeprefix(b"data: ")) for event in events if event.startswith(b"data: ")]
    return sum(len((choice["delta"].get("content") or "").encode()) for chunk in chunks for choice in chunk["choices"])


def script(provider: FakeProvider) -> None:
    """What the models of the traffic answer; what the provider has seen before is forgotten."""
    provider.reset()
    for model, one in SCRIPTS.items():
        provider.script(model, one)


class Account(msgspec.Struct, frozen=True):
    """What the database knows of one request when it is over."""

    charged_microcredits: int
    model: str
    prompt_tokens: int
    usage_source: str
    end_state: str
    error_code: str
    entry_microcredits: int
    held_microcredits: int
    expired_holds: int
    holds: int


_ACCOUNTS = """
SELECT request_id, charged_microcredits, model_used, prompt_tokens, usage_source, end_state, error_code,
    (SELECT COALESCE(SUM(amount_microcredits), 0) FROM billing_entry e WHERE e.kind = 'usage' AND e.generation = r.generation),
    COALESCE(h.held, 0), COALESCE(h.expired, 0), COALESCE(h.holds, 0)
FROM billing_usagerecord r LEFT JOIN (
    SELECT generation, SUM(amount_microcredits) held, COUNT(*) holds, SUM(CASE state WHEN 'expired' THEN 1 ELSE 0 END) expired
    FROM billing_hold GROUP BY generation
) h ON h.generation = r.generation
"""


def assert_accounted_for(books: Books, provider: FakeProvider, answers: list[Answered]) -> None:
    """Who was told a charge pays it, who got a part of a stream pays that, and who got nothing pays nothing.

    And nobody's provider was called for without a hold, nor one that ran out before the request was booked: what is settled
    then is free.
    """
    accounts = {label: Account(*map(_plain, row)) for label, *row in books.rows(_ACCOUNTS) if label.startswith("traffic-")}
    assert any(answered.is_whole for answered in answers)
    for answered in answers:
        account = accounts.get(answered.label)
        if answered.status:
            assert_charged(answered, account)
    called = {label.decode() for seen in provider.requests() for label in LABELLED.findall(seen.body)}
    assert called >= {answered.label for answered in answers if answered.is_whole}
    assert [label for label in called if label not in accounts or not accounts[label].holds] == []
    assert [label for label in called if accounts[label].expired_holds] == []


def assert_charged(answered: Answered, account: Account | None) -> None:
    if account is None:
        # A record of what cost nothing is kept if the database can be asked for it.
        assert answered.status >= 400, answered
        return
    assert account.entry_microcredits == account.charged_microcredits <= account.held_microcredits, (answered, account)
    assert account.charged_microcredits == expected_microcredits(answered, account), (answered, account)
    assert account.error_code == answered.code, (answered, account)


def expected_microcredits(answered: Answered, account: Account) -> int:
    """Of a stream that ended early: the prompt, and what the client got of the text.

    Tokens are a quarter of its bytes, or its words where the provider had counted them before the end.
    """
    if answered.told_microcredits is not None:
        return answered.told_microcredits
    if not answered.delivered_bytes:
        return 0
    assert account.prompt_tokens > 0, (answered, account)
    is_counted = account.usage_source == "reported"
    tokens = answered.delivered_bytes // len(WORD) if is_counted else -(-answered.delivered_bytes // BYTES_PER_TOKEN)
    return cost(account.model, account.prompt_tokens, tokens)


def _plain(value: Any) -> Any:
    """Sums are decimals on PostgreSQL."""
    return int(value) if isinstance(value, Decimal) else value
