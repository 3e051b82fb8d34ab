"""`POST /v1/files`, in front of Django: Django would read the whole body before anybody asks for the key.

size -> host -> draining -> key -> content type -> limits -> body, piece by piece (`files.uploads`) -> idempotency -> the
store. Every other request passes untouched.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from functools import partial
from typing import IO, Any, ParamSpec, TypeVar

import msgspec
import structlog
from django.conf import settings
from django.db import Error as DatabaseFault
from django.db import close_old_connections
from django.utils import timezone

from billing import idempotency
from billing.apikeys import Principal, admitted, find, parse_authorization
from billing.console.doors import digest_of_visitor
from billing.errors import LedgerUnavailable
from billing.limits import Limiter, Slot
from billing.permissions import Action
from files import keeping, storage
from files.api.objects import file_object, room_headers
from files.errors import FileTooLarge
from files.models import StoredFile
from files.multipart import boundary_of
from files.room import room_for
from files.uploads import Form, fingerprint
from infery_site import ids
from infery_site.errors import ENVELOPE_CONTENT_TYPE, ApiError, Header, internal_error
from infery_site.health import DRAINING, ServerDraining
from infery_site.middleware import (
    Application,
    InvalidHost,
    RequestTooLarge,
    check_declared_length,
    is_allowed_host,
    limited,
    offered_request_id,
)
from infery_site.patience import in_time
from infery_site.responses import API_HEADERS, REQUEST_ID_HEADER, Message, Receive, Send, encode_headers, send_error

log = structlog.get_logger(__name__)

PATH = "/v1/files"
# The same for a person in the console, by his session
CONSOLE_PATH = "/console/files/upload"
SCOPE = "files:write"
ROUTE = "POST /v1/files"
PIECE_BYTES = 256 * 1024
# Fields, heads of parts and boundaries come on top of a file.
FORM_BYTES = 256 * 1024
REPLAYED: Header = ("idempotent-replayed", "true")

P = ParamSpec("P")
T = TypeVar("T")

# Each for what waits for another thing, so that a store or a disk that hangs keeps nobody from being told so.
_LOOK_UPS = ThreadPoolExecutor(max_workers=4, thread_name_prefix="uploads-look-up")
_PIECES = ThreadPoolExecutor(max_workers=8, thread_name_prefix="uploads-piece")
_STORE = ThreadPoolExecutor(max_workers=8, thread_name_prefix="uploads-store")


class Uploads:
    """An ASGI application in front of another, which gets everything that is no upload."""

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] not in {PATH, CONSOLE_PATH}:
            await self._application(scope, receive, send)
            return
        request_id = ids.request_id(offered_request_id(scope["headers"]))
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            await _Upload(scope, receive, send, request_id).answer()


class _Left(Exception):
    """The client is gone, and with it whoever would read an answer."""


class _Upload:
    """One request."""

    def __init__(self, scope: Message, receive: Receive, send: Send, request_id: str) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._request_id = request_id
        self._is_body_over = False
        self._limit_headers: tuple[Header, ...] = ()
        self._room_headers: list[Header] = []

    async def answer(self) -> None:
        try:
            headers, body = await self._stored()
        except _Left:
            return
        except ApiError as error:
            await self._refuse(error)
        except DatabaseFault:
            log.exception("an upload failed without the database")
            await self._refuse(LedgerUnavailable())
        except Exception:
            log.exception("an upload failed")
            await self._refuse(internal_error())
        else:
            await self._respond([*headers, *self._limit_headers, *self._room_headers], body)

    async def _stored(self) -> tuple[list[Header], bytes]:
        """Headers and body of the answer. Raises ApiError, or _Left."""
        self._check_framing()
        principal = await in_time(_in_thread(_LOOK_UPS, self._authenticated))
        boundary = boundary_of(self._text(b"content-type") or "")
        if (self._text(b"content-encoding") or "identity").strip().lower() != "identity":
            raise ApiError(415, "unsupported_encoding", "The request body must not be compressed: send no Content-Encoding.")
        async with _slot(principal) as slot:
            self._limit_headers = slot.headers
            return await self._kept_form(principal, boundary)

    async def _kept_form(self, principal: Principal, boundary: bytes) -> tuple[list[Header], bytes]:
        room = await in_time(_in_thread(_LOOK_UPS, room_for, principal.api_key_id))
        self._room_headers = room_headers(room)
        key = self._text(b"idempotency-key")
        with await _in_thread(_PIECES, storage.spool) as content:
            form = Form(boundary, content, room, is_repeat_possible=key is not None)
            try:
                async for piece in self._pieces():
                    await _in_thread(_PIECES, _taken, form, piece)
            except RequestTooLarge:
                raise FileTooLarge(room.most_file_bytes) from None
            new = await _in_thread(_PIECES, _judged, form)
            keep = partial(_kept, principal=principal, new=new, content=content, room=room)
            answer = await (
                _in_thread(_STORE, keep, None) if key is None else self._once(key, principal, fingerprint(new), keep)
            )
        with suppress(DatabaseFault):  # What is stored is told, whatever may be said along with it.
            self._room_headers = room_headers(await in_time(_in_thread(_LOOK_UPS, room_for, principal.api_key_id)))
        return answer

    async def _once(
        self, key: str, principal: Principal, body: bytes, keep: Callable[[idempotency.Claim], tuple[list[Header], bytes]]
    ) -> tuple[list[Header], bytes]:
        """The answer is kept with the row of the file, in one transaction: there is never a second file for one key."""
        claim = await idempotency.claim(principal, route=ROUTE, key=key, body=body)
        if isinstance(claim, idempotency.Replay):
            return [REPLAYED], claim.body
        try:
            answer = await _in_thread(_STORE, keep, claim)
        except BaseException:
            await claim.release()
            raise
        claim.abandon()
        return answer

    def _check_framing(self) -> None:
        try:
            check_declared_length(self._scope["headers"], settings.FILE_LIMIT_BYTES + FORM_BYTES)
        except RequestTooLarge:
            raise FileTooLarge(settings.FILE_LIMIT_BYTES) from None
        host = self._text(b"host") or ""
        if not is_allowed_host(host):
            raise InvalidHost(host)
        if DRAINING.is_set():
            raise ServerDraining

    def _authenticated(self) -> Principal:
        if self._scope["path"] == CONSOLE_PATH:
            digest = digest_of_visitor(self._scope, Action.WRITE_FILES)
        else:
            digest = parse_authorization([value for name, value in self._scope["headers"] if name == b"authorization"])
        address = self._scope["client"][0] if self._scope.get("client") else None
        return admitted(find(digest), scope=SCOPE, address=address)

    def _text(self, name: bytes) -> str | None:
        """A header as one value; None where it is not sent."""
        values = [value for other, value in self._scope["headers"] if other == name]
        return b", ".join(values).decode("latin-1") if values else None

    async def _pieces(self) -> AsyncIterator[bytes]:
        """The body in pieces that are worth a thread. Raises RequestTooLarge, RequestTimeout and _Left."""
        receive = limited(
            self._receive,
            settings.FILE_LIMIT_BYTES + FORM_BYTES,
            settings.BODY_CHUNK_TIMEOUT_S,
            settings.FILE_BODY_TOTAL_TIMEOUT_S,
        )
        gathered = bytearray()
        while not self._is_body_over:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _Left
            gathered += message.get("body", b"")
            self._is_body_over = not message.get("more_body", False)
            if len(gathered) >= PIECE_BYTES or self._is_body_over:
                yield bytes(gathered)
                gathered.clear()

    async def _refuse(self, error: ApiError) -> None:
        headers = [*error.headers, *self._limit_headers, *self._room_headers]
        if not self._is_body_over and "connection" not in dict(headers):
            headers.append(("connection", "close"))
        error.headers = tuple(headers)
        with suppress(OSError):
            await send_error(self._send, error, self._request_id)

    async def _respond(self, headers: list[Header], body: bytes) -> None:
        every = [
            ("content-type", ENVELOPE_CONTENT_TYPE),
            ("content-length", str(len(body))),
            (REQUEST_ID_HEADER, self._request_id),
            *API_HEADERS,
            *headers,
        ]
        await self._send({"type": "http.response.start", "status": 200, "headers": encode_headers(every)})
        await self._send({"type": "http.response.body", "body": body, "more_body": False})


def _slot(principal: Principal) -> AbstractAsyncContextManager[Slot]:
    """The place of an upload among the requests of its key. Before the process serves chat there is no limiter to ask."""
    return nullcontext(Slot()) if Limiter.serving is None else Limiter.serving.slot_without_tokens(principal)


def _taken(form: Form, piece: bytes) -> None:
    with storage.answered("spool"):
        form.take(piece)


def _judged(form: Form) -> keeping.NewFile:
    with storage.answered("spool"):
        return form.judged()


def _kept(
    claim: idempotency.Claim | None, *, principal: Principal, new: keeping.NewFile, content: IO[bytes], room: Any
) -> tuple[list[Header], bytes]:
    def note(file: StoredFile) -> None:
        if claim is not None:
            claim.store(200, _told(file))

    now = timezone.now()
    file = keeping.keep(principal.workspace_id, principal.workspace_public_id, new, content, room, now=now, note=note)
    return [], _told(file)


def _told(file: StoredFile) -> bytes:
    return msgspec.json.encode(file_object(file))


async def _in_thread(threads: ThreadPoolExecutor, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `work` in one of the threads of uploads, with the care for connections that Django gives to its own requests only."""

    def with_sound_connection() -> T:
        close_old_connections()
        try:
            return work(*args, **kwargs)
        finally:
            close_old_connections()

    return await asyncio.get_running_loop().run_in_executor(threads, with_sound_connection)
