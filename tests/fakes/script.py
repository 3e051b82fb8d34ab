"""What the scripted provider can be told, and what it remembers. Both travel as JSON between the test and its process."""

from __future__ import annotations

import base64
from typing import Any, Literal

import msgspec

MARKER = "@script:"
INLINE = "@inline:"


class ToolCall(msgspec.Struct, frozen=True):
    name: str
    arguments: str = "{}"
    id: str = "call_fake_1"


class Script(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One answer. Without any field set it is a good one: a greeting with usage, in the mode the request asks for.

    An event is one `data:` of a stream; a whole reply counts as one event.
    """

    status: int = 200
    headers: dict[str, str] = {}
    body: bytes | None = None
    """Sent as it is instead of a reply, in both modes."""
    repeats: int = 1
    """How often `body` is sent, piece after piece."""
    content_type: str | None = None

    text: str = "Hello from upstream."
    times: int = 1
    """So often the text is said."""
    echoes: bool = False
    """Answer with the text of the last user message instead of `text`."""
    reasoning: str | None = None
    signature: str | None = None
    """Of the reasoning (Anthropic) or of the calls (Gemini)."""
    refusal: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None
    usage: Any = "counted"
    """`counted`: plausible figures. None: no usage at all. A list: one for each event that carries usage, in order."""
    usage_on: Literal["own", "choice", "every"] = "own"
    """Where a stream has its usage: on events of its own, on the last choice event, or on every event."""
    events: tuple[bytes, ...] | None = None
    """The `data` of each event of a stream, instead of made ones."""
    is_done_sent: bool = True
    error_after: int | None = None
    """Send `error` as an event after so many events, and end."""
    error: Any = None
    """None: an error event as the dialect has it."""
    has_comments: bool = False
    line_end: Literal["\n", "\r\n", "\r"] = "\n"
    write_bytes: int | None = None
    """Write the body in pieces of so many bytes, each by itself."""
    framing: Literal["chunked", "length", "close"] | None = None
    """How the end of the body is known; a stream is chunked and a whole reply has a length if not said otherwise."""

    delay_head_s: float = 0.0
    delay_first_s: float = 0.0
    delay_between_s: float = 0.0
    hang: Literal["head", "body"] | None = None
    """Never answer, or never go on after the head."""
    hang_after: int | None = None
    cut_head: bool = False
    cut_after: int | None = None
    """Break the connection after so many events; with more than there are, after the last one instead of ending well."""
    cut_after_bytes: int | None = None
    """Break the connection after so many bytes of the body."""
    cut_with: Literal["fin", "rst"] = "fin"
    closes: bool = False
    """Close the connection after a complete answer, without having announced it."""


class Seen(msgspec.Struct):
    """One request as it arrived. Times are of `time.monotonic()`, which all processes of a machine share."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes
    connection: int
    arrived_s: float
    script: str = ""
    events_sent: int = 0
    answered_s: float | None = None
    """When the last byte of the answer was written; None if that never happened."""
    closed_s: float | None = None
    """When the connection was closed or reset; None while it is open."""

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


def inline(scripts: dict[str, Script]) -> str:
    """A text that brings its own scripts, by the model that is called, instead of naming one that was set before."""
    return f"{INLINE}{base64.urlsafe_b64encode(msgspec.json.encode(scripts)).decode()} "


def read_inline(encoded: bytes) -> dict[str, Script]:
    return msgspec.json.decode(base64.urlsafe_b64decode(encoded), type=dict[str, Script])
