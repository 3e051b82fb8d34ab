"""Presets, plans and members in the staff admin: acts with a form, an audit event, and effect on the keys."""

import pytest
from django.contrib.auth.models import User
from django.urls import reverse

from billing import apikeys
from billing.models import AuditEvent, Budget, Entry, Membership, QuotaPreset
from billing.presets import PlanCredits, create_preset
from billing.pricing import MAX_MICROCREDITS
from billing.quotas import Limits
from billing.workspaces import create_workspace
from tests.api.admin.pages import CREDIT, XSS, form_of, sign_in, text_of, url

pytestmark = pytest.mark.django_db

NEW = "admin:billing_quotapreset_new_preset"


def test_staff_make_and_change_a_preset(staff, customer):
    values = {"name": "small", "workspace": "acme", "allowed_models": "gpt-4o\no3", "max_tokens_daily": "5000000000"}
    values |= {"max_requests_daily": "9000", "max_budget_monthly_microcredits": "2.5"}
    response = staff.post(reverse(NEW), values, follow=True)
    assert "small was created" in text_of(response)
    preset = QuotaPreset.objects.get()
    assert (preset.workspace, preset.allowed_models, preset.max_tokens_daily) == (customer, ["gpt-4o", "o3"], 5_000_000_000)
    assert (preset.max_budget_monthly_microcredits, preset.max_requests_daily) == (2_500_000, 9000)
    form = form_of(staff.get(url(preset, "change_limits")))
    assert form["max_budget_monthly_microcredits"] == "2.5"
    changed = form | {"allowed_models": "", "max_files_per_workspace": "0"}
    assert staff.post(url(preset, "change_limits"), changed).status_code == 302
    preset.refresh_from_db()
    assert (preset.allowed_models, preset.max_files_per_workspace, preset.max_tokens_daily) == (["*"], 0, 5_000_000_000)
    actions = AuditEvent.objects.filter(actor="staff:ada").values_list("action", flat=True)
    assert list(actions) == ["preset.created", "preset.changed"]


def test_every_version_of_a_preset_is_kept_with_who_made_it_and_none_is_forged(staff, customer):
    limits = Limits(max_requests_per_minute=7, max_requests_daily=700)
    preset = create_preset("gold", limits, actor="test", workspace=customer)
    changes = {"max_requests_per_minute": "9", "max_requests_daily": "900"}
    form = form_of(staff.get(url(preset, "change_limits"))) | changes
    assert staff.post(url(preset, "change_limits"), form).status_code == 302
    newest, oldest = preset.history.all()
    assert (newest.max_requests_per_minute, newest.history_user.username) == (9, "ada")
    assert (oldest.max_requests_per_minute, oldest.history_user) == (7, None)
    assert (newest.max_requests_daily, oldest.max_requests_daily) == (900, 700)
    page = text_of(staff.get(url(preset, "history")))
    assert "ada" in page
    assert "Max requests per minute" in page
    assert "Max requests daily" in page
    version = reverse("admin:billing_quotapreset_simple_history", args=[preset.pk, oldest.pk])
    assert "gold" in text_of(staff.get(version))
    assert staff.post(version, {"name": "forged"}).status_code == 403
    preset.refresh_from_db()
    assert (preset.name, preset.max_requests_per_minute) == ("gold", 9)


@pytest.mark.parametrize(
    "values",
    [
        {"name": ""},
        {"workspace": "nobody"},
        {"max_requests_per_minute": "0"},
        {"max_requests_daily": "0"},
        {"max_requests_daily": str(2**31)},
        {"max_tokens_daily": str(2**63)},
        {"max_budget_monthly_microcredits": "-1"},
        {"max_file_size_bytes": "-1"},
        {"monthly_microcredits": "0"},
        {"has_rollover": "on"},
        {"monthly_microcredits": "1", "max_rollover_microcredits": "1"},
    ],
    ids=str,
)
def test_a_preset_that_makes_no_sense_is_not_made(staff, values):
    assert staff.post(reverse(NEW), {"name": "small"} | values).status_code == 400
    assert not QuotaPreset.objects.exists()


def test_a_plan_counts_for_the_keys_of_a_workspace(staff, customer):
    key, _ = apikeys.mint(customer, "laptop", actor="test")
    plan = create_preset("gold", Limits(max_requests_per_minute=7, max_budget_monthly_microcredits=CREDIT), actor="test")
    theirs = create_preset("theirs", Limits(), actor="test", workspace=create_workspace("rival", actor="test"))
    assert staff.post(url(customer, "set_plan"), {"plan": theirs.pk, "reason": "r"}).status_code == 400
    assert staff.post(url(customer, "set_plan"), {"plan": plan.pk, "reason": "upgrade"}).status_code == 302
    assert apikeys.find(key.digest).max_requests_per_minute == 7
    assert Budget.objects.get(scope="key", scope_id=key.pk).limit_microcredits == CREDIT
    assert staff.post(url(customer, "set_plan"), {"plan": "", "reason": "unpaid"}).status_code == 302
    assert apikeys.find(key.digest).max_requests_per_minute is None
    assert not Budget.objects.exists()
    assert [event.reason for event in AuditEvent.objects.filter(action="workspace.plan_set")] == ["upgrade", "unpaid"]


def test_staff_make_a_plan_with_credits_and_give_it(staff, customer):
    values = {"name": "pro", "monthly_microcredits": "100", "has_rollover": "on", "max_rollover_microcredits": "0.5"}
    assert staff.post(reverse(NEW), values).status_code == 302
    plan = QuotaPreset.objects.get()
    assert (plan.monthly_microcredits, plan.has_rollover, plan.max_rollover_microcredits) == (100 * CREDIT, True, CREDIT // 2)
    page = text_of(staff.post(url(customer, "set_plan"), {"plan": plan.pk, "reason": "contract 7"}, follow=True))
    assert "110" in page
    assert Entry.objects.get(kind="plan").amount_microcredits == 100 * CREDIT
    form = form_of(staff.get(url(plan, "change_limits")))
    assert (form["monthly_microcredits"], form["has_rollover"], form["max_rollover_microcredits"]) == ("100", "on", "0.5")
    form["monthly_microcredits"] = "150"
    del form["has_rollover"], form["max_rollover_microcredits"]
    assert staff.post(url(plan, "change_limits"), form).status_code == 302
    plan.refresh_from_db()
    assert (plan.monthly_microcredits, plan.has_rollover, plan.max_rollover_microcredits) == (150 * CREDIT, False, None)
    assert AuditEvent.objects.get(action="preset.changed").details["monthly_microcredits"] == 150 * CREDIT


def test_credits_that_cannot_be_kept_give_no_plan(staff, customer):
    credits = PlanCredits(MAX_MICROCREDITS)
    plan = create_preset("endless", Limits(), actor="test", plan_credits=credits)
    response = staff.post(url(customer, "set_plan"), {"plan": plan.pk, "reason": "r"})
    assert response.status_code == 400
    assert "cannot be kept" in text_of(response)
    customer.refresh_from_db()
    assert customer.plan is None
    assert not Entry.objects.filter(kind="plan").exists()


def test_staff_add_the_owner_of_a_workspace(staff, customer):
    User.objects.create_user("grace")
    assert staff.post(url(customer, "add_member"), {"user": "nobody", "role": "owner"}).status_code == 400
    assert staff.post(url(customer, "add_member"), {"user": "grace", "role": "owner"}).status_code == 302
    assert staff.post(url(customer, "add_member"), {"user": "ada", "role": "owner"}).status_code == 400
    member = Membership.objects.get()
    assert (member.user.username, member.role, member.workspace) == ("grace", "owner", customer)
    assert AuditEvent.objects.get(action="member.added").actor == "staff:ada"


def test_limits_of_a_minted_key(staff, customer):
    values = {"name": "laptop", "scopes": ["chat"], "max_tokens_per_minute": "40000", "max_tokens_daily": "50000"}
    values |= {"max_requests_daily": "600", "max_budget_monthly_microcredits": "0.5"}
    staff.post(url(customer, "mint_key"), values)
    key = customer.api_keys.get()
    assert (key.max_tokens_per_minute, key.max_tokens_daily, key.max_budget_monthly_microcredits) == (40_000, 50_000, 500_000)
    assert key.max_requests_daily == 600
    assert "Max requests daily" in text_of(staff.get(url(key, "change")))


def test_row_150_markup_is_shown_as_text(staff, customer):
    preset = create_preset(XSS, Limits(frozenset({XSS.replace(" ", "")})), actor="test")
    member = Membership.objects.create(workspace=customer, user=User.objects.create_user(XSS), role="viewer", preset=preset)
    pages = [url(QuotaPreset), url(Membership), *(url(row, "change") for row in (preset, member))]
    pages += [url(preset, "change_limits"), url(customer, "set_plan"), url(customer, "add_member"), reverse(NEW)]
    for page in pages:
        response = staff.get(page)
        assert response.status_code == 200
        assert "<img" not in response.content.decode().replace('<img src="/static', ""), page


def test_staff_without_permissions_can_do_nothing(client, customer):
    preset = create_preset("gold", Limits(), actor="test")
    sign_in(client, User.objects.create_user("intern", is_staff=True))
    pages = [reverse(NEW), url(preset, "change_limits"), url(customer, "set_plan"), url(customer, "add_member")]
    for page in pages:
        assert (
            client.post(page, {"name": "x", "reason": "r", "plan": preset.pk, "user": "intern", "role": "owner"}).status_code
            == 403
        )
    assert not Membership.objects.exists()
