"""The page of alerts: what is set there, what is refused, and which notices which role sees."""

from __future__ import annotations

import html
import re

import pytest
from django.utils import timezone

from billing.alerts.judging import AnswersFact, Facts, ModelFact, QuotaFact, judge
from billing.alerts.terms import DEFAULTS, recipients_of, terms_of
from billing.models import AlertTerms, AuditEvent, Notice
from billing.notices import publish

pytestmark = pytest.mark.django_db

FORM = {
    "low_balances": "250, 12.5",
    "key_percents": "90 %",
    "budget_percents": "",
    "expiry_days": "14",
    "quota_percents": "75, 95 %",
    "fallback_percent": "35",
    "told": ["credits.low/billing", "key.limit/developer", "key.created/owner", "model.deprecated/viewer"],
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
    assert (terms.quota_percents, terms.fallback_percent) == ((75, 95), 35)
    assert {kind.value: sorted(roles) for kind, roles in told.items() if roles} == {
        "credits.low": ["billing"],
        "key.limit": ["developer"],
        "key.created": ["owner"],
        "model.deprecated": ["viewer"],
    }
    assert AuditEvent.objects.get(action="alerts.set").actor == "user:billing-of-acme"
    page = visit("alerts").content.decode()
    assert 'value="12.5, 250"' in page
    assert 'value="75, 95"' in page
    assert 'value="35"' in page
    assert page.count(" checked") == 4


def test_what_is_left_empty_is_switched_off(as_role, acme):
    assert as_role("owner")("alerts", {"quota_percents": "", "fallback_percent": ""}).status_code == 302
    terms = terms_of(AlertTerms.objects.get(workspace=acme.workspace))
    assert (terms.quota_percents, terms.fallback_percent) == ((), 0)


def test_what_is_usual_is_shown_to_who_chose_nothing(as_role, acme):
    for _ in range(2):
        page = as_role("viewer")("alerts").content.decode()
        assert re.search(r'name="quota_percents" value="80, 100"[^>]* readonly', page)
        assert re.search(r'name="fallback_percent"[^>]* value="20" readonly', page)
        AlertTerms.objects.get_or_create(workspace=acme.workspace)  # as it was before there were these


def test_a_kind_is_offered_to_the_roles_that_may_see_the_same(as_role):
    page = as_role("owner")("alerts").content.decode()
    offered = {
        kind: set(re.findall(rf'value="{kind}/(\w+)"', page)) for kind in ("quota.reached", "fallback.rate", "model.deprecated")
    }
    assert offered == {
        "quota.reached": {"owner", "admin", "developer", "viewer"},
        "fallback.rate": {"owner", "admin", "billing", "viewer"},
        "model.deprecated": {"owner", "admin", "developer", "billing", "viewer"},
    }
    checked = set(re.findall(r'value="(?:quota.reached|fallback.rate|model.deprecated)/(\w+)" checked', page))
    assert checked == {"owner", "admin", "developer"}


@pytest.mark.slow
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
        ("quota_percents", "0"),
        ("quota_percents", "101"),
        ("quota_percents", "80; 90"),
        ("quota_percents", ", ".join(map(str, range(1, 10)))),
        ("fallback_percent", "101"),
        ("fallback_percent", "-1"),
        ("fallback_percent", "20.5"),
        ("fallback_percent", "9" * 30),
        ("told", ["fallback.rate/developer"]),
        ("told", ["quota.reached/billing"]),
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


def test_what_is_told_leads_to_the_page_that_shows_more(as_role, acme):
    facts = Facts(
        "Acme",
        0,
        quotas=(QuotaFact("files", 10, 10),),
        answers=AnswersFact(20, 20),
        models=(ModelFact("old", timezone.now().date()),),
    )
    drafts, _ = judge(facts, DEFAULTS, {}, timezone.now())
    for draft in drafts:
        publish(acme.workspace, Notice.Kind(draft.kind), title=draft.title, text=draft.text, data=draft.data, place=draft.place)
    visit = as_role("owner")
    links = re.findall(r'<a class="name" href="([^"]+)"', visit("alerts").content.decode())
    assert len(drafts) == 3
    assert [visit(html.unescape(link)).status_code for link in links[:3]] == [200] * 3  # the last is the key of acme


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
