"""Role by page by method: every cell of the staff admin. A page that is not in the table fails the test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db import transaction
from django.test import Client
from django.urls import NoReverseMatch, URLPattern, URLResolver, reverse
from django.utils import timezone
from django_tasks_db.models import DBTaskResult

from billing import announcements, apikeys, crediting, members, redemption, roles
from billing.crediting import Move
from billing.models import Announcement, Entry, Membership, QuotaPreset, Workspace
from billing.presets import create_preset
from billing.quotas import Limits
from billing.redemption import Issue
from billing.webhooks import deliveries, endpoints
from chat.models import CatalogDefault, CatalogModel, Provider
from tests.api.admin.pages import CREDIT, sign_in
from tests.worlds import make_payment

pytestmark = pytest.mark.django_db

# Who gets in by GET, and by POST: Support, Finance, Catalogue, the superuser (A). Nobody is staff without a role.
EVERYBODY = "SFCA"
READ_ONLY = {"add": ("", ""), "delete": ("", "")}


def to_read(who: str) -> dict[str, tuple[str, str]]:
    """The pages of rows that nobody edits."""
    return READ_ONLY | {"changelist": (who, who), "change": (who, ""), "history": (who, who)}


def to_read_and_export(who: str) -> dict[str, tuple[str, str]]:
    """Lists that only grow, which can be had as CSV."""
    return to_read(who) | {"export": (who, who)}


MATRIX: dict[str, dict[str, tuple[str, str]]] = {
    "billing_workspace": to_read("SFCA")
    | {
        "new_workspace": ("SFA", "SFA"),
        "move_credits": ("SFA", "SFA"),
        "mint_key": ("SA", "SA"),
        "set_plan": ("FA", "FA"),
        "stop_spending": ("SFCA", "SFCA"),
        "add_member": ("SA", "SA"),
        "suspend": ("SFCA", "SFCA"),
        "activate": ("SFCA", "SFCA"),
    },
    "billing_apikey": to_read("SFA") | {"revoke": ("SFA", "SFA")},
    "billing_membership": to_read("SFA") | {"change_role": ("SA", "SA"), "remove": ("SA", "SA")},
    "billing_quotapreset": to_read("SFA")
    | {"simple_history": ("SFA", ""), "new_preset": ("FA", "FA"), "change_limits": ("FA", "FA")},
    "billing_announcement": {
        "changelist": ("SFCA", "SFCA"),
        "add": ("SCA", "SCA"),
        "change": ("SFCA", "SCA"),
        "delete": ("", ""),
        "history": ("SFCA", "SFCA"),
        "simple_history": ("SFCA", ""),
        "end": ("SCA", "SCA"),
    },
    "billing_account": to_read("SFA"),
    "billing_hold": to_read_and_export("SFA"),
    "billing_entry": to_read_and_export("SFA") | {"reconciliation": ("FA", "FA")},
    "billing_creditlot": to_read_and_export("SFA"),
    "billing_budget": to_read("SFA"),
    "billing_creditorder": to_read_and_export("SFA") | {"approve": ("FA", "FA"), "refuse": ("SFA", "SFA")},
    "billing_payment": to_read_and_export("SFA"),
    "billing_notice": to_read_and_export("SFA") | {"its_messages": ("SA", "SA")},
    "billing_webhookendpoint": to_read_and_export("SA") | {"disable": ("SA", "SA"), "its_messages": ("SA", "SA")},
    "billing_webhookdelivery": to_read_and_export("SA") | {"send_again": ("SA", "SA")},
    "billing_codebatch": to_read_and_export("SFA")
    | {
        "issue": ("SFA", "SFA"),
        "approve": ("FA", "FA"),
        "refuse": ("SFA", "SFA"),
        "withdraw": ("SFA", "SFA"),
        "its_codes": ("SFA", "SFA"),
    },
    "billing_redemptioncode": to_read_and_export("SFA") | {"withdraw": ("SFA", "SFA")},
    "billing_usagerecord": to_read_and_export("SFCA") | {"refund": ("SFA", "SFA")},
    "billing_auditevent": to_read_and_export("SFCA"),
    "chat_price": to_read("SFCA") | {"withdraw": ("CA", "CA")},
    "chat_provider": {
        "changelist": ("SFCA", "SFCA"),
        "add": ("CA", "CA"),
        "change": ("SFCA", "CA"),
        "delete": ("", ""),
        "history": ("SFCA", "SFCA"),
        "simple_history": ("SFCA", ""),
        "test_call": ("CA", "CA"),
    },
    "chat_catalogmodel": {
        "simple_history": ("SFCA", ""),
        "incident": ("SFCA", "SFCA"),
        "import_file": ("CA", "CA"),
        "export_file": ("SFCA", "SFCA"),
        "changelist": ("SFCA", "SFCA"),
        "add": ("CA", "CA"),
        "change": ("SFCA", "CA"),
        "delete": ("CA", "CA"),
        "history": ("SFCA", "SFCA"),
    },
    "chat_fallbackchain": {
        "route": ("SFCA", "SFCA"),
        "changelist": ("SFCA", "SFCA"),
        "add": ("CA", "CA"),
        "change": ("SFCA", "CA"),
        "delete": ("CA", "CA"),
        "history": ("SFCA", "SFCA"),
    },
    "chat_catalogdefault": {
        "simple_history": ("SFCA", ""),
        "changelist": ("SFCA", "SFCA"),
        "add": ("", ""),
        "change": ("SFCA", "CA"),
        "delete": ("", ""),
        "history": ("SFCA", "SFCA"),
    },
    "auth_user": {
        "changelist": ("A", "A"),
        "add": ("A", "A"),
        "change": ("A", "A"),
        "delete": ("A", "A"),
        "history": ("A", "A"),
        "password_change": ("A", "A"),
        "reset_second_factor": ("A", "A"),
    },
    "auth_group": to_read("A"),
    "django_tasks_database_dbtaskresult": to_read("A"),
}
# Of the site itself. `N` is staff without a role, who sees an empty admin.
SITE = {
    "index": ("SFCAN", "SFCAN"),
    "search": ("SFCAN", "SFCAN"),
    "jsi18n": ("SFCAN", ""),
    "password_change": ("SFCAN", "SFCAN"),
    "password_change_done": ("SFCAN", ""),
}
# Everybody's, or of no page: the log-in and the way out, a redirect to pages of rows, what Django answers for no page.
NOT_PAGES = {"login", "logout", "view_on_site", "app_list", "autocomplete"}


def page_names() -> set[str]:
    def walk(patterns: list[URLPattern | URLResolver]) -> Iterator[str | None]:
        for pattern in patterns:
            if isinstance(pattern, URLResolver):
                yield from walk(pattern.url_patterns)
            else:
                yield pattern.name

    return {name for name in walk(admin.site.urls[0]) if name is not None and name not in NOT_PAGES}


def test_every_page_of_the_admin_is_in_the_table():
    listed = {f"{model}_{page}" for model, pages in MATRIX.items() for page in pages} | SITE.keys()
    assert listed == page_names()


@pytest.fixture
def world(ada, catalogue, generation) -> dict[str, str]:
    """A row of each model, by its name in the addresses of pages."""
    workspace = Workspace.objects.get()
    members.add_member(workspace, User.objects.create_user("grace"), Membership.Role.OWNER, actor="test")
    create_preset("gold", Limits(), actor="test")
    announcements.publish(Announcement(text="Hello"), actor="test")
    big = Move(workspace=workspace, kind=Entry.Kind.GRANT, amount_microcredits=9_000 * CREDIT, reason="a campaign", token="1")
    crediting.order(big, person=ada)
    codes = Issue(kind=Entry.Kind.GRANT, amount_microcredits=CREDIT, count=1, max_uses=1, reason="a campaign", token="1")
    redemption.issue(codes, person=ada)
    make_payment(workspace)
    hook, _ = endpoints.create(workspace, "https://1.1.1.1/hooks", [], actor="test")
    deliveries.send_test(hook)
    apikeys.mint(workspace, "second", actor="test")
    CatalogDefault.objects.get_or_create(singleton=True)
    DBTaskResult.objects.create(task_path="a.task", args_kwargs={}, backend_name="default", run_after=timezone.now())
    roles.sync()
    rows = {}
    for model in admin.site._registry:
        row = model._default_manager.order_by("pk").first()
        assert row is not None, model
        rows[f"{model._meta.app_label}_{model._meta.model_name}"] = str(row.pk)
    # Of the first one usage speaks.
    unused = CatalogModel.objects.get(slug="gpt-4.1")
    versions: dict[str, Any] = {
        "chat_provider": Provider,
        "chat_catalogdefault": CatalogDefault,
        "billing_quotapreset": QuotaPreset,
        "billing_announcement": Announcement,
    }
    rows |= {"chat_catalogmodel": str(unused.pk), "chat_catalogmodel version": str(unused.history.first().pk)}
    return rows | {f"{name} version": str(model.history.filter(id=rows[name]).first().pk) for name, model in versions.items()}


PERSONS = {"S": "support", "F": "finance", "C": "catalogue", "A": "", "N": ""}


def person(letter: str) -> User:
    user = User.objects.create_user(f"person-{letter}", is_staff=True, is_superuser=letter == "A")
    if PERSONS[letter]:
        user.groups.add(Group.objects.get(name=PERSONS[letter]))
    return user


def pages_of(rows: dict[str, str]) -> Iterator[tuple[str, str, tuple[str, str]]]:
    """Name, address, and who gets in."""
    for name, who in SITE.items():
        yield name, reverse(f"admin:{name}"), who
    for model, pages in MATRIX.items():
        for page, who in pages.items():
            name = f"{model}_{page}"
            try:
                yield name, reverse(f"admin:{name}"), who
            except NoReverseMatch:
                versions = [rows[f"{model} version"]] if page == "simple_history" else []
                yield name, reverse(f"admin:{name}", args=[rows[model], *versions]), who


def gets_in(client: Client, method: str, address: str) -> bool:
    """Whatever a POST does is undone."""
    with transaction.atomic():
        response = client.get(address) if method == "GET" else client.post(address, {"post": "yes", "since": "not a day"})
        transaction.set_rollback(True)
    assert response.status_code in {200, 302, 400, 403, 405}, (address, response.status_code)
    assert "login" not in response.get("location", ""), address
    return response.status_code not in {403, 405}


@pytest.mark.slow
@pytest.mark.parametrize("letter", PERSONS)
def test_each_role_gets_where_the_table_says_and_nowhere_else(client, world, settings, letter):
    """What a POST is answered by is drawn for the superuser; the others have all that they may see drawn by their GETs."""
    sign_in(client, person(letter))
    pages = list(pages_of(world))
    for column, method in enumerate(("GET", "POST")):
        if method == "POST" and letter != "A":
            settings.MIDDLEWARE = [*settings.MIDDLEWARE, "tests.api.admin.pages.Undrawn"]
            client.handler.load_middleware()
        expected = {name: letter in who[column] for name, _, who in pages}
        assert {name: gets_in(client, method, address) for name, address, _ in pages} == expected, method


@pytest.mark.slow
def test_whoever_is_no_staff_gets_nowhere(client, world):
    for _ in range(2):
        for _, address, _ in pages_of(world):
            for response in (client.get(address), client.post(address)):
                assert response.status_code == 302, address
                assert "login" in response["location"]
        client.force_login(User.objects.get(username="grace"))


# The groups themselves


def test_migrate_makes_each_group_with_exactly_its_permissions(db):
    support = Group.objects.get_or_create(name="support")[0]
    support.permissions.set(Permission.objects.filter(codename="change_user"))
    call_command("migrate", verbosity=0)
    for role in roles.Role:
        rows = Group.objects.get(name=role.value).permissions.select_related("content_type")
        assert {f"{row.content_type.app_label}.{row.codename}" for row in rows} == roles.permissions_of(role)


def test_a_slip_in_the_table_does_not_pass(db):
    Permission.objects.filter(codename="grant_credits").delete()
    with pytest.raises(LookupError, match=r"billing\.grant_credits"):
        roles.sync()


def test_no_role_may_write_money_or_people():
    """Django's own permissions to add, change and delete are given for rows that staff may edit, and for no others."""
    edited = {"announcement", "provider", "catalogmodel", "target", "fallbackchain", "catalogdefault"}
    made = {"workspace", "apikey", "membership", "quotapreset", "price"}
    for permission in roles.TABLE:
        verb, _, model = permission.split(".")[1].partition("_")
        if verb in {"add", "change", "delete"}:
            assert model in edited | made, permission
        assert not permission.startswith("auth.")
    assert ContentType.objects.filter(model="user").exists()
