"""A page that was opened before somebody else changed the same: saving it changes what was edited on it, and nothing else."""

from __future__ import annotations

import json
from datetime import timedelta

import msgspec
import pytest
from django.utils import timezone

from billing import members
from billing.alerts.judging import Terms as Figures
from billing.alerts.terms import recipients_of, set_terms, terms_of
from billing.apikeys import KeyChanges, update_key
from billing.models import AlertTerms, ApiKey, Membership, Notice, PaymentTerms
from billing.payments import auto
from billing.webhooks import endpoints
from billing.workspaces import keep_traces, rename_workspace
from chat import catalog
from chat.loading.chains import set_chain
from chat.schema.route import Terms
from tests.api.console.forms import form_of
from tests.fakes.stripe_api import switched_on
from tests.worlds import ACTOR

pytestmark = pytest.mark.django_db

CREDIT = 1_000_000
CHAIN = "chains/of?model=asked"
Role = Membership.Role


def save(visit, path, form, edits, status=302):
    """As from the page that had this form; what comes back."""
    response = visit(path, form | edits)
    assert response.status_code == status, response.content.decode()
    return response


# Keys


@pytest.fixture
def key(acme):
    changes = KeyChanges(
        scopes=["chat", "files:read", "usage:read"],
        allowed_models=["a", "b"],
        allowed_addresses=["10.0.0.0/8"],
        max_requests_per_minute=60,
        max_requests_daily=900,
        max_tokens_daily=7000,
        max_concurrent_requests=9,
        max_budget_monthly_microcredits=100 * CREDIT,
    )
    return update_key(acme.key, changes, actor=ACTOR)


TAKEN = {
    "scopes": ["chat", "usage:read"],
    "allowed_models": ["a"],
    "allowed_addresses": ["10.1.0.0/16"],
    "max_requests_per_minute": 6,
    "max_requests_daily": 90,
    "max_tokens_daily": 700,
    "max_concurrent_requests": None,
    "max_budget_monthly_microcredits": 10 * CREDIT,
}


def terms_of_key(key):
    key = ApiKey.objects.get(pk=key.pk)
    return {name: getattr(key, name) for name in TAKEN}


def test_what_was_taken_from_a_key_is_not_given_back(as_role, key):
    visit, path = as_role("owner"), f"keys/{key.public_id}"
    form = form_of(visit(path), path)
    end = timezone.now() + timedelta(days=3)
    update_key(key, KeyChanges(**TAKEN, expires_at=end), actor=ACTOR)
    save(visit, path, form, {"name": "renamed"})
    assert terms_of_key(key) == TAKEN
    kept = ApiKey.objects.get(pk=key.pk)
    assert (kept.name, kept.expires_at) == ("renamed", end)


def test_what_was_edited_on_the_page_of_a_key_counts(as_role, key):
    visit, path = as_role("owner"), f"keys/{key.public_id}"
    form = form_of(visit(path), path)
    update_key(key, KeyChanges(**TAKEN, name="theirs"), actor=ACTOR)
    edits = {"budget": "50", "requests": "", "models": "b, c", "scopes": ["chat", "files:read", "files:write"]}
    save(visit, path, form, edits)
    wanted = {
        "max_budget_monthly_microcredits": 50 * CREDIT,
        "max_requests_per_minute": None,
        "allowed_models": ["b", "c"],
        "scopes": ["chat", "files:write"],  # each box for itself: one was added, one taken, and one was taken meanwhile
    }
    assert terms_of_key(key) == TAKEN | wanted
    assert ApiKey.objects.get(pk=key.pk).name == "theirs"


def test_a_refused_form_of_a_key_shows_what_counts_now_and_gives_nothing_back_either(as_role, key):
    visit, path = as_role("owner"), f"keys/{key.public_id}"
    end = timezone.now() + timedelta(days=3)
    update_key(key, KeyChanges(expires_at=end), actor=ACTOR)
    form = form_of(visit(path), path)
    update_key(key, KeyChanges(**TAKEN), actor=ACTOR)
    again = form_of(save(visit, path, form, {"name": "renamed", "requests": "many"}, status=400), path)
    shown = {name: again[name] for name in ("name", "requests", "budget", "models", "scopes", "expires")}
    assert shown == {
        "name": ["renamed"],
        "requests": ["many"],
        "budget": ["10"],
        "models": ["a"],
        "scopes": ["chat", "usage:read"],
        "expires": ["keep"],
    }
    save(visit, path, again, {"requests": "5"})
    assert terms_of_key(key) == TAKEN | {"max_requests_per_minute": 5}
    kept = ApiKey.objects.get(pk=key.pk)
    assert (kept.name, kept.expires_at) == ("renamed", end)


def test_a_form_that_does_not_say_what_its_page_showed_counts_as_it_stands(as_role, key):
    visit, path = as_role("owner"), f"keys/{key.public_id}"
    form = form_of(visit(path), path)
    del form["begun"]
    update_key(key, KeyChanges(**TAKEN), actor=ACTOR)
    save(visit, path, form, {"at_once": "", "tokens": "700", "requests": "6"})
    assert terms_of_key(key) == TAKEN | {
        "scopes": ["chat", "files:read", "usage:read"],
        "allowed_models": ["a", "b"],
        "allowed_addresses": ["10.0.0.0/8"],
        "max_requests_daily": 900,
        "max_budget_monthly_microcredits": 100 * CREDIT,
    }


def test_a_field_that_is_newer_than_the_page_is_not_edited_on_it(as_role, key):
    visit, path = as_role("owner"), f"keys/{key.public_id}"
    form = form_of(visit(path), path)
    begun = json.loads(form["begun"][0])
    del begun["day_requests"], form["day_requests"]
    save(visit, path, form, {"begun": json.dumps(begun), "requests": "6"})
    kept = ApiKey.objects.get(pk=key.pk)
    assert (kept.max_requests_daily, kept.max_requests_per_minute) == (900, 6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("begun", "status"),
    [
        ("", 400),
        ("x", 400),
        ("[]", 400),
        ('{"name": 1}', 400),
        ('{"name": "\\ud800"}', 400),
        ("{" * 5000, 400),
        (["{}", "{}"], 400),
        ("{}", 302),
        ('{"name": ["test"], "scopes": "chat", "more": []}', 302),
    ],
)
def test_nonsense_about_what_the_page_showed_is_no_failure(as_role, key, begun, status):
    visit, path = as_role("owner"), f"keys/{key.public_id}"
    save(
        visit, path, form_of(visit(path), path), {"begun": begun, "requests": "many" if begun == "{}" else "60"}, status=status
    )
    assert terms_of_key(key)["max_requests_per_minute"] == 60


# Alerts, webhooks


def test_alerts_that_others_set_stay_set(as_role, acme):
    visit = as_role("billing")
    form = form_of(visit("alerts"), "alerts")
    told = recipients_of(None) | {Notice.Kind.CREDITS_LOW: frozenset({Role.BILLING})}
    theirs = Figures((5 * CREDIT,), (70,), (60,), 3, (50,), 10)
    set_terms(acme.workspace, theirs, told, actor=ACTOR)
    checked = [value for value in form["told"] if value != "payment.failed/owner"]
    save(visit, "alerts", form, {"expiry_days": "9", "low_balances": "8", "told": [*checked, "credits.added/owner"]})
    row = AlertTerms.objects.get(workspace=acme.workspace)
    assert terms_of(row) == Figures((8 * CREDIT,), (70,), (60,), 9, (50,), 10)
    wanted = {Notice.Kind.PAYMENT_FAILED: {Role.BILLING}, Notice.Kind.CREDITS_ADDED: {Role.OWNER}}
    assert recipients_of(row) == told | wanted
    again = save(visit, "alerts", form, {"expiry_days": "soon"}, status=400)
    set_terms(acme.workspace, theirs, told, actor=ACTOR)
    save(visit, "alerts", form_of(again, "alerts"), {"expiry_days": "4"})
    row.refresh_from_db()
    assert (terms_of(row), recipients_of(row)) == (msgspec.structs.replace(theirs, expiry_days=4), told)


def test_a_webhook_that_is_to_get_everything_gets_it_whatever_kind_was_added_meanwhile(as_role, acme):
    """Where no box is checked, all are meant."""
    visit = as_role("owner")
    hook = endpoints.create(acme.workspace, "https://1.1.1.1/hook", ["key.limit"], actor=ACTOR)[0]
    path = f"webhooks/{hook.public_id}"
    form = form_of(visit(path), path)
    endpoints.update(hook, hook.url, ["key.limit", "credits.low"], actor=ACTOR)
    save(visit, path, form, {"kinds": []})
    hook.refresh_from_db()
    assert hook.kinds == []
    form = form_of(visit(path), path)
    endpoints.update(hook, hook.url, ["key.limit"], actor=ACTOR)
    save(visit, path, form, {"url": "https://1.1.1.1/mine"})
    hook.refresh_from_db()
    assert (hook.url, hook.kinds) == ("https://1.1.1.1/mine", ["key.limit"])


def test_a_webhook_keeps_the_address_and_the_kinds_that_others_gave_it(as_role, acme):
    hook, _ = endpoints.create(acme.workspace, "https://1.1.1.1/hooks", ["credits.low", "key.limit"], actor=ACTOR)
    visit, path = as_role("admin"), f"webhooks/{hook.public_id}"
    form = form_of(visit(path), path)
    endpoints.update(hook, "https://1.1.1.1/theirs", ["credits.low"], actor=ACTOR)
    save(visit, path, form, {"kinds": ["credits.low", "key.limit", "key.revoked"]})
    hook.refresh_from_db()
    assert (hook.url, hook.kinds) == ("https://1.1.1.1/theirs", ["credits.low", "key.revoked"])
    save(visit, path, form_of(visit(path), path), {"url": "https://1.1.1.1/mine"})
    hook.refresh_from_db()
    assert (hook.url, hook.kinds) == ("https://1.1.1.1/mine", ["credits.low", "key.revoked"])


def test_a_webhook_does_not_get_everything_because_two_took_a_part_each(as_role, acme):
    hook, _ = endpoints.create(acme.workspace, "https://1.1.1.1/hooks", ["credits.low", "key.limit"], actor=ACTOR)
    visit, path = as_role("admin"), f"webhooks/{hook.public_id}"
    form = form_of(visit(path), path)
    endpoints.update(hook, hook.url, ["credits.low"], actor=ACTOR)
    page = save(visit, path, form, {"kinds": ["key.limit"]}, status=400)
    assert "What you left was taken away meanwhile." in page.content.decode()
    hook.refresh_from_db()
    assert hook.kinds == ["credits.low"]
    save(visit, path, form_of(page, path), {})
    hook.refresh_from_db()
    assert hook.kinds == ["key.limit"]


# Settings, members


def test_the_name_and_the_retention_of_a_workspace_are_set_by_who_edits_them(as_role, acme):
    visit = as_role("owner")
    page = visit("settings")
    name, days = form_of(page, "settings"), form_of(page, "settings/retention")
    rename_workspace(acme.workspace, "Theirs", actor=ACTOR)
    keep_traces(acme.workspace, 7, actor=ACTOR)
    for path, form in (("settings", name), ("settings/retention", days)):
        save(visit, path, form, {})
    acme.workspace.refresh_from_db()
    assert (acme.workspace.name, acme.workspace.traces_kept_days) == ("Theirs", 7)
    save(visit, "settings", name, {"name": "Mine"})
    save(visit, "settings/retention", days, {"days": "14"})
    acme.workspace.refresh_from_db()
    assert (acme.workspace.name, acme.workspace.traces_kept_days) == ("Mine", 14)


def test_a_role_that_was_not_chosen_anew_is_not_given_back(as_role, people):
    visit, member = as_role("owner"), people["admin"]
    path = f"members/{member.public_id}/role"
    form = form_of(visit("members"), path)
    members.change_role(member, Role.VIEWER, actor=ACTOR)
    save(visit, path, form, {})
    member.refresh_from_db()
    assert member.role == "viewer"
    save(visit, path, form, {"role": "developer"})
    member.refresh_from_db()
    assert member.role == "developer"
    members.transfer_ownership(member.workspace, member, actor=ACTOR)
    page = as_role("admin")(path, form | {"role": "admin"}, follow=True).content.decode()
    assert "admin-of-acme is" not in page
    member.refresh_from_db()
    assert member.role == "owner"


# Top-ups by themselves


@pytest.fixture
def automatic(settings, acme):
    with switched_on(settings):
        PaymentTerms.objects.create(workspace=acme.workspace, customer_id="cus", method_id="pm")
        auto.set_auto(acme.workspace, auto.Auto(threshold=100, amount=1000, ceiling=5000), actor=ACTOR)
        yield PaymentTerms.objects.get()


def test_auto_top_up_keeps_the_sums_that_others_lowered(as_role, acme, automatic):
    visit = as_role("owner")
    form = form_of(visit("credits/payments"), "credits/auto")
    auto.set_auto(acme.workspace, auto.Auto(threshold=50, amount=600, ceiling=700), actor=ACTOR)
    save(visit, "credits/auto", form, {"state": "on", "threshold": "60"})
    automatic.refresh_from_db()
    sums = (automatic.threshold_microcredits, automatic.amount_microcredits, automatic.ceiling_microcredits)
    assert [one // CREDIT for one in sums] == [60, 600, 700]


def test_auto_top_up_that_was_switched_off_stays_off_until_somebody_switches_it_on(as_role, acme, automatic):
    visit = as_role("owner")
    form = form_of(visit("credits/payments"), "credits/auto")
    auto.set_auto(acme.workspace, None, actor=ACTOR)
    page = save(visit, "credits/auto", form, {"state": "on", "threshold": "60"}, status=400)
    assert "It was switched off meanwhile" in page.content.decode()
    automatic.refresh_from_db()
    assert not automatic.is_auto
    again = form_of(page, "credits/auto")
    assert again["threshold"] == ["60"]
    save(visit, "credits/auto", again, {"state": "on"})
    automatic.refresh_from_db()
    assert (automatic.is_auto, automatic.threshold_microcredits) == (True, 60 * CREDIT)
    save(visit, "credits/auto", form, {"state": "off"})
    automatic.refresh_from_db()
    assert not automatic.is_auto


# Chains


def test_a_chain_that_was_changed_is_not_replaced_unseen(acme, as_role, two_models):
    visit, workspace = as_role("admin"), acme.workspace
    form = form_of(visit(CHAIN), CHAIN)
    set_chain(two_models[0], two_models[1:], workspace=workspace, actor=ACTOR, terms={"other": Terms(0, frozenset({429}))})

    def terms():
        return catalog.current().terms_of("asked", workspace.pk)

    theirs = {"asked": Terms(), "other": Terms(0, frozenset({429}))}
    edits = {"retries_0": ["1"]}
    for edit, shown in (({}, {"retries_1": ["0"], "codes_1": ["429"]}), (edits, edits | {"retries_1": [""]})):
        page = save(visit, CHAIN, form, edit, status=409)
        assert "This chain was changed after you had opened its page" in page.content.decode()
        assert "moves on after 429 only" in page.content.decode()
        again = form_of(page, CHAIN)
        assert {name: again[name] for name in shown} == shown
        assert terms() == theirs
    save(visit, CHAIN, again, {})
    assert terms() == {"asked": Terms(1), "other": Terms()}


def test_a_chain_of_which_nothing_was_changed_or_the_same_is_set(acme, as_role, two_models):
    visit, workspace = as_role("admin"), acme.workspace
    form = form_of(visit(CHAIN), CHAIN)
    save(visit, CHAIN, form, {})
    assert catalog.current().chains[workspace.pk, "asked"] == ("other",)
    save(visit, CHAIN, form, {"model_1": ""})
    assert catalog.current().chains[workspace.pk, "asked"] == ()
    save(visit, CHAIN, form, {"model_1": ""})
    form.pop("begun")
    save(visit, CHAIN, form, {})
    assert catalog.current().chains[workspace.pk, "asked"] == ("other",)


def test_auto_top_up_is_not_switched_on_with_sums_that_nobody_saw(as_role, acme, automatic):
    """The card would be charged by them."""
    visit = as_role("owner")
    auto.set_auto(acme.workspace, None, actor=ACTOR)
    form = form_of(visit("credits/payments"), "credits/auto")
    auto.set_auto(acme.workspace, auto.Auto(threshold=100, amount=2000, ceiling=9000), actor=ACTOR)
    auto.set_auto(acme.workspace, None, actor=ACTOR)
    page = save(visit, "credits/auto", form, {"state": "on"}, status=400)
    assert "The sums were changed meanwhile" in page.content.decode()
    automatic.refresh_from_db()
    assert not automatic.is_auto
    again = form_of(page, "credits/auto")
    assert again["amount"] == ["2000"]
    save(visit, "credits/auto", again, {"state": "on"})
    automatic.refresh_from_db()
    assert (automatic.is_auto, automatic.amount_microcredits) == (True, 2000 * CREDIT)
