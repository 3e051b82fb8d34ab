"""`python -m tests.live.faults.auditor`: reconciles the ledger once for each line it is sent; a start takes a second.

The line `mint` makes a key with limits that are counted and never reached.
"""

from __future__ import annotations

import sys

import django
import msgspec


def main() -> None:
    django.setup()
    from django.db import connections  # noqa: PLC0415 - which can be had only now

    from billing import apikeys  # noqa: PLC0415
    from billing.ledger.reconcile import reconcile  # noqa: PLC0415
    from billing.workspaces import get_workspace  # noqa: PLC0415

    for line in sys.stdin:
        if line.strip() == "mint":
            terms = apikeys.KeyTerms(max_requests_per_minute=1_000_000, max_concurrent_requests=1_000)
            answer = apikeys.mint(get_workspace("acme"), "counted", actor="tests", terms=terms)[1]
        else:
            answer = "; ".join(map(str, reconcile()))
        connections.close_all()  # the database may be stopped before the next line
        sys.stdout.write(f"{msgspec.json.encode(answer).decode()}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
