"""Columns of lists and fields of pages in the staff admin: figures, credits, moments, ids, states.

Each is a function of a row with what Django reads from it, and `csv`, the value without markup that an export gives. In
lists credits have four decimals, on the page of a row all of them; a sum is never made of what was cut for display.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from django.db.models import Model
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from billing.moments import moment_text
from billing.pricing import MICROCREDITS_PER_CREDIT, credits_text

Column = Callable[[Any], str]

_LEAST_SHOWN = MICROCREDITS_PER_CREDIT // 10_000

# What a state looks like: its kind, which gives the colour, and its icon. What is not here is plain.
STATES: Mapping[str, tuple[str, str]] = {
    "active": ("plain", "check"),
    "stopped": ("warn", "pause"),
    "suspended": ("bad", "block"),
    "closed": ("none", "remove"),
    "open": ("info", "hourglass_empty"),
    "settled": ("plain", "check"),
    "voided": ("plain", "remove"),
    "expired": ("warn", "schedule"),
    "booked": ("plain", "check"),
    "refused": ("bad", "close"),
    "issued": ("plain", "check"),
    "paid": ("plain", "check"),
    "failed": ("bad", "close"),
    "waiting": ("info", "hourglass_empty"),
    "delivered": ("plain", "check"),
    "canceled": ("none", "remove"),
    "withdrawn": ("bad", "block"),
    "revoked": ("bad", "block"),
    "done": ("plain", "check"),
    "length": ("plain", "check"),
    "error": ("bad", "close"),
    "enabled": ("plain", "check"),
    "disabled": ("none", "remove"),
}


def value_of(row: Model, path: str) -> Any:
    """The value at a path of fields with `__` between them, or of a method; None where the path ends early."""
    value: Any = row
    for name in path.split("__"):
        value = getattr(value, name, None)
    return value() if callable(value) else value


def _column(path: str, title: str, suffix: str, show: Callable[[Any], Any], csv: Callable[[Any], Any]) -> Column:
    def column(row: Model) -> str:
        value = value_of(row, path)
        return "-" if value is None else show(value)

    def raw(row: Model) -> Any:
        value = value_of(row, path)
        return "" if value is None else csv(value)

    column.__name__ = f"{path}_{suffix}"
    column.short_description = title  # type: ignore[attr-defined]
    column.admin_order_field = path  # type: ignore[attr-defined]
    column.csv = raw  # type: ignore[attr-defined]
    return column


def credits_column(path: str, title: str) -> Column:
    """Microcredits as credits, for a list."""
    return _column(path, title, "in_credits", lambda value: figure(short_credits(value)), credits_text)


def credits_field(path: str, title: str) -> Column:
    """The same for the page of a row: exact, with its unit."""
    return _column(
        path,
        title,
        "exact",
        lambda value: f"{credits_text(value)} {'credit' if value == MICROCREDITS_PER_CREDIT else 'credits'}",
        credits_text,
    )


def figure_column(path: str, title: str, *, unit: str = "") -> Column:
    """A whole number with separators."""
    return _column(path, title, "figure", lambda value: figure(f"{value:,}{unit}"), lambda value: value)


def time_column(path: str, title: str) -> Column:
    """A moment in UTC, to the second."""
    return _column(path, f"{title} (UTC)", "at", moment_shown, moment_text)


def id_column(path: str, title: str) -> Column:
    """What one copies: ids, slugs, keys. A long one is cut in the middle, and whole in its title."""
    return _column(path, title, "id", code, lambda value: value)


def state_column(path: str, title: str, words: Mapping[str, str] | None = None) -> Column:
    """A state as icon and word."""
    return _column(path, title, "state", lambda value: badge(str(value), (words or {}).get(str(value))), lambda value: value)


def text_column(path: str, title: str) -> Column:
    return _column(path, title, "text", lambda value: value if value != "" else "-", str)


def figure(text: str) -> SafeString:
    return format_html('<span class="gw-figure">{}</span>', text)


def short_credits(amount_microcredits: int) -> str:
    """Four decimals, cut and not rounded: what is shown was there."""
    if 0 < amount_microcredits < _LEAST_SHOWN:
        return "under 0.0001"
    sign = "-" if amount_microcredits < 0 else ""
    whole, rest = divmod(abs(amount_microcredits), MICROCREDITS_PER_CREDIT)
    return f"{sign}{whole:,}.{rest // 100:04}"


def moment_shown(at: datetime) -> SafeString:
    iso = moment_text(at)
    return format_html(
        '<time class="gw-time" datetime="{}" title="{}">{}</time>', iso, iso, f"{at:%d %b %Y, %H:%M:%S}".lstrip("0")
    )


def code(text: str, longest: int = 22) -> str:
    if text == "":
        return "-"
    shown = text if len(text) <= longest else f"{text[: longest - 9]}\u2026{text[-8:]}"
    return format_html('<code class="gw-id" title="{}">{}</code>', text, shown)


def link(page: str, pk: int, text: str) -> SafeString:
    """To the page of another row; `page` is the name of its pattern."""
    return format_html('<a class="text-link" href="{}">{}</a>', reverse(page, args=[pk]), text)


def written(text: str) -> SafeString:
    """What a program wrote or reads, with its lines and spaces."""
    return format_html('<pre class="gw-written">{}</pre>', text)


def badge(state: str, word: str | None = None, look: tuple[str, str] | None = None) -> SafeString:
    kind, icon = look or STATES.get(state, ("plain", ""))
    mark = format_html('<span class="material-symbols-outlined" aria-hidden="true">{}</span>', icon) if icon else ""
    return format_html('<span class="gw-badge gw-{}">{}{}</span>', kind, mark, word or state.replace("_", " ").capitalize())
