"""What a workspace wants to be told and who of its people: defaults, what may be chosen, and whom a notice goes to.

Whoever is told of something is one whose role may see it on a page: the table of permissions is the bound of every choice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from django.core.exceptions import ValidationError
from django.db import transaction

from billing import audit
from billing.alerts.judging import Terms
from billing.models import AlertTerms, Membership, Notice, Workspace
from billing.permissions import Action, Grant, grant_of_role
from billing.pricing import MAX_MICROCREDITS, MICROCREDITS_PER_CREDIT

Kind = Notice.Kind
Role = Membership.Role

MOST_THRESHOLDS: Final = 8
MOST_DAYS: Final = 60
DEFAULTS: Final = Terms(
    low_balances=(100 * MICROCREDITS_PER_CREDIT, 10 * MICROCREDITS_PER_CREDIT),
    key_percents=(80, 100),
    budget_percents=(50, 75, 90, 100),
    expiry_days=7,
    quota_percents=(80, 100),
    fallback_percent=20,
)


class Told(NamedTuple):
    """The page's action that shows as much as the notice tells, and who is mailed unless the workspace says otherwise.

    Of what has no owner nothing is anybody's own: whoever may see his own alone is not told of it.
    """

    action: Action
    roles: tuple[Role, ...]
    has_owner: bool = False


KINDS: Final[dict[Kind, Told]] = {
    Kind.CREDITS_LOW: Told(Action.READ_CREDITS, (Role.OWNER, Role.ADMIN, Role.BILLING)),
    Kind.CREDITS_EXPIRING: Told(Action.READ_CREDITS, (Role.OWNER, Role.BILLING)),
    Kind.CREDITS_ADDED: Told(Action.READ_CREDITS, ()),
    Kind.PAYMENT_FAILED: Told(Action.READ_CREDITS, (Role.OWNER, Role.BILLING)),
    Kind.BUDGET_REACHED: Told(Action.READ_BUDGETS, (Role.OWNER, Role.ADMIN, Role.DEVELOPER, Role.BILLING), has_owner=True),
    Kind.KEY_LIMIT: Told(Action.READ_KEYS, (Role.OWNER, Role.ADMIN, Role.DEVELOPER), has_owner=True),
    Kind.QUOTA_REACHED: Told(Action.READ_FILES, (Role.OWNER, Role.ADMIN, Role.DEVELOPER)),
    Kind.FALLBACK_RATE: Told(Action.READ_USAGE, (Role.OWNER, Role.ADMIN)),
    Kind.MODEL_DEPRECATED: Told(Action.READ_WORKSPACE, (Role.OWNER, Role.ADMIN, Role.DEVELOPER)),
    Kind.KEY_CREATED: Told(Action.READ_KEYS, (), has_owner=True),
    Kind.KEY_REVOKED: Told(Action.READ_KEYS, (), has_owner=True),
    Kind.WEBHOOK_DISABLED: Told(Action.MANAGE_WEBHOOKS, (Role.OWNER, Role.ADMIN)),
}

Recipients = dict[Kind, frozenset[Role]]


def may_be_told(kind: Kind, role: Role) -> Grant:
    """All such notices, only those of one's own keys and budgets, or none."""
    grant = grant_of_role(KINDS[kind].action, role)
    return Grant.NONE if grant is Grant.OWN and not KINDS[kind].has_owner else grant


def terms_of(row: AlertTerms | None) -> Terms:
    if row is None:
        return DEFAULTS
    return Terms(
        tuple(row.low_balances),
        tuple(row.key_percents),
        tuple(row.budget_percents),
        row.expiry_days,
        # A row that is older than these was not asked for them.
        DEFAULTS.quota_percents if row.quota_percents is None else tuple(row.quota_percents),
        DEFAULTS.fallback_percent if row.fallback_percent is None else row.fallback_percent,
    )


def recipients_of(row: AlertTerms | None) -> Recipients:
    """Who is mailed, by kind. What the row does not name, such as a kind that is newer than it, goes to whom it goes by default."""
    chosen: Mapping[str, list[str]] = {} if row is None else row.recipients
    return {
        kind: frozenset(Role(role) for role in chosen[kind]) if kind in chosen else frozenset(told.roles)
        for kind, told in KINDS.items()
    }


def set_terms(workspace: Workspace, terms: Terms, recipients: Recipients, *, actor: str) -> None:
    """Raises ValidationError, by the name of the field."""
    values = {
        "low_balances": _thresholds("low_balances", terms.low_balances, MAX_MICROCREDITS),
        "key_percents": _thresholds("key_percents", terms.key_percents, 100),
        "budget_percents": _thresholds("budget_percents", terms.budget_percents, 100),
        "quota_percents": _thresholds("quota_percents", terms.quota_percents, 100),
        "expiry_days": terms.expiry_days,
        "fallback_percent": terms.fallback_percent,
        "recipients": {kind.value: sorted(role.value for role in recipients[kind]) for kind in KINDS},
    }
    if not 0 <= terms.expiry_days <= MOST_DAYS:
        raise ValidationError({"expiry_days": f"0 to {MOST_DAYS} days."})
    if not 0 <= terms.fallback_percent <= 100:
        raise ValidationError({"fallback_percent": "0 to 100 percent."})
    for kind, roles in recipients.items():
        if any(may_be_told(kind, role) is Grant.NONE for role in roles):
            raise ValidationError({"recipients": f"A role was chosen that may not see: {kind.label}."})
    with transaction.atomic():
        AlertTerms.objects.update_or_create(workspace=workspace, defaults=values)
        audit.record("alerts.set", actor=actor, workspace=workspace, target=workspace.public_id, details=values)


def list_recipients(notice: Notice, members: Iterable[Membership], recipients: Recipients) -> list[Membership]:
    """Who of the members is mailed."""
    kind = Kind(notice.kind)
    chosen = []
    for member in members:
        role = Role(member.role)
        grant = may_be_told(kind, role)
        is_his = grant is Grant.ALL or (grant is Grant.OWN and notice.owner_id == member.pk)
        if role in recipients[kind] and is_his:
            chosen.append(member)
    return chosen


def _thresholds(name: str, values: tuple[int, ...], most: int) -> list[int]:
    if len(values) > MOST_THRESHOLDS:
        raise ValidationError({name: f"At most {MOST_THRESHOLDS} of them."})
    if any(not 0 < value <= most for value in values):
        raise ValidationError({name: "Each is more than 0, and no percentage is more than 100."})
    return sorted(set(values))
