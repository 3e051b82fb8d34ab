"""The taxi meter: further stretches are due in time, and nothing flows that is not paid."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from billing.pricing import Usage, bound, cost
from chat.meter import ASK_BELOW_TOKENS, BYTES_PER_TOKEN, TaxiMeter
from chat.quote import quote
from chat.schema.content import Content
from chat.schema.quote import STRETCH_TOKENS
from tests.unit.chat.values import EVERYTHING, PRICES, model, request, route

PLAIN = EVERYTHING - {"reasoning"}


def stepped(**fields):
    roomy = model(capabilities=PLAIN)
    asked = request(stream=True, max_tokens=100_000, **fields)
    return quote(asked, route(roomy), Content(5)).steps[0]


def test_a_stream_holds_its_prompt_and_the_first_stretch():
    step = stepped()
    assert step.hold_microcredits == bound(step.prompt_tokens_bound, STRETCH_TOKENS, PRICES)
    assert step.bound_microcredits == bound(step.prompt_tokens_bound, 100_000, PRICES)


def test_each_choice_has_its_own_first_stretch():
    assert stepped(n=3).hold_microcredits == bound(stepped().prompt_tokens_bound, 3 * STRETCH_TOKENS, PRICES)


def test_a_model_that_reasons_holds_its_whole_bound():
    asked = request(stream=True, max_tokens=100_000)
    step = quote(asked, route(model()), Content(5)).steps[0]
    assert step.hold_microcredits == step.bound_microcredits


def test_a_further_stretch_is_due_before_the_last_is_used_up():
    step = stepped()
    meter = TaxiMeter(step, PRICES, step.hold_microcredits)
    assert meter.due(0) == 0
    assert meter.due((STRETCH_TOKENS // 2 - 1) * BYTES_PER_TOKEN) == 0
    due = meter.due((STRETCH_TOKENS // 2 + 1) * BYTES_PER_TOKEN)
    assert due == bound(step.prompt_tokens_bound, 2 * STRETCH_TOKENS, PRICES) - step.hold_microcredits
    meter.held(due)
    assert meter.due((STRETCH_TOKENS // 2 + 1) * BYTES_PER_TOKEN) == 0


def test_without_a_further_hold_it_pays_to_the_end_of_the_stretch_and_no_further():
    step = stepped()
    meter = TaxiMeter(step, PRICES, step.hold_microcredits)
    assert meter.covers(STRETCH_TOKENS * BYTES_PER_TOKEN)
    assert meter.covered_bytes() == STRETCH_TOKENS * BYTES_PER_TOKEN
    assert not meter.covers(STRETCH_TOKENS * BYTES_PER_TOKEN + 1)


@given(st.lists(st.integers(1, 20_000), max_size=60))
def test_what_is_held_always_pays_for_what_flowed(batches):
    step = stepped()
    held, sent = step.hold_microcredits, 0
    meter = TaxiMeter(step, PRICES, held)
    for size in batches:
        assert meter.is_ahead(sent + size) == (not meter.due(sent + size))  # covered as well, as is shown below
        while due := meter.due(sent + size):
            held += due
            meter.held(due)
        assert meter.covers(sent + size)
        sent += size
        tokens = min(-(-sent // BYTES_PER_TOKEN), step.output_tokens_bound)
        assert cost(Usage(step.prompt_tokens_bound, tokens), PRICES).total_microcredits <= held
    assert held <= step.bound_microcredits


def test_after_a_refusal_it_is_asked_again_when_little_is_left_and_once_more_before_the_cut():
    step = stepped()
    meter = TaxiMeter(step, PRICES, step.hold_microcredits)
    asked_at = []
    for tokens in range(0, STRETCH_TOKENS + 500, 10):
        is_due, is_covered = meter.due(tokens * BYTES_PER_TOKEN) > 0, meter.covers(tokens * BYTES_PER_TOKEN)
        assert meter.is_ahead(tokens * BYTES_PER_TOKEN) == (is_covered and not is_due)
        if is_due:
            asked_at.append(STRETCH_TOKENS - tokens)
            meter.refused(tokens * BYTES_PER_TOKEN)
            assert meter.due(tokens * BYTES_PER_TOKEN) == 0, "not twice for the same output"
    assert len(asked_at) == 3
    assert all(0 < below - left <= 10 for left, below in zip(asked_at, ASK_BELOW_TOKENS, strict=True))


def test_a_batch_that_is_beyond_what_is_covered_is_asked_for_once():
    step = stepped()
    meter = TaxiMeter(step, PRICES, step.hold_microcredits)
    sent_bytes = (STRETCH_TOKENS + 1) * BYTES_PER_TOKEN
    assert meter.due(sent_bytes)
    meter.refused(sent_bytes)
    assert meter.due(sent_bytes) == 0
    assert not meter.covers(sent_bytes)


def test_a_hold_that_comes_late_carries_on_as_if_it_had_come_at_once():
    step = stepped()
    meter = TaxiMeter(step, PRICES, step.hold_microcredits)
    near_end = (STRETCH_TOKENS - 10) * BYTES_PER_TOKEN
    assert meter.due(near_end)
    meter.refused(near_end)
    past_end = (STRETCH_TOKENS + 10) * BYTES_PER_TOKEN
    meter.held(meter.due(past_end))
    assert meter.covers(past_end)
    assert meter.due(past_end) == 0
    assert meter.due((2 * STRETCH_TOKENS - 900) * BYTES_PER_TOKEN) > 0
