"""A look at the figures: fallbacks from the records of an hour, readers of the apps above, and what fails among them."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from billing.alerts.judging import ModelFact, QuotaFact, Terms
from billing.alerts.records import get_fallback_counts, get_models_used
from billing.alerts.terms import DEFAULTS, recipients_of, set_terms
from billing.alerts.watching import Sources, Watch
from billing.models import AlertBook, AlertTerms, Notice
from billing.moments import Span
from billing.rollups import roll_up
from tests.records import add_record, add_refusal
from tests.worlds import ACTOR, make_world

pytestmark = pytest.mark.django_db

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


def answered(world, count, *, depth=0, ago=MINUTE, **fields):
    for _ in range(count):
        add_record(world, created_at=timezone.now() - ago, fallback_depth=depth, **fields)


def told(kind):
    return list(Notice.objects.filter(kind=kind).order_by("pk").values_list("workspace__name", "data"))


def test_a_share_of_fallbacks_is_told_of_whom_it_is(acme, rival, broke):
    answered(acme, 15)
    answered(acme, 5, depth=1)
    answered(acme, 60, ago=61 * MINUTE)
    answered(rival, 19, depth=2)
    answered(broke, 30)
    assert Watch().look() == 1
    data = {"percent": 25, "threshold_percent": 20, "requests": 20, "fallbacks": 5, "minutes": 60}
    assert told("fallback.rate") == [("Acme", data)]


def test_what_no_model_answered_counts_for_nothing(acme):
    answered(acme, 5, depth=1)
    answered(acme, 15)
    answered(acme, 90, status=502, end_state="failed", depth=1)
    answered(acme, 90, model_used="", end_state="dry_run")
    for _ in range(90):
        add_refusal(acme, created_at=timezone.now())
    assert Watch().look() == 1
    assert told("fallback.rate")[0][1]["requests"] == 20


def test_a_workspace_chooses_its_threshold_or_none(acme, rival, broke):
    for world, percent in ((acme, 0), (rival, 60), (broke, 50)):
        answered(world, 10)
        answered(world, 10, depth=1)
        set_terms(world.workspace, Terms((), (), (), 0, (), percent), recipients_of(None), actor=ACTOR)
    Watch().look()
    assert [name for name, _ in told("fallback.rate")] == ["Broke"]


def test_terms_of_before_have_what_is_usual(acme):
    AlertTerms.objects.create(workspace=acme.workspace)
    answered(acme, 20, depth=1)
    quota = QuotaFact("files", DEFAULTS.quota_percents[0], 100)
    assert Watch(Sources(quotas=lambda workspaces, now: {acme.workspace.pk: [quota]})).look() == 2


def test_the_records_of_all_workspaces_are_read_once_in_some_minutes(acme, rival):
    watch = Watch()
    with CaptureQueriesContext(connection) as first:
        watch.look()
    with CaptureQueriesContext(connection) as second:
        watch.look()
    asked = [sum("billing_usagerecord" in query["sql"] for query in queries) for queries in (first, second)]
    assert asked == [1, 0]


def test_fallbacks_that_came_since_are_seen_some_minutes_later(acme, monkeypatch):
    watch, now = Watch(), timezone.now()
    assert watch.look() == 0
    answered(acme, 20, depth=1)
    found = {}
    for minutes in (4, 6):
        monkeypatch.setattr("django.utils.timezone.now", lambda minutes=minutes: now + minutes * MINUTE)
        found[minutes] = watch.look()
    assert found == {4: 0, 6: 1}


def test_fallbacks_cost_one_query_however_many_workspaces_have_them(django_assert_num_queries):
    now = timezone.now()
    worlds = [make_world(f"w{number}", credits=0) for number in range(5)]
    for world in worlds:
        answered(world, 2)
        answered(world, 1, depth=1)
    with django_assert_num_queries(1):
        counts = get_fallback_counts(Span(now - DAY, timezone.now()))
    assert counts == {world.workspace.pk: (3, 1) for world in worlds}


def test_the_records_of_an_hour_are_found_by_an_index(acme):
    """A plan that reads the table would read a million rows for them."""
    now = timezone.now()
    with CaptureQueriesContext(connection) as queries:
        get_fallback_counts(Span(now - timedelta(hours=1), now))
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL enable_seqscan = off")  # which few rows are read by
        cursor.execute(("EXPLAIN " if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN ") + queries[0]["sql"])
        plan = " ".join(str(row[-1]) for row in cursor.fetchall())
    assert "usage_by_time" in plan or "usage_by_workspace" in plan
    assert "created_at" in plan


def test_models_used_are_those_of_days_and_of_requests_since(acme, rival, django_assert_num_queries):
    now = timezone.now()
    answered(acme, 2, ago=3 * DAY, model_used="old")
    answered(acme, 1, model_used="older")
    answered(acme, 1, model_used="other")
    answered(rival, 1, ago=40 * DAY, model_used="old")
    answered(rival, 1, model_used="", model_asked="old", status=404)
    expected = {acme.workspace.pk: {"old", "older"}}
    span = Span(now - 30 * DAY, timezone.now())
    assert get_models_used(["old", "older"], span) == expected
    assert roll_up(now) == 2
    with django_assert_num_queries(3):
        assert get_models_used(["old", "older"], span) == expected


def test_readers_of_other_apps_are_asked_for_the_workspaces_of_a_pass(acme, rival):
    asked = []

    def quotas(workspaces, now):
        asked.append(sorted(workspace.name for workspace in workspaces))
        return {acme.workspace.pk: [QuotaFact("files", 9, 10)]}

    def models(workspaces, now):
        return {rival.workspace.pk: [ModelFact("old", now.date())]}

    watch = Watch(Sources(quotas, models))
    assert [watch.look(), watch.look()] == [2, 0]
    assert asked == [["Acme", "Rival"]] * 2
    assert [name for name, _ in told("quota.reached")] == ["Acme"]
    assert told("model.deprecated") == [
        ("Rival", {"model": "old", "deprecated_on": f"{timezone.now().date()}", "days_left": 0})
    ]


def test_a_reader_that_fails_keeps_nothing_else_from_being_told(acme):
    reads = {"fail": False}

    def quotas(workspaces, now):
        if reads["fail"]:
            raise OSError("away")
        return {acme.workspace.pk: [QuotaFact("files", 10, 10)]}

    def models(workspaces, now):
        return {acme.workspace.pk: [ModelFact("old", now.date())]} if reads["fail"] else {}

    watch = Watch(Sources(quotas, models))
    assert watch.look() == 1
    before = AlertBook.objects.get().subjects
    reads["fail"] = True
    with pytest.raises(OSError, match="away"):
        watch.look()
    assert len(told("model.deprecated")) == 1
    after = AlertBook.objects.get().subjects
    assert before.items() < after.items(), "what was told of quotas is remembered"
    assert Watch().look() == 0
    assert AlertBook.objects.get().subjects == after, "nor is it forgotten by who cannot read it at all"
    reads["fail"] = False
    assert watch.look() == 0


def test_without_fallbacks_there_is_nothing_to_count(acme):
    answered(acme, 30)
    assert get_fallback_counts(Span(timezone.now() - DAY, timezone.now())) == {}
