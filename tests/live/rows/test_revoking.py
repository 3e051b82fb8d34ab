"""Row 144: a key that stops being good while its request runs. It ends within five seconds, whatever it waits for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from tests.fakes.launch import FakeProvider
from tests.fakes.script import Script
from tests.live.books import Books
from tests.live.catalog import PRICES
from tests.live.gateway import Installation, Server
from tests.live.rows.raw import RawConnection, chat, request
from tests.live.rows.refusals import assert_free, assert_refused
from tests.live.rows.sabotage import run_sql
from tests.live.tenants import Tenant, Wanted, make_tenants
from tests.live.wire import WireClient

CUT_WITHIN_S = 5.0
WORD = "abcdefg "
WORD_TOKENS = 2
PROMPT_TOKENS = 2
BODY: dict[str, Any] = {"model": "main", "messages": [{"role": "user", "content": "Hello"}], "stream": True}

FLOWING = Script(text=WORD * 400, delay_between_s=0.1)
SILENT = Script(text=WORD * 9, hang_after=4)  # the role and three words

ACTS = {
    "revoke": "UPDATE billing_apikey SET revoked_at = CURRENT_TIMESTAMP WHERE workspace_id = TENANT",
    "expire": "UPDATE billing_apikey SET expires_at = CURRENT_TIMESTAMP WHERE workspace_id = TENANT",
    "suspend": "UPDATE billing_workspace SET state = 'suspended' WHERE id = TENANT",
}
ENDS = [
    pytest.param("revoke", FLOWING, "invalid_api_key", "auth_error", id="row-144-revoked"),
    pytest.param("revoke", SILENT, "invalid_api_key", "auth_error", id="row-144-revoked-in-silence"),
    pytest.param("expire", SILENT, "expired_api_key", "auth_error", id="row-144-expired-in-silence"),
    pytest.param("suspend", FLOWING, "workspace_suspended", "auth_error", id="row-144-suspended"),
]


@pytest.fixture(scope="module")
def patient(provider_process: FakeProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A gateway whose streams wait long before they open with a comment: what fails until then has a status of its own."""
    made = Installation(tmp_path_factory.mktemp("patient"), provider_process, settings="tests.live.rows.settings")
    yield made
    made.run("manage.py", "reconcile_ledger")
    assert made.books.open_holds() == 0
    made.books.close()


@pytest.fixture(scope="module")
def gateway(patient: Installation) -> Iterator[Server]:
    with patient.server() as running:
        yield running


@pytest.fixture
def books(patient: Installation) -> Books:
    return patient.books


@pytest.fixture(scope="module")
def tenants(patient: Installation) -> Iterator[Tenant]:
    """One for each test."""
    return iter(make_tenants(patient, *[Wanted(credit_microcredits=10**9)] * (len(ENDS) + 3)))


@pytest.fixture
def tenant(tenants: Iterator[Tenant]) -> Tenant:
    return next(tenants)


def end(patient: Installation, tenant: Tenant, act: str) -> float:
    """End the use of the tenant's key, as another process would; when that was, on the clock of all processes."""
    run_sql(patient, ACTS[act].replace("TENANT", str(tenant.workspace_id)))
    return time.monotonic()


@pytest.mark.slow
@pytest.mark.parametrize(("act", "script", "code", "kind"), ENDS)
def test_a_key_that_ends_while_its_stream_runs(
    gateway: Server,
    provider: FakeProvider,
    books: Books,
    label: str,
    patient: Installation,
    tenant: Tenant,
    act: str,
    script: Script,
    code: str,
    kind: str,
):
    provider.script("main", script)
    with WireClient(gateway.port, tenant.key, BODY, x_request_id=label) as client:
        assert client.read_head()[0] == 200
        assert client.read_contents(3) == [WORD] * 3
        ended_s = end(patient, tenant, act)
        words, last = 3, b""
        while event := client.read_event():
            words += WORD.encode() in event
            last = event
    error = msgspec.json.decode(last.removeprefix(b"data: "))["error"]
    assert (error["code"], error["type"], error["param"]) == (code, kind, None)
    (seen,) = provider.wait_for(lambda requests: all(seen.closed_s for seen in requests))
    assert seen.closed_s is not None
    assert seen.closed_s - ended_s <= CUT_WITHIN_S
    booked = books.of_request(label)
    assert (booked.status, booked.end_state, booked.error_code, booked.states) == (200, "revoked", code, ["settled"])
    assert words * WORD_TOKENS <= booked.completion_tokens <= (words + 1) * WORD_TOKENS
    input_microcredits, output_microcredits = PRICES["main"]
    cost = PROMPT_TOKENS * input_microcredits + booked.completion_tokens * output_microcredits
    assert booked.charged_microcredits == booked.entry_microcredits == cost


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hang", "is_stream"),
    [
        pytest.param("head", True, id="row-144-before-the-head"),
        pytest.param("body", True, id="row-144-before-the-body"),
        pytest.param("body", False, id="row-144-whole"),
    ],
)
def test_a_key_that_ends_before_its_request_is_answered(
    gateway: Server,
    provider: FakeProvider,
    books: Books,
    label: str,
    patient: Installation,
    tenant: Tenant,
    hang: Any,
    is_stream: Any,
):
    """Nothing was said yet: it is answered as a request with such a key is, and is free, as for a client that leaves."""
    provider.script("main", Script(hang=hang))
    with RawConnection(gateway.port) as connection:
        connection.send(request(tenant.key, ("x-request-id", label), body=chat(stream=is_stream)))
        provider.wait_for(lambda requests: len(requests) == 1)
        ended_s = end(patient, tenant, "revoke")
        assert_refused(connection.read(), 401, "invalid_api_key", label=label)
    (seen,) = provider.wait_for(lambda requests: all(seen.closed_s for seen in requests))
    assert seen.closed_s is not None
    assert seen.closed_s - ended_s <= CUT_WITHIN_S
    booked = assert_free(books, label, 401, "invalid_api_key")
    assert (booked.states, booked.results) == (["voided"], ("cancelled",))
