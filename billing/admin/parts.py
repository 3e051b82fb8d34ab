"""What the staff admin's pages share.

Money is shown and entered in credits; the microcredits of a row never reach a page. An act of staff is a page of its own
with one form: GET shows it, POST does it, so that nothing happens by following a link.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from django import forms
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from simple_history.admin import SimpleHistoryAdmin
from unfold.admin import ModelAdmin
from unfold.paginator import InfinitePaginator
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminTextInputWidget

from billing.crediting import actor_name
from billing.pricing import AmountError, credits_text, microcredits
from billing.workspaces import WorkspaceNotFound, get_workspace


class CreditsField(forms.Field):
    """Credits as text in the form, microcredits as the value."""

    widget = UnfoldAdminTextInputWidget

    def __init__(self, *, may_be_negative: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self._may_be_negative = may_be_negative
        self.widget.attrs.setdefault("inputmode", "decimal")

    def to_python(self, value: Any) -> int | None:
        if value in self.empty_values:
            return None
        try:
            amount_microcredits = microcredits(str(value).strip())
        except AmountError as error:
            raise ValidationError(f"Not an amount of credits: {error}.") from error
        if amount_microcredits < 0 and not self._may_be_negative:
            raise ValidationError("Credits here are 0 or more.")
        return amount_microcredits

    def prepare_value(self, value: Any) -> Any:
        return credits_text(value) if isinstance(value, int) else value

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return bool(initial != self.to_python(data))
        except ValidationError:
            return True


class EditedOnly(forms.BaseForm):
    """A form of what is there already: what was not edited stays as it is now, whoever changed it since the page was opened.

    The page says what it began with; a form that is sent without that counts as it stands.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        begun = self.add_initial_prefix("")
        is_new = isinstance(self, forms.BaseModelForm) and self.instance.pk is None
        is_compared = not is_new and (not self.is_bound or any(name.startswith(begun) for name in self.data))
        self._compared = [
            name for name, field in self.fields.items() if is_compared and name in self.initial and not field.disabled
        ]
        for name in self._compared:
            self.fields[name].show_hidden_initial = True

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or self.cleaned_data
        untouched = [name for name in self._compared if name in values and name not in self.changed_data]
        return values | {name: self._as_it_is(name) for name in untouched}

    def _as_it_is(self, name: str) -> Any:
        if not isinstance(self, forms.BaseModelForm):
            return self.initial[name]
        is_many = self.instance._meta.get_field(name).many_to_many
        return list(getattr(self.instance, name).all()) if is_many else getattr(self.instance, name)


class WorkspaceField(forms.CharField):
    """The id of a workspace, or a name that only one has; the workspace as the value."""

    widget = UnfoldAdminTextInputWidget

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        try:
            return get_workspace(text) if text else None
        except WorkspaceNotFound as error:
            raise ValidationError(str(error)) from error


class ReasonForm(forms.Form):
    reason = forms.CharField(max_length=500, widget=UnfoldAdminTextInputWidget, help_text="Kept in the audit trail.")


def limit_field(*, least: int = 1, bits: int = 31) -> forms.IntegerField:
    """A limit that may be left empty, for none; `bits` of its column."""
    return forms.IntegerField(
        required=False,
        min_value=least,
        max_value=2**bits - 1,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text="Empty for none.",
    )


def granted_by(*permissions: str) -> Callable[..., bool]:
    """A `has_..._permission` method for actions, which any of these permissions opens.

    Named in an action itself, a permission would be looked up by the system checks, in a table that an empty database
    does not have yet.
    """

    def has_permission(_admin: object, request: HttpRequest, *_object: object) -> bool:
        return any(request.user.has_perm(permission) for permission in permissions)

    return has_permission


class ReadOnlyAdmin(ModelAdmin):
    """Rows that nobody edits. Lists are paged without counting, because some of these tables only ever grow."""

    paginator = InfinitePaginator
    show_full_result_count = False
    list_per_page = 50
    # Django would count every choice of every filter, each by a pass over the table.
    show_facets = admin.ShowFacets.NEVER
    actions = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class VersionsKept(SimpleHistoryAdmin):
    """Rows whose every version is kept, with who made it; versions are there to be read."""

    def history_form_view(
        self, request: HttpRequest, object_id: str, version_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Going back by a POST would pass by the rules of a change, and by its audit."""
        if request.method != "GET":
            raise PermissionDenied
        # The theme's link to the history would be that of the version's own table, which has none.
        context = (extra_context or {}) | {"show_history": False}
        page: HttpResponse = super().history_form_view(request, object_id, version_id, context)
        return page

    def revert_disabled(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return True


def form_page(
    admin: ModelAdmin, request: HttpRequest, form: forms.Form, *, title: str, button: str, note: str = ""
) -> TemplateResponse:
    """A page with one form, for an act of staff; with status 400 when it shows what was wrong with the form."""
    context = {
        **admin.admin_site.each_context(request),
        "opts": admin.opts,
        "title": title,
        "form": form,
        "button": button,
        "note": note,
    }
    status = 400 if form.is_bound else 200
    return TemplateResponse(request, "admin/billing/form_page.html", context, status=status)


def actor_of(request: HttpRequest) -> str:
    """The name under which a person of the staff stands in the audit trail."""
    return actor_name(person_of(request))


def person_of(request: HttpRequest) -> User:
    """Who is at the page; nobody else than a person of the staff gets that far."""
    return cast("User", request.user)
