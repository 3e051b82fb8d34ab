"""How an exchange goes and ends, and the protocols by which rooms that do not know each other meet (pure)."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Protocol

import msgspec

from billing.pricing import Usage
from infery_site.errors import ApiError


class EndState(enum.StrEnum):
    """The one declared way in which a request ended; stored with its usage record."""

    DONE = "done"
    LENGTH = "length"
    REFUSED = "refused"
    FAILED = "failed"
    ERROR = "error"
    CUT = "cut"
    OUT_OF_CREDIT = "out_of_credit"
    CLIENT_GONE = "client_gone"
    REVOKED = "revoked"
    DRAINED = "drained"
    DRY_RUN = "dry_run"
    REPLAYED = "replayed"


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """What the edge read from the request line and headers. `started_s` is a monotonic time.

    `refusal` is a fault that only a caller with a key is told. `key_digest` names the key of a caller who came by his session
    and sends no `authorization`.
    """

    generation: str
    request_id: str
    started_s: float
    authorization: tuple[bytes, ...]
    address: str | None = None
    content_type: bytes = b""
    content_encoding: bytes = b""
    idempotency_key: str | None = None
    is_strict: bool = False
    is_fallback_disabled: bool = False
    is_dry_run: bool = False
    refusal: ApiError | None = None
    key_digest: str = ""


class Attempt(msgspec.Struct, frozen=True, omit_defaults=True):
    """One try of one target, for the request's trace. `result` is `served` or the code of the failure.

    `prompt_tokens_estimate` is what the prompt was taken for: with what the provider counted it tells how good estimates are.
    """

    model: str
    provider: str
    upstream_model: str
    depth: int
    started_ms: int
    duration_ms: int
    result: str
    upstream_status: int | None = None
    prompt_tokens_estimate: int | None = None
    first_token_ms: int | None = None


class Outcome(msgspec.Struct, frozen=True):
    """What is to be booked for a request that reached an upstream, or that failed on the way there.

    `anomalies` are what was wrong with the usage that the upstream told, for the log.
    """

    end_state: EndState
    status: int
    usage: Usage = Usage()
    usage_source: str = ""
    error_code: str = ""
    finish_reason: str = ""
    anomalies: tuple[str, ...] = ()


class Facts(msgspec.Struct, frozen=True):
    """How the answer came about: in headers, or in the credits chunk of a stream that had to open before it was known.

    What is empty is not told. `is_schema_valid` is None where no JSON was asked for, or it was not judged.
    """

    model_used: str = ""
    fallback_from: str = ""
    fallback_depth: int = 0
    adaptations: tuple[str, ...] = ()
    is_schema_valid: bool | None = None


class Timings(msgspec.Struct, frozen=True):
    """Whole milliseconds since the request came, and how many of them an upstream took."""

    total_ms: int
    upstream_ms: int


class Way(Protocol):
    """A way for the frames of an open stream on which nothing has to be waited for, while it is clear."""

    @property
    def is_clear(self) -> bool:
        """Whether the reader is there, and takes what he is sent."""

    def push(self, data: bytes, /) -> None:
        """Send one or more whole SSE frames at once, where the way is clear."""


class Client(Protocol):
    """The side of the exchange that talks to the caller. Bodies and frames are whole; nothing is buffered behind them."""

    @property
    def has_left(self) -> bool:
        """True once the caller is known to have gone."""

    @property
    def is_started(self) -> bool:
        """True once a status is on its way, which cannot be another one any more."""

    async def read_body(self) -> bytes:
        """The whole request body. Raises ApiError 408 or 413."""

    def shield(self, *, is_kept: bool = True) -> None:
        """The answer has come to its end and will be paid: from here on the caller's leaving no longer cancels who serves him.

        `is_kept`: whether it is what a repeat of the request should get.
        """

    async def respond(self, status: int, headers: Iterable[tuple[str, str]], body: bytes) -> None:
        """Send a whole answer. Nothing may be sent after it."""

    async def open_stream(self, headers: Iterable[tuple[str, str]]) -> None:
        """Send status 200 and the headers of an event stream."""

    async def send(self, frames: bytes) -> None:
        """Send one or more whole SSE frames."""

    @property
    def way(self) -> Way | None:
        """The short way for frames of a stream that is open, where there is one."""

    async def end(self, frames: bytes = b"") -> None:
        """Send the last frames of an open stream, and end it."""


class Meter(Protocol):
    """What relay knows of the open admission."""

    held_microcredits: int
    """What is held for this generation so far."""

    async def extend(self, amount_microcredits: int, price_version_id: int) -> bool:
        """Take a further hold. False if credit, budget or key no longer allow it."""
