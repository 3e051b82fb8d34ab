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


@visiting(GET=Action.READ_WORKSPACE)
def models(request: HttpRequest, visit: Visit) -> HttpResponse:
    text = request.GET.get("q", "").strip()
    ability = request.GET.get("ability", "")
    allowed = models_for(visit)
    shown = [
        model
        for model in allowed
        if text.lower() in f"{model.slug} {model.name} {model.owned_by}".lower()
        and (ability not in ABILITIES or ability in model.capabilities)
    ]
    today = timezone.now().date()
    lately = models_lately()
    context = {
        "models": [(model, abilities_of(model), health_of(lately.get(model.slug))) for model in shown],
        "all_count": len(allowed),
        "abilities": list(ABILITIES.items()),
        "ability": ability if ability in ABILITIES else "",
        "q": text,
        "today": today,
    }
    return render(request, visit, "console/models.html", context, at=AT)


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
