"""The people of a workspace: one owner, roles that count at once, and keys that go with them."""

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from billing.apikeys import Creator, KeyTerms, find, mint
from billing.errors import InvalidApiKey, OwnerRequired
from billing.members import add_member, change_role, list_members, remove_member, transfer_ownership
from billing.models import AuditEvent, Membership
from billing.permissions import scopes_of_role
from tests.worlds import ACTOR, make_member

pytestmark = pytest.mark.django_db

Role = Membership.Role


@pytest.fixture
def owner(acme):
    return make_member(acme.workspace, "owner")


def key_of(member, *scopes):
    creator = Creator(scopes_of_role(member.role), None, member)
    return mint(member.workspace, "key", actor=ACTOR, terms=KeyTerms(scopes=scopes), creator=creator)[0]


def is_alive(key):
    return find(key.digest) is not InvalidApiKey


def test_a_person_is_a_member_once_and_may_come_back(acme):
    member = make_member(acme.workspace, "viewer", username="ada")
    with pytest.raises(ValidationError):
        add_member(acme.workspace, member.user, Role.ADMIN, actor=ACTOR)
    remove_member(member, actor=ACTOR)
    again = add_member(acme.workspace, member.user, Role.ADMIN, actor="user:bob")
    assert list(list_members(acme.workspace)) == [again]
    assert Membership.objects.filter(user=member.user).count() == 2
    event = AuditEvent.objects.filter(action="member.added").latest("pk")
    assert (event.actor, event.target, event.details) == ("user:bob", again.public_id, {"user": "ada", "role": "admin"})


def test_there_is_one_owner(acme, owner):
    with pytest.raises(ValidationError):
        add_member(acme.workspace, User.objects.create_user("bob"), Role.OWNER, actor=ACTOR)
    admin = make_member(acme.workspace, "admin")
    with pytest.raises(ValidationError):
        change_role(admin, Role.OWNER, actor=ACTOR)
    assert list(list_members(acme.workspace).filter(role="owner")) == [owner]


REFUSED_BY_THE_DATABASE = {
    "a second owner": {"role": "owner"},
    "a role that nobody knows": {"role": "king"},
}


@pytest.mark.parametrize("change", REFUSED_BY_THE_DATABASE.values(), ids=REFUSED_BY_THE_DATABASE)
def test_the_database_refuses(acme, owner, change):
    admin = make_member(acme.workspace, "admin")
    with pytest.raises(IntegrityError), transaction.atomic():
        Membership.objects.filter(pk=admin.pk).update(**change)


def test_the_database_keeps_the_owner(acme, owner):
    with pytest.raises(IntegrityError), transaction.atomic():
        Membership.objects.filter(pk=owner.pk).update(removed_at=timezone.now())


def test_row_149_the_owner_neither_leaves_nor_changes_his_role(acme, owner):
    for act in (lambda: remove_member(owner, actor=ACTOR), lambda: change_role(owner, Role.VIEWER, actor=ACTOR)):
        with pytest.raises(OwnerRequired) as refusal:
            act()
        assert (refusal.value.status, refusal.value.code) == (400, "owner_required")
    assert list(list_members(acme.workspace)) == [owner]


def test_the_ownership_changes_hands(acme, owner):
    admin = make_member(acme.workspace, "developer")
    transfer_ownership(acme.workspace, admin, actor="user:ada")
    assert dict(list_members(acme.workspace).values_list("pk", "role")) == {owner.pk: "admin", admin.pk: "owner"}
    assert AuditEvent.objects.get(action="workspace.transferred").actor == "user:ada"
    remove_member(owner, actor=ACTOR)
    with pytest.raises(ValidationError):
        transfer_ownership(acme.workspace, owner, actor=ACTOR)
    with pytest.raises(ValidationError):
        change_role(owner, Role.ADMIN, actor=ACTOR)


def test_the_ownership_does_not_leave_the_workspace(acme, rival, owner):
    stranger = make_member(rival.workspace, "admin")
    with pytest.raises(ValidationError):
        transfer_ownership(acme.workspace, stranger, actor=ACTOR)
    assert list(list_members(acme.workspace).filter(role="owner")) == [owner]


def test_a_removed_member_s_keys_are_revoked_and_the_others_stay(acme):
    member = make_member(acme.workspace, "admin")
    chat, manage = key_of(member, "chat"), key_of(member, "keys:manage")
    assert remove_member(member, actor="user:ada") == 2
    assert not is_alive(chat)
    assert not is_alive(manage)
    assert is_alive(acme.key)
    event = AuditEvent.objects.get(action="member.removed")
    assert (event.actor, event.details["revoked_keys"]) == ("user:ada", 2)
    assert AuditEvent.objects.filter(action="api_key.revoked", actor="user:ada").count() == 2


@pytest.mark.parametrize(
    ("role", "revoked", "alive"),
    [("admin", 0, {"chat", "keys:manage"}), ("developer", 1, {"chat"}), ("billing", 2, set()), ("viewer", 2, set())],
)
def test_keys_that_the_new_role_could_not_have_made_are_revoked(acme, owner, role, revoked, alive):
    member = make_member(acme.workspace, "admin")
    keys = {scope: key_of(member, scope) for scope in ("chat", "keys:manage")}
    assert change_role(member, Role(role), actor=ACTOR) == revoked
    assert member.role == Membership.objects.get(pk=member.pk).role == role
    assert {scope for scope, key in keys.items() if is_alive(key)} == alive
