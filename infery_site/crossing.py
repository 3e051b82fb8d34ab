"""Lets pages of other origins call the API from a browser (CORS), where `CORS_ALLOWED_ORIGINS` names them.

Only what a key opens, which is everything below `/v1`, and the description of it. A browser is never allowed to send what it
keeps, so no page can act as who is signed in to the console.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.middleware.cors import CORSMiddleware

from infery_site.responses import Receive, Send
from infery_site.wire import EXTENSION

METHODS = ("GET", "POST", "DELETE")
ASKED_AGAIN_AFTER_S = 600
"""So long a browser keeps what it was told of its next requests."""


class CrossOrigin:
    """An ASGI application in front of another. `origins` as a browser writes them, or `*` for every one."""

    def __init__(self, application: Any, origins: Sequence[str]) -> None:
        self._application = application
        self._crossing = CORSMiddleware(
            self._by_messages,
            allow_origins=origins,
            allow_methods=METHODS,
            allow_headers=["*"],
            expose_headers=["*"],
            max_age=ASKED_AGAIN_AFTER_S,
        )

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        application = self._crossing if _is_crossing(scope) else self._application
        await application(scope, receive, send)

    async def _by_messages(self, scope: Any, receive: Receive, send: Send) -> None:
        """What is sent past ASGI cannot be given headers on its way."""
        extensions = {name: value for name, value in scope.get("extensions", {}).items() if name != EXTENSION}
        await self._application({**scope, "extensions": extensions}, receive, send)


def _is_crossing(scope: Any) -> bool:
    if scope["type"] != "http" or not (scope["path"].startswith("/v1/") or scope["path"] == "/openapi.json"):
        return False
    return any(name == b"origin" for name, _ in scope["headers"])
