"""Keys are changed, rolled and kept within the bounds of who makes them."""

from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from billing.apikeys import (
    Creator,
    KeyChanges,
    KeyTerms,
    Overlap,
    digest_of,
    find,
    is_expired,
    mint,
    revoke,
    roll,
    update_key,
)
from billing.budgets import family_of, set_budget
from billing.errors import InvalidApiKey, KeyNotActive, KeyTooBroad
from billing.models import ApiKey, AuditEvent, Budget, Membership
from billing.permissions import INFERENCE_SCOPES, SCOPES
from billing.presets import create_preset, set_member_preset, set_plan
from billing.quotas import Limits
from tests.worlds import ACTOR, make_member

pytestmark = pytest.mark.django_db

CREDIT = 1_000_000


def budget_of(key, period="month"):
    return (
        Budget.objects.filter(scope="key", scope_id=key.first_id, period=period)
        .values_list("limit_microcredits", flat=True)
        .first()
    )


# Changes


def test_a_change_counts_with_the_next_look_up_and_leaves_the_rest(acme):
    key, _ = mint(
        acme.workspace, "old", actor=ACTOR, terms=KeyTerms(max_requests_per_minute=5, max_requests_daily=8, max_tokens_daily=7)
    )
    changes = KeyChanges(name="new", max_requests_per_minute=None, allowed_models=["a"], allowed_addresses=["10.0.0.1"])
    update_key(key, changes, actor="user:ada")
    principal = find(key.digest)
    assert (principal.max_requests_per_minute, principal.max_requests_daily, principal.max_tokens_daily) == (None, 8, 7)
    assert principal.allowed_models == {"a"}
    assert [str(network) for network in principal.allowed_networks] == ["10.0.0.1/32"]
    event = AuditEvent.objects.get(action="api_key.updated")
    assert (event.actor, event.target, event.workspace) == ("user:ada", key.hint, acme.workspace)
    assert event.details == {
        "name": ["old", "new"],
        "max_requests_per_minute": [5, None],
        "allowed_models": [["*"], ["a"]],
        "allowed_addresses": [[], ["10.0.0.1/32"]],
    }


def test_a_change_of_nothing_leaves_no_trace(acme):
    update_key(acme.key, KeyChanges(name="test"), actor=ACTOR)
    update_key(acme.key, KeyChanges(), actor=ACTOR)
    assert not AuditEvent.objects.filter(action="api_key.updated").exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("scopes", []),
        ("scopes", ["chat", "keys:manage"]),
        ("allowed_models", []),
        ("allowed_models", ["a\0"]),
        ("allowed_models", ["a" * 257]),
        ("allowed_models", ["a"] * 501),
        ("allowed_addresses", ["nowhere"]),
        ("max_tokens_per_minute", 0),
        ("max_tokens_daily", -1),
        ("max_requests_daily", 0),
        ("expires_at", timezone.now() - timedelta(seconds=1)),
    ],
)
def test_a_change_that_makes_no_sense_names_its_field(acme, field, value):
    before = ApiKey.objects.values().get(pk=acme.key.pk)
    with pytest.raises(ValidationError) as refusal:
        update_key(acme.key, KeyChanges(**{field: value}), actor=ACTOR)
    assert list(refusal.value.error_dict) == [field]
    assert ApiKey.objects.values().get(pk=acme.key.pk) == before


def test_an_expired_key_can_be_given_more_time_and_a_revoked_one_cannot(acme):
    ApiKey.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    update_key(acme.key, KeyChanges(expires_at=None), actor=ACTOR)
    assert not is_expired(ApiKey.objects.get(pk=acme.key.pk))
    revoke(acme.key, actor=ACTOR)
    with pytest.raises(KeyNotActive):
        update_key(acme.key, KeyChanges(name="again"), actor=ACTOR)


def test_the_budget_of_a_key_follows_its_own_limit(acme):
    key, _ = mint(acme.workspace, "key", actor=ACTOR, terms=KeyTerms(max_budget_monthly_microcredits=5 * CREDIT))
    assert budget_of(key) == 5 * CREDIT
    update_key(key, KeyChanges(max_budget_monthly_microcredits=0), actor=ACTOR)
    assert budget_of(key) == 0
    update_key(key, KeyChanges(max_budget_monthly_microcredits=None), actor=ACTOR)
    assert budget_of(key) is None


# Bounds


@pytest.fixture
def developer(acme):
    return make_member(acme.workspace, "developer")


def by(member=None, *, scopes=INFERENCE_SCOPES, models=None):
    return Creator(frozenset(scopes), None if models is None else frozenset(models), member)


BROADER = {
    "scopes": (by(), KeyTerms(scopes=["keys:manage"])),
    "a scope it lacks": (by(scopes=INFERENCE_SCOPES | {"keys:manage"}), KeyTerms(scopes=["keys:manage", "workspace:manage"])),
    "every model": (by(models=["a"]), KeyTerms(allowed_models=["*"])),
    "another model": (by(models=["a"]), KeyTerms(allowed_models=["a", "b"])),
    "another model beside every": (by(models=["a"]), KeyTerms(allowed_models=["b", "*"])),
}


@pytest.mark.parametrize(("creator", "terms"), BROADER.values(), ids=BROADER)
def test_no_key_is_made_broader_than_its_creator(acme, creator, terms):
    count = ApiKey.objects.count()
    with pytest.raises(KeyTooBroad) as refusal:
        mint(acme.workspace, "key", actor=ACTOR, terms=terms, creator=creator)
    assert (refusal.value.status, refusal.value.code) == (403, "permission_denied")
    assert ApiKey.objects.count() == count


@pytest.mark.parametrize(("creator", "terms"), BROADER.values(), ids=BROADER)
def test_no_key_becomes_broader_than_who_changes_it(acme, creator, terms):
    models = sorted(creator.allowed_models or ["*"])
    key, _ = mint(acme.workspace, "key", actor=ACTOR, terms=KeyTerms(allowed_models=models))
    wanted = {field: getattr(terms, field) for field in ("scopes", "allowed_models") if getattr(terms, field)}
    with pytest.raises(KeyTooBroad):
        update_key(key, KeyChanges(**wanted), actor=ACTOR, creator=creator)
    assert find(key.digest).scopes == INFERENCE_SCOPES


@pytest.mark.parametrize("creator", [by(), by(scopes=SCOPES, models=["a"])], ids=["scopes", "models"])
def test_a_key_that_is_broader_already_can_be_neither_changed_nor_rolled(acme, creator):
    key, _ = mint(acme.workspace, "key", actor=ACTOR, terms=KeyTerms(scopes=["workspace:manage"]))
    with pytest.raises(KeyTooBroad):
        update_key(key, KeyChanges(name="mine"), actor=ACTOR, creator=creator)
    with pytest.raises(KeyTooBroad):
        roll(key, overlap=Overlap.NOW, actor=ACTOR, creator=creator)
    assert find(key.digest).scopes == {"workspace:manage"}


def test_a_creator_with_few_models_passes_them_on(acme):
    key, _ = mint(acme.workspace, "key", actor=ACTOR, creator=by(models=["b", "a"]))
    assert key.allowed_models == ["a", "b"]
    narrower, _ = mint(acme.workspace, "key", actor=ACTOR, terms=KeyTerms(allowed_models=["a"]), creator=by(models=["b", "a"]))
    assert narrower.allowed_models == ["a"]


def test_what_binds_a_person_binds_his_keys_and_is_not_written_into_them(acme, developer):
    """So that a preset that is widened later widens the keys too."""
    preset = create_preset("few", Limits(frozenset("ab")), actor=ACTOR)
    set_member_preset(developer, preset, actor=ACTOR)
    for wanted in (None, ["*"]):
        key, _ = mint(
            acme.workspace, "key", actor=ACTOR, terms=KeyTerms(allowed_models=wanted), creator=by(developer, models="ab")
        )
        assert key.allowed_models == ["*"]
        assert find(key.digest).allowed_models == {"a", "b"}
    with pytest.raises(KeyTooBroad):
        mint(acme.workspace, "key", actor=ACTOR, terms=KeyTerms(allowed_models=["c"]), creator=by(developer, models="ab"))


@pytest.mark.parametrize("change", [{"removed_at": timezone.now()}, {"role": "viewer"}], ids=["removed", "viewer"])
def test_nobody_makes_a_key_while_he_loses_the_right_to_one(acme, developer, change):
    """The role was read when the request began."""
    Membership.objects.filter(pk=developer.pk).update(**change)
    with pytest.raises(KeyTooBroad):
        mint(acme.workspace, "key", actor=ACTOR, creator=by(developer))
    assert not ApiKey.objects.filter(owner=developer).exists()


# Rolling


@pytest.mark.parametrize(("overlap", "hours"), [("1h", 1), ("24h", 24), ("7d", 168)])
def test_a_rolled_key_ends_with_the_overlap(acme, overlap, hours):
    preset = create_preset("key", Limits(max_tokens_daily=9), actor=ACTOR)
    terms = KeyTerms(
        scopes=["chat"],
        allowed_models=["a"],
        allowed_addresses=["10.0.0.0/8"],
        max_requests_per_minute=3,
        max_requests_daily=7,
        max_tokens_per_minute=4,
        max_concurrent_requests=5,
        max_budget_monthly_microcredits=6,
        expires_at=timezone.now() + timedelta(days=30),
        preset=preset,
    )
    old, old_text = mint(acme.workspace, "ci", actor=ACTOR, terms=terms)
    set_budget(old, period=Budget.Period.DAY, limit_microcredits=2, actor=ACTOR)
    now = timezone.now()
    new, new_text = roll(old, overlap=Overlap(overlap), actor="user:ada")
    assert new_text != old_text
    assert (new.digest, new.name) == (digest_of(new_text), "ci")
    was, became = find(old.digest), find(new.digest)
    for field in was.__struct_fields__:
        if field not in {"api_key_id", "expires_at", "family_id"}:
            assert getattr(became, field) == getattr(was, field)
    assert became.counted_id == was.counted_id == old.pk
    assert became.expires_at == terms.expires_at.timestamp()
    assert 0 <= was.expires_at - (now + timedelta(hours=hours)).timestamp() < 5
    assert (budget_of(new), budget_of(new, "day")) == (6, 2)
    assert Budget.objects.count() == 2, "both spend the same ones"
    event = AuditEvent.objects.get(action="api_key.rolled")
    assert (event.actor, event.details) == ("user:ada", {"old": old.public_id, "new": new.public_id, "overlap": overlap})


def test_keys_rolled_of_one_another_are_one_family(acme):
    second, _ = roll(acme.key, overlap=Overlap.DAY, actor=ACTOR)
    third, _ = roll(second, overlap=Overlap.NOW, actor=ACTOR)
    again, _ = roll(acme.key, overlap=Overlap.WEEK, actor=ACTOR)
    other, _ = mint(acme.workspace, "other", actor=ACTOR)
    family = [acme.key, second, third, again]
    assert {key.first_id for key in family} == {acme.key.pk}
    assert other.first_id == other.pk
    assert set(family_of(third)) == set(family_of(acme.key)) == set(family)
    assert list(family_of(other)) == [other]


@pytest.mark.parametrize("is_newest", [True, False], ids=["the new one", "the old one"])
def test_what_makes_the_budget_is_changed_for_the_whole_family(acme, is_newest):
    preset = create_preset("few", Limits(max_budget_monthly_microcredits=7), actor=ACTOR)
    new, _ = roll(acme.key, overlap=Overlap.DAY, actor=ACTOR)
    changed, other = (new, acme.key) if is_newest else (acme.key, new)
    update_key(changed, KeyChanges(preset=preset, max_budget_monthly_microcredits=9, name="renamed"), actor=ACTOR)
    other.refresh_from_db()
    assert (other.preset, other.max_budget_monthly_microcredits, other.name) == (preset, 9, "test")
    assert budget_of(new) == budget_of(acme.key) == 7
    update_key(other, KeyChanges(preset=None), actor=ACTOR)
    assert (budget_of(new), Budget.objects.count()) == (9, 1)
    set_budget(changed, period=Budget.Period.MONTH, limit_microcredits=5, actor=ACTOR)
    other.refresh_from_db()
    assert (other.max_budget_monthly_microcredits, budget_of(other)) == (5, 5)


def test_no_key_of_a_family_becomes_broader_by_a_preset_that_another_loses(acme):
    preset = create_preset("few", Limits(frozenset("a")), actor=ACTOR)
    narrow, _ = mint(acme.workspace, "key", actor=ACTOR, terms=KeyTerms(preset=preset))
    rolled, _ = roll(narrow, overlap=Overlap.DAY, actor=ACTOR)
    update_key(narrow, KeyChanges(allowed_models=["a"]), actor=ACTOR)
    with pytest.raises(KeyTooBroad):
        update_key(narrow, KeyChanges(preset=None), actor=ACTOR, creator=by(scopes=SCOPES, models="a"))
    assert find(rolled.digest).allowed_models == {"a"}
    revoke(rolled, actor=ACTOR)
    update_key(narrow, KeyChanges(preset=None), actor=ACTOR, creator=by(scopes=SCOPES, models="a"))
    assert find(narrow.digest).allowed_models == {"a"}


def test_a_plan_that_changes_finds_the_budget_of_a_family_whose_first_key_is_gone(acme):
    roll(acme.key, overlap=Overlap.NOW, actor=ACTOR)
    set_plan(acme.workspace, create_preset("plan", Limits(max_budget_monthly_microcredits=3), actor=ACTOR), actor=ACTOR)
    assert [(row.scope_id, row.limit_microcredits) for row in Budget.objects.all()] == [(acme.key.pk, 3)]


def test_a_key_rolled_now_is_revoked_at_once(acme):
    new, _ = roll(acme.key, overlap=Overlap.NOW, actor=ACTOR)
    assert find(acme.key.digest) is InvalidApiKey
    assert find(new.digest).workspace_id == acme.workspace.pk
    assert AuditEvent.objects.get(action="api_key.revoked").reason == "rolled"


def test_rolling_gives_no_key_more_time(acme):
    end = timezone.now() + timedelta(minutes=5)
    old, _ = mint(acme.workspace, "key", actor=ACTOR, terms=KeyTerms(expires_at=end))
    new, _ = roll(old, overlap=Overlap.WEEK, actor=ACTOR)
    assert find(old.digest).expires_at == find(new.digest).expires_at == end.timestamp()


def test_a_key_that_has_ended_is_not_rolled(acme):
    count = ApiKey.objects.count()
    ApiKey.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    with pytest.raises(KeyNotActive):
        roll(acme.key, overlap=Overlap.DAY, actor=ACTOR)
    revoke(acme.key, actor=ACTOR)
    with pytest.raises(KeyNotActive):
        roll(acme.key, overlap=Overlap.DAY, actor=ACTOR)
    assert ApiKey.objects.count() == count
