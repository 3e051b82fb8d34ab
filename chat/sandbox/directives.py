"""Directives in a message: `[[status 503]]`, `[[delay 2]]`, `[[cut 5]]`, `[[tokens 500]]`, `[[tool NAME {...}]]` (pure).

    status N     answer with this HTTP status (200 to 599) and an error body; 200 makes the flaky model work
    delay S      wait S seconds before the answer begins (at most 30)
    cut N        break the connection after N events of a stream, or in the middle of a whole answer
    tokens N     answer with N tokens of text (within the model's own limit)
    tool NAME {} answer with a call of this tool; may be given more than once

Several may be combined; of one kind, except `tool`, the last counts. What is not a well-formed directive stays text.
"""

from __future__ import annotations

import json
import re

import msgspec

DELAY_LIMIT_S = 30.0
_TOOL_LIMIT = 32

_NUMBER = re.compile(r"\[\[\s*(status|delay|cut|tokens)\s+(\d{1,9}(?:\.\d{1,9})?)\s*\]\]")
_TOOL = re.compile(r"\[\[\s*tool\s+([a-zA-Z0-9_-]{1,64})\s*")
_END = re.compile(r"\s*\]\]")


class ToolDirective(msgspec.Struct, frozen=True):
    """`arguments` is a JSON object as text, or None when the directive gave none."""

    name: str
    arguments: str | None


class Directives(msgspec.Struct, frozen=True):
    """What a message asked the sandbox to do. `None` where it did not say."""

    status: int | None = None
    delay_s: float = 0.0
    cut_after: int | None = None
    tokens: int | None = None
    tools: tuple[ToolDirective, ...] = ()


def parse(text: str) -> tuple[Directives, str]:
    """The directives in `text`, and `text` without them."""
    tools, text = _take_tools(text)
    numbers: dict[str, float] = {}
    parts: list[str] = []
    end = 0
    for match in _NUMBER.finditer(text):
        name, number = match[1], float(match[2])
        if name == "status" and not 200 <= number <= 599:
            continue
        numbers[name] = number
        parts.append(text[end : match.start()])
        end = match.end()
    parts.append(text[end:])
    directives = Directives(
        status=int(numbers["status"]) if "status" in numbers else None,
        delay_s=min(numbers.get("delay", 0.0), DELAY_LIMIT_S),
        cut_after=int(numbers["cut"]) if "cut" in numbers else None,
        tokens=max(int(numbers["tokens"]), 1) if "tokens" in numbers else None,
        tools=tools,
    )
    return directives, "".join(parts).strip()


def _take_tools(text: str) -> tuple[tuple[ToolDirective, ...], str]:
    tools: list[ToolDirective] = []
    parts: list[str] = []
    position = 0
    for _ in range(_TOOL_LIMIT):
        match = _TOOL.search(text, position)
        if match is None:
            break
        arguments, end = _object_at(text, match.end())
        closing = _END.match(text, end)
        if closing is None:
            parts.append(text[position : match.end()])
            position = match.end()
            continue
        tools.append(ToolDirective(match[1], arguments))
        parts.append(text[position : match.start()])
        position = closing.end()
    parts.append(text[position:])
    return tuple(tools), "".join(parts)


def _object_at(text: str, start: int) -> tuple[str | None, int]:
    """The JSON object that begins at `start`, if one does, and where it ends."""
    try:
        value, end = json.JSONDecoder().raw_decode(text, start)
    except (ValueError, RecursionError):
        return None, start
    return (text[start:end], end) if isinstance(value, dict) else (None, start)
