"""Money, workspaces and keys in the staff admin: read-only rows, and acts with a reason and an audit event."""

import re
from datetime import UTC, datetime

import pytest
from django.test import Client
from django.urls import reverse

from billing import apikeys
from billing.errors import InvalidApiKey
from billing.models import Account, ApiKey, AuditEvent, Budget, CreditLot, Entry, Hold, UsageRecord, Workspace
from chat.models import Price
from tests.api.admin.pages import CREDIT, form_of, sign_in, text_of, url

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("model", [Account, Hold, Entry, CreditLot, Budget, UsageRecord, AuditEvent, Price, Workspace, ApiKey])
def test_rows_of_money_and_audit_can_be_neither_made_nor_changed_nor_deleted(staff, catalogue, generation, model):
    row = model.objects.first()
    before = list(model.objects.values())
    assert staff.post(url(model, "add"), {"name": "x"}).status_code == 403
    assert staff.post(url(row, "change"), {"posted_microcredits": 1, "amount_microcredits": 1}).status_code == 403
    assert staff.post(url(row, "delete"), {"post": "yes"}).status_code == 403
    staff.post(url(model), {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"})
    assert list(model.objects.values()) == before


def test_amounts_are_shown_in_credits(staff, generation):
    assert "1.5000" in text_of(staff.get(url(UsageRecord)))
    page = text_of(staff.get(url(generation, "change")))
    assert "1,000 tokens at 250 per million" in page
    assert "0.250000" in page
    assert "1.500000" in page
    assert "&quot;odd&quot;" in page
    assert "served" in page
    assert "250000000" not in page
    assert "2500000" not in text_of(staff.get(url(Hold)))


@pytest.mark.parametrize(("query", "is_found"), [("chatcmpl-one", True), ("my-label", True), ("chatcmpl-two", False)])
def test_usage_is_found_by_generation_and_by_request_id(staff, generation, query, is_found):
    assert ("chatcmpl-one" in text_of(staff.get(url(UsageRecord), {"q": query})).replace(f'value="{query}"', "")) is is_found


# Workspaces, credits, keys


def test_staff_make_a_workspace(staff):
    response = staff.post(reverse("admin:billing_workspace_new_workspace"), {"name": "acme"}, follow=True)
    assert "acme was created" in text_of(response)
    assert Account.objects.filter(workspace__name="acme").exists()
    assert AuditEvent.objects.get().actor == "staff:ada"


def move(staff, workspace, **values):
    page = staff.get(url(workspace, "move_credits"))
    return staff.post(url(workspace, "move_credits"), form_of(page) | {"kind": "top_up", "reason": "invoice 7"} | values)


def test_staff_move_credits_with_a_reason_and_an_audit_event(staff, customer):
    assert move(staff, customer, amount="2.5").status_code == 302
    assert move(staff, customer, amount="1", kind="grant").status_code == 302
    assert move(staff, customer, amount="-3", kind="adjustment").status_code == 302
    assert Account.objects.get(workspace=customer).posted_microcredits == 10_500_000
    event = AuditEvent.objects.filter(action="credits.top_up").latest("pk")
    assert (event.actor, event.reason, event.details["amount_microcredits"]) == ("staff:ada", "invoice 7", 2_500_000)


def test_a_grant_may_expire_and_nothing_else(staff, customer):
    until = {"expires_at_0": "2999-12-31", "expires_at_1": "06:00:00"}
    assert move(staff, customer, amount="2", kind="grant", **until).status_code == 302
    assert Entry.objects.get(kind="grant").expires_at == datetime(2999, 12, 31, 6, tzinfo=UTC)
    assert move(staff, customer, amount="2", kind="top_up", **until).status_code == 400
    assert move(staff, customer, amount="2", kind="grant", **until | {"expires_at_0": "2020-01-01"}).status_code == 400
    assert move(staff, customer, amount="2", kind="grant", **until | {"expires_at_0": "tomorrow"}).status_code == 400
    assert Account.objects.get(workspace=customer).posted_microcredits == 12 * CREDIT
    page = text_of(staff.get(url(CreditLot)))
    assert "Grant" in page
    assert "31 Dec 2999, 06:00:00" in page


def test_a_form_sent_twice_books_once(staff, customer):
    values = form_of(staff.get(url(customer, "move_credits"))) | {"kind": "top_up", "amount": "1", "reason": "r"}
    for _ in range(2):
        assert staff.post(url(customer, "move_credits"), values).status_code == 302
    assert Account.objects.get(workspace=customer).posted_microcredits == 11 * CREDIT


ROW_153 = [
    {"amount": "-5"},
    {"amount": "0"},
    {"amount": "1000000000000000000"},
    {"amount": "0.0000001"},
    {"amount": "nan"},
    {"amount": ""},
    {"amount": "5", "reason": ""},
    {"amount": "5", "reason": "   "},
    {"amount": "5", "kind": "usage"},
    {"amount": "-11", "kind": "adjustment"},
    {"amount": "5", "token": "x"},
]


@pytest.mark.parametrize("values", ROW_153, ids=str)
def test_row_153_credits_that_cannot_be_moved(staff, customer, values):
    entries = Entry.objects.count()
    assert move(staff, customer, **values).status_code == 400
    assert Entry.objects.count() == entries
    assert Account.objects.get(workspace=customer).posted_microcredits == 10 * CREDIT


@pytest.mark.parametrize("page", ["move_credits", "mint_key", "suspend", "activate"])
def test_following_a_link_changes_nothing(staff, customer, page):
    before = [*Workspace.objects.values(), *ApiKey.objects.values(), *Entry.objects.values()]
    query = {"amount": "1", "reason": "r", "kind": "grant", "name": "key", "scopes": "chat"}
    assert staff.get(url(customer, page), query).status_code == 200
    assert [*Workspace.objects.values(), *ApiKey.objects.values(), *Entry.objects.values()] == before


def test_row_145_a_form_without_its_token_is_refused(ada, customer):
    client = Client(enforce_csrf_checks=True)
    sign_in(client, ada)
    assert client.post(url(customer, "suspend"), {"reason": "r"}).status_code == 403
    assert Workspace.objects.get().state == "active"


def test_suspending_and_activating(staff, customer):
    assert staff.post(url(customer, "suspend"), {"reason": "unpaid"}).status_code == 302
    assert Workspace.objects.get().state == "suspended"
    assert staff.post(url(customer, "activate"), {"reason": "paid"}).status_code == 302
    assert Workspace.objects.get().state == "active"
    assert staff.post(url(customer, "suspend"), {"reason": ""}).status_code == 400


def test_a_minted_key_is_on_one_page_and_nowhere_else(staff, customer):
    values = {"name": "laptop", "scopes": ["chat"], "allowed_models": "gpt-4o\nsandbox-echo", "max_requests_per_minute": "30"}
    response = staff.post(url(customer, "mint_key"), values)
    key = ApiKey.objects.get()
    text = re.search(r"inf_[0-9A-Za-z]{38}", response.content.decode())[0]
    assert apikeys.digest_of(text) == key.digest
    assert (key.allowed_models, key.max_requests_per_minute, key.scopes) == (["gpt-4o", "sandbox-echo"], 30, ["chat"])
    assert "no-store" in response["cache-control"]
    assert text not in str(response.cookies)
    assert text not in str(dict(staff.session))
    assert text not in text_of(staff.get(url(key, "change"))) + text_of(staff.get(url(ApiKey))) + text_of(
        staff.get(url(AuditEvent))
    )
    assert text[8:-4] not in str([*ApiKey.objects.values(), *AuditEvent.objects.values()])


@pytest.mark.parametrize(
    "values",
    [{"name": ""}, {"scopes": ["chat", "keys:manage"]}, {"allowed_addresses": "nowhere"}, {"scopes": ["root"]}],
    ids=str,
)
def test_a_key_on_impossible_terms_is_not_minted(staff, customer, values):
    assert staff.post(url(customer, "mint_key"), {"name": "key", "scopes": ["chat"]} | values).status_code == 400
    assert not ApiKey.objects.exists()


def test_revoking_a_key(staff, customer):
    key, _ = apikeys.mint(customer, "laptop", actor="test")
    assert staff.post(url(key, "revoke"), {"reason": "leaked"}).status_code == 302
    assert apikeys.find(key.digest) is InvalidApiKey
    assert AuditEvent.objects.get(action="api_key.revoked").actor == "staff:ada"
