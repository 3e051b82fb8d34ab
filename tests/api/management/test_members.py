"""`/api/workspaces/{id}/members`: who belongs to a workspace, changed at once."""

import pytest
from django.contrib.auth.models import User

from billing.models import AuditEvent, Membership
from billing.presets import create_preset
from billing.quotas import Limits
from tests.api.management.conftest import error_of
from tests.worlds import ACTOR

pytestmark = pytest.mark.django_db


def test_a_person_is_added_changed_and_removed(as_role, people):
    ask = as_role("admin")
    User.objects.create_user("grace")
    added = ask("post", "/members", {"username": "grace", "role": "viewer"})
    assert added.status_code == 201
    member = added.json()
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
    assert list(actions) == ["member.added", "member.role_changed", "member.preset_set", "member.removed"]


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
    User.objects.create_user("grace")
    for ask in (as_role("admin"), as_key("workspace:manage")):
        assert error_of(ask("post", "/members", {"username": "grace", "role": "owner"})) == (403, "permission_denied", None)
        for member in (people["admin"], people["developer"]):
            response = ask("patch", f"/members/{member.public_id}", {"role": "owner"})
            assert error_of(response) == (403, "permission_denied", None)
    assert Membership.objects.get(role="owner") == people["owner"]


def test_row_148_nobody_but_the_owner_makes_somebody_pay(as_role, as_key, people):
    User.objects.create_user("grace")
    for ask in (as_role("admin"), as_key("workspace:manage")):
        for response in (
            ask("post", "/members", {"username": "grace", "role": "billing"}),
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
        ({"role": "viewer"}, "missing_required_parameter", "username"),
        ({"username": "grace"}, "missing_required_parameter", "role"),
        ({"username": "nobody", "role": "viewer"}, "invalid_value", "username"),
        ({"username": "asleep", "role": "viewer"}, "invalid_value", "username"),
        ({"username": "admin-of-acme", "role": "viewer"}, "invalid_value", "username"),
        ({"username": "grace\0", "role": "viewer"}, "invalid_unicode", "username"),
        ({"username": "grace", "role": "king"}, "invalid_value", "role"),
        ({"username": "grace", "role": None}, "invalid_type", "role"),
    ],
    ids=str,
)
def test_who_cannot_be_added(as_role, people, body, code, param):
    User.objects.create_user("grace")
    User.objects.create_user("asleep", is_active=False)
    assert error_of(as_role("owner")("post", "/members", body)) == (400, code, param)
    assert Membership.objects.count() == len(people)
