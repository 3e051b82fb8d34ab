"""A test call: one small request to one target, now, whoever is switched off, to tell staff whether it works.

It goes the way of every call, through the adapter and `chat.upstream`, so that addresses are judged by the same rules. It
books nothing and tells no breaker; what the provider charges for it is the installation's.
"""

from __future__ import annotations

import asyncio
import time

import msgspec

from chat import upstream
from chat.adapt import adapt
from chat.decode import decode
from chat.errors import UpstreamFailure
from chat.gate import failure_of
from chat.providers.base import Asked
from chat.providers.registry import ADAPTERS
from chat.schema.content import Content
from chat.schema.route import ModelInfo, TargetInfo, Tenant
from chat.upstream import Timeouts, Upstream

TOTAL_S = 30.0
ANSWER_MOST_BYTES = 1024 * 1024

_PROMPT = "Answer with the word OK."


class Probe(msgspec.Struct, frozen=True):
    """How a test call went. `code` names the failure, empty for none; `text` is what the model said, or why it did not."""

    is_good: bool
    duration_ms: int
    status: int | None = None
    code: str = ""
    text: str = ""


async def probe(model: ModelInfo, target: TargetInfo) -> Probe:
    """Never raises for what the provider, the network or the address does."""
    transport = Upstream()
    await transport.start()
    started_s = time.monotonic()
    try:
        async with asyncio.timeout(TOTAL_S):
            text = await _ask(transport, model, target)
        return Probe(is_good=True, duration_ms=_since(started_s), status=200, text=text[:500])
    except UpstreamFailure as failure:
        return _failed(failure, started_s)
    except upstream.TransportError as error:
        return Probe(
            is_good=False, duration_ms=_since(started_s), code=failure_of(error).code, text=str(error) or type(error).__name__
        )
    except (TimeoutError, upstream.ResponseTooLargeError) as error:
        return Probe(is_good=False, duration_ms=_since(started_s), code="upstream_timeout", text=type(error).__name__)
    finally:
        await transport.stop()


async def _ask(transport: Upstream, model: ModelInfo, target: TargetInfo) -> str:
    body = {"model": model.slug, "messages": [{"role": "user", "content": _PROMPT}], "max_completion_tokens": 64}
    content = Content(text_bytes=len(_PROMPT))
    request = adapt(decode(msgspec.json.encode(body), is_strict=False).chat, content, model, target).request
    asked = Asked(request, model, target, Tenant(b"probe", "probe"))
    adapter = ADAPTERS[target.provider.dialect]
    call = adapter.build(asked)
    response = await transport.send(
        upstream.build_request(
            call.url,
            headers=call.headers,
            body=call.body,
            timeouts=Timeouts(target.connect_s, TOTAL_S),
            allow_private_address=target.provider.allow_private_address,
        )
    )
    answer = await upstream.read_limited(response, limit_bytes=ANSWER_MOST_BYTES)
    if response.status_code != 200:
        raise adapter.failure(response.status_code, response.headers, answer)
    message = adapter.reply(asked, answer).choices[0].message
    text = message.content or message.reasoning_content
    return text if isinstance(text, str) else ""


def _failed(failure: UpstreamFailure, started_s: float) -> Probe:
    return Probe(
        is_good=False,
        duration_ms=_since(started_s),
        status=failure.upstream_status,
        code=failure.code,
        text=failure.message,
    )


def _since(started_s: float) -> int:
    return round((time.monotonic() - started_s) * 1000)
