"""The staff admin of billing: read-only money, and the acts staff may do, each through a service function with an audit.

parts.py       what the pages share: read-only lists, credits in forms, pages with one form
columns.py     figures, credits, moments, ids and states as columns and fields
lists.py       lists that only grow: paged by their last row, with a calendar, searched by whole ids, exported as CSV
workspaces.py  workspaces: create, credit, suspend, give a plan or a member; API keys: mint, revoke
credits.py     what staff order to be done to credits, refunds of requests, the second person
codes.py       redemption codes: issued, approved, withdrawn
payments.py    payments, to read
presets.py     presets of limits: create, change; members to read
ledger.py      accounts, holds, entries, lots, budgets; the proof of the books
announcements.py   what staff tell people in the console
notices.py     what workspaces were told, to read
webhooks.py    their webhooks: disabled; the messages that went there: sent again
usage.py       requests with their receipts and traces; the audit trail
staff.py       the people of the admin itself
background.py  tasks that run behind requests and pages, to read
"""

from billing.admin import (
    announcements,
    background,
    codes,
    credits,
    ledger,
    notices,
    payments,
    presets,
    staff,
    usage,
    webhooks,
    workspaces,
)

__all__ = [
    "announcements",
    "background",
    "codes",
    "credits",
    "ledger",
    "notices",
    "payments",
    "presets",
    "staff",
    "usage",
    "webhooks",
    "workspaces",
]
