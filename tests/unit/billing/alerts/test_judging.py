"""What is told when: each threshold once, the worst of several, again after a day and only if it was left meanwhile."""

from datetime import UTC, datetime, timedelta

import pytest

from billing.alerts.judging import BudgetFact, Facts, LotFact, Terms, Told, judge

CREDIT = 1_000_000
NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
TERMS = Terms((10 * CREDIT, 100 * CREDIT), (80, 100), (50, 75, 90, 100), 7)


def budget(spent, *, scope="workspace", limit=100):
    return BudgetFact(5, scope, "Ada", "budget_1", "month", limit * CREDIT, spent * CREDIT, owner_id=3)


class Days:
    """Looks at figures again and again, remembering what was told."""

    def __init__(self, terms=TERMS):
        self.terms, self.memory, self.now = terms, {}, NOON

    def see(self, after_h=0.0, *, balance=1000, budgets=(), lots=()):
        """The titles of what is told, so many hours later."""
        self.now += timedelta(hours=after_h)
        drafts, self.memory = judge(Facts("Acme", balance * CREDIT, budgets, lots), self.terms, self.memory, self.now)
        return [draft.title for draft in drafts]


LOW_100, LOW_10 = "Acme has less than 100 credits", "Acme has less than 10 credits"


def test_each_threshold_of_the_balance_is_told_once_on_the_way_down():
    days = Days()
    told = [days.see(balance=balance) for balance in (1000, 100, 99, 98, 10, 9, 0, 0)]
    assert told == [[], [], [LOW_100], [], [], [LOW_10], [], []]
    assert days.see(48, balance=0) == []


def test_of_thresholds_passed_at_once_the_worst_is_told_for_all():
    days = Days()
    assert [days.see(balance=1000), days.see(balance=3), days.see(balance=2)] == [[], [LOW_10], []]


def test_it_is_told_again_after_the_balance_recovered_and_a_day_passed():
    days = Days()
    days.see(balance=1000)
    assert days.see(balance=50) == [LOW_100]
    assert days.see(1, balance=500) == []
    assert days.see(1, balance=50) == []
    assert days.see(21.9, balance=50) == []
    assert days.see(0.1, balance=50) == [LOW_100]
    assert days.see(30, balance=50) == []


def test_a_balance_that_was_low_from_the_first_look_is_nothing_new():
    days = Days()
    assert [days.see(balance=0), days.see(48, balance=0)] == [[], []]
    assert [days.see(balance=200), days.see(balance=5)] == [[], [LOW_10]]


def test_budgets_are_told_at_their_shares_and_anew_in_the_next_period():
    days = Days()
    told = [days.see(1, budgets=(budget(spent),)) for spent in (0, 49, 50, 60, 80, 100, 100)]
    words = [[title.split(" is ")[1] for title in titles] for titles in told]
    assert words == [[], [], ["at 50 % of its limit"], [], ["at 75 % of its limit"], ["at 100 % of its limit"], []]
    assert days.see(24, budgets=(budget(0),)) == []
    assert len(days.see(24, budgets=(budget(95),))) == 1


def test_keys_have_shares_of_their_own_and_a_limit_of_nothing_is_not_told():
    days = Days()
    drafts, _ = judge(Facts("Acme", 0, (budget(80, scope="key"),)), TERMS, {}, NOON)
    assert [(draft.kind, draft.owner_id, draft.data["percent"]) for draft in drafts] == [("key.limit", 3, 80)]
    assert days.see(budgets=(budget(0, scope="key", limit=0),)) == []


def test_credit_is_told_once_before_it_expires():
    days = Days()
    lot = LotFact(9, "Grant", 12 * CREDIT, NOON + timedelta(days=8))
    assert days.see(lots=(lot,)) == []
    assert days.see(25, lots=(lot,)) == ["12 credits of Acme expire on 6 Dec 2026, 12:00 UTC"]
    assert days.see(48, lots=(lot,)) == []
    spent = LotFact(10, "Grant", 0, NOON + timedelta(days=5))
    assert days.see(lots=(spent,)) == []


def test_what_is_gone_is_forgotten_and_what_is_quiet_is_not_written_down():
    days = Days(Terms((), (80,), (50,), 7))
    days.see(budgets=(budget(10),))
    assert days.memory == {}
    days.see(budgets=(budget(60),))
    assert days.memory == {"budget.reached:5:50": Told(is_armed=False, at=NOON)}
    days.see()
    assert days.memory == {}


@pytest.mark.parametrize("terms", [Terms((), (), (), 0)])
def test_nothing_is_told_of_what_nobody_asked_for(terms):
    days = Days(terms)
    lot = LotFact(9, "Grant", CREDIT, NOON + timedelta(hours=1))
    assert days.see(balance=0, budgets=(budget(100),), lots=(lot,)) == []
