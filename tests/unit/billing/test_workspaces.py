"""Workspaces: made with their account, found by id or name, credited and suspended with an audit."""

import pytest
from django.core.exceptions import ValidationError

from billing.ledger.transfers import CreditInUse, TransferConflict, TransferError
from billing.models import Account, AuditEvent, Entry, Workspace
from billing.workspaces import WorkspaceNotFound, activate, create_workspace, get_workspace, suspend, transfer_credits

pytestmark = pytest.mark.django_db

CREDIT = 1_000_000


def give(workspace, credits, key="first", kind=Entry.Kind.TOP_UP):
    return transfer_credits(workspace, credits * CREDIT, kind=kind, idempotency_key=key, actor="staff:ada", reason="because")


def balance(workspace):
    return Account.objects.get(workspace=workspace).posted_microcredits


def test_a_workspace_has_an_empty_account_from_the_first_moment():
    workspace = create_workspace("  acme  ", actor="staff:ada")
    assert (workspace.name, workspace.state) == ("acme", Workspace.State.ACTIVE)
    assert workspace.public_id.startswith("ws_")
    assert (workspace.account.posted_microcredits, workspace.account.held_microcredits) == (0, 0)
    assert AuditEvent.objects.get().action == "workspace.created"


@pytest.mark.parametrize("name", ["", " ", "x" * 121, "a\tb", "a\x00b", "\u202eevil"])
def test_a_name_that_cannot_be_makes_nothing(name):
    with pytest.raises(ValidationError):
        create_workspace(name, actor="test")
    assert not Workspace.objects.exists()


def test_a_workspace_is_found_by_its_id_and_by_its_name_if_only_one_has_it():
    acme, twin, other_twin = (create_workspace(name, actor="test") for name in ("acme", "twin", "twin"))
    assert get_workspace(acme.public_id) == acme
    assert get_workspace("acme") == acme
    with pytest.raises(WorkspaceNotFound, match="No workspace"):
        get_workspace("nobody")
    with pytest.raises(WorkspaceNotFound) as refusal:
        get_workspace("twin")
    assert twin.public_id in str(refusal.value)
    assert other_twin.public_id in str(refusal.value)


def test_an_id_wins_over_a_name_that_looks_like_it():
    acme = create_workspace("acme", actor="test")
    create_workspace(acme.public_id, actor="test")
    assert get_workspace(acme.public_id) == acme


def test_suspending_and_activating_is_audited_once():
    workspace = create_workspace("acme", actor="test")
    assert suspend(workspace, actor="staff:ada", reason="unpaid")
    assert not suspend(workspace, actor="staff:ada", reason="unpaid")
    assert Workspace.objects.get().state == workspace.state == Workspace.State.SUSPENDED
    assert activate(workspace, actor="staff:ada")
    assert list(AuditEvent.objects.order_by("pk").values_list("action", "reason"))[1:] == [
        ("workspace.suspended", "unpaid"),
        ("workspace.activated", ""),
    ]


def test_credits_move_once_for_each_idempotency_key_and_are_audited_once():
    workspace = create_workspace("acme", actor="test")
    entry = give(workspace, 5)
    assert give(workspace, 5) == entry
    assert balance(workspace) == 5 * CREDIT
    event = AuditEvent.objects.get(action="credits.top_up")
    assert (event.actor, event.reason, event.workspace) == ("staff:ada", "because", workspace)
    assert event.details == {"amount_microcredits": 5 * CREDIT, "entry": entry.pk}


def test_one_key_cannot_name_two_transfers():
    workspace = create_workspace("acme", actor="test")
    give(workspace, 5)
    with pytest.raises(TransferConflict):
        give(workspace, 6)
    assert balance(workspace) == 5 * CREDIT


@pytest.mark.parametrize("kind", [Entry.Kind.TOP_UP, Entry.Kind.GRANT, Entry.Kind.ADJUSTMENT])
def test_every_kind_of_transfer_reaches_the_ledger(kind):
    workspace = create_workspace("acme", actor="test")
    assert give(workspace, 5, kind=kind).kind == kind
    assert balance(workspace) == 5 * CREDIT


def test_an_adjustment_may_take_back_what_is_free():
    workspace = create_workspace("acme", actor="test")
    give(workspace, 5)
    give(workspace, -2, key="second", kind=Entry.Kind.ADJUSTMENT)
    assert balance(workspace) == 3 * CREDIT
    with pytest.raises(CreditInUse):
        give(workspace, -4, key="third", kind=Entry.Kind.ADJUSTMENT)


@pytest.mark.parametrize("credits", [0, -1, 9_000_000_001])
def test_an_amount_that_cannot_be_moved_leaves_no_trace(credits):
    workspace = create_workspace("acme", actor="test")
    with pytest.raises(TransferError):
        give(workspace, credits)
    assert not Entry.objects.exists()
    assert not AuditEvent.objects.filter(action="credits.top_up").exists()
