"""Who could serve a request: the catalogue's values as an immutable snapshot holds them (pure)."""

from __future__ import annotations

import functools
import hmac
from datetime import date
from typing import Literal

import msgspec

from billing.pricing import PriceList

Dialect = Literal["openai", "anthropic", "gemini"]
Capability = Literal["streaming", "vision", "pdf", "tools", "json_mode", "json_schema", "audio_input", "reasoning"]

FALLBACK_STATUSES = frozenset({401, 402, 403, 404, 408, 409, 425, 429, *range(500, 600)})
"""What a target may be told to fall back on: never the caller's own 400, 413 and 422."""

QUIRKS = frozenset(
    {
        "top_k",
        "max_completion_tokens",
        "no_stream_options",
        "no_sampling",
        "no_temperature_with_top_p",
        "reasoning_content",
        "azure",
        "thinking_budget",
        "no_json_with_tools",
        "strict_tools",
        "no_penalties",
        "no_logprobs",
        "no_stop",
        "single_choice",
    }
)


class Tenant(msgspec.Struct, frozen=True):
    """A workspace as providers see it: its identifiers leave as tags, so that no provider can tell what two share."""

    secret: bytes
    workspace: str

    def tag(self, value: str) -> str:
        return _tag(self.secret, f"{self.workspace}\0{value}")

    def __repr__(self) -> str:
        return f"Tenant(workspace={self.workspace!r})"


@functools.lru_cache(maxsize=4096)
def _tag(secret: bytes, message: str) -> str:
    return hmac.digest(secret, message.encode(), "sha256").hex()[:48]


class ProviderInfo(msgspec.Struct, frozen=True):
    """`api_key` is empty where the provider needs none (a local server, the sandbox)."""

    slug: str
    dialect: Dialect
    base_url: str
    api_key: str
    allow_private_address: bool = False

    def __repr__(self) -> str:
        return f"ProviderInfo(slug={self.slug!r})"


class TargetInfo(msgspec.Struct, frozen=True):
    id: int
    provider: ProviderInfo
    upstream_model: str
    weight: int
    retries: int
    connect_s: float
    first_token_s: float
    idle_s: float
    total_s: float
    quirks: frozenset[str]
    fallback_statuses: frozenset[int] = frozenset()
    """Answers of the provider after which somebody else is asked; empty for all that are not the caller's own fault."""

    @property
    def maker(self) -> str:
        """Whose provider state this target can read: that of one upstream model, wherever it is served."""
        return f"{self.provider.dialect}/{self.upstream_model}"


class ImageTokens(msgspec.Struct, frozen=True):
    """How many tokens a model makes of an image at the most: a base, and so many of each square tile.

    An image is made smaller first until its long side has `long_side_pixels`; `most_tiles` is as many as are ever counted,
    None for no end. What is usual bounds the rules of most models from above.
    """

    base: int = 1_100
    tile: int = 260
    tile_pixels: int = 512
    long_side_pixels: int = 2048
    most_tiles: int | None = None

    def bound(self, width: int, height: int) -> int:
        """Tokens of an image of so many pixels."""
        long_side = max(width, height, 1)
        if long_side > self.long_side_pixels:
            width, height = (-(-side * self.long_side_pixels // long_side) for side in (width, height))
        tiles = -(-width // self.tile_pixels) * -(-height // self.tile_pixels)
        return self.base + self.tile * (tiles if self.most_tiles is None else min(tiles, self.most_tiles))


class ModelInfo(msgspec.Struct, frozen=True):
    """A callable model: enabled, priced, with at least one usable target."""

    slug: str
    name: str
    owned_by: str
    modality: str
    context_window: int
    max_output_tokens: int
    capabilities: frozenset[Capability]
    prices: PriceList
    targets: tuple[TargetInfo, ...]
    created_at: int
    has_context_fallback: bool = False
    """Whether its chain may serve what is too long for it."""
    deprecated_on: date | None = None
    """From this day (UTC) on it may be gone."""
    image_tokens: ImageTokens = ImageTokens()


class Terms(msgspec.Struct, frozen=True):
    """What a workspace's own chain says of the tries of one of its models; None leaves it to the catalogue."""

    retries: int | None = None
    fallback_statuses: frozenset[int] | None = None

    def of(self, targets: tuple[TargetInfo, ...]) -> tuple[TargetInfo, ...]:
        changes = {name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not None}
        return tuple(msgspec.structs.replace(target, **changes) for target in targets) if changes else targets


AS_THE_CATALOGUE = Terms()


class Step(msgspec.Struct, frozen=True):
    """One model of the route with its targets in the order to try them."""

    model: ModelInfo
    targets: tuple[TargetInfo, ...]


class Route(msgspec.Struct, frozen=True):
    """The model asked, then its chain. `depth` of a step is its index; a step that cannot serve was left out already."""

    model_asked: str
    steps: tuple[Step, ...]
    depths: tuple[int, ...]
