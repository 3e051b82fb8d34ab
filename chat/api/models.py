"""`GET /v1/models` and `GET /v1/models/{slug}`: the models a key may call, as OpenAI lists them, with our own fields.

Prices are those of this moment: credits per million tokens, and per page, as exact JSON numbers. `deprecated_on` is the day
(UTC) from which on a model may be gone, or null.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
from django.http import HttpResponse
from rest_framework.request import Request

from billing.api.authentication import principal_of
from billing.pricing import PriceList, credits_text
from chat import catalog
from chat.errors import InvalidRequest, ModelNotFound
from chat.models import CatalogModel
from chat.schema.route import Capability, ModelInfo
from infery_site.drf import ApiView

# The product's own names of the capability flags, in the order they are shown.
FLAGS: dict[str, Capability] = {
    "supportsStreaming": "streaming",
    "supportsVision": "vision",
    "supportsPdf": "pdf",
    "supportsTools": "tools",
    "supportsJsonMode": "json_mode",
    "supportsJsonSchema": "json_schema",
    "supportsAudioInput": "audio_input",
    "isReasoning": "reasoning",
}
_PRICES = ("input", "output", "cached_input", "cache_write", "audio_input", "reasoning", "pdf_page")

_encode = msgspec.json.Encoder(decimal_format="number").encode


class ModelList(ApiView):
    def get(self, request: Request) -> HttpResponse:
        principal = principal_of(request)
        modality = request.query_params.get("modality")
        if modality is not None and modality not in CatalogModel.Modality.values:
            raise InvalidRequest(
                "invalid_value", f"modality must be one of {', '.join(CatalogModel.Modality.values)}.", "modality"
            )
        shown = (
            model
            for slug, model in sorted(catalog.current().models.items())
            if catalog.may_use(principal, slug) and modality in {None, model.modality}
        )
        return _json({"object": "list", "data": [_model_object(model) for model in shown]})


class ModelDetail(ApiView):
    def get(self, request: Request, slug: str) -> HttpResponse:
        model = catalog.current().models.get(slug)
        if model is None or not catalog.may_use(principal_of(request), slug):
            raise ModelNotFound(slug)
        return _json(_model_object(model))


def _json(value: Any) -> HttpResponse:
    return HttpResponse(_encode(value), content_type="application/json")


def _model_object(model: ModelInfo) -> dict[str, Any]:
    return {
        "id": model.slug,
        "object": "model",
        "created": model.created_at,
        "owned_by": model.owned_by,
        "name": model.name,
        "modality": model.modality,
        "context_window": model.context_window,
        "max_output_tokens": model.max_output_tokens,
        **{flag: capability in model.capabilities for flag, capability in FLAGS.items()},
        "deprecated_on": model.deprecated_on,
        "prices": _prices(model.prices),
    }


def _prices(prices: PriceList) -> dict[str, Decimal]:
    return {name: Decimal(credits_text(getattr(prices, name))) for name in _PRICES}
