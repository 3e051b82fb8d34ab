"""Providers in the staff admin. A key is written here and never read: the page shows its last four characters."""

from __future__ import annotations

import functools
from typing import Any

from asgiref.sync import async_to_sync
from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import action
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldAdminSelectWidget, UnfoldBooleanSwitchWidget

from billing import audit
from billing.admin.columns import Column, badge, figure
from billing.admin.parts import EditedOnly, actor_of, granted_by
from chat.admin import operations
from chat.admin.parts import VersionedAdmin
from chat.catalog import probe_target, provider_key
from chat.loading.rows import (
    check_provider,
    check_provider_key,
    forget_provider_key,
    has_history,
    leads_elsewhere,
    set_provider_key,
)
from chat.models import Provider, Target
from chat.probing import probe
from chat.watching import providers_lately

_STORED = ["slug", "dialect", "base_url", "allow_private_address", "is_enabled", "api_key_env"]


class TestCallForm(forms.Form):
    target = forms.ModelChoiceField(Target.objects.none(), widget=UnfoldAdminSelectWidget, empty_label=None)

    def __init__(self, *args: Any, provider: Provider, **options: Any) -> None:
        super().__init__(*args, **options)
        targets = Target.objects.filter(provider=provider).select_related("provider", "model").order_by("model__slug", "pk")
        self.fields["target"].queryset = targets  # type: ignore[attr-defined]


def _health_columns() -> list[Column]:
    """How each provider fared within the last hour; read once for a list, when its first row is shown."""
    lately = functools.cache(providers_lately)

    def health(provider: Provider) -> str:
        fared = lately().get(provider.slug)
        if fared is None:
            return "-"
        look = ("bad", "close") if fared.is_in_trouble else ("warn", "warning") if fared.failed else ("plain", "check")
        return badge("", f"{fared.failed:,} of {fared.tries:,} failed", look)

    def latency(provider: Provider) -> str:
        fared = lately().get(provider.slug)
        return "-" if fared is None or fared.median_ms is None else figure(f"{fared.median_ms:,}")

    health.short_description = "Last hour"  # type: ignore[attr-defined]
    latency.short_description = "Median (ms)"  # type: ignore[attr-defined]
    latency.__name__ = "latency_figure"
    return [health, latency]


class ProviderForm(EditedOnly, forms.ModelForm):  # type: ignore[type-arg]
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
class ProviderAdmin(VersionedAdmin):
    form = ProviderForm
    list_display = ["slug", "dialect", "base_url", "key", "state"]
    list_filter = [("dialect", ChoicesDropdownFilter), "is_enabled"]
    search_fields = ["slug", "base_url"]
    fieldsets = [
        (None, {"fields": ["slug", "dialect", "base_url", "allow_private_address", "is_enabled"]}),
        ("Key", {"fields": ["key", "api_key_env", "new_api_key", "forget_api_key"]}),
    ]
    readonly_fields = ["key"]
    actions_detail = ["test_call"]
    has_test_permission = granted_by("chat.change_provider")

    @action(description="Test call", icon="network_check", permissions=["test"])
    def test_call(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """GET shows the form; POST makes one small request, which the provider may charge."""
        provider = get_object_or_404(Provider, pk=object_id)
        form = TestCallForm(request.POST or None, provider=provider)
        told: dict[str, Any] = {"form": form, "provider": provider}
        if form.is_valid():
            probed = probe_target(form.cleaned_data["target"])
            if probed is None:
                form.add_error(None, "The provider has no key here: enter one, or set its variable.")
            else:
                told["probe"] = async_to_sync(probe)(*probed)
                details = {"target": str(form.cleaned_data["target"]), "code": told["probe"].code}
                audit.record("provider.tested", actor=actor_of(request), target=provider.slug, details=details)
        return operations.page(self, request, "test_call", f"Test call: {provider}", **told)

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        return [*self.list_display, *_health_columns()]

    @admin.display(description="State", ordering="is_enabled")
    def state(self, provider: Provider) -> str:
        return badge("enabled" if provider.is_enabled else "disabled")

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
