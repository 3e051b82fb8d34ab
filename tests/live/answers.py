"""One shape for an answer of the official client in both modes, so that one test can ask for the same of both.

Reading a stream checks each of its chunks and their order on the way.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import msgspec
from openai import OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from billing.pricing import microcredits
from tests.live.books import Booked, Books
from tests.live.catalog import cost


class Call(msgspec.Struct):
    id: str
    name: str
    arguments: str = ""


class Part(msgspec.Struct):
    """One choice."""

    text: str = ""
    refusal: str = ""
    reasoning: str = ""
    finish_reason: str | None = None
    calls: list[Call] = []
    logprobs: list[Any] = []


class Answer(msgspec.Struct):
    id: str
    model: str
    parts: list[Part]
    prompt_tokens: int
    completion_tokens: int
    charged_microcredits: int
    headers: dict[str, str]
    extra: dict[str, Any]
    """What the credits chunk of a stream says beyond usage and credits."""

    @property
    def text(self) -> str:
        return self.parts[0].text


def ask(
    client: OpenAI, prompt: str | list[Any] = "Hello", *, model: str = "main", stream: bool = False, **fields: Any
) -> Answer:
    """Ask in the mode that `stream` names. `prompt` is a user's text or a list of messages."""
    messages: Any = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    raw = client.chat.completions.with_raw_response.create(model=model, messages=messages, stream=stream, **fields)
    headers = {name.lower(): value for name, value in raw.headers.items()}
    parsed: Any = raw.parse()
    return read_stream(list(parsed), headers) if stream else read_whole(parsed, headers)


def read_whole(reply: ChatCompletion, headers: dict[str, str]) -> Answer:
    assert reply.object == "chat.completion"
    assert reply.usage is not None
    assert [choice.index for choice in reply.choices] == list(range(len(reply.choices)))
    charged = _microcredits(reply)
    assert microcredits(headers["x-credits-used"]) == charged
    parts = []
    for choice in reply.choices:
        message = choice.message
        assert message.role == "assistant"
        calls = [_call(call) for call in message.tool_calls or []]
        logprobs = (choice.logprobs.content or []) if choice.logprobs else []
        reasoning = getattr(message, "reasoning_content", "")
        parts.append(Part(message.content or "", message.refusal or "", reasoning, choice.finish_reason, calls, logprobs))
    usage = reply.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    return Answer(reply.id, reply.model, parts, usage.prompt_tokens, usage.completion_tokens, charged, headers, {})


def _call(call: Any) -> Call:
    assert call.type == "function"
    return Call(call.id, call.function.name, call.function.arguments)


def read_stream(chunks: list[ChatCompletionChunk], headers: dict[str, str]) -> Answer:
    """The answer of a whole stream, whose order is the contract's: role, content, finish reason, one credits chunk."""
    *content, last = chunks
    parts: dict[int, Part] = {}
    for chunk in content:
        assert chunk.choices, "only the credits chunk has no choices"
        assert chunk.usage is None, "usage stands in the credits chunk only"
        assert not hasattr(chunk, "credits_used")
        for choice in chunk.choices:
            if choice.index not in parts:
                assert choice.delta.role == "assistant"
                assert not choice.delta.content
                assert choice.finish_reason is None
                parts[choice.index] = Part()
            else:
                assert choice.delta.role is None, "a role is said once"
                _add(parts[choice.index], choice)
    assert {(chunk.object, chunk.id, chunk.model, chunk.created) for chunk in chunks} == {
        ("chat.completion.chunk", last.id, last.model, last.created)
    }
    assert all(part.finish_reason for part in parts.values())
    assert last.choices == []
    usage = last.usage
    assert usage is not None
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert "x-credits-used" not in headers
    extra = {name: value for name, value in (last.model_extra or {}).items() if name != "credits_used"}
    ordered = [parts[index] for index in sorted(parts)]
    return Answer(
        last.id, last.model, ordered, usage.prompt_tokens, usage.completion_tokens, _microcredits(last), headers, extra
    )


def _add(part: Part, choice: Any) -> None:
    assert part.finish_reason is None, "nothing follows the finish reason"
    delta = choice.delta
    part.text += delta.content or ""
    part.refusal += delta.refusal or ""
    part.reasoning += getattr(delta, "reasoning_content", "")
    part.finish_reason = choice.finish_reason
    if choice.logprobs:
        part.logprobs += choice.logprobs.content or []
    for piece in delta.tool_calls or []:
        if piece.index == len(part.calls):
            part.calls.append(Call(piece.id, piece.function.name))
        else:
            assert piece.id is None, "a call is named once"
        part.calls[piece.index].arguments += piece.function.arguments or ""


def _microcredits(answer: ChatCompletion | ChatCompletionChunk) -> int:
    """`credits_used` of an answer: the client reads it as a float, whose shortest text is the number that was sent."""
    return microcredits(Decimal(repr((answer.model_extra or {})["credits_used"])))


def cost_of(answer: Answer) -> int:
    """What the usage an answer shows costs at the price of the model that it names."""
    return cost(answer.model, answer.prompt_tokens, answer.completion_tokens)


def assert_booked(books: Books, answer: Answer) -> Booked:
    """What the answer says of its charge is what was booked, to the microcredit, and nothing is left held."""
    booked = books.of(answer.id)
    assert answer.charged_microcredits == booked.charged_microcredits == booked.entry_microcredits == cost_of(answer)
    assert booked.model_used == answer.model
    assert (booked.prompt_tokens, booked.completion_tokens) == (answer.prompt_tokens, answer.completion_tokens)
    assert sum(hold.settled_microcredits for hold in booked.holds) == booked.entry_microcredits
    assert "open" not in booked.states
    return booked


def texts(chunks: Iterable[ChatCompletionChunk]) -> str:
    """The text of a stream's first choice."""
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
