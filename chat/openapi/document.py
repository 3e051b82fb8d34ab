"""The whole document, and the view that serves it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import msgspec
from django.http import HttpRequest, HttpResponse
from django.views import View

from billing.console.keys import base_url
from chat.openapi import completions, management, records, stored
from chat.openapi.forms import JSON, TEXT, Schema, headers_of, of, or_null, shape, written

VERSION: Final = "1"
_ABOUT: Final = (
    "An OpenAI-compatible gateway with prepaid credits. Amounts are credits, as exact numbers; times are UTC. "
    "An answer with an error status is never charged, and its code says what to do: see /docs/errors. "
    "Every request may bear a label of at most 128 characters, `x-request-id`, which its answer bears, too."
)
_PARTS: Final = (completions, records, stored, management)

_encode = msgspec.json.Encoder().encode


def document(origin: str) -> dict[str, Any]:
    """The document of a gateway that clients reach at `origin`."""
    operations = [operation for part in _PARTS for operation in part.operations()]
    paths: dict[str, dict[str, Schema]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = written(operation)
    fault = shape({"message": TEXT, "type": TEXT, "param": or_null(TEXT), "code": or_null(TEXT)})
    schemas: dict[str, Schema] = {"ApiError": shape({"error": fault})}
    for part in _PARTS:
        schemas |= part.schemas()
    return {
        "openapi": "3.1.0",
        "info": {"title": "Gateway", "version": VERSION, "description": _ABOUT},
        "servers": [{"url": origin}],
        "tags": [{"name": tag} for tag in dict.fromkeys(operation.tag for operation in operations)],
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "A key of a workspace: inf_..."},
            },
            "responses": {
                "Error": {
                    "description": "Refused or failed.",
                    "headers": headers_of({"Retry-After": "Seconds until another try makes sense, where one does."}),
                    "content": {JSON: {"schema": of("ApiError")}},
                }
            },
            "schemas": schemas,
        },
    }


@lru_cache(maxsize=8)
def _encoded(origin: str) -> bytes:
    return _encode(document(origin))


class OpenApi(View):
    def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse(_encoded(base_url(request)), content_type=JSON)
