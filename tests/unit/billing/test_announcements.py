"""Who sees an announcement, when, and until he puts it away."""

from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from billing import announcements
from billing.members import add_member
from billing.models import Announcement, AuditEvent, Membership
from billing.presets import create_preset, set_plan
from billing.quotas import Limits
from tests.worlds import ACTOR, make_member

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)


def published(text="Hello", **fields):
    announcement = Announcement(text=text, **fields)
    announcements.publish(announcement, actor=ACTOR)
    return announcement


def texts(member, now=None):
    return [one.text for one in announcements.shown_to(member, now or timezone.now())]


def test_an_announcement_is_for_all_for_a_plan_or_for_one_workspace(acme, rival):
    ours, theirs = make_member(acme.workspace, "viewer"), make_member(rival.workspace, "owner")
    plan = create_preset("gold", Limits(), actor=ACTOR)
    published("all")
    published("gold", audience="plan", plan=plan)
    published("acme", audience="workspace", workspace=acme.workspace)
    assert (set(texts(ours)), set(texts(theirs))) == ({"all", "acme"}, {"all"})
    set_plan(rival.workspace, plan, actor=ACTOR)
    theirs.refresh_from_db()
    assert set(texts(theirs)) == {"all", "gold"}


def test_it_is_shown_from_its_start_until_its_end(acme):
    member, now = make_member(acme.workspace, "viewer"), timezone.now()
    one = published(starts_at=now + HOUR, ends_at=now + 2 * HOUR)
    seen = [bool(texts(member, now + passed * HOUR)) for passed in (0, 1, 1.5, 2)]
    assert seen == [False, True, True, False]
    announcements.end(one, now, actor=ACTOR)
    assert not texts(member, now + 1.5 * HOUR), "what has not begun never does"
    open_ended = published()
    assert texts(member, now + 9999 * HOUR)
    announcements.end(open_ended, timezone.now(), actor=ACTOR)
    assert not texts(member)


def test_the_gravest_comes_first_and_then_the_newest(acme):
    member, now = make_member(acme.workspace, "viewer"), timezone.now()
    for number, severity in enumerate(("info", "critical", "warning", "info")):
        published(f"{severity} {number}", severity=severity, starts_at=now - HOUR + timedelta(minutes=number))
    assert texts(member) == ["critical 1", "warning 2", "info 3", "info 0"]


def test_a_person_puts_it_away_for_himself_until_its_text_changes(acme, rival):
    member, other = make_member(acme.workspace, "viewer"), make_member(acme.workspace, "owner")
    elsewhere = add_member(rival.workspace, member.user, Membership.Role.VIEWER, actor=ACTOR)
    one = published()
    for _ in range(2):
        announcements.dismiss(one, member.user)
    assert (texts(member), texts(elsewhere), texts(other)) == ([], [], ["Hello"])
    one.severity = "critical"
    announcements.publish(one, actor=ACTOR)
    assert texts(member) == []
    one.text = "Hello, it is over"
    announcements.publish(one, actor=ACTOR)
    assert texts(member) == ["Hello, it is over"]
    assert [event.action for event in AuditEvent.objects.filter(target=one.public_id).order_by("pk")] == [
        "announcement.published",
        "announcement.changed",
        "announcement.changed",
    ]


@pytest.mark.parametrize("text", ["a\x00b", "a\u202eb", "a\x1b[31mb", "\ud800"])
def test_characters_that_no_plain_text_has_are_refused(text):
    with pytest.raises(ValidationError):
        announcements.checked_text(text)


def test_lines_stay_lines():
    assert announcements.checked_text("  One. \r\nTwo <b>.\n\n") == "One.\nTwo <b>."
