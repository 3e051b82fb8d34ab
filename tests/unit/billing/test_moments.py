"""Moments as people write them, always in UTC."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.ledger.decider import period_start
from billing.moments import MomentError, moment, moment_text, month_around, period_end

ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
MOMENTS = st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(9000, 1, 1), timezones=ZONES)  # noqa: DTZ001


@pytest.mark.parametrize(
    ("text", "as_start", "as_end"),
    [
        ("2026-11-25", "2026-11-25T00:00:00.000000Z", "2026-11-26T00:00:00.000000Z"),
        ("2026-12-31", "2026-12-31T00:00:00.000000Z", "2027-01-01T00:00:00.000000Z"),
        ("2026-11-25T00:00:00Z", "2026-11-25T00:00:00.000000Z", "2026-11-25T00:00:00.000000Z"),
        ("2026-11-25T10:00", "2026-11-25T10:00:00.000000Z", "2026-11-25T10:00:00.000000Z"),
        ("2026-11-25T10:00:00.5+02:00", "2026-11-25T08:00:00.500000Z", "2026-11-25T08:00:00.500000Z"),
    ],
)
def test_a_day_is_whole_and_a_moment_exact(text, as_start, as_end):
    assert moment_text(moment(text)) == as_start
    assert moment_text(moment(text, is_end=True)) == as_end


@pytest.mark.parametrize(
    "text",
    [
        *("", "now", "20261125", "2026-11", "2026-13-01", "2026-02-30", "2026-11-25 10:00", "2026-11-25T25:00", "1764028800"),
        *("2026-11-25T10:00:00 02:00", "2026-11-25\n", "२०२६-११-२५", "2026-11-25T10:00:00+99:00", "0001-01-01T00:00:00+14:00"),
        *("0001-01-01", "1969-12-31T23:59:59Z"),
    ],
)
def test_anything_else_is_refused(text):
    with pytest.raises(MomentError, match="2026-11-25"):
        moment(text)


def test_a_day_after_the_last_is_refused():
    with pytest.raises(MomentError):
        moment("9999-12-31", is_end=True)


@given(MOMENTS)
def test_what_is_written_is_read_back(at):
    assert moment(moment_text(at)) == at
    assert moment(at.isoformat()) == at


@pytest.mark.parametrize("period", ["day", "week", "month"])
@given(at=MOMENTS)
def test_a_period_ends_where_the_next_begins(period, at):
    start = period_start(period, at)
    end = period_end(period, start)
    assert start <= at < end
    assert period_start(period, end) == end
    assert period_start(period, end - timedelta(microseconds=1)) == start


def test_a_period_may_never_end():
    assert period_end("never", datetime(1970, 1, 1, tzinfo=UTC)) is None


@pytest.mark.parametrize(
    ("at", "day", "start", "end"),
    [
        ("2026-01-31T15:30", 31, "2026-01-31", "2026-02-28"),
        ("2026-02-27T23:59", 31, "2026-01-31", "2026-02-28"),
        ("2026-02-28", 31, "2026-02-28", "2026-03-31"),
        ("2028-02-28", 30, "2028-01-30", "2028-02-29"),
        ("2026-12-31", 1, "2026-12-01", "2027-01-01"),
        ("2027-01-01", 2, "2026-12-02", "2027-01-02"),
    ],
)
def test_a_month_of_ones_own(at, day, start, end):
    month = month_around(moment(at), day)
    assert (month.start, month.end) == (moment(start), moment(end))


@given(MOMENTS, st.integers(1, 31))
def test_months_follow_each_other_and_begin_on_their_day_or_the_last(at, day):
    month = month_around(at, day)
    assert month.start <= at < month.end
    assert month_around(month.end, day).start == month.end
    assert month_around(month.start - timedelta(microseconds=1), day).end == month.start
    assert month.start.day == day or (month.start + timedelta(days=1)).day == 1
    assert timedelta(days=28) <= month.end - month.start <= timedelta(days=31)
