"""Whether what was so far so good still is: the alarms about tokens, errors, times, losses and the books (pure).

`chat.watching` observes; here it is judged, by thresholds that have names. Whatever is compared was measured often enough
to mean something, and each alarm says in words what was found and against what.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

import msgspec
from msgspec.structs import astuple

from billing.pricing import credits_text

LATELY: Final = timedelta(days=1)
BEFORE: Final = timedelta(days=7)
"""What is so lately is held against the seven days before."""

LEAST_REQUESTS: Final = 50
"""Of each of the two spans: fewer say nothing about a share or a mean."""

TOKENS_LEAST_REQUESTS: Final = 20
TOKENS_FACTOR: Final = 2.0
"""How far what a provider counts may be from our estimates, either way; charges rest on these where it counts nothing."""

UNCOUNTED_SHARE: Final = 0.1
UNCOUNTED_FACTOR: Final = 2.0

ERROR_SHARE: Final = 0.05
ERROR_FACTOR: Final = 2.0

FIRST_TOKEN_LEAST_MS: Final = 500
FIRST_TOKEN_FACTOR: Final = 2.0

PROOF_EVERY: Final = timedelta(days=1)


class Topic(StrEnum):
    TOKENS = "tokens"
    UNCOUNTED = "uncounted"
    OVERRUN = "overrun"
    ERRORS = "errors"
    FIRST_TOKEN = "first_token"  # noqa: S105 - of an answer
    PROOF = "proof"


class Alarm(msgspec.Struct, frozen=True):
    """`model` is empty where an alarm is about no model."""

    topic: Topic
    title: str
    text: str
    model: str = ""
    is_grave: bool = False


class Counted(msgspec.Struct, frozen=True):
    """Prompts of one model at one provider: what it counted, and what we took them for."""

    model: str
    provider: str
    requests: int
    counted_tokens: int
    estimated_tokens: int


class Figures(msgspec.Struct, frozen=True):
    """How a model did in one span. `requests` are those that were not the caller's fault; `failed` of them by ours.

    `complete` are the whole answers, `uncounted` those of them whose tokens the provider did not tell in a usable way.
    """

    requests: int = 0
    failed: int = 0
    complete: int = 0
    uncounted: int = 0
    first_token_sum_ms: int = 0
    first_token_count: int = 0
    overrun_microcredits: int = 0

    def plus(self, other: Figures) -> Figures:
        return Figures(*(one + two for one, two in zip(astuple(self), astuple(other), strict=True)))


class ModelFigures(msgspec.Struct, frozen=True):
    slug: str
    lately: Figures
    before: Figures


class Proof(msgspec.Struct, frozen=True):
    """The last proof of the books of all workspaces."""

    at: datetime
    violations: int


class Observed(msgspec.Struct, frozen=True):
    """`booked_since` is when the first entry was booked; None where none ever was, so that there is nothing to prove."""

    now: datetime
    counted: tuple[Counted, ...] = ()
    models: tuple[ModelFigures, ...] = ()
    proof: Proof | None = None
    booked_since: datetime | None = None


def judge(observed: Observed) -> list[Alarm]:
    """The alarms, grave ones first."""
    alarms = [alarm for counted in observed.counted if (alarm := _tokens(counted))]
    for model in observed.models:
        found = (_uncounted(model), _overrun(model), _errors(model), _first_token(model))
        alarms += [alarm for alarm in found if alarm]
    proof = _proof(observed)
    alarms += [proof] if proof else []
    return sorted(alarms, key=lambda alarm: not alarm.is_grave)


def _tokens(counted: Counted) -> Alarm | None:
    if counted.requests < TOKENS_LEAST_REQUESTS or not counted.estimated_tokens:
        return None
    ratio = counted.counted_tokens / counted.estimated_tokens
    if 1 / TOKENS_FACTOR <= ratio <= TOKENS_FACTOR:
        return None
    return Alarm(
        Topic.TOKENS,
        f"{counted.provider} counts the prompts of {counted.model} otherwise than we do",
        f"{counted.counted_tokens:,} tokens where we estimated {counted.estimated_tokens:,}, in {counted.requests:,} requests "
        f"of the last day. Holds and charges rest on estimates where it counts nothing.",
        counted.model,
    )


def _uncounted(model: ModelFigures) -> Alarm | None:
    lately, before = (
        _share(model.lately.uncounted, model.lately.complete),
        _share(model.before.uncounted, model.before.complete),
    )
    if lately is None or lately < UNCOUNTED_SHARE or lately < UNCOUNTED_FACTOR * (before or 0):
        return None
    return Alarm(
        Topic.UNCOUNTED,
        f"The tokens of {model.slug} are often not counted for us",
        f"{lately:.0%} of its whole answers of the last day were charged by estimates; {_before(before)}. "
        "Has its provider stopped telling its usage?",
        model.slug,
    )


def _overrun(model: ModelFigures) -> Alarm | None:
    if not model.lately.overrun_microcredits:
        return None
    return Alarm(
        Topic.OVERRUN,
        f"{credits_text(model.lately.overrun_microcredits)} credits of overrun of {model.slug}",
        "Requests of the last day cost more than their bound; the excess is ours. Is its bound on tokens too low?",
        model.slug,
        is_grave=True,
    )


def _errors(model: ModelFigures) -> Alarm | None:
    lately, before = _share(model.lately.failed, model.lately.requests), _share(model.before.failed, model.before.requests)
    if lately is None or lately < ERROR_SHARE or lately < ERROR_FACTOR * (before or 0):
        return None
    return Alarm(
        Topic.ERRORS,
        f"{model.slug} fails more often",
        f"{lately:.1%} of {model.lately.requests:,} requests of the last day failed; {_before(before, digits=1)}.",
        model.slug,
        is_grave=True,
    )


def _first_token(model: ModelFigures) -> Alarm | None:
    lately, before = _mean(model.lately), _mean(model.before)
    if lately is None or before is None or lately < max(FIRST_TOKEN_LEAST_MS, FIRST_TOKEN_FACTOR * before):
        return None
    return Alarm(
        Topic.FIRST_TOKEN,
        f"The first token of {model.slug} comes later",
        f"After {lately:,.0f} ms on average in the last day; in the week before after {before:,.0f} ms.",
        model.slug,
    )


def _proof(observed: Observed) -> Alarm | None:
    proof = observed.proof
    if proof is not None and proof.violations:
        title = f"{proof.violations:,} violations in the last proof of the books"
        return Alarm(Topic.PROOF, title, "Prove them again, and find out what wrote these rows.", is_grave=True)
    last = observed.booked_since if proof is None else proof.at
    if last is None or observed.now - last <= PROOF_EVERY:
        return None
    when = "They never were." if proof is None else f"The last time was {proof.at:%d %b %Y, %H:%M} UTC."
    why = "Housekeeping does it daily, and logs what keeps it from that; prove them now."
    return Alarm(Topic.PROOF, "The books were not proven for a day", f"{when} {why}")


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole >= LEAST_REQUESTS else None


def _mean(figures: Figures) -> float | None:
    return figures.first_token_sum_ms / figures.first_token_count if figures.first_token_count >= LEAST_REQUESTS else None


def _before(share: float | None, *, digits: int = 0) -> str:
    return "too few were made in the week before to compare" if share is None else f"in the week before {share:.{digits}%}"
