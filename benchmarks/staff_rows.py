"""Fills the tables of an installation as a month of traffic would: requests with their holds and entries, the newest last.

One statement for each table, run by the database itself; constraints and triggers are in force. Nine requests of ten are
of one workspace with many keys and members, one of fifty failed. The books do not balance: nothing here is proven, only
timed.
"""

from __future__ import annotations

import sys
import time
from typing import Any, NamedTuple

KEYS, OTHERS = 20, 9
DAYS = 30
_STEP_SPAN = DAYS * 86_400
_TRACES_MOST = 100_000

_USAGE = """
INSERT INTO billing_usagerecord (generation, request_id, workspace_id, api_key_id, created_at, model_asked, model_used,
  provider, price_version_id, prompt_tokens, completion_tokens, cached_tokens, cache_write_tokens, audio_tokens,
  reasoning_tokens, usage_source, charged_microcredits, overrun_microcredits, lines, is_stream, status, end_state,
  error_code, finish_reason, fallback_depth, latency_ms, first_token_ms, end_user)
SELECT 'chatcmpl-' || i, 'req-' || i,
  CASE WHEN i % 10 = 0 THEN {other_workspace} + (i / 10) % {others} ELSE {workspace} END,
  CASE WHEN i % 10 = 0 THEN {other_key} + (i / 10) % {others} ELSE {key} + i % {keys} END,
  {at}, 'model-' || (i % 7), 'model-' || (i % 7), 'openai', 1, 1000 + i % 900, 100 + i % 90, i % 500, 0, 0,
  0, 'reported', CASE WHEN i % 50 = 0 THEN 0 ELSE 150000 END, 0, {lines}, (i % 2 = 0),
  CASE WHEN i % 50 = 0 THEN 502 ELSE 200 END, CASE WHEN i % 50 = 0 THEN 'error' ELSE 'done' END,
  CASE WHEN i % 50 = 0 THEN 'upstream_error' ELSE '' END, 'stop', CASE WHEN i % 40 = 0 THEN 1 ELSE 0 END, 1200,
  300 + i % 900, 'user-' || (i % 500)
FROM n
"""
_HOLDS = """
INSERT INTO billing_hold (account_id, api_key_id, generation, sequence, amount_microcredits, settled_microcredits,
  overrun_microcredits, state, usage_source, price_version_id, budget_ids, created_at, lease_expires_at, closed_at)
SELECT CASE WHEN i % 10 = 0 THEN {other_account} + (i / 10) % {others} ELSE {account} END,
  CASE WHEN i % 10 = 0 THEN {other_key} + (i / 10) % {others} ELSE {key} + i % {keys} END,
  'chatcmpl-' || i, 1, 200000, CASE WHEN i % 50 = 0 THEN 0 ELSE 150000 END, 0,
  CASE WHEN i % 50 = 0 THEN 'voided' ELSE 'settled' END, 'reported', 1, {empty_list}, {at}, {at}, {at}
FROM n
"""
_ENTRIES = """
INSERT INTO billing_entry (debit_account_id, credit_account_id, amount_microcredits, kind, generation, hold_id,
  idempotency_key, actor, reason, created_at)
SELECT account_id, {revenue}, settled_microcredits, 'usage', generation, id, 'usage:' || generation, 'gateway', '', created_at
FROM billing_hold WHERE state = 'settled' ORDER BY id
"""
_TRACES = """
INSERT INTO billing_requesttrace (generation, created_at, attempts, adaptations, timings_ms)
SELECT 'chatcmpl-' || i, {at}, {attempts}, {empty_list}, {timings} FROM n WHERE i > {rows} - {traces}
"""
_EVENTS = """
INSERT INTO billing_auditevent (created_at, actor, action, workspace_id, target, reason, details)
SELECT {at}, 'staff:' || (i % 50), 'credits.grant', {workspace}, 'target-' || i, 'r', {empty_object} FROM n
"""
_LINES = (
    '[{"kind":"input","quantity":1000,"unit":"million_tokens","unit_price_microcredits":100000000,'
    '"amount_microcredits":100000},{"kind":"output","quantity":100,"unit":"million_tokens",'
    '"unit_price_microcredits":500000000,"amount_microcredits":50000}]'
)
_ATTEMPTS = '[{"model":"model-1","provider":"openai","upstream_model":"m","result":"served","duration_ms":900}]'


class Filled(NamedTuple):
    """`console` is the person who owns the large workspace, by his user name; `workspace` and `key` are public ids."""

    rows: int
    owner: str
    workspace: str
    key: str


def fill(rows: int) -> Filled:
    """Into an installation that has one workspace. Django has to be set up."""
    from django.db import connection  # noqa: PLC0415 - models, which can be imported only now
    from django.utils import timezone  # noqa: PLC0415

    from billing.rollups import roll_up  # noqa: PLC0415

    values, filled = _owners(rows)
    is_postgresql = connection.vendor == "postgresql"
    step = _STEP_SPAN / rows
    if is_postgresql:
        head = f"WITH n AS (SELECT i FROM generate_series(1, {rows}) AS i)"  # noqa: S608 - a number
        values["at"] = f"(now() - (({rows} - i) * {step}) * interval '1 second')"
    else:
        head = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})"  # noqa: S608 - a number
        values["at"] = f"(strftime('%Y-%m-%d %H:%M:%f', 'now', '-' || (({rows} - i) * {step}) || ' seconds') || '000')"
    texts = {
        "lines": _LINES,
        "attempts": _ATTEMPTS,
        "timings": '{"total":1200}',
        "empty_list": "[]",
        "empty_object": "{}",
    }
    values |= {name: f"'{text}'{'::jsonb' if is_postgresql else ''}" for name, text in texts.items()}
    with connection.cursor() as cursor:
        for statement in (_USAGE, _HOLDS, _ENTRIES, _TRACES, _EVENTS):
            started = time.monotonic()
            text = statement.format(**values)
            cursor.execute(f"{head} {text}".replace("%", "%%") if " FROM n" in text.replace("\n", " ") else text, [])
            table = statement.split()[2]
            sys.stderr.write(f"    {table}: {cursor.rowcount:,} rows in {time.monotonic() - started:.1f} s\n")
        started = time.monotonic()
        while roll_up(timezone.now()):
            pass
        sys.stderr.write(f"    days added up as housekeeping does in {time.monotonic() - started:.1f} s\n")
        cursor.execute("ANALYZE")
    return filled


def _owners(rows: int) -> tuple[dict[str, Any], Filled]:
    """Workspaces, keys and members; their row ids follow each other, by which the statements name them."""
    from allauth.account.models import EmailAddress  # noqa: PLC0415
    from django.contrib.auth.models import User  # noqa: PLC0415

    from billing import apikeys, members  # noqa: PLC0415
    from billing.models import Account, Membership, Workspace  # noqa: PLC0415
    from billing.workspaces import create_workspace  # noqa: PLC0415

    workspace = Workspace.objects.get()
    people = [User.objects.create_user(f"member{number}", f"member{number}@bench.example") for number in range(KEYS // 2)]
    for person in people:
        EmailAddress.objects.create(user=person, email=person.email, verified=True, primary=True)
    roles = [Membership.Role.OWNER, *([Membership.Role.DEVELOPER] * (len(people) - 1))]
    joined = [members.add_member(workspace, person, role, actor="bench") for person, role in zip(people, roles, strict=True)]
    creators = [apikeys.creator_of(joined[number // 2]) if number % 2 else None for number in range(KEYS)]
    keys = [
        apikeys.mint(workspace, f"key {number}", actor="bench", creator=creator)[0] for number, creator in enumerate(creators)
    ]
    others = [create_workspace(f"other {number}", actor="bench") for number in range(OTHERS)]
    other_keys = [apikeys.mint(other, "theirs", actor="bench")[0] for other in others]
    for made in (keys, others, other_keys, [other.account for other in others]):
        ids = [row.pk for row in made]
        assert ids == list(range(ids[0], ids[0] + len(ids)))
    values: dict[str, Any] = {
        "rows": rows,
        "traces": min(rows, _TRACES_MOST),
        "keys": KEYS,
        "others": OTHERS,
        "workspace": workspace.pk,
        "account": workspace.account.pk,
        "key": keys[0].pk,
        "other_workspace": others[0].pk,
        "other_account": others[0].account.pk,
        "other_key": other_keys[0].pk,
        "revenue": Account.objects.get(kind="revenue").pk,
    }
    return values, Filled(rows, people[0].get_username(), workspace.public_id, keys[1].public_id)
