"""Which paths go around Django, to a consumer of their own. Paths are matched whole and as they were sent."""

from __future__ import annotations

from typing import Any

from chat.consumers import ChatCompletions, Runtime


def routes(runtime: Runtime) -> dict[str, Any]:
    """ASGI applications by path."""
    return {"/v1/chat/completions": ChatCompletions.as_asgi(runtime=runtime)}
