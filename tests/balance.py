"""In which order the files of a run are given to its processes: the longest first, so that none of them ends long after the others.

A file is one piece of work, because what its tests share is made once in a process. xdist would begin with the files that have
most tests, which are short ones; the longest have a handful. With `--no-loadscope-reorder` it takes the order of what was
collected.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest

LONG_FILES = (
    "e2e/test_staff_pages.py",
    "e2e/test_console.py",
    "e2e/test_playground.py",
    "unit/billing/test_migrations.py",
    "live/faults/test_embedded.py",
    "api/admin/test_roles.py",
    "live/faults/test_drains.py",
    "live/test_failpoints.py",
    "api/management/test_permissions.py",
    "unit/files/documents/test_odd_pdfs.py",
    "e2e/test_staff_tasks.py",
    "live/test_leases.py",
    "live/test_file_buckets.py",
    "unit/benchmarks/test_ledger.py",
    "live/faults/test_hosts.py",
    "live/test_workers.py",
    "api/admin/test_pages.py",
    "live/test_killing.py",
    "api/console/test_cells.py",
    "unit/billing/test_housekeeping.py",
    "live/faults/test_cells.py",
    "e2e/test_telling.py",
    "e2e/test_passkeys.py",
    "e2e/test_staff_catalogue.py",
    "live/test_stopping.py",
    "live/faults/test_clocks.py",
    "live/faults/test_soak.py",
    "live/test_breakers.py",
    "live/test_file_limits.py",
    "live/test_pdf.py",
    "e2e/test_topping_up.py",
    "live/test_crowd.py",
    "live/test_expiring_credit.py",
    "live/test_reading.py",
    "live/rows/test_revoking.py",
    "unit/billing/payments/test_taking_back.py",
    "unit/chat/test_migrate_command.py",
)
"""By the time they take, the longest first."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """After the order was made random; that of the tests of a file stays."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    tests_of = Counter(item.path for item in items)
    rank = {config.rootpath / "tests" / name: place for place, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: (rank.get(item.path, len(rank)), -tests_of[item.path], str(item.path)))
