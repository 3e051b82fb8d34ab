"""`manage.py statement WORKSPACE [--since T] [--until T] [--json]`: what moved a balance, entry by entry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec
from django.core.management.base import BaseCommand, CommandError, CommandParser, OutputWrapper

from billing.models import Workspace
from billing.moments import MomentError, moment, moment_text
from billing.pricing import credits_text
from billing.reports.statements import StatementLine, get_balance_before, iter_statement
from billing.workspaces import WorkspaceNotFound, get_workspace

_encode = msgspec.json.Encoder(decimal_format="number").encode


class Command(BaseCommand):
    help = "Lists the ledger entries of a workspace in order, with its running balance in credits."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("workspace", metavar="WORKSPACE", help="public id, or a name that only one workspace has")
        parser.add_argument("--since", metavar="T", help="a date, or a time, in UTC (default: the beginning)")
        parser.add_argument("--until", metavar="T", help="a date, which is included, or a time, which is not (default: now)")
        parser.add_argument("--json", action="store_true", help="one JSON object instead of text")

    def handle(self, *, workspace: str, since: str | None, until: str | None, json: bool, **options: Any) -> None:
        try:
            row = get_workspace(workspace)
            start = None if since is None else moment(since)
            end = None if until is None else moment(until, is_end=True)
        except WorkspaceNotFound as error:
            raise CommandError(str(error)) from error
        except MomentError as error:
            raise CommandError(f"--since and --until: {error}.") from error
        if start is not None and end is not None and start > end:
            raise CommandError("--since must not be after --until.")
        balance = 0 if start is None else get_balance_before(row.account, start)
        totals: Counter[str] = Counter()
        form = _Json(self.stdout) if json else _Text(self.stdout)
        form.begin(row, balance)
        for line in iter_statement(row.account, since=start, until=end, opening_microcredits=balance):
            balance = line.balance_microcredits
            totals[line.kind] += line.amount_microcredits
            form.entry(line)
        form.end(balance, totals)


class _Text:
    """A table for people."""

    def __init__(self, output: OutputWrapper) -> None:
        self._output = output

    def begin(self, workspace: Workspace, balance_microcredits: int) -> None:
        self._output.write(f"{workspace.name} ({workspace.public_id}), in credits")
        self._row("", "opening", "", balance_microcredits)

    def entry(self, line: StatementLine) -> None:
        note = line.generation or " ".join(line.reason.split())
        if line.expires_at is not None:
            note += f" (until {moment_text(line.expires_at)})"
        amount = credits_text(line.amount_microcredits)
        self._row(moment_text(line.created_at), line.kind, amount, line.balance_microcredits, note)

    def end(self, balance_microcredits: int, totals: Mapping[str, int]) -> None:
        self._row("", "closing", "", balance_microcredits)
        for kind, amount_microcredits in sorted(totals.items()):
            self._output.write(f"total of {kind}: {credits_text(amount_microcredits)}")

    def _row(self, at: str, kind: str, amount: str, balance_microcredits: int, note: str = "") -> None:
        balance = credits_text(balance_microcredits)
        self._output.write(f"{at:<27}  {kind:<10}  {amount:>18}  {balance:>18}  {note}".rstrip())


class _Json:
    """One object, written entry by entry, so that a statement of any length needs no memory."""

    def __init__(self, output: OutputWrapper) -> None:
        self._output = output
        self._separator = ""

    def begin(self, workspace: Workspace, balance_microcredits: int) -> None:
        head = {"workspace_id": workspace.public_id, "opening_balance": _credits(balance_microcredits)}
        self._output.write(f'{_encode(head).decode()[:-1]},"entries":[', ending="")

    def entry(self, line: StatementLine) -> None:
        entry = {
            "created_at": moment_text(line.created_at),
            "kind": line.kind,
            "amount": _credits(line.amount_microcredits),
            "balance": _credits(line.balance_microcredits),
            "generation": line.generation or None,
            "actor": line.actor,
            "reason": line.reason or None,
            "expires_at": None if line.expires_at is None else moment_text(line.expires_at),
        }
        self._output.write(f"{self._separator}\n{_encode(entry).decode()}", ending="")
        self._separator = ","

    def end(self, balance_microcredits: int, totals: Mapping[str, int]) -> None:
        tail = {
            "closing_balance": _credits(balance_microcredits),
            "totals": {kind: _credits(amount) for kind, amount in sorted(totals.items())},
        }
        self._output.write(f"],\n{_encode(tail).decode()[1:]}")


def _credits(amount_microcredits: int) -> Decimal:
    return Decimal(credits_text(amount_microcredits))
