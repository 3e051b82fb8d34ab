"""What is to be told of a workspace, from its figures, its terms, and what it was told before (pure).

Each threshold of each thing is a subject. It is told when it is reached, once, and again only when it was left meanwhile and
a day has passed. Of the thresholds of one thing that are reached together the worst is told, and counts for all of them.
A balance that is low when it is first looked at is nothing new: it is told after it was above its threshold.

The share of fallbacks is left below half of its threshold, since it moves up and down. The date of a model is part of its
subjects, so that another date is told anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, Literal

import msgspec

from billing.moments import moment_text
from billing.pricing import credits_text

DAY: Final = timedelta(days=1)

CREDITS_LOW: Final = "credits.low"
CREDITS_EXPIRING: Final = "credits.expiring"
BUDGET_REACHED: Final = "budget.reached"
KEY_LIMIT: Final = "key.limit"
QUOTA_REACHED: Final = "quota.reached"
FALLBACK_RATE: Final = "fallback.rate"
MODEL_DEPRECATED: Final = "model.deprecated"

ANSWERS_WITHIN: Final = timedelta(hours=1)
ANSWERS_LEAST: Final = 20
"""Of fewer answers within that time a share says nothing."""
DEPRECATION_DAYS: Final = (30, 7, 0)
"""So long before a model is deprecated it is told."""
USED_WITHIN: Final = timedelta(days=30)
"""Whoever did not use a model for so long is not told of it."""

_PERIODS: Final = {"day": "of the day", "week": "of the week", "month": "of the month", "never": "in all"}


class Terms(msgspec.Struct, frozen=True):
    """Amounts in microcredits; percents of a limit. Nothing is told of what is empty, or 0."""

    low_balances: tuple[int, ...]
    key_percents: tuple[int, ...]
    budget_percents: tuple[int, ...]
    expiry_days: int
    quota_percents: tuple[int, ...] = ()
    fallback_percent: int = 0


class BudgetFact(msgspec.Struct, frozen=True):
    """`spent` is that of the period that is running. `owner_id` is the member it is about; None for the workspace's own."""

    id: int
    scope: str
    name: str
    public_id: str
    period: str
    limit: int
    spent: int
    owner_id: int | None = None


class LotFact(msgspec.Struct, frozen=True):
    """Credit that expires; `label` is what it came as."""

    id: int
    label: str
    left: int
    expires_at: datetime


class QuotaFact(msgspec.Struct, frozen=True):
    """What the workspace keeps: a number of files, or the bytes of its storage."""

    name: Literal["files", "storage"]
    used: int
    limit: int


class AnswersFact(msgspec.Struct, frozen=True):
    """Requests that were answered within ANSWERS_WITHIN, and how many of them by another model than the first of its chain."""

    requests: int = 0
    fallbacks: int = 0


class ModelFact(msgspec.Struct, frozen=True):
    """A model that the workspace used within USED_WITHIN. From its date (UTC) on it may be gone."""

    slug: str
    deprecated_on: date


class Facts(msgspec.Struct, frozen=True):
    """None stands for what could not be read: what was told of it is remembered as it is."""

    workspace: str
    balance: int
    budgets: tuple[BudgetFact, ...] = ()
    lots: tuple[LotFact, ...] = ()
    quotas: tuple[QuotaFact, ...] | None = ()
    answers: AnswersFact = AnswersFact()
    models: tuple[ModelFact, ...] | None = ()


class Draft(msgspec.Struct, frozen=True):
    """A notice that is to be published. `place` is the page that shows more."""

    kind: str
    title: str
    text: str
    data: dict[str, Any]
    place: str
    owner_id: int | None = None


class Told(msgspec.Struct, frozen=True):
    """What is known of a subject: whether it may be told, and when it was."""

    is_armed: bool
    at: datetime | None = None


class _Level(msgspec.Struct, frozen=True):
    """A threshold; `draft` is there when it is reached. What is neither reached nor left stays as it was."""

    subject: str
    draft: Draft | None
    is_told_at_first: bool = True
    is_left: bool = True


Memory = Mapping[str, Told]


def judge(facts: Facts, terms: Terms, memory: Memory, now: datetime) -> tuple[list[Draft], dict[str, Told]]:
    """What is to be told now, and what is to be remembered then instead of `memory`."""
    drafts: list[Draft] = []
    after: dict[str, Told] = {}
    for levels in _things(facts, terms, now):
        worst = None
        for level in levels:
            known = memory.get(level.subject)
            if level.draft is None and not level.is_left:
                if known is not None:
                    after[level.subject] = known
            elif level.draft is None:
                if known is not None or not level.is_told_at_first:
                    after[level.subject] = Told(is_armed=True, at=known.at if known else None)
            elif known is None and not level.is_told_at_first:
                after[level.subject] = Told(is_armed=False)
            elif known is None or (known.is_armed and (known.at is None or now - known.at >= DAY)):
                after[level.subject] = Told(is_armed=False, at=now)
                worst = level.draft
            else:
                after[level.subject] = known
        if worst is not None:
            drafts.append(worst)
    unread = {kind for kind, read in ((QUOTA_REACHED, facts.quotas), (MODEL_DEPRECATED, facts.models)) if read is None}
    kept = {subject: told for subject, told in memory.items() if subject.partition(":")[0] in unread}
    return drafts, after | kept


def _things(facts: Facts, terms: Terms, now: datetime) -> Iterable[Sequence[_Level]]:
    """The thresholds of each thing, the worst last."""
    yield [
        _Level(f"{CREDITS_LOW}:{amount}", _low(facts, amount) if facts.balance < amount else None, is_told_at_first=False)
        for amount in sorted(terms.low_balances, reverse=True)
    ]
    for budget in facts.budgets:
        if budget.limit <= 0:
            continue  # It lets nothing pass, and says so to every request.
        kind, percents = (KEY_LIMIT, terms.key_percents) if budget.scope == "key" else (BUDGET_REACHED, terms.budget_percents)
        yield [
            _Level(
                f"{kind}:{budget.id}:{percent}",
                _spent(facts, kind, budget, percent) if budget.spent * 100 >= budget.limit * percent else None,
            )
            for percent in sorted(percents)
        ]
    for lot in facts.lots:
        is_near = lot.left > 0 and now < lot.expires_at <= now + terms.expiry_days * DAY
        yield [_Level(f"{CREDITS_EXPIRING}:{lot.id}", _expiring(facts, lot) if is_near else None)]
    for quota in facts.quotas or ():
        if quota.limit > 0:
            yield [
                _Level(
                    f"{QUOTA_REACHED}:{quota.name}:{percent}",
                    _full(facts, quota, percent) if quota.used * 100 >= quota.limit * percent else None,
                )
                for percent in sorted(terms.quota_percents)
            ]
    if terms.fallback_percent > 0:
        yield [_answered(facts, terms.fallback_percent)]
    today = now.astimezone(UTC).date()
    for model in facts.models or ():
        left = (model.deprecated_on - today).days
        yield [
            _Level(
                f"{MODEL_DEPRECATED}:{model.slug}:{model.deprecated_on}:{days}",
                _deprecated(facts, model, left) if left <= days else None,
            )
            for days in DEPRECATION_DAYS
        ]


def _low(facts: Facts, amount: int) -> Draft:
    left = credits_text(facts.balance)
    return Draft(
        CREDITS_LOW,
        f"{facts.workspace} has less than {credits_text(amount)} credits",
        f"The balance of {facts.workspace} is {left} credits. When it is used up, requests get 402 insufficient_credits.",
        {"balance_credits": left, "threshold_credits": credits_text(amount)},
        "credits",
    )


def _spent(facts: Facts, kind: str, budget: BudgetFact, percent: int) -> Draft:
    what = {"key": f"The key {budget.name}", "member": f"The budget of {budget.name}"}.get(
        budget.scope, f"The budget of {facts.workspace}"
    )
    spent, limit = credits_text(budget.spent), credits_text(budget.limit)
    more = "" if percent < 100 else " Requests on it get 402 until it is higher or its next period begins."
    return Draft(
        kind,
        f"{what} is at {percent} % of its limit",
        f"{what} has spent {spent} of {limit} credits {_PERIODS[budget.period]}.{more}",
        {
            "scope": budget.scope,
            "id": budget.public_id,
            "name": budget.name,
            "period": budget.period,
            "percent": percent,
            "spent_credits": spent,
            "limit_credits": limit,
        },
        f"keys/{budget.public_id}" if budget.scope == "key" else "limits",
        budget.owner_id,
    )


def _expiring(facts: Facts, lot: LotFact) -> Draft:
    left = credits_text(lot.left)
    end = f"{lot.expires_at.astimezone(UTC):%d %b %Y, %H:%M} UTC".lstrip("0")
    return Draft(
        CREDITS_EXPIRING,
        f"{left} credits of {facts.workspace} expire on {end}",
        f"{left} credits ({lot.label}) are left, and expire on {end}. What expires first is spent first.",
        {"left_credits": left, "expires_at": moment_text(lot.expires_at), "kind": lot.label},
        "credits",
    )


def _full(facts: Facts, quota: QuotaFact, percent: int) -> Draft:
    what, unit, code = {
        "files": ("The number of files", "files", "file_count_quota_exceeded"),
        "storage": ("The storage", "bytes", "storage_quota_exceeded"),
    }[quota.name]
    more = "" if percent < 100 else f" Uploads get 413 {code} until files are deleted or expire."
    return Draft(
        QUOTA_REACHED,
        f"{what} of {facts.workspace} is at {percent} % of its quota",
        f"{facts.workspace} keeps {quota.used:,} of at most {quota.limit:,} {unit}.{more}",
        {"quota": quota.name, "percent": percent, "used": quota.used, "limit": quota.limit},
        "files",
    )


def _answered(facts: Facts, percent: int) -> _Level:
    answers = facts.answers
    is_reached = answers.requests >= ANSWERS_LEAST and answers.fallbacks * 100 >= answers.requests * percent
    is_left = not answers.fallbacks or answers.fallbacks * 200 < answers.requests * percent
    # Without its threshold, so that it is told once a day also if that is moved.
    return _Level(FALLBACK_RATE, _falling_back(facts, percent) if is_reached else None, is_left=is_left)


def _falling_back(facts: Facts, percent: int) -> Draft:
    answers = facts.answers
    share = answers.fallbacks * 100 // answers.requests
    return Draft(
        FALLBACK_RATE,
        f"{share} % of the answers of {facts.workspace} came from fallbacks",
        f"Of {answers.requests:,} requests that {facts.workspace} had answered within an hour, {answers.fallbacks:,} were "
        "served by another model than the first of their chain. Each costs what the model that served costs; its page in "
        "the request log says why.",
        {
            "percent": share,
            "threshold_percent": percent,
            "requests": answers.requests,
            "fallbacks": answers.fallbacks,
            "minutes": ANSWERS_WITHIN // timedelta(minutes=1),
        },
        "log?state=fallback",
    )


def _deprecated(facts: Facts, model: ModelFact, left: int) -> Draft:
    day = f"{model.deprecated_on:%d %b %Y}".lstrip("0")
    when = f"from {day} on" if left > 0 else f"since {day}"
    more = f", in {left} day{'' if left == 1 else 's'}" if left > 0 else ""
    return Draft(
        MODEL_DEPRECATED,
        f"The model {model.slug} is deprecated {when}",
        f"{facts.workspace} used {model.slug} within the last {USED_WITHIN.days} days. It is deprecated {when}{more}. Once it "
        "is gone, requests for it get 404 model_not_found: choose another model.",
        {"model": model.slug, "deprecated_on": f"{model.deprecated_on}", "days_left": max(0, left)},
        "models",
    )
