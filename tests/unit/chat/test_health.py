"""Breakers and the budget of extra calls, by a clock of the test's own."""

from __future__ import annotations

import msgspec
import pytest

from chat.errors import UpstreamCrowded, UpstreamError, UpstreamRateLimited, UpstreamRejected, UpstreamSpared, UpstreamTimeout
from chat.health import EXTRA_ALWAYS, LEAST_FAILURES, PROBE_EVERY_S, PROBE_PATIENCE_S, WINDOW_S, Health
from tests.unit.chat.values import PROVIDER, target

ONE = target()
OTHER = msgspec.structs.replace(target(), id=2)
ELSEWHERE = msgspec.structs.replace(target(), id=3, provider=msgspec.structs.replace(PROVIDER, slug="elsewhere"))


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def health(clock):
    return Health(clock=clock)


def fail(health, times=1, failure=UpstreamError, aim=ONE):
    for _ in range(times):
        health.failed(aim, failure())


def is_admitted(health, aim=ONE, *, is_extra=False):
    try:
        health.admit(aim, is_extra=is_extra)
    except UpstreamSpared:
        return False
    return True


def test_a_target_that_was_never_called_is_tried(health):
    assert is_admitted(health)
    assert not health.is_bad(ONE)


def test_failures_open_the_breaker_of_their_target_only(health):
    fail(health, LEAST_FAILURES - 1)
    assert is_admitted(health)
    fail(health, failure=UpstreamTimeout)
    assert health.is_bad(ONE)
    assert not is_admitted(health)
    assert is_admitted(health, OTHER)


def test_a_refusal_says_when_to_come_back(health):
    fail(health, LEAST_FAILURES)
    with pytest.raises(UpstreamSpared) as refusal:
        health.admit(ONE)
    assert (refusal.value.status, refusal.value.code) == (503, "model_overloaded")
    assert ("retry-after", "1") in refusal.value.headers


@pytest.mark.parametrize("failure", [UpstreamRejected, UpstreamRateLimited])
def test_refusals_and_limits_are_no_failures(health, failure):
    fail(health, 50, failure)
    assert is_admitted(health)


@pytest.mark.parametrize("failure", [UpstreamRejected, UpstreamRateLimited])
def test_whoever_says_no_is_there_again(health, clock, failure):
    """A request that is wrong may be the one that tries the target, again and again."""
    fail(health, LEAST_FAILURES)
    clock.now_s += PROBE_EVERY_S
    assert is_admitted(health)
    fail(health, failure=failure)
    assert [is_admitted(health) for _ in range(5)] == [True] * 5


@pytest.mark.parametrize("end", [lambda health: health.withdrawn(ONE), lambda health: fail(health, failure=UpstreamCrowded)])
def test_a_try_of_which_nothing_came_is_followed_by_the_next(health, clock, end):
    fail(health, LEAST_FAILURES)
    clock.now_s += PROBE_EVERY_S
    assert is_admitted(health)
    end(health)
    assert not is_admitted(health)
    clock.now_s += PROBE_EVERY_S
    assert is_admitted(health)


def test_a_full_house_of_ours_is_no_failure_of_a_target(health):
    fail(health, 50, UpstreamCrowded)
    assert is_admitted(health)


def test_failures_that_are_few_among_successes_open_nothing(health):
    for _ in range(20):
        fail(health)
        health.succeeded(ONE)
        health.succeeded(ONE)
    assert is_admitted(health)


def test_failures_of_long_ago_open_nothing(health, clock):
    fail(health, LEAST_FAILURES - 1)
    clock.now_s += WINDOW_S
    fail(health, LEAST_FAILURES - 1)
    assert is_admitted(health)


def test_an_open_breaker_lets_one_call_through_now_and_then(health, clock):
    fail(health, LEAST_FAILURES)
    clock.now_s += PROBE_EVERY_S
    assert [is_admitted(health) for _ in range(5)] == [True, False, False, False, False]
    fail(health)
    clock.now_s += PROBE_EVERY_S
    assert is_admitted(health)


def test_while_a_try_hangs_others_are_rare(health, clock):
    """Whoever is sent to a target that does not answer waits in vain, so not one a second is."""
    fail(health, LEAST_FAILURES)
    clock.now_s += PROBE_EVERY_S
    assert is_admitted(health)
    clock.now_s += PROBE_PATIENCE_S - 0.1
    assert not is_admitted(health)
    clock.now_s += 0.1
    assert is_admitted(health)


def test_failures_of_calls_from_before_do_not_put_the_next_try_off(health, clock):
    fail(health, LEAST_FAILURES)
    clock.now_s += PROBE_EVERY_S / 2
    fail(health, 3)
    clock.now_s += PROBE_EVERY_S / 2
    assert is_admitted(health)


def test_a_target_that_is_due_is_tried_like_its_equals(health, clock):
    fail(health, LEAST_FAILURES)
    assert health.is_bad(ONE)
    clock.now_s += PROBE_EVERY_S
    assert not health.is_bad(ONE)
    assert is_admitted(health)
    assert health.is_bad(ONE), "by one request"


def test_a_success_closes_the_breaker_and_forgets_the_failures(health, clock):
    fail(health, LEAST_FAILURES)
    clock.now_s += PROBE_EVERY_S
    assert is_admitted(health)
    health.succeeded(ONE)
    fail(health, LEAST_FAILURES - 1)
    assert [is_admitted(health) for _ in range(5)] == [True] * 5


def extra_calls(health, count, aim=ONE):
    """How many of so many extra calls are let through."""
    return sum(is_admitted(health, aim, is_extra=True) for _ in range(count))


def test_extra_calls_are_a_fifth_of_the_first_ones(health):
    for _ in range(100):
        health.admit(ONE)
    assert extra_calls(health, 50) == 20
    assert extra_calls(health, 1, ELSEWHERE) == 1
    assert is_admitted(health), "first calls have no budget"


def test_targets_of_one_provider_share_its_budget(health):
    assert extra_calls(health, EXTRA_ALWAYS) == EXTRA_ALWAYS
    assert extra_calls(health, 1, OTHER) == 0


def test_a_few_extra_calls_are_always_fine(health):
    health.admit(ONE)
    assert extra_calls(health, 50) == EXTRA_ALWAYS


def test_the_budget_comes_back_with_time(health, clock):
    assert extra_calls(health, 50) == EXTRA_ALWAYS
    clock.now_s += WINDOW_S
    assert extra_calls(health, 1) == 1


def test_what_the_budget_refuses_does_not_use_up_the_try_of_an_open_breaker(health, clock):
    assert extra_calls(health, 50) == EXTRA_ALWAYS
    fail(health, LEAST_FAILURES)
    clock.now_s += PROBE_EVERY_S
    assert not is_admitted(health, is_extra=True)
    assert is_admitted(health)


def test_what_an_open_breaker_refuses_does_not_use_up_the_budget(health):
    fail(health, LEAST_FAILURES)
    assert extra_calls(health, 50) == 0
    assert extra_calls(health, 50, OTHER) == EXTRA_ALWAYS


def test_a_retry_is_worth_it_while_the_breaker_is_closed_and_the_budget_has_room(health):
    assert health.is_worth_a_retry(ONE)
    fail(health, LEAST_FAILURES)
    assert not health.is_worth_a_retry(ONE)
    assert health.is_worth_a_retry(OTHER)
    assert extra_calls(health, 50, OTHER) == EXTRA_ALWAYS
    assert not health.is_worth_a_retry(OTHER)
