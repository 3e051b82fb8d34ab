"""Looks at the figures of workspaces, some in each pass and all in turn, and publishes what is to be told.

A pass costs a few queries, however many workspaces there are: with more than MOST_WORKSPACES of them each waits for its turn.
Only the elected process looks, so nobody else writes what was told. What is not of billing is read by the apps above, which
give their readers (`Sources`); one that fails keeps nothing else from being told.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
import structlog
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from billing.alerts.judging import (
    ANSWERS_WITHIN,
    AnswersFact,
    BudgetFact,
    Draft,
    Facts,
    LotFact,
    ModelFact,
    QuotaFact,
    Told,
    judge,
)
from billing.alerts.records import get_fallback_counts
from billing.alerts.terms import MOST_DAYS, terms_of
from billing.ledger.decider import period_start
from billing.ledger.lotbook import brought_up_to_date
from billing.ledger.lots import Lot
from billing.models import AlertBook, ApiKey, Budget, CreditLot, Entry, Membership, Notice, Workspace
from billing.moments import Span
from billing.notices import publish

log = structlog.get_logger(__name__)

T = TypeVar("T")

MOST_WORKSPACES: Final = 500
ANSWERS_EVERY: Final = timedelta(minutes=5)

Reader = Callable[[Sequence[Workspace], datetime], Mapping[int, Sequence[T]]]
"""Gives the facts of these workspaces as of now, by workspace, in a few queries; they come with their plans."""


class Sources(NamedTuple):
    """The readers of the apps above. Without one nothing is known of its facts, and nothing told of them is forgotten."""

    quotas: Reader[QuotaFact] | None = None
    models: Reader[ModelFact] | None = None


_NO_SOURCES: Final = Sources()


class Watch:
    """`look` is one pass. It goes on where the last one of this process ended."""

    def __init__(self, sources: Sources = _NO_SOURCES) -> None:
        self._sources = sources
        self._after = 0
        self._answers: dict[int, AnswersFact] = {}
        self._answers_at: datetime | None = None

    def look(self) -> int:
        """How many notices were published. Raises, after all else is told, what kept a reader from its facts."""
        now = timezone.now()
        workspaces = self._next()
        budgets, lots, answers = _budgets(workspaces, now), _lots(workspaces, now), self._answered(now)
        failures: list[Exception] = []
        quotas = _read("quotas", self._sources.quotas, workspaces, now, failures)
        models = _read("models", self._sources.models, workspaces, now, failures)
        published = 0
        for workspace in workspaces:
            facts = Facts(
                workspace.name,
                workspace.account.posted_microcredits,
                tuple(budgets[workspace.pk]),
                tuple(lots[workspace.pk]),
                _of(quotas, workspace),
                answers.get(workspace.pk, AnswersFact()),
                _of(models, workspace),
            )
            before = _memory(getattr(workspace, "alert_book", None))
            drafts, after = judge(facts, terms_of(getattr(workspace, "alert_terms", None)), before, now)
            if drafts or after != before:
                _keep(workspace, drafts, after)
                published += len(drafts)
        if failures:
            raise failures[0]
        return published

    def _answered(self, now: datetime) -> Mapping[int, AnswersFact]:
        """Of all workspaces that have fallbacks, read again when they are older than ANSWERS_EVERY, whoever's turn it is."""
        if self._answers_at is None or not timedelta() <= now - self._answers_at < ANSWERS_EVERY:
            counts = get_fallback_counts(Span(now - ANSWERS_WITHIN, now))
            self._answers = {workspace_id: AnswersFact(*both) for workspace_id, both in counts.items()}
            self._answers_at = now
        return self._answers

    def _next(self) -> list[Workspace]:
        rows = (
            Workspace.objects.exclude(state=Workspace.State.CLOSED)
            .filter(account__isnull=False)
            .select_related("account", "alert_terms", "alert_book", "plan")
        )
        found = list(rows.filter(pk__gt=self._after).order_by("pk")[:MOST_WORKSPACES])
        if not found and self._after:
            found = list(rows.order_by("pk")[:MOST_WORKSPACES])
        self._after = found[-1].pk if len(found) == MOST_WORKSPACES else 0
        return found


def _read(
    name: str, reader: Reader[T] | None, workspaces: Sequence[Workspace], now: datetime, failures: list[Exception]
) -> Mapping[int, Sequence[T]] | None:
    """None if there is none, or it failed."""
    try:
        return None if reader is None else reader(workspaces, now)
    except Exception as error:
        log.exception("facts for alerts could not be read", source=name)
        failures.append(error)
        return None


def _of(facts: Mapping[int, Sequence[T]] | None, workspace: Workspace) -> tuple[T, ...] | None:
    return None if facts is None else tuple(facts.get(workspace.pk, ()))


def _keep(workspace: Workspace, drafts: Iterable[Draft], after: Mapping[str, Told]) -> None:
    with transaction.atomic():
        for draft in drafts:
            publish(
                workspace,
                Notice.Kind(draft.kind),
                title=draft.title,
                text=draft.text,
                data=draft.data,
                place=draft.place,
                owner_id=draft.owner_id,
            )
        AlertBook.objects.update_or_create(workspace=workspace, defaults={"subjects": msgspec.to_builtins(after)})


def _memory(book: AlertBook | None) -> dict[str, Told]:
    return {} if book is None else msgspec.convert(book.subjects, dict[str, Told])


def _budgets(workspaces: list[Workspace], now: datetime) -> Mapping[int, list[BudgetFact]]:
    """The budgets of workspaces, their members and their keys, by workspace."""
    own = {workspace.pk: workspace for workspace in workspaces}
    members = Membership.objects.filter(workspace__in=own, removed_at__isnull=True)
    keys = ApiKey.objects.filter(workspace__in=own, revoked_at__isnull=True)
    rows = list(
        Budget.objects.filter(
            Q(scope=Budget.Scope.WORKSPACE, scope_id__in=own)
            | Q(scope=Budget.Scope.MEMBER, scope_id__in=members.values("pk"))
            | Q(scope=Budget.Scope.KEY, scope_id__in=keys.filter(family__isnull=True).values("pk"))
            | Q(scope=Budget.Scope.KEY, scope_id__in=keys.filter(family__isnull=False).values("family"))
        )
    )
    ids = {scope: {row.scope_id for row in rows if row.scope == scope} for scope in Budget.Scope}
    people = {member.pk: member for member in members.filter(pk__in=ids[Budget.Scope.MEMBER]).select_related("user")}
    of_family = Q(pk__in=ids[Budget.Scope.KEY]) | Q(family__in=ids[Budget.Scope.KEY])
    # Of a family that was rolled the newest key stands for all.
    families = {key.first_id: key for key in keys.filter(of_family).order_by("pk")} if ids[Budget.Scope.KEY] else {}
    facts: dict[int, list[BudgetFact]] = defaultdict(list)
    for row in rows:
        owner_id: int | None = None
        if row.scope == Budget.Scope.WORKSPACE:
            workspace_id, name, public_id = row.scope_id, own[row.scope_id].name, own[row.scope_id].public_id
        elif row.scope == Budget.Scope.MEMBER and row.scope_id in people:
            member = people[row.scope_id]
            workspace_id, name, public_id = member.workspace_id, member.user.get_username(), member.public_id
            owner_id = member.pk
        elif row.scope == Budget.Scope.KEY and row.scope_id in families:
            key = families[row.scope_id]
            workspace_id, name, public_id, owner_id = key.workspace_id, key.name, key.public_id, key.owner_id
        else:
            continue  # It ended between two queries.
        # A period that is over was not rolled over yet if nothing was spent since.
        is_running = row.period_started_at >= period_start(row.period, now)
        spent = row.spent_microcredits if is_running else 0
        facts[workspace_id].append(
            BudgetFact(row.pk, row.scope, name, public_id, row.period, row.limit_microcredits, spent, owner_id)
        )
    return facts


def _lots(workspaces: list[Workspace], now: datetime) -> Mapping[int, list[LotFact]]:
    """The credit that expires within MOST_DAYS, by workspace, with what is left of it now."""
    accounts = {workspace.account.pk: workspace for workspace in workspaces}
    soon = Q(expires_at__gt=now, expires_at__lte=now + timedelta(days=MOST_DAYS), left_microcredits__gt=0)
    concerned = set(CreditLot.objects.filter(soon, account__in=accounts).values_list("account_id", flat=True))
    written: dict[int, list[tuple[Lot, str]]] = defaultdict(list)
    columns = ("account_id", "pk", "left_microcredits", "expires_at", "entry__kind")
    live: Any = CreditLot.objects.filter(account__in=concerned, left_microcredits__gt=0).order_by("pk").values_list(*columns)
    for account_id, pk, left, expires_at, kind in live:
        written[account_id].append((Lot(pk, left, expires_at), kind))
    facts: dict[int, list[LotFact]] = {}
    for account_id, lots in written.items():
        workspace = accounts[account_id]
        kinds = {lot.id: kind for lot, kind in lots}
        now_left = brought_up_to_date([lot for lot, _ in lots], workspace.account, now)
        facts[workspace.pk] = [
            LotFact(lot.id, Entry.Kind(kinds[lot.id]).label, lot.left, lot.expires_at)
            for lot in now_left
            if lot.expires_at is not None and not lot.is_over(now)
        ]
    return defaultdict(list, facts)
