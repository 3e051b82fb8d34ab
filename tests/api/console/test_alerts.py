"""The page of alerts: what is set there, what is refused, and which notices which role sees."""

from __future__ import annotations

import re

import pytest

from billing.alerts.terms import recipients_of, terms_of
from billing.models import AlertTerms, AuditEvent, Notice
from billing.notices import publish

pytestmark = pytest.mark.django_db

FORM = {
    "low_balances": "250, 12.5",
    "key_percents": "90 %",
    "budget_percents": "",
    "expiry_days": "14",
    "told": ["credits.low/billing", "key.limit/developer", "key.created/owner"],
}


def test_what_is_set_is_kept_and_shown(as_role, acme):
    visit = as_role("billing")
    assert visit("alerts", FORM).status_code == 302
    row = AlertTerms.objects.get(workspace=acme.workspace)
    terms, told = terms_of(row), recipients_of(row)
    assert (terms.low_balances, terms.key_percents, terms.budget_percents, terms.expiry_days) == (
        (12_500_000, 250_000_000),
        (90,),
        (),
        14,
    )
    assert {kind.value: sorted(roles) for kind, roles in told.items() if roles} == {
        "credits.low": ["billing"],
        "key.limit": ["developer"],
        "key.created": ["owner"],
    }
    assert AuditEvent.objects.get(action="alerts.set").actor == "user:billing-of-acme"
    page = visit("alerts").content.decode()
    assert 'value="12.5, 250"' in page
    assert page.count(" checked") == 3


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("low_balances", "many"),
        ("low_balances", "-1"),
        ("low_balances", "1.0000001"),
        ("low_balances", "9" * 30),
        ("key_percents", "0"),
        ("key_percents", "101"),
        ("budget_percents", "1e1"),
        ("budget_percents", "9" * 30),
        ("expiry_days", "61"),
        ("expiry_days", "-1"),
        ("told", ["credits.low/developer"]),
        ("told", ["credits.low/emperor"]),
        ("told", ["nothing"]),
    ],
)
def test_what_cannot_be_is_told_at_its_field_and_kept_in_the_form(as_role, field, value):
    response = as_role("owner")("alerts", FORM | {field: value})
    page = response.content.decode()
    assert response.status_code == 400
    assert 'class="error"' in page or 'class="in error"' in page
    assert field == "told" or f'value="{value}"' in page
    assert not AlertTerms.objects.exists()


def test_a_role_sees_the_notices_of_what_it_may_see(as_role, acme):
    for kind in (Notice.Kind.CREDITS_LOW, Notice.Kind.KEY_LIMIT):
        publish(acme.workspace, kind, title=f"About {kind.value}", text="", data={}, place="credits")
    seen = {role: as_role(role)("alerts").content.decode() for role in ("owner", "billing")}
    assert "About key.limit" in seen["owner"]
    assert "About credits.low" in seen["billing"]
    assert "About key.limit" not in seen["billing"]


def test_notices_are_paged_by_their_last_row(as_role, acme, rival):
    for number in range(35):
        publish(acme.workspace, Notice.Kind.CREDITS_ADDED, title=f"Number {number};", text="", data={})
    publish(rival.workspace, Notice.Kind.CREDITS_ADDED, title="Theirs", text="", data={})
    visit = as_role("viewer")
    first = visit("alerts").content.decode()
    older = re.search(r'href="([^"]+)">Older', first)[1]
    second = visit(older).content.decode()
    told = [f"Number {number};" for number in reversed(range(35))]
    assert [title for title in told if title in first] == told[:30]
    assert [title for title in told if title in second] == told[30:]
    assert "Theirs" not in first + second
    assert visit("alerts?after=x").status_code == 404
