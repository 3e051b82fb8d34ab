from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connection, connections, transaction
from django.utils import timezone

from billing import apikeys, idempotency
from billing.apikeys import Principal
from billing.errors import (
    IdempotencyInProgress,
    IdempotencyMismatch,
    IdempotencyResultLost,
    InvalidIdempotencyKey,
    LedgerUnavailable,
)
from billing.idempotency import MAX_BODY_BYTES, Claim, Replay
from billing.ledger.transfers import open_account
from billing.models import Hold, IdempotentReply, UsageRecord, Workspace
from tests.unit.billing.books import other_connection

pytestmark = pytest.mark.django_db(transaction=True)

ROUTE = "POST /v1/chat/completions"
BODY = b'{"model": "gpt-4o"}'
HEADERS = (("content-type", "application/json"), ("x-model-used", "gpt-4o"))


def principal_of(workspace: Workspace) -> Principal:
    return Principal(
        api_key_id=1,
        workspace_id=workspace.pk,
        account_id=1,
        workspace_public_id=workspace.public_id,
        scopes=frozenset({"chat"}),
    )


@pytest.fixture
def acme() -> Principal:
    return principal_of(Workspace.objects.create(name="Acme"))


@pytest.fixture
def rival() -> Principal:
    return principal_of(Workspace.objects.create(name="Rival"))


async def claim(principal: Principal, key: str = "key-1", *, body: bytes = BODY, route: str = ROUTE) -> Claim | Replay:
    return await idempotency.claim(principal, route=route, key=key, body=body)


async def claim_first(principal: Principal, key: str = "key-1", *, body: bytes = BODY, route: str = ROUTE) -> Claim:
    outcome = await claim(principal, key, body=body, route=route)
    assert isinstance(outcome, Claim)
    return outcome


async def change(**values: Any) -> None:
    """Let time pass, or a process die: what that leaves in the only row."""
    assert await IdempotentReply.objects.aupdate(**values) == 1


async def test_answer_is_replayed(acme: Principal) -> None:
    first = await claim_first(acme)
    await first.keep(201, HEADERS, b"\x00answer")
    for _ in range(2):
        assert await claim(acme) == Replay(201, HEADERS, b"\x00answer")


async def test_stored_answer_is_encrypted_for_its_row(acme: Principal) -> None:
    await (await claim_first(acme)).keep(200, HEADERS, b"a secret of acme")
    await (await claim_first(acme, "key-2")).keep(200, HEADERS, b"another")
    row = await IdempotentReply.objects.order_by("pk").afirst()
    assert row is not None
    assert b"secret" not in bytes(row.body_encrypted)
    await IdempotentReply.objects.exclude(pk=row.pk).aupdate(body_encrypted=row.body_encrypted)
    await (await claim_first(acme, "key-2")).release()  # moved to another row it does not open, and the request runs anew


async def test_answer_whose_encryption_key_is_gone_runs_anew(acme: Principal, settings: Any) -> None:
    await (await claim_first(acme)).keep(200, HEADERS, b"old")
    settings.FIELD_ENCRYPTION_KEYS = ["another key"]
    await (await claim_first(acme)).keep(200, HEADERS, b"new")
    assert await claim(acme) == Replay(200, HEADERS, b"new")


async def test_a_claim_that_another_took_over_is_not_confirmed(acme: Principal) -> None:
    first = await claim_first(acme)
    await first.confirm()
    await change(lease_expires_at=timezone.now() - timedelta(seconds=1))
    second = await claim_first(acme)
    with pytest.raises(IdempotencyInProgress):
        await first.confirm()
    await first.release()
    await second.confirm()
    await second.release()


async def test_what_is_made_is_rolled_back_where_the_claim_is_another_s(acme: Principal) -> None:
    first = await claim_first(acme)

    def make() -> None:
        with transaction.atomic():
            Workspace.objects.create(name="Made")
            first.store(201, b"made")

    await change(lease_token="another's")
    with pytest.raises(IdempotencyInProgress):
        await sync_to_async(make)()
    assert not await Workspace.objects.filter(name="Made").aexists()
    first.abandon()


async def test_first_request_still_running(acme: Principal) -> None:
    first = await claim_first(acme)
    with pytest.raises(IdempotencyInProgress) as refusal:
        await claim(acme)
    await first.release()
    error = refusal.value
    assert (error.status, error.code, error.type) == (409, "idempotency_in_progress", "invalid_request_error")
    assert ("retry-after", "1") in error.headers


@pytest.mark.parametrize("is_complete", [False, True])
async def test_other_body_is_refused(acme: Principal, *, is_complete: bool) -> None:
    first = await claim_first(acme)
    if is_complete:
        await first.keep(200, HEADERS, b"answer")
    with pytest.raises(IdempotencyMismatch) as refusal:
        await claim(acme, body=BODY + b" ")
    await first.release()
    assert (refusal.value.status, refusal.value.code) == (422, "idempotency_mismatch")


async def test_other_workspace_route_and_key_are_independent(acme: Principal, rival: Principal) -> None:
    await (await claim_first(acme)).keep(200, HEADERS, b"answer")
    for other in (
        await claim_first(rival, body=b"other"),
        await claim_first(acme, route="POST /v1/files", body=b"other"),
        await claim_first(acme, "KEY-1", body=b"other"),
    ):
        await other.release()
    assert isinstance(await claim(acme), Replay)


async def test_released_key_runs_anew_with_any_body(acme: Principal) -> None:
    await (await claim_first(acme)).release()
    assert not await IdempotentReply.objects.aexists()
    await (await claim_first(acme, body=b"other")).keep(200, HEADERS, b"answer")
    assert await claim(acme, body=b"other") == Replay(200, HEADERS, b"answer")


@pytest.mark.parametrize("status", [400, 402, 429, 500, 503, 302])
async def test_failures_are_not_kept(acme: Principal, status: int) -> None:
    await (await claim_first(acme)).keep(status, HEADERS, b"{}")
    assert not await IdempotentReply.objects.aexists()


async def test_answers_up_to_the_limit_are_kept(acme: Principal) -> None:
    largest = b"x" * MAX_BODY_BYTES
    await (await claim_first(acme)).keep(200, HEADERS, largest)
    assert await claim(acme) == Replay(200, HEADERS, largest)
    await (await claim_first(acme, "key-2")).keep(200, HEADERS, largest + b"x")
    await (await claim_first(acme, "key-2")).release()


async def test_release_does_not_touch_a_stored_answer(acme: Principal) -> None:
    first = await claim_first(acme)
    await first.keep(200, HEADERS, b"answer")
    await first.release()
    assert await claim(acme) == Replay(200, HEADERS, b"answer")


async def test_claim_of_a_killed_process_is_taken_over(acme: Principal) -> None:
    killed = await claim_first(acme)
    await change(lease_expires_at=timezone.now() - timedelta(seconds=1))
    second = await claim_first(acme)
    with pytest.raises(IdempotencyInProgress):
        await claim(acme)
    # The first one was not dead, only slow: it neither stores nor releases what is no longer its own.
    await killed.keep(200, HEADERS, b"of the first")
    await killed.release()
    with pytest.raises(IdempotencyInProgress):
        await claim(acme)
    await second.keep(200, HEADERS, b"of the second")
    assert await claim(acme) == Replay(200, HEADERS, b"of the second")


def charge(workspace_id: int, generation: str, amount_microcredits: int) -> UsageRecord:
    """A request that was settled as `generation`, in whatever way."""
    key = apikeys.mint(Workspace.objects.get(pk=workspace_id), "test", actor="tests")[0]
    return UsageRecord.objects.create(
        generation=generation,
        request_id="req",
        workspace_id=workspace_id,
        api_key=key,
        charged_microcredits=amount_microcredits,
        status=200,
        end_state="done",
    )


async def claim_as(principal: Principal, generation: str, *, body: bytes = BODY) -> Claim:
    outcome = await idempotency.claim(principal, route=ROUTE, key="key-1", body=body, generation=generation)
    assert isinstance(outcome, Claim)
    return outcome


LAPSED = timedelta(seconds=-1)


async def test_what_was_paid_and_not_kept_is_not_run_again(acme: Principal) -> None:
    """A process that was killed between the settlement and the keeping of its answer."""
    (await claim_as(acme, "chatcmpl-1")).abandon()
    await sync_to_async(charge)(acme.workspace_id, "chatcmpl-1", 5)
    with pytest.raises(IdempotencyInProgress):
        await claim(acme)
    await change(lease_expires_at=timezone.now() + LAPSED)
    for _ in range(2):
        with pytest.raises(IdempotencyResultLost) as refusal:
            await claim_as(acme, "chatcmpl-2")
        error = refusal.value
        assert (error.status, error.code) == (409, "idempotency_result_lost")
        assert "chatcmpl-1" in error.message
        assert ("x-should-retry", "false") in error.headers
    with pytest.raises(IdempotencyMismatch):
        await claim(acme, body=b"other")
    await change(created_at=timezone.now() - timedelta(hours=24, seconds=1))
    await (await claim_as(acme, "chatcmpl-3")).release()


async def test_what_was_not_paid_runs_anew_when_its_process_died(acme: Principal) -> None:
    for number, amount in enumerate((0, None)):
        (await claim_as(acme, f"chatcmpl-{number}")).abandon()
        if amount is not None:
            await sync_to_async(charge)(acme.workspace_id, f"chatcmpl-{number}", amount)
        await change(lease_expires_at=timezone.now() + LAPSED)
    await (await claim_as(acme, "chatcmpl-9")).release()


async def test_what_another_workspace_paid_is_nothing_to_this_one(acme: Principal, rival: Principal) -> None:
    (await claim_as(acme, "chatcmpl-1")).abandon()
    await sync_to_async(charge)(rival.workspace_id, "chatcmpl-1", 5)
    await change(lease_expires_at=timezone.now() + LAPSED)
    await (await claim_as(acme, "chatcmpl-2")).release()


async def test_a_hold_that_is_open_may_still_be_paid(acme: Principal) -> None:
    """A process that is only slow: its settlement waits for the database, and the lease of its claim does not."""
    (await claim_as(acme, "chatcmpl-1")).abandon()
    await change(lease_expires_at=timezone.now() + LAPSED)
    hold = await sync_to_async(open_hold)(acme.workspace_id, "chatcmpl-1")
    with pytest.raises(IdempotencyInProgress):
        await claim_as(acme, "chatcmpl-2")
    with pytest.raises(IdempotencyMismatch):
        await claim_as(acme, "chatcmpl-2", body=b"other")
    await Hold.objects.filter(pk=hold.pk).aupdate(state="expired", closed_at=timezone.now())
    await (await claim_as(acme, "chatcmpl-3")).release()


def open_hold(workspace_id: int, generation: str) -> Hold:
    workspace = Workspace.objects.get(pk=workspace_id)
    return Hold.objects.create(
        account=open_account(workspace),
        api_key=apikeys.mint(workspace, "test", actor="tests")[0],
        generation=generation,
        sequence=0,
        amount_microcredits=5,
        price_version_id=7,
        lease_expires_at=timezone.now() + LAPSED,
    )


async def test_an_answer_that_is_too_large_to_keep_is_not_paid_twice(acme: Principal) -> None:
    first = await claim_as(acme, "chatcmpl-1")
    await sync_to_async(charge)(acme.workspace_id, "chatcmpl-1", 5)
    await first.keep(200, HEADERS, b"x" * (MAX_BODY_BYTES + 1))
    with pytest.raises(IdempotencyResultLost):
        await claim_as(acme, "chatcmpl-2")


async def test_an_answer_that_does_not_open_any_more_is_not_paid_twice(acme: Principal, settings: Any) -> None:
    first = await claim_as(acme, "chatcmpl-1")
    await sync_to_async(charge)(acme.workspace_id, "chatcmpl-1", 5)
    await first.keep(200, HEADERS, b"old")
    settings.FIELD_ENCRYPTION_KEYS = ["another key"]
    with pytest.raises(IdempotencyResultLost):
        await claim_as(acme, "chatcmpl-2")


@pytest.mark.parametrize("hours", [-2, 2])
async def test_leases_follow_the_databases_clock(acme: Principal, monkeypatch: pytest.MonkeyPatch, hours: int) -> None:
    """A host whose own clock is wrong neither takes a running claim away nor keeps a dead one for ever."""
    wrong = timezone.now() + timedelta(hours=hours)
    first = await claim_first(acme)
    with monkeypatch.context() as clock:
        clock.setattr(timezone, "now", lambda: wrong)
        with pytest.raises(IdempotencyInProgress):
            await claim(acme)
        other = await claim_first(acme, "key-2")
    row = await IdempotentReply.objects.order_by("pk").alast()
    assert row is not None
    assert timedelta(seconds=60) < row.lease_expires_at - timezone.now() <= timedelta(seconds=90)
    assert abs(row.created_at - timezone.now()) < timedelta(seconds=30)
    await first.release()
    await other.release()


@pytest.mark.slow
async def test_long_request_keeps_its_claim(acme: Principal, settings: Any) -> None:
    settings.IDEMPOTENCY_LEASE_S = 1.5
    first = await claim_first(acme)
    await asyncio.sleep(2.5)
    with pytest.raises(IdempotencyInProgress):
        await claim(acme)
    await first.keep(200, HEADERS, b"answer")
    assert await claim(acme) == Replay(200, HEADERS, b"answer")
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("is_complete", [False, True])
async def test_what_is_older_than_a_day_counts_as_absent(acme: Principal, *, is_complete: bool) -> None:
    first = await claim_first(acme)
    if is_complete:
        await first.keep(200, HEADERS, b"old")
    await change(created_at=timezone.now() - timedelta(hours=23, minutes=59))
    if is_complete:
        assert await claim(acme) == Replay(200, HEADERS, b"old")
    await change(created_at=timezone.now() - timedelta(hours=24, seconds=1))
    second = await claim_first(acme, body=b"other")
    row = await IdempotentReply.objects.aget()
    assert not row.is_complete
    assert bytes(row.body_encrypted) == b""
    assert timezone.now() - row.created_at < timedelta(minutes=1)
    await second.keep(200, HEADERS, b"new")
    assert await claim(acme, body=b"other") == Replay(200, HEADERS, b"new")
    await first.release()


@pytest.mark.slow
async def test_of_many_at_once_one_gets_the_claim(acme: Principal, settings: Any) -> None:
    settings.DATABASE_ANSWER_S = 60.0  # this machine may be busy
    outcomes = await asyncio.gather(*(claim(acme) for _ in range(200)), return_exceptions=True)
    claims = [outcome for outcome in outcomes if isinstance(outcome, Claim)]
    assert len(claims) == 1
    assert [type(outcome) for outcome in outcomes].count(IdempotencyInProgress) == 199
    await claims[0].keep(200, HEADERS, b"answer")
    replays = await asyncio.gather(*(claim(acme) for _ in range(50)))
    assert replays == [Replay(200, HEADERS, b"answer")] * 50
    assert await IdempotentReply.objects.acount() == 1


@pytest.mark.slow
async def test_of_many_at_once_one_takes_over(acme: Principal) -> None:
    """Many rounds: the moment in which two could both find the claim lapsed is short."""
    claims = [await claim_first(acme)]
    for _ in range(40):
        await change(lease_expires_at=timezone.now() - timedelta(seconds=1))
        outcomes = await asyncio.gather(*(claim(acme) for _ in range(8)), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes].count(IdempotencyInProgress) == 7
        claims += [outcome for outcome in outcomes if isinstance(outcome, Claim)]
    for each in claims:
        await each.release()
    assert not await IdempotentReply.objects.aexists()


async def test_many_at_once_with_releases_end_in_one_answer(acme: Principal) -> None:
    """Each request that gets the claim fails twice before one succeeds; nobody ever runs beside another."""
    running = most_running = runs = 0

    async def request() -> None:
        nonlocal running, most_running, runs
        while True:
            try:
                outcome = await claim(acme)
            except IdempotencyInProgress:
                await asyncio.sleep(0.01)
                continue
            if isinstance(outcome, Replay):
                return
            running, runs = running + 1, runs + 1
            most_running = max(most_running, running)
            await asyncio.sleep(0.005)
            running -= 1
            if runs == 3:
                await outcome.keep(200, HEADERS, b"answer")
            else:
                await outcome.release()

    await asyncio.gather(*(request() for _ in range(20)))
    assert (runs, most_running) == (3, 1)


async def test_cancelled_request_leaves_no_claim(acme: Principal) -> None:
    for delay_s in (0, 0, 0.0005, 0.001, 0.002, 0.004, 0.008):
        task = asyncio.create_task(claim(acme))
        await asyncio.sleep(delay_s)
        task.cancel()
        try:
            outcome = await task
        except asyncio.CancelledError:
            assert not await IdempotentReply.objects.aexists()
        else:
            assert isinstance(outcome, Claim)
            await outcome.release()
    await (await claim_first(acme)).release()


async def test_database_that_is_away(
    acme: Principal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kept, released = await claim_first(acme), await claim_first(acme, "key-2")
    with monkeypatch.context() as outage:
        outage.setitem(connections.settings["default"], "NAME", "/absent/database")
        with pytest.raises(LedgerUnavailable) as refusal:
            await claim(acme)
        await kept.keep(200, HEADERS, b"answer")
        await released.release()
    assert (refusal.value.status, refusal.value.code) == (503, "ledger_unavailable")
    assert caplog.text.count("could not be noted") == 2
    for key in ("key-1", "key-2"):
        with pytest.raises(IdempotencyInProgress):
            await claim(acme, key)


async def test_database_that_hangs(acme: Principal, settings: Any) -> None:
    """Nobody waits for it, and what it claims afterwards is given back: the caller's next try runs."""
    settings.DATABASE_ANSWER_S = 0.2
    with other_connection() as other:
        if connection.vendor == "postgresql":
            other.execute("LOCK TABLE billing_idempotentreply IN EXCLUSIVE MODE")
        with pytest.raises(LedgerUnavailable):
            await claim(acme)
    settings.DATABASE_ANSWER_S = 5.0
    for _ in range(500):
        try:
            await (await claim_first(acme)).release()
            break
        except IdempotencyInProgress:  # the first claim has just been made, and is on its way back
            await asyncio.sleep(0.01)
    for _ in range(500):  # the first may also have been the later one
        if not await IdempotentReply.objects.aexists():
            break
        await asyncio.sleep(0.01)
    assert not await IdempotentReply.objects.aexists()


@pytest.mark.parametrize("key", ["", "a" * 256, "with space", "tab\t", "line\n", "nul\0", "\x7f", "schlüssel", " ", "a\r\nb"])
async def test_malformed_keys(acme: Principal, key: str) -> None:
    with pytest.raises(InvalidIdempotencyKey) as refusal:
        await claim(acme, key)
    error = refusal.value
    assert (error.status, error.code, error.param) == (400, "invalid_idempotency_key", "Idempotency-Key")
    assert not await IdempotentReply.objects.aexists()


@pytest.mark.parametrize("key", ["a", "~" * 255, "!\"#$%&'()*+,-./", "550e8400-e29b-41d4-a716-446655440000"])
async def test_well_formed_keys(acme: Principal, key: str) -> None:
    await (await claim_first(acme, key)).release()


async def test_purge_deletes_what_is_old(acme: Principal) -> None:
    now = timezone.now()
    rows = [
        IdempotentReply(
            workspace_id=acme.workspace_id,
            key_digest=f"{index:064x}",
            body_digest="",
            lease_token="",
            lease_expires_at=now,
            created_at=now - timedelta(hours=25 if index < 450 else 23),
        )
        for index in range(460)
    ]
    await IdempotentReply.objects.abulk_create(rows)
    assert await sync_to_async(idempotency.purge)(now - idempotency.KEPT_FOR) == 450
    assert await IdempotentReply.objects.acount() == 10
