"""The first page of the admin: figures of the period, what needs somebody, and to each role what it may see."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import Group, User
from django.core.cache import cache
from django.test import Client
from django.utils import timezone

from billing import audit, roles
from billing.models import AuditEvent, Hold, RequestTrace
from chat.models import CatalogModel
from tests.api.admin.pages import CREDIT, XSS, sign_in, text_of
from tests.records import add_charge, add_record, add_refusal

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _fresh():
    cache.clear()
    yield
    cache.clear()


def test_the_overview_has_figures_charts_and_targets(staff, acme, django_assert_max_num_queries):
    now = timezone.now()
    add_charge(acme, 3 * CREDIT, created_at=now, model_used=XSS, first_token_ms=412)
    add_refusal(acme, created_at=now)
    tries = [{"provider": "openai", "upstream_model": XSS, "result": "upstream_error", "duration_ms": 5} for _ in range(4)]
    RequestTrace.objects.create(generation="t", created_at=now, attempts=tries)
    with django_assert_max_num_queries(36):
        response = staff.get("/admin/")
    text = text_of(response)
    assert "3.0000" in text
    assert "50.00 % failed, none charged" in text
    assert "412" in text
    assert "4 of its last 4 tries failed: upstream_error" in text
    assert "<img src=x" not in response.content.decode()
    assert len(response.context["charts"]) == 3
    for period in ("7d", "30d", "nonsense"):
        assert staff.get("/admin/", {"period": period}).status_code == 200


def test_what_needs_somebody_is_said(staff, acme):
    add_charge(acme, CREDIT)
    Hold.objects.create(
        account=acme.workspace.account,
        api_key=acme.key,
        generation="late",
        sequence=1,
        amount_microcredits=1,
        price_version_id=1,
        lease_expires_at=timezone.now() - timedelta(minutes=5),
    )
    today = timezone.now().date()
    CatalogModel.objects.create(slug="old", name="O", owned_by="x", context_window=1, max_output_tokens=1, deprecated_on=today)
    text = text_of(staff.get("/admin/"))
    assert "1 holds past their lease" in text
    assert "old is deprecated on" in text


def test_what_drifts_is_said_with_a_link_to_those_who_may_look(staff, acme, django_assert_max_num_queries):
    now = timezone.now()
    audit.record("ledger.reconciled", actor="test", details={"violations": 0})
    AuditEvent.objects.update(created_at=now - timedelta(days=2))
    for _ in range(50):
        add_record(acme, created_at=now, model_asked=XSS, status=502, end_state="failed", usage_source="", model_used="")
    add_record(acme, created_at=now, overrun_microcredits=CREDIT)
    with django_assert_max_num_queries(36):
        response = staff.get("/admin/")
    assert "<img src=x" not in response.content.decode()
    alarms = {alarm["title"]: alarm["link"] for alarm in response.context["drift"]}
    assert alarms == {
        f"{XSS} fails more often": "/admin/chat/fallbackchain/route/?model=%3Cimg+src%3Dx+onerror%3Dalert%281%29%3E",
        "1 credits of overrun of gpt-4o": "/admin/billing/usagerecord/?model_used__icontains=gpt-4o",
        "The books were not proven for a day": "/admin/billing/entry/reconciliation/",
    }
    assert "The books were not proven for a day" in as_role("finance")
    assert "The books were not proven for a day" not in as_role("support")
    catalogue = as_role("catalogue")
    assert "fails more often" in catalogue
    assert "overrun of gpt-4o" not in catalogue


def test_where_nothing_drifts_that_is_said(staff):
    assert "Nothing drifts" in text_of(staff.get("/admin/"))


def as_role(role):
    roles.sync()
    user = User.objects.create_user(role or "intern", is_staff=True)
    user.groups.set(Group.objects.filter(name=role))
    client = Client()
    sign_in(client, user)
    return text_of(client.get("/admin/"))


def test_each_role_sees_what_it_may(acme):
    assert "Credits sold" in as_role("finance")
    catalogue = as_role("catalogue")
    assert "Spend by model" in catalogue
    assert "Credits sold" not in catalogue
    nobody = as_role("")
    assert "No role yet" in nobody
    assert "Spend by model" not in nobody
