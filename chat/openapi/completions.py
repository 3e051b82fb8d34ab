"""Chat completions and models. The body of a request is the very type that decodes it (`chat.schema.request`)."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from billing.idempotency import KEPT_FOR
from chat.api.models import FLAGS
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
MOST_KEY_CHARACTERS: Final = 255

_SWITCH: Final[Schema] = {"type": "string", "enum": ["true", "false", "1", "0"]}
_PRICES: Final = ("input", "output", "cached_input", "cache_write", "audio_input", "reasoning", "pdf_page")

IDEMPOTENCY_KEY: Final[Schema] = {
    "type": "string",
    "maxLength": MOST_KEY_CHARACTERS,
    "description": f"A repeat within {KEPT_FOR.total_seconds() / 3600:g} hours gets the first answer, and is not charged.",
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
    made["ChatRequest"]["properties"] |= passed_over
    return {
        **{name: _of_javascript(schema) for name, schema in made.items()},
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
        "CompletionChunk": shape(
            {**_CHUNK, "choices": list_of(of("ChoiceDelta"))}, {"system_fingerprint": TEXT, "usage": {"type": "null"}}
        ),
        "CreditsChunk": described(
            shape(
                {**_CHUNK, "choices": {"type": "array", "maxItems": 0}, "usage": of("Usage"), "credits_used": CREDITS},
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


def _of_javascript(schema: Any) -> Any:
    """Patterns in the dialect of JSON Schema. Fields that are not known are taken out of a request, so they are allowed."""
    if isinstance(schema, dict):
        kept = {name: _of_javascript(value) for name, value in schema.items() if name != "additionalProperties" or value}
        if isinstance(pattern := kept.get("pattern"), str):
            kept["pattern"] = pattern.replace(r"\A", "^").replace(r"\Z", "$")
        return kept
    return [_of_javascript(one) for one in schema] if isinstance(schema, list) else schema


def operations() -> list[Operation]:
    events = {"type": "string", "description": "`data:` events of CompletionChunk, one of CreditsChunk, and `[DONE]`."}
    complete = Operation(
        id="createChatCompletion",
        method="POST",
        path="/v1/chat/completions",
        tag=TAG,
        summary="Answers a conversation, whole or as a stream; with dry_run it says what that could cost, and asks no model.",
        body=of("ChatRequest"),
        answers={JSON: {"anyOf": [of("Completion"), of("Quote")]}, "text/event-stream": events},
        query={"dry_run": _SWITCH},
        headers={
            "Idempotency-Key": IDEMPOTENCY_KEY,
            "x-request-id": described({"type": "string", "maxLength": 128}, "A label, kept with the request."),
            "x-disable-fallback": described(_SWITCH, "No other model may answer."),
            "x-strict": described(_SWITCH, "Nothing of the request may be adapted to the model: it is refused instead."),
        },
    )
    return [
        complete,
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
            summary="One model.",
            answers={JSON: of("Model")},
        ),
    ]
