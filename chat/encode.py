"""What the client gets: whole replies, stream frames, and the headers that say how an answer came about (pure).

Order of a stream: a role delta for each choice, content deltas, the finish reason, one chunk with `choices: []`, `usage`
and `credits_used`, then `[DONE]`. Everything is encoded here from values; no byte of an upstream is passed on.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec import UNSET, Raw, UnsetType

from billing.pricing import Usage, credits_text
from chat.schema.delivery import Facts, Timings
from chat.schema.quote import Verdict
from chat.schema.reply import ChoiceDelta, Chunk, Delta, Reply
from chat.schema.route import Route
from chat.sse import DONE, frame
from infery_site.errors import ApiError, Header

ADAPTATIONS_MOST_BYTES = 1024
ADAPTATION_MOST_CHARS = 100

_encoder = msgspec.json.Encoder()
_ROLE = Delta(role="assistant", content="")
_ROLE_WITHOUT_TEXT = Delta(role="assistant", content=None)


class Head(msgspec.Struct, frozen=True):
    """What all frames of one answer share. `created_s` is Unix time."""

    id: str
    created_s: int
    model: str


class _PromptDetails(msgspec.Struct):
    cached_tokens: int
    cache_write_tokens: int
    audio_tokens: int


class _CompletionDetails(msgspec.Struct):
    reasoning_tokens: int


class _Usage(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: _PromptDetails
    completion_tokens_details: _CompletionDetails


class _Whole(msgspec.Struct, omit_defaults=True):
    id: str
    object: str
    created: int
    model: str
    choices: Raw
    usage: _Usage
    credits_used: Raw
    system_fingerprint: str | UnsetType = UNSET


class _CreditsChunk(msgspec.Struct, omit_defaults=True):
    id: str
    object: str
    created: int
    model: str
    choices: tuple[()]
    usage: _Usage
    credits_used: Raw
    stop_cause: str | UnsetType = UNSET
    model_used: str | UnsetType = UNSET
    fallback_from: str | UnsetType = UNSET
    fallback_depth: int | UnsetType = UNSET
    adaptations: tuple[str, ...] | UnsetType = UNSET
    schema_valid: bool | UnsetType = UNSET


def _usage(usage: Usage) -> _Usage:
    return _Usage(
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.prompt_tokens + usage.completion_tokens,
        _PromptDetails(usage.cached_tokens, usage.cache_write_tokens, usage.audio_tokens),
        _CompletionDetails(usage.reasoning_tokens),
    )


def encoded_choices(reply: Reply) -> bytes:
    """The part of an answer that may be impossible to write down, in time for nobody to pay for it then."""
    return _encoder.encode(reply.choices)


def whole_reply(head: Head, choices: bytes, fingerprint: str | None, usage: Usage, charged_microcredits: int) -> bytes:
    """The body of an answer that is not streamed, with its encoded choices."""
    answer = _Whole(
        head.id,
        "chat.completion",
        head.created_s,
        head.model,
        Raw(choices),
        _usage(usage),
        _credits(charged_microcredits),
        fingerprint or UNSET,
    )
    return _encoder.encode(answer)


class StreamEncoder:
    """Encodes the chunks of one stream. Knows which choices have begun and ended, so that each does so once."""

    def __init__(self, head: Head) -> None:
        self._head = head
        start = {"id": head.id, "object": "chat.completion.chunk", "created": head.created_s, "model": head.model}
        self._before_choices = b"data: " + _encoder.encode(start)[:-1] + b',"choices":'
        self._after_choices = b"}\n\n"
        self._fingerprint: str | None = None
        self._begun: set[int] = set()
        self._finished: set[int] = set()

    def frames(self, chunks: Iterable[Chunk]) -> bytes:
        """The SSE frames of some chunks; empty if they hold nothing for the client."""
        out = []
        for chunk in chunks:
            if chunk.system_fingerprint != self._fingerprint and chunk.system_fingerprint is not None:
                self._fingerprint = chunk.system_fingerprint
                self._after_choices = b',"system_fingerprint":' + _encoder.encode(chunk.system_fingerprint) + b"}\n\n"
            has_news = False
            for choice in chunk.choices:
                if choice.index not in self._begun:
                    out.append(self._role_frame(choice))
                if choice.finish_reason is not None:
                    self._finished.add(choice.index)
                    has_news = True
                elif choice.delta != _NOTHING or choice.logprobs is not None:
                    has_news = True
            if has_news:
                out.append(self._before_choices + _encoder.encode(chunk.choices) + self._after_choices)
        return out[0] if len(out) == 1 else b"".join(out)

    def cut_frames(self) -> bytes:
        """The finish reason of a stream that ends because nothing pays for more: every choice that has not ended is cut."""
        first = b"" if self._begun else self._role_frame(ChoiceDelta(0, _NOTHING))
        choices = tuple([ChoiceDelta(index, _NOTHING, "length") for index in sorted(self._begun - self._finished)])
        return first + self._before_choices + _encoder.encode(choices) + self._after_choices if choices else first

    def _role_frame(self, choice: ChoiceDelta) -> bytes:
        self._begun.add(choice.index)
        role = _ROLE_WITHOUT_TEXT if choice.delta.tool_calls else _ROLE
        return self._before_choices + _encoder.encode((ChoiceDelta(choice.index, role),)) + self._after_choices

    def last_frames(self, usage: Usage, charged_microcredits: int, facts: Facts, stop_cause: str = "") -> bytes:
        """The credits chunk and `[DONE]`. `facts` are those that the headers could not carry."""
        chunk = _CreditsChunk(
            self._head.id,
            "chat.completion.chunk",
            self._head.created_s,
            self._head.model,
            (),
            _usage(usage),
            _credits(charged_microcredits),
            stop_cause or UNSET,
            facts.model_used or UNSET,
            facts.fallback_from or UNSET,
            facts.fallback_depth or UNSET,
            facts.adaptations or UNSET,
            UNSET if facts.is_schema_valid is None else facts.is_schema_valid,
        )
        return frame(_encoder.encode(chunk)) + DONE


_NOTHING = Delta()


def error_frame(error: ApiError) -> bytes:
    """An error after the stream began: the envelope as its last event, without `[DONE]`."""
    return frame(error.envelope())


def answer_headers(facts: Facts, timings: Timings, charged_microcredits: int | None = None) -> list[Header]:
    """The headers of a success. A stream has no charge yet: it says so in its credits chunk."""
    gateway_ms = timings.total_ms - timings.upstream_ms
    headers = [
        ("x-model-used", facts.model_used),
        ("server-timing", f"gateway;dur={gateway_ms}, upstream;dur={timings.upstream_ms}"),
    ]
    if charged_microcredits is not None:
        headers.append(("x-credits-used", credits_text(charged_microcredits)))
    if facts.fallback_depth:
        headers.append(("x-fallback-from", facts.fallback_from))
        headers.append(("x-fallback-depth", str(facts.fallback_depth)))
    if facts.adaptations:
        headers.append(("x-request-adaptations", adaptations_header(facts.adaptations)))
    if facts.is_schema_valid is not None:
        headers.append(("x-schema-valid", "true" if facts.is_schema_valid else "false"))
    return headers


def adaptations_header(adaptations: tuple[str, ...]) -> str:
    """The list as a header value: names made safe, at most 1 KB, then `more=N`."""
    shown: list[str] = []
    size = 0
    for position, adaptation in enumerate(adaptations):
        text = _header_token(adaptation)
        size += len(text) + 1
        if size > ADAPTATIONS_MOST_BYTES - len("more=99999"):
            shown.append(f"more={len(adaptations) - position}")
            break
        shown.append(text)
    return ",".join(shown)


def _header_token(text: str) -> str:
    """A name a client chose, as part of a header: printable ASCII without commas, shortened."""
    short = text[:ADAPTATION_MOST_CHARS]
    return "".join([character if " " < character <= "~" and character != "," else "?" for character in short])


class _StepQuote(msgspec.Struct):
    model: str
    fallback_depth: int
    prompt_tokens_bound: int
    output_tokens_bound: int
    pdf_pages: int
    credits_low: Raw
    credits_high: Raw
    adaptations: tuple[str, ...]


class _Quote(msgspec.Struct):
    object: str
    model: str
    credits_low: Raw
    credits_high: Raw
    credits_held: Raw
    credits_available: Raw
    is_admitted: bool
    refusal: str | None
    route: list[_StepQuote]
    ignored: tuple[str, ...]


def quote_body(verdict: Verdict, route: Route, ignored: tuple[str, ...], available_microcredits: int) -> bytes:
    """The answer of a dry run: what would be held first, whether it would be, and what each step of the route could cost."""
    quote = verdict.quote
    steps = [
        _StepQuote(
            step.model,
            depth,
            step.prompt_tokens_bound,
            step.output_tokens_bound,
            step.pdf_pages,
            _credits(step.low_microcredits),
            _credits(step.most_microcredits(tried.model.prices)),
            step.adaptations,
        )
        for step, tried, depth in zip(quote.steps, route.steps, route.depths, strict=True)
    ]
    first = quote.steps[0]
    answer = _Quote(
        "chat.completion.quote",
        route.model_asked,
        steps[0].credits_low,
        steps[0].credits_high,
        _credits(first.hold_microcredits),
        _credits(available_microcredits),
        not verdict.refusal,
        verdict.refusal or None,
        steps,
        ignored,
    )
    return _encoder.encode(answer)


def _credits(amount_microcredits: int) -> Raw:
    return Raw(credits_text(amount_microcredits).encode())
