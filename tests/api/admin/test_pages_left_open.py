"""A page that was opened before somebody else changed the same row: saving it changes what was edited on it, and nothing else."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import Group, User
from django.utils import timezone

from billing import announcements
from billing.models import Announcement, QuotaPreset
from billing.presets import change_preset, create_preset
from billing.quotas import Limits
from chat.loading.rows import set_models_enabled, set_provider_enabled
from chat.models import CatalogModel, Provider, Target
from tests.api.admin.pages import form_of, text_of, url

pytestmark = pytest.mark.django_db

OTHER = "test"


@pytest.fixture
def echo(catalogue):
    return CatalogModel.objects.get(slug="sandbox-echo")


def save(staff, row, before, edits, page="change"):
    """As from a page that was opened before something happened; the row as it is then."""
    form = form_of(staff.get(url(row, page)))
    before()
    response = staff.post(url(row, page), form | edits)
    assert response.status_code == 302, text_of(response)
    return type(row).objects.get(pk=row.pk)


def test_a_model_that_the_incident_switch_took_off_stays_off(staff, echo):
    def stop():
        set_models_enabled([echo], is_enabled=False, actor=OTHER)
        CatalogModel.objects.filter(pk=echo.pk).update(max_output_tokens=77, supports_tools=not echo.supports_tools)

    row = save(staff, echo, stop, {"name": "Renamed"})
    seen = (row.name, row.is_enabled, row.max_output_tokens, row.supports_tools)
    assert seen == ("Renamed", False, 77, not echo.supports_tools)
    assert save(staff, row, lambda: None, {"is_enabled": "on"}).is_enabled


def test_a_target_that_was_changed_keeps_its_change(staff, echo):
    target = echo.targets.get()
    elsewhere = Provider.objects.exclude(pk=target.provider_id).first()
    new = {"provider": elsewhere, "total_s": 11, "quirks": ["top_k"], "fallback_statuses": [429, 503]}

    def change():
        kept = Target.objects.get(pk=target.pk)
        for name, value in new.items():
            setattr(kept, name, value)
        kept.save()

    save(staff, echo, change, {"targets-0-weight": "9"})
    target.refresh_from_db()
    assert target.weight == 9
    assert {name: getattr(target, name) for name in new} == new


def test_a_provider_that_the_incident_switch_took_off_stays_off(staff, catalogue):
    openai = Provider.objects.get(slug="openai")

    def stop():
        set_provider_enabled(openai, is_enabled=False, actor=OTHER)

    row = save(staff, openai, stop, {"api_key_env": "ANOTHER_KEY"})
    assert (row.api_key_env, row.is_enabled) == ("ANOTHER_KEY", False)


def test_limits_that_were_lowered_stay_low(staff):
    limits = Limits(allowed_models=frozenset({"a", "b"}), max_requests_daily=900, max_budget_monthly_microcredits=5_000_000)
    lower = Limits(allowed_models=frozenset({"a"}), max_requests_daily=9, max_budget_monthly_microcredits=1_000_000)
    preset = create_preset("gold", limits, actor=OTHER)

    def change():
        change_preset(QuotaPreset.objects.get(), "gold", lower, actor=OTHER)

    row = save(staff, preset, change, {"name": "silver", "max_tokens_daily": "70"}, page="change_limits")
    seen = (row.name, row.allowed_models, row.max_requests_daily, row.max_budget_monthly_microcredits, row.max_tokens_daily)
    assert seen == ("silver", ["a"], 9, 1_000_000, 70)
    row = save(staff, row, lambda: None, {"max_requests_daily": ""}, page="change_limits")
    assert (row.max_requests_daily, row.max_tokens_daily) == (None, 70)


def test_an_announcement_that_was_ended_stays_over(staff):
    one = Announcement(text="Down at noon.")
    announcements.publish(one, actor=OTHER)
    at = timezone.now() - timedelta(minutes=1)
    Announcement.objects.update(starts_at=at)
    row = save(staff, one, lambda: announcements.end(one, timezone.now(), actor=OTHER), {"text": "Down at one."})
    assert (row.text, row.starts_at) == ("Down at one.", at)
    assert row.ends_at <= timezone.now()


def test_the_plan_of_an_announcement_is_offered_though_nobody_has_it_any_more(staff, customer):
    plan = create_preset("own", Limits(), actor=OTHER, workspace=customer)
    one = Announcement(text="Down at noon.", audience="plan", plan=plan)
    announcements.publish(one, actor=OTHER)
    row = save(staff, one, lambda: None, {"text": "Down at one."})
    assert (row.text, row.plan) == ("Down at one.", plan)


def test_who_was_shut_out_is_not_let_in_again(staff):
    eve = User.objects.create_superuser("eve")
    support, finance = Group.objects.create(name="one"), Group.objects.create(name="two")
    eve.groups.set([support])

    def shut_out():
        User.objects.filter(pk=eve.pk).update(is_active=False, is_staff=False, is_superuser=False)
        eve.groups.set([finance])

    row = save(staff, eve, shut_out, {"first_name": "Eve"})
    assert (row.first_name, row.is_active, row.is_staff, row.is_superuser) == ("Eve", False, False, False)
    assert list(row.groups.all()) == [finance]
    assert list(save(staff, row, lambda: None, {"groups": [support.pk]}).groups.all()) == [support]
