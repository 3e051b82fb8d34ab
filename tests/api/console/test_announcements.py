"""Announcements on the pages of the console, and putting them away."""

import pytest

from billing import announcements
from billing.models import Announcement
from tests.api.admin.pages import XSS
from tests.worlds import ACTOR

pytestmark = pytest.mark.django_db


@pytest.fixture
def one():
    announcement = Announcement(text=f"Maintenance at noon.\n{XSS}", severity="warning")
    announcements.publish(announcement, actor=ACTOR)
    return announcement


def test_it_stands_on_every_page_as_text_until_it_is_put_away(acme, as_role, one):
    visit, other = as_role("viewer"), as_role("owner")
    for path in ("overview", "keys"):
        page = visit(path).content.decode()
        assert "Maintenance at noon.<br>&lt;img" in page
        assert "<img src=x" not in page
    assert "Maintenance" in other("playground").content.decode()
    here = f"/console/{acme.workspace.public_id}/keys?state=all"
    for _ in range(2):
        response = visit(f"announcements/{one.public_id}/dismiss", {"next": here})
        assert (response.status_code, response["location"]) == (302, here)
    assert "Maintenance" not in visit("overview").content.decode()
    assert "Maintenance" in other("overview").content.decode()


@pytest.mark.parametrize(
    "page", ["https://evil.example", "//evil.example", "/admin/", "", "/console/ws_other/keys", "x\r\nSet-Cookie: a=b"]
)
def test_it_leads_back_into_its_own_workspace_only(acme, as_role, one, page):
    response = as_role("viewer")(f"announcements/{one.public_id}/dismiss", {"next": page})
    assert response["location"] == f"/console/{acme.workspace.public_id}/overview"


def test_one_that_is_not_for_the_workspace_does_not_exist(rival, as_role):
    theirs = Announcement(text="Secret", audience="workspace", workspace=rival.workspace)
    announcements.publish(theirs, actor=ACTOR)
    visit = as_role("viewer")
    assert visit(f"announcements/{theirs.public_id}/dismiss", {"next": ""}).status_code == 404
    assert visit("announcements/ann_none/dismiss", {"next": ""}).status_code == 404
    assert "Secret" not in visit("overview").content.decode()


def test_in_a_suspended_workspace_it_is_shown_without_its_button(acme, as_role, one):
    acme.workspace.state = "suspended"
    acme.workspace.save()
    page = as_role("viewer")("overview").content.decode()
    assert "Maintenance at noon." in page
    assert "Dismiss" not in page
