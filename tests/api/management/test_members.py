"""`/api/workspaces/{id}/members`: who belongs to a workspace, changed at once; who shall belong to it is invited."""

import pytest
from allauth.account.models import EmailAddress
from django.contrib.auth.models import User
from django_tasks_db.models import DBTaskResult

from billing import invitations
from billing.invitations import MOST_A_DAY
from billing.models import AuditEvent, Invitation, Membership
from billing.presets import create_preset
from billing.quotas import Limits
from tests.api.management.conftest import error_of
from tests.worlds import ACTOR

pytestmark = pytest.mark.django_db


@pytest.fixture
def grace():
    """A person of this installation, in no workspace yet."""
    user = User.objects.create_user("grace")
    EmailAddress.objects.create(user=user, email="grace@example.com", verified=True, primary=True)
    return user


def invite(ask, email="grace@example.com", role="viewer"):
    return ask("post", "/members", {"email": email, "role": role})


def test_a_person_is_invited_accepts_and_is_changed_and_removed(as_role, people, grace):
    ask = as_role("admin")
    invited = invite(ask, "Grace@example.com")
    assert invited.status_code == 201
    invitation = Invitation.objects.get()
    body = invited.json()
    assert body.pop("created_at") < body.pop("expires_at")
    assert body == {"id": invitation.public_id, "object": "invitation", "email": "grace@example.com", "role": "viewer"}
    assert not Membership.objects.filter(user=grace).exists()
    [task] = DBTaskResult.objects.ready()
    link = f"http://testserver/console/invitations/{invitation.public_id}"
    assert task.args_kwargs["args"] == [invitation.pk, link]
    accepted = invitations.accept(invitation, grace)
    member = ask("get", f"/members/{accepted.public_id}").json()
    assert (member["object"], member["username"], member["role"], member["preset"]) == ("member", "grace", "viewer", None)
    preset = create_preset("small", Limits(max_tokens_daily=5), actor=ACTOR)
    changed = ask("patch", f"/members/{member['id']}", {"role": "developer", "preset": preset.public_id}).json()
    assert changed == {**member, "role": "developer", "preset": preset.public_id, "revoked_keys": 0}
    assert ask("get", f"/members/{member['id']}").json()["role"] == "developer"
    removed = ask("delete", f"/members/{member['id']}")
    assert removed.json() == {"id": member["id"], "object": "member", "removed": True, "revoked_keys": 0}
    assert ask("get", f"/members/{member['id']}").status_code == 404
    assert "grace" not in ask("get", "/members").content.decode()
    actions = AuditEvent.objects.filter(actor="user:admin-of-acme").values_list("action", flat=True)
    assert list(actions) == ["member.invited", "member.role_changed", "member.preset_set", "member.removed"]


def test_nobody_becomes_a_member_unasked_and_nobody_learns_who_has_an_account(as_role, as_key, people, grace):
    User.objects.create_user("asleep", is_active=False)
    EmailAddress.objects.create(user=User.objects.get(username="asleep"), email="asleep@example.com", verified=True)
    members = Membership.objects.count()
    for ask in (as_role("owner"), as_role("admin"), as_key("workspace:manage")):
        for name in ("grace", "asleep", "nobody"):
            assert error_of(ask("post", "/members", {"username": name, "role": "viewer"})) == (
                400,
                "unknown_parameter",
                "username",
            )
    answers = [invite(as_role("owner"), f"{name}@example.com") for name in ("grace", "asleep", "nobody")]
    shown = [{**answer.json(), "id": "", "email": "", "created_at": "", "expires_at": ""} for answer in answers]
    assert [answer.status_code for answer in answers] == [201] * 3
    assert shown[0] == shown[1] == shown[2]
    assert Membership.objects.count() == members


def test_a_key_invites_in_the_name_of_its_member_or_of_the_owner(as_role, as_key, acme, rival, people):
    ask = as_role("admin")
    made = ask("post", "/keys", {"name": "mine", "scopes": ["workspace:manage"]}).json()
    header = {"authorization": f"Bearer {made['key']}"}
    assert ask("post", "/members", {"email": "a@example.com", "role": "viewer"}, **header).status_code == 201
    assert invite(as_key("workspace:manage"), "b@example.com").status_code == 201
    inviters = Invitation.objects.order_by("pk").values_list("invited_by", flat=True)
    assert list(inviters) == [people["admin"].user_id, people["owner"].user_id]
    assert {event.actor[:4] for event in AuditEvent.objects.filter(action="member.invited")} == {"key:"}
    response = invite(as_key("workspace:manage", workspace=rival.workspace))
    assert error_of(response) == (400, "invalid_value", "email")
    assert "no owner" in response.json()["error"]["message"]


def test_too_many_invitations_are_told_when_to_come_again(as_role, people):
    ask = as_role("owner")
    statuses = [invite(ask, f"x{number}@example.com").status_code for number in range(MOST_A_DAY + 1)]
    assert statuses == [201] * MOST_A_DAY + [429]
    response = invite(ask, "x@example.com")
    assert error_of(response) == (429, "invitation_limit_exceeded", None)
    assert 86_000 < int(response["retry-after"]) <= 86_400
    assert DBTaskResult.objects.count() == MOST_A_DAY


def test_a_role_counts_with_the_next_request(as_role, as_member, people):
    ask = as_member(people["developer"])
    assert ask("post", "/keys", {"name": "key"}).status_code == 201
    changed = as_role("owner")("patch", f"/members/{people['developer'].public_id}", {"role": "viewer"})
    assert changed.json()["revoked_keys"] == 1
    assert error_of(ask("post", "/keys", {"name": "key"})) == (403, "permission_denied", None)
    assert as_role("owner")("delete", f"/members/{people['developer'].public_id}").status_code == 200
    assert error_of(ask("get")) == (404, "not_found", None)


def test_the_owner_hands_the_workspace_over(as_role, people):
    response = as_role("owner")("patch", f"/members/{people['viewer'].public_id}", {"role": "owner"})
    assert response.json()["role"] == "owner"
    assert Membership.objects.get(pk=people["owner"].pk).role == "admin"


def test_row_148_nobody_but_the_owner_makes_an_owner(as_role, as_key, people):
    for ask in (as_role("admin"), as_key("workspace:manage")):
        assert error_of(invite(ask, role="owner")) == (403, "permission_denied", None)
        for member in (people["admin"], people["developer"]):
            response = ask("patch", f"/members/{member.public_id}", {"role": "owner"})
            assert error_of(response) == (403, "permission_denied", None)
    assert Membership.objects.get(role="owner") == people["owner"]


def test_row_148_nobody_but_the_owner_makes_somebody_pay(as_role, as_key, people):
    for ask in (as_role("admin"), as_key("workspace:manage")):
        for response in (
            invite(ask, role="billing"),
            ask("patch", f"/members/{people['admin'].public_id}", {"role": "billing"}),
        ):
            assert error_of(response) == (403, "permission_denied", "role")
            assert "The role Billing" in response.json()["error"]["message"]
            assert "the owner of the workspace has to give it" in response.json()["error"]["message"]
        # Who has it keeps it.
        assert ask("patch", f"/members/{people['billing'].public_id}", {"role": "billing"}).status_code == 200
    assert [member.user.username for member in Membership.objects.filter(role="billing")] == ["billing-of-acme"]
    assert as_role("owner")("patch", f"/members/{people['admin'].public_id}", {"role": "billing"}).status_code == 200


def test_row_149_the_owner_stays(as_role, people):
    owner = f"/members/{people['owner'].public_id}"
    for who in ("owner", "admin"):
        assert error_of(as_role(who)("delete", owner)) == (400, "owner_required", None)
        assert error_of(as_role(who)("patch", owner, {"role": "viewer"})) == (400, "owner_required", None)


def test_a_change_that_fails_in_part_fails_as_a_whole(as_role, people):
    response = as_role("owner")(
        "patch", f"/members/{people['developer'].public_id}", {"role": "admin", "preset": "preset_none"}
    )
    assert error_of(response) == (404, "not_found", None)
    assert Membership.objects.get(pk=people["developer"].pk).role == "developer"


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"role": "viewer"}, "missing_required_parameter", "email"),
        ({"email": "grace@example.com"}, "missing_required_parameter", "role"),
        ({"email": "grace", "role": "viewer"}, "invalid_value", "email"),
        ({"email": "", "role": "viewer"}, "invalid_value", "email"),
        ({"email": f"{'a' * 250}@example.com", "role": "viewer"}, "invalid_value", "email"),
        ({"email": "ada@example.com", "role": "viewer"}, "invalid_value", "email"),
        ({"email": "grace\0@example.com", "role": "viewer"}, "invalid_unicode", "email"),
        ({"email": "grace@example.com", "role": "king"}, "invalid_value", "role"),
        ({"email": "grace@example.com", "role": "owner"}, "invalid_value", "role"),
        ({"email": "grace@example.com", "role": None}, "invalid_type", "role"),
    ],
    ids=str,
)
def test_who_cannot_be_invited(as_role, people, body, code, param):
    EmailAddress.objects.create(user=people["admin"].user, email="Ada@example.com", verified=True)
    assert error_of(as_role("owner")("post", "/members", body)) == (400, code, param)
    assert not Invitation.objects.exists()
