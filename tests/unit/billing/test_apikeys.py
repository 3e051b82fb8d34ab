"""API keys: their grammar, how they are made and ended, and what the key ring of a process remembers."""

import asyncio
import gc
import hashlib
import re
import zlib
from datetime import timedelta

import pytest
from asgiref.sync import SyncToAsync, sync_to_async
from django.core.exceptions import ValidationError
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from billing.apikeys import KeyRing, KeyTerms, admitted, find, mint, new_key, parse_authorization, revoke
from billing.errors import (
    AddressNotAllowed,
    ExpiredApiKey,
    InsufficientScope,
    InvalidApiKey,
    LedgerUnavailable,
    MissingApiKey,
    WorkspaceSuspended,
)
from billing.models import ApiKey, AuditEvent
from billing.workspaces import create_workspace, suspend
from infery_site.ids import ALPHABET, base62


def bearer(key_text):
    return [f"Bearer {key_text}".encode()]


# Grammar


def test_a_key_has_a_prefix_32_random_characters_and_the_checksum_of_both():
    key = new_key()
    assert re.fullmatch(r"inf_[0-9A-Za-z]{38}", key)
    assert key[-6:] == base62(zlib.crc32(key[:-6].encode()), 6)
    assert new_key() != key


def test_the_digest_is_the_sha256_of_the_key_in_either_type_of_header():
    key = new_key()
    digest = hashlib.sha256(key.encode()).hexdigest()
    assert parse_authorization(bearer(key)) == digest
    assert parse_authorization([f"Bearer {key}"]) == digest


def test_no_header_is_a_missing_key():
    with pytest.raises(MissingApiKey) as refusal:
        parse_authorization([])
    assert refusal.value.headers == (("www-authenticate", "Bearer"),)


MALFORMED = {
    "empty": "",
    "scheme alone": "Bearer",
    "scheme and space": "Bearer ",
    "other scheme": "Basic dXNlcjpwYXNz",
    "lower case": "bearer {key}",
    "upper case": "BEARER {key}",
    "two spaces": "Bearer  {key}",
    "tab": "Bearer\t{key}",
    "leading space": " Bearer {key}",
    "trailing space": "Bearer {key} ",
    "trailing line": "Bearer {key}\n",
    "trailing junk": "Bearer {key}x",
    "two keys": "Bearer {key},Bearer {key}",
    "quoted": 'Bearer "{key}"',
    "no scheme": "{key}",
    "other prefix": "Bearer sk-0000000000000000000000000000000000000000",
    "short": "Bearer inf_0123",
    "long": "Bearer inf_" + "0" * 100_000,
    "not ASCII": "Bearer inf_ÿ{key}",
    "fullwidth digits": "Bearer inf_" + "\uff11" * 38,
    "zero bytes": "Bearer inf_" + "\0" * 38,
}


@pytest.mark.parametrize("form", MALFORMED.values(), ids=MALFORMED)
@pytest.mark.parametrize("kind", [str, bytes])
def test_what_is_not_exactly_a_key_is_refused_by_equal_bytes(form, kind):
    value = form.format(key=new_key())
    with pytest.raises(InvalidApiKey) as refusal:
        parse_authorization([value.encode() if kind is bytes else value])
    assert refusal.value.envelope() == InvalidApiKey().envelope()


def test_two_headers_are_refused():
    key = new_key()
    with pytest.raises(InvalidApiKey):
        parse_authorization([*bearer(key), *bearer(key)])


@given(st.integers(min_value=0, max_value=37), st.sampled_from(ALPHABET))
def test_one_wrong_character_is_found_by_the_checksum(position, character):
    key = new_key()
    wrong = key[: 4 + position] + character + key[5 + position :]
    if wrong == key:
        assert parse_authorization(bearer(wrong))
    else:
        with pytest.raises(InvalidApiKey):
            parse_authorization(bearer(wrong))


# Making and ending keys


@pytest.mark.django_db
def test_a_key_is_stored_as_its_digest_and_audited_without_its_text():
    workspace = create_workspace("acme", actor="test")
    key, text = mint(workspace, " laptop ", actor="staff:ada")
    assert (key.name, key.digest) == ("laptop", hashlib.sha256(text.encode()).hexdigest())
    assert key.hint == f"{text[:8]}...{text[-4:]}"
    event = AuditEvent.objects.get(action="api_key.created")
    assert (event.actor, event.workspace, event.target) == ("staff:ada", workspace, key.hint)
    stored = str([*ApiKey.objects.values(), *AuditEvent.objects.values()])
    assert text not in stored
    assert text[8:-4] not in stored


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("name", "terms"),
    [
        ("", KeyTerms()),
        ("   ", KeyTerms()),
        ("n" * 121, KeyTerms()),
        ("two\nlines", KeyTerms()),
        ("right-to-left \u202e", KeyTerms()),
        ("key", KeyTerms(scopes=["chat", "everything"])),
        ("key", KeyTerms(scopes=[])),
        ("key", KeyTerms(scopes=["chat", "keys:manage"])),
        ("key", KeyTerms(allowed_models=[])),
        ("key", KeyTerms(allowed_addresses=["300.1.1.1"])),
        ("key", KeyTerms(allowed_addresses=["example.org"])),
        ("key", KeyTerms(max_requests_per_minute=0)),
        ("key", KeyTerms(max_concurrent_requests=-1)),
        ("key", KeyTerms(expires_at=timezone.now() - timedelta(seconds=1))),
    ],
)
def test_terms_that_make_no_sense_are_refused(name, terms):
    workspace = create_workspace("acme", actor="test")
    with pytest.raises(ValidationError):
        mint(workspace, name, actor="test", terms=terms)
    assert not ApiKey.objects.exists()
    assert not AuditEvent.objects.filter(action="api_key.created").exists()


@pytest.mark.django_db
def test_a_principal_says_what_the_key_may_do():
    workspace = create_workspace("acme", actor="test")
    terms = KeyTerms(
        scopes=["chat"],
        allowed_models=["gpt-4o"],
        allowed_addresses=["10.1.2.3/8", "2001:db8::1"],
        max_requests_per_minute=30,
        max_concurrent_requests=2,
        expires_at=timezone.now() + timedelta(hours=1),
    )
    key, _ = mint(workspace, "key", actor="test", terms=terms)
    principal = find(key.digest)
    assert (principal.api_key_id, principal.workspace_id, principal.account_id) == (key.pk, workspace.pk, workspace.account.pk)
    assert principal.workspace_public_id == workspace.public_id
    assert principal.scopes == {"chat"}
    assert principal.allowed_models == {"gpt-4o"}
    assert [str(network) for network in principal.allowed_networks] == ["10.0.0.0/8", "2001:db8::1/128"]
    assert (principal.max_requests_per_minute, principal.max_concurrent_requests) == (30, 2)
    assert principal.expires_at == key.expires_at.timestamp()


@pytest.mark.django_db
def test_a_key_without_terms_may_use_every_model_from_anywhere():
    key, _ = mint(create_workspace("acme", actor="test"), "key", actor="test")
    principal = find(key.digest)
    assert principal.allowed_models is None
    assert principal.allowed_networks == ()
    assert admitted(principal, scope="chat", address=None) == principal
    with pytest.raises(InsufficientScope):
        admitted(principal, scope="keys:manage", address=None)


@pytest.mark.django_db
def test_unknown_and_revoked_keys_are_refused_alike():
    key, _ = mint(create_workspace("acme", actor="test"), "key", actor="test")
    assert revoke(key, actor="staff:ada", reason="leaked")
    assert not revoke(key, actor="staff:ada")
    assert find(key.digest) is InvalidApiKey
    assert find("0" * 64) is InvalidApiKey
    assert AuditEvent.objects.get(action="api_key.revoked").reason == "leaked"


@pytest.mark.django_db
def test_expired_keys_and_suspended_workspaces_say_so():
    workspace = create_workspace("acme", actor="test")
    key, _ = mint(workspace, "key", actor="test")
    suspend(workspace, actor="test", reason="unpaid")
    assert find(key.digest) is WorkspaceSuspended
    ApiKey.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert find(key.digest) is ExpiredApiKey


@pytest.mark.django_db
def test_the_look_up_is_one_query_by_the_digest():
    key, _ = mint(create_workspace("acme", actor="test"), "key", actor="test")
    with CaptureQueriesContext(connection) as queries:
        find(key.digest)
    assert len(queries) == 1


ADDRESSES = {
    "inside": ("10.200.0.1", True),
    "outside": ("11.0.0.1", False),
    "mapped into IPv6": ("::ffff:10.0.0.1", True),
    "IPv6": ("2001:db8::1", True),
    "IPv6 outside": ("2001:db8::2", False),
    "unknown": (None, False),
    "a socket path": ("unix:/run/gateway", False),
}


@pytest.mark.parametrize(("address", "is_allowed"), ADDRESSES.values(), ids=ADDRESSES)
@pytest.mark.django_db
def test_the_address_list_is_kept(address, is_allowed):
    terms = KeyTerms(allowed_addresses=["10.0.0.0/8", "2001:db8::1"])
    key, _ = mint(create_workspace("acme", actor="test"), "key", actor="test", terms=terms)
    principal = find(key.digest)
    if is_allowed:
        assert admitted(principal, scope=None, address=address) == principal
    else:
        with pytest.raises(AddressNotAllowed):
            admitted(principal, scope=None, address=address)


# The key ring


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def workspace(transactional_db):
    return create_workspace("acme", actor="test")


@pytest.fixture
def minted(workspace):
    return mint(workspace, "key", actor="test")


@pytest.fixture
def look_ups(transactional_db):
    """The queries for keys in the thread where asynchronous code asks the database."""
    seen = []

    def watch(execute, sql, params, many, context):
        if "billing_apikey" in sql:
            seen.append(sql)
        return execute(sql, params, many, context)

    in_thread(lambda: connection.execute_wrappers.append(watch))
    yield seen
    in_thread(lambda: connection.execute_wrappers.remove(watch))


def in_thread(function):
    SyncToAsync.single_thread_executor.submit(function).result()


async def begun():
    """Whatever was begun has ended."""
    await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()})


async def ask(ring, text, scope="chat"):
    return await ring.principal(bearer(text), scope=scope, address=None)


async def test_the_ring_remembers_for_its_time_to_live(minted, clock, look_ups):
    _, text = minted
    ring = KeyRing(ttl_s=0.5, clock=clock)
    first = await ask(ring, text)
    clock.now_s += 0.3
    assert await ask(ring, text) is first
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert len(look_ups) == 1
    clock.now_s += 0.3
    assert await ask(ring, text) == first
    assert len(look_ups) == 2


async def test_a_key_in_steady_use_is_looked_up_before_its_time_is_over(minted, clock, look_ups):
    key, text = minted
    ring = KeyRing(ttl_s=0.5, clock=clock)
    first = await ask(ring, text)
    await sync_to_async(revoke)(key, actor="test")
    look_ups.clear()
    clock.now_s += 0.45
    # Who comes now does not wait for the look-up that he begins, and nobody begins another.
    assert [await ask(ring, text) for _ in range(3)] == [first] * 3
    await begun()
    with pytest.raises(InvalidApiKey):
        await ask(ring, text)
    assert len(look_ups) == 1


async def test_a_look_up_that_failed_while_nobody_waited_is_made_again(minted, clock, caplog):
    key, text = minted
    ring = KeyRing(ttl_s=0.5, clock=clock)
    first = await ask(ring, text)
    clock.now_s += 0.45
    await sync_to_async(rename_table)("billing_apikey", "billing_apikey_away")
    try:
        assert await ask(ring, text) is first
        await begun()
        clock.now_s += 0.1
        with pytest.raises(LedgerUnavailable):
            await ask(ring, text)
    finally:
        await sync_to_async(rename_table)("billing_apikey_away", "billing_apikey")
    assert (await ask(ring, text)).api_key_id == key.pk
    gc.collect()
    assert [record for record in caplog.records if record.name == "asyncio"] == []


async def test_a_hit_does_not_wait(minted, clock):
    """A remembered key is answered in the first step of the coroutine: the event loop is not involved."""
    _, text = minted
    ring = KeyRing(ttl_s=60, clock=clock)
    first = await ask(ring, text)
    with pytest.raises(StopIteration) as answer:
        ask(ring, text).send(None)
    assert answer.value.value is first


async def test_scope_and_address_are_judged_at_each_call(minted, clock):
    _, text = minted
    ring = KeyRing(ttl_s=60, clock=clock)
    await ask(ring, text, scope="chat")
    with pytest.raises(InsufficientScope):
        await ask(ring, text, scope="workspace:manage")


async def test_a_revoked_key_is_refused_once_it_was_looked_up_again(minted, clock):
    key, text = minted
    ring = KeyRing(ttl_s=0.5, clock=clock)
    await ask(ring, text)
    await sync_to_async(revoke)(key, actor="test")
    clock.now_s += 0.5
    with pytest.raises(InvalidApiKey):
        await ask(ring, text)


async def test_refusals_are_remembered_too(clock, look_ups):
    text = new_key()
    ring = KeyRing(ttl_s=0.5, clock=clock)
    refusals = []
    for _ in range(3):
        with pytest.raises(InvalidApiKey) as refusal:
            await ask(ring, text)
        refusals.append(refusal.value)
    assert len(look_ups) == 1
    # One raised again and again would carry a longer traceback each time.
    assert len({id(refusal) for refusal in refusals}) == 3


async def test_a_wrong_checksum_costs_no_query(look_ups):
    text = new_key()
    with pytest.raises(InvalidApiKey):
        await ask(KeyRing(), text[:-1] + ("0" if text[-1] != "0" else "1"))
    assert look_ups == []


async def test_many_who_ask_at_once_share_one_look_up(minted, clock, look_ups):
    key, text = minted
    ring = KeyRing(ttl_s=0.5, clock=clock)
    principals = await asyncio.gather(*(ask(ring, text) for _ in range(50)))
    assert {principal.api_key_id for principal in principals} == {key.pk}
    assert len(look_ups) == 1


async def test_one_who_leaves_does_not_take_the_look_up_along(minted, clock):
    key, text = minted
    ring = KeyRing(ttl_s=0.5, clock=clock)
    leaving = asyncio.create_task(ask(ring, text))
    staying = asyncio.create_task(ask(ring, text))
    await asyncio.sleep(0)
    leaving.cancel()
    assert (await staying).api_key_id == key.pk
    assert leaving.cancelled()


async def test_the_clock_ends_a_key_between_two_look_ups(workspace, clock):
    terms = KeyTerms(expires_at=timezone.now() + timedelta(seconds=0.5))
    _, text = await sync_to_async(mint)(workspace, "key", actor="test", terms=terms)
    ring = KeyRing(ttl_s=60, clock=clock)
    await ask(ring, text)
    await asyncio.sleep(0.6)
    with pytest.raises(ExpiredApiKey):
        await ask(ring, text)


async def test_the_ring_is_bounded_and_the_oldest_leave_first(workspace, clock, look_ups):
    texts = [(await sync_to_async(mint)(workspace, f"key {number}", actor="test"))[1] for number in range(4)]
    look_ups.clear()
    ring = KeyRing(ttl_s=60, max_entries=3, clock=clock)
    for text in texts:
        await ask(ring, text)
    await ask(ring, texts[3])
    assert len(look_ups) == 4
    await ask(ring, texts[0])
    assert len(look_ups) == 5


async def test_a_database_that_is_away_is_a_503_and_is_asked_again(minted, clock):
    """Away: without the table, which both engines refuse as they refuse a lost connection."""
    key, text = minted
    ring = KeyRing(ttl_s=0.5, clock=clock)
    await sync_to_async(rename_table)("billing_apikey", "billing_apikey_away")
    try:
        with pytest.raises(LedgerUnavailable):
            await ask(ring, text)
    finally:
        await sync_to_async(rename_table)("billing_apikey_away", "billing_apikey")
    assert (await ask(ring, text)).api_key_id == key.pk


def rename_table(old, new):
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {old} RENAME TO {new}")
