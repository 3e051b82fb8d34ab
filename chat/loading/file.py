"""A catalogue file as checked values.

YAML is read as text throughout, so that a price becomes a Decimal of exactly the digits written. Unknown and repeated
keys are refused, and every fault of a file is found in one go, each with its path. What an entry does not say has the
default of its type here; entries name providers and models by slug, which `load.py` resolves.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import yaml
from msgspec import Meta

from billing.moments import moment_text
from billing.pricing import microcredits
from chat.models import SLUG
from chat.schema.route import FALLBACK_STATUSES, QUIRKS, Capability, Dialect

Slug = Annotated[str, Meta(pattern=SLUG)]
Text = Annotated[str, Meta(min_length=1, max_length=128)]
Seconds = Annotated[float, Meta(gt=0, le=3600)]
Tokens = Annotated[int, Meta(ge=1, le=100_000_000)]


class CatalogFileError(Exception):
    """A file that cannot be loaded; `faults` are readable lines."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


def _fee(credits: Decimal) -> int:
    """A price in microcredits. Raises ValueError, which becomes a fault with its path."""
    amount = microcredits(credits)
    if amount < 0:
        raise ValueError("A price is not negative")
    return amount


class _Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Defaults(_Entry, frozen=True):
    """`pdf_page` is the fee, in credits, of a model whose prices name none."""

    pdf_page: Decimal | None = None

    def __post_init__(self) -> None:
        if self.pdf_page is not None:
            _fee(self.pdf_page)


class ProviderEntry(_Entry, frozen=True):
    slug: Annotated[str, Meta(pattern=SLUG, max_length=64)]
    dialect: Dialect
    base_url: Annotated[str, Meta(max_length=500)]
    api_key_env: Annotated[str, Meta(pattern=r"^([A-Za-z_][A-Za-z0-9_]{0,99})?$")] = ""
    allow_private_address: bool = False
    enabled: bool = True


class PriceEntry(_Entry, frozen=True):
    """Credits per million tokens; `pdf_page` credits per page. A class left out costs what `input` or `output` costs."""

    input: Decimal
    output: Decimal
    cached_input: Decimal | None = None
    cache_write: Decimal | None = None
    audio_input: Decimal | None = None
    reasoning: Decimal | None = None
    pdf_page: Decimal | None = None

    def __post_init__(self) -> None:
        self.amounts()

    def amounts(self) -> dict[str, int | None]:
        """Microcredits by field; None where the file names no price."""
        credits = ((name, getattr(self, name)) for name in PriceEntry.__struct_fields__)
        return {name: None if amount is None else _fee(amount) for name, amount in credits}


class ScheduledPriceEntry(PriceEntry, frozen=True, kw_only=True):
    """Prices that count from a moment on, `from` in the file."""

    start: Annotated[datetime, Meta(tz=True)] = msgspec.field(name="from")


class TargetEntry(_Entry, frozen=True):
    provider: str
    upstream_model: Annotated[str, Meta(min_length=1, max_length=200)]
    weight: Annotated[int, Meta(ge=1, le=1000)] = 1
    retries: Annotated[int, Meta(ge=0, le=1)] = 0
    connect_s: Seconds = 5
    first_token_s: Seconds | None = None
    idle_s: Seconds = 60
    total_s: Seconds = 600
    quirks: list[str] = []
    fallback_statuses: list[int] = []

    def __post_init__(self) -> None:
        unknown = sorted(set(self.quirks) - QUIRKS)
        if unknown:
            raise ValueError(f"Unknown quirk {', '.join(unknown)}")
        wrong = sorted(set(self.fallback_statuses) - FALLBACK_STATUSES)
        if wrong:
            raise ValueError(f"No fallback on status {', '.join(map(str, wrong))}")


class ImageEntry(_Entry, frozen=True):
    """How many tokens the model makes of an image (`ImageTokens`); what is not said is as usual."""

    base: Annotated[int, Meta(ge=0, le=100_000)] | None = None
    tile: Annotated[int, Meta(ge=0, le=100_000)] | None = None
    tile_pixels: Annotated[int, Meta(ge=1, le=100_000)] | None = None
    long_side_pixels: Annotated[int, Meta(ge=1, le=100_000)] | None = None
    most_tiles: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None


class ModelEntry(_Entry, frozen=True):
    slug: Slug
    name: Text
    owned_by: Annotated[str, Meta(min_length=1, max_length=64)]
    context_window: Tokens
    max_output_tokens: Tokens
    modality: Literal["chat", "embedding", "image", "audio"] = "chat"
    supports: list[Capability] = []
    prices: PriceEntry | None = None
    scheduled_prices: list[ScheduledPriceEntry] | None = None
    targets: list[TargetEntry] = []
    context_fallback: bool = False
    deprecated_on: date | None = None
    image_tokens: ImageEntry | None = None
    enabled: bool = True

    def prices_at(self, now: datetime) -> PriceEntry | None:
        """The prices in force: the last scheduled ones that have begun by then, else `prices`."""
        begun = [one for one in self.scheduled_prices or () if one.start <= now]
        return max(begun, key=lambda one: one.start) if begun else self.prices


class ChainEntry(_Entry, frozen=True):
    source: str
    targets: list[str]


class CatalogFile(msgspec.Struct, frozen=True):
    defaults: Defaults = Defaults()
    providers: tuple[ProviderEntry, ...] = ()
    models: tuple[ModelEntry, ...] = ()
    fallback_chains: tuple[ChainEntry, ...] = ()


class _Sections(msgspec.Struct, forbid_unknown_fields=True):
    defaults: dict[str, Any] = {}
    providers: list[Any] = []
    models: list[Any] = []
    fallback_chains: list[Any] = []


_NEVER_TEXT = re.compile("[\0\ud800-\udfff]")


class _TextLoader(yaml.BaseLoader):
    """Every scalar is its text; a key that is none or stands twice is an error, and so is what no database keeps."""

    def construct_scalar(self, node: yaml.ScalarNode) -> str:
        text = str(super().construct_scalar(node))
        if _NEVER_TEXT.search(text):
            raise yaml.constructor.ConstructorError(None, None, "a character that no text may have", node.start_mark)
        return text

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be text", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key.value!r} stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


_E = TypeVar("_E")


def read_catalog(text: str) -> CatalogFile:
    """The values of a file. Raises CatalogFileError with every fault."""
    faults: list[str] = []
    sections = _sections(text)
    catalog = CatalogFile(
        defaults=_entry(Defaults, sections.defaults, "defaults", faults) or Defaults(),
        providers=_entries(ProviderEntry, sections.providers, "providers", faults),
        models=_entries(ModelEntry, sections.models, "models", faults),
        fallback_chains=_entries(ChainEntry, sections.fallback_chains, "fallback_chains", faults),
    )
    faults += _repeated("providers", catalog.providers, lambda entry: entry.slug)
    faults += _repeated("models", catalog.models, lambda entry: entry.slug)
    faults += _repeated("fallback_chains", catalog.fallback_chains, lambda entry: entry.source)
    for model in catalog.models:
        faults += _repeated(
            f"models '{model.slug}' scheduled_prices", model.scheduled_prices or (), lambda one: moment_text(one.start)
        )
        faults += _repeated(
            f"models '{model.slug}' targets", model.targets, lambda target: f"{target.upstream_model} at {target.provider}"
        )
    if faults:
        raise CatalogFileError(faults)
    return catalog


def _sections(text: str) -> _Sections:
    try:
        # The loader is a safe one: it makes text, lists and mappings, nothing else.
        document = yaml.load(text, Loader=_TextLoader)  # noqa: S506
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError) as error:  # the last two: of escapes such as \UFFFFFFFF
        raise CatalogFileError([f"not valid YAML: {' '.join(str(error).split())}"]) from error
    try:
        return msgspec.convert({} if document is None or document == "" else document, _Sections, strict=False)
    except msgspec.ValidationError as error:
        raise CatalogFileError([_fault("", error)]) from error


def _entries(kind: type[_E], items: list[Any], section: str, faults: list[str]) -> tuple[_E, ...]:
    found = (_entry(kind, item, _path(section, index, item), faults) for index, item in enumerate(items))
    return tuple(entry for entry in found if entry is not None)


def _entry(kind: type[_E], item: Any, path: str, faults: list[str]) -> _E | None:
    try:
        return msgspec.convert(item, kind, strict=False)
    except msgspec.ValidationError as error:
        faults.append(_fault(path, error))
        return None


def _path(section: str, index: int, item: Any) -> str:
    """`models[3] (gpt-4o)`: a number for programs, a name for people."""
    name = item.get("slug") or item.get("source") if isinstance(item, dict) else None
    return f"{section}[{index}] ({name})" if isinstance(name, str) else f"{section}[{index}]"


def _fault(path: str, error: msgspec.ValidationError) -> str:
    message, _, place = str(error).partition(" - at `$")
    full = f"{path}{place.rstrip('`')}".removeprefix(".")
    return f"{full}: {message}" if full else message


def _repeated(section: str, entries: Any, name_of: Callable[[Any], str]) -> list[str]:
    names = [name_of(entry) for entry in entries]
    return [f"{section}: {name} stands twice" for name in sorted({name for name in names if names.count(name) > 1})]
