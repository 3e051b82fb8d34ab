"""Presets: made, changed, given away; the budgets of the keys below follow at once."""

import pytest
from django.core.exceptions import ValidationError

from billing.apikeys import Creator, KeyChanges, KeyTerms, find, mint, update_key
from billing.models import AuditEvent, Budget, QuotaPreset
from billing.permissions import INFERENCE_SCOPES
from billing.presets import PlanCredits, change_preset, create_preset, list_presets, set_member_preset, set_plan
from billing.quotas import Limits
from tests.worlds import ACTOR, make_member

pytestmark = pytest.mark.django_db


def budgets():
    rows = Budget.objects.filter(scope="key", period="month")
    return dict(rows.values_list("scope_id", "limit_microcredits"))


def test_a_workspace_sees_its_presets_and_those_for_all(acme, rival):
    ours, theirs, everybodys = (
        create_preset(name, Limits(max_requests_per_minute=5), actor=ACTOR, workspace=workspace)
        for name, workspace in (("ours", acme.workspace), ("theirs", rival.workspace), ("all", None))
    )
    assert set(list_presets(acme.workspace)) == {ours, everybodys}
    assert set(list_presets(rival.workspace)) == {theirs, everybodys}


@pytest.mark.parametrize(
    "limits",
    [
        Limits(max_requests_per_minute=0),
        Limits(max_requests_daily=0),
        Limits(max_tokens_daily=-1),
        Limits(max_budget_monthly_microcredits=-1),
        Limits(max_storage_bytes_per_workspace=-1),
        Limits(frozenset()),
        Limits(frozenset({"\0"})),
    ],
    ids=str,
)
def test_limits_that_make_no_sense_make_no_preset(limits):
    with pytest.raises(ValidationError):
        create_preset("preset", limits, actor=ACTOR)
    assert not QuotaPreset.objects.exists()


def test_budgets_follow_every_layer(acme):
    member = make_member(acme.workspace, "developer")
    plan, personal, special = (create_preset(name, Limits(), actor=ACTOR) for name in ("plan", "personal", "special"))
    plain = acme.key
    owned, _ = mint(acme.workspace, "owned", actor=ACTOR, creator=Creator(INFERENCE_SCOPES, None, member))
    marked, _ = mint(acme.workspace, "marked", actor=ACTOR, terms=KeyTerms(preset=special, max_budget_monthly_microcredits=70))
    assert budgets() == {marked.pk: 70}
    set_plan(acme.workspace, plan, actor=ACTOR)
    set_member_preset(member, personal, actor=ACTOR)
    assert budgets() == {marked.pk: 70}
    change_preset(plan, "plan", Limits(max_budget_monthly_microcredits=100), actor=ACTOR)
    assert budgets() == {plain.pk: 100, owned.pk: 100, marked.pk: 70}
    change_preset(personal, "personal", Limits(max_budget_monthly_microcredits=50), actor=ACTOR)
    change_preset(special, "special", Limits(max_budget_monthly_microcredits=60), actor=ACTOR)
    assert budgets() == {plain.pk: 100, owned.pk: 50, marked.pk: 60}
    update_key(owned, KeyChanges(max_budget_monthly_microcredits=80), actor=ACTOR)
    update_key(marked, KeyChanges(preset=None), actor=ACTOR)
    assert budgets() == {plain.pk: 100, owned.pk: 50, marked.pk: 70}
    set_member_preset(member, None, actor=ACTOR)
    set_plan(acme.workspace, None, actor=ACTOR)
    assert budgets() == {owned.pk: 80, marked.pk: 70}


def test_a_changed_preset_counts_with_the_next_look_up(acme, rival):
    plan = create_preset("plan", Limits(max_requests_per_minute=5), actor=ACTOR)
    for world in (acme, rival):
        set_plan(world.workspace, plan, actor="staff:ada", reason="upgrade")
    change_preset(plan, "gold", Limits(frozenset("a"), max_requests_daily=8, max_tokens_daily=9), actor="staff:ada")
    for world in (acme, rival):
        principal = find(world.key.digest)
        assert (principal.max_requests_per_minute, principal.max_tokens_daily, principal.allowed_models) == (None, 9, {"a"})
        assert principal.max_requests_daily == 8
    events = AuditEvent.objects.filter(actor="staff:ada").values_list("action", "reason", "workspace")
    assert list(events) == [
        ("workspace.plan_set", "upgrade", acme.workspace.pk),
        ("workspace.plan_set", "upgrade", rival.workspace.pk),
        ("preset.changed", "", None),
    ]


def test_new_limits_leave_the_monthly_credits_of_a_plan(acme):
    """Also where others were given after the preset was read."""
    plan = create_preset("plan", Limits(), actor=ACTOR, plan_credits=PlanCredits(100))
    read_before = QuotaPreset.objects.get()
    credits = PlanCredits(200, has_rollover=True, max_rollover_microcredits=50)
    change_preset(plan, "plan", Limits(), actor=ACTOR, plan_credits=credits)
    change_preset(read_before, "gold", Limits(max_tokens_daily=9), actor=ACTOR)
    assert QuotaPreset.objects.values(*PlanCredits.__struct_fields__, "name", "max_tokens_daily").get() == {
        "monthly_microcredits": 200,
        "has_rollover": True,
        "max_rollover_microcredits": 50,
        "name": "gold",
        "max_tokens_daily": 9,
    }
    assert AuditEvent.objects.latest("pk").details["monthly_microcredits"] == 200
