"""`python -m tests.e2e.filling`: fills an installation with rows whose every text attacks, and lists all pages that show them.

Prints one line of JSON: the session of a member of the staff who also owns the workspaces, and what became of a GET of
every page. Rows are made by the services; then each text of them is replaced, past the checks that keep attacks out of it.
The pages are those of the URL patterns, so a page that is added later is among them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import django

from tests.e2e.hostile import attack, attacked

TURNS = 2
PASSWORD = "correct horse battery"
ADDRESS = "ada@walk.example"
APPS = ("billing", "chat", "files", "auth", "account", "admin", "django_tasks_database")
ROOMS = ("admin/", "accounts/", "console/", "docs/")

# What nobody but the gateway writes: ids, digests, the names of objects in the store; and what says how to read the row.
OURS = {
    *("public_id", "generation", "digest", "key_digest", "body_digest", "call_digest", "sha256", "store_name", "object_name"),
    *(
        "lease_token",
        "password",
        "secret",
        "headers",
        "page_sizes",
        "budget_ids",
        "history_type",
        "codename",
        "end_state",
        "model",
        "app_label",
        "currency",
        "media_type",
    ),
}
# Money rows are never changed: these are written as they are to be shown.
WRITTEN_ONCE = {("entry", None), ("hold", None), ("usagerecord", "lines")}
# Pages that end a session, or are of another purpose than to be looked at.
PASSED_BY = {"logout", "account_logout", "jsi18n", "mfa_download_recovery_codes"}
VARIANTS = {
    "index": ["?period=7d", "?period=30d"],
    "search": ["?s=a"],
    "chat_fallbackchain_route": ["?model=sandbox-echo"],
    "console-usage": ["?by=model", "?by=key", "?by=member"],
    "console-log": ["?state=failed"],
    "console-chain": ["?model=main"],
    "console-log-newer": ["?since=chatcmpl-walk-0"],
}


def main() -> None:
    django.setup()
    from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes  # noqa: PLC0415 - models, which can be imported only now
    from allauth.mfa.totp.internal.auth import TOTP  # noqa: PLC0415
    from django.contrib.auth.models import User  # noqa: PLC0415
    from django.test import Client  # noqa: PLC0415

    from tests.api.admin.pages import sign_in  # noqa: PLC0415
    from tests.e2e.rows import make_rows  # noqa: PLC0415

    before = {model: model._base_manager.order_by("-pk").values_list("pk", flat=True).first() for model in _models()}
    ada = User.objects.create_superuser("ada", ADDRESS, password=PASSWORD)
    TOTP.activate(ada, "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP")
    RecoveryCodes.activate(ada)
    for turn in range(TURNS):
        make_rows(ada, turn)
    made = {
        model: list(model._base_manager.filter(**({"pk__gt": last} if last is not None else {})).order_by("pk"))
        for model, last in before.items()
    }
    _log_changes(ada, made)
    _replace(made)
    client = Client(raise_request_exception=False, SERVER_NAME="localhost")
    sign_in(client, ada)
    client.post("/accounts/reauthenticate/", {"password": PASSWORD})  # for the pages of the second factor
    session = client.cookies["sessionid"].value
    pages = [_looked_up(client, path) for path in _paths(made)]
    nobody = Client(SERVER_NAME="localhost")
    pages += [_looked_up(nobody, path, is_of_nobody=True) for path in _paths(made) if path.startswith("/accounts/")]
    sys.stdout.write(json.dumps({"session": session, "pages": pages}) + "\n")


def _models() -> list[Any]:
    from django.apps import apps  # noqa: PLC0415

    return [
        model for name in APPS for model in apps.get_app_config(name).get_models() if model._meta.model_name != "permission"
    ]


def _log_changes(ada: Any, made: dict[Any, list[Any]]) -> None:
    """What the admin writes of each change, for the pages of history."""
    from django.contrib.admin.models import CHANGE, LogEntry  # noqa: PLC0415

    for model, rows in made.items():
        if rows and "historical" not in model._meta.model_name:
            LogEntry.objects.log_actions(ada.pk, rows[:TURNS], CHANGE, change_message=attack(500, 0), single_object=False)
    made[LogEntry] = list(LogEntry.objects.all())


def _replace(made: dict[Any, list[Any]]) -> None:
    from django.db.models import CharField, JSONField, TextField  # noqa: PLC0415

    for model, rows in made.items():
        name = model._meta.model_name
        fields = [
            field
            for field in model._meta.concrete_fields
            if isinstance(field, CharField | TextField | JSONField) and not field.choices and field.name not in OURS
        ]
        fields = [field for field in fields if not {(name, None), (name, field.name)} & WRITTEN_ONCE]
        for number, row in enumerate(rows):
            values = {field.attname: _hostile(field, getattr(row, field.attname), number) for field in fields}
            if values:
                model._base_manager.filter(pk=row.pk).update(**values)
                for attribute, value in values.items():
                    setattr(row, attribute, value)


def _hostile(field: Any, value: Any, number: int) -> Any:
    from django.db.models import JSONField  # noqa: PLC0415

    if isinstance(field, JSONField):
        return attacked(value, 500, number)
    if field.name == "change_message":
        return json.dumps([{"changed": {"fields": [attack(200, number)]}}])
    if value == ADDRESS:  # by which her invitations are found
        return value
    longest = field.max_length or 1000
    start = "http://" if field.name == "base_url" else ""
    end = f"{number}" if longest > 40 else ""
    return f"{start}{attack(longest - len(start) - len(end), number)}{end}"


def _paths(made: dict[Any, list[Any]]) -> Iterator[str]:
    """Each page of the patterns with the rows of each turn."""
    from django.urls import get_resolver  # noqa: PLC0415

    for room in ROOMS:
        for pattern, name in _patterns(get_resolver().url_patterns, ""):
            if not pattern.startswith(room) or name is None or name in PASSED_BY:
                continue
            # Of one row the others are alike in lists, forms and histories; its own page has more to say.
            is_of_rows = ("<" in pattern or "^" in pattern) and (room != "admin/" or name.endswith("_change"))
            for turn in range(TURNS if is_of_rows else 1):
                path = _filled(pattern, name, made, turn)
                if path is None:
                    continue
                for query in ["", *VARIANTS.get(name, [])]:
                    yield f"/{path}{query}"
                if name.endswith("_changelist"):
                    yield f"/{path}?q=nothing-like-it"


def _patterns(patterns: Iterable[Any], prefix: str) -> Iterator[tuple[str, str | None]]:
    for pattern in patterns:
        path = f"{prefix}{pattern.pattern}"
        if hasattr(pattern, "url_patterns"):
            yield from _patterns(pattern.url_patterns, path)
        else:
            yield path, pattern.name


def _filled(pattern: str, name: str, made: dict[Any, list[Any]], turn: int) -> str | None:
    """The path of a pattern. None for one that no link leads to."""
    from django.apps import apps  # noqa: PLC0415

    parts = pattern.split("/")
    if parts[0] == "admin" and len(parts) > 3 and ("<" in pattern or "^" in pattern):
        try:
            model = apps.get_model(parts[1], parts[2])
        except LookupError:
            return None
        row = _row(model, made, turn)
        if row is None:
            raise AssertionError(f"{pattern} needs a row to be looked at: make a {parts[2]} in tests/e2e/rows.py")
        if name.endswith("_simple_history"):
            version = model.history.filter(id=row.pk).latest()
            return f"admin/{parts[1]}/{parts[2]}/{row.pk}/history/{version.pk}/"
        return pattern.replace("<path:object_id>", str(row.pk)).replace("<id>", str(row.pk))
    if name == "app_list":
        return f"admin/{('billing', 'chat')[turn]}/"
    if "<" in pattern and (parts[0] in {"console", "docs"} or "<int:pk>" in pattern):
        return _path_by_names(pattern, made, turn)
    return None if "<" in pattern or "^" in pattern else pattern


def _path_by_names(pattern: str, made: dict[Any, list[Any]], turn: int) -> str:
    from django.apps import apps  # noqa: PLC0415

    from chat.console.docs import PAGES  # noqa: PLC0415

    named = {
        "workspace_id": ("billing.Workspace", "public_id"),
        "announcement_id": ("billing.Announcement", "public_id"),
        "key_id": ("billing.ApiKey", "public_id"),
        "member_id": ("billing.Membership", "public_id"),
        "invitation_id": ("billing.Invitation", "public_id"),
        "hook_id": ("billing.WebhookEndpoint", "public_id"),
        "delivery_id": ("billing.WebhookDelivery", "public_id"),
        "file_id": ("files.StoredFile", "public_id"),
        "generation": ("billing.UsageRecord", "generation"),
        "payment_id": ("billing.Payment", "public_id"),
    }
    for parameter, (label, field) in named.items():
        if f"<str:{parameter}>" in pattern:
            row = _row(apps.get_model(label), made, turn)
            pattern = pattern.replace(f"<str:{parameter}>", getattr(row, field))
    pattern = pattern.replace("<str:slug>", list(PAGES)[turn]).replace("<int:number>", "1")
    if "/webauthn/keys/" in pattern:
        passkeys = apps.get_model("mfa.Authenticator").objects.filter(type="webauthn").order_by("pk")
        pattern = pattern.replace("<int:pk>", str(passkeys[turn].pk))
    assert "<" not in pattern, f"{pattern}: say here which row is meant"
    return pattern


def _row(model: Any, made: dict[Any, list[Any]], turn: int) -> Any:
    """Of a turn the first row; each turn makes as many."""
    rows = made.get(model) or []
    if model._meta.model_name == "user":
        rows = rows[1:]  # the first is who looks
    if rows:
        return rows[turn * (len(rows) // TURNS)]
    return model._base_manager.order_by("pk").first()


def _looked_up(client: Any, path: str, *, is_of_nobody: bool = False) -> dict[str, Any]:
    """`kind` is a whole page, a piece that a page fetches, or a file; `html` is the text of a page."""
    response = client.get(path)
    is_html = response.headers.get("content-type", "").startswith("text/html") and "content-disposition" not in response.headers
    kind = "file" if not is_html else "page" if b"<html" in response.content else "piece"
    html = response.content.decode() if kind == "page" else ""
    return {"path": path, "status": response.status_code, "kind": kind, "html": html, "is_of_nobody": is_of_nobody}


if __name__ == "__main__":
    main()
