"""Answers that must be JSON: code fences cut, a forced tool call turned back into content, and one check at the end (pure).

A model that was asked for JSON, natively or by instruction, may still wrap it in a code fence; where it was made to answer
by a tool call, that call is the answer. Both are put right here, in both modes alike, so that a client sees one shape. The
check says whether every choice is JSON as asked; it never changes, delays or repeats an answer.

Bounds: an answer of more than MAX_CHECKED_BYTES, or one whose check takes more than CHECK_LIMIT_S of processor time (so that a
busy machine does not change a verdict), is not judged. Patterns of a schema are never run.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, Final

import msgspec
from jsonschema import Draft202012Validator
from jsonschema.exceptions import UnknownType, ValidationError
from jsonschema.validators import extend
from msgspec import UNSET, UnsetType
from referencing.exceptions import Unresolvable

from chat.providers.base import StreamDecoder
from chat.schema.reply import Choice, ChoiceDelta, Chunk, FinishReason, FunctionPiece, Message, Reply, ToolCallPiece
from chat.schema.request import ChatRequest, JsonObjectFormat, JsonSchemaFormat

CHECK_LIMIT_S: Final = 0.05
MAX_CHECKED_BYTES: Final = 256 * 1024
MOST_HELD: Final = 1024
"""Characters that a stream holds back, at most, to see whether they are a fence."""

_encode = msgspec.json.Encoder().encode
_OPENING = re.compile(r"\s*```[A-Za-z0-9]{0,32}[ \t]*\r?\n?(?=[^A-Za-z0-9 \t\r\n]|\n)")
_MAY_OPEN = re.compile(r"\s*(?:`{0,2}|```[A-Za-z0-9]{0,32}[ \t]*\r?\n?)\Z")


class Wanted(msgspec.Struct, frozen=True):
    """What an answer must be. `schema` is None for any JSON object. `tool` is the tool whose call is the answer, if any."""

    schema: dict[str, Any] | None = None
    tool: str = ""


def wanted_of(request: ChatRequest, tool: str = "") -> Wanted | None:
    """What the client asked for; None where the answer is free text."""
    asked = request.response_format
    if isinstance(asked, JsonSchemaFormat):
        return Wanted(asked.json_schema.schema, tool)
    return Wanted(None, tool) if isinstance(asked, JsonObjectFormat) else None


class FenceCutter:
    """Cuts the code fence around one text that comes in pieces. What is no fence passes through unchanged."""

    def __init__(self) -> None:
        self._held = ""
        self._is_open = False
        self._has_begun = False

    def feed(self, text: str) -> str:
        self._held += text
        if not self._has_begun:
            if len(self._held) <= MOST_HELD and _MAY_OPEN.match(self._held):
                return ""
            self._has_begun = True
            opening = _OPENING.match(self._held)
            if opening:
                self._is_open = True
                self._held = self._held[opening.end() :]
        if not self._is_open:
            passed, self._held = self._held, ""
            return passed
        # Only up to three ticks at the end, with white space around them, can still turn out to be the closing fence.
        text = self._held.rstrip()
        ticks = min(3, len(text) - len(text.rstrip("`")))
        cut = len(text[: len(text) - ticks].rstrip())
        if len(self._held) - cut > MOST_HELD:
            cut = len(self._held)
        passed, self._held = self._held[:cut], self._held[cut:]
        return passed

    def end(self) -> str:
        """What is left once the text is over: nothing of a closing fence."""
        left, self._held = self._held, ""
        return "" if self._is_open and "```" in left else left


def unfenced(text: str) -> str:
    cutter = FenceCutter()
    return cutter.feed(text) + cutter.end()


def whole(reply: Reply, wanted: Wanted) -> tuple[Reply, bool | None]:
    """The reply as the client asked for it, and whether every choice is valid; None where that was not judged."""
    choices = tuple([_put_right(choice, wanted) for choice in reply.choices])
    texts = [choice.message.content or "" for choice in choices if choice.message.content or not choice.message.tool_calls]
    return msgspec.structs.replace(reply, choices=choices), verdict(texts, wanted.schema)


def _put_right(choice: Choice, wanted: Wanted) -> Choice:
    message, reason = choice.message, choice.finish_reason
    if wanted.tool and message.tool_calls:
        calls = message.tool_calls
        place = next((place for place, call in enumerate(calls) if _names(call, wanted.tool)), None)
        if place is not None:
            # What came before is given in a stream by then, so it is given here too.
            message = msgspec.structs.replace(message, content=_arguments(calls[place]), tool_calls=calls[:place] or UNSET)
            return msgspec.structs.replace(choice, message=message, finish_reason=_without_call(reason))
    if not message.content:
        return choice
    return msgspec.structs.replace(choice, message=_with_content(message, unfenced(message.content)))


def _with_content(message: Message, content: str) -> Message:
    return message if content == message.content else msgspec.structs.replace(message, content=content)


def _names(call: ToolCallPiece, tool: str) -> bool:
    return isinstance(call.function, FunctionPiece) and call.function.name == tool


def _arguments(call: ToolCallPiece) -> str:
    return (call.function.arguments or "") if isinstance(call.function, FunctionPiece) else ""


def _without_call(reason: FinishReason) -> FinishReason:
    return "stop" if reason == "tool_calls" else reason


class JsonStream:
    """A stream decoder whose answer must be JSON: what `decoder` gives, put right on the way."""

    def __init__(self, decoder: StreamDecoder, wanted: Wanted) -> None:
        self._decoder = decoder
        self._wanted = wanted
        self._choices: dict[int, _ChoiceText] = {}

    @property
    def is_done(self) -> bool:
        return self._decoder.is_done

    def decode(self, event: str, data: bytes) -> Chunk | None:
        chunk = self._decoder.decode(event, data)
        if chunk is None or not chunk.choices:
            return chunk
        return msgspec.structs.replace(chunk, choices=tuple([self._passed(choice) for choice in chunk.choices]))

    def flush(self) -> None:
        self._decoder.flush()

    def _passed(self, choice: ChoiceDelta) -> ChoiceDelta:
        text = self._choices.get(choice.index)
        if text is None:
            text = self._choices[choice.index] = _ChoiceText(self._wanted.tool)
        return text.passed(choice)

    def verdict(self) -> bool | None:
        """Whether what the stream gave is valid in every choice; None where that was not judged. Ask once it has ended."""
        texts = [choice.text() for choice in self._choices.values() if not choice.is_only_calls]
        return None if None in texts else verdict([text or "" for text in texts], self._wanted.schema)


class _ChoiceText:
    """One choice of a stream on its way, and its text so far, for the check at the end."""

    def __init__(self, tool: str) -> None:
        self._tool = tool
        self._cutter = FenceCutter()
        self._parts: list[str] = []
        self._length = 0
        self._answer_index: int | None = None
        self._other_indices: set[int | UnsetType] = set()
        self._has_calls = False

    @property
    def is_only_calls(self) -> bool:
        """A turn that calls tools instead of answering: there is nothing to judge yet."""
        return self._has_calls and not self._length

    def passed(self, choice: ChoiceDelta) -> ChoiceDelta:
        delta, reason = choice.delta, choice.finish_reason
        content = self._cutter.feed(delta.content) if delta.content and self._answer_index is None else ""
        calls = delta.tool_calls
        if self._tool and isinstance(calls, list):
            calls = [call for call in calls if self._is_another(call)] or UNSET
            content += "".join([_arguments(call) for call in delta.tool_calls or () if call.index == self._answer_index])
        self._has_calls = self._has_calls or bool(calls)
        if reason is not None:
            is_answered = self._answer_index is not None
            content += "" if is_answered else self._cutter.end()
            reason = _without_call(reason) if is_answered else reason
        self._keep(content)
        fitted: str | UnsetType = content or UNSET
        return msgspec.structs.replace(
            choice, delta=msgspec.structs.replace(delta, content=fitted, tool_calls=calls), finish_reason=reason
        )

    def _is_another(self, call: ToolCallPiece) -> bool:
        """Whether a piece belongs to a call that began before the answer.

        The first call of the tool is the answer. What a model calls or says after it is dropped: two answers in one text are none.
        """
        if self._answer_index is None:
            if _names(call, self._tool) and isinstance(call.index, int):
                self._answer_index = call.index
            else:
                self._other_indices.add(call.index)
        return call.index in self._other_indices

    def _keep(self, content: str) -> None:
        self._length += len(content)
        if content and self._length <= MAX_CHECKED_BYTES:
            self._parts.append(content)

    def text(self) -> str | None:
        return "".join(self._parts) if self._length <= MAX_CHECKED_BYTES else None


def verdict(texts: list[str], schema: dict[str, Any] | None) -> bool | None:
    """Whether each text is one JSON object, valid against the schema if there is one.

    None where it was not judged: no text at all, too long, the time is up, or a schema that cannot be applied.
    """
    if not texts or sum([len(text) for text in texts]) > MAX_CHECKED_BYTES:
        return None
    values = []
    for text in texts:
        try:
            values.append(msgspec.json.decode(text))
        except (msgspec.DecodeError, RecursionError):
            return False
    if schema is None:
        return all(isinstance(value, dict) for value in values)
    return _is_valid(values, schema)


class _TimeIsUp(Exception):
    pass


_Check = Callable[[Any, Any, Any, Any], Iterator[ValidationError] | None]

_deadline_s: ContextVar[float] = ContextVar("deadline_s")


def _is_valid(values: list[Any], schema: dict[str, Any]) -> bool | None:
    judge = _WITHOUT_PATTERNS if b'"patternProperties"' in _encode(schema) else _JUDGE
    token = _deadline_s.set(time.thread_time() + CHECK_LIMIT_S)
    try:
        return all(judge(schema).is_valid(value) for value in values)
    except _STUMBLES:
        return None
    finally:
        _deadline_s.reset(token)


def _timed(check: _Check) -> _Check:
    def timed(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        if time.thread_time() > _deadline_s.get():
            raise _TimeIsUp
        yield from check(validator, value, instance, schema) or ()

    return timed


def _passes(_validator: Any, _value: Any, _instance: Any, _schema: Any) -> Iterator[ValidationError]:
    return iter(())


def _has_unique_items(_validator: Any, is_asked: Any, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    """In one pass: the library compares each item with each other one."""
    if is_asked is True and isinstance(instance, list):
        seen = {msgspec.json.encode(item, order="sorted") for item in instance}
        if len(seen) < len(instance):
            yield ValidationError("items are not unique")


_STUMBLES = (
    *(_TimeIsUp, RecursionError, UnknownType, Unresolvable),
    *(TypeError, ValueError, AttributeError, LookupError, ArithmeticError),
)
"""The time is up, or the library fell over what is no schema."""

_NOT_RUN = ("pattern", "patternProperties", "format")
_MEANT_WITH_PATTERNS = ("additionalProperties", "unevaluatedProperties")
"""What they forbid depends on patterns, which are not run."""

_JUDGE = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator,
    {name: _timed(check) for name, check in Draft202012Validator.VALIDATORS.items()}
    | dict.fromkeys(_NOT_RUN, _passes)
    | {"uniqueItems": _has_unique_items},
)
_WITHOUT_PATTERNS = extend(_JUDGE, dict.fromkeys(_MEANT_WITH_PATTERNS, _passes))  # type: ignore[no-untyped-call]
