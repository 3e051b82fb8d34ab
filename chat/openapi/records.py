"""What was used and paid: usage, credits, the calling key, receipts."""

from __future__ import annotations

from typing import Any, Final

from billing.api.objects import LIMITS
from billing.api.reading import DEFAULT_ROWS, MOST_ROWS
from billing.models import Budget
from billing.reports import usage
from chat.openapi.forms import (
    CREDITS,
    FLAG,
    JSON,
    MOMENT,
    TEXT,
    WHOLE,
    Operation,
    Schema,
    described,
    just,
    list_of,
    of,
    one_of,
    or_null,
    page_of,
    shape,
)

TAG: Final = "Usage and credits"
SCOPES: Final = ("usage:read",)

PAGING: Final[dict[str, Schema]] = {
    "limit": {"type": "integer", "minimum": 1, "maximum": MOST_ROWS, "default": DEFAULT_ROWS},
    "after": described(TEXT, "Goes on behind the object of this id."),
}
_TIME: Final = "A date such as 2026-11-25, or a time such as 2026-11-25T10:00:00Z."
_SPAN: Final[dict[str, Schema]] = {"start": described(TEXT, _TIME), "end": described(TEXT, _TIME)}
_TOKENS: Final = (
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "audio_tokens",
    "reasoning_tokens",
)
_LABELS: Final = ("model", "key_id", "key_name", "member_id", "member_name", "user", "day")
"""Of a group of usage, by what it was grouped."""

_TOTALS: Final[dict[str, Schema]] = {
    **dict.fromkeys(("requests", "failed_requests", *_TOKENS), WHOLE),
    "credits_used": CREDITS,
}
_BUCKET: Final[dict[str, Schema]] = {"left": CREDITS, "expires_at": or_null(MOMENT)}
_OF_PLAN: Final[dict[str, Schema]] = {
    "granted": or_null(CREDITS),
    "renews_at": or_null(MOMENT),
    "rolls_over": FLAG,
    "max_rollover": or_null(CREDITS),
}


def schemas() -> dict[str, Schema]:
    return {
        "UsageReport": shape(
            {
                "object": just("usage"),
                "start": MOMENT,
                "end": MOMENT,
                "group_by": or_null(TEXT),
                "data": list_of(shape(_TOTALS, {name: or_null(TEXT) for name in _LABELS})),
                "has_more": FLAG,
                "total": shape(_TOTALS),
            }
        ),
        "RequestRow": _request_row(),
        "CreditsState": shape(
            {
                "object": just("credits"),
                "balance": CREDITS,
                "held": CREDITS,
                "available": CREDITS,
                "buckets": shape(
                    {
                        "plan": shape({**_BUCKET, **_OF_PLAN}),
                        "grants": shape(_BUCKET),
                        "top_ups": shape({"left": CREDITS, "expires_at": {"type": "null"}}),
                    }
                ),
                "next_expiry": or_null(shape(_BUCKET)),
            }
        ),
        "CallingKey": _calling_key(),
        "EffectiveLimits": _effective_limits(),
        "Receipt": _receipt(),
    }


def _request_row() -> Schema:
    return shape(
        {
            "object": just("usage.request"),
            "id": TEXT,
            "timestamp": MOMENT,
            "model": or_null(TEXT),
            "model_asked": or_null(TEXT),
            "api_key_id": TEXT,
            "prompt_tokens": WHOLE,
            "completion_tokens": WHOLE,
            "credits_used": CREDITS,
            "request_id": described(TEXT, "The label of the request."),
            "latency_ms": WHOLE,
            "fallback_depth": WHOLE,
            "is_stream": FLAG,
            "status": WHOLE,
            "end_state": TEXT,
            "error_code": or_null(TEXT),
            "user": or_null(TEXT),
        }
    )


def _calling_key() -> Schema:
    budget = {
        "scope": one_of(*Budget.Scope.values),
        "period": one_of(*Budget.Period.values),
        **dict.fromkeys(("limit", "spent", "held", "available"), CREDITS),
        "started_at": MOMENT,
        "resets_at": or_null(MOMENT),
    }
    return shape(
        {
            "object": just("api_key"),
            "id": TEXT,
            "name": TEXT,
            "hint": TEXT,
            "workspace_id": TEXT,
            "scopes": list_of(TEXT),
            "allowed_addresses": list_of(TEXT),
            "created_at": MOMENT,
            "expires_at": or_null(MOMENT),
            "limits": of("EffectiveLimits"),
            "budgets": list_of(shape(budget)),
            "credits_used": shape({"day": CREDITS, "month": CREDITS}),
        }
    )


def limit_value(name: str) -> Schema:
    """A limit by its name, or null where nothing limits."""
    if name == "allowedModels":
        return or_null(list_of(TEXT))
    return or_null(CREDITS if name.endswith("Credits") else WHOLE)


def _effective_limits() -> Schema:
    source = described(or_null(TEXT), "The layer that the limit comes from.")
    return shape({name: shape({"value": limit_value(name), "source": source}) for name in LIMITS})


def _receipt() -> Schema:
    known_for_a_while: Any = {
        "attempts": list_of({"type": "object"}),
        "adaptations": list_of(TEXT),
        "timings_ms": {"type": "object"},
    }
    line = {"kind": TEXT, "quantity": WHOLE, "unit": TEXT, "unit_price_credits": CREDITS, "amount_credits": CREDITS}
    return shape(
        {
            "object": just("receipt"),
            **dict.fromkeys(("id", "request_id", "workspace_id", "api_key_id"), TEXT),
            "created_at": MOMENT,
            **dict.fromkeys(("model_asked", "model_used", "provider"), or_null(TEXT)),
            "fallback_depth": WHOLE,
            "is_stream": FLAG,
            "status": WHOLE,
            "end_state": TEXT,
            "finish_reason": or_null(TEXT),
            "error_code": or_null(TEXT),
            "usage": shape(dict.fromkeys(_TOKENS, WHOLE)),
            "usage_source": or_null(TEXT),
            "price_version": or_null(WHOLE),
            "lines": list_of(shape(line)),
            "credits_used": CREDITS,
            "overrun_credits": CREDITS,
            **{name: or_null(schema) for name, schema in known_for_a_while.items()},
            "latency_ms": WHOLE,
            "first_token_ms": or_null(WHOLE),
            "signature": shape({"algorithm": TEXT, "key_id": TEXT, "value": TEXT}),
        }
    )


def _read(name: str, path: str, summary: str, answer: Schema | None = None, **more: Any) -> Operation:
    answers = {} if answer is None else {"answers": {JSON: answer}}
    return Operation(id=name, method="GET", path=path, tag=TAG, summary=summary, **{"scopes": SCOPES, **answers, **more})


def operations() -> list[Operation]:
    web_key = shape(dict.fromkeys(("kty", "crv", "x", "kid", "use", "alg"), TEXT))
    rows = {JSON: page_of(of("RequestRow")), "text/csv": TEXT}
    return [
        _read(
            "getUsage",
            "/v1/usage",
            "Requests, tokens and credits of a span, added up.",
            of("UsageReport"),
            query={**_SPAN, "group_by": one_of(*usage.GROUPINGS)},
        ),
        _read(
            "listRequests",
            "/v1/usage/requests",
            "Requests one by one, the newest first; as CSV all of the span.",
            answers=rows,
            query={
                **_SPAN,
                **PAGING,
                "format": described(one_of("json", "csv"), "CSV has all of the span: `limit` and `after` are refused with it."),
            },
        ),
        _read("getCredits", "/v1/credits", "What the workspace has, and what of it expires when.", of("CreditsState")),
        _read("getCallingKey", "/v1/key", "The calling key: what it may do and spend, and what it spent.", of("CallingKey")),
        _read("getReceipt", "/v1/generations/{id}", "What a request cost and why, signed. By its id or label.", of("Receipt")),
        _read(
            "listReceiptKeys",
            "/v1/receipt-keys",
            "What verifies the signatures of receipts, as a JSON Web Key Set.",
            shape({"keys": list_of(web_key)}),
            scopes=(),
            is_public=True,
        ),
    ]
