"""`/api/workspaces/{id}/presets`: a workspace makes and changes its own, and never what binds itself."""

import json
from decimal import Decimal

import pytest

from billing.apikeys import KeyTerms, find, mint
from billing.models import AuditEvent, Budget, QuotaPreset
from billing.presets import PlanCredits, create_preset, set_plan
from billing.quotas import Limits
from tests.api.management.conftest import error_of
from tests.worlds import ACTOR

pytestmark = pytest.mark.django_db

LIMITS = {
    "allowedModels": ["gpt-4o", "o3"],
    "maxRequestsPerMinute": 30,
    "maxRequestsDaily": 9_000,
    "maxTokensPerMinute": 40_000,
    "maxTokensDaily": 5_000_000_000,
    "maxConcurrentRequests": 4,
    "maxBudgetMonthlyCredits": 25.000001,
    "maxFileSizeBytes": 5_000_000_000,
    "maxFilesPerWorkspace": 0,
    "maxStorageBytesPerWorkspace": None,
}
NO_PLAN = {"monthlyCredits": None, "hasRollover": False, "maxRolloverCredits": None}


def decoded(response):
    return json.loads(response.content, parse_float=Decimal)


def test_a_new_preset_is_as_asked_for_and_can_be_given(as_role, acme):
    ask = as_role("admin")
    response = ask("post", "/presets", {"name": "Team", **LIMITS})
    assert response.status_code == 201
    body = decoded(response)
    assert body.pop("id").startswith("preset_")
    assert body.pop("created_at").endswith("Z")
    budget = Decimal("25.000001")
    limits = {**LIMITS, "maxBudgetMonthlyCredits": budget}
    assert body == {"object": "preset", "name": "Team", "is_shared": False, **limits, **NO_PLAN}
    preset = QuotaPreset.objects.get()
    assert (preset.workspace, preset.monthly_microcredits) == (acme.workspace, None)
    assert decoded(ask("get", f"/presets/{preset.public_id}")) == decoded(response)
    assert [row["id"] for row in ask("get", "/presets").json()["data"]] == [preset.public_id]
    key = ask("post", "/keys", {"name": "key", "preset": preset.public_id}).json()
    assert key["limits"]["maxTokensDaily"] == {"value": 5_000_000_000, "source": "key preset"}
    assert key["limits"]["maxRequestsDaily"] == {"value": 9_000, "source": "key preset"}
    assert Budget.objects.get().limit_microcredits == 25_000_001
    event = AuditEvent.objects.get(action="preset.created")
    assert (event.actor, event.workspace, event.target) == ("user:admin-of-acme", acme.workspace, preset.public_id)


def test_a_preset_without_limits_limits_nothing(as_role):
    for models in ({}, {"allowedModels": ["*"]}, {"allowedModels": ["*", "gpt-4o"]}):
        body = as_role("owner")("post", "/presets", {"name": "all", **models}).json()
        assert body["allowedModels"] == ["*"]
        assert all(body[name] is None for name in LIMITS if name != "allowedModels")


def test_a_change_touches_what_it_names_and_the_keys_below_follow(as_role, acme):
    ask = as_role("owner")
    made = ask("post", "/presets", {"name": "Team", **LIMITS}).json()
    preset = QuotaPreset.objects.get()
    key, _ = mint(acme.workspace, "key", actor=ACTOR, terms=KeyTerms(preset=preset))
    changes = {"maxBudgetMonthlyCredits": 3, "maxTokensDaily": None, "allowedModels": ["*"]}
    changed = ask("patch", f"/presets/{made['id']}", changes)
    assert (changed.status_code, changed.json()) == (200, {**made, **changes})
    assert Budget.objects.get().limit_microcredits == 3_000_000
    principal = find(key.digest)
    assert (principal.allowed_models, principal.max_tokens_daily, principal.max_tokens_per_minute) == (None, None, 40_000)
    assert ask("patch", f"/presets/{made['id']}", {"name": "Crew"}).json() == {**made, **changes, "name": "Crew"}


def test_a_workspace_does_not_change_its_own_plan(as_role, acme):
    """Also where staff made the plan a preset of this one workspace."""
    plan = create_preset("special", Limits(max_requests_per_minute=5), actor=ACTOR, workspace=acme.workspace)
    ask = as_role("owner")
    assert ask("patch", f"/presets/{plan.public_id}", {"maxRequestsPerMinute": 50}).status_code == 200
    set_plan(acme.workspace, plan, actor=ACTOR)
    before = QuotaPreset.objects.values().get()
    for changes in ({"maxRequestsPerMinute": None}, {"maxRequestsPerMinute": 1}, {"name": "mine"}, {}):
        assert error_of(ask("patch", f"/presets/{plan.public_id}", changes)) == (403, "permission_denied", None)
    assert QuotaPreset.objects.values().get() == before
    set_plan(acme.workspace, None, actor=ACTOR)
    assert ask("patch", f"/presets/{plan.public_id}", {"name": "mine"}).status_code == 200


def test_credits_that_a_preset_would_give_as_a_plan_are_shown_and_stay(as_role, acme):
    credits, ask = PlanCredits(7_500_000, has_rollover=True, max_rollover_microcredits=0), as_role("owner")
    preset = create_preset("soon", Limits(), actor=ACTOR, workspace=acme.workspace, plan_credits=credits)
    shown = {"monthlyCredits": Decimal("7.5"), "hasRollover": True, "maxRolloverCredits": 0}
    assert decoded(ask("get", f"/presets/{preset.public_id}")).items() >= shown.items()
    changed = ask("patch", f"/presets/{preset.public_id}", {"maxTokensDaily": 5})
    assert (changed.status_code, decoded(changed).items() >= shown.items()) == (200, True)
    preset.refresh_from_db()
    assert (preset.monthly_microcredits, preset.has_rollover, preset.max_tokens_daily) == (7_500_000, True, 5)


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({}, "missing_required_parameter", "name"),
        ({"name": "n" * 121}, "invalid_value", "name"),
        ({"name": "a\0b"}, "invalid_unicode", "name"),
        ({"name": "x", "allowedModels": []}, "invalid_value", "allowedModels"),
        ({"name": "x", "allowedModels": [""]}, "invalid_value", "allowedModels[0]"),
        ({"name": "x", "allowedModels": None}, "invalid_type", "allowedModels"),
        ({"name": "x", "maxRequestsPerMinute": 0}, "out_of_range", "maxRequestsPerMinute"),
        ({"name": "x", "maxRequestsDaily": 0}, "out_of_range", "maxRequestsDaily"),
        ({"name": "x", "maxConcurrentRequests": 2**31}, "out_of_range", "maxConcurrentRequests"),
        ({"name": "x", "maxFilesPerWorkspace": -1}, "out_of_range", "maxFilesPerWorkspace"),
        ({"name": "x", "maxFilesPerWorkspace": 2**31}, "out_of_range", "maxFilesPerWorkspace"),
        ({"name": "x", "maxStorageBytesPerWorkspace": 2**63}, "out_of_range", "maxStorageBytesPerWorkspace"),
        ({"name": "x", "maxFileSizeBytes": "5"}, "invalid_type", "maxFileSizeBytes"),
        ({"name": "x", "maxBudgetMonthlyCredits": -1}, "invalid_value", "maxBudgetMonthlyCredits"),
        ({"name": "x", "monthlyCredits": 5}, "unknown_parameter", "monthlyCredits"),
        ({"name": "x", "is_shared": True}, "unknown_parameter", "is_shared"),
    ],
    ids=str,
)
def test_what_is_no_preset(as_role, acme, body, code, param):
    ask = as_role("owner")
    assert error_of(ask("post", "/presets", body)) == (400, code, param)
    assert not QuotaPreset.objects.exists()
    preset = create_preset("own", Limits(), actor=ACTOR, workspace=acme.workspace)
    before = QuotaPreset.objects.values().get()
    if body:
        assert error_of(ask("patch", f"/presets/{preset.public_id}", body)) == (400, code, param)
    assert QuotaPreset.objects.values().get() == before
