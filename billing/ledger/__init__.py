"""The only writer of money rows.

    operations.py   what can be asked of the ledger, and what it answers (pure)
    effects.py      what crosses between decider and engines: rows that were locked, changes to make (pure)
    decider.py      which rows a batch of operations changes, given the rows it locked (pure)
    sqlite.py, postgresql.py   one transaction per batch: lock and read, decide, write
    thread.py       the thread in which SQLite's transactions run
    locked.py       which accounts somebody keeps locked, so that nobody else waits for them
    asked.py        an operation on its way through the writer
    writer.py       group commit: one writer per process collects what all requests in flight ask
    transfers.py    credit that moves without a request: top-ups, grants, plan credits, refunds, adjustments, expiry
    lots.py         what is left of each credit, what is spent first, what expires (pure)
    lotbook.py      the lots of an account as rows
    triggers.py     append-only entries and terminal holds, on both databases
    reconcile.py    proves the promises from the rows alone

Locks are taken in one order by all of them: accounts, then budgets; the rows of a hold are guarded by its account's lock.
"""
