"""The request log: every request that a key authenticated, failed ones too, and each with its receipt."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import msgspec
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render as render_template
from django.utils import timezone

from billing import receipts
from billing.console.shell import render
from billing.console.visits import Visit, visiting
from billing.ledger.decider import period_start
from billing.models import ApiKey, UsageRecord
from billing.moments import Span, moment
from billing.permissions import Action
from billing.pricing import microcredits
from billing.reports import usage
from chat.console import words
from chat.schema.delivery import EndState

AT = "console-log"
PAGE_ROWS = 50
DAYS = {"1": "Today", "7": "7 days", "30": "30 days"}
STATES = {"": "All", "ok": "Answered", "failed": "Failed", "fallback": "Fallback"}
MOST_TEXT = 128
AXIS_STEPS = 5

# As `GET /v1/generations/{id}` has it: the signature is over exactly these numbers.
_encode = msgspec.json.Encoder(decimal_format="number").encode


@visiting(GET=Action.READ_USAGE)
def log(request: HttpRequest, visit: Visit) -> HttpResponse:
    now = timezone.now()
    days, only = _asked(request, visit)
    span = Span(period_start("day", now) - timedelta(days=int(days) - 1), now)
    after = request.GET.get("after") or None
    try:
        page = usage.list_requests(visit.workspace.pk, span, limit=PAGE_ROWS, after=after, only=only)
    except usage.UnknownMark:
        raise Http404 from None
    keys = ApiKey.objects.filter(workspace=visit.workspace)
    if only.owner_id is not None:
        keys = keys.filter(owner_id=only.owner_id)
    context = {
        "rows": page.rows,
        "has_more": page.has_more,
        "is_first": after is None,
        "days": days,
        "periods": list(DAYS.items()),
        "state": only.state,
        "states": list(STATES.items()),
        "key": only.key,
        "keys": list(keys.order_by("name", "pk").values_list("public_id", "name", "hint")),
        "model": only.model,
        "q": only.reference,
        "is_filtered": bool(only.key or only.model or only.reference or only.state),
        "newest": page.rows[0].generation if page.rows and after is None else "",
    }
    return render(request, visit, "console/log.html", context, at=AT)


@visiting(GET=Action.READ_USAGE)
def newer(request: HttpRequest, visit: Visit) -> HttpResponse:
    """How many requests of the page's filters came since the newest that it shows: a line that is asked for again and again."""
    _, only = _asked(request, visit)
    mark = request.GET.get("since", "")
    own = only.of(UsageRecord.objects.filter(workspace=visit.workspace))
    shown = own.filter(generation=mark).values("created_at", "pk").first() if mark.isprintable() else None
    if shown is None:
        raise Http404
    since = Q(created_at__gt=shown["created_at"]) | Q(created_at=shown["created_at"], pk__gt=shown["pk"])
    count = own.filter(since, created_at__gte=shown["created_at"])[: PAGE_ROWS * 2].count()
    return render_template(request, "console/newer.html", {"count": count, "most": PAGE_ROWS * 2})


@visiting(GET=Action.READ_USAGE)
def detail(request: HttpRequest, visit: Visit, generation: str) -> HttpResponse:
    receipt = receipts.get_receipt(visit.workspace.pk, generation)
    if receipt is None or receipt["id"] != generation:
        raise Http404
    owner = visit.owner_of(Action.READ_USAGE)
    keys = ApiKey.objects.filter(public_id=receipt["api_key_id"]).select_related("owner__user")
    key = (keys if owner is None else keys.filter(owner=owner)).first()
    if key is None:
        raise Http404
    if "receipt" in request.GET:
        response = HttpResponse(_encode(receipt), content_type="application/json")
        response["content-disposition"] = f'attachment; filename="{generation}.json"'
        return response
    state = EndState(receipt["end_state"])
    attempts = receipt["attempts"] or []
    total_ms = max(1, receipt["latency_ms"])
    context = {
        "receipt": receipt,
        "key": key,
        "at": moment(receipt["created_at"]),
        "end": words.ENDS[state],
        "ends": [(words.ENDS[end][0], end == state) for end in _ends(state)],
        "is_good": state in {EndState.DONE, EndState.LENGTH, EndState.DRY_RUN, EndState.REPLAYED},
        "lines": [_line(line) for line in receipt["lines"]],
        "charged": microcredits(receipt["credits_used"]),
        "attempts": _waterfall(attempts, total_ms, receipt["first_token_ms"]),
        "failed_attempts": len([one for one in attempts if one.get("result") != "served"]),
        "axis": _axis(total_ms),
        "adaptations": [(text, words.adaptation(text)) for text in receipt["adaptations"] or []],
        "is_traced": receipt["timings_ms"] is not None,
        "gateway_ms": max(0, total_ms - (receipt["timings_ms"] or {}).get("upstream", 0)),
        "speed": _speed(receipt),
    }
    return render(request, visit, "console/request.html", context, at=AT)


def _asked(request: HttpRequest, visit: Visit) -> tuple[str, usage.Only]:
    """Days back, and the filters of the page. Raises Http404 for what no link of ours says."""
    days, state = request.GET.get("days", "7"), request.GET.get("state", "")
    texts = {name: request.GET.get(name, "").strip()[:MOST_TEXT] for name in ("key", "model", "q", "after")}
    if days not in DAYS or state not in STATES or not all(text.isprintable() for text in texts.values()):
        raise Http404
    owner = visit.owner_of(Action.READ_USAGE)
    only = usage.Only(
        owner_id=owner.pk if owner else None, key=texts["key"], model=texts["model"], state=state, reference=texts["q"]
    )
    return days, only


def _line(line: Mapping[str, Any]) -> dict[str, Any]:
    """A line of the receipt in words, amounts in microcredits."""
    unit = {"million_tokens": "per million", "page": "each"}.get(line["unit"], "")
    return {
        "name": words.RECEIPT_LINES.get(line["kind"], line["kind"]),
        "quantity": line["quantity"],
        "unit": unit,
        "price": microcredits(line["unit_price_credits"]),
        "amount": microcredits(line["amount_credits"]),
    }


def _ends(state: EndState) -> tuple[EndState, ...]:
    return words.STREAM_ENDS if state in words.STREAM_ENDS else (*words.STREAM_ENDS[:-1], state)


def _waterfall(attempts: list[dict[str, Any]], total_ms: int, first_token_ms: int | None) -> list[dict[str, Any]]:
    """Each attempt with its bar, in hundredths of the whole time, and why the next one followed."""
    rows = []
    for place, one in enumerate(attempts):
        started, took = one.get("started_ms", 0), one.get("duration_ms", 0)
        is_served = one.get("result") == "served"
        # Counted from when the request came, as the start is.
        first = one.get("first_token_ms", first_token_ms if is_served else None)
        waited = took if first is None else max(0, min(took, first - started))
        following = attempts[place + 1]["model"] if place + 1 < len(attempts) else ""
        rows.append(
            {
                "number": place + 1,
                "provider": one.get("provider", ""),
                "model": one.get("model", ""),
                "upstream": one.get("upstream_model", ""),
                "is_served": is_served,
                "result": one.get("result", ""),
                "status": one.get("upstream_status"),
                "took": took,
                "waited": waited,
                "x": _part(started, total_ms),
                "waiting": _part(waited, total_ms),
                "running_x": _part(started + waited, total_ms),
                "running": _part(took - waited, total_ms),
                "why": "" if is_served else words.why(one.get("result", ""), one.get("upstream_status"), moves=following),
            }
        )
    return rows


def _part(milliseconds: int, total_ms: int) -> str:
    hundredths = min(10_000, milliseconds * 10_000 // total_ms)
    return f"{hundredths // 100}.{hundredths % 100:02d}"


def _axis(total_ms: int) -> list[tuple[str, int]]:
    """Where the marks of the time stand, and what each says."""
    step = next(size for size in _steps() if total_ms / size <= AXIS_STEPS)
    return [(_part(at, total_ms), at) for at in range(0, total_ms, step)]


def _steps() -> Any:
    size = 1
    while True:
        yield from (size, size * 2, size * 5)
        size *= 10


def _speed(receipt: Mapping[str, Any]) -> int | None:
    """Tokens a second after the first one."""
    first, tokens = receipt["first_token_ms"], receipt["usage"]["completion_tokens"]
    if first is None or not tokens or receipt["latency_ms"] <= first:
        return None
    return int(tokens * 1000 // (receipt["latency_ms"] - first))
