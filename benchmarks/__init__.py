"""The performance budget, measured: `python -m benchmarks`.

    __main__.py   the command line and the order of the runs
    scenarios.py  what is measured of one engine, and how
    report.py     medians, the table, and the budget's lines
    gateway.py    the gateway as an operator starts it, on a fresh state folder or database
    processes.py  child processes: started, waited for, their CPU time read, stopped
    provider.py   a provider that costs next to nothing          (a process of its own)
    bare.py       the smallest ASGI answer on the same server    (a process of its own)
    load.py       the load generator, which checks every answer  (a process of its own)
    ledger.py     holds and settlements without a gateway: the rows, the table
    pairs.py      so many of them by one ledger writer           (a process of its own)
    staff.py      the pages of the staff admin and of the console over large tables
    staff_rows.py   fills the tables
    staff_pages.py  asks the pages                               (a process of its own)

Absolute times differ between machines and drift on a shared one; CPU time per request and ratios within one run can be
trusted. No time is asserted: a run fails only when something broke, and an answer other than 200 is that.
"""
