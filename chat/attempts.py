"""Getting an answer: the steps of the route in order, the targets of each step, and the tries of each target.

One loop for both modes. A whole reply is read to its end; a stream is opened behind a gate that waits for the first real
chunk, so that until then any failure still falls back and status and headers can tell the truth. Failures are
classified by the adapter; the failure of the model asked for is the one the caller sees when the whole chain has failed.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from chat import structured, upstream
from chat.adapt import adapt
from chat.content import prepared
from chat.errors import (
    UpstreamContextLength,
    UpstreamFailure,
    UpstreamOverloaded,
    UpstreamRejected,
    UpstreamResponseTooLarge,
    UpstreamSpared,
    UpstreamTimeout,
)
from chat.gate import GatedStream, failure_of
from chat.health import Health
from chat.outcome import Journal, Served
from chat.providers.base import Adapter, Asked, UpstreamCall
from chat.providers.registry import ADAPTERS
from chat.quote import is_too_long
from chat.schema.content import Content
from chat.schema.delivery import Attempt, Meter
from chat.schema.quote import Quote, StepQuote
from chat.schema.reply import Reply
from chat.schema.request import ChatRequest
from chat.schema.route import ModelInfo, Route, Step, TargetInfo, Tenant
from chat.structured import JsonStream, Wanted
from chat.upstream import Timeouts, Upstream
from infery_site.errors import ApiError
from infery_site.failpoints import reach

REPLY_MOST_BYTES = 64 * 1024 * 1024
FAILURE_MOST_BYTES = 1024 * 1024
STREAM_MOST_BYTES_PER_TOKEN = 4096  # each token comes in a chunk of its own, perhaps with twenty alternatives and padding
STREAM_MOST_BYTES_BESIDES = 1024 * 1024
CONNECTION_ENDS_LATER_S = 0.05
RETRY_JITTER_MOST_S = 0.25
RETRY_AFTER_MOST_S = 5

logger = logging.getLogger(__name__)

T = TypeVar("T")


class _Tried(msgspec.Struct, frozen=True):
    """One target's part of the request: what it is asked, what the answer must be, and the bounds of its step."""

    asked: Asked
    wanted: Wanted | None
    bounds: StepQuote


Ask = Callable[[Adapter, _Tried], Awaitable[T]]


class Attempts:
    """Everything that one request tries. Writes each attempt and who served into the journal."""

    def __init__(
        self,
        transport: Upstream,
        health: Health,
        request: ChatRequest,
        content: Content,
        tenant: Tenant,
        meter: Meter,
        journal: Journal,
    ) -> None:
        self._upstream = transport
        self._health = health
        self._called: set[str] = set()
        self._request = request
        self._content = content
        self._tenant = tenant
        self._meter = meter
        self._journal = journal

    def whole(self, route: Route, quote: Quote) -> Awaitable[tuple[Served, Reply]]:
        """The first whole answer the route gives. Raises the failure of the model asked for if there is none."""
        return self._walk(route, quote, self._whole)

    def stream(self, route: Route, quote: Quote) -> Awaitable[tuple[Served, GatedStream]]:
        """The first stream of the route that has begun to speak. Raises as `whole` does."""
        return self._walk(route, quote, self._open)

    async def _walk(self, route: Route, quote: Quote, ask: Ask[T]) -> tuple[Served, T]:
        first_failure: UpstreamFailure | None = None
        tried_count = 0
        too_small_tokens = 0
        for step, depth, bounds in zip(route.steps, route.depths, quote.steps, strict=True):
            model = step.model
            if model.context_window <= too_small_tokens or (depth and is_too_long(self._content, model)):
                continue
            missing = bounds.hold_microcredits - self._meter.held_microcredits
            if missing > 0 and not await self._meter.extend(missing, bounds.price_version_id):
                continue
            content = await self._ready(model, is_first=first_failure is None)
            if content is None or (depth and is_too_long(content, model)):
                continue
            tried_count += 1
            try:
                return await self._step(step, bounds, depth, content, ask)
            except UpstreamFailure as failure:
                first_failure = first_failure or failure
                if route.steps[0].model.has_context_fallback and _was_too_long(failure, bounds, model):
                    too_small_tokens = model.context_window
                elif failure.is_final:
                    break
        if first_failure is None:
            raise UpstreamOverloaded
        if tried_count > 1:
            first_failure.headers += (("x-fallback-from", route.model_asked), ("x-fallback-depth", str(tried_count - 1)))
        raise first_failure

    async def _ready(self, model: ModelInfo, *, is_first: bool) -> Content | None:
        """The content as `model` needs it; None for a fallback that cannot be given it, which is not tried then."""
        if is_too_long(self._content, model):
            return self._content
        try:
            return await prepared(self._content, model)
        except ApiError:
            if is_first:
                raise
            return None

    async def _step(self, step: Step, bounds: StepQuote, depth: int, content: Content, ask: Ask[T]) -> tuple[Served, T]:
        """The first answer that one of the step's targets gives.

        Raises the first failure of them that tells something, or the one that ends the route.
        """
        if is_too_long(content, step.model):
            raise UpstreamContextLength
        first: UpstreamFailure | None = None
        request = bounds.limited(self._request)
        for target in sorted(step.targets, key=self._health.is_bad):
            adapted = bounds.adapted if target is step.targets[0] and content is self._content else None
            adapted = adapted or adapt(request, content, step.model, target)
            changes = self._journal.adaptations + bounds.clamps + adapted.changes
            served = Served(step.model, target, depth, changes, bounds, content.new_pages)
            states = {call: state.data for call, state in content.states.items() if state.maker == target.maker}
            asked = Asked(adapted.request, step.model, target, self._tenant, states)
            tried = _Tried(asked, structured.wanted_of(self._request, adapted.json_tool), bounds)
            for tries_left in range(target.retries, -1, -1):
                try:
                    answer = await self._noted(served, self._judged(target, ask, tried))
                except UpstreamFailure as failure:
                    first = failure if first is None or isinstance(first, UpstreamSpared) else first
                    _mark_final(target, failure)
                    if failure.is_alarm:
                        provider = target.provider.slug
                        logger.critical("provider account refused", extra={"provider": provider, "code": failure.code})
                    if failure.is_final:
                        raise
                    if not tries_left or not self._is_worth_a_retry(target, failure):
                        break
                    await asyncio.sleep(_pause_s(failure))
                else:
                    self._journal.served = served
                    return served, answer
        raise first or UpstreamOverloaded()

    def _is_worth_a_retry(self, target: TargetInfo, failure: UpstreamFailure) -> bool:
        """Whether the same target may do better in a moment. Who wants to be left alone for longer is left alone."""
        if failure.is_alarm or isinstance(failure, UpstreamSpared) or (failure.wait_s or 0) > RETRY_AFTER_MOST_S:
            return False
        return self._health.is_worth_a_retry(target)

    async def _judged(self, target: TargetInfo, ask: Ask[T], tried: _Tried) -> T:
        """One try, unless the target is known to fail or its provider is asked enough; what comes of it is told to the judge."""
        provider = target.provider.slug
        self._health.admit(target, is_extra=provider in self._called)
        self._called.add(provider)
        reach("attempt.called")
        try:
            answer = await ask(ADAPTERS[target.provider.dialect], tried)
        except UpstreamFailure as failure:
            self._health.failed(target, failure)
            raise
        except BaseException:
            self._health.withdrawn(target)
            raise
        reach("attempt.answered")
        self._health.succeeded(target)
        return answer

    async def _noted(self, served: Served, asking: Awaitable[T]) -> T:
        """Await one try and write it into the journal, whatever becomes of it."""
        started_s = time.monotonic()
        result, status = "cancelled", None
        try:
            answer = await asking
            result, status = "served", 200
        except UpstreamFailure as failure:
            result, status = failure.code, failure.upstream_status
            raise
        finally:
            self._journal.attempts.append(
                Attempt(
                    model=served.model.slug,
                    provider=served.target.provider.slug,
                    upstream_model=served.target.upstream_model,
                    depth=served.depth,
                    started_ms=round((started_s - self._journal.call.started_s) * 1000),
                    duration_ms=round((time.monotonic() - started_s) * 1000),
                    result=result,
                    upstream_status=status,
                    prompt_tokens_estimate=served.bounds.prompt_tokens_estimate,
                )
            )
        return answer

    async def _whole(self, adapter: Adapter, tried: _Tried) -> Reply:
        asked = tried.asked
        call, target = adapter.build(asked), asked.target
        try:
            response = await self._post(call, target, Timeouts(target.connect_s, target.total_s, total_s=target.total_s))
            body = await upstream.read_limited(response, limit_bytes=REPLY_MOST_BYTES)
        except upstream.TransportError as error:
            raise failure_of(error) from error
        except upstream.ResponseTooLargeError as error:
            raise UpstreamResponseTooLarge from error
        if response.status_code != 200:
            raise adapter.failure(response.status_code, response.headers, body)
        reply = adapter.reply(asked, body)
        if tried.wanted is not None:
            reply, self._journal.is_schema_valid = structured.whole(reply, tried.wanted)
        return reply

    async def _open(self, adapter: Adapter, tried: _Tried) -> GatedStream:
        asked = tried.asked
        call, target = adapter.build(asked), asked.target
        ends_s = time.monotonic() + target.total_s
        try:
            async with asyncio.timeout(min(target.first_token_s, target.total_s)):
                # Who thinks first says nothing meanwhile, not even a head: the gate's limit, and the idle one behind it.
                silence_s = max(target.first_token_s, target.idle_s)
                # The gate knows when the time is over; the connection's limit, a moment later, ends what still flows then.
                most_s = target.total_s + CONNECTION_ENDS_LATER_S
                response = await self._post(call, target, Timeouts(target.connect_s, silence_s, total_s=most_s))
                if response.status_code != 200:
                    body = await upstream.read_limited(response, limit_bytes=FAILURE_MOST_BYTES)
                    raise adapter.failure(response.status_code, response.headers, body)
                most_bytes = tried.bounds.output_tokens_bound * STREAM_MOST_BYTES_PER_TOKEN + STREAM_MOST_BYTES_BESIDES
                decoder = adapter.stream(asked)
                if tried.wanted is not None:
                    decoder = JsonStream(decoder, tried.wanted)
                on_failure = functools.partial(self._health.failed, target)
                stream = GatedStream(response, decoder, on_failure, most_bytes=most_bytes, idle_s=target.idle_s, ends_s=ends_s)
                try:
                    await stream.wait_for_content()
                except BaseException:
                    await stream.aclose()
                    raise
                self._journal.first_token_s = time.monotonic()
                return stream
        except upstream.TransportError as error:
            raise failure_of(error) from error
        except upstream.ResponseTooLargeError as error:
            raise UpstreamResponseTooLarge from error
        except TimeoutError as error:
            raise UpstreamTimeout from error

    def _post(self, call: UpstreamCall, target: TargetInfo, timeouts: Timeouts) -> Awaitable[upstream.Response]:
        request = upstream.build_request(
            call.url,
            headers=call.headers,
            body=call.body,
            timeouts=timeouts,
            allow_private_address=target.provider.allow_private_address,
        )
        return self._upstream.send(request)


def _pause_s(failure: UpstreamFailure) -> float:
    """How long to wait before the same target is asked again: what it asks for, and some jitter on top."""
    return (failure.wait_s or 0) + random.uniform(0, RETRY_JITTER_MOST_S)  # noqa: S311 - spreads load, guards nothing


def _was_too_long(failure: UpstreamFailure, bounds: StepQuote, model: ModelInfo) -> bool:
    """Whether the prompt was refused for its length.

    A provider that has no code for that only says that the request is invalid; our estimate tells then.
    """
    if isinstance(failure, UpstreamContextLength):
        return True
    return isinstance(failure, UpstreamRejected) and bounds.prompt_tokens_estimate >= model.context_window


def _mark_final(target: TargetInfo, failure: UpstreamFailure) -> None:
    """Whether somebody else is asked after this answer of the target, where that was chosen by its status."""
    status, chosen = failure.upstream_status, target.fallback_statuses
    if chosen and status is not None and status != 200:
        failure.is_final = status not in chosen
