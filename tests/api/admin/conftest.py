"""A person of the staff, a shipped catalogue, and one workspace with one request behind it."""

from __future__ import annotations

import io

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client

from billing import apikeys
from billing.models import Budget, Entry, Hold, RequestTrace, UsageRecord, Workspace
from billing.workspaces import create_workspace, transfer_credits
from chat.models import Provider
from tests.api.admin.pages import CREDIT, make_record, sign_in
from tests.prepared import PreparedRows


@pytest.fixture
def ada(db) -> User:
    return User.objects.create_superuser("ada")


@pytest.fixture
def staff(client: Client, ada: User) -> Client:
    sign_in(client, ada)
    return client


def _load_catalogue() -> None:
    call_command("load_catalog", "catalog.yaml", stdout=io.StringIO(), stderr=io.StringIO())


_shipped = PreparedRows(_load_catalogue, "chat")


@pytest.fixture
def catalogue(db) -> None:
    _shipped()


@pytest.fixture
def sandbox(db) -> Provider:
    return Provider.objects.create(slug="sandbox", dialect="openai", base_url="sandbox:")


@pytest.fixture
def customer(db) -> Workspace:
    workspace = create_workspace("acme", actor="test")
    transfer_credits(workspace, 10 * CREDIT, kind=Entry.Kind.TOP_UP, idempotency_key="first", actor="test", reason="paid")
    return workspace


@pytest.fixture
def generation(customer: Workspace) -> UsageRecord:
    """One request with all the rows it leaves."""
    key, _ = apikeys.mint(customer, "laptop", actor="test")
    record = make_record(key)
    RequestTrace.objects.create(
        generation="chatcmpl-one", attempts=[{"model": "gpt-4o", "result": "served"}], timings_ms={"all": 7}
    )
    Hold.objects.create(
        account=customer.account,
        api_key=key,
        generation="chatcmpl-one",
        sequence=1,
        amount_microcredits=2_500_000,
        price_version_id=1,
        lease_expires_at=record.created_at,
    )
    Budget.objects.create(scope="key", scope_id=key.pk, limit_microcredits=5 * CREDIT)
    return record
