"""A chain of three in every way it can go: what the client is told, who was asked, and that only who served is paid."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import openai
import pytest
from openai import OpenAI

from tests.fakes.launch import FakeProvider
from tests.fakes.script import Script
from tests.live.answers import ask, assert_booked
from tests.live.books import Books
from tests.live.catalog import PRICES

CHAIN = ("first", "second", "third")
USAGE = {"prompt_tokens": 7, "completion_tokens": 3}

SERVES = Script(text="Served.", usage=USAGE)
FAILS = (Script(status=500), Script(status=429, headers={"retry-after": "9"}), Script(cut_head=True, cut_with="rst"))
"""How each model of the chain fails."""
REFUSES = Script(status=400)
"""The request itself is at fault: nobody else is asked."""


class Told(msgspec.Struct, frozen=True):
    """What has to come of a pattern. `depth` is of the model that answers; `asked` are the models that are called."""

    status: int
    code: str
    depth: int
    asked: tuple[str, ...]


def told_of(pattern: tuple[str, ...]) -> Told:
    codes = {"fails": "upstream_error", "refuses": "upstream_rejected_request"}
    last = next((depth for depth, what in enumerate(pattern) if what != "fails"), len(CHAIN) - 1)
    asked = CHAIN[: last + 1]
    if pattern[last] == "serves":
        return Told(200, "", last, asked)
    return Told(502 if pattern[0] == "fails" else 400, codes[pattern[0]], last, asked)


PATTERNS = list(itertools.product(("serves", "fails", "refuses"), repeat=len(CHAIN)))


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("pattern", PATTERNS, ids=map("-".join, PATTERNS))
def test_every_pattern_of_a_chain_of_three(
    client: OpenAI, provider: FakeProvider, books: Books, label: str, pattern: tuple[str, ...], stream
):
    for depth, what in enumerate(pattern):
        provider.script(CHAIN[depth], {"serves": SERVES, "fails": FAILS[depth], "refuses": REFUSES}[what])
    told = told_of(pattern)
    headers: Any = {"x-request-id": label}
    if told.status == 200:
        answer = ask(client, model="first", stream=stream, extra_headers=headers)
        assert (answer.text, answer.model, answer.extra) == ("Served.", CHAIN[told.depth], {})
        assert_headers(answer.headers, told, used=CHAIN[told.depth])
        booked = assert_booked(books, answer)
        input_microcredits, output_microcredits = PRICES[CHAIN[told.depth]]
        assert booked.entry_microcredits == 7 * input_microcredits + 3 * output_microcredits
        assert (booked.status, booked.end_state, booked.fallback_depth) == (200, "done", told.depth)
    else:
        with pytest.raises(openai.APIStatusError) as caught:
            ask(client, model="first", stream=stream, extra_headers=headers)
        assert (caught.value.status_code, caught.value.code) == (told.status, told.code)
        assert_headers(dict(caught.value.response.headers), told, used=None)
        assert caught.value.response.headers["x-credits-used"] == "0"
        booked = books.of_request(label)
        assert (booked.charged_microcredits, booked.entries) == (0, ())
        assert set(booked.states) == {"voided"}
        assert (booked.status, booked.error_code) == (told.status, told.code)
    assert len(booked.results) == len(told.asked)
    assert tuple(seen.json["model"] for seen in provider.requests()) == told.asked


def assert_headers(headers: dict[str, str], told: Told, *, used: str | None) -> None:
    assert headers.get("x-model-used") == used
    expected = (CHAIN[0], str(told.depth)) if told.depth else (None, None)
    assert (headers.get("x-fallback-from"), headers.get("x-fallback-depth")) == expected
    assert headers["x-request-id"]
