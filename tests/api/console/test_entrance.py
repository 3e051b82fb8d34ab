"""Signing up, by a verified address; the first workspace; invitations."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.core import mail
from django.test import Client
from django.utils import timezone
from django_tasks_db.models import DBTaskResult

from billing import invitations, members
from billing.errors import RoleTooBroad
from billing.models import AuditEvent, Entry, Invitation, Membership, Workspace
from tests.worlds import ACTOR

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("forgotten_attempts")]

PASSWORD = "correct horse battery"
Role = Membership.Role


def sign_up(client, email="ada@example.com"):
    return client.post("/accounts/signup/", {"email": email, "password1": PASSWORD})


def link_in(message):
    return re.search(r"http://testserver(\S+)", message.body)[1]


def test_sign_up_verified_mail_workspace(client, settings):
    settings.SIGN_UP_CREDITS = 5
    assert sign_up(client)["location"] == "/accounts/confirm-email/"
    assert client.get("/console/")["location"].startswith("/accounts/login/")
    link = link_in(mail.outbox[0])
    assert b"Verify address" in client.get(link).content
    assert client.post(link)["location"] == "/console/"
    assert client.get("/console/")["location"] == "/console/new"
    response = client.post("/console/new", {"name": "acme"}, follow=True)
    workspace = Workspace.objects.get()
    assert response.redirect_chain[-1][0] == f"/console/{workspace.public_id}/overview"
    assert "First steps" in response.content.decode()
    member = workspace.memberships.get()
    assert (member.role, member.user.email) == ("owner", "ada@example.com")
    assert workspace.account.posted_microcredits == 5_000_000
    assert client.get("/console/", follow=True).redirect_chain[-1][0] == f"/console/{workspace.public_id}/overview"


def test_the_credits_to_begin_with_come_once_for_a_person(settings, verified):
    settings.SIGN_UP_CREDITS = 5
    ada = verified("ada@example.com")
    for name in ("one", "two"):
        members.found_workspace(name, ada)
    assert list(Entry.objects.values_list("kind", "amount_microcredits")) == [("grant", 5_000_000)]


def test_who_has_not_verified_does_not_get_in(client):
    sign_up(client)
    answer = client.post("/accounts/login/", {"login": "ada@example.com", "password": PASSWORD})
    assert answer["location"] == "/accounts/confirm-email/"
    assert client.get("/console/new").status_code == 302


def test_an_address_that_is_taken_is_not_told(client, verified):
    verified("ada@example.com")
    assert sign_up(client)["location"] == "/accounts/confirm-email/"
    assert User.objects.count() == 1
    assert "already exists" in mail.outbox[0].body or "already" in mail.outbox[0].subject.lower()


def test_sign_up_can_be_closed(client, settings):
    settings.SIGN_UP_IS_OPEN = False
    assert b"Sign-up is closed" in client.get("/accounts/signup/").content
    sign_up(client)
    assert not User.objects.exists()


def test_a_lost_password_is_set_anew_by_mail(client, verified):
    verified("ada@example.com")
    client.post("/accounts/password/reset/", {"email": "ada@example.com"})
    page = client.get(link_in(mail.outbox[0]), follow=True)
    form = page.redirect_chain[-1][0]
    client.post(form, {"password1": "another horse battery", "password2": "another horse battery"})
    answer = client.post("/accounts/login/", {"login": "ada@example.com", "password": "another horse battery"})
    assert answer["location"] == "/console/"


def test_a_workspace_needs_a_name(client, verified):
    client.force_login(verified("ada@example.com"))
    response = client.post("/console/new", {"name": "  "})
    assert response.status_code == 400
    assert b"A name has 1 to 120 characters." in response.content
    assert not Workspace.objects.exists()


# Invitations


@pytest.fixture
def invited(acme, as_role):
    """Asks for dev@example.com to come as a developer, on the members page."""
    response = as_role("admin")("members", {"email": "Dev@example.com", "role": "developer"})
    assert response.status_code == 302
    return Invitation.objects.get()


def test_invite_and_accept_as_developer_who_sees_his_own_keys_only(acme, invited, verified):
    [task] = DBTaskResult.objects.ready()
    task.task.call(*task.args_kwargs["args"])
    assert [(one.to, one.subject) for one in mail.outbox] == [(["dev@example.com"], "Invitation to a workspace")]
    link = link_in(mail.outbox[0])
    assert link == f"/console/invitations/{invited.public_id}"
    client = Client()
    client.force_login(verified("dev@example.com"))
    assert b"Join Acme" in client.get(link).content
    assert client.post(link, follow=True).redirect_chain[-1][0] == f"/console/{acme.workspace.public_id}/overview"
    keys = f"/console/{acme.workspace.public_id}/keys"
    assert b"No keys yet" in client.get(keys).content
    client.post(keys, {"name": "mine", "scopes": ["chat"]})
    page = client.get(keys).content.decode()
    assert "mine" in page
    assert acme.key.hint not in page
    actions = list(AuditEvent.objects.filter(workspace=acme.workspace).values_list("action", flat=True))
    assert [action for action in actions if action.startswith("member.")][-2:] == ["member.invited", "member.added"]
    assert client.get(link).status_code == 404


def test_an_invitation_is_for_its_address_only(acme, invited, verified):
    client = Client()
    client.force_login(verified("mallory@example.com"))
    for response in (
        client.get(f"/console/invitations/{invited.public_id}"),
        client.post(f"/console/invitations/{invited.public_id}"),
    ):
        assert response.status_code == 404
    assert b"invites you" not in client.get("/console/new").content
    assert acme.workspace.memberships.filter(user__username="mallory").count() == 0


def test_an_address_that_is_not_verified_opens_nothing(acme, invited, django_user_model):
    user = django_user_model.objects.create_user("dev", "dev@example.com")
    client = Client()
    client.force_login(user)
    assert client.post(f"/console/invitations/{invited.public_id}").status_code == 404


@pytest.mark.parametrize("end", ["withdrawn", "over", "replaced"])
def test_an_invitation_that_has_ended_opens_nothing(acme, invited, verified, as_role, end):
    if end == "withdrawn":
        assert as_role("owner")(f"invitations/{invited.public_id}/withdraw", {}).status_code == 302
    elif end == "over":
        Invitation.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    else:
        Invitation.objects.update(created_at=timezone.now() - invitations.AGAIN_AFTER)
        as_role("owner")("members", {"email": "dev@example.com", "role": "viewer"})
        assert Invitation.objects.filter(withdrawn_at=None).get().role == "viewer"
    dev = verified("dev@example.com")
    with pytest.raises(invitations.InvitationOver):
        invitations.accept(invited, dev)
    client = Client()
    client.force_login(dev)
    assert client.get(f"/console/invitations/{invited.public_id}").status_code == 404


LOSSES = {
    "removed": lambda inviter: members.remove_member(inviter, actor=ACTOR),
    "may not invite": lambda inviter: members.change_role(inviter, Role.DEVELOPER, actor=ACTOR),
}


@pytest.mark.parametrize("lose", LOSSES.values(), ids=LOSSES)
def test_an_invitation_stands_for_as_long_as_its_inviter_could_make_it(acme, invited, people, verified, lose):
    lose(people["admin"])
    assert_nothing_is_offered(invited, verified("dev@example.com"))


def test_a_role_that_the_inviter_may_no_longer_give_is_not_offered(acme, as_role, people, verified):
    as_role("owner")("members", {"email": "dev@example.com", "role": "billing"})
    invited, dev = Invitation.objects.get(), verified("dev@example.com")
    assert list(invitations.list_offers(dev)) == [invited]
    members.transfer_ownership(acme.workspace, people["developer"], actor=ACTOR)
    assert_nothing_is_offered(invited, dev)
    with pytest.raises(RoleTooBroad):
        invitations.invite(acme.workspace, "a@example.com", Role.BILLING, inviter=people["owner"].user, link="", actor=ACTOR)


def assert_nothing_is_offered(invited, user):
    client = Client()
    client.force_login(user)
    for response in (
        client.get(f"/console/invitations/{invited.public_id}"),
        client.post(f"/console/invitations/{invited.public_id}"),
    ):
        assert response.status_code == 404
    with pytest.raises(invitations.InvitationOver):
        invitations.accept(invited, user)
    assert not Membership.objects.filter(user=user).exists()


@pytest.mark.parametrize(
    ("email", "role", "words"),
    [
        ("nonsense", "viewer", "Enter a valid email address."),
        (f"{'a' * 250}@example.com", "viewer", "at most 254 characters"),
        ("dev@example.com", "owner", "Choose one of the roles."),
        ("dev@example.com", "king", "Choose one of the roles."),
        ("bob@example.com", "viewer", "This person is a member already."),
    ],
)
def test_what_cannot_be_invited(acme, as_role, verified, email, role, words):
    members.add_member(acme.workspace, verified("bob@example.com"), Role.VIEWER, actor=ACTOR)
    response = as_role("owner")("members", {"email": email, "role": role})
    assert response.status_code == 400
    assert words in response.content.decode()
    assert not Invitation.objects.exists()
    assert not DBTaskResult.objects.exists()


def test_an_address_is_not_mailed_again_and_again(acme, invited, as_role):
    for _ in range(5):
        response = as_role("owner")("members", {"email": "dev@example.com", "role": "viewer"})
        assert response.status_code == 429
        assert 0 < int(response["retry-after"]) <= 3600
        page = response.content.decode()
        assert "Try again at" in page
        assert 'value="dev@example.com"' in page
    assert Invitation.objects.get() == invited
    assert DBTaskResult.objects.count() == 1


# Members


def test_a_member_who_is_removed_loses_page_and_keys(acme, people, as_role):
    developer = as_role("developer")
    assert developer("keys", {"name": "mine", "scopes": ["chat"]}).status_code == 200
    key = people["developer"].api_keys.get()
    page = as_role("owner")(f"members/{people['developer'].public_id}/remove", {}, follow=True).content.decode()
    assert "1 key was revoked." in page
    key.refresh_from_db()
    assert key.revoked_at is not None
    assert developer("overview").status_code == 404


def test_the_owner_can_neither_leave_nor_be_degraded(people, as_role):
    owner = people["owner"].public_id
    for path, form in ((f"members/{owner}/remove", {}), (f"members/{owner}/role", {"role": "viewer"})):
        page = as_role("owner")(path, form, follow=True).content.decode()
        assert "A workspace has exactly one owner." in page
    people["owner"].refresh_from_db()
    assert (people["owner"].role, people["owner"].removed_at) == ("owner", None)


def test_a_role_changes_at_once(people, as_role):
    viewer = as_role("viewer")
    assert viewer("playground").status_code == 403
    as_role("admin")(f"members/{people['viewer'].public_id}/role", {"role": "developer"})
    assert viewer("playground").status_code == 200


@pytest.mark.parametrize(
    ("who", "offered"), [("owner", {"admin", "developer", "billing", "viewer"}), ("admin", {"admin", "developer", "viewer"})]
)
def test_row_148_a_form_offers_the_roles_that_its_reader_may_give(people, as_role, who, offered):
    page = as_role(who)("members").content.decode()
    assert set(re.findall(r'name="role" value="(\w+)"', page)) == offered
    refused = as_role("admin")(f"members/{people['admin'].public_id}/role", {"role": "billing"})
    assert refused.status_code == 403
    assert "the owner of the workspace has to give it" in refused.content.decode()
    assert Membership.objects.get(pk=people["admin"].pk).role == "admin"


def test_the_ownership_is_handed_over(people, as_role):
    as_role("owner")(f"members/{people['admin'].public_id}/owner", {})
    roles = {name: Membership.objects.get(pk=people[name].pk).role for name in ("owner", "admin")}
    assert roles == {"owner": "admin", "admin": "owner"}


def test_the_switcher_names_all_workspaces_of_a_person_and_no_other(acme, rival, people, as_role):
    visit = as_role("owner")
    assert "Rival" not in visit("overview").content.decode()
    members.add_member(rival.workspace, people["owner"].user, Role.VIEWER, actor=ACTOR)
    page = visit("overview").content.decode()
    assert f"/console/{rival.workspace.public_id}/overview" in page
    visit(f"/console/{rival.workspace.public_id}/overview")
    assert visit("/console/")["location"] == f"/console/{rival.workspace.public_id}/overview"
