"""`/api/workspaces/{id}/budgets`: one budget for each scope and period, in exact credits."""

import json
from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from billing.budgets import set_budget
from billing.models import Budget
from tests.api.management.conftest import error_of
from tests.worlds import ACTOR

pytestmark = pytest.mark.django_db


def put(ask, **body):
    return ask("put", "/budgets", body)


def test_a_budget_is_set_changed_and_taken_away(as_role, acme):
    ask = as_role("billing")
    response = put(ask, scope="workspace", limit=0.1)
    body = json.loads(response.content, parse_float=Decimal)
    assert response.status_code == 200
    assert body.pop("id").startswith("budget_")
    assert body.pop("started_at") < body.pop("resets_at")
    assert body == {
        "object": "budget",
        "scope": "workspace",
        "scope_id": acme.workspace.public_id,
        "period": "month",
        "limit": Decimal("0.1"),
        "staff_limit": None,
        "spent": 0,
        "held": 0,
        "available": Decimal("0.1"),
    }
    assert put(ask, scope="workspace", scope_id=acme.workspace.public_id, limit=7).json()["limit"] == 7
    gone = put(ask, scope="workspace", limit=None)
    assert gone.json() == {"object": "budget", "scope": "workspace", "scope_id": acme.workspace.public_id, "limit": None}
    assert not Budget.objects.exists()


def test_the_monthly_budget_of_a_key_is_its_own_limit(as_role, acme):
    ask = as_role("admin")
    put(ask, scope="key", scope_id=acme.key.public_id, limit=3)
    assert ask("get", f"/keys/{acme.key.public_id}").json()["maxBudgetMonthlyCredits"] == 3


def test_a_list_shows_the_period_of_now(as_role, acme, people, own_key_of, django_assert_max_num_queries):
    own = own_key_of(people["developer"])
    for row in (acme.workspace, acme.key, people["developer"], own, people["admin"]):
        set_budget(row, period=Budget.Period.DAY, limit_microcredits=5_000_000, actor=ACTOR)
    Budget.objects.update(spent_microcredits=2_000_000, held_microcredits=500_000)
    Budget.objects.filter(scope="workspace").update(period_started_at=timezone.now() - timedelta(days=3))
    ask = as_role("viewer")
    with django_assert_max_num_queries(8):
        budgets = ask("get", "/budgets").json()["data"]
    found = {
        (budget["scope"], budget["scope_id"]): (budget["spent"], budget["held"], budget["available"]) for budget in budgets
    }
    today = (2, 0.5, 2.5)
    assert found == {
        ("workspace", acme.workspace.public_id): (0, 0.5, 4.5),
        ("key", acme.key.public_id): today,
        ("key", own.public_id): today,
        ("member", people["developer"].public_id): today,
        ("member", people["admin"].public_id): today,
    }
    own_ones = as_role("developer")("get", "/budgets").json()["data"]
    assert {budget["scope_id"] for budget in own_ones} == {own.public_id, people["developer"].public_id}


def test_a_developer_rolls_his_key_and_not_the_budget_that_binds_it(as_role, acme, people, own_key_of):
    own = own_key_of(people["developer"])
    put(as_role("admin"), scope="key", scope_id=own.public_id, limit=5)
    Budget.objects.update(spent_microcredits=4_000_000)
    ask = as_role("developer")
    rolled = ask("post", f"/keys/{own.public_id}/roll", {"overlap": "24h"}).json()
    [budget] = ask("get", "/budgets").json()["data"]
    assert (budget["scope_id"], budget["limit"], budget["spent"], budget["available"]) == (rolled["id"], 5, 4, 1)
    assert rolled["maxBudgetMonthlyCredits"] == 5
    for key_id in (own.public_id, rolled["id"]):
        assert put(as_role("admin"), scope="key", scope_id=key_id, limit=7).json()["id"] == budget["id"]


@pytest.mark.parametrize("period", ["month", "day"])
def test_a_developer_makes_what_an_admin_set_tighter_and_never_looser(as_role, people, own_key_of, period):
    own = own_key_of(people["developer"])
    admin, developer = as_role("admin"), as_role("developer")

    def set_by(ask, limit):
        response = put(ask, scope="key", scope_id=own.public_id, period=period, limit=limit)
        return response.json()["limit"] if response.status_code == 200 else error_of(response)

    refused = (403, "permission_denied", "limit")
    assert [set_by(developer, limit) for limit in (9, 3, None)] == [9, 3, None], "nobody has set one before"
    assert set_by(admin, 5) == 5
    assert [set_by(developer, limit) for limit in (6, None, 2, 5)] == [refused, refused, 2, 5]
    assert set_by(admin, 8) == 8
    assert set_by(developer, 8) == 8
    assert set_by(admin, None) is None
    assert set_by(developer, 100) == 100


@pytest.mark.slow
@pytest.mark.parametrize("who", ["owner", "admin", "billing", "key"])
def test_members_and_keys_make_what_staff_set_tighter_and_never_looser(as_role, as_key, acme, people, who):
    ask = as_key("workspace:manage") if who == "key" else as_role(who)

    def by_staff(credits):
        limit = None if credits is None else credits * 1_000_000
        set_budget(acme.workspace, period=Budget.Period.DAY, limit_microcredits=limit, actor="staff:ada", reason="fraud")

    def set_to(limit):
        response = put(ask, scope="workspace", period="day", limit=limit)
        body = response.json()
        return (body["limit"], body.get("staff_limit")) if response.status_code == 200 else error_of(response)

    refused = (403, "permission_denied", "limit")
    assert [set_to(limit) for limit in (9, None)] == [(9, None), (None, None)]
    by_staff(0)
    assert [set_to(limit) for limit in (1, None, 0)] == [refused, (0, 0), (0, 0)]
    by_staff(5)
    assert [set_to(limit) for limit in (6, 2, 5, 2, None, 3)] == [refused, (2, 5), (5, 5), (2, 5), (5, 5), (3, 5)]
    [listed] = ask("get", "/budgets").json()["data"]
    assert (listed["limit"], listed["staff_limit"]) == (3, 5)
    by_staff(8)
    assert Budget.objects.get().limit_microcredits == 3_000_000, "it is the workspace's own"
    assert [set_to(limit) for limit in (9, None)] == [refused, (8, 8)]
    message = put(ask, scope="workspace", period="day", limit=9).json()["error"]["message"]
    assert message == "The staff of this gateway set this limit, to 8 credits: you may make it tighter, not looser."
    assert put(ask, scope="workspace", period="week", limit=9).status_code == 200, "staff set none for a week"
    set_to(2)
    by_staff(1)
    by_staff(4)
    assert Budget.objects.get(period="day").limit_microcredits == 2_000_000, "it is the workspace's own again"
    by_staff(1)
    by_staff(None)
    assert Budget.objects.get(period="day").limit_microcredits == 2_000_000, "and was not lifted with theirs"
    assert [set_to(limit) for limit in (2, 100, None)] == [(2, None), (100, None), (None, None)]


def test_a_limit_below_what_is_spent_leaves_nothing(as_role, acme):
    set_budget(acme.workspace, period=Budget.Period.NEVER, limit_microcredits=5_000_000, actor=ACTOR)
    Budget.objects.update(spent_microcredits=4_000_000)
    body = put(as_role("owner"), scope="workspace", period="never", limit=1).json()
    assert (body["spent"], body["available"], body["resets_at"]) == (4, 0, None)


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"limit": 1}, "missing_required_parameter", "scope"),
        ({"scope": "workspace"}, "missing_required_parameter", "limit"),
        ({"scope": "planet", "limit": 1}, "invalid_value", "scope"),
        ({"scope": "key", "limit": 1}, "invalid_value", "scope_id"),
        ({"scope": "workspace", "scope_id": "ws_other", "limit": 1}, "invalid_value", "scope_id"),
        ({"scope": "workspace", "period": "year", "limit": 1}, "invalid_value", "period"),
        ({"scope": "workspace", "limit": -1}, "invalid_value", "limit"),
        ({"scope": "workspace", "limit": 10**18}, "invalid_value", "limit"),
        ({"scope": "workspace", "limit": "1"}, "invalid_type", "limit"),
        ({"scope": "workspace", "limit": 1, "spent": 0}, "unknown_parameter", "spent"),
    ],
    ids=str,
)
def test_what_is_no_budget(as_role, body, code, param):
    assert error_of(as_role("owner")("put", "/budgets", body)) == (400, code, param)
    assert not Budget.objects.exists()
