"""The lots of one account as rows: read with all that was spent so far, and written.

`billing.ledger.lots` decides; this module brings it the figures. Requests write no lot: what they cost since the lots were
written is what the lots had left then, less the balance of now. Whoever writes has locked the account's row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from django.db.models import F, Q, QuerySet, Sum

from billing.ledger.lots import Lot, Spending, by_admission, spend
from billing.models import Account, CreditLot, Entry, Hold


class LotBook:
    """The live lots of an account that is locked; `lots` is what they have left now."""

    def __init__(self, account: Account, now: datetime) -> None:
        written = [Lot(*row) for row in live(account.pk).values_list("pk", "left_microcredits", "expires_at")]
        self._written = {lot.id: lot.left for lot in written}
        self.lots = brought_up_to_date(written, account, now)

    def write(self, lots: Iterable[Lot]) -> None:
        """Keep what is left. The account's `lots_as_of_entry` is for the caller, in the same transaction."""
        changed = [
            CreditLot(entry_id=lot.id, left_microcredits=lot.left) for lot in lots if lot.left != self._written.get(lot.id)
        ]
        CreditLot.objects.bulk_update(changed, ["left_microcredits"])


def live(account_id: int) -> QuerySet[CreditLot]:
    """The lots of an account that had something left when they were written."""
    return CreditLot.objects.filter(account_id=account_id, left_microcredits__gt=0).order_by("pk")


def brought_up_to_date(written: Sequence[Lot], account: Account, now: datetime) -> list[Lot]:
    """The lots after what was spent since they were written. Asks the database only where one is past its expiry."""
    spent = sum(lot.left for lot in written) - account.posted_microcredits
    past = {lot.expires_at for lot in written if lot.expires_at is not None and lot.is_over(now)}
    later = _spent_later(account, past) if past and spent > 0 else {}
    return spend(written, by_admission(max(0, spent), later))


def open_requests(account_id: int) -> list[Spending]:
    """What the running requests of an account hold, each as admitted with its first hold."""
    requests: dict[str, Spending] = {}
    holds = Hold.objects.filter(account_id=account_id, state=Hold.State.OPEN).order_by("created_at")
    for generation, amount, created_at in holds.values_list("generation", "amount_microcredits", "created_at"):
        first = requests.get(generation, Spending(0, created_at))
        requests[generation] = Spending(first.amount + amount, first.admitted_at)
    return list(requests.values())


def _spent_later(account: Account, moments: Iterable[datetime]) -> dict[datetime, int]:
    """What requests cost, since the lots were written, that were admitted at each of these moments or after it."""
    moments = sorted(moments)
    # No request is settled before it is admitted: the second condition is for the index.
    charges = Entry.objects.filter(
        debit_account=account, created_at__gte=moments[0], kind=Entry.Kind.USAGE, pk__gt=account.lots_as_of_entry
    )
    sums = {
        f"later_{number}": Sum(F("amount_microcredits"), filter=Q(hold__created_at__gte=moment), default=0)
        for number, moment in enumerate(moments)
    }
    return dict(zip(moments, charges.aggregate(**sums).values(), strict=True))
