"""`python -m benchmarks.staff_pages ROWS`: fills the tables, asks the pages, prints what each took as one line of JSON."""

from __future__ import annotations

import statistics
import sys
import time
from typing import Any

import django
import msgspec

TRIES = 5
SECONDS = 30 * 86_400

_USAGE = """
INSERT INTO billing_usagerecord (generation, request_id, workspace_id, api_key_id, created_at, model_asked, model_used,
  provider, price_version_id, prompt_tokens, completion_tokens, cached_tokens, cache_write_tokens, audio_tokens,
  reasoning_tokens, usage_source, charged_microcredits, overrun_microcredits, lines, is_stream, status, end_state,
  error_code, finish_reason, fallback_depth, latency_ms, first_token_ms, end_user)
SELECT 'chatcmpl-' || i, 'req-' || i, {workspace}, {key}, {at}, 'gpt-4o', 'model-' || (i % 7), 'openai', 1, 1000, 100, 0, 0, 0,
  0, 'reported', 150000, 0, {json}, (i % 2 = 0), 200, 'done', '', 'stop', 0, 1200, 300 + i % 900, '' FROM n
"""
_HOLDS = """
INSERT INTO billing_hold (account_id, api_key_id, generation, sequence, amount_microcredits, settled_microcredits,
  overrun_microcredits, state, usage_source, price_version_id, budget_ids, created_at, lease_expires_at, closed_at)
SELECT {account}, {key}, 'chatcmpl-' || i, 1, 200000, 150000, 0, 'settled', 'reported', 1, {json}, {at}, {at}, {at} FROM n
"""
_ENTRIES = """
INSERT INTO billing_entry (debit_account_id, credit_account_id, amount_microcredits, kind, generation, hold_id,
  idempotency_key, actor, reason, created_at)
SELECT {account}, {revenue}, 150000, 'usage', h.generation, h.id, 'usage:' || h.generation, 'gateway', '', h.created_at
FROM billing_hold h
"""
_EVENTS = """
INSERT INTO billing_auditevent (created_at, actor, action, workspace_id, target, reason, details)
SELECT {at}, 'staff:' || (i % 50), 'credits.grant', {workspace}, 'target-' || i, 'r', {object} FROM n
"""


class PageRow(msgspec.Struct, frozen=True):
    name: str
    median_ms: float
    most_ms: float
    queries: int


def main(rows: int) -> None:
    django.setup()
    _fill(rows)
    sys.stdout.write(msgspec.json.encode(_pages(rows)).decode() + "\n")


def _fill(rows: int) -> None:
    from django.db import connection  # noqa: PLC0415 - can be used only now

    from billing import apikeys  # noqa: PLC0415
    from billing.models import Account, Workspace  # noqa: PLC0415

    workspace = Workspace.objects.get()
    key, _ = apikeys.mint(workspace, "bench", actor="bench")
    values: dict[str, object] = {
        "workspace": workspace.pk,
        "key": key.pk,
        "account": workspace.account.pk,
        "revenue": Account.objects.get(kind="revenue").pk,
    }
    step = SECONDS / rows
    if connection.vendor == "postgresql":
        numbers = f"WITH n AS (SELECT i FROM generate_series(1, {rows}) AS i)"  # noqa: S608 - a number
        values["at"] = f"(now() - (({rows} - i) * {step}) * interval '1 second')"
        values |= {"json": "'[]'::jsonb", "object": "'{}'::jsonb"}
    else:
        numbers = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})"  # noqa: S608 - a number
        values["at"] = f"(strftime('%Y-%m-%d %H:%M:%S', 'now', '-' || (({rows} - i) * {step}) || ' seconds') || '.000000')"
        values |= {"json": "'[]'", "object": "'{}'"}
    with connection.cursor() as cursor:
        for statement in (_USAGE, _HOLDS, _ENTRIES, _EVENTS):
            text = statement.format(**values)
            head = numbers if " FROM n" in statement else ""
            # SQLite takes the WITH of an INSERT in front of it, PostgreSQL too.
            cursor.execute(f"{head} {text}".replace("%", "%%"), [])
        cursor.execute("ANALYZE")


def _pages(rows: int) -> list[PageRow]:
    from django.contrib.auth.models import User  # noqa: PLC0415
    from django.test import Client  # noqa: PLC0415

    from billing.models import UsageRecord  # noqa: PLC0415
    from tests.api.admin.pages import sign_in  # noqa: PLC0415

    client = Client(SERVER_NAME="localhost")
    sign_in(client, User.objects.create_superuser("ada"))
    middle = UsageRecord.objects.filter(generation=f"chatcmpl-{rows // 2}").get()
    usage, at = "/admin/billing/usagerecord/", middle.created_at
    day = f"created_at__year={at.year}&created_at__month={at.month}&created_at__day={at.day}"
    pages = {
        "requests, newest": usage,
        "requests, half way back": f"{usage}?before={middle.pk}",
        "requests, a day": f"{usage}?{day}",
        "requests, of a workspace": f"{usage}?workspace__id__exact={middle.workspace_id}",
        "requests, of a key, half way back": f"{usage}?api_key__id__exact={middle.api_key_id}&before={middle.pk}",
        "requests, found by request id": f"{usage}?q=req-{rows // 3}",
        "requests, found by generation": f"{usage}?q=chatcmpl-{rows // 3}",
        "requests, an id that is none": f"{usage}?q=nothing",
        "a request": f"{usage}{middle.pk}/change/",
        "ledger, newest": "/admin/billing/entry/",
        "ledger, half way back": f"/admin/billing/entry/?{day}",
        "ledger, found by request id": f"/admin/billing/entry/?q=req-{rows // 3}",
        "holds, newest": "/admin/billing/hold/",
        "holds, found by request id": f"/admin/billing/hold/?q=req-{rows // 3}",
        "audit trail, newest": "/admin/billing/auditevent/",
        "workspaces": "/admin/billing/workspace/",
        "keys": "/admin/billing/apikey/",
        "overview, 24 hours": "/admin/?period=24h",
        "overview, 30 days": "/admin/?period=30d",
    }
    return [_timed(client, name, path) for name, path in pages.items()]


def _timed(client: Any, name: str, path: str) -> PageRow:
    from django.core.cache import cache  # noqa: PLC0415
    from django.db import connection  # noqa: PLC0415
    from django.test.utils import CaptureQueriesContext  # noqa: PLC0415

    times, queries = [], 0
    for _ in range(TRIES):
        cache.clear()
        with CaptureQueriesContext(connection) as captured:
            started = time.perf_counter()
            response = client.get(path)
            times.append((time.perf_counter() - started) * 1000)
        assert response.status_code == 200, (path, response.status_code)
        queries = len(captured)
    return PageRow(name, statistics.median(times), max(times), queries)


if __name__ == "__main__":
    main(int(sys.argv[1]))
