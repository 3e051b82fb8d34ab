"""What is alarmed of, and what not: each threshold from both sides, and what is observed from the records."""

from datetime import UTC, datetime, timedelta

import pytest

from billing import audit
from billing.models import RequestTrace
from chat.drift import Counted, Figures, ModelFigures, Observed, Proof, judge
from chat.observing import observe
from tests.records import add_record

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def topics(**observed):
    return [alarm.topic.value for alarm in judge(Observed(NOW, **observed))]


def of_model(lately, before=None):
    return topics(models=(ModelFigures("gpt-4o", Figures(**lately), Figures(**(before or {}))),))


@pytest.mark.parametrize(
    ("requests", "counted", "is_alarmed"),
    [(20, 2000, False), (20, 2001, True), (20, 500, False), (20, 499, True), (19, 9000, False), (20, 1000, False)],
)
def test_a_provider_that_counts_twice_or_half_of_what_we_estimate(requests, counted, is_alarmed):
    assert topics(counted=(Counted("gpt-4o", "openai", requests, counted, 1000),)) == ["tokens"] * is_alarmed


def test_without_an_estimate_nothing_is_compared():
    assert topics(counted=(Counted("gpt-4o", "openai", 20, 1000, 0),)) == []


@pytest.mark.parametrize(
    ("uncounted", "before", "is_alarmed"),
    [(10, 0, True), (9, 0, False), (10, 5, True), (10, 6, False), (100, 50, True)],
)
def test_answers_whose_tokens_are_not_told(uncounted, before, is_alarmed):
    lately = {"complete": 100, "uncounted": uncounted}
    assert of_model(lately, {"complete": 100, "uncounted": before}) == ["uncounted"] * is_alarmed


@pytest.mark.parametrize(
    ("lately", "before", "is_alarmed"),
    [
        ((100, 5), (100, 0), True),
        ((100, 4), (100, 0), False),
        ((100, 10), (100, 5), True),
        ((100, 10), (100, 6), False),
        ((49, 49), (100, 0), False),
        ((100, 5), (49, 49), True),
    ],
)
def test_a_share_of_errors_that_jumps(lately, before, is_alarmed):
    spans = [{"requests": requests, "failed": failed} for requests, failed in (lately, before)]
    assert of_model(*spans) == ["errors"] * is_alarmed


@pytest.mark.parametrize(
    ("lately_ms", "before_ms", "is_alarmed"),
    [(1000, 500, True), (999, 500, False), (499, 100, False), (500, 100, True)],
)
def test_a_first_token_that_comes_later(lately_ms, before_ms, is_alarmed):
    spans = [{"first_token_sum_ms": 50 * mean, "first_token_count": 50} for mean in (lately_ms, before_ms)]
    assert of_model(*spans) == ["first_token"] * is_alarmed
    assert of_model(spans[0]) == []


def test_every_overrun_is_said_with_its_sum():
    figures = ModelFigures("gpt-4o", Figures(overrun_microcredits=1_500_000), Figures())
    (alarm,) = judge(Observed(NOW, models=(figures,)))
    assert (alarm.topic, alarm.model, alarm.is_grave) == ("overrun", "gpt-4o", True)
    assert "1.5 credits" in alarm.title


@pytest.mark.parametrize(
    ("proof", "booked_since", "words"),
    [
        (None, None, ""),
        (None, NOW - 24 * HOUR, ""),
        (None, NOW - 25 * HOUR, "They never were"),
        (Proof(NOW - 24 * HOUR, 0), NOW - 99 * HOUR, ""),
        (Proof(NOW - 25 * HOUR, 0), NOW - 99 * HOUR, "The last time was 09 Mar 2026, 11:00 UTC"),
        (Proof(NOW - HOUR, 2), NOW - 99 * HOUR, "Prove them again"),
    ],
)
def test_books_that_are_wrong_or_not_proven_for_a_day(proof, booked_since, words):
    alarms = judge(Observed(NOW, proof=proof, booked_since=booked_since))
    assert len(alarms) == bool(words)
    assert not words or words in alarms[0].text


def test_what_is_grave_comes_first():
    models = (ModelFigures("a", Figures(complete=50, uncounted=50, requests=50, failed=50), Figures()),)
    assert topics(models=models) == ["errors", "uncounted"]


# What is observed


@pytest.mark.django_db
def test_figures_are_read_from_the_records_of_eight_days(acme, django_assert_num_queries):
    def add(ago, **fields):
        record = add_record(acme, created_at=NOW - ago, **fields)
        served = {"result": "served", "prompt_tokens_estimate": 8}
        RequestTrace.objects.create(
            generation=record.generation, created_at=record.created_at, attempts=[{"result": "upstream_error"}, served]
        )

    add(HOUR, first_token_ms=300, prompt_tokens=30)
    add(2 * HOUR, first_token_ms=900, fallback_depth=1, usage_source="estimated", overrun_microcredits=7)
    add(23 * HOUR, status=502, end_state="failed", usage_source="", model_used="", provider="")
    add(3 * HOUR, end_state="error", usage_source="estimated")
    add(4 * HOUR, status=404, end_state="refused", usage_source="", model_asked="whatever")
    add(25 * HOUR, first_token_ms=100)
    add(8 * 24 * HOUR - HOUR, first_token_ms=50)
    add(9 * 24 * HOUR)
    audit.record("ledger.reconciled", actor="test", details={"violations": 2})
    audit.record("ledger.reconciled", actor="test", workspace=acme.workspace, details={"violations": 0})
    with django_assert_num_queries(12):
        observed = observe(NOW)
    assert observed.counted == (Counted("gpt-4o", "openai", 1, 30, 8),)
    lately = Figures(
        requests=4, failed=2, complete=2, uncounted=1, first_token_sum_ms=300, first_token_count=1, overrun_microcredits=7
    )
    before = Figures(requests=2, complete=2, first_token_sum_ms=150, first_token_count=2)
    assert observed.models == (ModelFigures("gpt-4o", lately, before),)
    assert observed.proof.violations == 2
    assert observed.booked_since is not None


@pytest.mark.django_db
def test_traces_of_before_say_nothing_and_break_nothing(acme):
    for attempts in ([], ["odd"], [{"result": "served"}], [{"result": "served", "prompt_tokens_estimate": "8"}]):
        record = add_record(acme, created_at=NOW - HOUR)
        RequestTrace.objects.create(generation=record.generation, attempts=attempts)
    assert observe(NOW).counted == ()
