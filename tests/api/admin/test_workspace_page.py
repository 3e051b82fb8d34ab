"""The page of a workspace: limits with their sources, keys, members, credits; the spend stop, and what is done to members."""

import pytest
from django.contrib.auth.models import User

from billing import apikeys, members
from billing.models import AuditEvent, Budget, Membership
from billing.presets import create_preset, set_plan
from billing.quotas import Limits
from tests.api.admin.pages import CREDIT, text_of, url

pytestmark = pytest.mark.django_db


@pytest.fixture
def dev(customer) -> Membership:
    members.add_member(customer, User.objects.create_user("grace"), Membership.Role.OWNER, actor="test")
    return members.add_member(customer, User.objects.create_user("dev"), Membership.Role.DEVELOPER, actor="test")


def test_the_page_tells_limits_with_their_sources_and_who_is_in(staff, customer, dev, settings, django_assert_max_num_queries):
    settings.PLATFORM_LIMITS = {"max_requests_per_minute": 900}
    limits = Limits(frozenset({"gpt-4o"}), max_requests_daily=9_000, max_tokens_daily=5_000_000)
    plan = create_preset("gold", limits, actor="test")
    set_plan(customer, plan, actor="test")
    apikeys.mint(customer, "laptop", actor="test")
    with django_assert_max_num_queries(20):
        response = staff.get(url(customer, "change"))
    limits = {name: (value, source) for name, value, source in response.context["limits"]}
    assert limits["Requests a minute"] == ("900", "platform")
    assert limits["Requests a day"] == ("9,000", "workspace plan")
    assert limits["Tokens a day"] == ("5,000,000", "workspace plan")
    assert limits["Models"] == ("gpt-4o", "workspace plan")
    assert limits["Files"] == ("none", "-")
    text = text_of(response)
    for word in ("laptop", "Developer", "grace", "10 credits", "gold"):
        assert word in text


def test_a_spend_stop_is_a_budget_of_the_workspace(staff, customer):
    values = {"period": "day", "limit": "2.5", "reason": "a runaway agent"}
    assert staff.post(url(customer, "stop_spending"), values).status_code == 302
    budget = Budget.objects.get(scope="workspace", scope_id=customer.pk)
    assert (budget.period, budget.limit_microcredits) == ("day", 5 * CREDIT // 2)
    event = AuditEvent.objects.get(action="budget.set")
    assert (event.actor, event.reason) == ("staff:ada", "a runaway agent")
    page = staff.get(url(customer, "change"))
    assert page.context["stops"] == [("Day", "2.5000", "0.0000", "2.5000")]
    assert "2.5000" in text_of(page)
    assert staff.post(url(customer, "stop_spending"), values | {"limit": "-1"}).status_code == 400
    assert staff.post(url(customer, "stop_spending"), values | {"reason": ""}).status_code == 400
    staff.post(url(customer, "stop_spending"), values | {"limit": ""})
    assert not Budget.objects.exists()


def test_a_member_gets_another_role_and_is_removed(staff, dev):
    assert "is viewer now" in text_of(staff.post(url(dev, "change_role"), {"role": "viewer"}, follow=True))
    assert Membership.objects.get(pk=dev.pk).role == "viewer"
    assert staff.post(url(dev, "change_role"), {"role": "owner"}).status_code == 400
    assert staff.get(url(dev, "remove")).status_code == 200
    assert "was removed" in text_of(staff.post(url(dev, "remove"), follow=True))
    assert Membership.objects.get(pk=dev.pk).removed_at is not None
    assert staff.post(url(dev, "remove")).status_code == 400
    assert list(AuditEvent.objects.filter(actor="staff:ada").values_list("action", flat=True)) == [
        "member.role_changed",
        "member.removed",
    ]


def test_the_owner_stays(staff, dev):
    owner = Membership.objects.get(role="owner")
    for page, values in (("change_role", {"role": "admin"}), ("remove", {})):
        assert staff.post(url(owner, page), values).status_code == 400
    assert Membership.objects.get(pk=owner.pk).role == "owner"
