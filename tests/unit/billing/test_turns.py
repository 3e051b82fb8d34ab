"""Turns: nobody has two at once, and who used the least time is next."""

import pytest

from billing.turns import Turns


def shares(works, rounds):
    """How many turns each lane had on one thread, when all wait for ever; `works` has the seconds of a turn of each."""
    turns, had = Turns(), dict.fromkeys(works, 0)
    for _ in range(rounds):
        lane = turns.begin(list(works))
        had[lane] += 1
        turns.end(lane, works[lane])
    return had


@pytest.mark.parametrize(
    ("works", "had"),
    [
        pytest.param({"w-1-1": 10.0, "w-2-2": 0.1}, {"w-1-1": 1, "w-2-2": 99}, id="a-slow-one"),
        pytest.param({"w-1-1": 10.0, "w-1-2": 10.0, "w-1-3": 10.0, "w-2-4": 0.125}, {"w-2-4": 98}, id="an-owner-of-many"),
        pytest.param({"w-1-1": 10.0, "w-1-2": 0.1}, {"w-1-1": 1, "w-1-2": 99}, id="lanes-of-one-owner"),
    ],
)
def test_time_is_shared_alike(works, had):
    assert shares(works, 100).items() >= had.items()


def test_nobody_has_two_turns_at_once():
    turns, lanes = Turns(), ["w-1-1", "w-1-2", "w-2-3"]
    first, second = turns.begin(lanes), turns.begin(lanes)
    assert {first.split("-")[1], second.split("-")[1]} == {"1", "2"}
    assert turns.begin(lanes) is None
    turns.end(first, 1.0)
    assert turns.begin([first]) == first


def test_who_comes_anew_is_not_ahead_of_those_who_waited():
    turns, lanes = Turns(), ["w-1-1", "w-2-2"]
    for _ in range(100):
        turns.end(turns.begin(lanes), 10.0)
    had = []
    for _ in range(9):
        had.append(turns.begin([*lanes, "w-3-3"]))
        turns.end(had[-1], 10.0)
    assert {lane: had.count(lane) for lane in had} == {"w-1-1": 3, "w-2-2": 3, "w-3-3": 3}
