"""How pages write figures, times and marks: template filters and tags, known to every template.

Money comes in microcredits and leaves as text by integer arithmetic, cut for display once and never rounded up.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django import template
from django.templatetags.static import static
from django.utils import timezone
from django.utils.html import format_html

from billing.console.edits import BEGUN, begun_text
from billing.pricing import CREDIT_DECIMALS, MICROCREDITS_PER_CREDIT

register = template.Library()

# Currencies whose smallest unit is the whole one, as Stripe lists them.
_WITHOUT_DECIMALS = frozenset(
    ["bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "ugx", "vnd", "vuv", "xaf", "xof", "xpf"]
)
_UNITS = ("bytes", "kB", "MB", "GB", "TB")


def money(amount_microcredits: int, decimals: int) -> str:
    sign = "\u2212" if amount_microcredits < 0 else ""
    whole, fraction = divmod(abs(amount_microcredits), MICROCREDITS_PER_CREDIT)
    digits = f"{fraction:0{CREDIT_DECIMALS}d}"[:decimals]
    return f"{sign}{whole:,}.{digits}"


@register.filter
def credits4(amount_microcredits: int) -> str:
    """For tables: four decimals."""
    if 0 < amount_microcredits < MICROCREDITS_PER_CREDIT // 10_000:
        return "under 0.0001"
    return money(amount_microcredits, 4)


@register.filter
def credits6(amount_microcredits: int) -> str:
    """For receipts: six decimals."""
    return money(amount_microcredits, CREDIT_DECIMALS)


@register.filter
def credits2(amount_microcredits: int) -> str:
    return money(amount_microcredits, 2)


@register.filter
def credits(amount_microcredits: int) -> str:
    """Exact, without trailing zeros."""
    return money(amount_microcredits, CREDIT_DECIMALS).rstrip("0").rstrip(".")


def price_text(units: int, currency: str) -> str:
    """Money of the world, such as 10.00 USD; `units` are the smallest ones of the currency."""
    if currency.lower() in _WITHOUT_DECIMALS:
        return f"{units:,} {currency.upper()}"
    return f"{units // 100:,}.{units % 100:02d} {currency.upper()}"


@register.filter
def price(payment: Any, field: str = "price_units") -> str:
    return price_text(getattr(payment, field), payment.currency)


@register.filter
def count(number: int) -> str:
    return f"{number:,}"


@register.filter
def size(size_bytes: int) -> str:
    value, unit = size_bytes, 0
    while value >= 1000 * 1000 and unit < len(_UNITS) - 2:
        value, unit = value // 1000, unit + 1
    if value >= 1000:
        return f"{value // 1000}.{value % 1000 // 100} {_UNITS[unit + 1]}"
    return f"{value} {_UNITS[unit]}"


@register.filter
def span(milliseconds: int | None) -> str:
    """A time that something took."""
    if milliseconds is None:
        return "none"
    if milliseconds < 1000:
        return f"{milliseconds} ms"
    return f"{milliseconds // 1000}.{milliseconds % 1000 // 10:02d} s"


@register.filter
def percent(part: int, whole: int) -> str:
    """Such as 8.2, without the sign."""
    tenths = part * 1000 // whole if whole else 0
    return f"{tenths // 10}.{tenths % 10}"


@register.filter
def share(part: int, whole: int | None) -> int:
    """A whole number of hundredths, at most 100."""
    return min(100, part * 100 // whole) if whole else 0


@register.filter
def moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%a %d %b %Y, %H:%M:%S} UTC"


@register.filter
def day(at: datetime) -> str:
    return f"{at.astimezone(UTC):%-d %b %Y}"


@register.simple_tag
def when(at: datetime | None, absent: str = "Never") -> str:
    """How long ago, or how far off, with the full time behind it."""
    if at is None:
        return absent
    seconds = int((timezone.now() - at).total_seconds())
    steps = ((60, 1, "s"), (3600, 60, "min"), (86_400, 3600, "h"), (86_400 * 60, 86_400, "d"))
    text = next((f"{abs(seconds) // one} {unit}" for limit, one, unit in steps if abs(seconds) < limit), "")
    words = (f"{text} ago" if seconds >= 0 else f"In {text}") if text else day(at)
    return format_html('<time datetime="{}" title="{}">{}</time>', at.isoformat(), moment(at), words)


@register.simple_tag
def time(at: datetime) -> str:
    return format_html('<time datetime="{}">{}</time>', at.isoformat(), moment(at))


@register.simple_tag
def icon(name: str) -> str:
    return format_html('<svg class="i" aria-hidden="true"><use href="{}#i-{}"/></svg>', static("console/icons.svg"), name)


@register.simple_tag
def badge(kind: str, name: str, word: str) -> str:
    return format_html('<span class="badge {}">{}{}</span>', kind, icon(name), word)


@register.simple_tag
def begun(shown: dict[str, Any] | None = None, **more: str) -> str:
    """What a form shows of what is there already, for `billing.console.edits`."""
    return format_html('<input type="hidden" name="{}" value="{}">', BEGUN, begun_text({**(shown or {}), **more}))


@register.simple_tag
def bar(part: int, whole: int) -> str:
    """How much of a limit is used."""
    used = share(part, whole)
    state = "full" if used >= 100 else "near" if used >= 90 else ""
    return format_html(
        '<svg class="bar" aria-hidden="true"><rect class="track" width="100%" height="4"/>'
        '<rect class="fill {}" width="{}%" height="4"/></svg>',
        state,
        used,
    )


@register.simple_tag(takes_context=True)
def here(context: dict[str, Any], **changes: Any) -> str:
    """The address of this page with some of its parameters changed; an empty one is left out, and so is the place in a list."""
    query = context["request"].GET.copy()
    for place in ("after", "before"):
        query.pop(place, None)
    for name, value in changes.items():
        if value in {"", None}:
            query.pop(name, None)
        else:
            query[name] = str(value)
    text = query.urlencode()
    return f"?{text}" if text else "?"
