"""The business at a glance: what requests add up to, step by step, and what is held and sold."""

from datetime import UTC, datetime, timedelta

import pytest

from billing.ledger import transfers
from billing.models import Hold
from billing.pricing import MICROCREDITS_PER_CREDIT
from billing.reports.overview import PERIODS, get_overview
from tests.records import add_charge, add_record, add_refusal

pytestmark = pytest.mark.django_db

CREDIT = MICROCREDITS_PER_CREDIT
NOW = datetime(2026, 3, 10, 15, 30, tzinfo=UTC)


def test_every_step_is_there_and_holds_its_own_requests(acme, rival):
    add_charge(acme, 2 * CREDIT, created_at=NOW, model_used="gpt-4o", first_token_ms=100)
    add_charge(rival, CREDIT, created_at=NOW - timedelta(minutes=5), model_used="gpt-4o", first_token_ms=300)
    add_charge(acme, CREDIT, created_at=NOW - timedelta(hours=2), model_used="o3")
    add_refusal(acme, created_at=NOW - timedelta(hours=2))
    add_charge(acme, 7 * CREDIT, created_at=NOW - timedelta(hours=24))
    told = get_overview(PERIODS["24h"], NOW)
    assert (told.keys[0], told.keys[-1], len(told.keys)) == ("2026-03-09 16", "2026-03-10 15", 24)
    cells = [(cell.key, cell.model, cell.requests, cell.failed, cell.charged) for cell in told.cells]
    assert cells == [
        ("2026-03-10 13", "", 1, 1, 0),
        ("2026-03-10 13", "o3", 1, 0, CREDIT),
        ("2026-03-10 15", "gpt-4o", 2, 0, 3 * CREDIT),
    ]
    assert (told.requests, told.failed, told.charged) == (4, 1, 4 * CREDIT)
    assert (told.first_token_median_ms, told.first_token_p95_ms) == (200, 290)


def test_a_day_ends_at_midnight_utc(acme):
    midnight = datetime(2026, 3, 10, tzinfo=UTC)
    add_record(acme, created_at=midnight - timedelta(microseconds=1))
    add_record(acme, created_at=midnight)
    add_record(acme, created_at=midnight - timedelta(days=6))
    told = get_overview(PERIODS["7d"], NOW)
    assert [cell.key for cell in told.cells] == ["2026-03-04", "2026-03-09", "2026-03-10"]
    assert told.keys[0] == "2026-03-04"
    assert len(get_overview(PERIODS["30d"], NOW).keys) == 30


def test_what_is_sold_given_held_and_overdue(acme, broke, django_assert_max_num_queries):
    transfers.grant(broke.workspace, 3 * CREDIT, idempotency_key="g", actor="test", reason="r")
    for number, lease_at in enumerate((NOW + timedelta(seconds=60), NOW - timedelta(seconds=31)), start=1):
        Hold.objects.create(
            account=acme.workspace.account,
            api_key=acme.key,
            generation=f"g{number}",
            sequence=1,
            amount_microcredits=5 * CREDIT,
            price_version_id=1,
            created_at=NOW,
            lease_expires_at=lease_at,
        )
    add_record(acme, created_at=NOW, overrun_microcredits=9)
    with django_assert_max_num_queries(10):
        told = get_overview(PERIODS["30d"], NOW)
    assert (told.sold, told.given, told.balance) == (1000 * CREDIT, 3 * CREDIT, 1003 * CREDIT)
    assert (told.held, told.open_holds, told.overdue_holds) == (10 * CREDIT, 2, 1)
    assert (told.waiting_orders, told.suspended) == (0, 0)


def test_nothing_is_nothing(db):
    told = get_overview(PERIODS["24h"], NOW)
    assert (told.requests, told.charged, told.first_token_median_ms) == (0, 0, None)
