"""Lists that only grow: paging by the last row, the calendar, search by whole ids, CSV; the proof of the books."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta

import pytest
from django.urls import reverse

from billing.models import Account, AuditEvent, CreditLot, CreditOrder, Entry, Hold, UsageRecord
from tests.api.admin.pages import CREDIT, text_of, url
from tests.records import NOON, add_charge, add_record

pytestmark = pytest.mark.django_db

PAGE = 50


def ids(response):
    return [row.generation for row in response.context["cl"].result_list]


def test_pages_go_on_from_a_row_and_back_with_every_row_once(staff, acme, django_assert_max_num_queries):
    # Some share their moment, as rows of one batch do.
    for number in range(2 * PAGE + 20):
        add_record(acme, generation=f"g{number:04}", created_at=NOON + timedelta(seconds=number // 3))
    expected = [f"g{number:04}" for number in reversed(range(2 * PAGE + 20))]
    seen, query, queries = [], "", []
    while query is not None:
        with django_assert_max_num_queries(12):
            response = staff.get(url(UsageRecord) + query)
        queries.append(query)
        seen += ids(response)
        query = response.context["cl"].older
    assert seen == expected
    assert "Newer" in text_of(response)
    assert response.context["cl"].older is None
    back = response.context["cl"].newer
    assert ids(staff.get(url(UsageRecord) + back)) == expected[PAGE : 2 * PAGE]
    first = staff.get(url(UsageRecord) + staff.get(url(UsageRecord) + back).context["cl"].newer)
    assert ids(first) == expected[:PAGE]
    assert first.context["cl"].newer is None
    assert "50 requests, 10 Mar 2026, 12:00:39 to 10 Mar 2026, 12:00:23 UTC" in text_of(first)


def test_filters_stay_while_paging(staff, acme, rival):
    for number in range(PAGE + 5):
        add_record(acme, generation=f"a{number:03}", created_at=NOON + timedelta(seconds=number))
        add_record(rival, generation=f"r{number:03}", created_at=NOON + timedelta(seconds=number))
    page = staff.get(url(UsageRecord), {"workspace__id__exact": acme.workspace.pk})
    older = staff.get(url(UsageRecord) + page.context["cl"].older)
    assert ids(page) + ids(older) == [f"a{number:03}" for number in reversed(range(PAGE + 5))]


@pytest.mark.parametrize("mark", ["x", "-1", "99999999999999999999", "", "0", "1 or 1=1"])
def test_a_mark_that_is_no_row_begins_at_the_newest(staff, acme, mark):
    record = add_record(acme)
    assert ids(staff.get(url(UsageRecord), {"before": mark})) == [record.generation]
    assert ids(staff.get(url(UsageRecord), {"after": mark})) == [record.generation]


def test_the_calendar_shows_a_day_a_month_a_year(staff, acme):
    days = [
        datetime(2026, 2, 28, 23, 59, 59, tzinfo=UTC),
        datetime(2026, 3, 1, tzinfo=UTC),
        datetime(2026, 3, 31, 23, tzinfo=UTC),
    ]
    last, first, late = (add_record(acme, created_at=day).generation for day in days)
    month = {"created_at__year": "2026", "created_at__month": "3"}
    assert ids(staff.get(url(UsageRecord), month)) == [late, first]
    assert ids(staff.get(url(UsageRecord), month | {"created_at__day": "1"})) == [first]
    assert ids(staff.get(url(UsageRecord), {"created_at__year": "2026"})) == [late, first, last]
    links = staff.get(url(UsageRecord), month).context["cl"].periods()
    assert [link.label for link in links[:3]] == ["All time", "Today", "March 2026"]
    assert links[-1].label == "31"
    assert [link.label for link in links if link.is_current] == ["March 2026"]
    now = staff.get(url(UsageRecord)).context["cl"].periods()
    assert len(now) == 14
    assert now[0].is_current


@pytest.mark.parametrize("values", [{"year": "x"}, {"year": "2026", "month": "13"}, {"year": "99999"}, {"month": "3"}], ids=str)
def test_a_period_that_is_none_breaks_nothing(staff, acme, values):
    query = {f"created_at__{part}": value for part, value in values.items()}
    assert staff.get(url(UsageRecord), query).status_code in {200, 302}


@pytest.mark.parametrize("model", [UsageRecord, Hold, Entry])
def test_a_request_is_found_in_every_book_by_both_its_ids(staff, acme, model):
    add_charge(acme, CREDIT)
    wanted = add_charge(acme, CREDIT, request_id="their-label")
    for query in (wanted.generation, "their-label", f" {wanted.generation} "):
        assert ids(staff.get(url(model), {"q": query})) == [wanted.generation]
    for query in (wanted.generation[:-1], "their", "%"):
        assert ids(staff.get(url(model), {"q": query})) == []


def test_refunds_of_a_request_stand_beside_its_charge(staff, acme):
    record = add_charge(acme, CREDIT)
    staff.post(url(record, "refund"), {"reason": "sorry", "token": "0b6ab0f3-3b4c-4f3c-8a69-2f6f1a111111"})
    rows = staff.get(url(Entry), {"q": record.generation}).context["cl"].result_list
    assert [row.kind for row in rows] == ["refund", "usage"]
    page = text_of(staff.get(url(record, "change")))
    assert "Refunded" in page
    assert "1.000000" in page


def exported(response):
    assert response["content-type"].startswith("text/csv")
    assert "attachment" in response["content-disposition"]
    return list(csv.reader(io.StringIO(response.content.decode())))


def test_the_csv_has_what_the_filters_show_exact_and_inert(staff, acme, rival):
    add_charge(acme, 1_234_567, request_id="=cmd()", model_asked="=cmd()", model_used="=cmd()")
    add_charge(rival, 5)
    page = reverse("admin:billing_usagerecord_export")
    head, *rows = exported(staff.get(page, {"workspace__id__exact": acme.workspace.pk}))
    row = dict(zip(head, rows[0], strict=True))
    assert len(rows) == 1
    assert (row["Credits"], row["Workspace"], row["Model"]) == ("1.234567", "Acme", "'=cmd()")
    assert row["Time (UTC)"] == "2026-03-10T12:00:00.000000Z"
    assert len(exported(staff.get(page))) == 3
    for model in (Hold, Entry, CreditLot, CreditOrder, AuditEvent):
        assert exported(staff.get(reverse(f"admin:billing_{model._meta.model_name}_export")))


def test_too_many_rows_are_refused_in_words_and_not_cut(staff, acme, settings):
    settings.STAFF_EXPORT_ROWS = 2
    for _ in range(3):
        add_record(acme)
    response = staff.get(reverse("admin:billing_usagerecord_export"), {"created_at__year": "2026"}, follow=True)
    assert "More than 2 rows" in text_of(response)
    assert "created_at__year=2026" in response.redirect_chain[-1][0]


# The proof of the books


@pytest.mark.django_db(transaction=True)
def test_the_books_are_proven_on_a_page_and_the_act_is_kept(staff, acme):
    page = reverse("admin:billing_entry_reconciliation")
    assert "Prove the books" in text_of(staff.get(page))
    assert "The books balance" in text_of(staff.post(page))
    Account.objects.filter(workspace=acme.workspace).update(posted_microcredits=7)
    text = text_of(staff.post(page))
    assert "posted is the sum of the entries" in text
    assert "rows break a rule of the books" in text
    since = text_of(staff.post(page, {"workspace": "Acme", "since": "2026-11-01"}))
    assert "Not proven by this run" in since
    assert AuditEvent.objects.filter(action="ledger.reconciled", actor="staff:ada").count() >= 3
    assert staff.post(page, {"workspace": "nobody"}).status_code == 400
