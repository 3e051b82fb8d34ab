"""The two doors of chat, `POST /v1/chat/completions` and the playground's: what the request line and the headers say, in the order of the contract.

size -> host and method -> (pipeline: key, content type, limits, body). Nothing here knows what a chat is.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple, Protocol
from urllib.parse import parse_qs

from asgiref.sync import sync_to_async

from billing.console.doors import digest_of_visitor
from billing.permissions import Action
from chat.errors import InvalidRequest
from chat.pipeline import Gateway, complete
from chat.schema.delivery import Call
from chat.streaming import BodyLimits, HttpClient, StreamingConsumer
from infery_site.errors import ApiError
from infery_site.health import ServerDraining
from infery_site.ids import generation_id, request_id
from infery_site.middleware import InvalidHost, check_declared_length, is_allowed_host
from infery_site.patience import in_time
from infery_site.responses import Receive, Send
from infery_site.wire import wire_of

ALLOW = ("allow", "POST, OPTIONS")

_SWITCH = {"true": True, "1": True, "false": False, "0": False}


class Runtime(Protocol):
    """What serves this process: see `infery_site.lifespan`."""

    @property
    def is_draining(self) -> bool: ...

    async def started(self) -> Gateway: ...


class MethodNotAllowed(ApiError):
    def __init__(self) -> None:
        super().__init__(405, "method_not_allowed", "This URL takes POST only.", headers=[ALLOW])


class _Headers:
    """The headers this endpoint reads. A repeated one is a list, as HTTP has it, which none of them may be."""

    __slots__ = ("_is_each_once", "_last", "_pairs")

    def __init__(self, pairs: list[tuple[bytes, bytes]]) -> None:
        self._pairs = pairs
        self._last = dict(pairs)
        self._is_each_once = len(self._last) == len(pairs)

    def all(self, name: bytes) -> tuple[bytes, ...]:
        """Every value of a header, in order."""
        value = self._last.get(name)
        if value is None:
            return ()
        if self._is_each_once:
            return (value,)
        return tuple([value for other, value in self._pairs if other == name])

    def has(self, name: bytes) -> bool:
        return name in self._last

    def joined(self, name: bytes) -> bytes | None:
        """One value for all lines of a header; None where it is not sent."""
        if self._is_each_once:
            return self._last.get(name)
        values = self.all(name)
        return b", ".join(values) if values else None

    def text(self, name: bytes) -> str | None:
        value = self.joined(name)
        return None if value is None else value.decode("latin-1")


class _Switches(NamedTuple):
    is_strict: bool = False
    is_fallback_disabled: bool = False
    is_dry_run: bool = False


_OFF = _Switches()


def _switches(headers: _Headers, query: bytes) -> _Switches:
    """What the caller switched on. Raises InvalidRequest: a typing error must not cost what it was to prevent."""
    if not (query or headers.has(b"x-strict") or headers.has(b"x-disable-fallback")):
        return _OFF  # nearly always
    # As text: parse_qs cannot give as bytes what is not ASCII.
    asked = parse_qs(query.decode("latin-1"), keep_blank_values=True).get("dry_run", []) if query else []
    return _Switches(
        is_strict=_switch("x-strict", headers.text(b"x-strict")),
        is_fallback_disabled=_switch("x-disable-fallback", headers.text(b"x-disable-fallback")),
        is_dry_run=_switch("dry_run", ", ".join(asked) if asked else None),
    )


def _switch(name: str, value: str | None) -> bool:
    """Off where it is not given at all."""
    if value is None:
        return False
    is_on = _SWITCH.get(value.strip().lower())
    if is_on is None:
        raise InvalidRequest("invalid_value", f"{name} must be true or 1, or false or 0, and be given once.", name)
    return is_on


class ChatCompletions(StreamingConsumer):
    """One POST. `runtime` gives the process's gateway."""

    def __init__(self, *, runtime: Runtime, limits: BodyLimits) -> None:
        super().__init__()
        self._runtime = runtime
        self._limits = limits

    def client(self, scope: Any, receive: Receive, send: Send) -> HttpClient:
        self._headers = _Headers(scope["headers"])
        label = request_id(self._headers.text(b"x-request-id"))
        return HttpClient(receive, send, label, self._limits, wire_of(scope))

    async def answer(self, scope: Any, client: HttpClient) -> None:
        self._check_framing(scope)
        if scope["method"] == "OPTIONS":
            await client.respond(200, [ALLOW], b"{}")
            return
        if scope["method"] != "POST":
            raise MethodNotAllowed
        call = self._call(scope, client, await self.key_digest(scope))
        await complete(await self._runtime.started(), call, client)

    async def key_digest(self, scope: Any) -> str:
        """Which key the caller has, where his headers do not say."""
        return ""

    def _check_framing(self, scope: Any) -> None:
        check_declared_length(scope["headers"], self._limits.limit_bytes)
        host = self._headers.text(b"host") or ""
        if not is_allowed_host(host):
            raise InvalidHost(host)
        if self._runtime.is_draining:
            raise ServerDraining

    def _call(self, scope: Any, client: HttpClient, key_digest: str) -> Call:
        headers = self._headers
        switches, refusal = _OFF, None
        try:
            switches = _switches(headers, scope["query_string"])
        except InvalidRequest as error:
            refusal = error
        return Call(
            generation=generation_id(),
            request_id=client.request_id,
            started_s=time.monotonic(),
            authorization=headers.all(b"authorization"),
            address=scope["client"][0] if scope.get("client") else None,
            content_type=headers.joined(b"content-type") or b"",
            content_encoding=headers.joined(b"content-encoding") or b"",
            idempotency_key=headers.text(b"idempotency-key"),
            is_strict=switches.is_strict,
            is_fallback_disabled=switches.is_fallback_disabled,
            is_dry_run=switches.is_dry_run,
            refusal=refusal,
            key_digest=key_digest,
        )


class PlaygroundChat(ChatCompletions):
    """The same for a person in the console: by his session, his role, and the key that his runs are booked on."""

    async def key_digest(self, scope: Any) -> str:
        return await in_time(sync_to_async(digest_of_visitor, thread_sensitive=False)(scope, Action.USE_PLAYGROUND))
