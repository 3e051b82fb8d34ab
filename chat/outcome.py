"""What happened to a request, and what is booked for it (pure).

The journal of a request is written while it runs, by attempts and relay; whatever ends the request, the booking is made
from the journal alone. Charging rules are those of the ledger's charge table.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from billing.ledger.operations import END_USER_LENGTH, NoteOperation, RequestRecord, SettleOperation, TraceRecord
from billing.pricing import MAX_MICROCREDITS, Cost, Line, Usage, cost
from chat.errors import UpstreamFailure
from chat.schema.delivery import Attempt, Call, EndState, Outcome, Timings
from chat.schema.quote import StepQuote
from chat.schema.reply import Chunk, CustomPiece, FunctionPiece, Reply, ReportedUsage, ToolCallPiece
from chat.schema.request import ChatRequest
from chat.schema.route import ModelInfo, TargetInfo
from infery_site.errors import ApiError

BYTES_PER_ESTIMATED_TOKEN = 4
REPORTED = "reported"
ESTIMATED = "estimated"
ABOVE_BOUND = "usage above the bound"
IMPOSSIBLE = "impossible usage"
DECREASED = "usage decreased"
FREE = Cost(0, ())

_encoder = msgspec.json.Encoder()


class Served(msgspec.Struct, frozen=True):
    """Who serves the request: the target that answered, of the step `depth` of the chain (0 is the model asked).

    `pdf_pages` are the pages that were converted for it, and never before for its workspace.
    """

    model: ModelInfo
    target: TargetInfo
    depth: int
    adaptations: tuple[str, ...]
    bounds: StepQuote
    pdf_pages: int = 0

    @property
    def most_microcredits(self) -> int:
        """What the client pays at the most, whatever the provider counts."""
        return self.bounds.most_microcredits(self.model.prices)


class Payer(msgspec.Struct, frozen=True):
    """Whose credits pay."""

    workspace_id: int
    account_id: int
    api_key_id: int


class Tally:
    """What a stream has delivered so far. `usage` is the upstream's last figure, made when `usage_bytes` were out."""

    __slots__ = ("finish_reason", "has_content", "has_usage_decreased", "sent_bytes", "usage", "usage_bytes")

    def __init__(self) -> None:
        self.sent_bytes = 0
        self.has_content = False
        self.finish_reason = ""
        self.usage: ReportedUsage | None = None
        self.usage_bytes = 0
        self.has_usage_decreased = False

    def add(self, chunks: Sequence[Chunk], size_bytes: int) -> None:
        """Chunks that are handed over, and the bytes of output in them (`output_bytes`)."""
        for chunk in chunks:
            if not self.has_content:
                self.has_content = chunk.is_real
            if chunk.usage is not None:
                self._report(chunk.usage)
                self.usage_bytes = self.sent_bytes + _bytes_up_to(chunk, chunks)
            for choice in chunk.choices:
                if choice.finish_reason is not None:
                    self.finish_reason = choice.finish_reason
        self.sent_bytes += size_bytes

    def _report(self, usage: ReportedUsage) -> None:
        before, now = None if self.usage is None else self.usage.tokens, usage.tokens
        if before is not None and now is not None:
            has_less = now.prompt_tokens < before.prompt_tokens or now.completion_tokens < before.completion_tokens
            self.has_usage_decreased = self.has_usage_decreased or has_less
        self.usage = usage


class Journal:
    """What is known of one request while it runs."""

    __slots__ = (
        "adaptations",
        "attempts",
        "call",
        "end_user",
        "first_token_s",
        "is_booked",
        "is_schema_valid",
        "is_stream",
        "model_asked",
        "outcome",
        "served",
        "tally",
    )

    def __init__(self, call: Call) -> None:
        self.call = call
        self.model_asked = ""
        self.end_user = ""
        self.is_stream = False
        self.is_schema_valid: bool | None = None
        self.adaptations: tuple[str, ...] = ()
        self.attempts: list[Attempt] = []
        self.served: Served | None = None
        self.first_token_s: float | None = None
        self.tally = Tally()
        self.outcome: Outcome | None = None
        self.is_booked = False

    def read(self, request: ChatRequest, ignored: tuple[str, ...]) -> None:
        """Note what was asked."""
        self.model_asked = request.model
        self.end_user = (request.user or request.safety_identifier or "")[:END_USER_LENGTH]
        self.is_stream = bool(request.stream)
        self.adaptations = tuple([f"ignored={name}" for name in ignored])


def output_bytes(chunks: Iterable[Chunk]) -> int:
    """The UTF-8 bytes of all output in some chunks: text, reasoning, refusals, names and arguments of calls, what audio says."""
    size = 0
    for chunk in chunks:
        for choice in chunk.choices:
            delta = choice.delta
            if content := delta.content:  # Nearly all output there is, hence counted here.
                size += len(content) if content.isascii() else len(content.encode("utf-8", "surrogatepass"))
            if delta.reasoning_content:
                size += utf8_length(delta.reasoning_content)
            if delta.refusal:
                size += utf8_length(delta.refusal)
            if delta.tool_calls:
                size += sum([_call_bytes(call) for call in delta.tool_calls])
            if delta.function_call:
                size += _function_bytes(delta.function_call)
            if delta.audio:
                size += _transcript_bytes(delta.audio)
    return size


def _bytes_up_to(last: Chunk, chunks: Iterable[Chunk]) -> int:
    size = 0
    for chunk in chunks:
        size += output_bytes((chunk,))
        if chunk is last:
            break
    return size


def utf8_length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _call_bytes(call: ToolCallPiece) -> int:
    custom = call.custom
    size = _function_bytes(call.function)
    if isinstance(custom, CustomPiece):
        size += sum([utf8_length(text) for text in (custom.name, custom.input) if text])
    return size


def _function_bytes(function: object) -> int:
    if not isinstance(function, FunctionPiece):
        return 0
    return sum([utf8_length(text) for text in (function.name, function.arguments) if text])


def _transcript_bytes(audio: object) -> int:
    transcript = audio.get("transcript") if isinstance(audio, dict) else None
    return utf8_length(transcript) if isinstance(transcript, str) else 0


def _reply_bytes(reply: Reply) -> int:
    size = 0
    for choice in reply.choices:
        message = choice.message
        for text in (message.content, message.reasoning_content, message.refusal):
            if text:
                size += utf8_length(text)
        if message.tool_calls:
            size += sum([_call_bytes(call) for call in message.tool_calls])
        size += _function_bytes(message.function_call) + _transcript_bytes(message.audio)
    return size


class Billed(msgspec.Struct, frozen=True):
    """The usage to charge, where it came from, and what was wrong with the provider's own figure."""

    usage: Usage
    source: str
    anomalies: tuple[str, ...] = ()


def billed_usage(reported: ReportedUsage | None, served: Served, sent_bytes: int, told_bytes: int) -> Billed:
    """What to charge for `sent_bytes` of output, the first `told_bytes` of which the provider has counted.

    The provider's figure counts unless it is missing, unreadable, more than the model can read or write at all, or says zero
    where there was something; then tokens are a quarter of the bytes. So are those of output that followed the last figure. A
    figure above the bound of the request counts too, as our bound may be what is wrong: the client pays the bound at the most
    (`Served.most_microcredits`), and the rest is overrun, which alarms.
    """
    tokens, bounds = None if reported is None else reported.tokens, served.bounds
    anomalies: tuple[str, ...] = ()
    if tokens is not None:
        if not _is_possible(tokens, served):
            anomalies = (IMPOSSIBLE,)
        elif tokens.prompt_tokens > 0 and (tokens.completion_tokens > 0 or sent_bytes == 0):
            most_tokens = bounds.prompt_tokens_bound + bounds.prompt_tokens_beyond
            if tokens.prompt_tokens > most_tokens or tokens.completion_tokens > bounds.output_tokens_bound:
                anomalies = (ABOVE_BOUND,)
            untold = -(-(sent_bytes - told_bytes) // BYTES_PER_ESTIMATED_TOKEN)
            if not untold:
                return Billed(tokens, REPORTED, anomalies)
            completion = max(tokens.completion_tokens, min(tokens.completion_tokens + untold, bounds.output_tokens_bound))
            return Billed(msgspec.structs.replace(tokens, completion_tokens=completion), ESTIMATED, anomalies)
    completion = min(-(-sent_bytes // BYTES_PER_ESTIMATED_TOKEN), bounds.output_tokens_bound)
    return Billed(Usage(bounds.prompt_tokens_estimate, completion), ESTIMATED, anomalies)


def _is_possible(tokens: Usage, served: Served) -> bool:
    """Nobody reads or writes more than a model's context window; each choice has one of its own to write in."""
    window = served.model.context_window
    written = max(window * served.bounds.choice_count, served.bounds.output_tokens_bound)
    return tokens.prompt_tokens <= window and tokens.completion_tokens <= written


def of_reply(reply: Reply, journal: Journal) -> Outcome:
    """A whole answer."""
    sent_bytes = _reply_bytes(reply)
    billed = billed_usage(reply.usage, _served(journal), sent_bytes, sent_bytes)
    reason = reply.choices[0].finish_reason
    state = EndState.LENGTH if reason == "length" else EndState.DONE
    return _outcome(state, billed, finish_reason=reason)


def of_stream(journal: Journal) -> Outcome:
    """A stream the provider finished, with or without text: reasoning is work."""
    reason = journal.tally.finish_reason
    state = EndState.LENGTH if reason == "length" else EndState.DONE
    return _outcome(state, _billed_stream(journal), finish_reason=reason)


def of_broken_stream(journal: Journal, state: EndState, error_code: str = "") -> Outcome:
    """A stream that ended early: what was delivered is charged, and nothing if that is nothing."""
    tally = journal.tally
    if not tally.has_content:
        return Outcome(state, 200, error_code=error_code)
    return _outcome(state, _billed_stream(journal), error_code=error_code, finish_reason=tally.finish_reason)


def _billed_stream(journal: Journal) -> Billed:
    tally = journal.tally
    billed = billed_usage(tally.usage, _served(journal), tally.sent_bytes, tally.usage_bytes)
    if not tally.has_usage_decreased:
        return billed
    return msgspec.structs.replace(billed, anomalies=(*billed.anomalies, DECREASED))


def _served(journal: Journal) -> Served:
    if journal.served is None:
        raise AssertionError("an answer has somebody who gave it")
    return journal.served


def _outcome(state: EndState, billed: Billed, *, finish_reason: str, error_code: str = "") -> Outcome:
    return Outcome(state, 200, billed.usage, billed.source, error_code, finish_reason, billed.anomalies)


def of_failure(error: BaseException | None, *, has_left: bool) -> Outcome:
    """A request that ended without an answer: free, whatever happened upstream.

    `has_left` tells a client that left from a server that gave up waiting, which both cancel.
    """
    if isinstance(error, ApiError):
        is_upstreams = isinstance(error, UpstreamFailure) and error.may_fall_back
        state = EndState.FAILED if error.status >= 500 or is_upstreams else EndState.REFUSED
        return Outcome(state, error.status, error_code=error.code)
    if error is None or isinstance(error, Exception):
        return Outcome(EndState.FAILED, 500, error_code="internal_error")
    if has_left:
        return Outcome(EndState.CLIENT_GONE, 499, error_code="client_gone")
    return Outcome(EndState.DRAINED, 503, error_code="server_draining")


def charge(journal: Journal, outcome: Outcome) -> Cost:
    """What the outcome costs at the serving model's price; failed attempts are free. At most what the ledger can hold."""
    if journal.served is None or outcome.status >= 400 or not outcome.usage_source:
        return FREE
    actual = cost(outcome.usage, journal.served.model.prices, pdf_pages=journal.served.pdf_pages)
    excess = actual.total_microcredits - MAX_MICROCREDITS
    if excess <= 0:
        return actual
    return Cost(MAX_MICROCREDITS, (*actual.lines, Line("overrun", 1, "request", -excess, -excess)))


def record(journal: Journal, payer: Payer, outcome: Outcome, lines: tuple[Line, ...], now_s: float) -> RequestRecord:
    """The usage record of a request, with the lines of its receipt. `now_s` is a monotonic time."""
    served = journal.served
    call = journal.call
    first_token_s = journal.first_token_s
    return RequestRecord(
        generation=call.generation,
        request_id=call.request_id,
        workspace_id=payer.workspace_id,
        api_key_id=payer.api_key_id,
        model_asked=journal.model_asked,
        status=outcome.status,
        end_state=outcome.end_state.value,
        is_stream=journal.is_stream,
        latency_ms=_milliseconds(now_s - call.started_s),
        model_used="" if served is None else served.model.slug,
        provider="" if served is None else served.target.provider.slug,
        price_version_id=None if served is None else served.model.prices.version_id,
        usage=outcome.usage,
        usage_source=outcome.usage_source,
        lines=lines,
        error_code=outcome.error_code,
        finish_reason=outcome.finish_reason,
        fallback_depth=0 if served is None else served.depth,
        first_token_ms=None if first_token_s is None else _milliseconds(first_token_s - call.started_s),
        end_user=journal.end_user,
    )


def settlement(journal: Journal, payer: Payer, outcome: Outcome, charged: Cost, now_s: float) -> SettleOperation:
    """The one operation that closes a generation. `charged` is what `charge` gives for the outcome."""
    return SettleOperation(
        account_id=payer.account_id,
        actual_microcredits=charged.total_microcredits,
        record=record(journal, payer, outcome, charged.lines, now_s),
        most_microcredits=MAX_MICROCREDITS if journal.served is None else journal.served.most_microcredits,
        trace=trace(journal, now_s),
    )


def note(journal: Journal, payer: Payer, outcome: Outcome, now_s: float) -> NoteOperation:
    """The record of a request that ended before anything was held for it."""
    return NoteOperation(record(journal, payer, outcome, (), now_s), trace(journal, now_s))


def trace(journal: Journal, now_s: float) -> TraceRecord | None:
    """Attempts, adaptations and timings; None for a request that never got that far."""
    if not journal.attempts and not journal.adaptations:
        return None
    served = journal.served
    adaptations = journal.adaptations if served is None else served.adaptations
    measured = timings(journal, now_s)
    return TraceRecord(
        journal.call.generation,
        _encoder.encode(journal.attempts).decode(),
        _encoder.encode(adaptations).decode(),
        _encoder.encode({"total": measured.total_ms, "upstream": measured.upstream_ms}).decode(),
    )


def timings(journal: Journal, now_s: float) -> Timings:
    total_ms = _milliseconds(now_s - journal.call.started_s)
    return Timings(total_ms, min(total_ms, sum([attempt.duration_ms for attempt in journal.attempts])))


def _milliseconds(seconds: float) -> int:
    return max(0, round(seconds * 1000))
