"""Price versions in the staff admin: made for a moment to come, shown with their time, withdrawn before they begin."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from billing.models import AuditEvent
from chat.catalog import load_snapshot
from chat.loading.rows import PriceAmounts, add_price
from chat.models import CatalogModel, Price
from tests.api.admin.pages import form_of, text_of, url

pytestmark = pytest.mark.django_db


@pytest.fixture
def row(catalogue):
    return CatalogModel.objects.get(slug="sandbox-echo")


def post_price(staff, row, day, clock="00:00:00", amount="7"):
    values = {
        "prices-0-input_microcredits": amount,
        "prices-0-begins_at_0": day,
        "prices-0-begins_at_1": clock,
    }
    page = url(row, "change")
    return staff.post(page, form_of(staff.get(page)) | values, follow=True)


@pytest.mark.slow
def test_staff_set_a_price_for_a_moment_to_come(staff, row):
    before = load_snapshot().models[row.slug].prices
    assert "changed successfully" in text_of(post_price(staff, row, "2999-12-01"))
    price = row.prices.get(input_microcredits=7_000_000)
    assert load_snapshot().models[row.slug].prices == before
    assert load_snapshot().at(price.effective_at).models[row.slug].prices.version_id == price.pk
    page = text_of(staff.get(url(row, "change")))
    assert "1 Dec 2999, 00:00:00" in page.split("Price versions, newest first")[1]
    assert form_of(staff.get(url(row, "change")))["prices-0-input_microcredits"] != "7", "the form begins with what is in force"
    assert "Scheduled" in text_of(staff.get(url(Price)))
    assert "from " in text_of(staff.get(url(price, "change")))


@pytest.mark.slow
@pytest.mark.parametrize(("day", "clock"), [("2020-01-01", "00:00:00"), ("soon", "00:00:00"), ("2999-12-01", "")])
def test_a_moment_that_is_over_or_none_is_refused(staff, row, day, clock):
    count = Price.objects.count()
    response = post_price(staff, row, day, clock)
    assert "changed successfully" not in text_of(response)
    assert Price.objects.count() == count


def test_a_price_that_would_change_nothing_is_said(staff, row):
    count = Price.objects.count()
    amount = form_of(staff.get(url(row, "change")))["prices-0-input_microcredits"]
    assert "there is no new version" in text_of(post_price(staff, row, "2999-12-01", amount=amount))
    assert Price.objects.count() == count


def add_version(row, amount, **options):
    add_price(row, PriceAmounts(input_microcredits=amount, output_microcredits=amount), actor="test", **options)


def begin_scheduled(row):
    """A version that was scheduled when the page was opened, and has begun since."""
    add_version(row, 5_000_000, effective_at=timezone.now() + timedelta(hours=1))
    row.prices.filter(input_microcredits=5_000_000).update(effective_at=timezone.now())


@pytest.mark.slow
@pytest.mark.parametrize("change_price", [lambda row: add_version(row, 5_000_000), begin_scheduled], ids=["made", "begun"])
def test_a_price_that_changed_while_a_page_was_open_stays(staff, row, change_price):
    page = form_of(staff.get(url(row, "change")))
    change_price(row)
    versions = list(row.prices.values_list("pk", flat=True))
    assert "changed successfully" in text_of(staff.post(url(row, "change"), page | {"name": "Renamed"}, follow=True))
    assert CatalogModel.objects.get(pk=row.pk).name == "Renamed"
    assert list(row.prices.values_list("pk", flat=True)) == versions
    for edited in (
        {"prices-0-output_microcredits": "7"},
        {"prices-0-begins_at_0": "2999-12-01", "prices-0-begins_at_1": "00:00"},
    ):
        response = staff.post(url(row, "change"), page | {"name": "Again"} | edited)
        assert "The price has changed since this page was opened, so nothing was saved." in text_of(response)
        assert "UTC: Input 5, Output 5, PDF page 0. Open the page again" in text_of(response)
    assert (CatalogModel.objects.get(pk=row.pk).name, row.prices.count()) == ("Renamed", len(versions))
    assert "changed successfully" in text_of(post_price(staff, row, "", "", amount="7"))
    assert load_snapshot().models[row.slug].prices.input == 7_000_000


@pytest.mark.slow
def test_figures_of_no_version_of_the_model_are_refused(staff, row):
    page = form_of(staff.get(url(row, "change")))
    count, anothers = Price.objects.count(), str(Price.objects.exclude(model=row)[0].pk)
    for shown in ("", "x", "-1", "9" * 30, "9" * 5000, anothers):
        values = page | {"prices-0-shown_version": shown, "prices-0-input_microcredits": "7"}
        response = staff.post(url(row, "change"), values)
        assert "The price has changed since this page was opened" in text_of(response), shown
        assert Price.objects.count() == count, shown


@pytest.mark.slow
def test_a_first_price_that_was_made_while_a_page_was_open_stays(staff, row):
    row.prices.all().delete()
    page = form_of(staff.get(url(row, "change")))
    assert "prices-0-shown_version" not in page
    add_version(row, 5_000_000)
    assert "changed successfully" in text_of(staff.post(url(row, "change"), page | {"name": "Renamed"}, follow=True))
    figures = {"prices-0-input_microcredits": "7", "prices-0-output_microcredits": "7"}
    assert "UTC: Input 5, Output 5" in text_of(staff.post(url(row, "change"), page | figures))
    row.prices.all().delete()
    assert "changed successfully" in text_of(staff.post(url(row, "change"), page | figures, follow=True))
    assert row.prices.get().input_microcredits == 7_000_000


def test_staff_withdraw_what_has_not_begun_and_nothing_else(staff, row):
    amounts = PriceAmounts(input_microcredits=9, output_microcredits=9)
    price = add_price(row, amounts, actor="test", effective_at=timezone.now() + timedelta(hours=1))
    assert url(price, "withdraw") in text_of(staff.get(url(price, "change")))
    assert staff.get(url(price, "withdraw")).status_code == 200
    assert staff.post(url(price, "withdraw"), {"reason": ""}).status_code == 400
    assert "is withdrawn" in text_of(staff.post(url(price, "withdraw"), {"reason": "too dear"}, follow=True))
    event = AuditEvent.objects.get(action="price.withdrawn")
    assert (event.actor, event.reason, event.target) == ("staff:ada", "too dear", row.slug)
    assert "withdrawn" in text_of(staff.get(url(row, "change")))
    begun = row.prices.last()
    for one, words in ((price, "withdrawn already"), (begun, "has begun")):
        assert url(one, "withdraw") not in text_of(staff.get(url(one, "change")))
        response = staff.post(url(one, "withdraw"), {"reason": "r"})
        assert response.status_code == 400
        assert words in text_of(response)


@pytest.mark.slow
def test_a_page_asks_as_often_for_many_versions_as_for_few(staff, row):
    def asked(page):
        with CaptureQueriesContext(connection) as queries:
            assert staff.get(page).status_code == 200
        return len(queries)

    add_price(row, PriceAmounts(input_microcredits=1, output_microcredits=1), actor="test")
    pages = (url(Price), url(row, "change"))
    for page in pages:
        asked(page)  # what a process asks once
    few = [asked(page) for page in pages]
    for number in range(2, 12):
        add_price(row, PriceAmounts(input_microcredits=number, output_microcredits=1), actor="test")
    assert [asked(page) for page in pages] == few
