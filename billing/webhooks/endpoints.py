"""The webhooks of a workspace: addresses with a secret each, which is shown once and kept encrypted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from billing import audit, notices
from billing.budgets import lock
from billing.models import Notice, WebhookEndpoint, Workspace
from billing.webhooks.signing import new_secret
from infery_site import secretbox
from infery_site.addresses import Judge
from infery_site.fetch import AddressRefused, Poster

MOST_ENDPOINTS: Final = 10
_LONGEST_URL: Final = 2000


def poster() -> Poster:
    """By the settings: public addresses on the usual ports, and what staff opened besides."""
    judge = Judge(settings.OWN_NETWORKS, opened=settings.WEBHOOK_NETWORKS)
    return Poster(judge=judge, ports=frozenset(settings.WEBHOOK_PORTS))


def list_endpoints(workspace: Workspace) -> QuerySet[WebhookEndpoint]:
    return workspace.webhooks.filter(removed_at__isnull=True).order_by("pk")


def create(workspace: Workspace, url: str, kinds: Iterable[str], *, actor: str) -> tuple[WebhookEndpoint, str]:
    """The row, and the secret, which nobody can show again. Raises ValidationError, by the name of the field."""
    url, kinds = _checked_url(url), _checked_kinds(kinds)
    with transaction.atomic():
        # Of two at once the later one counts the earlier one.
        lock(Workspace.objects.filter(pk=workspace.pk))
        if list_endpoints(workspace).count() >= MOST_ENDPOINTS:
            raise ValidationError({"url": f"A workspace has at most {MOST_ENDPOINTS} webhooks."})
        endpoint = WebhookEndpoint(workspace=workspace, url=url, kinds=kinds)
        secret = _give_secret(endpoint)
        endpoint.save()
        _record("created", endpoint, actor, {"url": url, "kinds": kinds})
    return endpoint, secret


def update(endpoint: WebhookEndpoint, url: str, kinds: Iterable[str], *, actor: str) -> None:
    """A new address begins with a clean slate. Raises ValidationError, by the name of the field."""
    url, kinds = _checked_url(url), _checked_kinds(kinds)
    with transaction.atomic():
        current = _locked(endpoint)
        details = {"url": [current.url, url], "kinds": [current.kinds, kinds]}
        if url != current.url:
            current.failing_since = None
        current.url, current.kinds = url, kinds
        current.save()
        _record("changed", current, actor, details)


def roll_secret(endpoint: WebhookEndpoint, *, actor: str) -> str:
    """Another secret, which counts from the next message on."""
    with transaction.atomic():
        current = _locked(endpoint)
        secret = _give_secret(current)
        current.save(update_fields=["secret"])
        _record("secret_rolled", current, actor, {})
    return secret


def disable(endpoint: WebhookEndpoint, *, actor: str, reason: str) -> bool:
    """Send nothing to it, what waits included, until it is enabled again. False if it takes nothing already.

    The workspace is told, with the reason.
    """
    sentence = f"{reason.strip().removesuffix('.')}."
    with transaction.atomic():
        current = _locked(endpoint)
        if current.disabled_at is not None or current.removed_at is not None:
            return False
        current.disabled_at, current.disabled_because = timezone.now(), sentence
        current.save(update_fields=["disabled_at", "disabled_because"])
        _record("disabled", current, actor, {"url": current.url}, reason=sentence)
        notices.publish(
            current.workspace,
            Notice.Kind.WEBHOOK_DISABLED,
            title=f"A webhook of {current.workspace.name} was disabled",
            text=f"{current.url} was disabled. {sentence} Nothing is sent to it until it is enabled again.",
            data={"id": current.public_id, "url": current.url},
            place=f"webhooks/{current.public_id}",
        )
    return True


def enable(endpoint: WebhookEndpoint, *, actor: str) -> None:
    """Send to a disabled one again, what happens from now on."""
    with transaction.atomic():
        if WebhookEndpoint.objects.filter(pk=endpoint.pk, disabled_at__isnull=False).update(
            disabled_at=None, disabled_because="", failing_since=None
        ):
            _record("enabled", endpoint, actor, {})


def remove(endpoint: WebhookEndpoint, *, actor: str) -> None:
    """Send nothing to it any more, what waits included."""
    with transaction.atomic():
        if WebhookEndpoint.objects.filter(pk=endpoint.pk, removed_at__isnull=True).update(removed_at=timezone.now(), secret=""):
            _record("removed", endpoint, actor, {"url": endpoint.url})


def secret_of(endpoint: WebhookEndpoint) -> str:
    return secretbox.decrypt(endpoint.secret.encode(), context=_context(endpoint)).decode()


def _give_secret(endpoint: WebhookEndpoint) -> str:
    secret = new_secret()
    endpoint.secret = secretbox.encrypt(secret.encode(), context=_context(endpoint)).decode()
    return secret


def _context(endpoint: WebhookEndpoint) -> str:
    return f"webhook:{endpoint.public_id}"


def _checked_url(url: str) -> str:
    if len(url) > _LONGEST_URL:
        raise ValidationError({"url": f"An address has at most {_LONGEST_URL} characters."})
    try:
        asyncio.run(poster().check(url))
    except AddressRefused:
        message = "An http or https address that everybody can reach is needed, on the usual port."
        raise ValidationError({"url": message}) from None
    return url


def _checked_kinds(kinds: Iterable[str]) -> list[str]:
    """In the order of the table; all of them is the same as none."""
    chosen = set(kinds)
    known = list(Notice.Kind)
    if not chosen <= set(known):
        raise ValidationError({"kinds": "Choose among the kinds that are there."})
    return [] if chosen == set(known) else [kind.value for kind in known if kind in chosen]


def _locked(endpoint: WebhookEndpoint) -> WebhookEndpoint:
    return WebhookEndpoint.objects.select_for_update(of=("self",)).select_related("workspace").get(pk=endpoint.pk)


def _record(verb: str, endpoint: WebhookEndpoint, actor: str, details: Mapping[str, object], *, reason: str = "") -> None:
    target, workspace = endpoint.public_id, endpoint.workspace
    audit.record(f"webhook.{verb}", actor=actor, workspace=workspace, target=target, reason=reason, details=details)
