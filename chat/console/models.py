"""The models that the workspace may call: what each can do and what it costs."""

from __future__ import annotations

from typing import NamedTuple

from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from billing import quotas
from billing.console.figures import percent, span
from billing.console.shell import render
from billing.console.visits import Visit, visiting
from billing.permissions import Action
from billing.pricing import AmountError, microcredits
from chat import catalog
from chat.schema.route import Capability, ModelInfo
from chat.watching import Fared, models_lately

AT = "console-models"
LEAST_TRIES = 3
ABILITIES: dict[Capability, str] = {
    "vision": "Images",
    "pdf": "PDF",
    "audio_input": "Audio",
    "tools": "Tools",
    "json_schema": "JSON schema",
    "json_mode": "JSON",
    "reasoning": "Reasoning",
    "streaming": "Streaming",
}
# The price that each of these parameters bounds, and its name on the page; in credits per million tokens.
MOST: dict[str, tuple[str, str]] = {"max_input": ("input", "Input, at most"), "max_output": ("output", "Output, at most")}
MOST_TEXT = 64
PRICE_WANTED = "Write credits as a number, 0 or more, such as 2.5. Until then this filter is off."


@visiting(GET=Action.READ_WORKSPACE)
def models(request: HttpRequest, visit: Visit) -> HttpResponse:
    asked = _Asked(request)
    allowed = models_for(visit)
    lately = models_lately()
    context = {
        "models": [(model, abilities_of(model), health_of(lately.get(model.slug))) for model in allowed if asked.has(model)],
        "all_count": len(allowed),
        "abilities": list(ABILITIES.items()),
        "asked": asked,
        "today": timezone.now().date(),
    }
    return render(request, visit, "console/models.html", context, at=AT, status=400 if asked.is_wrong else 200)


class Price(NamedTuple):
    """One field of the form; `error` is empty where its text can be read."""

    name: str
    label: str
    text: str
    error: str


class _Asked:
    """The filters in the address. A price that cannot be read has its error, and leaves nothing out."""

    def __init__(self, request: HttpRequest) -> None:
        self.q = request.GET.get("q", "").strip()
        ability = request.GET.get("ability", "")
        self.ability = ability if ability in ABILITIES else ""
        self.prices: list[Price] = []
        self._most: dict[str, int] = {}
        for name, (field, label) in MOST.items():
            text = request.GET.get(name, "").strip()[:MOST_TEXT]
            most = _amount(text) if text else None
            self.prices.append(Price(name, label, text, PRICE_WANTED if text and most is None else ""))
            if most is not None:
                self._most[field] = most
        self.is_wrong = any(price.error for price in self.prices)
        self.is_filtered = bool(self.q or self.ability or any(price.text for price in self.prices))

    def has(self, model: ModelInfo) -> bool:
        return (
            self.q.lower() in f"{model.slug} {model.name} {model.owned_by}".lower()
            and (not self.ability or self.ability in model.capabilities)
            and all(getattr(model.prices, field) <= most for field, most in self._most.items())
        )


def _amount(text: str) -> int | None:
    """Microcredits, or None. A comma is refused: some divide thousands by it, others decimals."""
    try:
        amount_microcredits = microcredits(text)
    except AmountError:
        return None
    return amount_microcredits if amount_microcredits >= 0 else None


class Health(NamedTuple):
    """How tries of a model fared within a day: the badge, and what is behind it. Of how many there were, nothing is told."""

    kind: str
    icon: str
    word: str
    told: str


def health_of(fared: Fared | None) -> Health:
    if fared is None or fared.tries < LEAST_TRIES:
        return Health("", "dash", "Not known", "too few calls in 24 hours")
    told = f"{percent(fared.tries - fared.failed, fared.tries)} % answered"
    if fared.median_ms is not None:
        told += f", half within {span(fared.median_ms)}"
    if fared.is_in_trouble:
        return Health("bad", "x", "Failing", told)
    if fared.failed * 20 >= fared.tries:
        return Health("warn", "warn", "Degraded", told)
    return Health("plain", "check", "Healthy", told)


def models_for(visit: Visit) -> list[ModelInfo]:
    """What this member's own keys could call, by name."""
    allowed = quotas.of_member(visit.member).allowed_models.value
    known = catalog.current().models
    return [model for slug, model in sorted(known.items()) if allowed is None or slug in allowed]


def abilities_of(model: ModelInfo) -> list[str]:
    return [word for name, word in ABILITIES.items() if name in model.capabilities]
