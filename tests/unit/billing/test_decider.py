"""The decider alone, on books kept in memory."""

import itertools
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from billing.ledger.decider import period_start, touched
from billing.ledger.effects import AccountRow, BudgetRow, KeyRow
from billing.ledger.operations import Held, HoldRefused, Settled, TraceRecord
from billing.pricing import MAX_MICROCREDITS, Line
from tests.unit.billing.books import hold_of, note_of, record_of, settle_of
from tests.unit.billing.machine import LedgerMachine
from tests.unit.billing.memory import ACME, NOW, MemoryBooks, budget, hold, hold_row, settle

OWNER = 7

# Against a plain model


class MemoryMachine(LedgerMachine):
    """The decider on books in memory. Sweeps and settings, which are not the decider's, are done to the rows."""

    def open(self, posted):
        self.memory = MemoryBooks(posted)
        self.subjects = {key: ACME._replace(api_key_id=100 + number) for number, key in enumerate(("one", "two", "three"))}
        self.memory.keys = {
            subject.api_key_id: KeyRow(subject.api_key_id, 1, False, False, True, OWNER)  # noqa: FBT003
            for subject in self.subjects.values()
        }
        self.scopes = {key: ("key", subject.api_key_id) for key, subject in self.subjects.items()}
        self.scopes |= {"member": ("member", OWNER), "workspace": ("workspace", 1)}
        self.numbers = itertools.count(1)
        self.lifted = set()
        return self.subjects

    def run(self, batch):
        return self.memory.run(*batch)

    def move(self, amount):
        account = self.memory.accounts[10]
        if account.available + amount < 0:
            return False
        account.posted += amount
        return True

    def limit(self, name, amount):
        row = self.row_of(name)
        if row is not None and amount is not None:
            row.limit = amount
            self.lifted.discard(name)
        elif row is not None:
            row.limit = MAX_MICROCREDITS
            self.lifted.add(name)
        elif amount is not None:
            number, (scope, scope_id) = next(self.numbers), self.scopes[name]
            self.memory.budgets[number] = budget(amount, scope=scope, scope_id=scope_id, period="never", number=number)

    def revoke(self, key):
        self.memory.keys[self.subjects[key].api_key_id].is_revoked = True

    def suspend(self, *, is_suspended):
        for key in self.memory.keys.values():
            key.is_workspace_active = not is_suspended

    def expire(self, generations):
        ended = [row for row in self.memory.holds.values() if row.is_open and row.generation in generations]
        for row in ended:
            row.is_open = False
            self.memory.accounts[10].held -= row.amount
            for number in row.budget_ids:
                if number in self.memory.budgets:
                    self.memory.budgets[number].held -= row.amount
        return len(ended)

    def account(self):
        account = self.memory.accounts[10]
        return account.posted, account.held

    def budgets(self):
        rows = {name: self.row_of(name) for name in self.scopes if name not in self.lifted}
        return {name: (row.limit, row.spent, row.held) for name, row in rows.items() if row is not None}

    def row_of(self, name):
        return next((row for row in self.memory.budgets.values() if (row.scope, row.scope_id) == self.scopes[name]), None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("examples", "steps"),
    [
        pytest.param(120, 25, id="short"),
        pytest.param(5_000, 50, id="long", marks=[pytest.mark.long, pytest.mark.timeout(3600)]),
    ],
)
def test_the_decider_agrees_with_a_plain_model(examples, steps):
    run_state_machine_as_test(
        MemoryMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )


# Holds


def test_holds_are_admitted_in_order_until_the_credit_is_gone():
    books = MemoryBooks(10)
    results = books.run(*(hold(amount, f"chatcmpl-{number}") for number, amount in enumerate((4, 7, 6, 1))))
    assert results == [
        Held(4, 6),
        HoldRefused("credits", needed_microcredits=7, available_microcredits=6, held_microcredits=4),
        Held(6, 0),
        HoldRefused("credits", needed_microcredits=1, available_microcredits=0, held_microcredits=10),
    ]


def test_credit_that_a_settlement_frees_admits_a_hold_of_the_same_batch():
    books = MemoryBooks(10)
    books.run(hold(10))
    assert books.run(hold(8, "chatcmpl-b"), settle(2)) == [Held(8, 0), Settled(2, 0)]


def test_a_hold_asked_again_is_the_first_hold():
    books = MemoryBooks(10)
    assert books.run(hold(4), hold(9)) == [Held(4, 6), Held(4, 6)]
    assert books.run(hold(4)) == [Held(4, 6)]
    assert len(books.holds) == 1


def test_a_further_hold_takes_the_next_sequence():
    books = MemoryBooks(10)
    assert books.run(hold(4), hold(5, sequence=2)) == [Held(4, 6), Held(5, 1)]


def test_a_hold_of_nothing_leaves_no_row_but_is_checked():
    books = MemoryBooks(0, [budget(5, spent=5)])
    assert books.run(hold(0)) == [Held(0, 0)]
    assert books.effects.is_empty()
    books.keys[100].is_revoked = True
    assert books.run(hold(0)) == [HoldRefused("key")]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"is_revoked": True}, "key"),
        ({"is_expired": True}, "expired"),
        ({"is_workspace_active": False}, "workspace"),
        ({"workspace_id": 2}, "key"),
        ({"is_revoked": True, "is_expired": True}, "key"),
    ],
)
def test_the_key_and_its_workspace_are_checked(change, reason):
    books = MemoryBooks(10)
    for name, value in change.items():
        setattr(books.keys[100], name, value)
    assert books.run(hold(1)) == [HoldRefused(reason, needed_microcredits=1)]
    assert books.effects.is_empty()


def test_an_unknown_key_and_an_account_of_another_workspace_are_refused():
    books = MemoryBooks(10)
    books.accounts[20] = AccountRow(20, 2, 50, 0)
    stranger = hold_of(ACME._replace(api_key_id=101), 1, generation="chatcmpl-a")
    thief = hold_of(ACME._replace(account_id=20), 1, generation="chatcmpl-b")
    nowhere = hold_of(ACME._replace(account_id=30), 1, generation="chatcmpl-c")
    refused = HoldRefused("key", needed_microcredits=1)
    assert books.run(stranger, thief, nowhere) == [refused, refused, refused]


def test_a_closed_generation_takes_no_hold():
    books = MemoryBooks(10)
    books.run(hold(4))
    assert books.run(hold(1, sequence=2), settle(1)) == [HoldRefused("closed", needed_microcredits=1), Settled(1, 0)]
    assert books.run(hold(4)) == [HoldRefused("closed", needed_microcredits=4)]


def test_a_generation_whose_hold_expired_takes_no_hold():
    books = MemoryBooks(10)
    books.run(hold(4))
    books.holds[1].is_open = False
    assert books.run(hold(1, sequence=2)) == [HoldRefused("closed", needed_microcredits=1)]


def test_the_lease_is_counted_from_the_databases_clock():
    books = MemoryBooks(10)
    books.run(hold(1, lease_s=90), hold(1, "chatcmpl-b", lease_s=0.5))
    assert [new.lease_expires_at - NOW for new in books.effects.new_holds] == [timedelta(seconds=90), timedelta(seconds=0.5)]


# Settlements


def test_holds_pay_in_sequence_and_one_that_pays_nothing_is_void():
    books = MemoryBooks(100)
    books.run(hold(10, sequence=2), hold(20, sequence=1), hold(30, sequence=3))
    assert books.run(settle(25)) == [Settled(25, 0)]
    closed = [(h.id, h.state, h.settled_microcredits) for h in books.effects.closed_holds]
    assert closed == [(2, "settled", 20), (1, "settled", 5), (3, "voided", 0)]
    [entry] = books.effects.entries
    assert (entry.debit_account_id, entry.amount_microcredits, entry.hold_id) == (10, 25, 2)
    assert entry.idempotency_key == "usage:chatcmpl-a"
    assert books.accounts[10] == AccountRow(10, 1, 75, 0)


def test_a_charge_of_nothing_voids_without_an_entry():
    books = MemoryBooks(100)
    books.run(hold(10))
    assert books.run(settle(0, status=502)) == [Settled(0, 0)]
    assert [h.state for h in books.effects.closed_holds] == ["voided"]
    assert books.effects.entries == []
    assert books.accounts[10] == AccountRow(10, 1, 100, 0)


def test_what_exceeds_the_holds_is_our_loss_and_on_the_receipt():
    books = MemoryBooks(100)
    books.run(hold(10), hold(5, sequence=2))
    assert books.run(settle(22)) == [Settled(15, 7)]
    record = books.records["chatcmpl-a"]
    assert (record.charged_microcredits, record.overrun_microcredits) == (15, 7)
    assert msgspec.json.decode(record.lines, type=list[Line])[-1] == Line("overrun", 1, "request", -7, -7)
    assert [h.overrun_microcredits for h in books.effects.closed_holds] == [0, 7]


def test_a_settlement_without_holds_leaves_its_record():
    books = MemoryBooks(100)
    assert books.run(settle(0)) == [Settled(0, 0)]
    assert books.effects.accounts == []
    assert set(books.records) == set(books.traces) == {"chatcmpl-a"}


def test_the_first_settlement_stands():
    books = MemoryBooks(100)
    books.run(hold(10))
    assert books.run(settle(4), settle(9)) == [Settled(4, 0), Settled(4, 0)]
    assert books.run(settle(0)) == [Settled(4, 0)]
    assert books.effects.is_empty()
    assert books.accounts[10].posted == 96


def test_a_hold_that_comes_behind_its_settlement_is_released_when_it_is_settled_again():
    books = MemoryBooks(100)
    books.run(settle(0))
    books.holds[1] = hold_row(1, 10, "chatcmpl-a", 1, 30)
    books.accounts[10].held = 30
    assert books.run(settle(25)) == [Settled(0, 0)]
    assert books.accounts[10] == AccountRow(10, 1, 100, 0)
    assert not books.holds[1].is_open


def test_a_settlement_after_the_lease_is_free_and_says_so():
    books = MemoryBooks(100)
    books.run(hold(40))
    books.holds[1].is_open = False
    books.accounts[10].held = 0
    assert books.run(settle(25)) == [Settled(0, 25)]
    assert (books.records["chatcmpl-a"].end_state, books.entries) == ("expired", {})
    assert books.accounts[10] == AccountRow(10, 1, 100, 0)


def test_holds_of_another_account_are_left_alone():
    books = MemoryBooks(100)
    books.holds[1] = hold_row(1, 20, "chatcmpl-a", 1, 30)
    assert books.run(settle(25)) == [Settled(0, 25)]
    assert books.holds[1].is_open


def test_a_charge_stops_at_what_the_operation_allows_however_much_is_held():
    books = MemoryBooks(100)
    books.run(hold(10), hold(10, sequence=2))
    assert books.run(msgspec.structs.replace(settle(18), most_microcredits=12)) == [Settled(12, 6)]
    assert books.accounts[10] == AccountRow(10, 1, 88, 0)


def test_an_overrun_beyond_the_ledgers_range_can_still_be_kept():
    books = MemoryBooks(1)
    books.run(hold(1))
    assert books.run(settle(MAX_MICROCREDITS)) == [Settled(1, MAX_MICROCREDITS - 1)]


def test_text_from_outside_fits_its_columns():
    books = MemoryBooks(0)
    hostile = record_of(
        ACME, "chatcmpl-a", model_asked="m\x00\ud800" * 200, end_user="\n" * 129, finish_reason="x" * 100, request_id="\n" * 200
    )
    operation = settle(0)
    trace = TraceRecord("chatcmpl-a", '["\\u0000"]', "[]", "{}")
    books.run(msgspec.structs.replace(operation, record=hostile, trace=trace))
    record = books.records["chatcmpl-a"]
    assert (record.model_asked, record.finish_reason, record.request_id) == (("m??" * 200)[:256], "x" * 24, "?" * 128)
    assert record.end_user == "?" * 128
    assert books.traces["chatcmpl-a"].attempts == '["\\ufffd"]'


# Notes


def test_a_note_is_kept_unless_its_generation_has_a_record():
    books = MemoryBooks(0)
    assert books.run(note_of(ACME, "chatcmpl-a"), note_of(ACME, "chatcmpl-a", status=400)) == [None, None]
    assert books.records["chatcmpl-a"].status == 404
    books.run(note_of(ACME, "chatcmpl-a"))
    assert books.effects.is_empty()


# Budgets


def test_every_budget_above_the_key_must_cover_the_hold():
    above = [
        budget(100),
        budget(50, number=2, period="day"),
        budget(40, scope="workspace", scope_id=1, number=3),
        budget(0, number=4, scope_id=101),
    ]
    books = MemoryBooks(1000, above)
    [refused] = books.run(hold(41))
    assert refused == HoldRefused(
        "budget",
        needed_microcredits=41,
        available_microcredits=40,
        limit_microcredits=40,
        scope="workspace",
    )
    assert books.run(hold(40)) == [Held(40, 960)]
    assert [row.held for row in books.budgets.values()] == [40, 40, 40, 0]
    books.run(settle(15))
    assert [(row.spent, row.held) for row in books.budgets.values()] == [(15, 0), (15, 0), (15, 0), (0, 0)]


def test_the_budget_of_a_family_is_one_for_all_its_keys():
    """Of the first key, which need not be there any more."""
    books = MemoryBooks(1000, [budget(10), budget(0, scope_id=101, number=2)])
    books.keys[101] = msgspec.structs.replace(books.keys[100], id=101, family_id=100)
    rolled = ACME._replace(api_key_id=101)
    results = books.run(hold(6), hold_of(rolled, 5, generation="chatcmpl-b"), hold_of(rolled, 4, generation="chatcmpl-c"))
    assert [type(result) for result in results] == [Held, HoldRefused, Held]
    books.run(settle(6), settle_of(rolled, "chatcmpl-c", 3))
    assert [(row.spent, row.held) for row in books.budgets.values()] == [(9, 0), (0, 0)]


def test_the_budget_of_a_member_is_one_for_all_his_keys():
    """Both keys of the batch name it, and it counts once."""
    books = MemoryBooks(1000, [budget(10, scope="member", scope_id=7), budget(0, scope="member", scope_id=8, number=2)])
    books.keys = {number: KeyRow(number, 1, False, False, True, owner) for number, owner in ((100, 7), (101, 7), (102, None))}  # noqa: FBT003
    other, nobodys = (ACME._replace(api_key_id=number) for number in (101, 102))
    results = books.run(hold(6), hold_of(other, 5, generation="chatcmpl-b"), hold_of(nobodys, 50, generation="chatcmpl-c"))
    assert results[0] == Held(6, 994)
    assert (results[1].reason, results[1].scope, results[1].available_microcredits) == ("budget", "member", 4)
    assert results[2] == Held(50, 944)
    assert books.run(hold_of(other, 4, generation="chatcmpl-b")) == [Held(4, 940)]
    books.run(settle(5), settle_of(other, "chatcmpl-b", 4))
    assert [(row.spent, row.held) for row in books.budgets.values()] == [(9, 0), (0, 0)]


def test_a_new_period_empties_what_was_spent_and_keeps_what_is_held():
    books = MemoryBooks(1000, [budget(10, period="day")])
    books.run(hold(4), hold(6, "chatcmpl-b"))
    books.run(settle(4))
    assert books.run(hold(1, "chatcmpl-c"))[0].reason == "budget"
    books.now = NOW + timedelta(days=1)
    assert books.run(hold(5, "chatcmpl-d"))[0].available_microcredits == 4
    assert books.run(hold(4, "chatcmpl-d")) == [Held(4, 986)]
    assert books.run(settle(6, "chatcmpl-b")) == [Settled(6, 0)]
    assert books.budgets[1] == BudgetRow(1, "key", 100, "day", 10, 6, 4, datetime(2026, 3, 19, tzinfo=UTC))


def test_a_settlement_can_begin_the_period():
    books = MemoryBooks(1000, [budget(10, period="week", spent=5)])
    books.run(hold(4))
    books.now = NOW + timedelta(days=7)
    books.run(settle(3))
    assert (books.budgets[1].spent, books.budgets[1].held) == (3, 0)


def test_a_clock_that_goes_back_begins_no_period():
    books = MemoryBooks(1000, [budget(10, period="day", spent=5)])
    books.now = NOW - timedelta(days=3)
    assert books.run(hold(6))[0].available_microcredits == 5


def test_a_budget_deleted_while_it_held_is_passed_over():
    books = MemoryBooks(1000, [budget(10)])
    books.run(hold(4))
    del books.budgets[1]
    assert books.run(settle(4)) == [Settled(4, 0)]


def test_a_limit_lowered_below_what_is_spent_refuses_and_still_settles():
    books = MemoryBooks(1000, [budget(10)])
    books.run(hold(8))
    books.budgets[1].limit = 2
    assert books.run(hold(0, "chatcmpl-b"))[0].available_microcredits == -6
    assert books.run(settle(8)) == [Settled(8, 0)]


@pytest.mark.parametrize(
    ("period", "start"),
    [
        ("day", datetime(2026, 3, 18, tzinfo=UTC)),
        ("week", datetime(2026, 3, 16, tzinfo=UTC)),
        ("month", datetime(2026, 3, 1, tzinfo=UTC)),
        ("never", datetime(1970, 1, 1, tzinfo=UTC)),
    ],
)
def test_periods_begin_at_midnight_in_utc(period, start):
    assert period_start(period, NOW) == start


@given(st.sampled_from(["day", "week", "month"]), st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)))  # noqa: DTZ001
def test_a_period_holds_its_moment_and_begins_once(period, naive):
    moment = naive.replace(tzinfo=UTC)
    start = period_start(period, moment)
    assert start <= moment < start + timedelta(days=31)
    assert period_start(period, start) == start
    assert period_start(period, start - timedelta(microseconds=1)) < start


def test_touched_names_each_row_once_in_the_order_of_locks():
    operations = [hold(1), hold(2, "chatcmpl-b"), settle(1, "chatcmpl-0"), note_of(ACME, "chatcmpl-n")]
    subjects = touched(operations)
    assert subjects.accounts == [10]
    assert subjects.keys == [100]
    assert subjects.scopes == [("key", 100), ("member", 100), ("workspace", 1)]
    assert subjects.generations == ["chatcmpl-0", "chatcmpl-a", "chatcmpl-b", "chatcmpl-n"]
