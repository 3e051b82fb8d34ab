"""Which adapter speaks which dialect. A new provider dialect is one line here and one module beside it."""

from __future__ import annotations

from chat.providers.anthropic import AnthropicAdapter
from chat.providers.base import Adapter
from chat.providers.gemini import GeminiAdapter
from chat.providers.openai import OpenAIAdapter

ADAPTERS: dict[str, Adapter] = {
    "openai": OpenAIAdapter(),
    "anthropic": AnthropicAdapter(),
    "gemini": GeminiAdapter(),
}

DIALECTS = frozenset(ADAPTERS)
