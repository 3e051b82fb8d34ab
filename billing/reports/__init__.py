"""What may be read about money and usage: one query each, no writes, amounts in microcredits.

    credits        the balance of a workspace; what a key may spend and has spent
    buckets        the balance by what it is of: plan credits, grants that expire, and what never does
    usage          requests added up, and one by one
    pace           how long the credit lasts
    statements     the entries of a workspace with its running balance
    ledger_pages   the same from the newest back, in pages
    export         rows as CSV that is safe to open in a spreadsheet (pure)

The workspace is the first argument of every read: nothing here finds rows of another one.
"""

from __future__ import annotations

from billing.reports.credits import Allowance, get_allowance

__all__ = ["Allowance", "get_allowance"]
