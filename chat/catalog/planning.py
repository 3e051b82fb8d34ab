"""Which models may serve a request, in which order (pure).

The model asked must be able to serve: what it cannot do is a refusal that names the field. A model of its chain that
cannot is left out. An unknown, a disabled and a forbidden model are answered with equal bytes.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

import msgspec

from billing.apikeys import Principal
from chat.catalog.snapshot import Snapshot
from chat.errors import (
    AboveModelMaximum,
    AudioNotSupported,
    ModelNotFound,
    ModelNotSupported,
    ModelUnavailable,
    UnsupportedParameter,
)
from chat.schema.request import AudioPart, ChatRequest, FunctionMessage, ImagePart
from chat.schema.route import Capability, ModelInfo, Route, Step, TargetInfo, Terms
from infery_site.errors import ApiError, quoted

# Spreads load over targets; guards nothing.
_RANDOM = random.Random()  # noqa: S311


class Need(msgspec.Struct, frozen=True):
    """A capability that a request cannot do without, and the field that asks for it."""

    capability: Capability
    param: str


def needs_of(request: ChatRequest) -> tuple[Need, ...]:
    """What a model must be able to do to serve the request, each once, where it is first asked for (pure).

    Files ask for nothing here: what they are is found out later. A PDF is converted for a model that does not read it, an
    image or audio is refused by `chat.adapt`.
    """
    needs: dict[Capability, str] = {}
    if request.tools:
        needs["tools"] = "tools"
    elif request.functions:
        needs["tools"] = "functions"
    for index, message in enumerate(request.messages):
        content = message.content
        if isinstance(message, FunctionMessage) or not isinstance(content, list):
            continue
        for part_index, part in enumerate(content):
            if isinstance(part, ImagePart):
                needs.setdefault("vision", f"messages[{index}].content[{part_index}]")
            elif isinstance(part, AudioPart):
                needs.setdefault("audio_input", f"messages[{index}].content[{part_index}]")
    if request.stream:
        needs["streaming"] = "stream"
    return tuple(Need(capability, param) for capability, param in needs.items())


def may_use(principal: Principal, slug: str) -> bool:
    """Whether the key's allow-list has the model."""
    return principal.allowed_models is None or slug in principal.allowed_models


def plan(
    snapshot: Snapshot,
    request: ChatRequest,
    principal: Principal,
    *,
    is_fallback_disabled: bool,
    chance: random.Random = _RANDOM,
) -> Route:
    """The route of a request (pure): the model asked, then the models of its chain that can serve it.

    A step's depth is its place in the chain, 1 for the first; a model left out keeps its number. Raises ModelNotFound,
    ModelUnavailable, or the refusal of what the model asked cannot do.
    """
    asked = _asked(snapshot, request.model, principal)
    needs = needs_of(request)
    refusal = _refusal(asked, request, needs)
    if refusal is not None:
        raise refusal
    terms = snapshot.terms_of(asked.slug, principal.workspace_id)
    steps = [Step(asked, _ordered(_as_said(terms, asked), chance))]
    depths = [0]
    chain = () if is_fallback_disabled else snapshot.chain(asked.slug, principal.workspace_id)
    for depth, slug in enumerate(chain, start=1):
        model = snapshot.models.get(slug)
        if model is not None and may_use(principal, slug) and _refusal(model, request, needs) is None:
            steps.append(Step(model, _ordered(_as_said(terms, model), chance)))
            depths.append(depth)
    return Route(request.model, tuple(steps), tuple(depths))


def _asked(snapshot: Snapshot, slug: str, principal: Principal) -> ModelInfo:
    if not may_use(principal, slug):
        raise ModelNotFound(slug)
    model = snapshot.models.get(slug)
    if model is None:
        raise ModelUnavailable(slug) if slug in snapshot.unpriced else ModelNotFound(slug)
    return model


def _refusal(model: ModelInfo, request: ChatRequest, needs: tuple[Need, ...]) -> ApiError | None:
    """Why this model cannot serve the request, if it cannot."""
    if model.modality != "chat":
        return ModelNotSupported(model.slug)
    for need in needs:
        if need.capability not in model.capabilities:
            return _lacks(model, need)
    limit = request.output_limit
    if limit is not None and limit > model.max_output_tokens:
        name = "max_tokens" if request.max_completion_tokens is None else "max_completion_tokens"
        return AboveModelMaximum(name, model.max_output_tokens)
    return None


def _lacks(model: ModelInfo, need: Need) -> ApiError:
    name = quoted(model.slug)
    match need.capability:
        case "audio_input":
            return AudioNotSupported(model.slug, need.param)
        case "vision":
            return UnsupportedParameter(need.param, f"The model {name} does not take images.")
        case "streaming":
            return UnsupportedParameter(need.param, f"The model {name} does not stream; leave out '{need.param}'.")
        case _:
            return UnsupportedParameter(need.param, f"The model {name} does not take '{need.param}'.")


def _as_said(terms: Mapping[str, Terms], model: ModelInfo) -> tuple[TargetInfo, ...]:
    """The targets of a model, tried as the workspace's own chain says."""
    said = terms.get(model.slug)
    return model.targets if said is None else said.of(model.targets)


def _ordered(targets: tuple[TargetInfo, ...], chance: random.Random) -> tuple[TargetInfo, ...]:
    """The targets in a random order in which a heavier one tends to come first, in proportion to its weight."""
    if len(targets) == 1:
        return targets
    return tuple(sorted(targets, key=lambda target: chance.random() ** (1 / target.weight), reverse=True))
