"""The people of the staff admin, in its own look.

Only a superuser manages them: whoever may edit users could make himself one.
"""

from __future__ import annotations

from typing import Any

import allauth.account.admin
import allauth.mfa.admin
import allauth.socialaccount.admin  # noqa: F401 - registers what is taken away below
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialToken
from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import reverse
from unfold.admin import ModelAdmin
from unfold.decorators import action
from unfold.enums import ActionVariant
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from billing import people
from billing.admin.parts import EditedOnly, ReasonForm, actor_of, form_page

# What allauth brings is its own affair: a lost second factor is reset on the page of its person.
admin.site.unregister([User, Group, EmailAddress, Authenticator, SocialAccount, SocialApp, SocialToken])


class SuperuserOnly:
    """A ModelAdmin mixin."""

    def has_module_permission(self, request: HttpRequest) -> bool:
        return _is_superuser(request)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return _is_superuser(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return _is_superuser(request)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return _is_superuser(request)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return _is_superuser(request)


def _is_superuser(request: HttpRequest) -> bool:
    return request.user.is_active and request.user.is_superuser


class PersonForm(EditedOnly, UserChangeForm):
    """Whoever was shut out meanwhile is not let in again by a new name."""


@admin.register(User)
class UserAdmin(SuperuserOnly, DjangoUserAdmin, ModelAdmin):  # type: ignore[type-arg]
    form = PersonForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ["username", "email", "is_staff", "is_superuser", "roles", "is_active", "last_login"]
    actions_detail = ["reset_second_factor"]
    filter_horizontal = ()
    radio_fields = {}
    # What a person may do, his roles say; single permissions are no way around their table.
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        ("Person", {"fields": ("first_name", "last_name", "email")}),
        ("Rights", {"fields": ("is_active", "is_staff", "is_superuser", "groups")}),
        ("Dates (UTC)", {"fields": ("last_login", "date_joined")}),
    )

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **options: Any) -> Any:
        field = super().formfield_for_manytomany(db_field, request, **options)
        if db_field.name == "groups" and field is not None:
            field.widget = UnfoldAdminCheckboxSelectMultipleWidget(choices=field.choices)
            field.label, field.help_text = "Roles", "What each role may do stands on the page of the roles."
        return field

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        queryset: QuerySet[User] = super().get_queryset(request)
        return queryset.prefetch_related("groups")

    @admin.display(description="Roles")
    def roles(self, user: User) -> str:
        return ", ".join(sorted(group.name for group in user.groups.all())) or "-"

    def has_reset_permission(self, request: HttpRequest, object_id: object = None) -> bool:
        return _is_superuser(request)

    @action(description="Reset second factor", icon="lock_reset", permissions=["reset"], variant=ActionVariant.DANGER)
    def reset_second_factor(self, request: HttpRequest, object_id: str) -> HttpResponse:
        user = get_object_or_404(User, pk=object_id)
        form = ReasonForm(request.POST or None)
        if form.is_valid():
            if people.reset_second_factor(user, actor=actor_of(request), reason=form.cleaned_data["reason"]):
                messages.success(request, f"{user} sets up a new second factor with the next sign-in.")
            else:
                messages.info(request, f"{user} has no second factor.")
            return HttpResponseRedirect(reverse("admin:auth_user_change", args=[user.pk]))
        note = "Sessions of this person lose the admin at once. The next sign-in sets up a new second factor."
        return form_page(self, request, form, title=f"Reset second factor: {user}", button="Reset second factor", note=note)

    def log_addition(self, request: HttpRequest, obj: User, message: Any) -> Any:
        people.note(obj, "created", actor=actor_of(request))
        return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: User, message: Any) -> Any:
        people.note(obj, "changed", actor=actor_of(request), details=message)
        return super().log_change(request, obj, message)

    def delete_model(self, request: HttpRequest, obj: User) -> None:
        people.note(obj, "deleted", actor=actor_of(request))
        super().delete_model(request, obj)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Without the deletion of many at once."""
        return {}


@admin.register(Group)
class GroupAdmin(SuperuserOnly, DjangoGroupAdmin, ModelAdmin):
    """The roles, to read: what each may do is the table in `billing.roles`."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False
