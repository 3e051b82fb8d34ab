"""`python -m tests.live.prover`: proves the books for each line that it reads, and says in one line what is wrong with them.

What `manage.py reconcile_ledger` looks at, for tests that ask hundreds of times: Django is loaded once.
"""

from __future__ import annotations

import json
import sys

import django


def main() -> None:
    django.setup()
    from billing.ledger.reconcile import reconcile  # noqa: PLC0415 - models, which can be imported only now

    for _ in sys.stdin:
        sys.stdout.write(json.dumps([str(violation) for violation in reconcile()]) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
