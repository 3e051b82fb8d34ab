"""Requests that were served, as rows: for tests of what is read about them."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

from billing.ledger.transfers import open_account
from billing.models import Account, Entry, Hold, RequestTrace, UsageRecord
from tests.worlds import World

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)

_numbers = itertools.count(1)


def add_record(world: World, **fields: Any) -> UsageRecord:
    """A usage record without entry and hold, by default of a good request at noon that cost nothing."""
    number = next(_numbers)
    values: dict[str, Any] = {
        "generation": f"chatcmpl-{number:08d}",
        "request_id": f"req-{number}",
        "workspace": world.workspace,
        "api_key": world.key,
        "created_at": NOON,
        "model_asked": "gpt-4o",
        "model_used": "gpt-4o",
        "provider": "openai",
        "price_version_id": 7,
        "prompt_tokens": 10,
        "completion_tokens": 4,
        "usage_source": "reported",
        "status": 200,
        "end_state": "done",
        "finish_reason": "stop",
        "latency_ms": 120,
    }
    return UsageRecord.objects.create(**(values | fields))


def add_refusal(world: World, **fields: Any) -> UsageRecord:
    """A record of a request that was refused before any model was called."""
    values = {"model_used": "", "provider": "", "price_version_id": None, "prompt_tokens": 0, "completion_tokens": 0}
    return add_record(
        world, **(values | {"status": 404, "end_state": "refused", "usage_source": "", "finish_reason": ""} | fields)
    )


def add_charge(world: World, amount_microcredits: int, **fields: Any) -> UsageRecord:
    """A record as a settlement leaves it, with hold, entry, line and trace."""
    line = {
        "kind": "output",
        "quantity": 4,
        "unit": "million_tokens",
        "unit_price_microcredits": 250_000_000,
        "amount_microcredits": amount_microcredits,
    }
    record = add_record(world, charged_microcredits=amount_microcredits, **({"lines": [line]} | fields))
    account = open_account(world.workspace)
    hold = Hold.objects.create(
        account=account,
        api_key=world.key,
        generation=record.generation,
        sequence=1,
        amount_microcredits=amount_microcredits,
        settled_microcredits=amount_microcredits,
        state=Hold.State.SETTLED,
        price_version_id=7,
        created_at=record.created_at,
        lease_expires_at=record.created_at + timedelta(seconds=90),
        closed_at=record.created_at,
    )
    Entry.objects.create(
        debit_account=account,
        credit_account=Account.objects.get(kind=Account.Kind.REVENUE),
        amount_microcredits=amount_microcredits,
        kind=Entry.Kind.USAGE,
        generation=record.generation,
        hold=hold,
        idempotency_key=f"usage:{record.generation}",
        actor="gateway",
        created_at=record.created_at,
    )
    account.posted_microcredits -= amount_microcredits
    account.save()
    RequestTrace.objects.create(
        generation=record.generation,
        created_at=record.created_at,
        attempts=[{"model": "gpt-4o", "provider": "openai", "upstream_model": "gpt-4o-2024-11-20", "result": "served"}],
        adaptations=["dropped=top_k"],
        timings_ms={"total": 120, "upstream": 100},
    )
    return record
