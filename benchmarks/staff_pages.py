"""`python -m benchmarks.staff_pages ROWS`: fills the tables, asks the pages, prints what each took as one line of JSON.

Pages of the staff admin are asked as a superuser, those of the console as the owner of the workspace that has nine of ten
requests. Caches are empty for every try.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any

import django
import msgspec

from benchmarks.staff_rows import Filled, fill

TRIES = 3
ENOUGH_MS = 10_000
"""A page that takes longer is asked once."""


class PageRow(msgspec.Struct, frozen=True):
    name: str
    median_ms: float
    most_ms: float
    cpu_ms: float
    """Of this process: on SQLite all of it, on PostgreSQL without the database."""
    queries: int


def main(rows: int) -> None:
    django.setup()
    filled = fill(rows)
    sys.stdout.write(msgspec.json.encode(ask(filled)).decode() + "\n")


def ask(filled: Filled) -> list[PageRow]:
    """Every page in turn, as whom it is for."""
    from django.contrib.auth.models import User  # noqa: PLC0415 - models, which can be imported only now
    from django.test import Client  # noqa: PLC0415

    from tests.api.admin.pages import sign_in  # noqa: PLC0415

    staff, owner = Client(SERVER_NAME="localhost"), Client(SERVER_NAME="localhost")
    sign_in(staff, User.objects.get_or_create(username="ada", is_staff=True, is_superuser=True)[0])
    owner.force_login(User.objects.get(username=filled.owner))
    pages = [_timed(staff, name, path) for name, path in _staff_pages(filled.rows)]
    return [*pages, *(_timed(owner, f"console: {name}", path) for name, path in _console_pages(filled))]


def _staff_pages(rows: int) -> Iterator[tuple[str, str]]:
    from billing.models import AuditEvent, Entry, Hold, UsageRecord  # noqa: PLC0415

    usage, ledger, holds = "/admin/billing/usagerecord/", "/admin/billing/entry/", "/admin/billing/hold/"
    middle = UsageRecord.objects.get(generation=f"chatcmpl-{rows // 2 + 1}")
    entry, hold = Entry.objects.get(generation=middle.generation), Hold.objects.get(generation=middle.generation)
    event = AuditEvent.objects.get(pk=AuditEvent.objects.latest("pk").pk - rows // 2)
    at = middle.created_at
    day = f"created_at__year={at.year}&created_at__month={at.month}&created_at__day={at.day}"
    month = f"created_at__year={at.year}&created_at__month={at.month}"
    span = f"created_at_from_0={at:%Y-%m-%d}&created_at_from_1=00:00:00&created_at_to_0={at:%Y-%m-%d}&created_at_to_1=23:00:00"
    found = f"req-{rows // 3}"
    yield "requests, newest", usage
    yield "requests, half way back", f"{usage}?before={middle.pk}"
    yield "requests, a day", f"{usage}?{day}"
    yield "requests, a month", f"{usage}?{month}"
    yield "requests, a span of hours", f"{usage}?{span}"
    yield "requests, of a workspace", f"{usage}?workspace__id__exact={middle.workspace_id}"
    yield "requests, of a key, half way back", f"{usage}?api_key__id__exact={middle.api_key_id}&before={middle.pk}"
    yield "requests, of a model", f"{usage}?model_used=model-3"
    yield "requests, of a model that is none", f"{usage}?model_used=nothing"
    yield "requests, of an error", f"{usage}?error_code=upstream_error"
    yield "requests, of a day and an error that is none", f"{usage}?{day}&error_code=nothing"
    yield "requests, found by request id", f"{usage}?q={found}"
    yield "requests, found by generation", f"{usage}?q=chatcmpl-{rows // 3}"
    yield "requests, an id that is none", f"{usage}?q=nothing"
    yield (
        "requests, a day of a workspace as CSV",
        f"{usage}export/?{span}&workspace__id__exact={middle.workspace_id}&is_stream__exact=1",
    )
    yield "requests, all as CSV (refused)", f"{usage}export/"
    yield "a request", f"{usage}{middle.pk}/change/"
    yield "ledger, newest", ledger
    yield "ledger, half way back", f"{ledger}?before={entry.pk}"
    yield "ledger, a day", f"{ledger}?{day}"
    yield "ledger, grants", f"{ledger}?kind__exact=grant"
    yield "ledger, of an actor who is nobody", f"{ledger}?actor=nobody"
    yield "ledger, found by request id", f"{ledger}?q={found}"
    yield "holds, newest", holds
    yield "holds, half way back", f"{holds}?before={hold.pk}"
    yield "holds, a day", f"{holds}?{day}"
    yield "holds, open", f"{holds}?state__exact=open"
    yield "holds, of a workspace", f"{holds}?account__workspace__id__exact={middle.workspace_id}"
    yield "holds, found by request id", f"{holds}?q={found}"
    yield "audit trail, newest", "/admin/billing/auditevent/"
    yield "audit trail, half way back", f"/admin/billing/auditevent/?before={event.pk}"
    yield "audit trail, of an actor", "/admin/billing/auditevent/?q=staff:7"
    yield "audit trail, of an actor who is nobody", "/admin/billing/auditevent/?q=nobody"
    yield "workspaces", "/admin/billing/workspace/"
    yield "a workspace", f"/admin/billing/workspace/{middle.workspace_id}/change/"
    yield "keys", "/admin/billing/apikey/"
    yield "accounts", "/admin/billing/account/"
    for period in ("24h", "7d", "30d"):
        yield f"overview, {period}", f"/admin/?period={period}"


def _console_pages(filled: Filled) -> Iterator[tuple[str, str]]:
    from billing.console.credits import signed_mark  # noqa: PLC0415
    from billing.models import Account, Entry  # noqa: PLC0415
    from billing.reports.ledger_pages import Mark  # noqa: PLC0415

    room, rows = f"/console/{filled.workspace}", filled.rows
    account = Account.objects.get(workspace__public_id=filled.workspace)
    middle = Mark(Entry.objects.get(generation=f"chatcmpl-{rows // 2 + 1}").pk, 0)
    yield "overview", f"{room}/overview"
    yield "keys", f"{room}/keys"
    yield "a key", f"{room}/keys/{filled.key}"
    for grouping in ("model", "key", "member", "user"):
        yield f"usage of the month by {grouping}", f"{room}/usage?by={grouping}"
    yield "usage of 90 days by model", f"{room}/usage?period=90"
    yield "usage of 7 days by model", f"{room}/usage?period=7"
    yield "usage of 30 days as CSV", f"{room}/usage/export?period=30"
    yield "log", f"{room}/log"
    yield "log, 30 days, half way back", f"{room}/log?days=30&after=chatcmpl-{rows // 2 + 1}"
    yield "log, failed", f"{room}/log?days=30&state=failed"
    yield "log, of a key", f"{room}/log?days=30&key={filled.key}"
    yield "log, of a model", f"{room}/log?days=30&model=model-3"
    yield "log, of a model that is none", f"{room}/log?days=30&model=nothing"
    yield "log, found by id", f"{room}/log?days=30&q=req-{rows // 3 + 1}"
    yield "log, an id that is none", f"{room}/log?days=30&q=nothing"
    yield "a request", f"{room}/log/chatcmpl-{rows // 3 + 1}"
    yield "credits", f"{room}/credits"
    yield "credits, all", f"{room}/credits?period=all"
    yield "credits, half way back", f"{room}/credits?period=all&after={signed_mark(middle, account)}"
    for place in ("limits", "members", "models", "files", "settings", "audit", "playground"):
        yield place, f"{room}/{place}"


def _timed(client: Any, name: str, path: str) -> PageRow:
    from django.core.cache import cache  # noqa: PLC0415
    from django.db import connection  # noqa: PLC0415
    from django.test.utils import CaptureQueriesContext  # noqa: PLC0415

    times: list[float] = []
    cpu_times: list[float] = []
    queries = 0
    while len(times) < TRIES and sum(times) < ENOUGH_MS:
        cache.clear()
        with CaptureQueriesContext(connection) as captured:
            started, cpu_started = time.perf_counter(), time.process_time()
            response = client.get(path)
            if response.streaming:
                b"".join(response.streaming_content)
            times.append((time.perf_counter() - started) * 1000)
            cpu_times.append((time.process_time() - cpu_started) * 1000)
        assert response.status_code in {200, 302}, (path, response.status_code)
        queries = len(captured)
    row = PageRow(name, statistics.median(times), max(times), statistics.median(cpu_times), queries)
    sys.stderr.write(f"    {row.median_ms:8.1f} ms, {row.cpu_ms:8.1f} ms of CPU  {name}\n")
    return row


if __name__ == "__main__":
    main(int(sys.argv[1]))
