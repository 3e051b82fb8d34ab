"""The bound on a request's cost."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.pricing import Usage, bound, cost, microcredits
from chat.adapt import spoken
from chat.encode import quote_body
from chat.errors import AudioNotSupported, ContextLengthExceeded, UnsupportedParameter
from chat.quote import CLAMP_SHARE, clamp, fitting, judged, quote, shortened
from chat.schema.content import Audio, Content, Document, Image
from chat.schema.quote import STRETCH_TOKENS, Limit, Verdict
from chat.schema.request import (
    AssistantMessage,
    AudioPart,
    CustomDefinition,
    CustomTool,
    FilePart,
    FileSource,
    InputAudio,
    JsonObjectFormat,
    JsonSchema,
    JsonSchemaFormat,
    UserMessage,
)
from chat.schema.route import ImageTokens, Route, Step
from tests.unit.chat.values import EVERYTHING, PRICES, PROVIDER, model, request, route, target

HELLO = Content(5)


def quoted(asked, content=HELLO, *models):
    return quote(asked, route(*(models or (model(),))), content)


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
    steps = quoted(request(), HELLO, model("a"), model("b")).steps
    assert [step.model for step in steps] == ["a", "b"]


def test_strict_refuses_what_would_be_adapted():
    with pytest.raises(UnsupportedParameter) as refusal:
        fitting(request(top_k=5), route(model()), HELLO, is_strict=True)
    assert refusal.value.param == "top_k"


def test_strict_leaves_out_every_target_that_would_need_an_adaptation():
    plain, quirky = target(), target("top_k")
    first, second, third = (Step(model(name), targets) for name, targets in _targets(plain, quirky).items())
    kept = fitting(request(top_k=5), Route("a", (first, second, third), (0, 1, 3)), HELLO, is_strict=True)
    assert [(step.model.slug, step.targets) for step in kept.steps] == [("a", (quirky,)), ("c", (quirky,))]
    assert (kept.model_asked, kept.depths) == ("a", (0, 3))


def _targets(plain, quirky):
    return {"a": (plain, quirky), "b": (plain,), "c": (quirky, plain)}


def test_strict_does_not_touch_a_request_that_everybody_takes():
    whole = route(model("a"), model("b"))
    assert fitting(request(), whole, HELLO, is_strict=True) == whole


THOUGHT = AssistantMessage("Four.", reasoning_content="Two and two.")


@pytest.mark.parametrize("dialect", ["openai", "anthropic", "gemini"])
def test_strict_takes_an_answer_back_with_its_reasoning_and_names_what_is_left_out(dialect):
    one = msgspec.structs.replace(target(), provider=msgspec.structs.replace(PROVIDER, dialect=dialect))
    way = route(msgspec.structs.replace(model(), targets=(one,)))
    asked = request(messages=[UserMessage("2+2?"), THOUGHT, UserMessage("Sure?")])
    assert fitting(asked, way, HELLO, is_strict=True) == way
    assert quote(asked, way, HELLO).steps[0].adaptations == ("dropped=messages.reasoning_content",)
    more = msgspec.structs.replace(asked, metadata={"a": "b"})
    with pytest.raises(UnsupportedParameter) as refusal:
        fitting(more, way, HELLO, is_strict=True)
    assert refusal.value.param == "metadata"


def test_strict_is_not_stopped_by_reasoning_from_naming_what_comes_after_it():
    asked = request(messages=[THOUGHT, UserMessage("Sure?")], response_format=JsonObjectFormat())
    with pytest.raises(UnsupportedParameter) as refusal:
        fitting(asked, route(model(capabilities=EVERYTHING - {"json_mode"})), HELLO, is_strict=True)
    assert refusal.value.param == "response_format"


def test_strict_names_the_format_that_only_words_could_ask_for():
    asked = request(response_format=JsonSchemaFormat(JsonSchema(name="x", schema={"type": "object"})))
    with pytest.raises(UnsupportedParameter) as refusal:
        fitting(asked, route(model(capabilities=EVERYTHING - {"json_schema"})), HELLO, is_strict=True)
    assert refusal.value.param == "response_format"


def test_a_target_that_cannot_say_the_request_is_left_out_without_strict_too():
    """Custom tools are OpenAI's own; a fallback that would refuse them must not refuse the request of the model asked."""
    asked = request(tools=[CustomTool(CustomDefinition("sql"))])
    other = msgspec.structs.replace(target(), provider=msgspec.structs.replace(PROVIDER, dialect="anthropic"))
    first, second = Step(model("a"), (other, target())), Step(model("b"), (other,))
    kept = fitting(asked, Route("a", (first, second), (0, 1)), HELLO, is_strict=False)
    assert [(step.model.slug, step.targets) for step in kept.steps] == [("a", (target(),))]
    alone = Route("b", (second,), (0,))
    with pytest.raises(UnsupportedParameter) as refusal:
        quote(asked, fitting(asked, alone, HELLO, is_strict=False), HELLO)
    assert refusal.value.param == "tools[0].type"
    with pytest.raises(UnsupportedParameter):
        fitting(asked, Route("b", (Step(model("b"), (other, other)),), (0,)), HELLO, is_strict=False)


def test_audio_is_bounded_by_its_length():
    roomy = msgspec.structs.replace(model(), context_window=100_000)
    spoken = Content(5, {}, {(0, 0): Audio("wav", 60, 1_000_000)})
    more = (
        quoted(request(), spoken, roomy).steps[0].prompt_tokens_bound
        - quoted(request(), HELLO, roomy).steps[0].prompt_tokens_bound
    )
    assert more >= 60 * 32


def test_the_estimate_of_the_prompt_counts_text_images_and_the_schema():
    image = Image("image/png", 1000, 1000, 1)
    wanted = JsonSchemaFormat(JsonSchema(name="x", schema={"type": "object"}))
    schema_bytes = len(msgspec.json.encode(wanted))
    roomy = msgspec.structs.replace(model(), context_window=100_000)
    step = quoted(request(response_format=wanted), Content(41, {(0, 0): image}), roomy).steps[0]
    assert step.prompt_tokens_estimate == 11 + -(-schema_bytes // 4) + ImageTokens().bound(1000, 1000)


def test_the_estimate_of_the_prompt_is_never_above_its_bound():
    step = quoted(request(), Content(5, {(0, 0): Image("image/png", 2000, 2000, 1)})).steps[0]
    assert step.prompt_tokens_estimate == step.prompt_tokens_bound == 1000


def test_the_clamp_spends_an_eighth_of_the_credit_at_the_most():
    step = route(roomy_model()).steps[0]
    limit = clamp(request(), step, 100, 8_000_000)
    assert limit is not None
    assert bound(0, limit, PRICES) <= 1_000_000 < bound(0, limit + 1, PRICES)
    assert clamp(request(n=3), step, 100, 8_000_000) == limit // 3


def test_the_clamp_leaves_room_for_a_prompt_that_takes_most_of_the_credit():
    step = route(roomy_model()).steps[0]
    prompt_tokens = 30_000
    available = bound(prompt_tokens, 300, PRICES)
    assert clamp(request(), step, prompt_tokens, available) == 300
    assert clamp(request(), step, prompt_tokens, bound(prompt_tokens, 255, PRICES)) is None


def test_a_long_prompt_does_not_forbid_the_clamp():
    """It takes more than an eighth of the credit by itself."""
    step = route(roomy_model()).steps[0]
    assert bound(8_000, 0, PRICES) > 8_000_000 // CLAMP_SHARE
    assert clamp(request(), step, 8_000, 8_000_000) == 1_000


def test_there_is_no_clamp_for_a_client_that_named_its_limit_or_below_256_tokens():
    step = route(roomy_model()).steps[0]
    assert clamp(request(max_tokens=9), step, 100, 8_000_000) is None
    assert clamp(request(), step, 100, 8 * bound(0, 255, PRICES)) is None
    assert clamp(request(), step, 100, 8 * bound(0, 256, PRICES)) == 256


def of_dialects(*dialects):
    """A step of a model that can reason, with a target of each dialect."""
    targets = [msgspec.structs.replace(target(), provider=msgspec.structs.replace(PROVIDER, dialect=one)) for one in dialects]
    return Step(msgspec.structs.replace(model(), max_output_tokens=100_000), tuple(targets))


@pytest.mark.parametrize(
    ("step", "effort", "is_metered"),
    [
        (Step(msgspec.structs.replace(model(), capabilities=frozenset()), (target(),)), None, True),
        (of_dialects("openai"), None, False),
        (of_dialects("openai"), "none", True),
        (of_dialects("openai"), "low", False),
        (of_dialects("anthropic"), None, True),
        (of_dialects("anthropic"), "none", True),
        (of_dialects("anthropic"), "high", False),
        (of_dialects("anthropic", "openai"), None, False),
        (of_dialects("gemini"), None, False),
        (of_dialects("gemini"), "none", False),
    ],
)
def test_a_stream_is_metered_where_nobody_reasons_out_of_sight(step, effort, is_metered):
    """Where somebody may, the whole bound is held, and clamped like that of a whole answer where the credit is tight."""
    asked = request(stream=True, reasoning_effort=effort)
    quoted_step = quote(asked, Route("m", (step,), (0,)), HELLO).steps[0]
    stretch = bound(quoted_step.prompt_tokens_bound, STRETCH_TOKENS, PRICES)
    roomy = step.model.max_output_tokens > STRETCH_TOKENS
    assert (quoted_step.hold_microcredits == quoted_step.bound_microcredits) == (not is_metered or not roomy)
    assert (quoted_step.hold_microcredits == stretch) == (is_metered and roomy)
    assert (clamp(asked, step, 100, 8_000_000) is None) == is_metered


def test_what_is_shortened_is_held_by_the_limit_and_says_so():
    asked, whole = request(), route(roomy_model())
    full = quote(asked, whole, HELLO)
    shorter = shortened(asked, whole, HELLO, full, 8_000_000, is_strict=False)
    assert shorter is not None
    step = shorter.steps[0]
    assert (step.clamp_tokens, step.output_tokens_bound) == (1_000, 1_000)
    assert step.adaptations == step.clamps == ("clamped=max_tokens:1000",)
    assert step.hold_microcredits <= 8_000_000 < full.steps[0].hold_microcredits
    assert step.limited(asked).max_tokens == 1_000


def test_each_shortening_is_shorter_than_the_one_before():
    asked, whole = request(), route(roomy_model())
    shorter = shortened(asked, whole, HELLO, quote(asked, whole, HELLO), 8_000_000, is_strict=False)
    assert shorter is not None
    assert shortened(asked, whole, HELLO, shorter, 8_000_000, is_strict=False) is None
    again = shortened(asked, whole, HELLO, shorter, 4_000_000, is_strict=False)
    assert again is not None
    assert again.steps[0].clamp_tokens == 500


def test_a_clamp_is_never_above_a_fallbacks_own_maximum():
    asked, whole = request(), route(roomy_model(), model("small"))
    shorter = shortened(asked, whole, HELLO, quote(asked, whole, HELLO), 8_000_000, is_strict=False)
    assert shorter is not None
    first, second = shorter.steps
    assert (first.clamp_tokens, second.clamp_tokens) == (1_000, 100)
    assert second.clamps == ("clamped=max_tokens:100",)
    assert second.limited(asked).max_tokens == 100


ENOUGH = 10**12
CREDIT, BUDGET = "insufficient_credits", "key_budget_exceeded"


def judge(asked, *limits, is_strict=False):
    whole = route(roomy_model())
    made = [Limit(code, available) for code, available in limits]
    return judged(asked, whole, HELLO, quote(asked, whole, HELLO), made, is_strict=is_strict)


def test_a_dry_run_is_admitted_by_what_is_held_first_and_not_by_the_bound():
    """A stream holds its first stretch only."""
    asked = request(stream=True, max_tokens=100_000)
    plain = msgspec.structs.replace(roomy_model(), capabilities=EVERYTHING - {"reasoning"})
    quoted = quote(asked, route(plain), HELLO)
    first = quoted.steps[0]
    limits = [Limit(BUDGET, ENOUGH), Limit(CREDIT, first.hold_microcredits)]
    assert first.hold_microcredits < first.bound_microcredits
    assert judged(asked, route(plain), HELLO, quoted, limits, is_strict=False) == Verdict(quoted)
    limits = [Limit(BUDGET, ENOUGH), Limit(CREDIT, first.hold_microcredits - 1)]
    assert judged(asked, route(plain), HELLO, quoted, limits, is_strict=False) == Verdict(quoted, CREDIT)


@pytest.mark.parametrize("code", [CREDIT, BUDGET])
def test_a_dry_run_is_clamped_as_an_admission_is(code):
    verdict = judge(request(), (code, 8_000_000), (CREDIT, ENOUGH))
    assert (verdict.refusal, verdict.quote.steps[0].adaptations) == ("", ("clamped=max_tokens:1000",))
    assert judge(request(), (code, 8_000_000), is_strict=True).refusal == code
    assert judge(request(max_tokens=100_000), (code, 8_000_000)).refusal == code


def test_limits_clamp_one_after_the_other_and_the_first_that_cannot_refuses():
    limits = (BUDGET, ENOUGH), (BUDGET, 40_000_000), (CREDIT, 4_000_000)
    verdict = judge(request(), *limits)
    assert (verdict.refusal, verdict.quote.steps[0].clamp_tokens) == ("", 500)
    assert judge(request(), *limits[:2], (CREDIT, 0)).refusal == CREDIT
    assert judge(request(), (BUDGET, -5), (CREDIT, 0)).refusal == BUDGET


def roomy_model():
    return msgspec.structs.replace(model(), max_output_tokens=100_000)


@pytest.mark.parametrize(
    ("rule", "size", "tokens"),
    [
        pytest.param(ImageTokens(), (512, 513), 1_100 + 2 * 260, id="usual"),
        pytest.param(ImageTokens(), (4096, 1024), 1_100 + 4 * 260, id="made-smaller"),
        pytest.param(ImageTokens(2_833, 5_667, most_tiles=8), (512, 512), 2_833 + 5_667, id="one-tile"),
        pytest.param(ImageTokens(2_833, 5_667, most_tiles=8), (9000, 9000), 2_833 + 8 * 5_667, id="most-tiles"),
        pytest.param(ImageTokens(0, 1, 28, 2576, 4784), (1000, 1000), 36 * 36, id="by-area"),
        pytest.param(ImageTokens(1_120, 0), (9000, 10), 1_120, id="fixed"),
    ],
)
def test_images_are_counted_by_the_rule_of_the_model(rule, size, tokens):
    assert rule.bound(*size) == tokens
    one = msgspec.structs.replace(model(), context_window=1_000_000, image_tokens=rule)
    content = Content(5, {(0, 0): Image("image/png", *size, 1)})
    bounds, without = quoted(request(), content, one).steps[0], quoted(request(), HELLO, one).steps[0]
    assert bounds.prompt_tokens_bound - without.prompt_tokens_bound == tokens


def test_images_are_bounded_by_their_real_size():
    small = Image("image/png", 10, 10, 1)
    assert ImageTokens().bound(10, 10) < ImageTokens().bound(4000, 3000)
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


FREE = JsonSchemaFormat(JsonSchema(name="x", schema={"type": "object"}))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": 1.8}, "temperature"),
        ({"stop": [" ", "END"]}, "stop"),
        ({"seed": 1}, "seed"),
        ({"response_format": FREE}, "response_format"),
    ],
)
def test_a_strict_refusal_names_the_parameter_whatever_would_be_done_to_it(fields, param):
    anthropic = msgspec.structs.replace(target(), provider=msgspec.structs.replace(PROVIDER, dialect="anthropic"))
    one = msgspec.structs.replace(model(), targets=(anthropic,))
    with pytest.raises(UnsupportedParameter) as refusal:
        fitting(request(**fields), route(one), HELLO, is_strict=True)
    assert refusal.value.param == param


def test_a_limit_of_ours_is_among_what_the_adaptations_are_told_for():
    anthropic = msgspec.structs.replace(
        target("thinking_budget"), provider=msgspec.structs.replace(PROVIDER, dialect="anthropic")
    )
    one = msgspec.structs.replace(model(), targets=(anthropic,), max_output_tokens=8192)
    asked = request(reasoning_effort="low")
    assert quote(asked, route(one), HELLO).steps[0].adaptations == ()
    [step] = quote(asked, route(one), HELLO, clamp_tokens=1000).steps
    assert step.adaptations == ("clamped=max_tokens:1000", "dropped=reasoning_effort")


LETTER = (1583, 2048)
LETTER_TOKENS = ImageTokens().bound(*LETTER)
PAPER = Document("a.pdf", 9_000, (LETTER,) * 3, ("Text é", "", "More"))
TOLD_BYTES = len(spoken(PAPER).encode())
PROMPT_TOKENS = 5 + 64 + 16
FILED = request(messages=[UserMessage([FilePart(FileSource(file_data="data:application/pdf;base64,AA=="))])])
FEE = msgspec.structs.replace(PRICES, pdf_page=7_000)


def reader(*capabilities, window=1_000_000):
    return msgspec.structs.replace(
        roomy_model(), context_window=window, capabilities=EVERYTHING - {"vision"} | set(capabilities)
    )


def priced(one):
    return msgspec.structs.replace(one, prices=FEE)


def holding(document=PAPER):
    return Content(5, documents={(0, 0): document})


@pytest.mark.parametrize(
    ("one", "tokens", "estimate", "fee_pages"),
    [
        (reader("pdf"), 3 * 16_384, 3 * 2_048, 0),
        (reader("pdf", "vision"), 3 * 16_384, 3 * 2_048, 0),
        (reader("vision"), TOLD_BYTES + 3 * LETTER_TOKENS, -(-TOLD_BYTES // 4) + 3 * LETTER_TOKENS, 3),
        (reader(), TOLD_BYTES, -(-TOLD_BYTES // 4), 3),
    ],
    ids=["reads", "reads-and-sees", "sees", "neither"],
)
def test_a_document_is_bounded_by_what_the_model_gets_of_it(one, tokens, estimate, fee_pages):
    [step] = quoted(request(), holding(), priced(one)).steps
    assert (step.prompt_tokens_bound, step.prompt_tokens_estimate) == (PROMPT_TOKENS + tokens, 2 + estimate)
    assert step.pdf_pages == fee_pages
    output_tokens = step.output_tokens_bound
    assert step.hold_microcredits == step.bound_microcredits
    assert step.bound_microcredits == bound(PROMPT_TOKENS + tokens, output_tokens, FEE) + fee_pages * 7_000


def test_pages_that_were_paid_have_no_fee():
    [step] = quoted(request(), holding(msgspec.structs.replace(PAPER, is_converted=True)), priced(reader())).steps
    assert step.pdf_pages == 0
    assert step.bound_microcredits == bound(step.prompt_tokens_bound, step.output_tokens_bound, FEE)


def test_a_stream_holds_the_fee_of_its_pages_from_the_beginning():
    [step] = quoted(request(stream=True), holding(), priced(reader())).steps
    assert step.hold_microcredits == bound(step.prompt_tokens_bound, step.output_tokens_bound, FEE, pdf_pages=3)


def test_only_of_a_document_that_it_reads_itself_a_provider_may_count_more_than_the_bound():
    native, converted = quoted(request(), holding(), reader("pdf"), reader()).steps
    assert native.prompt_tokens_bound + native.prompt_tokens_beyond == 1_000_000
    assert converted.prompt_tokens_beyond == 0
    assert quoted(request()).steps[0].prompt_tokens_beyond == 0
    [small] = quoted(request(), holding(), reader("pdf", window=20_000)).steps
    assert (small.prompt_tokens_bound, small.prompt_tokens_beyond) == (20_000, 0)


def test_a_dry_run_tells_the_most_that_a_document_can_cost():
    """Nobody but its provider knows what it makes of a PDF: the window is what it cannot exceed, and nobody pays more."""
    chain = route(reader("pdf"), reader())
    told = json.loads(quote_body(Verdict(quote(request(), chain, holding())), chain, (), 0))
    native, converted = quoted(request(), holding(), reader("pdf"), reader()).steps
    output_tokens = native.output_tokens_bound
    assert microcredits(str(told["credits_high"])) == bound(1_000_000, output_tokens, PRICES) > native.bound_microcredits
    assert [microcredits(str(step["credits_high"])) for step in told["route"]][1] == converted.bound_microcredits


def test_a_document_whose_text_no_tokenizer_could_fit_is_refused_where_it_is_said_as_text():
    long = msgspec.structs.replace(PAPER, texts=("a" * 9_000, "", ""))
    with pytest.raises(ContextLengthExceeded):
        quoted(request(), holding(long), reader(window=1_000))
    assert quoted(request(), holding(long), reader("pdf", window=1_000)).steps[0].prompt_tokens_bound == 1_000


def test_the_clamp_leaves_room_for_the_fee():
    step = Step(priced(reader()), (target(),))
    left = bound(100, 300, FEE) + 3 * 7_000
    assert clamp(request(), step, 100, left, pdf_pages=3) == clamp(request(), step, 100, left - 3 * 7_000)


def test_a_chain_is_left_without_the_models_that_can_read_nothing_of_a_scan():
    scan = holding(msgspec.structs.replace(PAPER, texts=("", " ", "\n")))
    kept = fitting(FILED, route(reader("pdf"), reader(), reader("vision")), scan, is_strict=False)
    assert kept.depths == (0, 2)
    with pytest.raises(UnsupportedParameter):
        fitting(FILED, route(reader(), reader("vision")), scan, is_strict=False)


def test_a_chain_is_left_without_the_models_that_cannot_hear_a_stored_sound():
    heard = Content(5, audio={(0, 0): Audio("wav", 9, 3)}, parts={(0, 0): AudioPart(InputAudio("AAAA", "wav"))})
    asked = request(messages=[UserMessage([FilePart(file_id="file-1")])])
    kept = fitting(asked, route(reader("audio_input"), reader(), reader("audio_input")), heard, is_strict=False)
    assert kept.depths == (0, 2)
    step = quote(asked, kept, heard).steps[0]
    assert step.prompt_tokens_bound == quote(request(), kept, Content(5)).steps[0].prompt_tokens_bound + 400
    for chain in (route(reader()), route(reader(), reader("audio_input"))):
        with pytest.raises(AudioNotSupported) as refusal:
            quote(asked, fitting(asked, chain, heard, is_strict=False), heard)
        assert refusal.value.param == "messages[0].content[0]"


def test_strict_refuses_to_convert_a_document():
    kept = fitting(FILED, route(reader("pdf"), reader("vision")), holding(), is_strict=True)
    assert kept.depths == (0,)
    with pytest.raises(UnsupportedParameter) as refusal:
        fitting(FILED, route(reader("vision")), holding(), is_strict=True)
    assert refusal.value.param == "pdf"
