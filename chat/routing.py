"""Which paths go around Django, to a consumer of their own. Paths are matched whole and as they were sent."""

from __future__ import annotations

from typing import Any

from django.conf import settings

from chat.consumers import ChatCompletions, PlaygroundChat, Runtime
from chat.streaming import BodyLimits


def routes(runtime: Runtime) -> dict[bytes, Any]:
    """ASGI applications by path, before anything in it is decoded."""
    limits = BodyLimits(settings.CHAT_BODY_LIMIT_BYTES, settings.BODY_CHUNK_TIMEOUT_S, settings.BODY_TOTAL_TIMEOUT_S)
    return {
        b"/v1/chat/completions": ChatCompletions.as_asgi(runtime=runtime, limits=limits),
        b"/console/playground/chat": PlaygroundChat.as_asgi(runtime=runtime, limits=limits),
    }
