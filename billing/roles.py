"""The roles of staff: what each may see and do in the admin, and how many credits it may move.

One table says it. `sync` makes Django's groups equal to it: it runs after each `migrate`, can run any number of times, and
takes from a role what the table does not give. A superuser is no group but Django's own flag: he may do everything, and he
alone manages people. What a person was given by hand beside his roles stays his.

Must not: decide about a single act. The admin asks for permissions, `billing.crediting` for limits.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, Group, Permission, User
from django.db import transaction

from billing.pricing import MAX_MICROCREDITS, microcredits

Person = User | AbstractBaseUser | AnonymousUser


class Role(StrEnum):
    SUPPORT = "support"
    FINANCE = "finance"
    CATALOGUE = "catalogue"


_S, _F, _C = Role.SUPPORT, Role.FINANCE, Role.CATALOGUE

# Which roles have a permission; whatever is not here is the superuser's alone.
TABLE: Final[dict[str, frozenset[Role]]] = {
    permission: frozenset(roles)
    for permission, roles in {
        # Workspaces and who is in them
        "billing.view_workspace": (_S, _F, _C),
        "billing.add_workspace": (_S, _F),
        "billing.suspend_workspace": (_S, _F, _C),
        "billing.plan_workspace": (_F,),
        "billing.view_membership": (_S, _F),
        "billing.add_membership": (_S,),
        "billing.view_apikey": (_S, _F),
        "billing.add_apikey": (_S,),
        "billing.revoke_apikey": (_S, _F),
        "billing.view_quotapreset": (_S, _F),
        "billing.add_quotapreset": (_F,),
        "billing.change_quotapreset": (_F,),
        # What workspaces are told
        "billing.view_notice": (_S, _F),
        "billing.view_webhookendpoint": (_S,),
        "billing.disable_webhookendpoint": (_S,),
        "billing.view_webhookdelivery": (_S,),
        "billing.resend_webhookdelivery": (_S,),
        # Money and usage
        "billing.view_account": (_S, _F),
        "billing.view_hold": (_S, _F),
        "billing.view_entry": (_S, _F),
        "billing.view_creditlot": (_S, _F),
        "billing.view_budget": (_S, _F),
        "billing.view_usagerecord": (_S, _F, _C),
        "billing.view_auditevent": (_S, _F, _C),
        "billing.view_announcement": (_S, _F, _C),
        "billing.add_announcement": (_S, _C),
        "billing.change_announcement": (_S, _C),
        "billing.grant_credits": (_S, _F),
        "billing.refund_credits": (_S, _F),
        "billing.top_up_credits": (_F,),
        "billing.adjust_credits": (_F,),
        "billing.view_creditorder": (_S, _F),
        "billing.decide_creditorder": (_F,),
        "billing.view_payment": (_S, _F),
        "billing.view_codebatch": (_S, _F),
        "billing.view_redemptioncode": (_S, _F),
        "billing.reconcile_ledger": (_F,),
        # The catalogue
        "chat.view_provider": (_S, _F, _C),
        "chat.add_provider": (_C,),
        "chat.change_provider": (_C,),
        "chat.delete_provider": (_C,),
        "chat.view_catalogmodel": (_S, _F, _C),
        "chat.add_catalogmodel": (_C,),
        "chat.change_catalogmodel": (_C,),
        "chat.delete_catalogmodel": (_C,),
        "chat.view_target": (_S, _F, _C),
        "chat.add_target": (_C,),
        "chat.change_target": (_C,),
        "chat.delete_target": (_C,),
        "chat.view_price": (_S, _F, _C),
        "chat.add_price": (_C,),
        "chat.view_fallbackchain": (_S, _F, _C),
        "chat.add_fallbackchain": (_C,),
        "chat.change_fallbackchain": (_C,),
        "chat.delete_fallbackchain": (_C,),
        "chat.view_catalogdefault": (_S, _F, _C),
        "chat.add_catalogdefault": (_C,),
        "chat.change_catalogdefault": (_C,),
    }.items()
}


def permissions_of(role: Role) -> frozenset[str]:
    return frozenset(permission for permission, roles in TABLE.items() if role in roles)


def sync() -> None:
    """Make the group of each role, with exactly the permissions of the table."""
    with transaction.atomic():
        for role in Role:
            group, _ = Group.objects.get_or_create(name=role.value)
            group.permissions.set(_rows(permissions_of(role)))


def _rows(names: Iterable[str]) -> list[Permission]:
    """Raises LookupError for a permission that does not exist: a table with a slip must not pass."""
    wanted = set(names)
    found = {
        f"{row.content_type.app_label}.{row.codename}": row
        for row in Permission.objects.filter(
            content_type__app_label__in={name.split(".")[0] for name in wanted}
        ).select_related("content_type")
    }
    if missing := wanted - found.keys():
        raise LookupError(f"There is no permission {', '.join(sorted(missing))}.")
    return [found[name] for name in wanted]


def roles_of(person: Person) -> frozenset[Role]:
    """The roles of a person; none of one who is no staff."""
    if not isinstance(person, User) or not person.is_active or not person.is_staff:
        return frozenset()
    return frozenset(Role(name) for name in person.groups.filter(name__in=list(Role)).values_list("name", flat=True))


def limit_of(person: Person) -> int:
    """How many microcredits this person may move in one act. None at all without a role; a superuser has no limit."""
    if isinstance(person, User) and person.is_active and person.is_superuser:
        return MAX_MICROCREDITS
    limits = (settings.STAFF_LIMIT_CREDITS.get(role.value, 0) for role in roles_of(person))
    return max((microcredits(str(limit)) for limit in limits), default=0)
