"""The flow of one request: this module calls the stages in their order and does nothing else.

    authenticate -> limit( decode -> claim -> plan -> resolve -> quote -> admit( attempt -> relay ) settle -> finish )

What the stages learn on the way stands in the journal; whatever ends the request, its booking is made from there.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import msgspec

from billing.apikeys import KeyRing, KeyWatch, Principal
from billing.errors import BudgetExceeded, InsufficientCredits
from billing.ledger.writer import LedgerWriter
from billing.limits import Limiter
from billing.reports import Allowance, get_allowance
from chat import outcome
from chat.admission import Admission, admit
from chat.attempts import Attempts
from chat.catalog import Catalog, plan
from chat.claims import Claimed, claimed, replay
from chat.content import Resolver
from chat.decode import decode
from chat.encode import Head, StreamEncoder, answer_headers, encoded_choices, quote_body, whole_reply
from chat.health import Health
from chat.outcome import Journal, Payer, Served
from chat.quote import fitting, judged, quote, shortened
from chat.relay import EventStream, relay
from chat.schema.content import Content
from chat.schema.delivery import Call, Client, EndState, Facts, Outcome
from chat.schema.quote import Limit, Quote
from chat.schema.reply import Reply
from chat.schema.request import ChatRequest
from chat.schema.route import Route, Tenant
from chat.states import remember
from chat.upstream import Upstream
from infery_site.errors import ApiError, Header
from infery_site.media import check_content_type
from infery_site.responses import FREE


class Pace(msgspec.Struct, frozen=True):
    """Times of the edge in seconds, from the settings."""

    hold_lease_s: float
    keep_alive_first_s: float
    keep_alive_every_s: float


class Gateway(msgspec.Struct, frozen=True):
    """The long-lived parts of one process that the stages use."""

    keys: KeyRing
    watch: KeyWatch
    limiter: Limiter
    catalog: Catalog
    ledger: LedgerWriter
    resolver: Resolver
    upstream: Upstream
    health: Health
    pace: Pace
    tenant_secret: bytes


class Exchange(msgspec.Struct, frozen=True):
    """One planned and quoted request, on its way to an answer."""

    gateway: Gateway
    claim: Claimed
    journal: Journal
    payer: Payer
    tenant: Tenant
    request: ChatRequest
    content: Content
    route: Route
    quote: Quote
    limit_headers: tuple[Header, ...]
    principal: Principal

    @property
    def client(self) -> Client:
        return self.claim.client


class _Answer(msgspec.Struct, frozen=True):
    """A whole answer that is there, its choices as they are sent, and what is booked for it."""

    served: Served
    reply: Reply
    choices: bytes
    ending: Outcome


async def complete(gateway: Gateway, call: Call, client: Client) -> None:
    """Answer one request through `client`. Raises ApiError for the edge to answer; nothing is held any more by then."""
    principal = await _authenticated(gateway.keys, call)
    journal = Journal(call)
    payer = Payer(principal.workspace_id, principal.account_id, principal.api_key_id)
    async with gateway.limiter.slot(principal) as slot, _Noted(gateway.ledger, journal, payer, client, slot.headers):
        check_content_type(call.content_type, call.content_encoding)
        if call.refusal is not None:
            raise call.refusal
        body = await client.read_body()
        decoded = decode(body, is_strict=call.is_strict)
        request = decoded.chat
        journal.read(request, decoded.ignored)
        async with claimed(principal, call, body, client) as claim:
            if claim.kept is not None:
                journal.outcome = Outcome(EndState.REPLAYED, claim.kept.status)
                await replay(client, claim.kept, slot.headers, is_stream=bool(request.stream))
                return
            route = plan(gateway.catalog.snapshot, request, principal, is_fallback_disabled=call.is_fallback_disabled)
            with gateway.resolver.stay(principal.workspace_id) as stay:
                content = await gateway.resolver.resolve(request, route, stay)
                route = fitting(request, route, content, is_strict=call.is_strict)
                bounds = quote(request, route, content)
                if call.is_dry_run:
                    journal.outcome = Outcome(EndState.DRY_RUN, 200)
                    allowance = await get_allowance(principal.api_key_id)
                    verdict = judged(request, route, content, bounds, _limits_of(allowance), is_strict=call.is_strict)
                    told = quote_body(verdict, route, decoded.ignored, allowance.available_microcredits)
                    await claim.client.respond(200, [FREE, *slot.headers], told)
                    return
                tenant = Tenant(gateway.tenant_secret, principal.workspace_public_id)
                exchange = Exchange(
                    gateway, claim, journal, payer, tenant, request, content, route, bounds, slot.headers, principal
                )
                await (_stream(exchange) if request.stream else _within_credit(exchange, _whole))


async def _authenticated(keys: KeyRing, call: Call) -> Principal:
    if call.key_digest:
        return await keys.of_digest(call.key_digest, scope="chat", address=call.address)
    return await keys.principal(call.authorization, scope="chat", address=call.address)


async def _within_credit(exchange: Exchange, answer: Callable[[Exchange], Awaitable[None]]) -> None:
    """An answer; where its bound is dearer than the credit left and the client named no limit, a shorter one."""
    while True:
        try:
            await answer(exchange)
        except (InsufficientCredits, BudgetExceeded) as refusal:
            shorter = _shortened(exchange, refusal.available_microcredits)
            if shorter is None:
                raise
            exchange = shorter
        else:
            return


async def _whole(exchange: Exchange) -> None:
    journal, client = exchange.journal, exchange.client
    await exchange.claim.confirm()
    admission, answer = _admitted(exchange), None
    try:
        async with _Counted(exchange), admission:
            async with _watched(exchange):
                served, reply = await _attempts(exchange, admission).whole(exchange.route, exchange.quote)
            client.shield()
            answer = _Answer(served, reply, encoded_choices(reply), outcome.of_reply(reply, journal))
            journal.outcome = answer.ending
        await _tell(exchange, answer, admission)
    except asyncio.CancelledError:
        if answer is None or client.has_left or client.is_started:
            raise
        # The server gives up waiting for us, but the answer is there and its booking on the way: a refusal would be paid.
        await admission.book_again()
        await _tell(exchange, answer, admission)


async def _tell(exchange: Exchange, answer: _Answer, admission: Admission) -> None:
    """Send a whole answer that was booked."""
    journal, served, reply = exchange.journal, answer.served, answer.reply
    await remember(exchange.payer.workspace_id, served.target, reply.states)
    charged = admission.settled.charged_microcredits
    body = whole_reply(_head(exchange, served), answer.choices, reply.system_fingerprint, answer.ending.usage, charged)
    facts = msgspec.structs.replace(_facts(exchange, served), is_schema_valid=journal.is_schema_valid)
    headers = answer_headers(facts, outcome.timings(journal, time.monotonic()), charged)
    await exchange.client.respond(200, [*headers, *exchange.limit_headers], body)


async def _stream(exchange: Exchange) -> None:
    client, pace = exchange.client, exchange.gateway.pace
    stream = EventStream(client, exchange.limit_headers, first_s=pace.keep_alive_first_s, every_s=pace.keep_alive_every_s)
    try:
        await _within_credit(exchange, functools.partial(_stream_within, stream))
    finally:
        await stream.close()


async def _stream_within(stream: EventStream, exchange: Exchange) -> None:
    journal, client = exchange.journal, exchange.client
    await exchange.claim.confirm()
    async with _Counted(exchange), _admitted(exchange) as admission:
        async with _watched(exchange):
            served, gated = await _attempts(exchange, admission).stream(exchange.route, exchange.quote)
        encoder = StreamEncoder(_head(exchange, served))
        facts = _facts(exchange, served)
        headers = answer_headers(facts, outcome.timings(journal, time.monotonic()))
        fare = admission.metered(exchange.quote.of(served.model.slug), served.model.prices)
        failure, is_fact_sent, is_whole = None, False, False
        try:
            async with _watched(exchange):
                is_fact_sent = await stream.open([*headers, *exchange.limit_headers])
                is_whole = await relay(gated, stream, encoder, journal.tally, fare)
            client.shield(is_kept=is_whole)
            ending = outcome.of_stream(journal) if is_whole else outcome.of_broken_stream(journal, EndState.OUT_OF_CREDIT)
            journal.outcome = ending
        except ApiError as error:
            failure = error
            state = EndState.REVOKED if error.status in {401, 403} else EndState.CUT
            journal.outcome = outcome.of_broken_stream(journal, state, error.code)
        except asyncio.CancelledError:
            state = EndState.CLIENT_GONE if client.has_left else EndState.DRAINED
            journal.outcome = outcome.of_broken_stream(journal, state)
            raise
        except Exception:
            if journal.tally.has_content:
                journal.outcome = outcome.of_broken_stream(journal, EndState.CUT, "internal_error")
            raise
        finally:
            await gated.aclose()
    if failure is not None:
        raise failure
    await remember(exchange.payer.workspace_id, served.target, gated.states)
    charged = admission.settled.charged_microcredits
    stop_cause = "" if is_whole or admission.refusal is None else admission.refusal.code
    late = msgspec.structs.replace(Facts() if is_fact_sent else facts, is_schema_valid=gated.is_schema_valid)
    await stream.end(encoder.last_frames(journal.outcome.usage, charged, late, stop_cause))


def _shortened(exchange: Exchange, available_microcredits: int) -> Exchange | None:
    """The exchange with a limit on its output that the credit covers."""
    request, route, content, bounds = exchange.request, exchange.route, exchange.content, exchange.quote
    is_strict = exchange.journal.call.is_strict
    shorter = shortened(request, route, content, bounds, available_microcredits, is_strict=is_strict)
    return None if shorter is None else msgspec.structs.replace(exchange, quote=shorter)


def _limits_of(allowance: Allowance) -> list[Limit]:
    """In the order in which the ledger asks them."""
    budgets = [Limit("key_budget_exceeded", left) for left in allowance.budgets_microcredits]
    return [*budgets, Limit("insufficient_credits", allowance.available_microcredits)]


def _admitted(exchange: Exchange) -> Admission:
    gateway = exchange.gateway
    first, lease_s = exchange.quote.steps[0], gateway.pace.hold_lease_s
    return admit(gateway.ledger, exchange.payer, exchange.journal, first, lease_s, exchange.client)


def _watched(exchange: Exchange) -> AbstractAsyncContextManager[None]:
    """Ends the block when the key of the request may no longer be used."""
    return exchange.gateway.watch.over(exchange.payer.api_key_id)


def _attempts(exchange: Exchange, admission: Admission) -> Attempts:
    gateway, journal = exchange.gateway, exchange.journal
    return Attempts(gateway.upstream, gateway.health, exchange.request, exchange.content, exchange.tenant, admission, journal)


def _head(exchange: Exchange, served: Served) -> Head:
    """The id, the time and the model of the answer; minted once."""
    return Head(exchange.journal.call.generation, int(time.time()), served.model.slug)


def _facts(exchange: Exchange, served: Served) -> Facts:
    asked = exchange.route.model_asked if served.depth else ""
    return Facts(served.model.slug, asked, served.depth, served.adaptations)


class _Noted(AbstractAsyncContextManager[None]):
    """Keeps a record of a request for which nothing was held, however it ended, and tells the limits on every refusal."""

    def __init__(
        self, ledger: LedgerWriter, journal: Journal, payer: Payer, client: Client, headers: tuple[Header, ...]
    ) -> None:
        self._ledger = ledger
        self._journal = journal
        self._payer = payer
        self._client = client
        self._headers = headers

    async def __aexit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, ApiError):
            error.headers += self._headers
        journal = self._journal
        if not journal.is_booked:
            ending = journal.outcome if error is None else None
            ending = ending or outcome.of_failure(error, has_left=self._client.has_left)
            self._ledger.note(outcome.note(journal, self._payer, ending, time.monotonic()))


class _Counted(AbstractAsyncContextManager[None]):
    """Counts the tokens of a request against the limits of its key, once it is booked and whatever ended it."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def __aexit__(self, _kind: object, _error: object, _trace: object) -> None:
        ending = self._exchange.journal.outcome
        if ending is not None:
            tokens = ending.usage.prompt_tokens + ending.usage.completion_tokens
            self._exchange.gateway.limiter.spend(self._exchange.principal, tokens)
