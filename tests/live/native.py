"""What a provider was asked, read from each dialect's own body: so that one test can look at all of them."""

from __future__ import annotations

import base64
from typing import Any

import msgspec

Body = dict[str, Any]


class Native(msgspec.Struct, frozen=True):
    """A request as a provider saw it, in the words of no dialect."""

    system: str = ""
    said: tuple[tuple[str, str], ...] = ()
    """Who said which text: `user` or `assistant`."""
    images: tuple[str, ...] = ()
    """Base64 of each image, in order."""
    documents: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    choice: str = ""
    """`auto`, `required`, `none`, or the name of the one tool; empty where nothing was said."""
    calls: tuple[tuple[str, str], ...] = ()
    """Name and arguments of each call that was replayed."""
    results: tuple[str, ...] = ()
    stops: tuple[str, ...] = ()
    limit: int | None = None
    schema: Any = None
    """The schema of the answer; True for JSON without one."""
    is_thinking: bool = False


def read(dialect: str, body: Body) -> Native:
    return {"openai": _openai, "anthropic": _anthropic, "gemini": _gemini}[dialect](body)


def _openai(body: Body) -> Native:
    said, images, documents, calls, results, system = [], [], [], [], [], []
    for message in body["messages"]:
        content, role = message.get("content"), message["role"]
        parts = _blocks(content or [])
        images += [_data(part["image_url"]["url"]) for part in parts if part["type"] == "image_url"]
        documents += [_data(part["file"]["file_data"]) for part in parts if part["type"] == "file"]
        text = "".join(part["text"] for part in parts if part["type"] == "text")
        calls += [(call["function"]["name"], call["function"]["arguments"]) for call in message.get("tool_calls", [])]
        if role in {"system", "developer"}:
            system.append(text)
        elif role == "tool":
            results.append(text)
        elif text:
            said.append((role, text))
    choice = body.get("tool_choice", "")
    wanted = body.get("response_format", {})
    return Native(
        system="\n\n".join(system),
        said=tuple(said),
        images=tuple(images),
        documents=tuple(documents),
        tools=tuple(tool["function"]["name"] for tool in body.get("tools", [])),
        choice=choice if isinstance(choice, str) else choice["function"]["name"],
        calls=tuple(calls),
        results=tuple(results),
        stops=_listed(body.get("stop", [])),
        limit=body.get("max_tokens"),
        schema=wanted.get("json_schema", {}).get("schema", True) if wanted.get("type", "text") != "text" else None,
        is_thinking="reasoning_effort" in body,
    )


def _anthropic(body: Body) -> Native:
    said, images, documents, calls, results = [], [], [], [], []
    for turn in body["messages"]:
        content = turn["content"]
        blocks = _blocks(content)
        inside = [inner for block in blocks if block["type"] == "tool_result" for inner in _blocks(block["content"])]
        images += [block["source"]["data"] for block in [*blocks, *inside] if block["type"] == "image"]
        documents += [block["source"]["data"] for block in blocks if block["type"] == "document"]
        calls += [(block["name"], _json(block["input"])) for block in blocks if block["type"] == "tool_use"]
        results += [_joined(_blocks(block["content"])) for block in blocks if block["type"] == "tool_result"]
        text = _joined(blocks)
        if text:
            said.append((turn["role"], text))
    choice = body.get("tool_choice", {"type": ""})
    system = body.get("system", "")
    kinds = {"any": "required", "tool": choice.get("name", "")}
    return Native(
        system=system if isinstance(system, str) else "\n\n".join(block["text"] for block in system),
        said=tuple(said),
        images=tuple(images),
        documents=tuple(documents),
        tools=tuple(tool["name"] for tool in body.get("tools", [])),
        choice=kinds.get(choice["type"], choice["type"]),
        calls=tuple(calls),
        results=tuple(results),
        stops=tuple(body.get("stop_sequences", [])),
        limit=body["max_tokens"],
        schema=body.get("output_config", {}).get("format", {}).get("schema"),
        is_thinking=body.get("thinking", {}).get("type") in {"adaptive", "enabled"},
    )


def _gemini(body: Body) -> Native:
    said, images, documents, calls, results = [], [], [], [], []
    for turn in body["contents"]:
        parts = turn["parts"]
        inside = [inner for part in parts for inner in part.get("functionResponse", {}).get("parts", [])]
        blobs = [part["inlineData"] for part in [*parts, *inside] if "inlineData" in part]
        images += [blob["data"] for blob in blobs if blob["mimeType"].startswith("image/")]
        documents += [blob["data"] for blob in blobs if blob["mimeType"] == "application/pdf"]
        calls += [
            (part["functionCall"]["name"], _json(part["functionCall"]["args"])) for part in parts if "functionCall" in part
        ]
        answers = [part["functionResponse"]["response"] for part in parts if "functionResponse" in part]
        results += [answer["output"] if set(answer) == {"output"} else _json(answer) for answer in answers]
        text = "".join(part.get("text", "") for part in parts)
        if text:
            said.append(({"model": "assistant"}.get(turn["role"], turn["role"]), text))
    config = body.get("generationConfig", {})
    calling = body.get("toolConfig", {}).get("functionCallingConfig", {"mode": ""})
    named = calling.get("allowedFunctionNames", [])
    modes = {"ANY": named[0] if named else "required", "AUTO": "auto", "NONE": "none", "": ""}
    return Native(
        system="\n\n".join(part["text"] for part in body.get("systemInstruction", {}).get("parts", [])),
        said=tuple(said),
        images=tuple(images),
        documents=tuple(documents),
        tools=tuple(tool["name"] for group in body.get("tools", []) for tool in group["functionDeclarations"]),
        choice=modes[calling["mode"]],
        calls=tuple(calls),
        results=tuple(results),
        stops=tuple(config.get("stopSequences", [])),
        limit=config.get("maxOutputTokens"),
        schema=config.get("responseJsonSchema", True) if "responseMimeType" in config else None,
        is_thinking="thinkingLevel" in config.get("thinkingConfig", {}),
    )


def encoded(data: bytes) -> str:
    """As images and documents are read here."""
    return base64.b64encode(data).decode()


def decoded(value: Any) -> Any:
    """A column of JSON: text in SQLite, a value in PostgreSQL."""
    return msgspec.json.decode(value) if isinstance(value, str) else value


def _data(uri: str) -> str:
    return uri.partition(",")[2]


def _blocks(content: Any) -> list[Body]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _joined(blocks: list[Body]) -> str:
    return "".join(block["text"] for block in blocks if block["type"] == "text")


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _listed(value: str | list[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)
