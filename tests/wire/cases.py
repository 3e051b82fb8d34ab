"""The cases of the wire suite, and their way through the real pure rooms.

A case is a folder `tests/wire/<provider>/<case>/`. What stands in it by hand:

    case.json               what it shows, and what differs from the usual target (`Settings`)
    client-request.json     what the client sends, without `stream`; absent: a plain question
    upstream-reply.json     the body the provider answers with, byte for byte, if the case has a whole reply
    upstream-reply.sse      the stream the provider answers with, byte for byte, if the case has a stream

and what the suite compares, written anew by `pytest tests/wire --write-goldens` and reviewed by whoever does that:

    upstream-request.json   address, headers, body and adaptations; under `stream`, what differs in the other mode
    client-reply.json       what the client gets in each mode
    client-reply.sse
    client-failure.json     what it gets instead where that is a failure, in each mode
    client-failure.stream.json
    facts.json              what is kept for the next turn, and whether the JSON that was asked for is valid
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from billing.pricing import PriceList
from chat import outcome, structured
from chat.adapt import adapt
from chat.decode import decode
from chat.encode import Head, StreamEncoder, encoded_choices, error_frame, whole_reply
from chat.errors import UpstreamFailure, UpstreamInvalidResponse
from chat.outcome import Journal, Served, output_bytes
from chat.providers.base import Asked, UpstreamCall
from chat.providers.registry import ADAPTERS
from chat.quote import quote
from chat.schema.content import Content, KeptState
from chat.schema.delivery import Call, Facts
from chat.schema.reply import ToolState
from chat.schema.route import Capability, ModelInfo, ProviderInfo, Route, Step, TargetInfo, Tenant
from chat.sse import SseDecoder, SseError
from infery_site.errors import ApiError
from tests.wire.providers import PROVIDERS, Provider

FOLDER = Path(__file__).parent
BY_HAND = {"case.json", "client-request.json", "upstream-reply.json", "upstream-reply.sse"}

HEAD = Head("chatcmpl-wire", 1_767_225_600, "wire-model")
TENANT = Tenant(b"secret", "ws_acme")
CONTENT = Content(text_bytes=20_000)
PRICES = PriceList(
    1,
    input=300_000_000,
    output=1_500_000_000,
    cached_input=30_000_000,
    cache_write=375_000_000,
    audio_input=300_000_000,
    reasoning=1_500_000_000,
)
QUESTION: dict[str, Any] = {"model": "wire-model", "messages": [{"role": "user", "content": "Say hello."}]}

_STRICT = frozenset({"top_k"})


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`shows` says what the case is for. `states` is what was kept of earlier turns, by the id of a call.

    `is_odd` marks what the provider's own SDK would not send or not expect, so that its types are not asked.
    """

    shows: str
    quirks: list[str] = []
    capabilities: frozenset[Capability] = frozenset(
        {"streaming", "vision", "pdf", "tools", "json_mode", "json_schema", "reasoning", "audio_input"}
    )
    base_url: str = ""
    max_output_tokens: int = 8192
    status: int = 200
    headers: dict[str, str] = {}
    states: dict[str, Any] = {}
    is_odd: bool = False


class Answer(msgspec.Struct, frozen=True):
    """What a client gets, and what goes beside it."""

    status: int
    headers: dict[str, str]
    body: bytes
    states: tuple[ToolState, ...] = ()
    is_schema_valid: bool | None = None
    is_cut: bool = False


class Case:
    """One folder, read."""

    def __init__(self, provider: str, name: str) -> None:
        self.folder = FOLDER / provider / name
        self.provider: Provider = PROVIDERS[provider]
        self.adapter = ADAPTERS[self.provider.dialect]
        self.settings = msgspec.json.decode((self.folder / "case.json").read_bytes(), type=Settings)
        self.client_request = self._json("client-request.json") or QUESTION
        self.reply = self._bytes("upstream-reply.json")
        self.sse = self._bytes("upstream-reply.sse")

    def _bytes(self, name: str) -> bytes | None:
        path = self.folder / name
        return path.read_bytes() if path.exists() else None

    def _json(self, name: str) -> Any:
        data = self._bytes(name)
        return None if data is None else json.loads(data)

    def goldens(self) -> dict[str, bytes]:
        """Every golden of this case as the rooms give it now, by its file name."""
        files: dict[str, bytes] = {}
        if self.settings.status == 200:
            files["upstream-request.json"] = _pretty(self._asking())
        whole, streamed = self.whole(), self.stream()
        if whole is not None:
            name = "client-reply.json" if whole.status == 200 else "client-failure.json"
            files[name] = _answer_file(whole)
        if streamed is not None:
            is_answer = streamed.status == 200
            files["client-reply.sse" if is_answer else "client-failure.stream.json"] = (
                streamed.body if is_answer else _answer_file(streamed)
            )
        facts = _facts([answer for answer in (whole, streamed) if answer is not None])
        return files | ({"facts.json": _pretty(facts)} if facts else {})

    # The way out

    def asked(self, *, is_stream: bool) -> tuple[Asked, Journal, structured.Wanted | None]:
        settings, provider = self.settings, self.provider
        body = self.client_request | ({"stream": True} if is_stream else {})
        decoded = decode(json.dumps(body).encode(), is_strict=False)
        info = ProviderInfo("wire", provider.dialect, settings.base_url or provider.base_url, "sk-wire")
        target = TargetInfo(1, info, provider.upstream_model, 1, 0, 5, 60, 60, 600, frozenset(settings.quirks))
        model = ModelInfo(
            *("wire-model", "Wire", "tests", "chat"),
            context_window=200_000,
            max_output_tokens=settings.max_output_tokens,
            capabilities=settings.capabilities,
            prices=PRICES,
            targets=(target,),
            created_at=0,
        )
        states = {call: _state(kept) for call, kept in settings.states.items()}
        content = msgspec.structs.replace(
            CONTENT, states={call: KeptState(target.maker, data) for call, data in states.items()}
        )
        adapted = adapt(decoded.chat, content, model, target)
        journal = Journal(Call(generation=HEAD.id, request_id="req-wire", started_s=0.0, authorization=()))
        journal.read(decoded.chat, decoded.ignored)
        bounds = quote(decoded.chat, Route(model.slug, (Step(model, (target,)),), (0,)), CONTENT).steps[0]
        journal.served = Served(model, target, 0, journal.adaptations + adapted.changes, bounds)
        asked = Asked(adapted.request, model, target, TENANT, states)
        return asked, journal, structured.wanted_of(decoded.chat, adapted.json_tool)

    def _asking(self) -> dict[str, Any]:
        whole, streamed = self._called(is_stream=False), self._called(is_stream=True)
        return whole | {"stream": {part: _difference(whole[part], streamed[part]) for part in ("url", "headers", "body")}}

    def _called(self, *, is_stream: bool) -> dict[str, Any]:
        asked, journal, _ = self.asked(is_stream=is_stream)
        call: UpstreamCall = self.adapter.build(asked)
        adaptations = journal.served.adaptations if journal.served else ()
        body = json.loads(call.body)
        return {"url": call.url, "headers": dict(call.headers), "body": body, "adaptations": list(adaptations)}

    # The way back

    def whole(self) -> Answer | None:
        """What a client that asked for a whole reply gets; None if the case has none."""
        if self.reply is None:
            return None
        asked, journal, wanted = self.asked(is_stream=False)
        try:
            if self.settings.status != 200:
                raise self.adapter.failure(self.settings.status, self.settings.headers, self.reply)
            reply = self.adapter.reply(asked, self.reply)
        except UpstreamFailure as failure:
            return _failed(failure)
        if wanted is not None:
            reply, journal.is_schema_valid = structured.whole(reply, wanted)
        ending = outcome.of_reply(reply, journal)
        charged = outcome.charge(journal, ending).total_microcredits
        body = whole_reply(HEAD, encoded_choices(reply), reply.system_fingerprint, ending.usage, charged)
        return Answer(200, {}, body, reply.states, journal.is_schema_valid)

    def stream(self, parts: list[bytes] | None = None) -> Answer | None:
        """What a client that asked for a stream gets, however the upstream's bytes come in; None if the case has none."""
        if self.sse is None:
            return None
        asked, journal, wanted = self.asked(is_stream=True)
        sse, encoder = SseDecoder(), StreamEncoder(HEAD)
        inner = self.adapter.stream(asked)
        decoder = inner if wanted is None else structured.JsonStream(inner, wanted)
        frames = b""
        states: list[ToolState] = []
        try:
            for part in [*([self.sse] if parts is None else parts), None]:
                for event in sse.flush() if part is None else sse.feed(part):
                    chunk = decoder.decode(event.event, event.data)
                    if chunk is not None:
                        journal.tally.add([chunk], output_bytes([chunk]))
                        frames += encoder.frames([chunk])
                        states += chunk.states
            decoder.flush()
        except SseError:
            return _broken(UpstreamInvalidResponse(upstream_status=200), frames, has_begun=journal.tally.has_content)
        except UpstreamFailure as failure:
            return _broken(failure, frames, has_begun=journal.tally.has_content)
        ending = outcome.of_stream(journal)
        frames += encoder.last_frames(ending.usage, outcome.charge(journal, ending).total_microcredits, Facts())
        is_valid = decoder.verdict() if isinstance(decoder, structured.JsonStream) else None
        return Answer(200, {}, frames, tuple(states), is_valid)


def _broken(failure: UpstreamFailure, frames: bytes, *, has_begun: bool) -> Answer:
    """Before the first real chunk there is still a status to tell it with."""
    return Answer(200, {}, frames + error_frame(failure), is_cut=True) if has_begun else _failed(failure)


def _failed(failure: ApiError) -> Answer:
    return Answer(failure.status, dict(failure.headers), failure.envelope(), is_cut=True)


def _answer_file(answer: Answer) -> bytes:
    body = json.loads(answer.body)
    return _pretty(body if answer.status == 200 else {"status": answer.status, "headers": answer.headers, "body": body})


def _facts(answers: list[Answer]) -> dict[str, Any]:
    """What goes beside the answers. It does not depend on the mode: each fact that is not the same is seen as a list."""
    told = [{"states": _readable(one.states), "schema_valid": one.is_schema_valid} for one in answers if not one.is_cut]
    distinct = (
        {name: list({json.dumps(facts[name]): facts[name] for facts in told}.values()) for name in told[0]} if told else {}
    )
    return {
        name: values[0] if len(values) == 1 else values for name, values in distinct.items() if any(values) or False in values
    }


def _readable(states: tuple[ToolState, ...]) -> dict[str, Any]:
    return {state.tool_call_id: _read_state(state.data) for state in states}


def _read_state(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return data.decode()


def _state(kept: Any) -> bytes:
    return kept.encode() if isinstance(kept, str) else msgspec.json.encode(kept)


def _difference(whole: Any, streamed: Any) -> Any:
    """What is other in the second of two values; of two objects, by their keys."""
    if not isinstance(whole, dict):
        return streamed if streamed != whole else None
    changed = {name: value for name, value in streamed.items() if name not in whole or whole[name] != value}
    return changed | {name: None for name in whole if name not in streamed}


def _pretty(value: Any) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False).encode() + b"\n"


def cases() -> list[tuple[str, str]]:
    """Every case, by provider and name."""
    return [(name, path.parent.name) for name in PROVIDERS for path in sorted((FOLDER / name).glob("*/case.json"))]
