"""Every page of the console for every role, for a stranger and for nobody: one cell each. A route not in the table fails."""

from __future__ import annotations

from urllib.parse import parse_qs

import pytest
from django.core.files.base import ContentFile
from django.db import transaction
from django.test import Client
from django.utils import timezone

from billing import announcements, invitations
from billing.apikeys import mint
from billing.console.urls import urlpatterns as of_billing
from billing.models import Announcement, ApiKey, Membership, UsageRecord
from billing.webhooks import deliveries, endpoints
from chat.console.urls import urlpatterns as of_chat
from files import keeping
from files.console.urls import urlpatterns as of_files
from files.room import room_of
from tests.api.console.conftest import visiting
from tests.worlds import ACTOR, make_member, make_payment

pytestmark = pytest.mark.django_db

WHO = ("owner", "admin", "developer", "billing", "viewer", "stranger", "nobody")
FORMS = {
    "": None,
    "key": {"name": "new", "scopes": ["chat"]},
    "overlap": {"overlap": "1h"},
    "invite": {"email": "new@example.com", "role": "viewer"},
    "payer": {"email": "new@example.com", "role": "billing"},
    "role": {"role": "viewer"},
    "pays": {"role": "billing"},
    "name": {"name": "Renamed"},
    "code": {"code": "ABCDE-ABCDE-ABCDE-ABCDE"},
    "alerts": {"low_balances": "100, 10", "key_percents": "80", "budget_percents": "50", "expiry_days": "7", "told": []},
    "hook": {"url": "https://1.1.1.1/hooks", "kinds": ["credits.low"]},
    "sum": {"credits": "many"},
    "off": {"state": "off"},
    "none": {},
    "next": {"next": ""},
    "days": {"days": "7"},
    "close": {"name": "Acme"},
    "chain": {"model_1": "other", "retries_0": "1"},
}
# Route and method, path, form; then owner, admin, developer, billing, viewer, a member of another workspace, nobody. {key} is
# nobody's key, {own} the visitor's, {member} a developer, {record} a request of {key}, {mine} one of {own}.
CELLS = """
    console-overview GET       overview                                        200 200 200 200 200 404 302
    console-dismiss POST       announcements/{announcement}/dismiss next       302 302 302 302 302 404 302
    console-keys GET           keys                                            200 200 200 403 200 404 302
    console-keys POST          keys                               key          200 200 200 403 403 404 302
    console-key GET            keys/{key}                                      200 200 404 403 200 404 302
    console-key GET            keys/{own}                                      200 200 200 403 200 404 302
    console-key POST           keys/{key}                         key          302 302 404 403 403 404 302
    console-key POST           keys/{own}                         key          302 302 302 403 403 404 302
    console-key-roll POST      keys/{key}/roll                    overlap      200 200 404 403 403 404 302
    console-key-roll POST      keys/{own}/roll                    overlap      200 200 200 403 403 404 302
    console-key-revoke POST    keys/{key}/revoke                  none         302 302 404 403 403 404 302
    console-key-revoke POST    keys/{own}/revoke                  none         302 302 302 403 403 404 302
    console-credits GET        credits                                         200 200 403 200 200 404 302
    console-redeem POST        credits/redeem                     code         400 403 403 400 403 404 302
    console-top-up POST        credits/top-up                     sum          400 403 403 400 403 404 302
    console-auto-top-up POST   credits/auto                       off          302 403 403 302 403 404 302
    console-payments GET       credits/payments                                200 200 403 200 200 404 302
    console-payment GET        credits/payments/{payment}                      200 200 403 200 200 404 302
    console-usage GET          usage                                           200 200 200 200 200 404 302
    console-usage-export GET   usage/export                                    200 200 200 200 200 404 302
    console-members GET        members                                         200 200 200 200 200 404 302
    console-members POST       members                            invite       302 302 403 403 403 404 302
    console-members POST       members                            payer        302 403 403 403 403 404 302
    console-member-role POST   members/{member}/role              role         302 302 403 403 403 404 302
    console-member-role POST   members/{member}/role              pays         302 403 403 403 403 404 302
    console-member-role POST   members/{self}/role                pays         302 403 403 403 403 404 302
    console-member-remove POST members/{member}/remove            none         302 302 403 403 403 404 302
    console-member-remove POST members/{self}/remove              none         302 302 302 302 302 404 302
    console-member-owner POST  members/{member}/owner             none         302 403 403 403 403 404 302
    console-withdraw POST      invitations/{invitation}/withdraw  none         302 302 403 403 403 404 302
    console-alerts GET         alerts                                          200 200 403 200 200 404 302
    console-alerts POST        alerts                             alerts       302 302 403 302 403 404 302
    console-webhooks GET       webhooks                                        200 200 403 403 403 404 302
    console-webhooks POST      webhooks                           hook         200 200 403 403 403 404 302
    console-webhook GET        webhooks/{hook}                                 200 200 403 403 403 404 302
    console-webhook POST       webhooks/{hook}                    hook         302 302 403 403 403 404 302
    console-webhook-test POST  webhooks/{hook}/test               none         302 302 403 403 403 404 302
    console-webhook-roll POST  webhooks/{hook}/roll               none         200 200 403 403 403 404 302
    console-webhook-enable POST webhooks/{hook}/enable            none         302 302 403 403 403 404 302
    console-webhook-remove POST webhooks/{hook}/remove            none         302 302 403 403 403 404 302
    console-webhook-again POST webhooks/{hook}/messages/{delivery}/again none  302 302 403 403 403 404 302
    console-settings GET       settings                                        200 200 200 200 200 404 302
    console-settings POST      settings                           name         302 302 403 403 403 404 302
    console-retention POST     settings/retention                 days         302 302 403 403 403 404 302
    console-stop POST          settings/stop                      none         302 302 403 302 403 404 302
    console-resume POST        settings/resume                    none         302 302 403 302 403 404 302
    console-close POST         settings/close                     close        302 403 403 403 403 404 302
    console-audit GET          audit                                           200 200 403 403 403 404 302
    console-log GET            log                                             200 200 200 200 200 404 302
    console-log-newer GET      log/newer?since={mine}                          200 200 200 200 200 404 302
    console-request GET        log/{record}                                    200 200 404 200 200 404 302
    console-request GET        log/{mine}                                      200 200 200 200 200 404 302
    console-chains GET         chains                                          200 200 200 200 200 404 302
    console-chain GET          chains/of?model=asked                           200 200 200 200 200 404 302
    console-chain POST         chains/of?model=asked              chain        302 302 403 403 403 404 302
    console-chain-reset POST   chains/reset?model=asked           none         302 302 403 403 403 404 302
    console-docs GET           docs                                            200 200 200 200 200 404 302
    console-docs-page GET      docs/errors                                     200 200 200 200 200 404 302
    console-models GET         models                                          200 200 200 200 200 404 302
    console-playground GET     playground                                      200 200 200 403 403 404 302
    console-files GET          files                                           200 200 200 403 200 404 302
    console-limits GET         limits                                          200 200 200 200 200 404 302
    console-limits GET         limits?of={key}                                 200 200 404 404 200 404 302
    console-limits GET         limits?of={own}                                 200 200 200 404 200 404 302
    console-limits GET         limits?of={member}                              200 200 404 200 200 404 302
    console-file GET           files/{file}                                    200 200 200 403 200 404 302
    console-file-page GET      files/{file}/pages/1                            404 404 404 403 404 404 302
    console-file-delete POST   files/{file}/delete                none         302 302 302 403 403 404 302
"""
# Pages of no workspace, and the CSV that is read in pieces: tests of their own.
ELSEWHERE = {
    "console",
    "console-new",
    "console-invitation",
    "console-credits-export",
    "console-audit-export",
    "console-file-content",
}


def cells_of(who):
    """Method, path, name of the form and status of each row."""
    for line in CELLS.strip().splitlines():
        _, method, path, *rest = line.split()
        statuses, form = rest[-len(WHO) :], "".join(rest[: -len(WHO)])
        yield method, path, form, int(statuses[WHO.index(who)])


def record_of(key: ApiKey, generation: str) -> UsageRecord:
    return UsageRecord.objects.create(
        generation=generation, request_id="label", workspace=key.workspace, api_key=key, status=200, end_state="done"
    )


@pytest.fixture
def files_folder(settings, tmp_path):
    settings.STORAGES = settings.STORAGES | {
        "files": {"BACKEND": "files.storage.FolderStorage", "OPTIONS": {"location": str(tmp_path)}}
    }


@pytest.fixture(autouse=True)
def _payments_are_set_up(settings):
    settings.STRIPE_SECRET_KEY, settings.STRIPE_WEBHOOK_SECRET = "sk_test", "whsec_test"


def own_key_of(member: Membership) -> ApiKey:
    key, _ = mint(member.workspace, "own", actor=ACTOR)
    ApiKey.objects.filter(pk=key.pk).update(owner=member)
    return key


def objects_of(acme, member: Membership) -> dict[str, str]:
    own = own_key_of(member)
    inviter = acme.workspace.memberships.get(role="owner").user
    offered = invitations.invite(
        acme.workspace, "offered@example.com", Membership.Role.VIEWER, inviter=inviter, link="{id}", actor=ACTOR
    )
    new = keeping.NewFile("user_data", "a.txt", "text/plain", 5, "0" * 64)
    content = ContentFile(b"hello")
    workspace = acme.workspace
    hook, _ = endpoints.create(workspace, "https://1.1.1.1/hooks", [], actor=ACTOR)
    file = keeping.keep(workspace.pk, workspace.public_id, new, content, room_of(member), now=timezone.now())
    announcement = Announcement(text="Hello", audience="workspace", workspace=workspace)
    announcements.publish(announcement, actor=ACTOR)
    return {
        "announcement": announcement.public_id,
        "key": acme.key.public_id,
        "own": own.public_id,
        "member": make_member(acme.workspace, "developer", username="colleague").public_id,
        "self": member.public_id,
        "invitation": offered.public_id,
        "record": record_of(acme.key, "chatcmpl-one").generation,
        "mine": record_of(own, "chatcmpl-two").generation,
        "file": file.public_id,
        "hook": hook.public_id,
        "payment": make_payment(workspace).public_id,
        "delivery": deliveries.send_test(hook).public_id,
    }


@pytest.mark.slow
@pytest.mark.parametrize("who", WHO)
@pytest.mark.usefixtures("files_folder", "two_models")
def test_everybody_gets_where_the_table_says_and_nowhere_else(who, acme, rival, people):
    members = {**people, "stranger": make_member(rival.workspace, "owner")}
    client = Client()
    if who != "nobody":
        client.force_login(members[who].user)
    # What is a stranger's own is here the owner's.
    objects = objects_of(acme, members[who] if who in people else people["owner"])
    expected, statuses = {}, {}
    for method, path, form, status in cells_of(who):
        with transaction.atomic():  # what a cell does to rows is undone
            response = visiting(client, acme.workspace)(path.format(**objects), FORMS[form])
            transaction.set_rollback(True)
        expected[method, path, form], statuses[method, path, form] = status, response.status_code
        if who == "nobody":
            assert response["location"].startswith("/accounts/login/?next=%2Fconsole%2F")
        else:
            assert "/accounts/login/" not in response.get("location", "")
    assert statuses == expected


@pytest.mark.parametrize(
    ("shown", "leads_to"),
    [
        ("https://testserver/console/{id}/log?days=1&key=a%26b#top", "/console/{id}/log?days=1&key=a%26b"),
        ("/console/{id}/log", "/console/{id}/log"),
        ("https://testserver/admin/", "/console/{id}/overview"),
        ("https://testserver//evil.example/console/", "/console/{id}/overview"),
        ("https://evil.example", "/console/{id}/overview"),
        ("https://[evil/console/", "/console/{id}/overview"),
        ("javascript:alert(1)", "/console/{id}/overview"),
        ("", "/console/{id}/overview"),
    ],
)
def test_the_page_around_a_part_that_needs_a_session_is_left_for_the_sign_in_page(acme, shown, leads_to):
    visit, workspace_id = visiting(Client(), acme.workspace), acme.workspace.public_id
    headers = {"HX-Request": "true", "HX-Current-URL": shown.format(id=workspace_id)}
    for values in (None, {}):
        response = visit("log/newer?since=chatcmpl-one", values, headers=headers)
        assert (response.status_code, response.content) == (204, b"")
        step, _, query = response["hx-redirect"].partition("?")
        assert (step, parse_qs(query)) == ("/accounts/login/", {"next": [leads_to.format(id=workspace_id)]})
    response = Client().get("/console/new", headers={"HX-Request": "true"})
    assert response["hx-redirect"] == "/accounts/login/?next=%2Fconsole%2F"


def test_every_route_and_method_is_in_the_table():
    listed = {tuple(line.split()[:2]) for line in CELLS.strip().splitlines()}
    patterns = [*of_billing, *of_files, *of_chat]
    offered = {
        (pattern.name, method) for pattern in patterns if pattern.name not in ELSEWHERE for method in pattern.callback.actions
    }
    assert listed == offered
    assert {pattern.name for pattern in patterns} >= ELSEWHERE


@pytest.mark.usefixtures("files_folder")
def test_what_is_foreign_looks_unknown_by_equal_bytes(acme, rival, people, as_role):
    """A workspace, and each object of one: the page of another's is the page of what never was."""
    make_member(rival.workspace, "owner", username="stranger")
    theirs = objects_of(rival, make_member(rival.workspace, "admin", username="their-admin"))
    visit = as_role("owner")
    unknown = visit("keys/key_0000000000000000000000").content
    assert b"There is nothing here" in unknown
    for path in (
        f"keys/{theirs['key']}",
        f"log/{theirs['record']}",
        f"limits?of={theirs['key']}",
        f"limits?of={theirs['self']}",
        f"files/{theirs['file']}",
        f"/console/{rival.workspace.public_id}/keys",
        "nowhere",
    ):
        response = visit(path)
        assert (response.status_code, response.content) == (404, unknown), path
    forms = {"roll": {"overlap": "1h"}, "dismiss": {"next": ""}}
    for path in (
        *("keys/{key}/roll", "keys/{key}/revoke", "members/{member}/remove", "files/{file}/delete"),
        "announcements/{announcement}/dismiss",
    ):
        form = forms.get(path.rpartition("/")[2], {})
        response = visit(path.format(**theirs), form)
        assert (response.status_code, response.content) == (404, unknown), path
    assert ApiKey.objects.get(public_id=theirs["key"]).revoked_at is None


def test_a_change_needs_the_token_of_its_page(acme, people):
    client = Client(enforce_csrf_checks=True)
    client.force_login(people["owner"].user)
    response = client.post(f"/console/{acme.workspace.public_id}/keys", {"name": "forged", "scopes": ["chat"]})
    assert response.status_code == 403
    assert not ApiKey.objects.filter(name="forged").exists()


def test_a_field_that_no_form_has_is_refused(as_role, acme):
    response = as_role("owner")("settings", {"name": "Fine", "state": "suspended"})
    assert response.status_code == 400
    acme.workspace.refresh_from_db()
    assert (acme.workspace.name, acme.workspace.state) == ("Acme", "active")


def test_nothing_is_changed_in_a_suspended_workspace(as_role, acme):
    acme.workspace.state = "suspended"
    acme.workspace.save()
    visit = as_role("owner")
    assert b"This workspace is suspended" in visit("keys").content
    assert visit("keys", FORMS["key"]).status_code == 403
    assert not ApiKey.objects.filter(name="new").exists()
