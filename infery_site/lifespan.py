"""The life of one serving process: it starts what the pipeline uses, drains when told to stop, and stops it in order.

Servers with a lifespan start it before the first request; under one without, the first request does. Nothing stops it
there: holds are then given back by their lease.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import hashlib
import logging
import math
import multiprocessing
import signal
import types
from collections.abc import Awaitable, Callable
from typing import Any

from django.conf import settings

from billing.apikeys import KeyRing, KeyWatch
from billing.courier import Courier
from billing.housekeeping import Housekeeper
from billing.ledger.writer import LedgerWriter
from billing.limits import Limiter
from chat.catalog import Catalog
from chat.chores import CHORES, new_watch
from chat.content import Resolver
from chat.health import Health, Patience
from chat.pipeline import Gateway, Pace
from chat.upstream import Upstream
from files.documents import Documents
from files.sandbox import Sandbox
from infery_site.addresses import Judge
from infery_site.fetch import Fetcher
from infery_site.health import DRAINING
from infery_site.lag import LoopWatch

logger = logging.getLogger(__name__)

CHECK_OPEN_EVERY_S = 0.05
COLLECT_AFTER = (20_000, 50, 100)

Message = dict[str, Any]


def new_gateway(fetcher: Fetcher | None = None) -> Gateway:
    """The parts that the pipeline uses, as the settings say; none of them is started."""
    fetcher = fetcher or Fetcher(judge=Judge(settings.OWN_NETWORKS))
    sandbox = Sandbox()
    limiter = Limiter(workers=settings.WORKERS, redis_url=settings.REDIS_URL)
    return Gateway(
        keys=KeyRing(),
        watch=KeyWatch(),
        limiter=limiter,
        catalog=Catalog(),
        ledger=LedgerWriter(),
        resolver=Resolver(fetcher, limiter, sandbox, Documents(sandbox)),
        upstream=Upstream(),
        health=Health(Patience(settings.BREAKER_FAILURES, settings.BREAKER_PROBE_EVERY_S, settings.EXTRA_CALLS_ALWAYS)),
        pace=Pace(settings.HOLD_LEASE_S, settings.KEEP_ALIVE_FIRST_S, settings.KEEP_ALIVE_EVERY_S),
        tenant_secret=hashlib.sha256(b"tenant tags\0" + settings.SECRET_KEY.encode()).digest(),
    )


async def open_gateway(gateway: Gateway) -> None:
    await gateway.catalog.start()
    await gateway.ledger.start()
    await gateway.watch.start()
    await gateway.upstream.start()
    await gateway.limiter.start()
    gateway.resolver.start()


async def close_gateway(gateway: Gateway) -> None:
    gateway.resolver.stop()
    await gateway.limiter.stop()
    await gateway.catalog.stop()
    await gateway.watch.stop()
    await gateway.ledger.stop()
    await gateway.upstream.stop()


class Runtime:
    """What one process needs to answer requests. `started` gives it; the first call makes it, once, by `make`."""

    def __init__(self, make: Callable[[], Gateway] = new_gateway) -> None:
        self.open_requests = 0
        """Of all kinds: `infery_site.asgi` counts them."""
        self._make = make
        self._gateway: Gateway | None = None
        self._housekeeper = Housekeeper(CHORES, new_watch())
        self._courier = Courier()
        self._loop_watch = LoopWatch(settings.LOOP_LAG_S)
        self._starting: asyncio.Lock | None = None

    @property
    def is_draining(self) -> bool:
        return DRAINING.is_set()

    async def started(self) -> Gateway:
        if self._gateway is not None:
            return self._gateway
        if self._starting is None:
            self._starting = asyncio.Lock()
        async with self._starting:
            if self._gateway is None:
                self._gateway = await self._start()
                self._follow_signals(asyncio.get_running_loop())
        return self._gateway

    async def _start(self) -> Gateway:
        gateway = self._make()
        await open_gateway(gateway)
        await self._housekeeper.start()
        await self._courier.start()
        self._loop_watch.start()
        _spare_the_heap()
        return gateway

    async def stop(self) -> None:
        """Wait until no request is open, then stop what they used. A server may call this while they still settle."""
        DRAINING.set()
        gateway, self._gateway = self._gateway, None
        # What is open now was drained or cancelled, and settles at most.
        await self._wait_for_open_requests(settings.LEDGER_FLUSH_RETRY_S)
        if self.open_requests:
            logger.error("stopping with open requests", extra={"count": self.open_requests})
        if gateway is not None:
            self._loop_watch.stop()
            await asyncio.gather(self._courier.stop(), self._housekeeper.stop())
            await close_gateway(gateway)

    def _is_busy(self) -> bool:
        """Whether requests are open, or settled while nobody waits for that any more."""
        return self.open_requests > 0 or (self._gateway is not None and self._gateway.ledger.is_settling)

    async def _wait_for_open_requests(self, most_s: float) -> None:
        for _ in range(math.ceil(most_s / CHECK_OPEN_EVERY_S)):
            if not self._is_busy():
                return
            await asyncio.sleep(CHECK_OPEN_EVERY_S)

    async def _drain(self, leave: Callable[[], object]) -> None:
        """Refuse what is new, and leave when nothing is open any more; asked once more, leave at once.

        The server stops listening only then, so that whoever still comes is told to come again and does not find a closed
        door.
        """
        if not self.is_draining:
            DRAINING.set()
            await self._wait_for_open_requests(settings.DRAIN_LIMIT_S)
        leave()

    def _follow_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        """Drain on SIGTERM and Ctrl-C, then do what the server would have done; leave when the parent process is gone.

        Ctrl-C reaches every process of the terminal. A worker begins with what its parent then sends, and leaves at a
        second one.
        """
        handler = signal.getsignal(signal.SIGTERM)
        if not callable(handler):
            return  # No server waits for the signal: the system ends the process, which it would not behind a handler.
        parent = multiprocessing.parent_process()
        drains: set[asyncio.Task[None]] = set()

        def begin(leave: Callable[[], object]) -> None:
            drains.add(loop.create_task(self._drain(leave)))

        def drain(number: int, frame: types.FrameType | None) -> None:
            if number == signal.SIGTERM or parent is None or self.is_draining:
                loop.call_soon_threadsafe(begin, functools.partial(handler, signal.SIGTERM, frame))

        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, drain)
        except ValueError:
            return  # Not the main thread, as under an autoreloader: nothing there drains.
        if parent is not None:
            loop.add_reader(parent.sentinel, _leave_with_parent, loop, parent.sentinel)


def _spare_the_heap() -> None:
    """Keep the collector away from what the start has made and will never free.

    Without this it walks Django's hundreds of thousands of objects again and again, for a fifth of a request's CPU time.
    Requests make few cycles, so it may also look less often.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


def _leave_with_parent(loop: asyncio.AbstractEventLoop, sentinel: int) -> None:
    loop.remove_reader(sentinel)
    signal.raise_signal(signal.SIGTERM)


class Lifespan:
    """The `lifespan` side of ASGI."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        await receive()
        try:
            await self._runtime.started()
        except Exception as error:
            logger.exception("the process could not start")
            await send({"type": "lifespan.startup.failed", "message": type(error).__name__})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._runtime.stop()
        await send({"type": "lifespan.shutdown.complete"})
