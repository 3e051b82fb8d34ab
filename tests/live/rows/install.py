"""`python -m tests.live.rows.install`: the keys of the rows, each with one thing wrong, in a database of `tests.live.install`.

Prints one line of JSON: keys by name, and the cookie of a staff session.
"""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from typing import Any

import django

ACTOR = "tests"
DOORS = {
    "reads": "/v1/key",
    "models": "/v1/models",
    "files": "/v1/files",
    "uploads": "/v1/files",
    "receipts": "/v1/generations/of-nobody",
    "management": "/api/workspaces",
}
"""Other doors than chat's. For each there is a key with one request a minute."""


def main() -> None:
    django.setup()
    from django.utils import timezone  # noqa: PLC0415

    from billing import apikeys, workspaces  # noqa: PLC0415 - models, which can be imported only now
    from billing.models import ApiKey, Budget  # noqa: PLC0415

    acme = workspaces.get_workspace("acme")
    texts: dict[str, str] = {}

    def mint(name: str, workspace: Any = acme, **terms: Any) -> ApiKey:
        key, texts[name] = apikeys.mint(workspace, name, actor=ACTOR, terms=apikeys.KeyTerms(**terms))
        return key

    apikeys.revoke(mint("revoked"), actor=ACTOR)
    expired = mint("expired", expires_at=timezone.now() + timedelta(hours=1))
    ApiKey.objects.filter(pk=expired.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    suspended = workspaces.create_workspace("suspended", actor=ACTOR)
    mint("suspended", suspended)
    workspaces.suspend(suspended, actor=ACTOR)
    mint("unscoped", scopes=["usage:read"])
    mint("elsewhere", allowed_addresses=["203.0.113.7", "10.0.0.0/8", "2001:db8::/32"])
    capped = mint("capped")
    Budget.objects.create(scope=Budget.Scope.KEY, scope_id=capped.pk, limit_microcredits=1)
    mint("hourglass", max_requests_per_minute=1)
    mint("sundial", max_requests_daily=1)
    mint("sundial of reads", max_requests_daily=1)
    for door in DOORS:
        scopes = ["keys:manage"] if door == "management" else None
        mint(f"hourglass of {door}", max_requests_per_minute=1, scopes=scopes)
    mint("single", max_concurrent_requests=1)
    mint("thirsty", max_tokens_per_minute=1)
    mint("rationed", max_tokens_daily=1)
    mint("narrow", allowed_models=["plain"])
    mint("manager", scopes=["keys:manage"])
    sys.stdout.write(json.dumps(texts | {"session": _session()}) + "\n")


def _session() -> str:
    """The cookie of somebody who is signed in to the staff admin."""
    from django.conf import settings  # noqa: PLC0415
    from django.contrib.auth import get_user_model  # noqa: PLC0415
    from django.contrib.auth.models import AbstractUser  # noqa: PLC0415
    from django.contrib.sessions.backends.db import SessionStore  # noqa: PLC0415

    user = get_user_model().objects.create_superuser("staff", password="a long password of tests")
    assert isinstance(user, AbstractUser)
    session = SessionStore()
    session["_auth_user_id"] = str(user.pk)
    session["_auth_user_backend"] = settings.AUTHENTICATION_BACKENDS[0]
    session["_auth_user_hash"] = user.get_session_auth_hash()
    session.create()
    return str(session.session_key)


if __name__ == "__main__":
    main()
