"""`python -m tests.live.brief_grant WORKSPACE CREDITS SECONDS`: credits that expire so soon that a request can outlive them.

The command takes a time too, but it would pass while the command starts.
"""

from __future__ import annotations

import sys
from datetime import timedelta

import django


def main(workspace: str, credits: str, seconds: str) -> None:
    django.setup()
    from django.utils import timezone  # noqa: PLC0415 - models, which can be imported only now

    from billing.models import Entry  # noqa: PLC0415
    from billing.pricing import microcredits  # noqa: PLC0415
    from billing.workspaces import get_workspace, transfer_credits  # noqa: PLC0415

    transfer_credits(
        get_workspace(workspace),
        microcredits(credits),
        kind=Entry.Kind.GRANT,
        idempotency_key=f"{credits} for {seconds} s",
        actor="tests",
        reason="a test",
        expires_at=timezone.now() + timedelta(seconds=float(seconds)),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
