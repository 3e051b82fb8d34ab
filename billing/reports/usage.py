"""The requests of a workspace: added up, and one by one, the newest first."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from functools import reduce
from itertools import chain
from operator import or_
from typing import Any, Final, NamedTuple

import msgspec
from django.db import connection
from django.db.models import Case, F, Q, QuerySet, Subquery, Value, When

from billing.ledger.decider import period_start
from billing.models import EndUserDay, UsageDay, UsageRecord
from billing.moments import Span
from billing.reports.summing import Sums, summed

DEFAULT_DAYS: Final = 30
FIRST_TOKEN_ROWS: Final = 5_000


class Totals(msgspec.Struct):
    """Requests added up, in the order of `summing.Figures`. `failed_requests` were answered with an error; they cost nothing."""

    requests: int = 0
    failed_requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    audio_tokens: int = 0
    reasoning_tokens: int = 0
    charged_microcredits: int = 0


class Only(msgspec.Struct, frozen=True):
    """Which requests of a workspace are meant; all of them, without any of these.

    By the row id of the member whose keys they were, and as people look for them: the public id of a key, a model that was
    asked for or that served, what they answered (`ok`, `failed`, `fallback`), their id or label.
    """

    owner_id: int | None = None
    key: str = ""
    model: str = ""
    state: str = ""
    reference: str = ""

    def of(self, records: QuerySet[UsageRecord]) -> QuerySet[UsageRecord]:
        return self._besides_model(records).filter(reduce(or_, self._parts_of_model()))

    def apart(self, records: QuerySet[UsageRecord]) -> list[QuerySet[UsageRecord]]:
        """The same in parts without a row in common, from each of which the newest are to be read.

        Asked for a model at once, SQLite sorts all its requests to tell the newest. PostgreSQL does not; asked for a part
        alone, it takes the few that another model answered for as many as asked for the model, and walks a month for them.
        """
        if connection.vendor == "postgresql":
            return [self.of(records)]
        others = self._besides_model(records)
        return [others.filter(part) for part in self._parts_of_model()]

    def _besides_model(self, records: QuerySet[UsageRecord]) -> QuerySet[UsageRecord]:
        if self.owner_id is not None:
            records = records.filter(api_key__owner_id=self.owner_id)
        if self.key:
            records = records.filter(api_key__public_id=self.key)
        if self.reference:
            records = records.filter(Q(generation=self.reference) | Q(request_id=self.reference))
        return records.filter(_STATES[self.state]) if self.state else records

    def _parts_of_model(self) -> tuple[Q, ...]:
        if not self.model:
            return (Q(),)
        # Few are answered by another model than they asked for; these have an index of their own.
        return Q(model_used=self.model), Q(model_asked=self.model) & ~Q(model_asked=F("model_used"))

    def of_days(self, workspace_id: int, grouping: str | None) -> QuerySet[Any] | None:
        """The days in which these requests were added up; None where days do not tell them from others."""
        if self.model or self.state or self.reference:
            return None
        if grouping == "user":
            return None if self.key or self.owner_id is not None else EndUserDay.objects.filter(workspace_id=workspace_id)
        days = UsageDay.objects.filter(workspace_id=workspace_id)
        if self.owner_id is not None:
            days = days.filter(api_key__owner_id=self.owner_id)
        return days.filter(api_key__public_id=self.key) if self.key else days


STATES: Final = ("ok", "failed", "fallback")
_STATES: Final = {"ok": Q(status__lt=400), "failed": Q(status__gte=400), "fallback": Q(fallback_depth__gt=0)}
ALL: Final = Only()


class Group(NamedTuple):
    """What all requests of a group share, by name, and their totals. First tokens are of those that had one."""

    labels: dict[str, Any]
    totals: Totals
    first_token_sum_ms: int = 0
    first_token_count: int = 0


class Day(NamedTuple):
    """A day (UTC) of a group, by its place among the leading ones; the place after the last of them is that of all others."""

    day: date
    place: int
    totals: Totals


class FirstTokens(NamedTuple):
    """Whole milliseconds within which half, and nineteen in twenty, of the streams of a group had their first token."""

    median_ms: int
    most_ms: int


class RequestRow(NamedTuple):
    """One request. `model_used` is empty where no model served it."""

    generation: str
    created_at: datetime
    model_asked: str
    model_used: str
    api_key_id: str
    prompt_tokens: int
    completion_tokens: int
    charged_microcredits: int
    request_id: str
    latency_ms: int
    fallback_depth: int
    is_stream: bool
    status: int
    end_state: str
    error_code: str
    end_user: str


_COLUMNS: Final = tuple("api_key__public_id" if name == "api_key_id" else name for name in RequestRow._fields)


class Page(NamedTuple):
    rows: list[RequestRow]
    has_more: bool


class UnknownMark(LookupError):
    """The request after which a page was to begin is not among those asked for."""


# A request that no model served has no model here: the name it asked for is any text of the caller's.
_LABELS: Final[dict[str, dict[str, Any]]] = {
    "model": {"model": F("model_used")},
    "key": {"key_id": F("api_key__public_id"), "key_name": F("api_key__name")},
    "member": {"member_id": F("api_key__owner__public_id"), "member_name": F("api_key__owner__user__username")},
    "user": {"user": F("end_user")},
}
GROUPINGS: Final = (*_LABELS, "day")


def recent(now: datetime) -> Span:
    """What is meant where no span was given: today and the 29 days before it."""
    return Span(period_start("day", now) - timedelta(days=DEFAULT_DAYS - 1), now)


def get_totals(workspace_id: int, span: Span, only: Only = ALL) -> Totals:
    (total,) = _summed(workspace_id, span, only)
    return _totals(total)


def list_groups(workspace_id: int, span: Span, grouping: str, *, limit: int | None = None, only: Only = ALL) -> list[Group]:
    """Groups that have requests, the dearest first, days by date; at most `limit` of them. `grouping` is one of GROUPINGS."""
    if grouping == "day":
        days = _summed(workspace_id, span, only, by_day=True)
        return [Group({"day": one.day}, _totals(one)) for one in sorted(days, key=lambda one: one.day or date.min)][:limit]
    groups = [_group(one) for one in _summed(workspace_id, span, only, grouping)]
    groups.sort(key=lambda group: (-group.totals.charged_microcredits, _order(group.labels)))
    return groups[:limit]


def charged_by_key(workspace_id: int, span: Span, only: Only = ALL) -> dict[str, int]:
    """Microcredits by the public id of a key; keys without requests are not in it."""
    return {one.labels["key_id"]: one.figures.charged_microcredits for one in _summed(workspace_id, span, only, "key")}


def first_token_times(workspace_id: int, span: Span, grouping: str, *, only: Only = ALL) -> dict[tuple[Any, ...], FirstTokens]:
    """By the labels of a group, from the newest FIRST_TOKEN_ROWS streams of the span; groups without one are not in it.

    Days do not tell them, so the bound is what keeps a page over a million requests short.
    """
    labels = _LABELS[grouping]
    own = only.of(UsageRecord.objects.filter(workspace_id=workspace_id, created_at__gte=span.start, created_at__lt=span.end))
    rows = own.filter(first_token_ms__isnull=False).order_by("-created_at").values_list(*labels.values(), "first_token_ms")
    found: dict[tuple[Any, ...], list[int]] = {}
    for *names, took_ms in rows[:FIRST_TOKEN_ROWS]:
        found.setdefault(tuple(names), []).append(took_ms)
    return {names: FirstTokens(_ranked(times, 50), _ranked(times, 95)) for names, times in found.items()}


def _ranked(times: list[int], percent: int) -> int:
    """The nearest rank: a time that was measured, and none between two."""
    return sorted(times)[-(-len(times) * percent // 100) - 1]


def added_up(groups: list[Group]) -> Totals:
    return Totals(*(sum(getattr(group.totals, name) for group in groups) for name in Totals.__struct_fields__))


def list_days(workspace_id: int, span: Span, grouping: str, leading: list[Group], *, only: Only = ALL) -> list[Day]:
    """What each day has of each of the `leading` groups, and of all others together; days by date.

    `grouping` is one of GROUPINGS but not the day. The database adds up the others, so that thousands of groups are a few
    rows a day.
    """
    label = next(iter(_LABELS[grouping].values())).name
    cases = [When(_is(label, next(iter(group.labels.values()))), then=Value(place)) for place, group in enumerate(leading)]
    place: Any = Case(*cases, default=Value(len(leading))) if cases else Value(0)
    found = _summed(workspace_id, span, only, grouping, labels={"place": place}, by_day=True)
    days = [Day(one.day, one.labels["place"], _totals(one)) for one in found if one.day is not None]
    return sorted(days, key=lambda one: (one.day, one.place))


def _is(label: str, value: Any) -> Q:
    return Q(**{f"{label}__isnull": True}) if value is None else Q(**{label: value})


def list_requests(workspace_id: int, span: Span, *, limit: int, after: str | None = None, only: Only = ALL) -> Page:
    """The newest requests, or those that follow the generation `after` in this order. Raises UnknownMark."""
    records = UsageRecord.objects.filter(workspace_id=workspace_id)
    rows = records.filter(created_at__gte=span.start)
    if after is None:
        rows = rows.filter(created_at__lt=span.end)
    elif after.isprintable():
        mark = only.of(records).filter(generation=after, created_at__lt=span.end)
        at, pk = Subquery(mark.values("created_at")), Subquery(mark.values("pk"))
        # The one upper bound, by which the index is entered at the mark, however far back it is.
        rows = rows.filter(Q(created_at__lt=at) | Q(pk__lte=pk), created_at__lte=at)
    else:  # PostgreSQL takes no character zero
        raise UnknownMark
    # The mark itself is read too, which tells an unknown one from the end of the list.
    skipped = 0 if after is None else 1
    most = skipped + limit + 1
    parts = [part.order_by("-created_at", "-pk").values_list("created_at", "pk", *_COLUMNS)[:most] for part in only.apart(rows)]
    newest = sorted(chain.from_iterable(parts), reverse=True)[:most]
    found = [RequestRow(*row) for _, _, *row in newest]
    if after is not None and (not found or found[0].generation != after):
        raise UnknownMark
    return Page(found[skipped : skipped + limit], len(found) > skipped + limit)


def _summed(
    workspace_id: int,
    span: Span,
    only: Only,
    grouping: str | None = None,
    *,
    labels: dict[str, Any] | None = None,
    by_day: bool = False,
) -> list[Sums]:
    """By the labels of the grouping, or by those given, which its days have too."""
    records = only.of(UsageRecord.objects.filter(workspace_id=workspace_id))
    if labels is None:
        labels = _LABELS[grouping] if grouping else {}
    return summed(records, only.of_days(workspace_id, grouping), span, labels, by_day=by_day)


def _group(one: Sums) -> Group:
    return Group(one.labels, _totals(one), one.figures.first_token_sum_ms, one.figures.first_token_count)


def _totals(one: Sums) -> Totals:
    return Totals(*one.figures[: len(Totals.__struct_fields__)])


def _order(labels: dict[str, Any]) -> tuple[tuple[bool, str], ...]:
    """Texts in their order, what is missing last."""
    return tuple((label is None, label or "") for label in labels.values())
