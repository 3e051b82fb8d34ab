"""Credits in the staff admin: the pages on which roles order, refund and agree."""

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client

from billing import roles
from billing.models import Account, AuditEvent, CreditOrder, Entry
from tests.api.admin.pages import CREDIT, form_of, sign_in, text_of, url
from tests.records import add_charge

pytestmark = pytest.mark.django_db


def signed_in(name, role):
    roles.sync()
    user = User.objects.create_user(name, is_staff=True)
    user.groups.set([Group.objects.get(name=role)])
    client = Client()
    sign_in(client, user)
    return client


def send(client, page, **values):
    return client.post(page, form_of(client.get(page)) | values, follow=True)


def balance(workspace):
    return Account.objects.get(workspace=workspace).posted_microcredits


def test_support_sees_its_own_kinds_and_its_limit(customer):
    support = signed_in("ben", "support")
    page = url(customer, "move_credits")
    text = text_of(support.get(page))
    assert "Your role lets you move 500 more credits today" in text
    assert "Grant: given away" in text
    assert "Top-up" not in text
    assert "Refund" not in text, "that is done where the request is"
    assert "Select a valid choice" in text_of(send(support, page, kind="top_up", amount="1", reason="r"))
    assert "500 more credits" in text_of(send(support, page, kind="grant", amount="501", reason="r"))
    assert balance(customer) == 10 * CREDIT
    assert "20 credits: Grant booked" in text_of(send(support, page, kind="grant", amount="20", reason="sorry"))
    assert "480 more credits" in text_of(support.get(page))
    assert balance(customer) == 30 * CREDIT


def test_a_large_grant_takes_two_people(customer):
    finn, fay = signed_in("finn", "finance"), signed_in("fay", "finance")
    text = text_of(send(finn, url(customer, "move_credits"), kind="grant", amount="9000", reason="a contract"))
    assert "waits for a second person" in text
    order = CreditOrder.objects.get()
    page = url(order, "approve")
    assert "staff:finn ordered 9000 credits" in text_of(fay.get(page))
    assert "you ordered it yourself" in text_of(finn.post(page))
    assert balance(customer) == 10 * CREDIT
    assert "is booked" in text_of(fay.post(page, follow=True))
    assert balance(customer) == 9010 * CREDIT
    assert "decided already" in text_of(fay.post(page))
    assert "9,000.0000" in text_of(fay.get(url(CreditOrder)))


def test_a_refusal_has_a_reason(customer):
    finn, fay = signed_in("finn", "finance"), signed_in("fay", "finance")
    send(finn, url(customer, "move_credits"), kind="grant", amount="9000", reason="a contract")
    order = CreditOrder.objects.get()
    assert fay.post(url(order, "refuse"), {"reason": ""}).status_code == 400
    assert "is refused" in text_of(fay.post(url(order, "refuse"), {"reason": "too much"}, follow=True))
    assert AuditEvent.objects.get(action="credit_order.refused").reason == "too much"
    assert balance(customer) == 10 * CREDIT


def test_a_request_is_refunded_on_its_page_once(acme):
    ben = signed_in("ben", "support")
    record = add_charge(acme, 3 * CREDIT)
    page = url(record, "refund")
    assert "3 can be refunded" in text_of(ben.get(page))
    assert "3 credits: Refund booked" in text_of(send(ben, page, reason="an outage"))
    assert balance(acme.workspace) == 1000 * CREDIT
    entry = Entry.objects.get(kind="refund")
    assert (entry.generation, entry.actor, entry.reason) == (record.generation, "staff:ben", "an outage")
    assert "0 can be refunded" in text_of(ben.get(page))
    assert send(ben, page, amount="1", reason="again").status_code == 400
    assert Entry.objects.filter(kind="refund").count() == 1
