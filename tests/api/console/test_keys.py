"""Keys: made with limits, shown once, changed, rolled, revoked; and what the list says of them."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.utils import timezone

from billing import apikeys
from billing.apikeys import Creator, KeyTerms, digest_of, find, mint, playground_key
from billing.errors import KeyTooBroad
from billing.models import ApiKey, AuditEvent, Budget, Membership, UsageRecord
from tests.api.admin.pages import XSS
from tests.worlds import ACTOR

pytestmark = pytest.mark.django_db

CREDIT = 1_000_000


def shown_key(response):
    return re.search(r'id="secret"[^>]*>(inf_\w+)<', response.content.decode())[1]


def use(key: ApiKey, credits: int, generation: str, **fields) -> UsageRecord:
    values = {"request_id": "label", "status": 200, "end_state": "done", "charged_microcredits": credits * CREDIT}
    return UsageRecord.objects.create(
        generation=generation, workspace=key.workspace, api_key=key, **values | {"model_used": "m"} | fields
    )


def test_a_key_is_made_with_limits_and_shown_once(acme, people, as_role):
    visit = as_role("owner")
    form = {
        "name": "checkout",
        "budget": "1,250.5",
        "expires": "30",
        "models": "gpt-4o, sandbox-echo",
        "requests": "60",
        "day_requests": "9,000",
        "tokens": "100000",
        "at_once": "4",
        "addresses": "203.0.113.7\n10.0.0.0/8",
        "scopes": ["chat", "usage:read"],
    }
    response = visit("keys", form)
    text = shown_key(response)
    key = ApiKey.objects.get(name="checkout")
    assert find(digest_of(text)).api_key_id == key.pk
    assert key.owner == people["owner"]
    assert (key.max_budget_monthly_microcredits, key.max_requests_per_minute) == (1_250_500_000, 60)
    assert (key.max_requests_daily, key.max_tokens_daily, key.max_concurrent_requests) == (9_000, 100_000, 4)
    assert key.allowed_models == ["gpt-4o", "sandbox-echo"]
    assert key.allowed_addresses == ["203.0.113.7/32", "10.0.0.0/8"]
    assert key.scopes == ["chat", "usage:read"]
    assert timedelta(days=29) < key.expires_at - timezone.now() < timedelta(days=31)
    assert Budget.objects.get().limit_microcredits == 1_250_500_000
    page = response.content.decode()
    assert 'closedby="none"' in page
    assert "http://testserver/v1/chat/completions" in page
    assert response["cache-control"].startswith("max-age=0, no-cache, no-store")
    later = visit("keys").content.decode()
    assert text not in later
    assert key.hint in later
    assert not AuditEvent.objects.filter(details__icontains=text).exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("name", "", "A name has 1 to 120 characters."),
        ("budget", "much", "Write credits as a number"),
        ("budget", "-1", "A budget is 0 credits or more."),
        ("budget", "0.0000001", "at most six decimals"),
        ("expires", "31", "Choose one of the times."),
        ("requests", "many", "Write a whole number"),
        ("requests", "0", "A limit is 1 or more"),
        ("day_requests", "1.5", "Write a whole number"),
        ("day_requests", "0", "A limit is 1 or more"),
        ("tokens", "9" * 30, "Write a whole number"),
        ("addresses", "nowhere", "An address list holds addresses"),
        ("scopes", [], "A key needs at least one scope."),
        ("scopes", ["chat", "keys:manage"], "make two keys"),
        ("scopes", ["king"], "Unknown scope: king."),
    ],
)
def test_what_cannot_be_is_said_beside_its_field_and_nothing_is_lost(acme, as_role, field, value, words):
    form = {"name": "fine", "budget": "7", "scopes": ["chat"], field: value}
    response = as_role("owner")("keys", form)
    assert response.status_code == 400
    page = response.content.decode()
    assert words in page
    assert "data-start" in page
    assert 'value="7"' in page or field == "budget"
    assert ApiKey.objects.count() == 1


def test_a_developer_cannot_give_a_key_what_he_may_not(acme, as_role):
    response = as_role("developer")("keys", {"name": "mighty", "scopes": ["keys:manage"]})
    assert response.status_code == 400
    assert "keys:manage" not in as_role("developer")("keys").content.decode()
    assert not ApiKey.objects.filter(name="mighty").exists()


def test_names_are_written_as_text(acme, as_role):
    visit = as_role("owner")
    visit("keys", {"name": XSS, "scopes": ["chat"]})
    key = ApiKey.objects.get(name=XSS)
    for page in ("keys", f"keys/{key.public_id}", "settings"):
        content = visit(page).content.decode()
        assert XSS not in content
    assert "&lt;img" in visit("keys").content.decode()


def test_a_key_is_changed(acme, as_role):
    visit = as_role("owner")
    path = f"keys/{acme.key.public_id}"
    form = {"name": "renamed", "budget": "5", "expires": "keep", "models": "", "scopes": acme.key.scopes}
    assert visit(path, form).status_code == 302
    acme.key.refresh_from_db()
    assert (acme.key.name, acme.key.max_budget_monthly_microcredits, acme.key.allowed_models) == ("renamed", 5 * CREDIT, ["*"])
    assert visit(path, {**form, "budget": ""}).status_code == 302
    acme.key.refresh_from_db()
    assert acme.key.max_budget_monthly_microcredits is None
    assert visit(path, {**form, "requests": "x"}).status_code == 400


def test_requests_a_day_are_set_shown_and_taken_away(acme, as_role):
    visit = as_role("owner")
    path = f"keys/{acme.key.public_id}"
    form = {"name": "test", "expires": "keep", "scopes": acme.key.scopes}
    assert visit(path, {**form, "day_requests": "9000"}).status_code == 302
    assert find(acme.key.digest).max_requests_daily == 9_000
    page = visit(path).content.decode()
    assert re.search(r'name="day_requests" value="9000"', page)
    assert re.search(r"<dt>Requests a day</dt><dd>9000<span class=\"sub\">key</span>", page)
    refused = visit(path, {**form, "day_requests": "x"})
    assert refused.status_code == 400
    assert re.search(r'<details class="more" open>', refused.content.decode()), "the error stands in what is folded"
    assert find(acme.key.digest).max_requests_daily == 9_000
    assert visit(path, {**form, "day_requests": ""}).status_code == 302
    assert find(acme.key.digest).max_requests_daily is None


@pytest.mark.parametrize(("overlap", "words"), [("now", "at once"), ("24h", "in 24 hours")])
def test_a_key_is_rolled_with_an_overlap(acme, as_role, overlap, words):
    response = as_role("owner")(f"keys/{acme.key.public_id}/roll", {"overlap": overlap})
    text = shown_key(response)
    assert f"The old key {acme.key.hint} ends {words}." in response.content.decode()
    acme.key.refresh_from_db()
    rolled = ApiKey.objects.get(family=acme.key)
    assert find(digest_of(text)).api_key_id == rolled.pk
    assert (acme.key.revoked_at is not None) == (overlap == "now")
    assert (acme.key.expires_at is not None) == (overlap == "24h")
    assert as_role("owner")(f"keys/{acme.key.public_id}/roll", {"overlap": "year"}).status_code == 400


def test_a_revoked_key_is_dead_and_stays_in_the_list(acme, as_role):
    visit = as_role("owner")
    page = visit(f"keys/{acme.key.public_id}/revoke", {}, follow=True).content.decode()
    assert "test is revoked. Requests with it get 401 within a second." in page
    assert "Revoked" in page
    assert find(acme.key.digest) is apikeys.principal.InvalidApiKey
    assert visit(f"keys/{acme.key.public_id}/roll", {"overlap": "now"}).status_code == 302
    assert ApiKey.objects.count() == 1


def test_the_list_tells_spend_use_and_state_and_adds_up(acme, as_role):
    now = timezone.now()
    for name, limit, spent, end in (
        ("calm", 100, 5, None),
        ("near", 100, 95, None),
        ("full", 100, 100, None),
        ("soon", None, 0, now + timedelta(days=2)),
    ):
        terms = KeyTerms(max_budget_monthly_microcredits=limit and limit * CREDIT, expires_at=end)
        key, _ = mint(acme.workspace, name, actor=ACTOR, terms=terms)
        if spent:
            use(key, spent, f"chatcmpl-{name}")
    use(acme.key, 7, "chatcmpl-old", created_at=now - timedelta(days=40))
    page = as_role("viewer")("keys").content.decode()
    for words in ("5.0000", "95.0000", "100.0000", "of 100", "Near limit", "Limit reached", "Expires soon", "200.0000"):
        assert words in page, words
    assert ">All <" in page
    assert "Create key" not in page
    attention = as_role("owner")("keys?state=attention").content.decode()
    assert ">calm<" not in attention
    assert "3 of 5 keys shown" in attention
    assert "No key matches" in as_role("owner")("keys?q=nothing").content.decode()
    assert ">near<" in as_role("owner")("keys?q=NEAR").content.decode()


# The key of the playground


def test_a_member_has_one_playground_key_without_a_text(acme, people):
    member = Membership.objects.select_related("workspace__plan", "preset", "user").get(pk=people["developer"].pk)
    key = playground_key(member)
    assert playground_key(member) == key
    assert (key.owner, key.name, key.is_playground) == (member, "playground", True)
    assert set(key.scopes) == {"chat", "files:read", "files:write"}
    apikeys.revoke(key, actor=ACTOR)
    assert playground_key(member) != key


@pytest.mark.parametrize("role", ["billing", "viewer"])
def test_who_may_not_run_gets_no_playground_key(acme, people, role):
    member = Membership.objects.select_related("workspace__plan", "preset", "user").get(pk=people[role].pk)
    with pytest.raises(KeyTooBroad):
        playground_key(member)
    assert not ApiKey.objects.filter(is_playground=True).exists()


def test_a_playground_key_is_not_rolled(acme, people, as_role):
    member = Membership.objects.select_related("workspace__plan", "preset", "user").get(pk=people["owner"].pk)
    key = playground_key(member)
    page = as_role("owner")(f"keys/{key.public_id}").content.decode()
    assert "It has no text that could leak." in page
    assert as_role("owner")(f"keys/{key.public_id}/roll", {"overlap": "now"}).status_code == 404
    form = {"name": "playground", "scopes": key.scopes, "expires": "30"}
    assert as_role("owner")(f"keys/{key.public_id}", form).status_code == 404
    assert ApiKey.objects.get(pk=key.pk).expires_at is None


def test_a_playground_key_that_has_ended_is_replaced(acme, people):
    member = Membership.objects.select_related("workspace__plan", "preset", "user").get(pk=people["developer"].pk)
    old = playground_key(member)
    ApiKey.objects.filter(pk=old.pk).update(expires_at=timezone.now())
    new = playground_key(member)
    assert new != old
    assert (new.is_playground, new.expires_at, playground_key(member)) == (True, None, new)
    assert isinstance(find(new.digest), apikeys.Principal)
    old.refresh_from_db()
    assert old.revoked_at is not None
    event = AuditEvent.objects.get(action="api_key.revoked")
    assert (event.actor, event.target, event.reason) == ("user:developer-of-acme", old.hint, "it had ended")


def test_the_bounds_of_a_creator_are_those_of_his_role(people):
    developer = Membership.objects.select_related("workspace__plan", "preset").get(pk=people["developer"].pk)
    bounds = apikeys.creator_of(developer)
    assert isinstance(bounds, Creator)
    assert bounds.scopes == {"chat", "files:read", "files:write", "usage:read"}
    assert bounds.member == developer
