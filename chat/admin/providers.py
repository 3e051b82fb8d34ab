"""Providers in the staff admin. A key is written here and never read: the page shows its last four characters."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldBooleanSwitchWidget

from billing.admin.parts import actor_of
from chat.admin.parts import CatalogAdmin
from chat.catalog import provider_key
from chat.loading.rows import (
    check_provider,
    check_provider_key,
    forget_provider_key,
    has_history,
    leads_elsewhere,
    set_provider_key,
)
from chat.models import Provider

_STORED = ["slug", "dialect", "base_url", "allow_private_address", "is_enabled", "api_key_env"]


class ProviderForm(forms.ModelForm):  # type: ignore[type-arg]
    new_api_key = forms.CharField(
        label="New API key",
        required=False,
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}),
        help_text="Stored encrypted, and used before the environment variable. Empty leaves the key as it is.",
    )
    forget_api_key = forms.BooleanField(
        label="Forget the stored key", required=False, widget=UnfoldBooleanSwitchWidget, help_text="The variable counts again."
    )

    class Meta:
        model = Provider
        fields = _STORED

    def clean_new_api_key(self) -> str:
        key: str = self.cleaned_data["new_api_key"]
        return check_provider_key(key) if key else ""

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or self.cleaned_data
        if values.get("new_api_key") and values.get("forget_api_key"):
            raise ValidationError({"forget_api_key": "Either enter a new key or forget the stored one."})
        if not self.errors:
            self._check_key_stays(values)
            check_provider(Provider(**{name: values[name] for name in _STORED}))
        return values

    def _check_key_stays(self, values: dict[str, Any]) -> None:
        """Nobody reads a stored key by giving its provider an address of his own."""
        stored = Provider.objects.filter(pk=self.instance.pk).first()
        if stored is None or values["new_api_key"] or values["forget_api_key"]:
            return
        if leads_elsewhere(stored, values["base_url"]):
            raise ValidationError({"new_api_key": "The stored key was entered for another host: enter it again, or forget it."})


@admin.register(Provider)
class ProviderAdmin(CatalogAdmin):
    form = ProviderForm
    list_display = ["slug", "dialect", "base_url", "key", "is_enabled"]
    list_filter = [("dialect", ChoicesDropdownFilter), "is_enabled"]
    search_fields = ["slug", "base_url"]
    fieldsets = [
        (None, {"fields": ["slug", "dialect", "base_url", "allow_private_address", "is_enabled"]}),
        ("Key", {"fields": ["key", "api_key_env", "new_api_key", "forget_api_key"]}),
    ]
    readonly_fields = ["key"]

    @admin.display(description="Key in use")
    def key(self, provider: Provider) -> str:
        """As this process sees it."""
        if provider.pk is None:
            return "-"
        match provider_key(provider).source:
            case "staff":
                return f"entered, ends in {provider.api_key_hint}" if provider.api_key_hint else "entered"
            case "environment":
                return f"from {provider.api_key_env}"
            case "missing":
                return f"missing: {provider.api_key_env} is not set"
            case "unreadable":
                return "cannot be read"
            case _:
                return "none needed"

    def has_delete_permission(self, request: HttpRequest, obj: Provider | None = None) -> bool:
        """A provider of which usage speaks, or with targets, is disabled instead."""
        return bool(super().has_delete_permission(request, obj)) and not (
            obj is not None and (has_history(obj) or obj.targets.exists())
        )

    def save_model(self, request: HttpRequest, obj: Provider, form: Any, change: bool) -> None:  # noqa: FBT001
        super().save_model(request, obj, form, change)
        if form.cleaned_data["new_api_key"]:
            set_provider_key(obj, form.cleaned_data["new_api_key"], actor=actor_of(request))
        elif form.cleaned_data["forget_api_key"] and obj.api_key_encrypted:
            forget_provider_key(obj, actor=actor_of(request))
