"""The catalogue of the live gateway: models whose only difference is how their targets fail.

Most models are called upstream what they are called here, so that a script for a name is a script for a model. Prices
are whole credits per million tokens: a token then costs as many microcredits, and each model of a chain has a price of
its own, so that a charge tells who was paid.
"""

from __future__ import annotations

from typing import Any

import yaml

EVERYTHING = ["streaming", "vision", "pdf", "tools", "json_mode", "json_schema", "reasoning"]
MAX_OUTPUT_TOKENS = 4096

LONG_OUTPUT_TOKENS = 100_000
HEARING = {"hearing", "gemini"}
PLAIN = {"plain", "metered", "lavish"}
"""Models that only stream text: without reasoning out of sight their streams are metered."""

READERS: dict[str, list[str]] = {
    "sandbox-text": ["streaming", "tools", "json_mode"],
    "seeing": ["streaming", "vision"],
    "listening": ["streaming", "audio_input"],
    "reading": ["streaming", "pdf"],
    "reading-first": ["streaming", "pdf"],
    "seeing-first": ["streaming", "vision"],
    "unseeing-first": ["streaming"],
    "reading-second": ["streaming", "pdf"],
    "curt": ["streaming"],
}
"""Models that can do something with a PDF, or cannot: what they support."""

PAGE_FEES = {"sandbox-text": "0.01", "seeing": "0.3", "listening": "0.2", "reading": "0.7", "seeing-first": "0.4"}
"""Credits per converted page; elsewhere a page costs nothing."""

SHORT: dict[str, Any] = {"connect_s": 1, "first_token_s": 0.75, "idle_s": 0.75, "total_s": 1.5}
"""Limits for targets whose tests wait for a limit to pass."""

BRIEF_TOKENS = 500
"""The context window of `brief`, whose chain takes over what is too long, of `terse`, whose chain does not, and of `curt`."""

PRICES = {
    "main": (250, 1000),
    "plain": (10, 40),
    "first": (100, 400),
    "second": (50, 200),
    "third": (20, 80),
    "alone": (100, 400),
    "unreachable": (100, 400),
    "encrypted": (100, 400),
    "twins": (100, 400),
    "forked": (100, 400),
    "repriced": (100, 400),
    "patient": (100, 400),
    "choosy": (100, 400),
    "choosy-claude": (100, 400),
    "brief": (100, 400),
    "terse": (100, 400),
    "cheap": (1, 4),
    "dear": (1000, 4000),
    "slow": (100, 400),
    "late": (100, 400),
    "thinking": (100, 400),
    "keyed": (100, 400),
    "picky": (100, 400),
    "sandbox-echo": (10, 40),
    "vectors": (10, 40),
    "metered": (10, 40),
    "lavish": (100, 10_000),
    "claude": (300, 1500),
    "gemini": (30, 250),
    "hearing": (100, 400),
    "leaves-openai": (100, 400),
    "leaves-anthropic": (100, 400),
    "leaves-gemini": (100, 400),
    "sandbox-text": (5, 20),
    "seeing": (20, 80),
    "listening": (30, 120),
    "reading": (40, 160),
    "reading-first": (40, 160),
    "seeing-first": (40, 160),
    "unseeing-first": (40, 160),
    "reading-second": (40, 160),
    "curt": (20, 80),
    "classes": (100, 400),
}
"""Credits per million tokens of input and of output; what is not listed costs the same as one of them."""

CLASS_PRICES = {"cached_input": 7, "cache_write": 130, "audio_input": 310, "reasoning": 530}
"""Of `classes`, whose tokens cost differently by what they are; elsewhere each class costs what input or output does."""

CHAINS = {
    "first": ["second", "third"],
    "unreachable": ["second"],
    "encrypted": ["second"],
    "twins": ["second"],
    "patient": ["second"],
    "choosy": ["second"],
    "choosy-claude": ["second"],
    "brief": ["terse", "second"],
    "terse": ["second"],
    "cheap": ["dear"],
    "late": ["second"],
    "slow": ["second"],
    "picky": ["plain", "third"],
    "metered": ["second"],
    "leaves-openai": ["claude", "gemini"],
    "leaves-anthropic": ["gemini", "main"],
    "leaves-gemini": ["main", "claude"],
    "reading-first": ["listening", "seeing"],
    "seeing-first": ["reading", "seeing"],
    "unseeing-first": ["seeing"],
    "reading-second": ["curt", "seeing"],
}

DIALECTS = {"openai": "main", "anthropic": "claude", "gemini": "gemini"}
"""A model of each dialect; all of them can do everything."""

PROVIDER_KEY_ENV = "LIVE_PROVIDER_KEY"
PROVIDER_KEY = "sk-live-0123456789abcdef"


def cost(model: str, prompt_tokens: int, completion_tokens: int) -> int:
    """Microcredits at the price of the model, where every class of tokens costs as input or output does."""
    input_microcredits, output_microcredits = PRICES[model]
    return prompt_tokens * input_microcredits + completion_tokens * output_microcredits


def catalog_yaml(provider_port: int, closed_port: int) -> str:
    """The file that `load_catalog` gets. `closed_port` is one that nobody listens on."""
    targets = {
        "first": [_target("first", **SHORT)],
        "alone": [_target("alone", **SHORT)],
        "unreachable": [_target("unreachable", provider="closed", **SHORT)],
        "encrypted": [_target("encrypted", provider="encrypted", **SHORT)],
        "twins": [_target("twin-a"), _target("twin-b")],
        "forked": [_target("forked-with", quirks=["top_k"]), _target("forked-without")],
        "patient": [_target("patient", retries=1, **SHORT)],
        "choosy": [_target("choosy", retries=1, fallback_statuses=[409, 425, 503])],
        "choosy-claude": [_target("choosy-claude", provider="anthropic", fallback_statuses=[500])],
        "slow": [_target("slow", first_token_s=10)],
        "late": [_target("late", first_token_s=2.6)],
        "thinking": [_target("thinking", first_token_s=60, idle_s=0.75)],
        "keyed": [_target("keyed", provider="keyed")],
        "sandbox-echo": [_target("echo", provider="sandbox")],
        "sandbox-text": [_target("text", provider="sandbox")],
        "claude": [_target("claude", provider="anthropic")],
        "gemini": [_target("gemini", provider="gemini")],
        "leaves-anthropic": [_target("leaves-anthropic", provider="anthropic")],
        "leaves-gemini": [_target("leaves-gemini", provider="gemini")],
    }
    return yaml.safe_dump(
        {
            "providers": [
                _provider("fake", f"http://127.0.0.1:{provider_port}/v1"),
                _provider("keyed", f"http://127.0.0.1:{provider_port}/v1", api_key_env=PROVIDER_KEY_ENV),
                _provider("closed", f"http://127.0.0.1:{closed_port}/v1"),
                _provider("encrypted", f"https://127.0.0.1:{provider_port}/v1"),
                _provider("anthropic", f"http://127.0.0.1:{provider_port}", dialect="anthropic"),
                _provider("gemini", f"http://127.0.0.1:{provider_port}/v1beta", dialect="gemini"),
                {"slug": "sandbox", "dialect": "openai", "base_url": "sandbox:"},
            ],
            "models": [
                *(_model(slug, targets.get(slug, [_target(slug)])) for slug in PRICES),
                _model("main", [_target("main")]) | {"slug": "retired", "enabled": False},
            ],
            "fallback_chains": [{"source": source, "targets": chain} for source, chain in CHAINS.items()],
        }
    )


def _provider(slug: str, base_url: str, **fields: object) -> dict[str, object]:
    return {"slug": slug, "dialect": "openai", "base_url": base_url, "allow_private_address": True} | fields


def _target(upstream_model: str, *, provider: str = "fake", **fields: object) -> dict[str, object]:
    return {"provider": provider, "upstream_model": upstream_model, **fields}


def _model(slug: str, targets: list[dict[str, object]]) -> dict[str, object]:
    input_credits, output_credits = PRICES[slug]
    return {
        "slug": slug,
        "name": slug.title(),
        "owned_by": "live",
        "modality": "embedding" if slug == "vectors" else "chat",
        "context_window": BRIEF_TOKENS if slug in {"brief", "terse", "curt"} else 128_000,
        "context_fallback": slug == "brief",
        "max_output_tokens": LONG_OUTPUT_TOKENS if slug in {"metered", "lavish"} else MAX_OUTPUT_TOKENS,
        "supports": READERS.get(slug) or (["streaming"] if slug in PLAIN else _everything(slug)),
        "prices": {
            "input": input_credits,
            "output": output_credits,
            "pdf_page": PAGE_FEES.get(slug, 0),
            **(CLASS_PRICES if slug == "classes" else {}),
        },
        "targets": targets,
    }


def _everything(slug: str) -> list[str]:
    return [*EVERYTHING, *(["audio_input"] if slug in HEARING else [])]
