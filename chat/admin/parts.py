"""What the catalogue's pages share: each save and each deletion moves the stamp and is audited, in its own transaction."""

from __future__ import annotations

from typing import Any

from django.db.models import Model
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from billing.admin.parts import VersionsKept, actor_of
from chat.loading.rows import note_change


class CatalogAdmin(ModelAdmin):
    """Django runs a save and a deletion in one transaction each, so the stamp moves with them or not at all."""

    actions: Any = ()
    # False where the service functions that save the row keep the audit themselves.
    is_noted = True
    compressed_fields = True
    warn_unsaved_form = True
    list_filter_submit = True

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Without Django's deletion of many rows at once, which would pass by `has_delete_permission` of each."""
        actions: dict[str, Any] = super().get_actions(request)
        actions.pop("delete_selected", None)
        return actions

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:  # noqa: FBT001
        super().save_related(request, form, formsets, change)
        fields = [*form.changed_data, *(formset.prefix for formset in formsets if formset.has_changed())]
        if self.is_noted and (fields or not change):
            note_change(form.instance, "changed" if change else "created", actor=actor_of(request), fields=fields)

    def delete_model(self, request: HttpRequest, obj: Model) -> None:
        note_change(obj, "deleted", actor=actor_of(request))
        super().delete_model(request, obj)


class VersionedAdmin(VersionsKept, CatalogAdmin):
    """A part of the catalogue whose every version is kept."""
