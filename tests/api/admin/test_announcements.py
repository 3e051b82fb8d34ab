"""Announcements in the staff admin: written in plain text for an audience and a time, ended, shown to staff too."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from billing.models import Announcement, AuditEvent
from billing.presets import create_preset
from billing.quotas import Limits
from tests.api.admin.pages import XSS, form_of, text_of, url

pytestmark = pytest.mark.django_db


def write(staff, **values):
    page = url(Announcement, "add")
    return staff.post(page, form_of(staff.get(page)) | {"text": "Maintenance at noon."} | values, follow=True)


def test_staff_write_change_and_end_an_announcement(staff):
    assert "added successfully" in text_of(write(staff, severity="warning"))
    one = Announcement.objects.get()
    assert (one.severity, one.audience, one.ends_at) == ("warning", "all", None)
    assert "Maintenance at noon." in text_of(staff.get("/admin/"))
    values = form_of(staff.get(url(one, "change"))) | {"text": "Maintenance at one."}
    assert staff.post(url(one, "change"), values).status_code == 302
    assert "is over" in text_of(staff.post(url(one, "end"), follow=True))
    assert "Maintenance" not in text_of(staff.get("/admin/"))
    assert [version.text for version in one.history.all()] == ["Maintenance at one."] * 2 + ["Maintenance at noon."]
    assert list(AuditEvent.objects.order_by("pk").values_list("action", "actor")) == [
        ("announcement.published", "staff:ada"),
        ("announcement.changed", "staff:ada"),
        ("announcement.ended", "staff:ada"),
    ]
    assert "ada" in text_of(staff.get(url(one, "history")))


def test_an_announcement_for_a_plan_or_a_workspace(staff, customer):
    plan = create_preset("gold", Limits(), actor="test")
    write(staff, audience="workspace", workspace="acme", plan=plan.pk)
    write(staff, audience="plan", workspace="acme", plan=plan.pk)
    theirs, of_plan = Announcement.objects.order_by("pk")
    assert (theirs.workspace, theirs.plan) == (customer, None)
    assert (of_plan.workspace, of_plan.plan) == (None, plan)
    form = form_of(staff.get(url(theirs, "change")))
    assert form["workspace"] == customer.public_id
    assert staff.post(url(theirs, "change"), form).status_code == 302
    assert not AuditEvent.objects.filter(action="announcement.changed").exists(), "what was not changed is not a change"
    page = text_of(staff.get(url(Announcement)))
    assert "acme" in page
    assert "gold" in page


@pytest.mark.slow
@pytest.mark.parametrize(
    "values",
    [
        {"text": " "},
        {"text": "x" * 1001},
        {"text": "a\x00b"},
        {"severity": "loud"},
        {"audience": "plan"},
        {"audience": "workspace"},
        {"audience": "workspace", "workspace": "nobody"},
        {"starts_at_0": "soon"},
        {"ends_at_0": "2020-01-01", "ends_at_1": "00:00:00"},
    ],
    ids=str,
)
def test_an_announcement_that_makes_no_sense_is_refused(staff, values):
    response = write(staff, **values)
    assert response.context["adminform"].form.errors
    assert not Announcement.objects.exists()


def test_row_150_markup_is_shown_as_text(staff):
    write(staff, text=XSS)
    one = Announcement.objects.get()
    for page in ("/admin/", url(Announcement), url(one, "change"), url(one, "end"), url(one, "history")):
        content = staff.get(page).content.decode()
        assert "<img src=x" not in content, page
        assert "&lt;img src=x" in content, page


def test_a_list_asks_as_often_for_many_as_for_few(staff, customer):
    def asked():
        with CaptureQueriesContext(connection) as queries:
            assert staff.get(url(Announcement)).status_code == 200
        return len(queries)

    write(staff, audience="workspace", workspace="acme")
    few = asked()
    for _ in range(5):
        write(staff, audience="workspace", workspace="acme")
    assert asked() == few
