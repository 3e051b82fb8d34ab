"""The three workspaces of the suite, with fixed meanings: acme is funded, broke has nothing, rival must see nothing."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib.auth.models import User

from billing import apikeys, members
from billing.ledger import transfers
from billing.models import ApiKey, Membership, Payment, Workspace
from billing.pricing import MICROCREDITS_PER_CREDIT
from billing.workspaces import create_workspace

ACTOR = "tests"


@dataclass(frozen=True)
class World:
    """A workspace, a key of it that may do everything, and that key as its owner holds it."""

    workspace: Workspace
    key: ApiKey
    key_text: str

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key_text}"}


def make_world(name: str, *, credits: int) -> World:
    """A new workspace with so many credits."""
    workspace = create_workspace(name, actor=ACTOR)
    if credits:
        amount_microcredits = credits * MICROCREDITS_PER_CREDIT
        transfers.top_up(workspace, amount_microcredits, idempotency_key=f"top-up of {name}", actor=ACTOR, reason="a test")
    key, key_text = apikeys.mint(workspace, "test", actor=ACTOR)
    return World(workspace, key, key_text)


def make_member(workspace: Workspace, role: str, *, username: str = "") -> Membership:
    """A new person with this role, named after it and the workspace unless told otherwise."""
    user = User.objects.create_user(username or f"{role}-of-{workspace.name.lower()}")
    return members.add_member(workspace, user, Membership.Role(role), actor=ACTOR)


def make_payment(workspace: Workspace) -> Payment:
    """A payment of 1,000 credits that somebody begins."""
    amount_microcredits = 1000 * MICROCREDITS_PER_CREDIT
    return Payment.objects.create(
        workspace=workspace,
        origin=Payment.Origin.CHECKOUT,
        amount_microcredits=amount_microcredits,
        price_units=1000,
        currency="usd",
        created_by=ACTOR,
    )
