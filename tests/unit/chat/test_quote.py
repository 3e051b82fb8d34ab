"""The bound on a request's cost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.pricing import Usage, bound, cost
from chat.errors import ContextLengthExceeded, UnsupportedParameter
from chat.quote import image_tokens_bound, quote
from chat.schema.content import Content, Image
from tests.unit.chat.values import PRICES, model, request, route


def quoted(asked, content=None, *models, is_strict=False):
    return quote(asked, route(*(models or (model(),))), content or Content(5), is_strict=is_strict)


def test_the_output_bound_is_the_clients_limit_times_n():
    assert quoted(request(max_tokens=7, n=3)).steps[0].output_tokens_bound == 21
    assert quoted(request(max_completion_tokens=7)).steps[0].output_tokens_bound == 7


def test_without_a_limit_the_bound_is_the_models_own():
    assert quoted(request()).steps[0].output_tokens_bound == 100


def test_the_prompt_is_bounded_by_bytes_and_by_the_context_window():
    assert quoted(request(), Content(600)).steps[0].prompt_tokens_bound == 600 + 64 + 16
    assert quoted(request(), Content(7000)).steps[0].prompt_tokens_bound == 1000


def test_a_prompt_that_no_tokenizer_could_fit_is_refused():
    with pytest.raises(ContextLengthExceeded):
        quoted(request(), Content(8001))


def test_every_step_has_its_own_bound():
    steps = quoted(request(), None, model("a"), model("b")).steps
    assert [step.model for step in steps] == ["a", "b"]


def test_strict_refuses_what_would_be_adapted():
    with pytest.raises(UnsupportedParameter) as refusal:
        quoted(request(top_k=5), is_strict=True)
    assert refusal.value.param == "top_k"


def test_images_are_bounded_by_their_real_size():
    small, large = Image("image/png", 10, 10, 1), Image("image/png", 4000, 3000, 1)
    assert image_tokens_bound(small) < image_tokens_bound(large)
    with_image = quoted(request(), Content(5, {(0, 0): small})).steps[0]
    assert with_image.prompt_tokens_bound > quoted(request()).steps[0].prompt_tokens_bound


@given(st.integers(0, 10_000), st.integers(0, 10_000), st.data())
def test_no_usage_within_the_bounds_costs_more_than_the_bound(prompt, completion, data):
    used_prompt = data.draw(st.integers(0, prompt))
    used_completion = data.draw(st.integers(0, completion))
    cached = data.draw(st.integers(0, used_prompt))
    reasoning = data.draw(st.integers(0, used_completion))
    usage = Usage(used_prompt, used_completion, cached, 0, 0, reasoning)
    assert cost(usage, PRICES).total_microcredits <= bound(prompt, completion, PRICES)
