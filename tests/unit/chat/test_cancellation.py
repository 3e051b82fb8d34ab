"""A request is cancelled at each moment in which it waits: nothing stays held, the books balance, no charge is without answer.

Who waits for a whole answer gets it if it is paid, also from a server that gives up meanwhile.

The pipeline is the real one with all its parts; the model is the sandbox's, which answers in this process.
"""

from __future__ import annotations

import asyncio
import io
import json
import textwrap
import types
import uuid
from collections.abc import Coroutine, Generator
from typing import Any

import httpx
import msgspec
import pytest
from asgiref.sync import sync_to_async
from django.core.management import call_command

from billing.errors import IdempotencyInProgress
from billing.ledger.reconcile import reconcile
from billing.models import Hold, IdempotentReply, RequestTrace, UsageRecord
from chat.pipeline import complete
from chat.schema.delivery import Call
from chat.upstream import Upstream
from infery_site.ids import generation_id
from infery_site.lifespan import close_gateway, new_gateway, open_gateway
from tests.unit.billing.books import Subject, hold_of
from tests.unit.chat.clients import Recorder

pytestmark = pytest.mark.django_db(transaction=True)

MOST_WAITS = 400
QUIET_WITHIN_S = 20.0
CATALOG = textwrap.dedent(
    """
    providers:
      - {slug: sandbox, dialect: openai, base_url: "sandbox:"}
    models:
      - slug: echo
        name: Echo
        owned_by: tests
        modality: chat
        context_window: 8000
        max_output_tokens: 4000
        supports: [streaming]
        prices: {input: 10, output: 40}
        targets: [{provider: sandbox, upstream_model: echo}]
    """
)
MORE_MODELS = ("long", "counted", "broken")
CATALOG += "".join(
    f"""
  - slug: {slug}
    name: {slug}
    owned_by: tests
    context_window: 8000
    max_output_tokens: 4000
    supports: [streaming]
    prices: {{input: 10, output: 40}}
    targets: [{{provider: sandbox, upstream_model: {slug}, retries: 1}}]"""
    for slug in MORE_MODELS
)
CATALOG += "\nfallback_chains: [{source: broken, targets: [counted]}]\n"


@pytest.fixture
def catalog(db, tmp_path):
    path = tmp_path / "catalog.yaml"
    path.write_text(CATALOG, encoding="utf-8")
    call_command("load_catalog", str(path), stdout=io.StringIO())


@pytest.fixture
async def gateway(catalog, settings):
    settings.API_KEY_CACHE_S = 600.0  # so that each request waits as often as the one before
    settings.BREAKER_FAILURES = settings.EXTRA_CALLS_ALWAYS = 10**6  # and no target is left alone
    made = new_gateway()
    await open_gateway(made)
    yield made
    await close_gateway(made)


class Caller(Recorder):
    """Waits a moment for whatever it is asked, as a connection may; knows whether it has left."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self._body = body
        self.is_shielded = False

    def shield(self, *, is_kept=True) -> None:
        self.is_shielded = True

    async def read_body(self) -> bytes:
        await asyncio.sleep(0)
        return self._body

    async def respond(self, status, headers, body) -> None:
        await asyncio.sleep(0)
        await super().respond(status, headers, body)

    async def send(self, frames) -> None:
        await asyncio.sleep(0)
        await super().send(frames)

    async def end(self, frames=b"") -> None:
        await asyncio.sleep(0)
        self.sent.append("end")


class Stepped:
    """Runs a coroutine and calls `at_wait` the moment it waits for the `number`th time. `waits` counts them."""

    def __init__(self, coroutine: Coroutine[Any, Any, None], number: int, at_wait) -> None:
        self._coroutine = coroutine
        self._number = number
        self._at_wait = at_wait
        self.waits = 0

    @types.coroutine
    def run(self) -> Generator[Any, Any, None]:
        step, value = self._coroutine.send, None
        while True:
            try:
                waited_for = step(value)
            except StopIteration:
                return
            self.waits += 1
            if self.waits == self._number:
                asyncio.get_running_loop().call_soon(self._at_wait)
            try:
                value = yield waited_for
                step = self._coroutine.send
            except BaseException as error:  # noqa: BLE001 - handed on to where it belongs
                value, step = error, self._coroutine.throw


def request_of(world, *, stream, key, model="echo"):
    body = {"model": model, "messages": [{"role": "user", "content": "[[delay 0.01]] [[tokens 12]]"}], "stream": stream}
    caller = Caller(json.dumps(body).encode())
    call = Call(
        generation=generation_id(),
        request_id="cancelled",
        started_s=asyncio.get_running_loop().time(),
        authorization=(f"Bearer {world.key_text}".encode(),),
        content_type=b"application/json",
        idempotency_key=key,
    )
    return caller, call


async def run_until(gateway, world, number, *, stream, is_leaving, key, model="echo"):
    """One request, cancelled at its `number`th wait. Its generation, whether it was cancelled at all, and what its client got."""
    caller, call = request_of(world, stream=stream, key=key, model=model)
    cancelled = []

    def cancel() -> None:
        """As the client's leaving does, which a shield keeps off, or the server at the end of its patience."""
        caller.has_left = is_leaving
        if not (is_leaving and caller.is_shielded):
            cancelled.append(True)
            task.cancel()

    stepped = Stepped(complete(gateway, call, caller), number, cancel)
    task = asyncio.create_task(_awaited(stepped))
    [error] = await asyncio.gather(task, return_exceptions=True)
    is_told = not stream and bool(caller.sent)
    assert isinstance(error, asyncio.CancelledError) == (bool(cancelled) and not is_told), (number, error)
    return call.generation, stepped.waits >= number, caller.sent


async def _awaited(stepped: Stepped) -> None:
    await stepped.run()


class PausedResolver:
    """As if the process had stood still behind its claim, until somebody else had taken that over."""

    def __init__(self, resolver) -> None:
        self._resolver = resolver

    def stay(self, workspace_id):
        return self._resolver.stay(workspace_id)

    async def resolve(self, *asked):
        await IdempotentReply.objects.aupdate(lease_token="another's")
        return await self._resolver.resolve(*asked)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_who_lost_the_claim_holds_nothing_and_calls_nobody(gateway, acme, stream):
    paused = msgspec.structs.replace(gateway, resolver=PausedResolver(gateway.resolver))
    caller, call = request_of(acme, stream=stream, key="once")
    with pytest.raises(IdempotencyInProgress):
        await complete(paused, call, caller)
    record = await record_of(gateway, acme, call.generation)
    assert (record.status, record.end_state, record.charged_microcredits) == (409, "refused", 0)
    assert not await Hold.objects.filter(generation=call.generation).aexists()
    assert await IdempotentReply.objects.filter(lease_token="another's").aexists()


async def record_of(gateway, world, generation):
    """What was booked for it: all it asked of the ledger is in the queue, and is answered before what is asked now."""
    nothing = hold_of(Subject(world.workspace.pk, world.workspace.account.pk, world.key.pk), 0)
    await gateway.ledger.hold(nothing)
    assert not await Hold.objects.filter(state="open").aexists()
    return await UsageRecord.objects.filter(generation=generation).afirst()


@pytest.mark.slow
@pytest.mark.parametrize("is_leaving", [True, False], ids=["client-leaves", "server-gives-up"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_cancelled_at_each_wait(gateway, acme, stream, is_leaving):
    options = {"stream": stream, "is_leaving": is_leaving}
    generation, *_ = await run_until(gateway, acme, 1, key=None, **options)
    assert await record_of(gateway, acme, generation) is None, "the look-up of the key: nobody knows yet whose request it is"
    await run_until(gateway, acme, MOST_WAITS, key=None, **options)
    ends = []
    for number in range(1, MOST_WAITS):
        generation, was_reached, sent = await run_until(gateway, acme, number, key=uuid.uuid4().hex, **options)
        record = await record_of(gateway, acme, generation)
        await assert_the_key_is_back_or_the_answer_is_kept(generation, record)
        if not stream:
            assert [status for status, _, _ in sent] == [200] * (record.end_state == "done"), "paid is told, and told is paid"
        ends.append(record.end_state)
        if not was_reached:
            break
    assert len(ends) > 6
    # From some moment on the answer is complete, and nothing takes it back.
    left = "client_gone" if is_leaving else "drained"
    first_done = ends.index("done")
    assert (set(ends[:first_done]), set(ends[first_done:])) == ({left}, {"done"})
    assert len(ends) - first_done > 2, "it was cancelled while the answer was booked and kept, too"
    assert await sync_to_async(reconcile)() == []


class ScriptedProvider(httpx.AsyncBaseTransport):
    """`long` says more than is held at first, `counted` counts more than it says, `broken` is out of order."""

    async def handle_async_request(self, request):
        await asyncio.sleep(0)
        asked = json.loads(await request.aread())
        model = asked["model"]
        if model == "broken":
            return httpx.Response(503, json={"error": {"message": "Broken."}})
        texts, tokens = (["w" * 3_500] * 2, 1_750) if model == "long" else (["one", "two"], 3_000)
        if not asked.get("stream"):
            message = {"role": "assistant", "content": "".join(texts)}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            usage = {"prompt_tokens": 10, "completion_tokens": tokens}
            return httpx.Response(200, json={"choices": [choice], "usage": usage})
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=Events(texts, tokens))


class Events(httpx.AsyncByteStream):
    def __init__(self, texts, completion_tokens):
        deltas = [{"choices": [{"index": 0, "delta": {"content": text}}]} for text in texts]
        last = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        usage = {"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": completion_tokens}}
        self._events = [*(json.dumps(event) for event in (*deltas, last, usage)), "[DONE]"]

    async def __aiter__(self):
        for event in self._events:
            await asyncio.sleep(0)
            yield f"data: {event}\n\n".encode()


@pytest.mark.slow
@pytest.mark.parametrize("is_leaving", [True, False], ids=["client-leaves", "server-gives-up"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("model", MORE_MODELS)
async def test_cancelled_while_more_is_held(gateway, acme, model, stream, is_leaving):
    """While a stream takes a further hold, after retry and fallback, and while what the provider counted is covered."""
    scripted = msgspec.structs.replace(gateway, upstream=Upstream(sandbox=ScriptedProvider()))
    ends = []
    for number in range(1, MOST_WAITS):
        options = {"stream": stream, "is_leaving": is_leaving, "key": None, "model": model}
        generation, was_reached, _ = await run_until(scripted, acme, number, **options)
        record = await record_of(scripted, acme, generation)
        ends.append("" if record is None else record.end_state)
        holds = [hold async for hold in Hold.objects.filter(generation=generation)]
        paid = sum(hold.settled_microcredits for hold in holds)
        assert paid == (0 if record is None else record.charged_microcredits) <= sum(hold.amount_microcredits for hold in holds)
        if not was_reached:
            break
    assert (ends[-1], len(holds)) == ("done", 2 if stream else 1), "a stream is held for at first, and later for more"
    assert (record.charged_microcredits, record.overrun_microcredits) == (10 * 10 + record.completion_tokens * 40, 0)
    assert record.fallback_depth == (model == "broken")
    trace = await RequestTrace.objects.aget(generation=generation)
    assert len(trace.attempts) == (3 if model == "broken" else 1)
    assert set(ends) <= {"", "client_gone" if is_leaving else "drained", "done"}
    assert ends.index("done") > (6 if stream else 2)
    assert await sync_to_async(reconcile)() == []


async def assert_the_key_is_back_or_the_answer_is_kept(generation, record):
    """Whoever asks again must not pay again for an answer that was complete, nor wait for one that never comes."""
    claims = IdempotentReply.objects.filter(generation=generation)
    if record.end_state == "done":
        assert record.charged_microcredits > 0
        assert await claims.aexists()
        return
    async with asyncio.timeout(QUIET_WITHIN_S):  # a claim that was cancelled is given back by its thread
        async for _ in ticks():
            if not await claims.aexists():
                return


async def ticks():
    while True:
        yield
        await asyncio.sleep(0.01)
