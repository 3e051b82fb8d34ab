"""`GET /v1/credits`: the exact balance, in buckets that sum to it."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.utils import timezone

from billing.ledger.transfers import grant, renew_plan
from billing.models import Account
from billing.moments import moment_text
from billing.presets import PlanCredits, create_preset, set_plan
from billing.pricing import MICROCREDITS_PER_CREDIT
from billing.quotas import Limits
from tests.records import add_charge
from tests.worlds import ACTOR

pytestmark = pytest.mark.django_db

WHY = {"actor": ACTOR, "reason": "a test"}
CREDIT = MICROCREDITS_PER_CREDIT
NO_PLAN = {"left": 0, "expires_at": None, "granted": None, "renews_at": None, "rolls_over": False, "max_rollover": None}
FAR = datetime(2999, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _known_features(db):
    """Django asks SQLite once per connection whether it knows JSON; here, so that no test counts that query."""
    assert connection.features.supports_json_field


@pytest.fixture
def get(client, acme):
    """What acme's key is told."""

    def ask():
        response = client.get("/v1/credits", headers=acme.headers)
        assert response.status_code == 200, response.content
        answer = json.loads(response.content, parse_float=Decimal)
        assert sum(bucket["left"] for bucket in answer["buckets"].values()) == answer["balance"]
        assert answer["balance"] - answer["held"] == answer["available"]
        return answer

    return ask


def give(world, credits, expires_at=FAR):
    amount = credits * CREDIT
    key = f"{credits} until {expires_at}"
    return grant(world.workspace, amount, idempotency_key=key, expires_at=expires_at, **WHY)


def test_digits_are_exact(client, acme):
    Account.objects.filter(workspace=acme.workspace).update(posted_microcredits=999_852_500, held_microcredits=1)
    text = client.get("/v1/credits", headers=acme.headers).content.decode()
    assert text.startswith('{"object":"credits","balance":999.8525,"held":0.000001,"available":999.852499,"buckets":{')
    assert '"top_ups":{"left":999.8525,"expires_at":null}}' in text


def test_there_may_be_none(client, broke):
    answer = client.get("/v1/credits", headers=broke.headers).json()
    assert answer == {
        "object": "credits",
        "balance": 0,
        "held": 0,
        "available": 0,
        "buckets": {
            "plan": NO_PLAN,
            "grants": {"left": 0, "expires_at": None},
            "top_ups": {"left": 0, "expires_at": None},
        },
        "next_expiry": None,
    }


def test_what_expires_first_is_spent_first(get, acme):
    give(acme, 5, FAR + timedelta(days=1))
    give(acme, 3)
    give(acme, 1)
    add_charge(acme, 2 * CREDIT + 1)
    answer = get()
    assert answer["buckets"]["grants"] == {"left": Decimal("6.999999"), "expires_at": moment_text(FAR)}
    assert answer["next_expiry"] == {"left": Decimal("1.999999"), "expires_at": moment_text(FAR)}
    add_charge(acme, 8 * CREDIT)
    answer = get()
    assert answer["buckets"]["grants"] == {"left": 0, "expires_at": None}
    assert answer["buckets"]["top_ups"] == {"left": Decimal("998.999999"), "expires_at": None}
    assert answer["next_expiry"] is None


def test_a_grant_that_never_expires_is_with_the_top_ups(get, acme):
    give(acme, 5, None)
    assert get()["buckets"]["top_ups"]["left"] == 1005


def test_a_plan_says_what_it_gave_and_when_it_gives_again(get, acme):
    credits = PlanCredits(100 * CREDIT, has_rollover=True, max_rollover_microcredits=CREDIT // 2)
    set_plan(acme.workspace, create_preset("pro", Limits(), actor=ACTOR, plan_credits=credits), actor=ACTOR)
    add_charge(acme, 30 * CREDIT)
    plan = get()["buckets"]["plan"]
    assert (plan["left"], plan["granted"], plan["rolls_over"], plan["max_rollover"]) == (70, 100, True, Decimal("0.5"))
    assert moment_text(timezone.now()) < plan["renews_at"] < plan["expires_at"]
    assert get()["next_expiry"] == {"left": 70, "expires_at": plan["expires_at"]}
    add_charge(acme, 80 * CREDIT)
    plan = get()["buckets"]["plan"]
    assert (plan["left"], plan["granted"], plan["expires_at"]) == (0, 100, None)
    set_plan(acme.workspace, None, actor=ACTOR)
    assert get()["buckets"]["plan"] == NO_PLAN | {"granted": 100}


def test_what_rolled_over_and_what_is_new_are_both_of_the_plan(get, acme):
    for number in (1, 2):
        expires_at = FAR + timedelta(days=31 * number)
        renew_plan(acme.workspace, number * CREDIT, period=str(number), expires_at=expires_at, **WHY)
    answer = get()
    assert answer["buckets"]["plan"]["left"] == 3
    assert answer["buckets"]["plan"]["granted"] == 2
    assert answer["next_expiry"] == {"left": 1, "expires_at": moment_text(FAR + timedelta(days=31))}


def test_credit_past_its_expiry_counts_until_that_is_booked(get, acme):
    """What was spent after it is not of it; nobody is told that it expires again."""
    end = timezone.now() - timedelta(minutes=5)
    give(acme, 10, end)
    add_charge(acme, CREDIT, created_at=end - timedelta(minutes=1))
    add_charge(acme, 2 * CREDIT, created_at=end + timedelta(minutes=1))
    answer = get()
    assert answer["buckets"]["grants"] == {"left": 9, "expires_at": None}
    assert answer["buckets"]["top_ups"]["left"] == 998
    assert answer["next_expiry"] is None


def test_only_one_s_own_credit_is_told(get, acme, rival):
    give(rival, 7)
    renew_plan(rival.workspace, 9 * CREDIT, period="1", expires_at=FAR, **WHY)
    assert get()["buckets"] == {
        "plan": NO_PLAN,
        "grants": {"left": 0, "expires_at": None},
        "top_ups": {"left": 1000, "expires_at": None},
    }


def test_buckets_cost_the_key_s_look_up_and_one_query(get, acme, django_assert_num_queries):
    give(acme, 5)
    give(acme, 6)
    with django_assert_num_queries(2):
        get()
