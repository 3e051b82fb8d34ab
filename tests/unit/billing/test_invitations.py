"""Invitations: how many are mailed, and that a mail says nothing in the name of the gateway that somebody else wrote."""

import threading
from datetime import timedelta

import pytest
from allauth.account.models import EmailAddress
from django.contrib.auth.models import User
from django.core import mail
from django.core.exceptions import ValidationError
from django.db import connections
from django.utils import timezone

from billing import courier, invitations
from billing.errors import InvitationLimitExceeded
from billing.invitations import AGAIN_AFTER, DAY, MOST_A_DAY, Sent, free_at
from billing.models import Invitation, Membership, Workspace
from tests.worlds import ACTOR, make_member

# The worker looks after its connection itself, which no test may have open.
pytestmark = pytest.mark.django_db(transaction=True)

LINK = "https://gateway.example/console/invitations/{id}"
NOW = timezone.now()


def invite(member, email):
    role = Membership.Role.VIEWER
    return invitations.invite(member.workspace, email, role, inviter=member.user, link=LINK, actor=ACTOR)


def sent_by(count, *, workspace=1, person=1, to="x{}@a.example", ago=timedelta(0)):
    return [Sent(workspace, person, to.format(number), NOW - ago) for number in range(count)]


FULL = MOST_A_DAY


@pytest.mark.parametrize(
    ("sent", "end"),
    [
        ([], None),
        (sent_by(FULL - 1), None),
        (sent_by(FULL, ago=timedelta(hours=5)), timedelta(hours=19)),
        (sent_by(FULL, ago=DAY), None),
        (sent_by(1) + sent_by(FULL - 1, ago=timedelta(hours=2)), timedelta(hours=22)),
        (sent_by(FULL, person=2), DAY),
        (sent_by(FULL, workspace=2), DAY),
        (sent_by(FULL, workspace=2, person=2), None),
        (sent_by(1, to="dev@a.example", ago=timedelta(minutes=20)), timedelta(minutes=40)),
        (sent_by(1, to="dev@a.example", person=2), AGAIN_AFTER),
        (sent_by(1, to="dev@a.example", workspace=2), None),
        (sent_by(1, to="dev@a.example", ago=AGAIN_AFTER), None),
    ],
    ids=[
        "nothing",
        "one less",
        "full",
        "full yesterday",
        "one and full before",
        "full by another",
        "full elsewhere",
        "full elsewhere by another",
        "address lately",
        "address by another",
        "address elsewhere",
        "address an hour ago",
    ],
)
def test_when_the_next_one_may_be_sent(sent, end):
    assert free_at(sent, 1, 1, "dev@a.example", NOW) == (None if end is None else NOW + end)


def test_an_address_gets_one_an_hour_whatever_becomes_of_it(acme):
    owner = make_member(acme.workspace, "owner")
    first = invite(owner, "dev@a.example")
    invitations.withdraw(first, actor=ACTOR)
    with pytest.raises(InvitationLimitExceeded) as refusal:
        invite(owner, "Dev@a.example")
    assert (refusal.value.status, refusal.value.code) == (429, "invitation_limit_exceeded")
    [(name, wait_s)] = refusal.value.headers
    assert name == "retry-after"
    assert 3590 < int(wait_s) <= 3600
    again_at = first.created_at + AGAIN_AFTER
    assert f"Try again at {again_at.day} {again_at:%b %Y, %H:%M:%S} UTC." in refusal.value.message
    Invitation.objects.update(created_at=timezone.now() - AGAIN_AFTER)
    invite(owner, "dev@a.example")


def test_a_person_gets_no_more_by_making_workspaces(acme, rival):
    owner = make_member(acme.workspace, "owner")
    elsewhere = Membership.objects.create(workspace=rival.workspace, user=owner.user, role="owner")
    for number in range(MOST_A_DAY):
        invite((owner, elsewhere)[number % 2], f"x{number}@a.example")
    for member in (owner, elsewhere):
        with pytest.raises(InvitationLimitExceeded):
            invite(member, "more@a.example")
    assert Invitation.objects.count() == MOST_A_DAY
    invite(make_member(rival.workspace, "admin"), "more@a.example")


def test_of_many_at_once_one_is_sent(acme, rival):
    owner = make_member(acme.workspace, "owner")
    elsewhere = Membership.objects.create(workspace=rival.workspace, user=owner.user, role="owner")
    for number in range(MOST_A_DAY - 1):
        invite(owner, f"x{number}@a.example")
    ready, outcomes = threading.Barrier(4), []

    def ask(number):
        ready.wait()
        try:
            outcomes.append(invite((owner, elsewhere)[number % 2], f"more{number}@a.example") is not None)
        except InvitationLimitExceeded:
            outcomes.append(False)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=ask, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [False, False, False, True]
    assert Invitation.objects.count() == MOST_A_DAY


def test_a_mail_has_no_words_of_others_in_its_subject_and_no_link_but_its_own(acme):
    Workspace.objects.update(name="URGENT verify your account at https://evil.example/x " + "a" * 60)
    owner = make_member(Workspace.objects.get(pk=acme.workspace.pk), "owner", username="www.evil.example")
    invitation = invite(owner, "dev@a.example")
    assert mail.outbox == [], "not before a task sends it"
    courier.new_worker().run()
    (message,) = mail.outbox
    assert (message.subject, message.to) == ("Invitation to a workspace", ["dev@a.example"])
    first, _, link, *_ = message.body.splitlines()
    assert first == (
        '"www[.]evil[.]example" invites you to the workspace '
        '"URGENT verify your account at https[:]//evil[.]example/x aaaaaaa…", as Viewer.'
    )
    assert link == LINK.format(id=invitation.public_id)


@pytest.mark.parametrize("end", ["withdrawn_at", "accepted_at", "expires_at"])
def test_an_invitation_that_ended_before_its_mail_went_out_is_not_mailed(acme, end):
    invite(make_member(acme.workspace, "owner"), "dev@a.example")
    Invitation.objects.update(**{end: timezone.now()})
    courier.new_worker().run()
    assert mail.outbox == []


@pytest.mark.parametrize("end", ["inviter", "workspace"])
def test_an_invitation_that_nobody_could_make_now_is_neither_mailed_nor_offered(acme, end):
    member = make_member(acme.workspace, "admin")
    invite(member, "dev@a.example")
    dev = User.objects.create_user("dev")
    EmailAddress.objects.create(user=dev, email="dev@a.example", verified=True)
    assert invitations.list_offers(dev).exists()
    if end == "inviter":
        Membership.objects.filter(pk=member.pk).update(removed_at=timezone.now())
    else:
        Workspace.objects.filter(pk=acme.workspace.pk).update(state=Workspace.State.CLOSED)
        with pytest.raises(ValidationError, match="closed"):
            invite(member, "other@a.example")
    assert not invitations.list_offers(dev).exists()
    courier.new_worker().run()
    assert mail.outbox == []
