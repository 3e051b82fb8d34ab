"""Days that were added up: the same figures as the requests themselves, whatever span, grouping and filter is asked for."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from billing.models import EndUserDay, UsageDay
from billing.moments import Span
from billing.reports import usage
from billing.rollups import roll_up
from tests.records import NOON, add_charge, add_record
from tests.worlds import World

pytestmark = pytest.mark.django_db

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
MIDNIGHT = NOON.replace(hour=0)
NOW = NOON + DAY


@pytest.fixture
def traffic(acme: World, rival: World) -> World:
    """Three days with a pause between, today's requests, and those of somebody else."""
    for number, at in enumerate((NOON - 5 * DAY, NOON - 2 * DAY, MIDNIGHT - timedelta(microseconds=1), MIDNIGHT, NOON, NOW)):
        add_charge(
            acme, 1000 + number, created_at=at, model_used=f"model-{number % 2}", end_user=f"u{number % 3}", first_token_ms=9
        )
        add_record(acme, created_at=at, status=502, end_state="error", model_used="")
        add_charge(rival, 5, created_at=at)
    return acme


def figures(world: World, span: Span, only: usage.Only) -> list[object]:
    groups = [usage.list_groups(world.workspace.pk, span, grouping, only=only) for grouping in usage.GROUPINGS]
    days = [
        usage.list_days(world.workspace.pk, span, grouping, leading, only=only)
        for grouping, listed in zip(usage.GROUPINGS, groups, strict=True)
        for leading in ([], listed[:1], listed)
        if grouping != "day"
    ]
    return [usage.get_totals(world.workspace.pk, span, only), groups, days]


SPANS = [
    Span(NOON - 9 * DAY, NOW + HOUR),
    Span(MIDNIGHT - 2 * DAY, MIDNIGHT + DAY),
    Span(NOON - 2 * DAY + timedelta(seconds=1), NOON),
    Span(NOON, NOON + HOUR),
    Span(MIDNIGHT - 5 * DAY, MIDNIGHT - 3 * DAY),
]


@pytest.mark.slow
def test_pages_say_the_same_before_and_after(traffic):
    filters = [usage.ALL, usage.Only(key=traffic.key.public_id), usage.Only(owner_id=0), usage.Only(model="model-1")]
    filters += [usage.Only(state="failed"), usage.Only(reference="req-1")]
    asked = [(span, only) for span in SPANS for only in filters]
    before = [figures(traffic, span, only) for span, only in asked]
    assert roll_up(NOW) == 4
    for (span, only), said in zip(asked, before, strict=True):
        assert figures(traffic, span, only) == said, (span, only)


def test_a_day_is_added_up_once_it_is_over_and_only_once(traffic):
    assert roll_up(MIDNIGHT + HOUR - timedelta(seconds=1)) == 2
    assert roll_up(MIDNIGHT + HOUR) == 1
    assert roll_up(MIDNIGHT + HOUR) == 0
    days = UsageDay.objects.filter(workspace=traffic.workspace)
    assert set(days.values_list("day", flat=True)) == {(NOON - back * DAY).date() for back in (5, 2, 1)}
    assert set(EndUserDay.objects.values_list("day", flat=True)) == set(UsageDay.objects.values_list("day", flat=True))


def test_what_is_recorded_after_the_last_day_that_was_added_up_counts(traffic):
    roll_up(NOW)
    add_charge(traffic, 7, created_at=NOW)
    span = Span(MIDNIGHT - 9 * DAY, NOW + HOUR)
    assert usage.get_totals(traffic.workspace.pk, span).charged_microcredits == sum(1000 + number for number in range(6)) + 7


def test_a_month_of_requests_is_three_queries(traffic, django_assert_max_num_queries):
    roll_up(NOW)
    with django_assert_max_num_queries(3):
        usage.get_totals(traffic.workspace.pk, Span(MIDNIGHT - 30 * DAY, NOW))
    with django_assert_max_num_queries(1):
        usage.get_totals(traffic.workspace.pk, Span(NOON, NOON + HOUR))


def test_keys_are_charged_what_their_requests_were(traffic):
    span = Span(datetime.min.replace(tzinfo=NOON.tzinfo, year=2026), NOW + HOUR)
    roll_up(NOW)
    assert usage.charged_by_key(traffic.workspace.pk, span) == {traffic.key.public_id: sum(1000 + n for n in range(6))}
