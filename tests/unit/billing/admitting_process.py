"""A process of its own that asks for holds, for tests with several. It imports no models before Django is set up."""

from __future__ import annotations

from multiprocessing.queues import Queue

import django


def admit_holds(database_name: str, subject: tuple[int, int, int], count: int, admitted: Queue[int]) -> None:
    """Asks for `count` holds of 1, 50 at a time, settles every tenth, and puts how many were admitted."""
    django.setup()
    from django.db import connection  # noqa: PLC0415 - see above

    connection.settings_dict["NAME"] = database_name

    from billing.ledger.writer import LedgerWriter  # noqa: PLC0415
    from tests.unit.billing.books import Subject, admit, settle_of, with_writer  # noqa: PLC0415

    who = Subject(*subject)

    async def scenario(writer: LedgerWriter) -> int:
        total = 0
        for first in range(0, count, 50):
            generations = await admit(writer, who, [1] * min(50, count - first))
            total += len(generations)
            for generation in generations[::10]:
                await writer.settle(settle_of(who, generation, 1))
        return total

    admitted.put(with_writer(scenario))
