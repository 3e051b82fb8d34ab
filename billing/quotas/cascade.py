"""Limits as values, and how layers of them become one (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Generic, TypeVar

import msgspec

EVERY_MODEL = "*"

T = TypeVar("T")


class Source(StrEnum):
    """The layers, from the outermost inwards."""

    PLATFORM = "platform"
    PLAN = "workspace plan"
    MEMBER = "member preset"
    PRESET = "key preset"
    KEY = "key"


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One layer. None limits nothing; `allowed_models` None is every model, and an empty set is no model at all."""

    allowed_models: frozenset[str] | None = None
    max_requests_per_minute: int | None = None
    max_requests_daily: int | None = None
    max_tokens_per_minute: int | None = None
    max_tokens_daily: int | None = None
    max_concurrent_requests: int | None = None
    max_budget_monthly_microcredits: int | None = None
    max_file_size_bytes: int | None = None
    max_files_per_workspace: int | None = None
    max_storage_bytes_per_workspace: int | None = None


FIELDS: tuple[str, ...] = Limits.__struct_fields__


class Limit(msgspec.Struct, Generic[T], frozen=True):
    """A limit in force. `source` is the innermost layer that made it as tight as it is; None where nothing limits."""

    value: T | None = None
    source: Source | None = None


class Effective(msgspec.Struct, frozen=True):
    """What counts of all layers, by the fields of `Limits`."""

    allowed_models: Limit[frozenset[str]] = Limit()
    max_requests_per_minute: Limit[int] = Limit()
    max_requests_daily: Limit[int] = Limit()
    max_tokens_per_minute: Limit[int] = Limit()
    max_tokens_daily: Limit[int] = Limit()
    max_concurrent_requests: Limit[int] = Limit()
    max_budget_monthly_microcredits: Limit[int] = Limit()
    max_file_size_bytes: Limit[int] = Limit()
    max_files_per_workspace: Limit[int] = Limit()
    max_storage_bytes_per_workspace: Limit[int] = Limit()


def cascade(layers: Iterable[tuple[Source, Limits]]) -> Effective:
    """Joins the layers, given from the outermost inwards: the smallest number, and the models that all of them allow."""
    effective = Effective()
    for source, limits in layers:
        changes = {}
        for name in FIELDS:
            offered = getattr(limits, name)
            known = getattr(effective, name).value
            tightest = _tighter(known, offered)
            if tightest != known:
                changes[name] = Limit(tightest, source)
        if changes:
            effective = msgspec.structs.replace(effective, **changes)
    return effective


def _tighter(known: int | frozenset[str] | None, offered: int | frozenset[str] | None) -> int | frozenset[str] | None:
    if known is None or offered is None:
        return offered if known is None else known
    if isinstance(known, frozenset) and isinstance(offered, frozenset):
        return known & offered
    if isinstance(known, int) and isinstance(offered, int):
        return min(known, offered)
    raise TypeError("Two layers name limits of different kinds")
