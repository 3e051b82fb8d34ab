"""Lots by themselves: nothing is lost, what expires first is spent first, and an expiry leaves exactly nothing."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.ledger.lots import Lot, Spending, above, by_admission, expired, spend, take

START = datetime(2026, 1, 1, tzinfo=UTC)
LAST = 4


def day(number):
    return START + timedelta(days=number)


days = st.integers(0, LAST).map(day)
wallets = st.lists(st.tuples(st.integers(0, 30), st.none() | days), max_size=6).map(
    lambda rows: [Lot(number, left, expires_at) for number, (left, expires_at) in enumerate(rows, 1)]
)


def left(lots):
    return [lot.left for lot in lots]


@st.composite
def spent_wallets(draw):
    """Lots, and spendings that they can pay."""
    lots = draw(wallets)
    rest, spendings = sum(left(lots)), []
    for part, admitted_at in draw(st.lists(st.tuples(st.integers(0, 40), days), max_size=6)):
        amount = min(part, rest)
        rest -= amount
        spendings.append(Spending(amount, admitted_at))
    return lots, spendings


def one_by_one(lots, spendings):
    for spending in spendings:
        lots = spend(lots, [spending])
    return lots


# What is spent


def test_what_expires_first_is_spent_first_and_what_never_expires_last():
    lots = [Lot(1, 10), Lot(2, 10, day(3)), Lot(3, 10), Lot(4, 10, day(2)), Lot(5, 10, day(3))]
    orders = [left(spend(lots, [Spending(amount, day(1))])) for amount in (5, 15, 25, 35, 45, 50)]
    assert orders == [
        [10, 10, 10, 5, 10],
        [10, 5, 10, 0, 10],
        [10, 0, 10, 0, 5],
        [5, 0, 10, 0, 0],
        [0, 0, 5, 0, 0],
        [0, 0, 0, 0, 0],
    ]


def test_a_request_is_paid_from_what_was_good_when_it_was_admitted():
    lots = [Lot(1, 10), Lot(2, 10, day(2))]
    assert left(spend(lots, [Spending(4, day(2) - timedelta(microseconds=1))])) == [10, 6]
    assert left(spend(lots, [Spending(4, day(2))])) == [6, 10]


def test_expired_credit_is_spent_only_where_nothing_else_is_left():
    lots = [Lot(1, 3), Lot(2, 10, day(2))]
    assert left(spend(lots, [Spending(5, day(3))])) == [0, 8]


@given(spent_wallets())
def test_what_is_left_is_what_there_was_less_what_was_spent(wallet):
    lots, spendings = wallet
    after = spend(lots, spendings)
    assert sum(left(after)) == sum(left(lots)) - sum(spending.amount for spending in spendings)
    assert all(0 <= lot.left <= before.left for lot, before in zip(after, lots, strict=True))
    assert [(lot.id, lot.expires_at) for lot in after] == [(lot.id, lot.expires_at) for lot in lots]


@given(wallets, st.integers(0, 200), days)
def test_no_lot_is_touched_before_its_turn(lots, amount, admitted_at):
    """Good before expired, an earlier expiry before a later one and before none, the older before the newer."""
    after = spend(lots, [Spending(amount, admitted_at)])
    touched = [lot for lot, now in zip(lots, after, strict=True) if now.left < lot.left]
    for paid in touched:
        for lot, now in zip(lots, after, strict=True):
            is_good = lot.expires_at is None or lot.expires_at > admitted_at
            is_paid_good = paid.expires_at is None or paid.expires_at > admitted_at
            comes_first = (lot.expires_at or day(99), lot.id) < (paid.expires_at or day(99), paid.id)
            if is_good > is_paid_good or (is_good == is_paid_good and comes_first):
                assert now.left == 0


@given(spent_wallets(), st.randoms(use_true_random=False))
def test_the_order_of_settlements_does_not_matter(wallet, random):
    lots, spendings = wallet
    shuffled = random.sample(spendings, len(spendings))
    assert one_by_one(lots, shuffled) == one_by_one(lots, spendings) == spend(lots, spendings)


@given(spent_wallets())
def test_a_total_and_what_came_after_each_expiry_say_as_much_as_every_charge(wallet):
    lots, spendings = wallet
    moments = {lot.expires_at for lot in lots if lot.expires_at is not None}
    later = {moment: sum(s.amount for s in spendings if s.admitted_at >= moment) for moment in moments}
    total = sum(spending.amount for spending in spendings)
    assert spend(lots, by_admission(total, later)) == one_by_one(lots, spendings)


def test_a_total_is_kept_although_the_parts_do_not_fit_it():
    """Figures that were read while requests were settled."""
    for later in ({day(1): 90}, {day(1): 3, day(2): 5}, {day(1): 90, day(2): 95}):
        spendings = by_admission(10, later)
        assert sum(spending.amount for spending in spendings) == 10
        assert all(spending.amount >= 0 for spending in spendings)


# What expires


def test_what_is_left_of_an_expired_lot_expires():
    lots = [Lot(1, 10), Lot(2, 7, day(2)), Lot(3, 5, day(4)), Lot(4, 0, day(1))]
    assert expired(lots, [], day(2) - timedelta(microseconds=1)) == {}
    assert expired(lots, [], day(2)) == {2: 7}
    assert expired(lots, [], day(4)) == {2: 7, 3: 5}


def test_what_a_running_request_holds_does_not_expire():
    lots = [Lot(1, 10), Lot(2, 7, day(2))]
    assert expired(lots, [Spending(4, day(1))], day(3)) == {2: 3}
    assert expired(lots, [Spending(9, day(1))], day(3)) == {}
    # One that was admitted after it holds other credit.
    assert expired(lots, [Spending(4, day(2))], day(3)) == {2: 7}
    assert expired(lots, [Spending(12, day(2))], day(3)) == {2: 5}


@given(spent_wallets(), days)
def test_an_expiry_leaves_what_is_held_and_nothing_expires_twice(wallet, now):
    lots, requests = wallet
    amounts = expired(lots, requests, now)
    after = take(lots, amounts)
    assert all(amount > 0 for amount in amounts.values())
    assert sum(left(after)) >= sum(request.amount for request in requests)
    assert min(left(after), default=0) >= 0
    assert expired(after, requests, now) == {}


@given(spent_wallets(), days, st.data())
def test_the_rest_expires_when_the_requests_are_settled(wallet, now, data):
    lots, requests = wallet
    lots = take(lots, expired(lots, requests, now))
    costs = [Spending(data.draw(st.integers(0, request.amount)), request.admitted_at) for request in requests]
    lots = spend(lots, costs)
    lots = take(lots, expired(lots, [], now))
    assert all(lot.left == 0 for lot in lots if lot.expires_at is not None and lot.expires_at <= now)
    assert min(left(lots), default=0) >= 0


@given(spent_wallets(), days)
def test_a_request_that_costs_all_it_holds_loses_nothing_to_an_expiry(wallet, now):
    lots, requests = wallet
    amounts = expired(lots, requests, now)
    assert spend(take(lots, amounts), requests) == take(spend(lots, requests), amounts)


# What rolls over


@pytest.mark.parametrize(
    ("requests", "ceiling", "cut"),
    [
        ([], 25, {}),
        ([], 20, {}),
        ([], 12, {2: 8}),
        ([], 4, {2: 10, 3: 6}),
        ([], 0, {2: 10, 3: 10}),
        ([Spending(7, day(0))], 0, {2: 3, 3: 10}),
        ([Spending(15, day(0))], 0, {3: 5}),
        ([Spending(7, day(0))], 15, {2: 3, 3: 2}),
    ],
)
def test_what_is_above_a_ceiling(requests, ceiling, cut):
    """Of lots 2 and 3 only, and of 4 no more, because it has expired and goes as a whole."""
    lots = [Lot(1, 10), Lot(2, 10, day(3)), Lot(3, 10, day(4)), Lot(4, 10, day(0))]
    assert above(lots, requests, day(0), {2, 3, 4}, ceiling) == cut


@given(spent_wallets(), days, st.integers(0, 60))
def test_a_ceiling_is_kept_as_far_as_requests_let_it(wallet, now, ceiling):
    lots, requests = wallet
    ids = {lot.id for lot in lots if lot.id % 2}
    cut = above(lots, requests, now, ids, ceiling)
    after = take(lots, cut)
    assert all(amount > 0 for amount in cut.values())
    assert cut.keys() <= ids
    good = [lot for lot in after if lot.id in ids and not lot.is_over(now)]
    held = {lot.id: lot.left for lot in lots}
    free = {lot.id: lot.left for lot in spend(after, requests)}
    assert sum(left(good)) >= min(ceiling, sum(held[lot.id] for lot in good))
    assert sum(left(good)) <= ceiling or all(free[lot.id] == 0 for lot in good)
