"""Fallback chains: which model answers when the one that was asked cannot. The workspace's own, or the default of staff.

Reading is for every member; who may change a chain changes it for all keys of the workspace.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from billing import quotas
from billing.console.edits import BEGUN, begun_of
from billing.console.shell import render
from billing.console.visits import Visit, sent, visiting
from billing.permissions import Action
from chat import catalog
from chat.loading.chains import LONGEST_CHAIN, ChainRefused, chain_warnings, reset_chain, set_chain
from chat.models import CatalogModel
from chat.schema.route import FALLBACK_STATUSES, ModelInfo, Terms

AT = "console-chains"
PLACES = range(1, LONGEST_CHAIN + 1)
RETRIES = {"": "By default", "0": "Never", "1": "Once"}
FIELDS = tuple(f"{name}_{place}" for place in range(LONGEST_CHAIN + 1) for name in ("model", "retries", "codes"))


class Tries(msgspec.Struct, frozen=True):
    """A model of a chain as pages show it: how often it is tried, and after which answers the chain moves on from it."""

    slug: str
    is_callable: bool
    retried: str
    after: str


@visiting(GET=Action.READ_WORKSPACE)
def chains(request: HttpRequest, visit: Visit) -> HttpResponse:
    snapshot, workspace_id = catalog.current(), visit.workspace.pk
    rows = []
    for slug, model in callable_models(visit, snapshot).items():
        chain = snapshot.chain(slug, workspace_id)
        is_own = (workspace_id, slug) in snapshot.chains
        rows.append({"model": model, "chain": [(one, one in snapshot.models) for one in chain], "is_own": is_own})
    return render(request, visit, "console/chains.html", {"rows": rows}, at=AT)


@visiting(GET=Action.READ_WORKSPACE, POST=Action.SET_CHAINS)
def chain(request: HttpRequest, visit: Visit) -> HttpResponse:
    """The chain of the model that the address names; its form makes it the workspace's own."""
    slug, snapshot = request.GET.get("model", ""), catalog.current()
    model = callable_models(visit, snapshot).get(slug)
    if model is None:
        raise Http404
    if request.method != "POST":
        return _shown(request, visit, snapshot, model)
    form = {**sent(request, *FIELDS, BEGUN), "model_0": slug}
    del form[BEGUN]
    begun, now = begun_of(request), _form_of(snapshot, slug, visit.workspace.pk)
    # What was set half a second ago may not be in this process's snapshot yet: then it is asked once too often.
    if begun is not None and now not in (begun, form):
        return _shown(request, visit, snapshot, model, form=None if form == begun else form, is_stale=True)
    filled = [place for place in PLACES if form[f"model_{place}"]]
    try:
        terms = {slug: _terms(form, 0)} | {form[f"model_{place}"]: _terms(form, place) for place in filled}
        rows = _rows(visit, snapshot, [slug, *(form[f"model_{place}"] for place in filled)])
        set_chain(rows[0], rows[1:], workspace=visit.workspace, actor=visit.actor, terms=terms)
    except _BadField as refusal:
        return _shown(request, visit, snapshot, model, form=form, errors={refusal.place: str(refusal)})
    except ChainRefused as refusal:
        place = 0 if refusal.position is None or refusal.position < 0 else filled[refusal.position]
        return _shown(request, visit, snapshot, model, form=form, errors={place: refusal.message})
    messages.success(request, f"The chain of {slug} is set. It counts for every key within a second.")
    return _to(visit, slug)


@visiting(POST=Action.SET_CHAINS)
def reset(request: HttpRequest, visit: Visit) -> HttpResponse:
    slug, snapshot = request.GET.get("model", ""), catalog.current()
    if slug not in callable_models(visit, snapshot):
        raise Http404
    sent(request)
    try:
        reset_chain(_rows(visit, snapshot, [slug])[0], visit.workspace, actor=visit.actor)
    except ChainRefused as refusal:
        messages.error(request, f"With the other chains of this workspace the default cannot be used. {refusal.message}")
    else:
        messages.success(request, f"The default of this gateway is in force for {slug} again.")
    return _to(visit, slug)


def callable_models(visit: Visit, snapshot: catalog.Snapshot) -> dict[str, ModelInfo]:
    """The chat models that some key of the workspace could call, by slug."""
    allowed = quotas.of_workspace(visit.workspace).allowed_models.value
    known = sorted(snapshot.models.items())
    return {slug: one for slug, one in known if one.modality == "chat" and (allowed is None or slug in allowed)}


class _BadField(ValueError):
    """The message is for the person at the form."""

    def __init__(self, message: str, place: int) -> None:
        super().__init__(message)
        self.place = place


def _terms(form: Mapping[str, str], place: int) -> Terms:
    """How the model at a place of the form is tried. Raises _BadField."""
    retries, codes = form[f"retries_{place}"], form[f"codes_{place}"].replace(",", " ").split()
    if retries not in RETRIES or not all(code.isascii() and code.isdigit() and len(code) == 3 for code in codes):
        raise _BadField("Write codes of answers with commas between them, such as 429, 503.", place)
    statuses = frozenset(map(int, codes))
    return Terms(int(retries) if retries else None, statuses or None)


def _rows(visit: Visit, snapshot: catalog.Snapshot, slugs: list[str]) -> list[CatalogModel]:
    """Raises _BadField for a model that the workspace cannot call, unless it stands in the chain of the first one already."""
    known = {*callable_models(visit, snapshot), *snapshot.chain(slugs[0], visit.workspace.pk)}
    for place, slug in enumerate(slugs):
        if slug not in known:
            raise _BadField("There is no such model here.", place)
    rows = CatalogModel.objects.in_bulk(set(slugs), field_name="slug")
    return [rows[slug] for slug in slugs]


def _shown(
    request: HttpRequest,
    visit: Visit,
    snapshot: catalog.Snapshot,
    model: ModelInfo,
    *,
    form: Mapping[str, str] | None = None,
    errors: Mapping[int, str] | None = None,
    is_stale: bool = False,
) -> HttpResponse:
    workspace_id = visit.workspace.pk
    slugs = [model.slug, *snapshot.chain(model.slug, workspace_id)]
    terms = snapshot.terms_of(model.slug, workspace_id)
    rows = CatalogModel.objects.in_bulk(slugs, field_name="slug")
    offered = callable_models(visit, snapshot)
    steps = [_tries(slug, snapshot.models.get(slug), terms.get(slug, Terms())) for slug in slugs]
    now = _form_of(snapshot, model.slug, workspace_id)
    context: dict[str, Any] = {
        "model": model,
        "is_own": (workspace_id, model.slug) in snapshot.chains,
        "steps": steps,
        "skipped": chain_warnings(rows[model.slug], [rows[slug] for slug in slugs[1:]]),
        "has_context_fallback": model.has_context_fallback,
        "now": now,
        "is_stale": is_stale,
        "places": _places(form or now, errors or {}),
        # One that cannot be called for a while stays in the chain until a person takes it out.
        "models": [(slug, True) for slug in offered] + [(slug, False) for slug in slugs if slug not in offered],
        "retries": RETRIES.items(),
        "statuses": sorted(status for status in FALLBACK_STATUSES if status < 500),
        "slugs": slugs,
    }
    status = 409 if is_stale else 400 if errors else 200
    return render(request, visit, "console/chain.html", context, at=AT, status=status)


def _tries(slug: str, model: ModelInfo | None, terms: Terms) -> Tries:
    targets = terms.of(model.targets) if model else ()
    retried = {0: "tried once", 1: "tried twice"}
    tried = " or ".join(sorted({retried[target.retries] for target in targets}))
    chosen = {tuple(sorted(target.fallback_statuses)) for target in targets}
    # Targets of one model may differ: what is said of each is said here.
    after = [f"{', '.join(map(str, statuses))} only" if statuses else "every failure" for statuses in sorted(chosen)]
    return Tries(slug, model is not None, tried, " or ".join(after))


def _form_of(snapshot: catalog.Snapshot, asked: str, workspace_id: int) -> dict[str, str]:
    """The chain in force as its form shows it."""
    terms = snapshot.terms_of(asked, workspace_id)
    form = dict.fromkeys(FIELDS, "")
    for place, slug in enumerate([asked, *snapshot.chain(asked, workspace_id)]):
        one = terms.get(slug, Terms())
        form[f"model_{place}"] = slug
        form[f"retries_{place}"] = "" if one.retries is None else str(one.retries)
        form[f"codes_{place}"] = ", ".join(map(str, sorted(one.fallback_statuses or ())))
    return form


def _places(form: Mapping[str, str], errors: Mapping[int, str]) -> list[dict[str, Any]]:
    """The rows of the form; those after the first empty one wait to be asked for."""
    last = max((place for place in PLACES if form[f"model_{place}"]), default=0)
    return [
        {
            "place": place,
            "model": form[f"model_{place}"],
            "retries": form[f"retries_{place}"],
            "codes": form[f"codes_{place}"],
            "error": errors.get(place, ""),
            "is_hidden": place > last + 1,
        }
        for place in range(LONGEST_CHAIN + 1)
    ]


def _to(visit: Visit, slug: str) -> HttpResponse:
    url = reverse("console-chain", args=[visit.workspace.public_id], query={"model": slug})
    return HttpResponseRedirect(url)
