"""What staff change one by one, in the admin and through the loader: prices, provider keys, switches.

Each function is one transaction and moves the stamp. Refusals are ValidationErrors with a text for the person at the form.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from urllib.parse import urlsplit

import msgspec
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import F, Model, Q
from django.utils import timezone

from billing import audit
from billing.models import Hold, UsageRecord
from billing.moments import moment_text
from billing.pricing import MAX_MICROCREDITS
from chat.catalog import in_force, key_context, price_list, scheduled
from chat.loading.address import AddressRefused, check_base_url
from chat.models import CatalogDefault, CatalogModel, CatalogStamp, Price, Provider
from chat.providers.registry import DIALECTS
from infery_site import env, secretbox

KEY_LENGTH_MOST = 4096
WITHDRAW_AHEAD = timedelta(seconds=5)
"""Until so long before it begins a price can be withdrawn: then every serving process knows in time."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_HINT_DIGITS = 4


class PriceAmounts(msgspec.Struct, frozen=True, kw_only=True):
    """One price version, in microcredits: per million tokens, and per page. None falls back to input or output."""

    input_microcredits: int
    output_microcredits: int
    cached_input_microcredits: int | None = None
    cache_write_microcredits: int | None = None
    audio_input_microcredits: int | None = None
    reasoning_microcredits: int | None = None
    pdf_page_microcredits: int = 0


def touch() -> None:
    """Tell every serving process that the catalogue changed. Call it in the transaction of the change."""
    if not CatalogStamp.objects.filter(singleton=True).update(version=F("version") + 1):
        CatalogStamp.objects.get_or_create(singleton=True, defaults={"version": 1})


def lock() -> None:
    """Let no one else change the catalogue until this transaction ends."""
    CatalogStamp.objects.get_or_create(singleton=True)
    CatalogStamp.objects.select_for_update().get(singleton=True)


def check_provider(provider: Provider) -> None:
    """Raises ValidationError, by field, for what must not be stored or cannot work."""
    faults: dict[str, str] = {}
    try:
        check_base_url(provider.base_url, allow_private=provider.allow_private_address)
    except AddressRefused as error:
        faults["base_url"] = str(error)
    if provider.api_key_env and not _VARIABLE.fullmatch(provider.api_key_env):
        faults["api_key_env"] = "This is not the name of an environment variable."
    if env.is_own(provider.api_key_env):  # which the provider would be sent
        faults["api_key_env"] = (
            "This is the name of a setting of the gateway itself: give the key in a variable of another name."
        )
    if provider.is_enabled and provider.dialect not in DIALECTS:
        faults["is_enabled"] = f"The gateway does not speak the dialect '{provider.dialect}' yet; save it disabled."
    if faults:
        raise ValidationError(faults)


def leads_elsewhere(stored: Provider, base_url: str) -> bool:
    """Whether a new address would send the stored key to another host than the one it was entered for."""
    before, after = urlsplit(stored.base_url), urlsplit(base_url)
    return bool(stored.api_key_encrypted) and (before.scheme, before.netloc) != (after.scheme, after.netloc)


def note_change(row: Model, verb: str, *, actor: str, fields: Sequence[str] = ()) -> None:
    """Move the stamp and keep who did what to a row. Call it in the transaction of the change."""
    touch()
    audit.record(f"{row._meta.verbose_name}.{verb}", actor=actor, target=str(row), details={"fields": list(fields)})


def check_provider_key(key_text: str) -> str:
    """The key without surrounding white space. Raises ValidationError for what cannot stand in a header."""
    key = key_text.strip()
    if not 0 < len(key) <= KEY_LENGTH_MOST or not key.isascii() or not key.isprintable() or " " in key:
        raise ValidationError("A key has printable ASCII characters only, without spaces.")
    return key


def set_provider_key(provider: Provider, key_text: str, *, actor: str) -> None:
    """Store a provider's key, encrypted; it wins over the environment's."""
    key = check_provider_key(key_text)
    with transaction.atomic():
        provider.api_key_encrypted = secretbox.encrypt(key.encode(), context=key_context(provider.pk))
        # A short key would be shown whole, or nearly.
        provider.api_key_hint = key[-_HINT_DIGITS:] if len(key) >= 4 * _HINT_DIGITS else ""
        provider.save(update_fields=["api_key_encrypted", "api_key_hint"])
        touch()
        audit.record("provider.key_set", actor=actor, target=provider.slug)


def forget_provider_key(provider: Provider, *, actor: str) -> None:
    """Drop the stored key; the environment's is used again."""
    with transaction.atomic():
        provider.api_key_encrypted = b""
        provider.api_key_hint = ""
        provider.save(update_fields=["api_key_encrypted", "api_key_hint"])
        touch()
        audit.record("provider.key_forgotten", actor=actor, target=provider.slug)


def add_price(model: CatalogModel, amounts: PriceAmounts, *, actor: str, effective_at: datetime | None = None) -> Price | None:
    """A new price version, in force from now on, or from a moment to come. None if it costs what would be in force then."""
    values = msgspec.structs.asdict(amounts)
    if any(not 0 <= amount <= MAX_MICROCREDITS for amount in values.values() if amount is not None):
        raise ValidationError("A price is zero or more, and within the range of the ledger.")
    with transaction.atomic():
        lock()
        now = timezone.now()
        price = Price(model=model, effective_at=max(effective_at or now, now), **values)
        before = in_force(price.effective_at).filter(model=model).first()
        if before is not None and _costs_the_same(before, price):
            return None
        price.save()
        touch()
        details = values | ({"effective_at": moment_text(price.effective_at)} if price.effective_at > now else {})
        audit.record("price.added", actor=actor, target=model.slug, details=details)
    return price


def _costs_the_same(one: Price, other: Price) -> bool:
    return msgspec.structs.replace(price_list(one), version_id=0) == msgspec.structs.replace(price_list(other), version_id=0)


def withdraw_price(price: Price, *, actor: str, reason: str = "") -> None:
    """Let a scheduled version never begin. Raises ValidationError where it has begun, or is about to, or is withdrawn."""
    with transaction.atomic():
        lock()
        row = Price.objects.select_related("model").get(pk=price.pk)
        now = timezone.now()
        if row.withdrawn_at is not None:
            raise ValidationError("This version is withdrawn already.")
        if row.effective_at <= now + WITHDRAW_AHEAD:
            raise ValidationError("This version has begun: make a new version instead.")
        row.withdrawn_at = now
        row.save(update_fields=["withdrawn_at"])
        touch()
        details = {"version": row.pk, "effective_at": moment_text(row.effective_at)}
        audit.record("price.withdrawn", actor=actor, target=row.model.slug, reason=reason, details=details)


def schedule_prices(model: CatalogModel, wanted: Mapping[datetime, PriceAmounts], *, actor: str) -> bool:
    """Make these the versions that begin later; what else is scheduled is withdrawn. False if all stood so."""
    is_changed = False
    left = dict(wanted)
    with transaction.atomic():
        lock()
        for row in scheduled(timezone.now() + WITHDRAW_AHEAD).filter(model=model):
            amounts = left.get(row.effective_at)
            if amounts is not None and _costs_the_same(row, Price(model=model, **msgspec.structs.asdict(amounts))):
                del left[row.effective_at]
            else:
                withdraw_price(row, actor=actor)
                is_changed = True
        for start in sorted(left):
            is_changed |= add_price(model, left[start], actor=actor, effective_at=start) is not None
    return is_changed


def default_pdf_fee() -> int:
    """Microcredits per converted page for a new price version that names no fee."""
    return CatalogDefault.objects.values_list("pdf_page_microcredits", flat=True).first() or 0


def set_default_pdf_fee(amount_microcredits: int, *, actor: str) -> bool:
    """False if that was the fee already. Versions that stand keep their fee; see `apply_default_pdf_fee`."""
    if not 0 <= amount_microcredits <= MAX_MICROCREDITS:
        raise ValidationError("A fee is zero or more, and within the range of the ledger.")
    with transaction.atomic():
        default, _ = CatalogDefault.objects.get_or_create(singleton=True)
        if default.pdf_page_microcredits == amount_microcredits:
            return False
        default.pdf_page_microcredits = amount_microcredits
        default.save()
        touch()
        audit.record("catalog.default_pdf_fee", actor=actor, details={"pdf_page_microcredits": amount_microcredits})
    return True


def apply_default_pdf_fee(models: Iterable[CatalogModel], *, actor: str) -> int:
    """Give each priced model a version with the default fee per page; how many had another one. Scheduled ones keep theirs."""
    fee = default_pdf_fee()
    changed = 0
    with transaction.atomic():
        for price in in_force(timezone.now()).filter(model__in=list(models)).select_related("model"):
            amounts = PriceAmounts(**{name: getattr(price, name) for name in Price.AMOUNTS} | {"pdf_page_microcredits": fee})
            changed += add_price(price.model, amounts, actor=actor) is not None
    return changed


def set_models_enabled(models: Iterable[CatalogModel], *, is_enabled: bool, actor: str, reason: str = "") -> int:
    """Switch models on or off; how many changed. A model without a price cannot be switched on."""
    changed = 0
    with transaction.atomic():
        for model in models:
            if model.is_enabled == is_enabled:
                continue
            if is_enabled and not model.prices.filter(withdrawn_at__isnull=True).exists():
                raise ValidationError(f"{model.slug} has no price; add one first.")
            model.is_enabled = is_enabled
            model.save(update_fields=["is_enabled"])
            audit.record("model.enabled" if is_enabled else "model.disabled", actor=actor, target=model.slug, reason=reason)
            changed += 1
        if changed:
            touch()
    return changed


def set_provider_enabled(provider: Provider, *, is_enabled: bool, actor: str, reason: str = "") -> bool:
    """Switch a provider on or off, in every process within a second. False if it was so already. Raises ValidationError."""
    with transaction.atomic():
        lock()
        row = Provider.objects.get(pk=provider.pk)
        if row.is_enabled == is_enabled:
            return False
        row.is_enabled = is_enabled
        if is_enabled:
            check_provider(row)
        row.save(update_fields=["is_enabled"])
        touch()
        audit.record("provider.enabled" if is_enabled else "provider.disabled", actor=actor, target=row.slug, reason=reason)
    provider.is_enabled = is_enabled
    return True


def has_history(row: Provider | CatalogModel) -> bool:
    """Whether usage or a hold speaks of this row, so that it may be disabled but not deleted."""
    if isinstance(row, Provider):
        return UsageRecord.objects.filter(provider=row.slug).exists()
    versions = row.prices.values("pk")
    return (
        UsageRecord.objects.filter(Q(price_version_id__in=versions) | Q(model_used=row.slug)).exists()
        or Hold.objects.filter(price_version_id__in=versions).exists()
    )
