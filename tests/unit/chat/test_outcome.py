"""What is booked for each ending."""

from __future__ import annotations

import asyncio

import pytest

from billing.pricing import Usage
from chat import outcome
from chat.errors import UpstreamError, UpstreamRejected
from chat.outcome import Journal, Payer, Served
from chat.schema.delivery import EndState
from chat.schema.reply import (
    Choice,
    ChoiceDelta,
    Chunk,
    Delta,
    FinishReason,
    FunctionPiece,
    Message,
    Reply,
    ReportedUsage,
    ToolCallPiece,
)
from tests.unit.chat.values import call, model, request, target

PAYER = Payer(1, 2, 3)
USED = ReportedUsage(Usage(10, 5))


def journal(*, is_served: bool = True) -> Journal:
    made = Journal(call())
    made.model_asked = "gpt-test"
    made.text_bytes = 41
    if is_served:
        made.served = Served(model(), target(), 0, ())
    return made


def reply(text: str = "Hello", usage: ReportedUsage | None = USED, reason: FinishReason = "stop") -> Reply:
    return Reply((Choice(0, Message(role="assistant", content=text), reason),), usage)


def hand_over(made: Journal, chunks: list[Chunk]) -> None:
    made.tally.add(chunks, outcome.output_bytes(chunks))


def chunk(text: str = "", reason=None, usage=None, **fields) -> Chunk:
    return Chunk((ChoiceDelta(0, Delta(content=text, **fields), reason),), usage)


def test_a_whole_answer_is_charged_as_reported():
    ending = outcome.of_reply(reply(), journal())
    assert (ending.end_state, ending.usage, ending.usage_source) == (EndState.DONE, Usage(10, 5), "reported")


def test_an_answer_cut_by_its_limit_says_so():
    assert outcome.of_reply(reply(reason="length"), journal()).end_state is EndState.LENGTH


@pytest.mark.parametrize(
    "usage", [None, ReportedUsage(None), ReportedUsage(Usage(0, 0)), ReportedUsage(Usage(10, 0)), ReportedUsage(Usage(0, 5))]
)
def test_usage_that_cannot_be_is_estimated_from_bytes(usage):
    ending = outcome.of_reply(reply("twelve bytes", usage), journal())
    assert ending.usage == Usage(11, 3)
    assert ending.usage_source == "estimated"


def test_an_empty_answer_may_have_used_nothing():
    assert outcome.of_reply(reply("", ReportedUsage(Usage(10, 0))), journal()).usage_source == "reported"


def test_the_tally_counts_what_was_handed_over():
    made = journal()
    piece = ToolCallPiece(index=0, function=FunctionPiece(name="f", arguments="{}"))
    hand_over(made, [chunk("Hé"), chunk(reasoning_content="hm"), chunk(tool_calls=[piece]), chunk(reason="stop")])
    assert made.tally.sent_bytes == 3 + 2 + 3
    assert made.tally.finish_reason == "stop"


def test_the_last_usage_of_a_stream_counts():
    made = journal()
    used = ReportedUsage(Usage(10, 1)), ReportedUsage(Usage(10, 2))
    hand_over(made, [chunk("a", usage=used[0]), chunk("b", reason="stop", usage=used[1])])
    assert outcome.of_stream(made).usage == Usage(10, 2)


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
    ("error", "state", "status", "code"),
    [
        (UpstreamError(), EndState.FAILED, 502, "upstream_error"),
        (UpstreamRejected(), EndState.REFUSED, 400, "upstream_rejected_request"),
        (ValueError(), EndState.FAILED, 500, "internal_error"),
        (None, EndState.FAILED, 500, "internal_error"),
        (asyncio.CancelledError(), EndState.CLIENT_GONE, 499, "client_gone"),
    ],
)
def test_a_failure_is_free(error, state, status, code):
    ending = outcome.of_failure(error)
    assert (ending.end_state, ending.status, ending.error_code) == (state, status, code)
    assert outcome.charge(journal(), ending) == outcome.FREE


def test_the_settlement_carries_the_receipt_and_the_price_version():
    made = journal()
    made.outcome = outcome.of_reply(reply(), made)
    operation = outcome.settlement(made, PAYER, made.outcome, now_s=100.25)
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
    assert outcome.note(made, PAYER, outcome.of_failure(UpstreamRejected()), now_s=101).record.end_user == kept


def test_a_request_refused_before_a_route_leaves_a_record_without_price():
    made = journal(is_served=False)
    record = outcome.note(made, PAYER, outcome.of_failure(UpstreamRejected()), now_s=101).record
    assert record.price_version_id is None
    assert record.status == 400
    assert record.lines == ()
