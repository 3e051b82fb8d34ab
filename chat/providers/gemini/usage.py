"""Gemini's count of tokens in our classes.

Prompts hold what is cached; results of the provider's own tools are prompt too. Thinking is output beside that of the
candidates, as the total says. A missing count is zero, or what the total leaves for it.
"""

from __future__ import annotations

from typing import Any

from billing.pricing import Usage
from chat.providers.base import MOST_TOKENS
from chat.schema.reply import ReportedUsage

_COUNTS = (
    "promptTokenCount",
    "toolUsePromptTokenCount",
    "cachedContentTokenCount",
    "candidatesTokenCount",
    "thoughtsTokenCount",
    "totalTokenCount",
)


def reported(usage: dict[str, Any] | None) -> ReportedUsage | None:
    """The upstream's figure; unusable where a count is none. A part is cut to fit into its total.

    Thinking is output beside that of the candidates, as the total says. A missing count is zero, or what the total leaves for
    it, and candidates that count their thoughts too (older versions do) are held to the total.
    """
    if usage is None:
        return None
    counts = [usage.get(name) or 0 for name in _COUNTS]
    if not all(type(count) is int and 0 <= count <= MOST_TOKENS for count in counts):
        return ReportedUsage(None)
    prompt, tool_use, cached, candidates, thoughts, total = counts
    prompt += tool_use
    completion = candidates + thoughts
    if not prompt:
        prompt = max(0, total - completion)
    rest = total - prompt
    if not candidates:
        completion = max(completion, rest)
    elif rest >= thoughts:
        completion = min(completion, max(rest, candidates))
    cached = min(cached, prompt)
    audio = _audio(usage, "promptTokensDetails") - _audio(usage, "cacheTokensDetails")
    audio = min(max(audio, 0), prompt - cached)
    return ReportedUsage(Usage(prompt, completion, cached, 0, audio, min(thoughts, completion)))


def _audio(usage: dict[str, Any], name: str) -> int:
    """The tokens of sound in one of the breakdowns by kind."""
    details = usage.get(name)
    if not isinstance(details, list):
        return 0
    counts = [detail.get("tokenCount") for detail in details if isinstance(detail, dict) and detail.get("modality") == "AUDIO"]
    return sum([count for count in counts if type(count) is int and 0 <= count <= MOST_TOKENS])
