"""What is booked for each ending."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from billing.pricing import MAX_MICROCREDITS, Line, Usage
from chat import outcome
from chat.errors import UpstreamError, UpstreamRejected
from chat.outcome import Journal, Payer, Served
from chat.schema.delivery import EndState, Outcome
from chat.schema.reply import (
    Choice,
    ChoiceDelta,
    Chunk,
    CustomPiece,
    Delta,
    FinishReason,
    FunctionPiece,
    Message,
    Reply,
    ReportedUsage,
    ToolCallPiece,
)
from tests.unit.chat.values import PRICES, bounds, call, model, request, target

PAYER = Payer(1, 2, 3)
USED = ReportedUsage(Usage(10, 5))


def journal(*, is_served: bool = True) -> Journal:
    made = Journal(call())
    made.model_asked = "gpt-test"
    if is_served:
        made.served = Served(model(), target(), 0, (), bounds())
    return made


def reply(text: str = "Hello", usage: ReportedUsage | None = USED, reason: FinishReason = "stop") -> Reply:
    return Reply((Choice(0, Message(role="assistant", content=text), reason),), usage)


def hand_over(made: Journal, chunks: list[Chunk]) -> None:
    made.tally.add(chunks, outcome.output_bytes(chunks))


def chunk(text: str = "", reason=None, usage=None, **fields) -> Chunk:
    return Chunk((ChoiceDelta(0, Delta(content=text, **fields), reason),), usage)


@pytest.mark.parametrize(("status", "is_free"), [(200, False), (399, False), (400, True), (499, True), (503, True)])
def test_an_error_is_free_whatever_is_known_of_its_usage(status, is_free):
    ending = msgspec.structs.replace(outcome.of_reply(reply(), journal()), status=status)
    assert (outcome.charge(journal(), ending) == outcome.FREE) == is_free


def test_a_whole_answer_is_charged_as_reported():
    ending = outcome.of_reply(reply(), journal())
    assert (ending.end_state, ending.usage, ending.usage_source) == (EndState.DONE, Usage(10, 5), "reported")


def test_an_answer_cut_by_its_limit_says_so():
    assert outcome.of_reply(reply(reason="length"), journal()).end_state is EndState.LENGTH


@pytest.mark.parametrize(
    "usage", [None, ReportedUsage(None), ReportedUsage(Usage(0, 0)), ReportedUsage(Usage(10, 0)), ReportedUsage(Usage(0, 5))]
)
def test_usage_that_is_missing_is_estimated_from_bytes(usage):
    ending = outcome.of_reply(reply("twelve bytes", usage), journal())
    assert ending.usage == Usage(11, 3)
    assert (ending.usage_source, ending.anomalies) == ("estimated", ())


def ending_with(made: Journal, usage: Usage, *, is_stream: bool) -> Outcome:
    if not is_stream:
        return outcome.of_reply(reply("twelve bytes", ReportedUsage(usage)), made)
    hand_over(made, [chunk("twelve bytes", reason="stop", usage=ReportedUsage(usage))])
    return outcome.of_stream(made)


in_both_modes = pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])


@pytest.mark.parametrize("usage", [Usage(1001, 5), Usage(10, 1001), Usage(2**31, 2**31)])
@in_both_modes
def test_usage_that_no_model_can_have_is_estimated_and_told(usage, is_stream):
    ending = ending_with(journal(), usage, is_stream=is_stream)
    assert ending.usage == Usage(11, 3)
    assert (ending.usage_source, ending.anomalies) == ("estimated", ("impossible usage",))


@pytest.mark.parametrize("usage", [Usage(122, 5), Usage(10, 101), Usage(1000, 1000)])
@in_both_modes
def test_usage_above_the_bound_is_settled_at_the_bound_and_told(usage, is_stream):
    made = journal()
    ending = ending_with(made, usage, is_stream=is_stream)
    assert (ending.usage, ending.usage_source, ending.anomalies) == (usage, "reported", ("usage above the bound",))
    asked = outcome.settlement(made, PAYER, ending, outcome.charge(made, ending), 101.0)
    assert asked.actual_microcredits == usage.prompt_tokens * 250 + usage.completion_tokens * 1000
    assert asked.most_microcredits == bounds().bound_microcredits == 121 * 250 + 100 * 1000


def test_each_choice_has_a_window_of_its_own_to_write_in():
    made = journal()
    made.served = Served(model(), target(), 0, (), bounds(n=3))
    assert ending_with(made, Usage(10, 3000), is_stream=False).usage_source == "reported"
    assert ending_with(made, Usage(10, 3001), is_stream=False).usage_source == "estimated"


def test_output_that_followed_a_figure_above_the_bound_makes_it_no_smaller():
    made = journal()
    hand_over(made, [chunk("a", usage=ReportedUsage(Usage(10, 150)))])
    hand_over(made, [chunk("b" * 8)])
    ending = outcome.of_broken_stream(made, EndState.CUT)
    assert (ending.usage, ending.usage_source, ending.anomalies) == (Usage(10, 150), "estimated", ("usage above the bound",))


def test_usage_at_the_bound_is_possible():
    ending = outcome.of_reply(reply(usage=ReportedUsage(Usage(121, 100))), journal())
    assert (ending.usage, ending.usage_source) == (Usage(121, 100), "reported")


def test_an_estimate_is_never_above_the_bound():
    ending = outcome.of_reply(reply("x" * 4_000, None), journal())
    assert ending.usage == Usage(11, 100)
    assert outcome.charge(journal(), ending).total_microcredits <= bounds().bound_microcredits


def test_an_empty_answer_may_have_used_nothing():
    assert outcome.of_reply(reply("", ReportedUsage(Usage(10, 0))), journal()).usage_source == "reported"


def test_the_tally_counts_what_was_handed_over():
    made = journal()
    piece = ToolCallPiece(index=0, function=FunctionPiece(name="f", arguments="{}"))
    hand_over(made, [chunk("Hé"), chunk(reasoning_content="hm"), chunk(tool_calls=[piece]), chunk(reason="stop")])
    assert made.tally.sent_bytes == 3 + 2 + 3
    assert made.tally.finish_reason == "stop"


CUSTOM = ToolCallPiece(index=0, id="call_1", type="custom", custom=CustomPiece(name="sql", input="SELECT 1;"))
FUNCTION = FunctionPiece(name="f", arguments="{}")
OUTPUTS = [
    pytest.param({"tool_calls": [CUSTOM]}, 12, id="custom-call"),
    pytest.param({"tool_calls": [ToolCallPiece(index=0, function=FUNCTION), CUSTOM]}, 15, id="both-calls"),
    pytest.param({"function_call": FUNCTION}, 3, id="deprecated-call"),
    pytest.param({"audio": {"id": "audio_1", "data": "AAAA", "transcript": "Grüße"}}, 7, id="audio"),
    pytest.param({"audio": {"transcript": 5}}, 0, id="audio-without-words"),
    pytest.param({"refusal": "No.", "reasoning_content": "Hm."}, 6, id="refusal"),
]


@pytest.mark.parametrize(("fields", "size_bytes"), OUTPUTS)
def test_all_output_has_its_weight_in_both_modes(fields, size_bytes):
    assert outcome.output_bytes([chunk(**fields)]) == size_bytes
    answer = Reply((Choice(0, Message(role="assistant", content=None, **fields), "stop"),))
    assert outcome.of_reply(answer, journal()).usage == Usage(11, -(-size_bytes // 4))


def test_a_stream_that_broke_after_a_custom_call_is_charged_for_it():
    made = journal()
    hand_over(made, [chunk(tool_calls=[CUSTOM])])
    assert outcome.of_broken_stream(made, EndState.CUT).usage == Usage(11, 3)


@pytest.mark.parametrize(
    ("piece", "has_content"),
    [
        (chunk(audio={"data": "AAAA"}), True),
        (chunk(tool_calls=[ToolCallPiece(index=0, id="call_1", type="function")]), True),
        (chunk(reason="stop"), True),
        (chunk(), False),
        (Chunk(usage=USED), False),
    ],
    ids=["audio", "call", "finish", "role", "usage"],
)
def test_content_is_any_real_chunk(piece, has_content):
    """Also one that has no weight."""
    made = journal()
    hand_over(made, [piece])
    assert made.tally.has_content is has_content
    assert (outcome.of_broken_stream(made, EndState.CUT).usage_source != "") is has_content


def test_the_last_usage_of_a_stream_counts():
    made = journal()
    used = ReportedUsage(Usage(10, 1)), ReportedUsage(Usage(10, 2))
    hand_over(made, [chunk("a", usage=used[0]), chunk("b", reason="stop", usage=used[1])])
    ending = outcome.of_stream(made)
    assert (ending.usage, ending.anomalies) == (Usage(10, 2), ())


@pytest.mark.parametrize("last", [Usage(9, 7), Usage(10, 6)])
def test_usage_that_decreases_counts_as_it_was_said_last_and_is_told(last):
    made = journal()
    hand_over(made, [chunk("a", usage=ReportedUsage(Usage(10, 7)))])
    hand_over(made, [chunk(reason="stop", usage=ReportedUsage(last))])
    ending = outcome.of_stream(made)
    assert (ending.usage, ending.usage_source, ending.anomalies) == (last, "reported", ("usage decreased",))


def test_output_that_followed_the_last_figure_is_added_to_it():
    """A provider that counts at the beginning, and a stream that broke before it counted again."""
    made = journal()
    hand_over(made, [Chunk(usage=ReportedUsage(Usage(20, 1))), chunk("twelve bytes")])
    hand_over(made, [chunk("four")])
    ending = outcome.of_broken_stream(made, EndState.CLIENT_GONE)
    assert (ending.usage, ending.usage_source) == (Usage(20, 1 + 4), "estimated")


def test_a_figure_that_counts_all_output_so_far_is_taken_from_a_broken_stream():
    made = journal()
    hand_over(made, [chunk("twelve bytes", usage=ReportedUsage(Usage(20, 9)))])
    ending = outcome.of_broken_stream(made, EndState.CUT)
    assert (ending.usage, ending.usage_source) == (Usage(20, 9), "reported")


def test_a_stream_that_broke_is_charged_for_what_was_delivered():
    made = journal()
    hand_over(made, [chunk("twelve bytes")])
    ending = outcome.of_broken_stream(made, EndState.CUT, "upstream_error")
    assert ending.usage == Usage(11, 3)
    assert outcome.charge(made, ending).total_microcredits > 0


def test_a_stream_that_delivered_nothing_is_free():
    made = journal()
    ending = outcome.of_broken_stream(made, EndState.CLIENT_GONE)
    assert outcome.charge(made, ending) == outcome.FREE


@pytest.mark.parametrize(
    ("error", "has_left", "state", "status", "code"),
    [
        (UpstreamError(), False, EndState.FAILED, 502, "upstream_error"),
        (UpstreamRejected(), True, EndState.REFUSED, 400, "upstream_rejected_request"),
        (ValueError(), False, EndState.FAILED, 500, "internal_error"),
        (None, False, EndState.FAILED, 500, "internal_error"),
        (asyncio.CancelledError(), True, EndState.CLIENT_GONE, 499, "client_gone"),
        (asyncio.CancelledError(), False, EndState.DRAINED, 503, "server_draining"),
    ],
)
def test_a_failure_is_free(error, has_left, state, status, code):
    ending = outcome.of_failure(error, has_left=has_left)
    assert (ending.end_state, ending.status, ending.error_code) == (state, status, code)
    assert outcome.charge(journal(), ending) == outcome.FREE


def test_the_settlement_carries_the_receipt_and_the_price_version():
    made = journal()
    made.outcome = outcome.of_reply(reply(), made)
    operation = outcome.settlement(made, PAYER, made.outcome, outcome.charge(made, made.outcome), now_s=100.25)
    assert operation.actual_microcredits == 10 * 250 + 5 * 1000
    assert sum(line.amount_microcredits for line in operation.record.lines) == operation.actual_microcredits
    assert operation.record.price_version_id == 7
    assert operation.record.latency_ms == 250
    assert operation.generation == "chatcmpl-1"


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({"user": "ada", "safety_identifier": "hash"}, "ada"),
        ({"user": "", "safety_identifier": "hash"}, "hash"),
        ({"user": "u" * 65_536}, "u" * 128),
        ({}, ""),
    ],
)
def test_a_record_names_the_caller_s_own_user(fields, kept):
    made = journal()
    made.read(request(**fields), ())
    assert outcome.note(made, PAYER, outcome.of_failure(UpstreamRejected(), has_left=False), now_s=101).record.end_user == kept


def test_a_request_refused_before_a_route_leaves_a_record_without_price():
    made = journal(is_served=False)
    record = outcome.note(made, PAYER, outcome.of_failure(UpstreamRejected(), has_left=False), now_s=101).record
    assert record.price_version_id is None
    assert record.status == 400
    assert record.lines == ()


def test_a_charge_is_never_more_than_the_ledger_can_hold():
    made = journal()
    dear = msgspec.structs.replace(PRICES, input=MAX_MICROCREDITS)
    made.served = msgspec.structs.replace(made.served, model=msgspec.structs.replace(model(), prices=dear))
    ending = outcome.of_reply(reply(usage=ReportedUsage(Usage(121, 100))), made)
    ending = msgspec.structs.replace(ending, usage=Usage(2_000_000, 1))
    operation = outcome.settlement(made, PAYER, ending, outcome.charge(made, ending), now_s=101)
    assert operation.actual_microcredits == MAX_MICROCREDITS
    assert sum(line.amount_microcredits for line in operation.record.lines) == MAX_MICROCREDITS


PRICED = msgspec.structs.replace(model(), prices=msgspec.structs.replace(PRICES, pdf_page=7_000))


def converting(pages: int) -> Journal:
    made = journal()
    made.served = Served(PRICED, target(), 0, (), bounds(), pages)
    return made


def test_converted_pages_are_a_line_of_their_own():
    made = converting(3)
    cost = outcome.charge(made, outcome.of_reply(reply(), made))
    assert [line for line in cost.lines if line.kind == "pdf_page"] == [Line("pdf_page", 3, "page", 7_000, 21_000)]
    free = converting(0)
    assert cost.total_microcredits == outcome.charge(free, outcome.of_reply(reply(), free)).total_microcredits + 21_000


def test_no_page_is_paid_without_an_answer():
    made = converting(3)
    assert outcome.charge(made, outcome.of_failure(UpstreamError(), has_left=False)).total_microcredits == 0
    assert outcome.charge(made, outcome.of_broken_stream(made, EndState.CUT)).total_microcredits == 0


def test_what_a_provider_counts_of_a_document_is_believed_up_to_the_window():
    made = journal()
    wide = msgspec.structs.replace(bounds(), prompt_tokens_beyond=1000 - bounds().prompt_tokens_bound)
    made.served = Served(model(), target(), 0, (), wide)
    for tokens, told in ((1000, ("reported", ())), (1001, ("estimated", ("impossible usage",)))):
        ending = outcome.of_reply(reply(usage=ReportedUsage(Usage(tokens, 5))), made)
        assert (ending.usage_source, ending.anomalies) == told
    assert made.served.most_microcredits == 1000 * 250 + 100 * 1000
