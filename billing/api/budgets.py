"""`/api/workspaces/{id}/budgets`: what the workspace, its members and its keys may spend in a period."""

from __future__ import annotations

from typing import Any

from django.db.models import Q, QuerySet
from django.http import HttpResponse
from django.utils import timezone
from rest_framework.request import Request

from billing import budgets
from billing.api.bodies import BudgetBody
from billing.api.managing import ManagementView, found, page
from billing.api.objects import budget_object
from billing.api.reading import answer
from billing.errors import InvalidValue, NotPermitted
from billing.members import list_members
from billing.models import ApiKey, Budget, Membership, Workspace
from billing.models.keys import FIRST_ID
from billing.permissions import Action, Grant


class Budgets(ManagementView):
    actions = {"GET": Action.READ_BUDGETS, "PUT": Action.SET_BUDGETS}

    def get(self, request: Request, workspace_id: str) -> HttpResponse:
        is_own = self.caller.permit(Action.READ_BUDGETS) is Grant.OWN
        rows = budgets.list_budgets(self.caller.workspace, of_member=self.caller.member if is_own else None)
        return page(request, rows, _shown)

    def put(self, request: Request, workspace_id: str) -> HttpResponse:
        """Sets the one budget of this scope and period; a limit of null takes it away, but for what staff set."""
        values = self.fields(request, BudgetBody)
        subject = self._subject(values["scope"], values.get("scope_id"))
        period = Budget.Period(values["period"])
        limit_microcredits = values["limit"]
        is_bound = isinstance(subject, Workspace) or self.caller.permit(Action.SET_BUDGETS) is Grant.OWN
        budget = budgets.set_budget(
            subject, period=period, limit_microcredits=limit_microcredits, actor=self.caller.actor, is_bound=is_bound
        )
        if budget is None:
            return answer({"object": "budget", "scope": values["scope"], "scope_id": subject.public_id, "limit": None})
        return answer(budget_object(budget, subject.public_id, timezone.now()))

    def _subject(self, scope: str, public_id: str | None) -> budgets.Subject:
        """What is to be limited. Who may set budgets of his own keys only may not set his own, or the workspace's."""
        workspace, is_own = self.caller.workspace, self.caller.permit(Action.SET_BUDGETS) is Grant.OWN
        if is_own and scope != Budget.Scope.KEY:
            raise NotPermitted
        if scope == Budget.Scope.WORKSPACE:
            if public_id not in {None, workspace.public_id}:
                raise InvalidValue("scope_id must be the id of this workspace, or left out.", "scope_id")
            return workspace
        if public_id is None:
            raise InvalidValue(f"scope_id must be the id of a {scope}.", "scope_id")
        if scope == Budget.Scope.MEMBER:
            return found(list_members(workspace).select_related("workspace"), public_id)
        keys: QuerySet[ApiKey] = workspace.api_keys.select_related("workspace")
        return found(keys.filter(owner=self.caller.member) if is_own else keys, public_id)


def _shown(rows: list[Budget]) -> list[dict[str, Any]]:
    """One query for the names of each kind of subject."""
    names = {scope: _names(scope, [row.scope_id for row in rows if row.scope == scope]) for scope in Budget.Scope.values}
    now = timezone.now()
    return [budget_object(row, names[row.scope][row.scope_id], now) for row in rows]


def _names(scope: str, ids: list[int]) -> dict[int, str]:
    """The public ids of what has budgets; a family of keys goes by its newest one."""
    if not ids:
        return {}
    if scope == Budget.Scope.KEY:
        keys = ApiKey.objects.filter(Q(pk__in=ids) | Q(family__in=ids)).order_by("pk")
        return dict(keys.values_list(FIRST_ID, "public_id"))
    model = Membership if scope == Budget.Scope.MEMBER else Workspace
    return dict(model._default_manager.filter(pk__in=ids).values_list("pk", "public_id"))
