"""Limits of a key: the layers, the tightest of them, and where it comes from."""

import msgspec
import pytest
from django.core import checks
from hypothesis import given
from hypothesis import strategies as st

from billing import quotas
from billing.apikeys import Creator, KeyTerms, find, mint
from billing.checks import platform_limits
from billing.models import ApiKey
from billing.presets import create_preset, set_member_preset, set_plan
from billing.quotas import FIELDS, Effective, Limit, Limits, Source, cascade
from tests.worlds import ACTOR, make_member

numbers = st.none() | st.integers(0, 20)
models = st.none() | st.frozensets(st.sampled_from("abcd"))
some_limits = st.builds(Limits, models, *[numbers] * (len(FIELDS) - 1))
layers = st.lists(st.tuples(st.sampled_from(Source), some_limits), max_size=5)


def test_without_layers_nothing_is_limited():
    assert cascade([]) == Effective()
    assert cascade([(Source.PLATFORM, Limits()), (Source.KEY, Limits())]) == Effective()


def test_the_tightest_wins_and_says_where_it_comes_from():
    effective = cascade(
        [
            (Source.PLATFORM, Limits(max_requests_per_minute=600, max_requests_daily=900, max_tokens_daily=10)),
            (Source.PLAN, Limits(frozenset("abc"), max_requests_per_minute=60)),
            (Source.MEMBER, Limits(max_requests_per_minute=100, max_tokens_daily=10, max_budget_monthly_microcredits=0)),
            (Source.PRESET, Limits(frozenset("bcd"), max_requests_daily=500)),
            (Source.KEY, Limits(frozenset("bc"), max_requests_per_minute=60, max_concurrent_requests=1)),
        ]
    )
    assert effective == Effective(
        allowed_models=Limit(frozenset("bc"), Source.PRESET),
        max_requests_per_minute=Limit(60, Source.PLAN),
        max_requests_daily=Limit(500, Source.PRESET),
        max_tokens_daily=Limit(10, Source.PLATFORM),
        max_concurrent_requests=Limit(1, Source.KEY),
        max_budget_monthly_microcredits=Limit(0, Source.MEMBER),
    )


def test_lists_without_a_common_model_leave_none():
    effective = cascade([(Source.PLAN, Limits(frozenset("a"))), (Source.KEY, Limits(frozenset("b")))])
    assert effective.allowed_models == Limit(frozenset(), Source.KEY)


@given(layers)
def test_no_layer_makes_another_one_wider(chosen):
    effective = cascade(chosen)
    for name in FIELDS:
        offered = [getattr(limits, name) for _, limits in chosen if getattr(limits, name) is not None]
        found = getattr(effective, name)
        if not offered:
            assert found == Limit()
        elif name == "allowed_models":
            assert found.value == frozenset.intersection(*offered)
        else:
            assert found.value == min(offered)
            assert (found.source, found.value) in [(source, getattr(limits, name)) for source, limits in chosen]


# Of rows


@pytest.mark.django_db
def test_a_principal_has_the_limits_of_all_layers_from_one_query(acme, settings, django_assert_num_queries):
    settings.PLATFORM_LIMITS = {"max_requests_per_minute": 1000, "allowed_models": ["a", "b", "c", "d"]}
    set_plan(acme.workspace, create_preset("plan", Limits(frozenset("abc"), max_tokens_daily=50_000), actor=ACTOR), actor=ACTOR)
    member = make_member(acme.workspace, "developer")
    limits = Limits(max_tokens_per_minute=900, max_requests_daily=70)
    set_member_preset(member, create_preset("member", limits, actor=ACTOR), actor=ACTOR)
    preset = create_preset("key", Limits(max_concurrent_requests=4, max_tokens_per_minute=1000), actor=ACTOR)
    terms = KeyTerms(allowed_models=["b", "c", "e"], max_concurrent_requests=9, max_requests_daily=80, preset=preset)
    key, _ = mint(acme.workspace, "key", actor=ACTOR, terms=terms, creator=None)
    ApiKey.objects.filter(pk=key.pk).update(owner=member)
    with django_assert_num_queries(1):
        principal = find(key.digest)
    assert principal.allowed_models == {"b", "c"}
    assert principal.max_requests_per_minute == 1000
    assert principal.max_tokens_daily == 50_000
    assert principal.max_requests_daily == 70
    assert principal.max_tokens_per_minute == 900
    assert principal.max_concurrent_requests == 4
    effective = quotas.of_key(ApiKey.objects.select_related(*quotas.KEY_LAYERS).get(pk=key.pk))
    assert effective.max_tokens_per_minute.source == effective.max_requests_daily.source == "member preset"
    assert effective.max_concurrent_requests.source == "key preset"
    assert effective.allowed_models.source == "key"


@pytest.mark.django_db
def test_what_counts_for_a_member_counts_for_his_keys(acme):
    member = make_member(acme.workspace, "developer")
    set_member_preset(member, create_preset("member", Limits(frozenset("a")), actor=ACTOR), actor=ACTOR)
    key, _ = mint(
        acme.workspace,
        "key",
        actor=ACTOR,
        creator=Creator(frozenset({"chat", "files:read", "files:write", "usage:read"}), member=member),
    )
    assert quotas.of_member(member).allowed_models.value == find(key.digest).allowed_models == {"a"}
    assert quotas.of_workspace(acme.workspace).allowed_models.value is None


@pytest.mark.parametrize("wrong", [{"max_requests": 1}, {"max_requests_per_minute": "many"}, {"allowed_models": "a"}])
def test_a_platform_limit_that_says_nothing_is_found_by_the_checks(settings, wrong):
    settings.PLATFORM_LIMITS = wrong
    with pytest.raises(msgspec.ValidationError):
        quotas.of_platform()
    [error] = platform_limits()
    assert (error.id, error.level) == ("billing.E001", checks.ERROR)
    settings.PLATFORM_LIMITS = {"allowed_models": ["a"], "max_requests_per_minute": 5}
    assert platform_limits() == []
