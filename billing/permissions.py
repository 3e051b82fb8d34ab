"""Who may do what: one table of actions, with what each role and each scope of a key may do of it.

A person acts by the role of his membership; a program acts by the scopes of a management key. `Grant.OWN` is for keys of
one's own and what they used, and for one's own membership. Whatever is not in the table is refused.

Must not: look anything up. Whether an object is one's own is for the caller to say.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum

import msgspec

from billing.models import Membership

SCOPES = frozenset({"chat", "files:read", "files:write", "usage:read", "keys:manage", "workspace:manage"})
MANAGEMENT_SCOPES = frozenset({"keys:manage", "workspace:manage"})
INFERENCE_SCOPES = SCOPES - MANAGEMENT_SCOPES


class Grant(IntEnum):
    NONE = 0
    OWN = 1
    ALL = 2


class Action(StrEnum):
    READ_WORKSPACE = "workspace.read"
    RENAME_WORKSPACE = "workspace.rename"
    TRANSFER_WORKSPACE = "workspace.transfer"
    STOP_SPENDING = "workspace.stop"
    SET_RETENTION = "workspace.retention"
    CLOSE_WORKSPACE = "workspace.close"
    READ_AUDIT = "audit.read"
    SET_CHAINS = "chains.set"
    READ_KEYS = "keys.read"
    CREATE_KEYS = "keys.create"
    UPDATE_KEYS = "keys.update"
    REVOKE_KEYS = "keys.revoke"
    ROLL_KEYS = "keys.roll"
    ASSIGN_PRESETS = "presets.assign"
    READ_PRESETS = "presets.read"
    MANAGE_PRESETS = "presets.manage"
    READ_BUDGETS = "budgets.read"
    SET_BUDGETS = "budgets.set"
    READ_MEMBERS = "members.read"
    ADD_MEMBERS = "members.add"
    CHANGE_MEMBERS = "members.change"
    REMOVE_MEMBERS = "members.remove"
    READ_CREDITS = "credits.read"
    TOP_UP_CREDITS = "credits.top_up"
    READ_ALERTS = "alerts.read"
    SET_ALERTS = "alerts.set"
    MANAGE_WEBHOOKS = "webhooks.manage"
    READ_USAGE = "usage.read"
    READ_FILES = "files.read"
    WRITE_FILES = "files.write"
    USE_PLAYGROUND = "playground.use"


class Row(msgspec.Struct, frozen=True):
    """What the roles may do of one action, and the scopes of which a management key needs one; without any, no key may."""

    owner: Grant
    admin: Grant
    developer: Grant
    billing: Grant
    viewer: Grant
    scopes: frozenset[str] = frozenset()


_ALL, _OWN, _NONE = Grant.ALL, Grant.OWN, Grant.NONE
_KEYS = frozenset({"keys:manage"})
_WORKSPACE = frozenset({"workspace:manage"})

# Columns: owner, admin, developer, billing, viewer; then the scopes.
TABLE: dict[Action, Row] = {
    Action.READ_WORKSPACE: Row(_ALL, _ALL, _ALL, _ALL, _ALL, MANAGEMENT_SCOPES),
    Action.RENAME_WORKSPACE: Row(_ALL, _ALL, _NONE, _NONE, _NONE, _WORKSPACE),
    Action.TRANSFER_WORKSPACE: Row(_ALL, _NONE, _NONE, _NONE, _NONE),
    Action.READ_KEYS: Row(_ALL, _ALL, _OWN, _NONE, _ALL, _KEYS),
    Action.CREATE_KEYS: Row(_ALL, _ALL, _OWN, _NONE, _NONE, _KEYS),
    Action.UPDATE_KEYS: Row(_ALL, _ALL, _OWN, _NONE, _NONE, _KEYS),
    Action.REVOKE_KEYS: Row(_ALL, _ALL, _OWN, _NONE, _NONE, _KEYS),
    Action.ROLL_KEYS: Row(_ALL, _ALL, _OWN, _NONE, _NONE, _KEYS),
    Action.ASSIGN_PRESETS: Row(_ALL, _ALL, _NONE, _NONE, _NONE, _WORKSPACE),
    Action.READ_PRESETS: Row(_ALL, _ALL, _ALL, _ALL, _ALL, MANAGEMENT_SCOPES),
    Action.MANAGE_PRESETS: Row(_ALL, _ALL, _NONE, _NONE, _NONE, _WORKSPACE),
    Action.READ_BUDGETS: Row(_ALL, _ALL, _OWN, _ALL, _ALL, _WORKSPACE),
    Action.SET_BUDGETS: Row(_ALL, _ALL, _OWN, _ALL, _NONE, _WORKSPACE),
    Action.READ_MEMBERS: Row(_ALL, _ALL, _ALL, _ALL, _ALL, _WORKSPACE),
    Action.ADD_MEMBERS: Row(_ALL, _ALL, _NONE, _NONE, _NONE, _WORKSPACE),
    Action.CHANGE_MEMBERS: Row(_ALL, _ALL, _NONE, _NONE, _NONE, _WORKSPACE),
    Action.REMOVE_MEMBERS: Row(_ALL, _ALL, _OWN, _OWN, _OWN, _WORKSPACE),
    # Below are pages of the console; programs have the scopes of inference keys for the same.
    Action.STOP_SPENDING: Row(_ALL, _ALL, _NONE, _ALL, _NONE),
    Action.SET_RETENTION: Row(_ALL, _ALL, _NONE, _NONE, _NONE),
    Action.CLOSE_WORKSPACE: Row(_ALL, _NONE, _NONE, _NONE, _NONE),
    Action.READ_AUDIT: Row(_ALL, _ALL, _NONE, _NONE, _NONE),
    Action.SET_CHAINS: Row(_ALL, _ALL, _NONE, _NONE, _NONE),
    Action.READ_CREDITS: Row(_ALL, _ALL, _NONE, _ALL, _ALL),
    Action.TOP_UP_CREDITS: Row(_ALL, _NONE, _NONE, _ALL, _NONE),
    Action.READ_ALERTS: Row(_ALL, _ALL, _NONE, _ALL, _ALL),
    Action.SET_ALERTS: Row(_ALL, _ALL, _NONE, _ALL, _NONE),
    Action.MANAGE_WEBHOOKS: Row(_ALL, _ALL, _NONE, _NONE, _NONE),
    Action.READ_USAGE: Row(_ALL, _ALL, _OWN, _ALL, _ALL),
    Action.READ_FILES: Row(_ALL, _ALL, _ALL, _NONE, _ALL),
    Action.WRITE_FILES: Row(_ALL, _ALL, _ALL, _NONE, _NONE),
    Action.USE_PLAYGROUND: Row(_ALL, _ALL, _ALL, _NONE, _NONE),
}


def grant_of_role(action: Action, role: str) -> Grant:
    grant: Grant = getattr(TABLE[action], Membership.Role(role).value)
    return grant


def roles_that_may(action: Action) -> list[Membership.Role]:
    return [role for role in Membership.Role if grant_of_role(action, role) is not Grant.NONE]


def grant_of_scopes(action: Action, scopes: frozenset[str]) -> Grant:
    """A management key speaks for its workspace, so what it may do it may do with everything in it."""
    return Grant.NONE if TABLE[action].scopes.isdisjoint(scopes) else Grant.ALL


def may_give(giver: str, role: str) -> bool:
    """Whether who has, or gives in place of, the role `giver` may make others `role`: nobody gives what he may not do himself."""
    return all(grant_of_role(action, role) <= grant_of_role(action, giver) for action in Action)


def scopes_of_role(role: str) -> frozenset[str]:
    """What a key that this role makes, or has, may do: at most what the role may."""
    match grant_of_role(Action.CREATE_KEYS, role):
        case Grant.ALL:
            return SCOPES
        case Grant.OWN:
            return INFERENCE_SCOPES
        case Grant.NONE:
            return frozenset()


def scopes_of_key(scopes: frozenset[str]) -> frozenset[str]:
    """What a key that a key of these scopes makes may do.

    To make keys that chat is what `keys:manage` is for, although no key may do both; what it cannot give is a power to
    manage that it lacks itself.
    """
    if grant_of_scopes(Action.CREATE_KEYS, scopes) is Grant.NONE:
        return frozenset()
    return INFERENCE_SCOPES | (MANAGEMENT_SCOPES & scopes)
