"""`python -m tests.mutations [WORD ...]`: breaks the code that keeps the money, one line at a time, and looks for a red test.

Each mutation is made in a copy of the checkout and answered by the tests that stand beside it, up to the first that is red,
which is told and must be green without the mutation. One that survives means that a test is missing; the exit status is
then 1. With words, only the mutations that have one of them in their name.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT_S = 900.0
TESTS_FAILED = 1  # pytest's exit status; any other but 0 means that they did not run
EXCERPT_LINES = 15

DECIDER = ("tests/unit/billing/test_decider.py",)
LEDGER = ("tests/unit/billing/test_ledger.py", "tests/unit/billing/test_ledger_guards.py")
CONCURRENCY = ("tests/unit/billing/test_ledger_concurrency.py",)
WRITER = ("tests/unit/billing/test_writer.py", "tests/unit/billing/test_writer_outage.py")
LEASES = ("tests/unit/billing/test_leases.py", "tests/unit/billing/test_sweeping.py", "tests/unit/billing/test_renewals.py")
ADMISSION = ("tests/unit/chat/test_admission.py", "tests/unit/chat/test_cancellation.py")
CHARGES = ("tests/unit/chat/test_outcome.py", "tests/live/test_charges.py")
LOTS = ("tests/unit/billing/test_lots.py", "tests/unit/billing/test_expiry.py")
EXPIRY = ("tests/unit/billing/test_expiry.py",)
RENEWALS = ("tests/unit/billing/test_renewals.py",)
RECEIPTS = ("tests/unit/billing/test_receipts.py",)
RECONCILE = ("tests/unit/billing/test_reconcile.py",)
WINDOWS = ("tests/unit/billing/limits/test_window.py", "tests/unit/billing/limits/test_limiter.py")
REDEMPTION = ("tests/unit/billing/test_redemption.py",)
METER = ("tests/unit/chat/test_meter.py", "tests/live/test_credit.py")


class Mutation(NamedTuple):
    """`old` stands once in the file; a red one among `tests` kills what `new` makes of it."""

    name: str
    path: str
    old: str
    new: str
    tests: tuple[str, ...]
    engine: str = "sqlite"


def _of(path: str, tests: tuple[str, ...], *changes: tuple[str, str, str], engine: str = "sqlite") -> list[Mutation]:
    return [Mutation(name, path, old, new, tests, engine) for name, old, new in changes]


MUTATIONS = [
    *_of(
        "billing/ledger/decider.py",
        DECIDER,
        ("admit without a look at the balance", "if operation.amount_microcredits <= account.available:", "if True:"),
        (
            "admit against what is held already",
            "<= account.available:\n        return None",
            "<= account.posted:\n        return None",
        ),
        ("ignore what a budget holds", "budget.limit - budget.spent - budget.held", "budget.limit - budget.spent"),
        ("ignore what a budget has spent", "budget.limit - budget.spent - budget.held", "budget.limit - budget.held"),
        ("ignore the budget of the member", 'else self.budgets_by_scope.get(("member", owner_id), ())),', "else ()),"),
        ("begin no new period", "if start > budget.period_started_at:", "if False:"),
        ("keep a closed hold in the budget", "spent=paid, held=-hold.amount)", "spent=paid, held=0)"),
        ("skip the key", "if key is None or key.is_revoked or", "if key is None or"),
        ("skip the end of the key", "if key.is_expired:", "if False:"),
        ("skip the state of the workspace", "return None if key.is_workspace_active else", "return None if True else"),
        ("hold for a generation that is over", "if operation.generation in self.records or not", "if not"),
        ("hold twice under one sequence", "if sibling.sequence == operation.sequence:", "if False:"),
        ("settle twice", "if known is not None:", "if False:"),
        (
            "trust usage above the hold",
            "charged = min(operation.actual_microcredits, operation.most_microcredits, sum(hold.amount for hold in holds))",
            "charged = operation.actual_microcredits",
        ),
        (
            "charge a hold that has expired",
            "[hold for hold in taken if hold.is_open and hold.account_id",
            "[hold for hold in taken if hold.account_id",
        ),
        ("leave the overrun out of the receipt", "if charged != operation.actual_microcredits:", "if False:"),
    ),
    *_of(
        "billing/ledger/sqlite.py",
        LEDGER,
        ("SQLite: drop the WHERE of accounts", "WHERE billing_account.id = json_extract(j.value, '$.id')", "WHERE TRUE"),
        ("SQLite: drop the WHERE of budgets", "c.spent_change + c.held_change <= 0 OR limit", "TRUE OR limit"),
        ("SQLite: close what is closed", "v.column1 AND state = 'open'", "v.column1"),
        ("SQLite: accept what changed nothing", "if changed != len(changes):", "if False:"),
        ("SQLite: keep half of a batch", 'connection.execute("ROLLBACK")', 'connection.execute("COMMIT")'),
    ),
    *_of(
        "billing/ledger/sqlite.py",
        LEASES,
        ("SQLite: renew nothing", "SET lease_expires_at = ?", "SET lease_expires_at = coalesce(lease_expires_at, ?)"),
    ),
    *_of(
        "billing/ledger/postgresql.py",
        LEDGER,
        ("PostgreSQL: drop the WHERE of accounts", "WHERE a.id = c.id RETURNING 1", "WHERE TRUE RETURNING 1"),
        ("PostgreSQL: drop the WHERE of budgets", "(c.spent_change + c.held_change <= 0 OR b.limit", "(TRUE OR b.limit"),
        ("PostgreSQL: close what is closed", "h.id = c.id AND h.state = 'open'", "h.id = c.id"),
        ("PostgreSQL: accept what changed nothing", "THEN 1 ELSE 0 END\n", "THEN 1 ELSE 1 END\n"),
        engine="postgresql",
    ),
    *_of(
        "billing/ledger/postgresql.py",
        CONCURRENCY,
        ("PostgreSQL: read accounts without a lock", "  ORDER BY id FOR UPDATE\n), b AS", "  ORDER BY id\n), b AS"),
        ("PostgreSQL: read budgets without a lock", "  ORDER BY id FOR UPDATE\n)\nSELECT", "  ORDER BY id\n)\nSELECT"),
        engine="postgresql",
    ),
    *_of(
        "billing/ledger/postgresql.py",
        LEASES,
        (
            "PostgreSQL: renew nothing",
            "make_interval(secs => $2::text::double precision)",
            "make_interval(secs => 0 * $2::text::double precision)",
        ),
        engine="postgresql",
    ),
    *_of(
        "billing/ledger/writer.py",
        (*WRITER, *LEASES),
        ("skip renewals", "self._is_renewal_due = True", "self._is_renewal_due = False"),
        ("renew nobody's lease", "self._held.add(generation_of(asked.operation))", "pass"),
        (
            "give up a settlement when its lease is over",
            'log.error("settlement is late", generation=generation_of(asked.operation))',
            "return asked.fail(LedgerUnavailable())",
        ),
        ("let one failure fail its batch", "if len(batch) == 1:", "if True:"),
        ("write what is left of a large batch in pieces", "if not barren_turns or", "if True or"),
        ("miss that the writer is stopped", "if task is not None and task.cancelling():", "if False:"),
    ),
    *_of(
        "billing/ledger/lots.py",
        LOTS,
        (
            "spend first what never expires",
            "return lot.is_over(admitted_at), lot.expires_at or _EVER, lot.id",
            "return lot.is_over(admitted_at), lot.expires_at or _BEGINNING, lot.id",
        ),
        (
            "let credit expire that requests hold",
            "for lot in spend(lots, open_requests) if lot.left and lot.is_over(now)",
            "for lot in lots if lot.left and lot.is_over(now)",
        ),
        (
            "take credit above the ceiling that requests hold",
            "for lot in sorted(spend(lots, open_requests), key=",
            "for lot in sorted(lots, key=",
        ),
    ),
    *_of(
        "billing/ledger/lotbook.py",
        LOTS,
        (
            "leave in the lots what was spent",
            "spent = sum(lot.left for lot in written) - account.posted_microcredits",
            "spent = 0",
        ),
        (
            "forget when requests were admitted",
            "later = _spent_later(account, past) if past and spent > 0 else {}",
            "later: dict[datetime, int] = {}",
        ),
    ),
    *_of(
        "billing/expiry.py",
        EXPIRY,
        ("expire nothing that is due", "expires_at__lte=now)", "expires_at__gt=now)"),
    ),
    *_of(
        "billing/renewals.py",
        RENEWALS,
        (
            "let plan credits stay for a second month",
            "month_around(month.end, day).end if plan.has_rollover else month.end",
            "month_around(month.end, day).end",
        ),
        ("let all that is left roll over", "if plan.max_rollover_microcredits is not None:", "if False:"),
        ("give credits to who is suspended", " or workspace.state not in RENEWED:", ":"),
    ),
    *_of(
        "billing/receipts.py",
        RECEIPTS,
        ("sign what the books disagree about", "if len(sums) > 1:", "if False:"),
        (
            "show the receipts of others",
            "own = UsageRecord.objects.filter(workspace_id=workspace_id)",
            "own = UsageRecord.objects.all()",
        ),
    ),
    *_of(
        "billing/ledger/reconcile.py",
        RECONCILE,
        ("believe the balance", "AND a.posted_microcredits <> COALESCE(e.total, 0) AND {in_scope}", "AND 1 = 0 AND {in_scope}"),
        (
            "believe what a budget has spent",
            "WHERE b.spent_before_microcredits + b.spent_microcredits <> COALESCE(c.paid, 0) AND",
            "WHERE 1 = 0 AND",
        ),
    ),
    *_of(
        "billing/limits/window.py",
        WINDOWS,
        ("forget the minute before", "self.previous * self.left_s / WINDOW_S + self.current)", "self.current)"),
    ),
    *_of(
        "billing/limits/process.py",
        WINDOWS,
        ("give each process the whole limit", "else -(-limit // self._workers)", "else limit"),
    ),
    *_of(
        "billing/redemption.py",
        REDEMPTION,
        ("take a code more often than it is good for", 'pk=code.pk, uses__lt=F("max_uses")).update(', "pk=code.pk).update("),
        (
            "take a code that was withdrawn",
            "if batch.state != _State.ISSUED or code.withdrawn_at is not None:",
            "if batch.state != _State.ISSUED:",
        ),
    ),
    *_of(
        "billing/ceilings.py",
        ("tests/api/management/test_budgets.py",),
        ("let everybody take limits away", "elif column in after and (limit is None or limit > after[column]):", "elif False:"),
        ("let members lift what staff set", "for one in (own, ceiling) if one", "for one in (own,) if one"),
    ),
    *_of(
        "billing/ledger/transfers.py",
        ("tests/unit/billing/test_transfers.py",),
        ("refund more than the charge", "    if amount > left:", "    if False:"),
    ),
    *_of(
        "billing/sweeping.py",
        LEASES,
        ("skip the lease", "return _open().filter(lease_expires_at__lt=before)", "return _open()"),
        (
            "keep in the account what has expired",
            'update(held_microcredits=F("held_microcredits") - total)',
            'update(held_microcredits=F("held_microcredits"))',
        ),
        (
            "keep in the budgets what has expired",
            'update(held_microcredits=F("held_microcredits") - amount)',
            'update(held_microcredits=F("held_microcredits"))',
        ),
        ("believe any clock", "if past_count and left_s > 0 and not is_forced:", "if False:"),
    ),
    *_of(
        "billing/ledger/transfers.py",
        ("tests/unit/billing/test_transfers.py",),
        ("transfer twice", "if first is not None:", "if False:"),
        ("take away what is held", "if -amount > free:", "if False:"),
    ),
    *_of(
        "billing/ledger/triggers.py",
        ("tests/unit/billing/test_triggers.py",),
        ("let entries be changed", 'Trigger("entry_no_update", "billing_entry", "UPDATE", "an entry is never changed"),', ""),
        (
            "let closed holds be changed",
            '"a closed hold is never changed", "OLD.state <> \'open\'"',
            '"a closed hold is never changed", "1 = 0"',
        ),
    ),
    *_of(
        "billing/pricing.py",
        ("tests/unit/billing/test_pricing.py",),
        ("round down", "total = -(-numerator // TOKENS_PER_PRICE)", "total = numerator // TOKENS_PER_PRICE"),
        (
            "round per part",
            "numerator += tokens * price",
            "numerator += -(-tokens * price // TOKENS_PER_PRICE) * TOKENS_PER_PRICE",
        ),
        (
            "hold by the cheaper class",
            "return max(prices.output, prices.reasoning)",
            "return min(prices.output, prices.reasoning)",
        ),
    ),
    *_of(
        "chat/admission.py",
        ADMISSION,
        ("leave a cancelled hold open", "            await self._settle(left)\n", ""),
        (
            "settle good ends only",
            "            await self._settle(error)\n",
            "            if error is None:\n                await self._settle(error)\n",
        ),
    ),
    *_of(
        "chat/outcome.py",
        CHARGES,
        ("release instead of charge on a broken stream", "if not tally.has_content:", "if True:"),
        ("charge errors", "journal.served is None or outcome.status >= 400 or not", "journal.served is None or not"),
        (
            "believe a figure of zero",
            "elif tokens.prompt_tokens > 0 and (tokens.completion_tokens > 0 or sent_bytes == 0):",
            "else:",
        ),
        (
            "refund what nobody counted",
            "return Billed(Usage(bounds.prompt_tokens_estimate, completion),",
            "return Billed(Usage(),",
        ),
        ("believe a figure that is impossible", "if not _is_possible(tokens, served):", "if False:"),
    ),
    *_of(
        "chat/meter.py",
        METER,
        (
            "never cut a stream",
            "return self._covered_tokens >= self._step.output_tokens_bound or self._left(sent_bytes) >= 0",
            "return True",
        ),
        ("hold nothing while it flows", "if self._covered_tokens >= limit or self._ask", "if True or self._ask"),
    ),
    *_of(
        "chat/attempts.py",
        ("tests/live/test_credit.py",),
        ("hold nothing for a dearer fallback", "if missing > 0 and not await", "if False and not await"),
    ),
    *_of(
        "chat/health.py",
        ("tests/unit/chat/test_health.py",),
        (
            "pay a provider in trouble for any number of calls",
            "if is_extra and not self._has_room(provider, now_s):",
            "if False:",
        ),
    ),
    *_of(
        "infery_site/protocol.py",
        ("tests/unit/infery_site/test_stalling.py",),
        (
            "keep what is held for a client that does not read",
            "if self._unsent_bytes - self._count_unsent() >= enough_bytes:",
            "if True:",
        ),
    ),
    *_of(
        "infery_site/transport.py",
        ("tests/unit/infery_site/test_framing.py",),
        ("reset who is still sending", "not self._may_be_sending()", "True"),
    ),
    *_of(
        "infery_site/transport.py",
        ("tests/unit/infery_site/test_transport.py",),
        ("write an answer behind what follows it", "        if self._waiting:\n            self._send_waiting()\n", ""),
        ("close before the answer is written", "        self._send_waiting()\n        transport = ", "        transport = "),
    ),
    *_of(
        "infery_site/transport.py",
        ("tests/unit/infery_site/test_ending.py",),
        ("keep a connection that is gone for the collector", "        self._may_be_sending = self._on_close = bool\n", ""),
    ),
    *_of(
        "infery_site/protocol.py",
        ("tests/unit/infery_site/test_ending.py",),
        ("keep a body that nobody reads", "and cycle.response_complete and cycle.body:", "and False:"),
        (
            "let who lingers keep a server",
            "        if self.transport.is_closing():\n            self.transport.close()\n        elif",
            "        if",
        ),
    ),
    *_of(
        "infery_site/protocol.py",
        ("tests/unit/infery_site/test_stalling.py",),
        (
            "watch the reader of a rest no more",
            "        if self.transport.is_closing():\n            self._watch_what_is_unsent()\n",
            "",
        ),
    ),
    *_of(
        "billing/ledger/sqlite.py",
        ("tests/unit/billing/test_engines.py",),
        ("commit what was left open", "        if connection.in_transaction:", "        if False:"),
    ),
    *_of(
        "chat/upstream/connection.py",
        ("tests/unit/chat/upstream/test_keeping.py",),
        ("wait as long as the exchange before might", "elif self._timer.when() > self._due_s():", "elif False:"),
        (
            "end a request by the time of the one before",
            "        if self._loop.time() >= due_s:\n",
            "        if True:\n",
        ),
    ),
    *_of(
        "chat/quote.py",
        ("tests/unit/chat/test_quote.py",),
        ("hold for one choice of many", "    return limit * request.choice_count\n", "    return limit\n"),
    ),
    *_of(
        "billing/apikeys/ring.py",
        ("tests/unit/billing/test_apikeys.py",),
        ("renew no key in steady use", "if entry.stale_at - RENEWED_BEFORE_S <= now:", "if False:"),
        ("look a key in steady use up at each request", "entry.stale_at - RENEWED_BEFORE_S", "0"),
        ("serve a stale key", "if entry is None or entry.stale_at <= now:", "if entry is None:"),
        ("leave the fault of a renewal unheard", "look_up.add_done_callback(_heard)", "look_up.add_done_callback(id)"),
    ),
    *_of(
        "billing/migrations/0035_rules_without_a_table.py",
        ("tests/unit/billing/test_migrations.py",),
        ("keep the table that SQLite makes for each row", 'vendor != "sqlite"', 'vendor == "sqlite"'),
    ),
    *_of(
        "billing/apikeys/watch.py",
        ("tests/unit/billing/test_key_watch.py",),
        ("let the streams of a revoked key flow", "is_over = Q(revoked_at__isnull=False) | is_expired", "is_over = is_expired"),
    ),
    *_of(
        "chat/pipeline.py",
        ADMISSION,
        (
            "refuse an answer that is paid",
            "if answer is None or client.has_left or client.is_started:",
            "if True:",
        ),
    ),
    *_of(
        "chat/pipeline.py",
        ("tests/live/test_credit.py",),
        ("keep a part as the answer of a repeat", "client.shield(is_kept=is_whole)", "client.shield()"),
    ),
    *_of(
        "billing/payments/booking.py",
        ("tests/unit/billing/payments/test_taking_back.py",),
        ("take from later credit what was held", "if is_first:", "if True:"),
    ),
    *_of(
        "billing/idempotency.py",
        ("tests/unit/billing/test_idempotency.py",),
        ("run every repeat", "if row.lease_token == lease.token:", "if True:"),
    ),
]


class Copy:
    """A copy of the checkout in which a file may be broken for a while."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        for name in filter(None, listed.stdout.split("\0")):
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)

    def test(self, tests: Sequence[str], engine: str) -> tuple[int, str]:
        """The exit status of pytest, and its last lines."""
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--engine", engine, *tests]
        # A file that is changed twice within a second would be taken from its old bytecode.
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        result = subprocess.run(
            command,
            cwd=self._folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
        )
        said = [line for stream in (result.stdout, result.stderr) for line in stream.splitlines()[-EXCERPT_LINES:]]
        return result.returncode, "\n".join(said)

    def test_broken(self, mutation: Mutation) -> tuple[int, str]:
        path = self._folder / mutation.path
        sound = path.read_text(encoding="utf-8")
        path.write_text(sound.replace(mutation.old, mutation.new), encoding="utf-8")
        try:
            return self.test(mutation.tests, mutation.engine)
        finally:
            path.write_text(sound, encoding="utf-8")


def run(mutations: Sequence[Mutation]) -> bool:
    """Whether all of them were killed, by tests that pass without them."""
    is_good = True
    killers: dict[str, dict[str, None]] = {}
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
        copy = Copy(Path(folder))
        for mutation in mutations:
            started_s = time.monotonic()
            status, excerpt = copy.test_broken(mutation)
            result = {0: "SURVIVED", TESTS_FAILED: "killed"}.get(status, f"DID NOT RUN ({status})")
            killer = _red_one(excerpt)
            _say(f"{result:12} {time.monotonic() - started_s:5.0f} s  {mutation.name}  <-  {killer}")
            if status == TESTS_FAILED and killer:
                killers.setdefault(mutation.engine, {})[killer] = None
            else:
                is_good = False
                _say(excerpt)
        for engine, tests in killers.items():
            status, excerpt = copy.test(list(tests), engine)
            _say(f"Without a mutation, on {engine}: {excerpt.splitlines()[-1]}")
            if status:
                is_good = False
                _say(excerpt)
    return is_good


def _red_one(excerpt: str) -> str:
    """The test of pytest's summary that failed; nothing if none did."""
    for line in excerpt.splitlines():
        if line.startswith(("FAILED tests/", "ERROR tests/")):
            return line.split(" - ")[0].split(" ", 1)[1]
    return ""


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(words: Sequence[str]) -> int:
    chosen = [mutation for mutation in MUTATIONS if not words or any(word in mutation.name for word in words)]
    if not chosen:
        _say(f"No mutation has {' or '.join(words)} in its name. There are: {', '.join([one.name for one in MUTATIONS])}")
        return 2
    return 0 if run(chosen) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
