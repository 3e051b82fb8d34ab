"""Books the expiry of credit that is past it: a chore of housekeeping.

Until it is booked, expired credit can still be spent. So passes come as often as sweeps do (`SWEEP_EVERY_S`, 15 s), and
what was spent by then of other credit is not counted as spent of the expired one. What running requests hold is left to
them, for as long as they run; the passes after that book the rest.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

import structlog
from django.db import IntegrityError
from django.db.models import QuerySet

from billing.ledger import transfers
from billing.models import CreditLot

log = structlog.get_logger(__name__)

ACTOR: Final = "housekeeping"
# More waits for the next pass, so that the sweep comes round in time.
MOST_ACCOUNTS: Final = 500


def is_due(now: datetime) -> bool:
    return _past(now).exists()


def expire_credits(now: datetime) -> int:
    """Book what has expired by `now`, of a bounded number of workspaces. Gives the number of entries.

    Those of which nothing can be booked yet, as running requests hold it, do not count: they keep no other from its turn.
    """
    booked = accounts = 0
    for account_id in list(dict.fromkeys(_past(now).order_by("expires_at").values_list("account_id", flat=True))):
        try:
            entries = len(transfers.expire(account_id, now, actor=ACTOR))
        except IntegrityError:
            # Nor does one account that is not in order.
            log.exception("credit could not be expired", account=account_id)
            continue
        booked += entries
        accounts += entries > 0
        if accounts == MOST_ACCOUNTS:
            break
    if booked:
        log.info("credit expired", count=booked)
    return booked


def _past(now: datetime) -> QuerySet[CreditLot]:
    return CreditLot.objects.filter(left_microcredits__gt=0, expires_at__lte=now)
