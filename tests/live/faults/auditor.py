"""`python -m tests.live.faults.auditor`: does what a line of JSON asks, again and again, where each start would take a second.

`["reconcile"]` proves the ledger, `["mint", terms]` makes a key of acme, `["revoke", key]` ends one, `["run", statements]` runs SQL.
Each answer is a line with a string; that of `reconcile` names the violations.
"""

from __future__ import annotations

import sys
from typing import Any

import django
import msgspec

ACTOR = "tests"


def main() -> None:
    django.setup()
    from django.db import connections  # noqa: PLC0415 - which can be had only now

    for line in sys.stdin:
        answer = _answer(*msgspec.json.decode(line))
        connections.close_all()  # the database may be stopped before the next line
        sys.stdout.write(f"{msgspec.json.encode(answer).decode()}\n")
        sys.stdout.flush()


def _answer(word: str, argument: Any = None) -> str:
    from django.db import connection  # noqa: PLC0415

    from billing import apikeys  # noqa: PLC0415
    from billing.ledger.reconcile import reconcile  # noqa: PLC0415
    from billing.models import ApiKey  # noqa: PLC0415
    from billing.workspaces import get_workspace  # noqa: PLC0415

    match word:
        case "reconcile":
            return "; ".join(map(str, reconcile()))
        case "mint":
            return apikeys.mint(get_workspace("acme"), ACTOR, actor=ACTOR, terms=apikeys.KeyTerms(**argument))[1]
        case "revoke":
            digest = apikeys.parse_authorization([f"Bearer {argument}".encode()])
            apikeys.revoke(ApiKey.objects.get(digest=digest), actor=ACTOR)
        case "run":
            with connection.cursor() as cursor:
                for statement in argument:
                    cursor.execute(statement)
    return ""


if __name__ == "__main__":
    main()
