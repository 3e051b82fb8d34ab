"""Credits: what there is and of what kind, how long it lasts, the ledger, entry by entry, and codes that give more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from decimal import Decimal

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib import messages
from django.core import signing
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from billing import redemption
from billing.console.figures import price_text
from billing.console.shell import render
from billing.console.visits import Visit, sent, visiting
from billing.models import Account, Entry
from billing.moments import moment_text
from billing.payments import provider
from billing.permissions import Action
from billing.pricing import credits_text
from billing.reports.buckets import get_buckets
from billing.reports.export import csv_text
from billing.reports.ledger_pages import Mark, get_ledger_page
from billing.reports.statements import StatementLine

AT = "console-credits"
PAGE_ROWS = 50
EXPORT_ROWS = 2_000
PERIODS = {"7": "7 days", "30": "30 days", "90": "90 days", "all": "All"}
CSV_HEAD = ("time", "kind", "credits", "balance", "request", "by", "reason", "expires")


@visiting(GET=Action.READ_CREDITS)
def credits(request: HttpRequest, visit: Visit) -> HttpResponse:
    return shown(request, visit)


@visiting(POST=Action.TOP_UP_CREDITS)
def redeem(request: HttpRequest, visit: Visit) -> HttpResponse:
    """The credit of a code; what was wrong with it stands below its field."""
    text = sent(request, "code")["code"]
    try:
        made = redemption.redeem(visit.workspace, text, actor=visit.actor)
    except redemption.TooManyWrongCodes as refusal:
        return shown(request, visit, code=text, error=str(refusal), status=429)
    except redemption.CodeRefused as refusal:
        return shown(request, visit, code=text, error=str(refusal), status=400)
    messages.success(request, f"{credits_text(made.entry.amount_microcredits)} credits were added.")
    return redirect(AT, visit.workspace.public_id)


def shown(
    request: HttpRequest,
    visit: Visit,
    *,
    code: str = "",
    error: str = "",
    chosen: str = "",
    own: str = "",
    top_up_error: str = "",
    status: int = 200,
) -> HttpResponse:
    """The page, with what was wrong with a form of it."""
    now = timezone.now()
    period, since = _period(request, now)
    after = _mark_of(request, visit.account)
    page = get_ledger_page(visit.account, since=since, limit=PAGE_ROWS, after=after)
    context = {
        "buckets": get_buckets(visit.account.pk, now),
        "older": signed_mark(page.mark, visit.account) if page.mark else "",
        "lines": [(line, Entry.Kind(line.kind).label) for line in page.lines],
        "periods": list(PERIODS.items()),
        "period": period,
        "is_first": after is None,
        "code": code,
        "error": error,
        "chosen": chosen or str(settings.TOP_UP_PRESETS_CREDITS[0]),
        "own": own,
        "top_up_error": top_up_error,
        "top_ups": _top_ups() if provider.is_configured() else None,
    }
    return render(request, visit, "console/credits.html", context, at=AT, status=status)


def _top_ups() -> list[tuple[int, str]]:
    """The sums that are offered, with their prices."""
    units, currency = settings.STRIPE_UNITS_PER_CREDIT, settings.STRIPE_CURRENCY
    return [(credits, price_text(credits * units, currency)) for credits in settings.TOP_UP_PRESETS_CREDITS]


@visiting(GET=Action.READ_CREDITS)
def export(request: HttpRequest, visit: Visit) -> StreamingHttpResponse:
    """The ledger of the period, as the page has it."""
    _, since = _period(request, timezone.now())
    response = StreamingHttpResponse(_csv_parts(visit.account, since), content_type="text/csv; charset=utf-8")
    response["content-disposition"] = 'attachment; filename="ledger.csv"'
    return response


async def _csv_parts(account: Account, since: datetime | None) -> AsyncIterator[str]:
    yield csv_text([CSV_HEAD])
    after: Mark | None = None
    while True:
        page = await sync_to_async(get_ledger_page)(account, since=since, limit=EXPORT_ROWS, after=after)
        yield csv_text(_csv_row(line) for line in page.lines)
        if page.mark is None:
            return
        after = page.mark


def _csv_row(line: StatementLine) -> tuple[str | Decimal, ...]:
    """As CSV_HEAD has it."""
    return (
        moment_text(line.created_at),
        line.kind,
        Decimal(credits_text(line.amount_microcredits)),
        Decimal(credits_text(line.balance_microcredits)),
        line.generation,
        line.actor,
        line.reason,
        moment_text(line.expires_at) if line.expires_at else "",
    )


def _period(request: HttpRequest, now: datetime) -> tuple[str, datetime | None]:
    period = request.GET.get("period", "30")
    if period not in PERIODS:
        raise Http404
    return period, None if period == "all" else now - timedelta(days=int(period))


def signed_mark(mark: Mark, account: Account) -> str:
    """For the address of the next page: the balance in it is ours, so nobody can send a link that tells another one."""
    return _signer(account).sign(f"{mark.entry_id}.{mark.balance_microcredits}")


def _mark_of(request: HttpRequest, account: Account) -> Mark | None:
    """Where the page of the address begins. Raises Http404 for what no page of this account has ever named."""
    after = request.GET.get("after", "")
    if not after:
        return None
    try:
        return Mark(*map(int, _signer(account).unsign(after).split(".")))
    except signing.BadSignature:
        raise Http404 from None


def _signer(account: Account) -> signing.Signer:
    return signing.Signer(salt=f"billing.console.credits.mark.{account.pk}")
