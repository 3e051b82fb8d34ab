"""Workspaces of a test's own in a live gateway, as many as it likes, made by one process: a start takes a second."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import Self

import django
import msgspec

from tests.live.books import Books
from tests.live.gateway import Installation

ACTOR = "tests"
SAMPLE_EVERY_S = 0.002
TOGETHER = 20
PAUSE_S = 0.02

_SAMPLE = """
SELECT a.posted_microcredits, a.held_microcredits,
  COALESCE(b.spent_microcredits, 0), COALESCE(b.held_microcredits, 0), COALESCE(b.limit_microcredits, 0)
FROM billing_account a LEFT JOIN billing_budget b ON b.scope = 'key' AND b.scope_id = %s
WHERE a.workspace_id = %s
"""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A workspace with a key to chat and one to manage keys, and if it says so with a monthly budget on the first."""

    credit_microcredits: int
    budget_microcredits: int | None = None


class Tenant(msgspec.Struct, frozen=True):
    """`path` is that of the key in the management API."""

    key: str
    api_key_id: int
    workspace_id: int
    path: str
    management_key: str


class Balance(msgspec.Struct, frozen=True):
    """Account and budget of a tenant in one moment; zeros where there is no budget."""

    posted: int
    held: int
    budget_spent: int
    budget_held: int
    budget_limit: int

    @property
    def is_kept(self) -> bool:
        """No more is held than there is, no more spent and held than the budget allows."""
        return 0 <= self.held <= self.posted and self.budget_spent + self.budget_held <= self.budget_limit


def make_tenants(installation: Installation, *wanted: Wanted) -> list[Tenant]:
    asked = msgspec.json.encode(wanted).decode()
    return msgspec.json.decode(installation.run("-m", "tests.live.tenants", asked), type=list[Tenant])


def balance_of(books: Books, tenant: Tenant) -> Balance:
    return Balance(*books.rows(_SAMPLE, tenant.api_key_id, tenant.workspace_id)[0])


class Watch:
    """Reads the balance of a tenant again and again while the block runs. `samples` are what it saw."""

    def __init__(self, installation: Installation, tenant: Tenant) -> None:
        self._installation = installation
        self._tenant = tenant
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.samples: list[Balance] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._is_over.set()
        self._thread.join()

    def _look(self) -> None:
        books = Books(self._installation.database_url, self._installation.sqlite_path)
        while not self._is_over.is_set():
            self.samples.append(balance_of(books, self._tenant))
            time.sleep(SAMPLE_EVERY_S)
        books.close()


def main(asked: str) -> None:
    """In transactions of some, which are quick, with pauses: SQLite has one writer at a time, and no queue of who waits."""
    django.setup()
    from django.db import transaction  # noqa: PLC0415

    wanted = msgspec.json.decode(asked, type=list[Wanted])
    made: list[Tenant] = []
    for start in range(0, len(wanted), TOGETHER):
        with transaction.atomic():
            made += map(_make, wanted[start : start + TOGETHER])
        time.sleep(PAUSE_S)
    sys.stdout.write(msgspec.json.encode(made).decode())


def _make(wanted: Wanted) -> Tenant:
    from billing import apikeys  # noqa: PLC0415 - models, which can be imported only now
    from billing.ledger import transfers  # noqa: PLC0415
    from billing.workspaces import create_workspace  # noqa: PLC0415

    workspace = create_workspace("tenant", actor=ACTOR)
    if wanted.credit_microcredits:
        transfers.top_up(
            workspace, wanted.credit_microcredits, idempotency_key=workspace.public_id, actor=ACTOR, reason="a test"
        )
    terms = apikeys.KeyTerms(max_budget_monthly_microcredits=wanted.budget_microcredits)
    key, key_text = apikeys.mint(workspace, "tenant", actor=ACTOR, terms=terms)
    manager = apikeys.KeyTerms(scopes=["keys:manage"])
    _, management_key = apikeys.mint(workspace, "manager", actor=ACTOR, terms=manager)
    path = f"/api/workspaces/{workspace.public_id}/keys/{key.public_id}"
    return Tenant(key_text, key.pk, workspace.pk, path, management_key)


if __name__ == "__main__":
    main(sys.argv[1])
