"""What may be read about money and usage: right to the microcredit, one query each, and only of one's own workspace."""

from datetime import UTC, datetime, timedelta

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import connection, connections

from billing.apikeys import Overlap, mint, roll
from billing.errors import LedgerUnavailable
from billing.models import Account, ApiKey, Membership
from billing.moments import Span, moment
from billing.reports.credits import Allowance, get_allowance, get_balance, get_key_spend, read_allowance
from billing.reports.usage import (
    Totals,
    UnknownMark,
    added_up,
    get_totals,
    list_groups,
    list_requests,
    recent,
)
from tests.records import NOON, add_record, add_refusal
from tests.unit.billing.books import new_budget
from tests.worlds import make_world

pytestmark = pytest.mark.django_db

MARCH = Span(moment("2026-03-01"), moment("2026-03-31", is_end=True))
HUGE = 8 * 10**15


@pytest.fixture(autouse=True)
def _known_features(db):
    """Django asks SQLite once per connection whether it knows JSON; here, so that no test counts that query."""
    assert connection.features.supports_json_field


@pytest.fixture
def used(acme, rival):
    """Three requests that cost, one that failed, one of another month and one of another workspace."""
    add_record(acme, charged_microcredits=5, cached_tokens=2, reasoning_tokens=3, cache_write_tokens=1, audio_tokens=4)
    add_record(acme, charged_microcredits=HUGE, created_at=NOON + timedelta(days=1))
    add_record(acme, charged_microcredits=7, model_used="gpt-5", created_at=NOON + timedelta(days=1, hours=11, minutes=59))
    add_refusal(acme, model_asked="made up")
    add_record(acme, charged_microcredits=11, created_at=datetime(2026, 4, 1, tzinfo=UTC))
    add_record(rival, charged_microcredits=13)
    return acme


class TestUsage:
    def test_is_added_up_exactly(self, used):
        assert get_totals(used.workspace.pk, MARCH) == Totals(
            requests=4,
            failed_requests=1,
            prompt_tokens=30,
            completion_tokens=12,
            cached_tokens=2,
            cache_write_tokens=1,
            audio_tokens=4,
            reasoning_tokens=3,
            charged_microcredits=HUGE + 12,
        )

    def test_of_nothing_is_zero(self, acme):
        assert get_totals(acme.workspace.pk, MARCH) == Totals()
        assert added_up(list_groups(acme.workspace.pk, MARCH, "day")) == Totals()

    @pytest.mark.parametrize("grouping", ["model", "key", "member", "user", "day"])
    def test_of_all_groups_is_that_of_the_whole(self, used, grouping, django_assert_max_num_queries):
        with django_assert_max_num_queries(2):
            groups = list_groups(used.workspace.pk, MARCH, grouping)
        assert added_up(groups) == get_totals(used.workspace.pk, MARCH)

    def test_by_model_has_no_text_of_the_caller(self, used):
        groups = list_groups(used.workspace.pk, MARCH, "model")
        assert [(group.labels["model"], group.totals.charged_microcredits) for group in groups] == [
            ("gpt-4o", HUGE + 5),
            ("gpt-5", 7),
            ("", 0),
        ]

    def test_by_day_is_in_utc_and_in_order(self, used):
        groups = list_groups(used.workspace.pk, MARCH, "day")
        assert [(str(group.labels["day"]), group.totals.requests) for group in groups] == [("2026-03-10", 2), ("2026-03-11", 2)]

    def test_by_key_names_it(self, used):
        other, _ = mint(used.workspace, "second", actor="tests")
        add_record(used, api_key=other, charged_microcredits=1)
        assert [group.labels for group in list_groups(used.workspace.pk, MARCH, "key")] == [
            {"key_id": used.key.public_id, "key_name": "test"},
            {"key_id": other.public_id, "key_name": "second"},
        ]

    def test_by_member_is_by_whose_key_it_was(self, used):
        member = Membership.objects.create(workspace=used.workspace, user=User.objects.create_user("ada"), role="developer")
        other, _ = mint(used.workspace, "second", actor="tests")
        ApiKey.objects.filter(pk=other.pk).update(owner=member)
        add_record(used, api_key=other, charged_microcredits=1)
        groups = {group.labels["member_id"]: group for group in list_groups(used.workspace.pk, MARCH, "member")}
        assert groups.keys() == {None, member.public_id}
        assert groups[member.public_id].labels["member_name"] == "ada"
        assert groups[member.public_id].totals.charged_microcredits == 1

    def test_by_user_is_by_whom_the_request_named(self, used, rival):
        for name, amount in (("ada", 1), ("ada", 2), ("bob", 2 * HUGE // 16)):
            add_record(used, end_user=name, charged_microcredits=amount)
        add_record(rival, end_user="ada")
        groups = list_groups(used.workspace.pk, MARCH, "user")
        assert [(group.labels["user"], group.totals.requests, group.totals.charged_microcredits) for group in groups] == [
            ("", 4, HUGE + 12),
            ("bob", 1, HUGE // 8),
            ("ada", 2, 3),
        ]

    def test_a_span_has_its_start_and_not_its_end(self, acme):
        add_record(acme)
        second = timedelta(seconds=1)
        assert get_totals(acme.workspace.pk, Span(NOON, NOON + second)).requests == 1
        assert get_totals(acme.workspace.pk, Span(NOON - second, NOON)).requests == 0

    def test_recent_is_today_and_29_days_before(self):
        assert recent(NOON) == Span(datetime(2026, 2, 9, tzinfo=UTC), NOON)


class TestRequests:
    def pages(self, world, limit, span=MARCH):
        """The generations of all pages, each with one query."""
        after, found = None, []
        while True:
            page = list_requests(world.workspace.pk, span, limit=limit, after=after)
            found.append([row.generation for row in page.rows])
            assert len(page.rows) <= limit
            if not page.has_more:
                return found
            after = page.rows[-1].generation

    @pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 100])
    def test_pages_have_each_request_once_the_newest_first(self, acme, rival, limit):
        """Three of them booked at one instant: their rows tell them apart."""
        minutes = [0, 1, 1, 1, 2]
        made = [add_record(acme, created_at=NOON + timedelta(minutes=at)).generation for at in minutes]
        add_record(rival, created_at=NOON + timedelta(minutes=1))
        pages = self.pages(acme, limit)
        assert [generation for page in pages for generation in page] == made[::-1]
        assert len(pages) == max(1, -(-len(made) // limit))

    def test_requests_that_come_meanwhile_do_not_shift_a_page(self, acme):
        made = [add_record(acme).generation for _ in range(4)]
        page = list_requests(acme.workspace.pk, MARCH, limit=2)
        add_record(acme, created_at=NOON + timedelta(hours=1))
        rest = list_requests(acme.workspace.pk, MARCH, limit=2, after=page.rows[-1].generation)
        assert [row.generation for row in (*page.rows, *rest.rows)] == made[::-1]
        assert not rest.has_more

    def test_after_the_last_there_is_nothing(self, acme):
        first = add_record(acme)
        assert list_requests(acme.workspace.pk, MARCH, limit=2, after=first.generation) == ([], False)

    def test_a_mark_must_be_in_the_list(self, acme, rival):
        add_record(acme)
        before = add_record(acme, created_at=MARCH.start - timedelta(microseconds=1))
        behind = add_record(acme, created_at=MARCH.end)
        theirs = add_record(rival)
        for mark in (before.generation, behind.generation, theirs.generation, "unknown", "", "\0", "\ud800"):
            with pytest.raises(UnknownMark):
                list_requests(acme.workspace.pk, MARCH, limit=2, after=mark)

    def test_a_page_takes_one_query(self, acme, django_assert_num_queries):
        first = add_record(acme)
        add_record(acme)
        with django_assert_num_queries(1):
            list_requests(acme.workspace.pk, MARCH, limit=1)
        with django_assert_num_queries(1):
            list_requests(acme.workspace.pk, MARCH, limit=1, after=first.generation)


class TestCredits:
    def test_a_balance_is_what_is_posted_held_and_left(self, acme, django_assert_num_queries):
        account = Account.objects.get(workspace=acme.workspace)
        account.held_microcredits = 400
        account.save()
        with django_assert_num_queries(1):
            balance = get_balance(account.pk)
        assert (balance.posted_microcredits, balance.held_microcredits, balance.available_microcredits) == (
            1_000_000_000,
            400,
            999_999_600,
        )

    def test_a_key_s_spend_is_that_of_today_and_of_this_month(self, acme, rival, django_assert_num_queries):
        other, _ = mint(acme.workspace, "second", actor="tests")
        for at, amount in [(NOON, 1), (NOON.replace(hour=0), 2), (NOON.replace(day=1, hour=0), 4)]:
            add_record(acme, created_at=at, charged_microcredits=amount)
        add_record(acme, created_at=datetime(2026, 2, 28, 23, 59, 59, 999999, tzinfo=UTC), charged_microcredits=8)
        add_record(acme, api_key=other, charged_microcredits=16)
        add_record(rival, charged_microcredits=32)
        with django_assert_num_queries(1):
            spend = get_key_spend(acme.workspace.pk, acme.key.pk, NOON + timedelta(hours=1))
        assert (spend.day_microcredits, spend.month_microcredits, spend.budgets) == (3, 7, ())
        assert spend.key == acme.key

    def test_the_budgets_of_the_key_and_of_its_workspace_limit_it(self, acme, rival, django_assert_num_queries):
        other, _ = mint(acme.workspace, "second", actor="tests")
        march = datetime(2026, 3, 1, tzinfo=UTC)
        new_budget(
            "key", acme.key.pk, HUGE, period_started_at=march, spent_microcredits=30, held_microcredits=5, period="month"
        )
        new_budget("workspace", acme.workspace.pk, 50, period="never", spent_microcredits=60, period_started_at=march)
        new_budget("key", other.pk, 1)
        new_budget("workspace", rival.workspace.pk, 1)
        new_budget("member", acme.key.pk, 1)
        with django_assert_num_queries(1):
            budgets = get_key_spend(acme.workspace.pk, acme.key.pk, NOON).budgets
        assert [(budget.scope, budget.period, budget.limit_microcredits) for budget in budgets] == [
            ("key", "month", HUGE),
            ("workspace", "never", 50),
        ]
        assert [(budget.spent_microcredits, budget.held_microcredits) for budget in budgets] == [(30, 5), (60, 0)]
        assert [budget.available_microcredits for budget in budgets] == [HUGE - 35, 0]
        assert [(budget.started_at, budget.resets_at) for budget in budgets] == [
            (march, datetime(2026, 4, 1, tzinfo=UTC)),
            (march, None),
        ]

    @pytest.mark.parametrize(
        ("period", "started", "resets"),
        [("day", "2026-03-10", "2026-03-11"), ("week", "2026-03-09", "2026-03-16"), ("month", "2026-03-01", "2026-04-01")],
    )
    def test_a_period_that_is_over_has_spent_nothing_and_holds_what_it_held(self, acme, period, started, resets):
        before = NOON - timedelta(days=32)
        new_budget(
            *("key", acme.key.pk, 50), period=period, spent_microcredits=40, held_microcredits=7, period_started_at=before
        )
        [budget] = get_key_spend(acme.workspace.pk, acme.key.pk, NOON).budgets
        assert (budget.spent_microcredits, budget.held_microcredits, budget.available_microcredits) == (0, 7, 43)
        assert (budget.started_at, budget.resets_at) == (moment(started), moment(resets))

    def test_the_budget_of_the_member_whose_key_it_is_limits_it(self, acme, django_assert_num_queries):
        user = User.objects.create_user("ada")
        member = Membership.objects.create(workspace=acme.workspace, user=user, role="developer")
        ApiKey.objects.filter(pk=acme.key.pk).update(owner=member)
        new_budget("member", member.pk, 50)
        new_budget("workspace", acme.workspace.pk, 60)
        new_budget("key", acme.key.pk, 40)
        new_budget("member", member.pk + 1, 70)
        with django_assert_num_queries(1):
            budgets = get_key_spend(acme.workspace.pk, acme.key.pk, NOON).budgets
        assert [(budget.scope, budget.limit_microcredits) for budget in budgets] == [
            ("key", 40),
            ("member", 50),
            ("workspace", 60),
        ]

    def test_a_key_of_another_workspace_is_not_found(self, acme, rival):
        with pytest.raises(ApiKey.DoesNotExist):
            get_key_spend(acme.workspace.pk, rival.key.pk, NOON)


@pytest.mark.django_db(transaction=True)
class TestAllowance:
    async def test_it_is_what_is_not_held_and_what_is_left_of_each_budget(self):
        world = await sync_to_async(make_world)("Acme", credits=3)
        await Account.objects.filter(workspace=world.workspace).aupdate(held_microcredits=1)
        spent = {"spent_microcredits": 30, "held_microcredits": 5}
        await sync_to_async(new_budget)("key", world.key.pk, 100, **spent)
        await sync_to_async(new_budget)("key", world.key.pk, 20, period="never", **spent)
        await sync_to_async(new_budget)("workspace", world.workspace.pk, 50)
        await sync_to_async(new_budget)("workspace", world.workspace.pk + 1, 7)
        assert await get_allowance(world.key.pk) == Allowance(2_999_999, (65, -15, 50))

    async def test_a_rolled_key_spends_from_the_budget_of_its_family(self):
        world = await sync_to_async(make_world)("Acme", credits=3)
        await sync_to_async(new_budget)("key", world.key.pk, 40, period="never")
        rolled, _ = await sync_to_async(roll)(world.key, overlap=Overlap.HOUR, actor="tests")
        assert await get_allowance(rolled.pk) == Allowance(3_000_000, (40,))

    async def test_a_database_that_is_away_is_told_as_the_ledger_is(self, monkeypatch):
        with monkeypatch.context() as outage:
            outage.setitem(connections.settings["default"], "NAME", "/absent/database")
            with pytest.raises(LedgerUnavailable):
                await get_allowance(1)


@pytest.mark.django_db
def test_an_allowance_is_one_query(django_assert_num_queries):
    world = make_world("Acme", credits=3)
    new_budget("key", world.key.pk, 40)
    with django_assert_num_queries(1):
        assert read_allowance(world.key.pk) == Allowance(3_000_000, (40,))
