"""`manage.py housekeeping [--once] [--force]`: the chores that every serving process does as well, in a process of their own."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from typing import Any

import msgspec
from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from billing.housekeeping import Housekeeper, Tidied, soundly, tidy
from billing.sweeping import Sweeper
from chat.chores import CHORES, new_watch


class Command(BaseCommand):
    requires_system_checks = []  # what is broken elsewhere is no reason to leave credit held
    help = (
        "Expires abandoned holds and credit past its time, renews plans, purges what is kept for a while only and proves the "
        "books daily, until SIGTERM or Ctrl-C."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--once",
            action="store_true",
            help="one pass, which first watches the clock if something is past its time; exits 1 if a chore failed",
        )
        parser.add_argument(
            "--force", action="store_true", help="one pass that expires what is past its time without a look at the clock"
        )

    def handle(self, *args: Any, once: bool, force: bool, **options: Any) -> None:
        if once or force:
            sweeper, watch = Sweeper(), new_watch()
            tidied = soundly(lambda: tidy(sweeper, CHORES, watch, is_forced=force))
            while tidied.is_waiting:
                time.sleep(settings.SWEEP_EVERY_S)
                tidied = _together(tidied, soundly(lambda: tidy(sweeper, CHORES, watch)))
            self.stdout.write(_report(tidied))
            if tidied.failed or (force and not tidied.is_elected):
                sys.exit(1)
            return
        asyncio.run(_keep_house())


async def _keep_house() -> None:
    leaving = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, leaving.set)
    housekeeper = Housekeeper(CHORES, new_watch())
    await housekeeper.start()
    await leaving.wait()
    await housekeeper.stop()


def _together(first: Tidied, last: Tidied) -> Tidied:
    """What two passes did as one."""
    return msgspec.structs.replace(
        last,
        expired_holds=first.expired_holds + last.expired_holds,
        renewals=first.renewals + last.renewals,
        expiries=first.expiries + last.expiries,
        purged_replies=first.purged_replies + last.purged_replies,
        purged_traces=first.purged_traces + last.purged_traces,
        purged=tuple((name, count + dict(first.purged).get(name, 0)) for name, count in last.purged),
        failed=tuple(dict.fromkeys((*first.failed, *last.failed))),
    )


def _report(tidied: Tidied) -> str:
    if tidied.failed:
        return f"Failed, see the log: {', '.join(tidied.failed)}."
    if not tidied.is_elected:
        return "Nothing was booked: another process is at it just now."
    purged = {
        "idempotent replies": tidied.purged_replies,
        "request traces": tidied.purged_traces,
        **dict(tidied.purged),
    }
    *firsts, last = (f"{count} {name}" for name, count in purged.items())
    return (
        f"{tidied.expired_holds} holds expired, {tidied.renewals} renewals and {tidied.expiries} expiries of credit booked, "
        f"{', '.join(firsts)} and {last} purged."
    )
