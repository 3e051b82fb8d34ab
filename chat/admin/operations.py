"""Pages about the whole catalogue: its route of a model, its file, and the switch that stops something at once."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.widgets import (
    UnfoldAdminFileFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanWidget,
)

from billing import workspaces
from billing.admin.parts import ReasonForm, WorkspaceField, actor_of, person_of
from billing.models import Workspace
from billing.workspaces import WorkspaceNotFound, get_workspace
from chat.loading.dump import dump
from chat.loading.file import CatalogFileError, read_catalog
from chat.loading.load import Report, load
from chat.loading.rows import set_models_enabled, set_provider_enabled
from chat.models import CatalogModel, Provider
from chat.routes import describe_route

_FILE_BYTES_MOST = 1_000_000


def page(model_admin: Any, request: HttpRequest, name: str, title: str, **context: Any) -> TemplateResponse:
    told = {**model_admin.admin_site.each_context(request), "opts": model_admin.opts, "title": title, **context}
    form = context.get("form")
    status = 400 if form is not None and form.is_bound and form.errors else 200
    return TemplateResponse(request, f"admin/chat/{name}.html", told, status=status)


# The route of a model


class RouteForm(forms.Form):
    model = forms.ModelChoiceField(CatalogModel.objects.all(), to_field_name="slug", widget=UnfoldAdminSelectWidget)
    workspace = WorkspaceField(required=False, help_text="Id or name: shows its own chain where it has one.")


def route_page(model_admin: Any, request: HttpRequest) -> HttpResponse:
    form = RouteForm(request.GET or None)
    steps = None
    if form.is_valid():
        steps = describe_route(form.cleaned_data["model"].slug, form.cleaned_data["workspace"])
    return page(model_admin, request, "route", "Route of a model", form=form, steps=steps)


# The file


class ImportForm(forms.Form):
    file = forms.FileField(required=False, widget=UnfoldAdminFileFieldWidget, help_text="YAML, as load_catalog reads it.")
    text = forms.CharField(
        required=False, strip=False, widget=UnfoldAdminTextareaWidget(attrs={"rows": 12}), help_text="Or the text itself."
    )
    is_pruning = forms.BooleanField(
        label="Prune",
        required=False,
        widget=UnfoldBooleanWidget,
        help_text="Also remove what the file does not name; what has history is disabled instead.",
    )

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or self.cleaned_data
        upload = values.get("file")
        if upload is not None and upload.size > _FILE_BYTES_MOST:
            raise ValidationError({"file": f"The file is larger than {_FILE_BYTES_MOST:,} bytes."})
        try:
            text = upload.read().decode() if upload is not None else values.get("text", "")
        except UnicodeDecodeError as error:
            raise ValidationError({"file": "The file is not UTF-8 text."}) from error
        if not text.strip():
            raise ValidationError("Choose a file, or paste its text.")
        try:
            values["catalog"] = read_catalog(text)
        except CatalogFileError as error:
            raise ValidationError(list(error.faults)) from error
        return values


def import_page(model_admin: Any, request: HttpRequest) -> HttpResponse:
    """Checks a file, or loads it; a check is a load that is taken back."""
    if not request.user.has_perm("chat.change_catalogmodel") or not request.user.has_perm("chat.change_provider"):
        raise PermissionDenied
    form = ImportForm(request.POST or None, request.FILES or None)
    report: Report | None = None
    is_check = "check" in request.POST
    if form.is_valid():
        try:
            with transaction.atomic():
                report = load(form.cleaned_data["catalog"], actor=actor_of(request), is_pruning=form.cleaned_data["is_pruning"])
                transaction.set_rollback(is_check)
        except CatalogFileError as error:
            form.add_error(None, ValidationError(list(error.faults)))
    return page(model_admin, request, "import", "Import the catalogue", form=form, report=report, is_check=is_check)


def export_file(request: HttpRequest) -> HttpResponse:
    if not request.user.has_perm("chat.view_catalogmodel"):
        raise PermissionDenied
    headers = {"Content-Disposition": 'attachment; filename="catalog.yaml"', "Cache-Control": "no-store"}
    return HttpResponse(dump(), content_type="application/yaml; charset=utf-8", headers=headers)


# The switch


class IncidentForm(ReasonForm):
    KINDS = {"model": "chat.change_catalogmodel", "provider": "chat.change_provider", "workspace": "billing.suspend_workspace"}

    kind = forms.ChoiceField(label="What", widget=UnfoldAdminSelectWidget)
    name = forms.CharField(
        label="Which",
        max_length=128,
        widget=UnfoldAdminTextInputWidget,
        help_text="Slug of a model or provider, id or name of a workspace.",
    )

    field_order = ["kind", "name", "reason"]

    def __init__(self, *args: Any, kinds: list[str], **options: Any) -> None:
        super().__init__(*args, **options)
        self.fields["kind"].choices = [(kind, kind.capitalize()) for kind in kinds]  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or self.cleaned_data
        if "kind" not in values or "name" not in values:
            return values
        try:
            values["row"] = self._row(values["kind"], values["name"])
        except (WorkspaceNotFound, CatalogModel.DoesNotExist, Provider.DoesNotExist):
            raise ValidationError({"name": f"There is no {values['kind']} {values['name']!r}."}) from None
        return values

    def _row(self, kind: str, name: str) -> CatalogModel | Provider | Workspace:
        if kind == "workspace":
            return get_workspace(name)
        return CatalogModel.objects.get(slug=name) if kind == "model" else Provider.objects.get(slug=name)


def incident_page(model_admin: Any, request: HttpRequest) -> HttpResponse:
    """Stops a model, a provider or a workspace in every process within a second."""
    kinds = [kind for kind, permission in IncidentForm.KINDS.items() if person_of(request).has_perm(permission)]
    if not kinds:
        raise PermissionDenied
    form = IncidentForm(
        request.POST or None, kinds=kinds, initial={"kind": request.GET.get("kind"), "name": request.GET.get("name")}
    )
    if form.is_valid():
        is_new = _stop(form.cleaned_data["row"], actor=actor_of(request), reason=form.cleaned_data["reason"])
        what = f"The {form.cleaned_data['kind']} {form.cleaned_data['row']}"
        messages.success(request, f"{what} is stopped." if is_new else f"{what} was stopped already.")
        return HttpResponseRedirect(reverse("admin:chat_catalogmodel_incident"))
    stopped = {
        "models": CatalogModel.objects.filter(is_enabled=False),
        "providers": Provider.objects.filter(is_enabled=False),
        "workspaces": Workspace.objects.filter(state=Workspace.State.SUSPENDED).order_by("name")[:100],
    }
    return page(model_admin, request, "incident", "Incident switch", form=form, **stopped)


def _stop(row: CatalogModel | Provider | Workspace, *, actor: str, reason: str) -> bool:
    """False if it was stopped already."""
    if isinstance(row, Workspace):
        return workspaces.suspend(row, actor=actor, reason=reason)
    if isinstance(row, Provider):
        return set_provider_enabled(row, is_enabled=False, actor=actor, reason=reason)
    return bool(set_models_enabled([row], is_enabled=False, actor=actor, reason=reason))
