"""Exact arithmetic of money."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.pricing import (
    MAX_MICROCREDITS,
    AmountError,
    PriceList,
    Usage,
    bound,
    cost,
    credits_text,
    dearest_input,
    dearest_output,
    microcredits,
)

PRICES = PriceList(
    1, input=250, output=1000, cached_input=125, cache_write=300, audio_input=400, reasoning=2000, pdf_page=200_000
)

prices = st.builds(
    PriceList,
    st.just(1),
    *[st.integers(0, 10**9)] * 6,
    pdf_page=st.integers(0, 10**9),
)


@st.composite
def usages(draw):
    parts = [draw(st.integers(0, 10**7)) for _ in range(6)]
    plain, cached, written, audio, text, reasoning = parts
    return Usage(
        prompt_tokens=plain + cached + written + audio,
        completion_tokens=text + reasoning,
        cached_tokens=cached,
        cache_write_tokens=written,
        audio_tokens=audio,
        reasoning_tokens=reasoning,
    )


def exact(usage, prices):
    plain_input = usage.prompt_tokens - usage.cached_tokens - usage.cache_write_tokens - usage.audio_tokens
    return Fraction(
        plain_input * prices.input
        + usage.cached_tokens * prices.cached_input
        + usage.cache_write_tokens * prices.cache_write
        + usage.audio_tokens * prices.audio_input
        + (usage.completion_tokens - usage.reasoning_tokens) * prices.output
        + usage.reasoning_tokens * prices.reasoning,
        10**6,
    )


@given(usages(), prices, st.integers(0, 1000))
def test_tokens_are_summed_first_and_rounded_once_upwards(usage, prices, pages):
    total = cost(usage, prices, pdf_pages=pages).total_microcredits - pages * prices.pdf_page
    assert 0 <= total - exact(usage, prices) < 1


@given(usages(), prices, st.integers(0, 1000))
def test_lines_sum_to_the_cost(usage, prices, pages):
    charge = cost(usage, prices, pdf_pages=pages)
    assert sum(line.amount_microcredits for line in charge.lines) == charge.total_microcredits
    assert all(line.amount_microcredits >= 0 for line in charge.lines)
    assert [line.kind for line in charge.lines if line.quantity == 0] == []


@given(usages(), prices, st.integers(0, 1000))
def test_the_bound_is_never_below_the_cost(usage, prices, pages):
    charge = cost(usage, prices, pdf_pages=pages).total_microcredits
    assert charge <= bound(usage.prompt_tokens, usage.completion_tokens, prices, pdf_pages=pages)


def test_a_receipt_by_class():
    usage = Usage(
        prompt_tokens=1000,
        completion_tokens=500,
        cached_tokens=300,
        cache_write_tokens=100,
        audio_tokens=50,
        reasoning_tokens=200,
    )
    charge = cost(usage, PRICES, pdf_pages=2)
    lines = {line.kind: (line.quantity, line.unit_price_microcredits, line.amount_microcredits) for line in charge.lines}
    assert lines == {
        "input": (550, 250, 0),
        "cached_input": (300, 125, 0),
        "cache_write": (100, 300, 0),
        "audio_input": (50, 400, 0),
        "output": (300, 1000, 0),
        "reasoning": (200, 2000, 0),
        "pdf_page": (2, 200_000, 400_000),
        "rounding": (1, 1, 1),
    }
    assert charge.total_microcredits == 400_001


def test_nothing_used_costs_nothing_and_has_no_lines():
    assert cost(Usage(), PRICES) == cost(Usage(), PRICES, pdf_pages=0)
    assert cost(Usage(), PRICES).lines == ()
    assert cost(Usage(), PRICES).total_microcredits == 0


def test_the_dearest_classes_bound_unknown_tokens():
    assert dearest_input(PRICES) == 400
    assert dearest_output(PRICES) == 2000


@given(st.integers(-MAX_MICROCREDITS, MAX_MICROCREDITS))
def test_an_amount_survives_being_written_and_read(amount):
    text = credits_text(amount)
    assert microcredits(text) == amount
    assert Decimal(text) * 10**6 == amount
    assert not text.startswith("+")
    if "." in text:
        assert not text.endswith("0")
        assert len(text.partition(".")[2]) <= 6


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "0"), (1, "0.000001"), (-1, "-0.000001"), (147_500, "0.1475"), (2_000_000, "2"), (-2_500_000, "-2.5")],
)
def test_credits_are_written_exactly(amount, text):
    assert credits_text(amount) == text


def test_a_million_microcredits_are_one_credit_exactly():
    assert sum(microcredits("0.000001") for _ in range(10**6)) == microcredits(1)


@pytest.mark.parametrize(
    "credits", ["", "abc", "NaN", "Infinity", "-Infinity", "1e400", "0.0000001", "9000000001", Decimal("1e30"), 10**40]
)
def test_what_is_not_an_amount_of_credits_is_refused(credits):
    with pytest.raises(AmountError):
        microcredits(credits)


def test_the_ledgers_limit_is_the_last_amount():
    assert microcredits("9000000000") == MAX_MICROCREDITS
    with pytest.raises(AmountError):
        microcredits("9000000000.000001")
