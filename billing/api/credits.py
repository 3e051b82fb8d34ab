"""`GET /v1/credits` and `GET /v1/key`: what a workspace has, and what the calling key may spend and has spent.

Amounts are credits, as exact JSON numbers. Times are UTC.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from django.http import HttpResponse
from django.utils import timezone
from rest_framework.request import Request

from billing import quotas
from billing.api.authentication import principal_of
from billing.api.objects import effective_limits
from billing.api.reading import ReadView, answer, credits_number, owner_of, permitted
from billing.models import ApiKey
from billing.moments import moment_text
from billing.permissions import Action
from billing.reports import buckets, credits


class Credits(ReadView):
    """The balance, and the buckets it lies in, which sum to it: what expires first is spent first."""

    def get(self, request: Request) -> HttpResponse:
        principal = principal_of(request)
        permitted(principal, Action.READ_CREDITS)
        found = buckets.get_buckets(principal.account_id, timezone.now())
        return answer(
            {
                "object": "credits",
                "balance": credits_number(found.balance.posted_microcredits),
                "held": credits_number(found.balance.held_microcredits),
                "available": credits_number(found.balance.available_microcredits),
                "buckets": _buckets_object(found),
                "next_expiry": _bucket_object(found.first) if found.first.expires_at is not None else None,
            }
        )


class CallingKey(ReadView):
    """The key that calls: what it may do, what limits it and from where, and what it spent.

    What the whole workspace spends is not for whose owner may see his own alone.
    """

    def get(self, request: Request) -> HttpResponse:
        principal = principal_of(request)
        is_own = owner_of(principal, Action.READ_BUDGETS) is not None
        spend = credits.get_key_spend(principal.workspace_id, principal.api_key_id, timezone.now())
        return answer(
            {
                "object": "api_key",
                **_key_object(spend.key),
                "limits": effective_limits(quotas.of_key(spend.key)),
                "budgets": [_budget_object(budget) for budget in spend.budgets if not (is_own and budget.scope == "workspace")],
                "credits_used": {
                    "day": credits_number(spend.day_microcredits),
                    "month": credits_number(spend.month_microcredits),
                },
            }
        )


def _buckets_object(found: buckets.Buckets) -> dict[str, Any]:
    terms = found.terms
    return {
        "plan": {
            **_bucket_object(found.plan),
            "granted": _credits_or_null(terms.granted_microcredits),
            "renews_at": _moment_or_null(terms.renews_at),
            "rolls_over": terms.has_rollover,
            "max_rollover": _credits_or_null(terms.max_rollover_microcredits),
        },
        "grants": _bucket_object(found.grants),
        "top_ups": {"left": credits_number(found.top_ups_microcredits), "expires_at": None},
    }


def _bucket_object(bucket: buckets.Bucket) -> dict[str, Any]:
    return {"left": credits_number(bucket.left_microcredits), "expires_at": _moment_or_null(bucket.expires_at)}


def _key_object(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.public_id,
        "name": key.name,
        "hint": key.hint,
        "workspace_id": key.workspace.public_id,
        "scopes": key.scopes,
        "allowed_addresses": key.allowed_addresses,
        "created_at": moment_text(key.created_at),
        "expires_at": _moment_or_null(key.expires_at),
    }


def _budget_object(budget: credits.BudgetState) -> dict[str, Any]:
    return {
        "scope": budget.scope,
        "period": budget.period,
        "limit": credits_number(budget.limit_microcredits),
        "spent": credits_number(budget.spent_microcredits),
        "held": credits_number(budget.held_microcredits),
        "available": credits_number(budget.available_microcredits),
        "started_at": moment_text(budget.started_at),
        "resets_at": _moment_or_null(budget.resets_at),
    }


def _credits_or_null(amount_microcredits: int | None) -> Decimal | None:
    return None if amount_microcredits is None else credits_number(amount_microcredits)


def _moment_or_null(at: datetime | None) -> str | None:
    return None if at is None else moment_text(at)
