"""Chat completions and models. The body of a request is the very type that decodes it (`chat.schema.request`)."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from billing.idempotency import KEPT_FOR
from chat.api.models import FLAGS
from chat.decode.rules import MAX_STOPS
from chat.models import CatalogModel
from chat.openapi.forms import (
    CREDITS,
    FLAG,
    JSON,
    REFERENCE,
    TEXT,
    WHOLE,
    Operation,
    Schema,
    described,
    either,
    just,
    list_of,
    of,
    one_of,
    or_null,
    shape,
)
from chat.schema.reply import Choice, ChoiceDelta
from chat.schema.request import ChatRequest, NotForwarded

TAG: Final = "Chat"
MODELS: Final = "Models"
_NOT_SAID: Final = (("default", None), ("additionalProperties", False))
_SWITCH: Final[Schema] = {"type": "string", "enum": ["true", "false", "1", "0"]}
_PRICES: Final = ("input", "output", "cached_input", "cache_write", "audio_input", "reasoning", "pdf_page")

IDEMPOTENCY_KEY: Final[Schema] = {
    "type": "string",
    "pattern": "^[!-~]{1,255}$",
    "description": f"The same body under the same key within {KEPT_FOR.total_seconds() / 3600:g} hours gets the answer of the first, "
    "if that succeeded; it is done and paid once.",
}
_TOLD: Final = {
    "x-request-id": "The label of the request: its own, or a new one.",
    "x-model-used": "The model that answered.",
    "x-credits-used": "What a whole answer cost, in credits; a stream says it in its credits chunk.",
    "x-fallback-from": "The model that was asked for, where another answered.",
    "x-fallback-depth": "How many models of the chain were passed over, where any was.",
    "x-request-adaptations": "What of the request was adapted to the model.",
    "x-schema-valid": "Whether a structured answer is as its schema says.",
    "idempotent-replayed": "true where it is the answer of an earlier request.",
    "server-timing": "What the gateway and the provider took.",
}

_USAGE = shape(
    {
        **dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens"), WHOLE),
        "prompt_tokens_details": shape({"cached_tokens": WHOLE, "cache_write_tokens": WHOLE, "audio_tokens": WHOLE}),
        "completion_tokens_details": shape({"reasoning_tokens": WHOLE}),
    }
)
_HEAD = {"id": TEXT, "created": described(WHOLE, "Seconds since 1970."), "model": TEXT}
_CHUNK = {"object": just("chat.completion.chunk"), **_HEAD}
_MODEL = shape(
    {
        "id": TEXT,
        "object": just("model"),
        "created": WHOLE,
        "owned_by": TEXT,
        "name": TEXT,
        "modality": one_of(*CatalogModel.Modality.values),
        "context_window": WHOLE,
        "max_output_tokens": WHOLE,
        **dict.fromkeys(FLAGS, FLAG),
        "deprecated_on": or_null({"type": "string", "format": "date"}),
        "prices": described(shape(dict.fromkeys(_PRICES, CREDITS)), "Credits per million tokens, and per page of a PDF."),
    }
)
_STEP = shape(
    {
        "model": TEXT,
        **dict.fromkeys(("fallback_depth", "prompt_tokens_bound", "output_tokens_bound", "pdf_pages"), WHOLE),
        "credits_low": CREDITS,
        "credits_high": CREDITS,
        "adaptations": list_of(TEXT),
    }
)
_QUOTE = shape(
    {
        "object": just("chat.completion.quote"),
        "model": TEXT,
        **dict.fromkeys(("credits_low", "credits_high", "credits_held", "credits_available"), CREDITS),
        "is_admitted": FLAG,
        "refusal": or_null(TEXT),
        "route": list_of(_STEP),
        "ignored": list_of(TEXT),
    }
)


def schemas() -> dict[str, Schema]:
    """Those of requests and of what a model says are made from their types."""
    kinds = [ChatRequest, NotForwarded, Choice, ChoiceDelta]
    _, made = msgspec.json.schema_components(kinds, ref_template=REFERENCE)
    passed_over: Any = made.pop("NotForwarded")["properties"]
    for field in passed_over.values():
        field["description"] = "Checked, and not forwarded."
    fields = made["ChatRequest"]["properties"]
    fields |= passed_over | _narrower()
    for name in ("Choice", "ChoiceDelta"):
        made[name]["required"] = list(made[name]["properties"])
    return {
        **{name: _plain(schema) for name, schema in made.items()},
        "Usage": _USAGE,
        "Completion": shape(
            {
                "object": just("chat.completion"),
                **_HEAD,
                "choices": list_of(of("Choice")),
                "usage": of("Usage"),
                "credits_used": CREDITS,
            },
            {"system_fingerprint": TEXT},
        ),
        "CompletionChunk": shape({**_CHUNK, "choices": list_of(of("ChoiceDelta"))}, {"system_fingerprint": TEXT}),
        "CreditsChunk": described(
            shape(
                {**_CHUNK, "choices": {**list_of({}), "maxItems": 0}, "usage": of("Usage"), "credits_used": CREDITS},
                {
                    "stop_cause": TEXT,
                    "model_used": TEXT,
                    "fallback_from": TEXT,
                    "fallback_depth": WHOLE,
                    "adaptations": list_of(TEXT),
                    "schema_valid": FLAG,
                },
            ),
            "The last chunk of a stream: what it used and cost.",
        ),
        "Quote": _QUOTE,
        "Model": _MODEL,
    }


def _narrower() -> dict[str, Schema]:
    """Fields of which a rule behind the decoder takes less than their types do."""
    stop = {"type": "string", "minLength": 1}
    return {
        "stop": {"anyOf": [stop, {**list_of(stop), "minItems": 1, "maxItems": MAX_STOPS}, {"type": "null"}]},
        "tool_choice": {
            "anyOf": [
                one_of("none", "auto", "required"),
                either(
                    "type",
                    {"function": "FunctionChoice", "custom": "CustomChoice", "allowed_tools": "AllowedToolsChoice"},
                ),
                {"type": "null"},
            ]
        },
        "function_call": {"anyOf": [one_of("none", "auto"), of("NamedFunction"), {"type": "null"}]},
        "modalities": or_null({**list_of(just("text")), "minItems": 1}),
    }


def _plain(schema: Any) -> Any:
    """As generators of clients read it: what may be left out has no default, alternatives by a field are `oneOf`, lists have items.

    Fields that are not known are taken out of a request, so they are allowed. Patterns are JavaScript's.
    """
    if isinstance(schema, list):
        return [_plain(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {name: _plain(value) for name, value in schema.items() if (name, value) not in _NOT_SAID}
    if isinstance(pattern := kept.get("pattern"), str):
        kept["pattern"] = pattern.replace(r"\A", "^").replace(r"\Z", "$")
    if "discriminator" in kept and "anyOf" in kept:
        kept["oneOf"] = kept.pop("anyOf")
    if kept.get("type") == "array":
        kept.setdefault("items", {})
    if isinstance(kept.get("enum"), list) and all(isinstance(value, str) for value in kept["enum"]):
        kept.setdefault("type", "string")
    return kept


def operations() -> list[Operation]:
    events = described(
        TEXT,
        "`data:` events: each a CompletionChunk, then one CreditsChunk, then `[DONE]`. A stream that fails ends with an ApiError "
        "instead, and what was delivered is charged. Lines that begin with a colon keep the connection.",
    )
    return [
        Operation(
            id="createChatCompletion",
            method="POST",
            path="/v1/chat/completions",
            tag=TAG,
            summary="Answers a conversation, whole or as a stream; with dry_run it says what that could cost, and asks no model.",
            body=of("ChatRequest"),
            answers={
                JSON: either("object", {"chat.completion": "Completion", "chat.completion.quote": "Quote"}),
                "text/event-stream": events,
            },
            answer_headers=_TOLD,
            scopes=("chat",),
            query={"dry_run": _SWITCH},
            headers={
                "Idempotency-Key": IDEMPOTENCY_KEY,
                "x-request-id": described({"type": "string", "maxLength": 128}, "A label, kept with the request."),
                "x-disable-fallback": described(_SWITCH, "No other model may answer."),
                "x-strict": described(_SWITCH, "Nothing of the request may be adapted to the model: it is refused instead."),
            },
        ),
        Operation(
            id="listModels",
            method="GET",
            path="/v1/models",
            tag=MODELS,
            summary="The models that the key may call, with their prices.",
            answers={JSON: shape({"object": just("list"), "data": list_of(of("Model"))})},
            query={"modality": one_of(*CatalogModel.Modality.values)},
        ),
        Operation(
            id="getModel",
            method="GET",
            path="/v1/models/{model}",
            tag=MODELS,
            summary="One model. A slash in its name is sent as %2F or as it is.",
            answers={JSON: of("Model")},
        ),
    ]
