"""What is told when: each threshold once, the worst of several, again after a day and only if it was left meanwhile."""

from datetime import UTC, date, datetime, timedelta

import pytest

from billing.alerts.judging import AnswersFact, BudgetFact, Facts, LotFact, ModelFact, QuotaFact, Terms, Told, judge

CREDIT = 1_000_000
NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
TERMS = Terms((10 * CREDIT, 100 * CREDIT), (80, 100), (50, 75, 90, 100), 7, (80, 100), 20)


def budget(spent, *, scope="workspace", limit=100):
    return BudgetFact(5, scope, "Ada", "budget_1", "month", limit * CREDIT, spent * CREDIT, owner_id=3)


class Days:
    """Looks at figures again and again, remembering what was told."""

    def __init__(self, terms=TERMS):
        self.terms, self.memory, self.now = terms, {}, NOON

    def see(self, after_h=0.0, *, balance=1000, **facts):
        """The titles of what is told, so many hours later."""
        self.now += timedelta(hours=after_h)
        drafts, self.memory = judge(Facts("Acme", balance * CREDIT, **facts), self.terms, self.memory, self.now)
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
    full, answers = (QuotaFact("files", 10, 10),), AnswersFact(100, 100)
    assert days.see(balance=0, budgets=(budget(100),), lots=(lot,), quotas=full, answers=answers) == []


# Quotas


def files(used, limit=1000):
    return {"quotas": (QuotaFact("files", used, limit),)}


def test_a_quota_is_told_once_at_each_share_and_again_after_files_went():
    days = Days()
    at = "The number of files of Acme is at {} % of its quota"
    assert [days.see(1, **files(used)) for used in (0, 799, 800, 900, 1000, 1000)] == [
        *([], [], [at.format(80)], []),
        *([at.format(100)], []),
    ]
    assert [days.see(1, **files(used)) for used in (790, 805)] == [[], []], "not within a day"
    assert days.see(24, **files(805)) == [at.format(80)]
    assert days.see(48, **files(805)) == []


def test_a_full_quota_is_told_with_what_becomes_of_uploads():
    quotas = (QuotaFact("files", 1000, 1000), QuotaFact("storage", 8_500_000_000, 10_000_000_000), QuotaFact("files", 5, 0))
    full, near = judge(Facts("Acme", 0, quotas=quotas), TERMS, {}, NOON)[0]
    assert full.text == (
        "Acme keeps 1,000 of at most 1,000 files. Uploads get 413 file_count_quota_exceeded until files are deleted or expire."
    )
    assert near.text == "Acme keeps 8,500,000,000 of at most 10,000,000,000 bytes."
    assert (near.kind, near.title) == ("quota.reached", "The storage of Acme is at 80 % of its quota")
    assert near.data == {"quota": "storage", "percent": 80, "used": 8_500_000_000, "limit": 10_000_000_000}


def test_a_lower_plan_that_is_crossed_by_what_is_kept_is_told():
    days = Days()
    assert [len(days.see(**files(500, limit))) for limit in (1000, 400)] == [0, 1]


# Fallbacks


def answers(requests, fallbacks):
    return {"answers": AnswersFact(requests, fallbacks)}


@pytest.mark.parametrize(
    ("requests", "fallbacks", "is_told"),
    [(19, 19, False), (20, 4, True), (20, 3, False), (1000, 199, False), (1000, 200, True), (0, 0, False)],
)
def test_a_share_of_fallbacks_needs_enough_answers(requests, fallbacks, is_told):
    assert bool(Days().see(**answers(requests, fallbacks))) is is_told


def test_fallbacks_are_told_once_a_day_and_after_they_fell_below_half():
    days = Days()
    assert days.see(**answers(100, 34)) == ["34 % of the answers of Acme came from fallbacks"]
    assert [days.see(1, **answers(100, share)) for share in (50, 15, 10, 30)] == [[]] * 4
    assert days.see(30, **answers(100, 30)) == [], "it never was below half"
    assert [days.see(1, **answers(100, share)) for share in (9, 30)] == [
        [],
        ["30 % of the answers of Acme came from fallbacks"],
    ]
    assert [days.see(1, **answers(100, share)) for share in (0, 30)] == [[], []], "told within a day"
    assert len(days.see(23, **answers(100, 30))) == 1


def test_an_hour_without_fallbacks_is_below_every_threshold():
    days = Days()
    days.see(**answers(20, 20))
    assert [len(days.see(12, **answers(*counts))) for counts in ((3, 0), (0, 0), (20, 20))] == [0, 0, 1]


def test_another_threshold_does_not_tell_the_same_again_within_a_day():
    days = Days()
    assert len(days.see(**answers(100, 30))) == 1
    days.terms = Terms((), (), (), 0, (), 25)
    assert days.see(1, **answers(100, 30)) == []


def test_fallbacks_are_told_with_their_figures():
    [draft], _ = judge(Facts("Acme", 0, answers=AnswersFact(1200, 410)), TERMS, {}, NOON)
    assert (draft.kind, draft.place) == ("fallback.rate", "log?state=fallback")
    assert "Of 1,200 requests that Acme had answered within an hour, 410 were served by another model" in draft.text
    assert draft.data == {"percent": 34, "threshold_percent": 20, "requests": 1200, "fallbacks": 410, "minutes": 60}


# Models


def model(day, slug="old"):
    return {"models": (ModelFact(slug, day),)}


def test_a_deprecation_is_told_a_month_and_a_week_before_and_on_the_day():
    days, day = Days(), NOON.date() + timedelta(days=31)
    told = {number: titles for number in range(40) if (titles := days.see(24 * bool(number), **model(day)))}
    ahead = "The model old is deprecated from 29 Dec 2026 on"
    assert told == {1: [ahead], 24: [ahead], 31: ["The model old is deprecated since 29 Dec 2026"]}


@pytest.mark.parametrize(("left", "words"), [(31, ""), (30, "in 30 days"), (5, "in 5 days"), (1, "in 1 day."), (0, "since")])
def test_a_date_that_is_set_late_is_told_once(left, words):
    days, day = Days(), NOON.date() + timedelta(days=left)
    drafts, _ = judge(Facts("Acme", 0, **model(day)), TERMS, {}, NOON)
    assert [draft.data for draft in drafts] == (
        [{"model": "old", "deprecated_on": f"{day}", "days_left": left}] if words else []
    )
    assert all(words in draft.text for draft in drafts)
    assert [len(days.see(1, **model(day))) for _ in range(3)] == [bool(words), 0, 0]


def test_a_date_that_is_past_is_told_once():
    days = Days()
    assert [len(days.see(24, **model(date(2026, 5, 1)))) for _ in range(4)] == [1, 0, 0, 0]


def test_another_date_is_told_anew():
    days, soon = Days(), NOON.date() + timedelta(days=3)
    assert [len(days.see(1, **model(soon))) for _ in range(2)] == [1, 0]
    assert [len(days.see(1, **model(soon + timedelta(days=1)))) for _ in range(2)] == [1, 0]
    assert [len(days.see(1, **facts)) for facts in ({}, model(soon))] == [0, 1], "taken back, and set again"


def test_each_model_is_told_for_itself():
    both = (ModelFact("a:1", NOON.date()), ModelFact("b/2", NOON.date()))
    assert len(Days().see(models=both)) == 2


# What cannot be read


def test_what_could_not_be_read_is_remembered():
    days = Days()
    facts = files(1000) | model(NOON.date())
    assert len(days.see(**facts)) == 2
    memory = days.memory
    assert days.see(48, quotas=None, models=None) == []
    assert days.memory == memory
    assert days.see(**facts) == []
