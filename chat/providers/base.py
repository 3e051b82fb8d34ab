"""What an adapter is: the translation between our request and one provider's wire, in both modes, without any I/O (pure).

An adapter never changes the request it is given: the next attempt must see what this one saw. A stream decoder is one
object per response. Whatever a provider sends that breaks its own grammar becomes `UpstreamInvalidResponse`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Protocol

import msgspec

from chat.errors import (
    UpstreamAuthFailed,
    UpstreamError,
    UpstreamFailure,
    UpstreamModelUnavailable,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamTooLarge,
)
from chat.schema.reply import Chunk, Reply
from chat.schema.request import ChatRequest
from chat.schema.route import ModelInfo, TargetInfo, Tenant

MOST_TOKENS = 2**31 - 1


class Asked(msgspec.Struct, frozen=True):
    """What one target is asked: the request as it was adapted to it, in the name of a workspace.

    `states` holds what this very upstream model wants back with the tool calls that the messages replay, by the id of the
    call. Media in the messages is inline and was judged before: an adapter reads declared types, never bytes.
    """

    request: ChatRequest
    model: ModelInfo
    target: TargetInfo
    tenant: Tenant
    states: dict[str, bytes] = {}


_SECONDS = re.compile(r"([0-9]+)(?:\.([0-9]*))?")


class UpstreamCall(msgspec.Struct, frozen=True):
    """One POST to a provider."""

    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


class StreamDecoder(Protocol):
    """Turns the events of one streamed response into chunks."""

    @property
    def is_done(self) -> bool:
        """True once the provider has said that nothing follows."""

    def decode(self, event: str, data: bytes) -> Chunk | None:
        """One SSE event. Raises UpstreamFailure for an error event or one that cannot be read."""

    def flush(self) -> None:
        """The response ended. Raises UpstreamFailure if it ended before the provider finished."""


class Adapter(Protocol):
    def build(self, asked: Asked, /) -> UpstreamCall:
        """The call that asks for an answer. A customer's own identifiers go out as tags of the tenant only."""

    def reply(self, asked: Asked, body: bytes, /) -> Reply:
        """A whole answer to what was asked. Raises UpstreamFailure."""

    def stream(self, asked: Asked, /) -> StreamDecoder:
        """A decoder for one streamed answer to what was asked."""

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamFailure:
        """What a status other than 200 means, by status first and the provider's code second."""


def token_count(source: object, name: str) -> int | None:
    """A token count that a provider sent; 0 where absent or null, None where it is not a plausible count."""
    value = source.get(name) if isinstance(source, dict) else None
    if value is None:
        return 0
    # By its very type: a bool is an int.
    return value if type(value) is int and 0 <= value <= MOST_TOKENS else None


def retry_after_seconds(headers: Mapping[str, str]) -> int | None:
    """What the `Retry-After` header asks for, in whole seconds, rounded up and of any size; None if it cannot be read.

    A date is judged by the provider's own clock, which is the `Date` of the same answer; by ours only without one.
    """
    text = headers.get("retry-after", "").strip()
    if seconds := _SECONDS.fullmatch(text):
        # Cut, because int() takes no more than some thousand digits; so long a number is beyond any wait anyhow.
        whole, fraction = seconds[1].lstrip("0")[:12], (seconds[2] or "").strip("0")
        return int(whole or "0") + bool(fraction)
    until = _moment(text)
    if until is None:
        return None
    return max(0, math.ceil((until - (_moment(headers.get("date", "")) or datetime.now(UTC))).total_seconds()))


def _moment(text: str) -> datetime | None:
    """An HTTP date, in UTC."""
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return moment.replace(tzinfo=moment.tzinfo or UTC)


def failure_by_status(status: int, headers: Mapping[str, str]) -> UpstreamFailure:
    """The meaning of a status where the provider's own code adds nothing.

    Only 400, 413 and 422 tell that the request itself is wrong. Whatever else a provider refuses (a conflict, too early, gone),
    somebody else may answer.
    """
    kinds: dict[int, type[UpstreamFailure]] = {
        400: UpstreamRejected,
        401: UpstreamAuthFailed,
        402: UpstreamAuthFailed,
        403: UpstreamAuthFailed,
        404: UpstreamModelUnavailable,
        408: UpstreamTimeout,
        413: UpstreamTooLarge,
        422: UpstreamRejected,
        504: UpstreamTimeout,
    }
    if status == 429:
        return UpstreamRateLimited(upstream_status=status, retry_after_s=retry_after_seconds(headers))
    if status in {503, 529}:
        return UpstreamOverloaded(upstream_status=status, retry_after_s=retry_after_seconds(headers))
    return kinds.get(status, UpstreamError)(upstream_status=status)
