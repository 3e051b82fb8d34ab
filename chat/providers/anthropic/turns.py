"""Messages as the turns of this dialect (pure).

Rules of the provider that are kept here: turns alternate, the first is the user's; no text is empty or blank; an answer that
was begun ends without white space; the results of a turn's calls stand in the next user turn, before anything else; ids and
names hold `[a-zA-Z0-9_-]` only, and no two calls share an id. System and developer messages are joined in front of all turns, wherever they stood.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec

from chat.errors import UnsupportedParameter
from chat.schema.request import (
    AssistantMessage,
    CacheControl,
    DeveloperMessage,
    FilePart,
    FunctionMessage,
    ImagePart,
    Message,
    Part,
    RefusalPart,
    SystemMessage,
    TextPart,
    ToolCall,
    ToolMessage,
)

Block = dict[str, Any]

FILLER = "."
"""What the user says where the provider wants a turn of theirs and there is none."""

_FOREIGN = re.compile(r"[^a-zA-Z0-9_-]")
_MOST_NAME_CHARS = 64
_DATA = "data:"
_SAME_TYPE = {"image/jpg": "image/jpeg"}
_PDF = "application/pdf"

_blocks_decoder = msgspec.json.Decoder(list[Block])
_object_decoder = msgspec.json.Decoder(dict[str, Any])


class Turn(msgspec.Struct):
    """`results` stand before `blocks`, whenever they came."""

    role: Literal["user", "assistant"]
    results: list[Block]
    blocks: list[Block]


class Conversation:
    """What the messages say, turn by turn. `states` gives the thinking that belongs to calls, by their ids."""

    def __init__(self, messages: list[Message], states: dict[str, bytes]) -> None:
        self.system: list[Block] = []
        self.called: dict[str, None] = {}
        """The names of all tools that were called, in order."""
        self._states = states
        self._turns: list[Turn] = []
        self._ids: dict[str, str] = {}
        self._taken: set[str] = set()
        self._asked_in: dict[str, int] = {}
        for message in messages:
            self._add(message)

    def turns(self) -> list[Block]:
        """The turns as the wire has them."""
        turns = self._turns
        if not turns or turns[0].role == "assistant":
            turns = [Turn("user", [], [{"type": "text", "text": FILLER}]), *turns]
        if turns[-1].role == "assistant" and (begun := turns[-1].blocks[-1])["type"] == "text":
            begun["text"] = begun["text"].rstrip()
        return [{"role": turn.role, "content": turn.results + turn.blocks} for turn in turns]

    def _add(self, message: Message) -> None:
        if isinstance(message, SystemMessage | DeveloperMessage):
            self.system += _blocks(message.content)
        elif isinstance(message, AssistantMessage):
            self._add_answer(message)
        elif isinstance(message, ToolMessage):
            self._add_result(message)
        elif isinstance(message, FunctionMessage):
            raise _unsupported("messages with the role 'function'")
        else:
            self._say("user", _blocks(message.content))

    def _say(self, role: Literal["user", "assistant"], blocks: list[Block]) -> None:
        if not blocks:
            return
        if not self._turns or self._turns[-1].role != role:
            self._turns.append(Turn(role, [], []))
        self._turns[-1].blocks += blocks

    def _add_answer(self, message: AssistantMessage) -> None:
        if message.function_call is not None:
            raise _unsupported("'function_call' in a message")
        calls = message.tool_calls or []
        blocks = self._thinking(calls) + _blocks(message.content or "") + _blocks(message.refusal or "")
        self._say("assistant", blocks + [self._call(call) for call in calls])
        for call in calls:
            self._asked_in[call.id] = len(self._turns) - 1

    def _thinking(self, calls: list[ToolCall]) -> list[Block]:
        """The thinking that led to these calls, as the provider gave it; none if it is not known any more."""
        state = next((self._states[call.id] for call in calls if call.id in self._states), b"[]")
        try:
            return _blocks_decoder.decode(state)
        except msgspec.DecodeError:
            return []

    def _call(self, call: ToolCall) -> Block:
        if call.function is None:
            raise _unsupported("calls of custom tools")
        name = _FOREIGN.sub("_", call.function.name)[:_MOST_NAME_CHARS]
        self.called[name] = None
        return {"type": "tool_use", "id": self._new_id(call.id), "name": name, "input": _input(call.function.arguments)}

    def _new_id(self, given: str) -> str:
        """The id of a call as the provider takes it. Some servers give the same one in every turn; here each is one call."""
        clean = _FOREIGN.sub("_", given)
        free, count = clean, 1
        while free in self._taken:
            count += 1
            free = f"{clean}_{count}"
        self._taken.add(free)
        self._ids[given] = free
        return free

    def _add_result(self, message: ToolMessage) -> None:
        """Into the turn after the call, although other messages may stand between them."""
        index = self._asked_in[message.tool_call_id] + 1
        if index == len(self._turns):
            self._turns.append(Turn("user", [], []))
        result: Block = {"type": "tool_result", "tool_use_id": self._ids[message.tool_call_id]}
        content = _blocks(message.content)
        # Only the result as a whole can be a cache breakpoint.
        marks = [mark for block in content if (mark := block.pop("cache_control", None))]
        if content:
            result["content"] = content
        if marks:
            result["cache_control"] = marks[-1]
        self._turns[index].results.append(result)


def _blocks(content: str | list[Part]) -> list[Block]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content.strip() else []
    return [block for part in content if (block := _block(part)) is not None]


def _block(part: Part) -> Block | None:
    """None for a text without a letter in it, which the provider refuses."""
    if isinstance(part, TextPart):
        return _marked({"type": "text", "text": part.text}, part.cache_control) if part.text.strip() else None
    if isinstance(part, RefusalPart):
        return {"type": "text", "text": part.refusal} if part.refusal.strip() else None
    if isinstance(part, ImagePart):
        return _marked({"type": "image", "source": _source(part.image_url.url, "")}, part.cache_control)
    if isinstance(part, FilePart) and part.file is not None and (data := part.file.file_data or part.file.data):
        return _marked(_file(data, part.file.mime_type, part.file.filename), part.cache_control)
    raise _unsupported(f"parts of the type '{part.__struct_config__.tag}'")


def _file(data: str, mime_type: str | None, filename: str | None) -> Block:
    source = _source(data, mime_type or _PDF)
    if source.get("media_type", _PDF) == _PDF:
        return {"type": "document", "source": source, **({"title": filename} if filename else {})}
    if source["media_type"].startswith("image/"):
        return {"type": "image", "source": source}
    raise _unsupported(f"files of the type '{source['media_type']}'")


def _source(text: str, media_type: str) -> Block:
    """A `data:` URI, an address, or bare base64 of what is said to be `media_type`."""
    scheme = text[:8].lower()
    if scheme.startswith(("http://", "https://")):
        return {"type": "url", "url": text}
    data = text
    if scheme.startswith(_DATA):
        head, _, data = text.partition(",")
        media_type = head[len(_DATA) :].lower().partition(";")[0] or media_type
    return {"type": "base64", "media_type": _SAME_TYPE.get(media_type, media_type), "data": data}


def _marked(block: Block, cache_control: CacheControl | None) -> Block:
    if cache_control is not None:
        block["cache_control"] = cache_control
    return block


def _input(arguments: str) -> msgspec.Raw | Block:
    """The arguments as the object they are, in the bytes they have; a text that is none stands in `_raw`, for the model to see."""
    if not arguments.strip():
        return {}
    try:
        _object_decoder.decode(arguments)
    except (msgspec.DecodeError, RecursionError):
        return {"_raw": arguments}
    return msgspec.Raw(arguments.encode())


def _unsupported(what: str) -> UnsupportedParameter:
    return UnsupportedParameter("messages", f"This model does not take {what}.")
