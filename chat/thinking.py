"""Whether a conversation can be gone on with in thought, where thinking has a budget of tokens (pure).

Anthropic's models with such budgets refuse to think where an answer was begun, and where the calls of the last answer come
without the thinking that led to them. Turns are counted as `chat.providers.anthropic.turns` makes them: what says nothing is
no turn, neighbours of one role are one turn, and a result opens the turn after its call.
"""

from __future__ import annotations

from collections.abc import Container

from chat.schema.request import (
    AssistantMessage,
    DeveloperMessage,
    Message,
    Part,
    RefusalPart,
    SystemMessage,
    TextPart,
    ToolMessage,
)

LEAST_BUDGET_TOKENS = 1024
"""The smallest budget that is taken. Half of the limit is for the answer, so a limit below twice this has no room for it."""


def can_think(messages: list[Message], thought: Container[str]) -> bool:
    """`thought` holds the ids of the calls whose thinking is known."""
    is_answer = is_thought = False
    calls: set[str] = set()
    for message in messages:
        if isinstance(message, SystemMessage | DeveloperMessage):
            continue
        if isinstance(message, ToolMessage):
            is_answer = is_answer and message.tool_call_id not in calls
        elif not isinstance(message, AssistantMessage):
            is_answer = is_answer and is_blank(message.content)
        elif message.tool_calls or not is_blank(message.content) or not is_blank(message.refusal):
            ids = [call.id for call in message.tool_calls or ()]
            if not is_answer:
                is_answer, is_thought, calls = True, any(call in thought for call in ids), set()
            calls.update(ids)
    return not is_answer and (is_thought or not calls)


def is_blank(content: str | list[Part] | None) -> bool:
    """Whether there is nothing in it that this dialect takes: it has no texts without a letter."""
    if content is None or isinstance(content, str):
        return not content or not content.strip()
    return all(is_blank_part(part) for part in content)


def is_blank_part(part: Part) -> bool:
    text = part.text if isinstance(part, TextPart) else part.refusal if isinstance(part, RefusalPart) else "."
    return not text.strip()
