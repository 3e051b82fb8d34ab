"""The page of limits: every layer, the one that counts, and what stands against it."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.utils import timezone

from billing import budgets, presets, quotas
from billing.apikeys import KeyTerms, mint
from billing.models import ApiKey, Budget, Hold
from billing.reports.credits import get_key_spend, list_budgets_above
from billing.reports.running import Running, get_running
from chat.console.refusals import list_refusals
from files.console.limits import RULES
from tests.api.console.test_figures import CREDIT, record, rows_of
from tests.worlds import ACTOR

pytestmark = pytest.mark.django_db


@pytest.fixture
def limited(acme, people):
    """A key with limits of plan, member and its own."""
    limits = quotas.Limits(max_requests_per_minute=600, max_requests_daily=9_000, max_tokens_daily=5_000_000)
    presets.set_plan(acme.workspace, presets.create_preset("Team", limits, actor=ACTOR), actor=ACTOR)
    preset = presets.create_preset("Interns", quotas.Limits(max_requests_per_minute=60), actor=ACTOR, workspace=acme.workspace)
    presets.set_member_preset(people["developer"], preset, actor=ACTOR)
    terms = KeyTerms(max_budget_monthly_microcredits=100 * CREDIT, max_requests_daily=50, max_concurrent_requests=4)
    key, _ = mint(acme.workspace, "limited", actor=ACTOR, terms=terms)
    ApiKey.objects.filter(pk=key.pk).update(owner=people["developer"])
    return ApiKey.objects.get(pk=key.pk)


def row_of(page: str, name: str) -> str:
    return next(row for row in rows_of(page) if row.startswith(name))


def test_a_key_shows_each_layer_the_source_and_what_is_used(limited, as_role):
    record(limited, 5, prompt_tokens=1000, completion_tokens=234)
    Budget.objects.filter(scope="key").update(spent_microcredits=92_300_000)
    page = as_role("owner")(f"limits?of={limited.public_id}").content.decode()
    requests = row_of(page, "Requests a minute")
    assert re.search(r"refused\. rate_limit_exceeded .* 600 60 – 60 member preset 1 1\.6 %", requests), requests
    of_the_day = row_of(page, "Requests a day")
    assert re.search(
        r"Hard\. The request above it is refused\. rate_limit_exceeded .* 9,000 – 50 50 key 1 2\.0 %", of_the_day
    ), of_the_day
    assert "00:00 UTC" in of_the_day
    assert "Soft. The request that crosses it completes" in row_of(page, "Tokens a day")
    assert re.search(r"5,000,000 – – 5,000,000 workspace plan 1,234 ", row_of(page, "Tokens a day"))
    assert "92.3 %" in row_of(page, "Credits a month")
    assert "4 key 0" in row_of(page, "Requests at once")
    assert "every model" in row_of(page, "Models")


def test_the_workspace_shows_what_all_keys_share_and_its_budgets(limited, acme, as_role):
    budgets.set_budget(acme.workspace, period=Budget.Period.DAY, limit_microcredits=50 * CREDIT, actor=ACTOR)
    page = as_role("billing")("limits").content.decode()
    assert "Workspace, a day" in page
    assert "1,000.0000" in page
    assert "limited" not in page
    assert "Used now" not in page
    assert "as files are deleted" in as_role("viewer")("limits").content.decode()


def test_a_developer_sees_his_own_and_not_what_the_workspace_spends(limited, acme, people, as_role):
    budgets.set_budget(acme.workspace, period=Budget.Period.DAY, limit_microcredits=50 * CREDIT, actor=ACTOR)
    budgets.set_budget(people["developer"], period=Budget.Period.WEEK, limit_microcredits=30 * CREDIT, actor=ACTOR)
    for path in ("limits", f"limits?of={limited.public_id}", "limits?of="):
        page = as_role("developer")(path).content.decode()
        assert "Workspace, a day" not in page, path
        assert "1,000.0000" not in page, path
    assert "This member, a week" in as_role("developer")("limits").content.decode()


@pytest.mark.parametrize("of", ["key_0", "mem_0", "x", "%00"])
def test_whose_limits_nobody_knows_is_not_found(as_role, of):
    assert as_role("owner")(f"limits?of={of}").status_code == 404


def test_what_runs_is_counted_for_all_keys_of_a_family(acme, other_key):
    now = timezone.now()
    record(acme.key, 10)
    record(other_key, 20)
    record(
        acme.key, 30, status=429, error_code="rate_limit_exceeded", charged_microcredits=0, prompt_tokens=0, completion_tokens=0
    )
    record(acme.key, 40, created_at=now - timedelta(days=2))
    common = {"account": acme.workspace.account, "api_key": other_key, "amount_microcredits": 1, "price_version_id": 1}
    for sequence in range(2):
        lease = now + timedelta(seconds=90)
        Hold.objects.create(**common, generation="chatcmpl-open", sequence=sequence, lease_expires_at=lease)
    later = max(now, now.replace(hour=0, minute=2))
    counted = get_running(acme.key, now)
    day = (counted.day_requests, counted.day_tokens)
    assert counted == Running(2, 2200, *day, open_requests=1)
    if later == now:
        assert day == (2, 2200)


@pytest.fixture
def other_key(acme):
    key, _ = mint(acme.workspace, "rolled", actor=ACTOR)
    ApiKey.objects.filter(pk=key.pk).update(family=acme.key)
    return ApiKey.objects.get(pk=key.pk)


def test_what_staff_set_is_shown_as_theirs(acme, as_role):
    def shown():
        page = as_role("owner")("limits").content.decode()
        return page.partition("Workspace, a day")[2].partition("</tr>")[0]

    def set_to(credits, *, is_bound):
        limit = credits * CREDIT
        budgets.set_budget(acme.workspace, period=Budget.Period.DAY, limit_microcredits=limit, actor=ACTOR, is_bound=is_bound)

    set_to(9, is_bound=True)
    assert "key_budget_exceeded" in shown()
    assert "taff" not in shown()
    set_to(5, is_bound=False)
    assert "Set by staff: members may make it tighter, not looser." in shown()
    set_to(2, is_bound=True)
    assert "Staff allow at most 5." in shown()


def test_budgets_above_a_member_are_those_of_his_key(limited, acme, people):
    budgets.set_budget(acme.workspace, period=Budget.Period.DAY, limit_microcredits=5, actor=ACTOR)
    budgets.set_budget(people["developer"], period=Budget.Period.WEEK, limit_microcredits=3, actor=ACTOR)
    now = timezone.now()
    of_key = [budget for budget in get_key_spend(acme.workspace.pk, limited.pk, now).budgets if budget.scope != "key"]
    assert list_budgets_above(people["developer"], now) == of_key
    assert list_budgets_above(acme.workspace, now) == [budget for budget in of_key if budget.scope == "workspace"]


def test_every_limit_has_its_words_and_a_code_that_exists():
    assert set(RULES) == set(quotas.FIELDS)
    assert {rule.code for rule in RULES.values()} <= {refusal.code for refusal in list_refusals()}
