"""Who gets in: sessions with their token, management keys, nobody else; foreign objects are unknown ones."""

import json

import pytest
from django.test import Client

from billing.apikeys import KeyTerms, mint
from billing.models import ApiKey, AuditEvent, Budget, Membership, QuotaPreset, Workspace
from billing.presets import create_preset
from billing.quotas import Limits
from billing.workspaces import suspend
from infery_site.ids import public_id
from tests.api.management.conftest import asking, error_of
from tests.worlds import ACTOR, make_member

pytestmark = pytest.mark.django_db


def rows():
    return [list(model.objects.order_by("pk").values()) for model in (ApiKey, Membership, Budget, QuotaPreset, Workspace)]


# Sessions and keys


def test_a_stranger_is_told_to_bring_a_key(acme):
    ask = asking(Client(), acme.workspace)
    for method, path in (("get", None), ("get", ""), ("post", "/keys"), ("delete", f"/keys/{acme.key.public_id}")):
        response = ask(method, path)
        assert error_of(response) == (401, "missing_api_key", None)
        assert response["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("header", ["Basic eDp5", "Bearer", "Bearer inf_x", "Token abc"])
def test_a_header_decides_even_beside_a_session(as_role, header):
    assert error_of(as_role("owner")("get", "/keys", authorization=header)) == (401, "invalid_api_key", None)


def test_a_person_who_was_put_to_sleep_is_a_stranger(as_role, people):
    ask = as_role("owner")
    people["owner"].user.is_active = False
    people["owner"].user.save()
    assert error_of(ask("get", "/keys")) == (401, "missing_api_key", None)


def test_row_145_a_change_needs_the_token_and_an_origin_of_this_site(acme, people):
    client = Client(enforce_csrf_checks=True)
    client.force_login(people["owner"].user)
    client.cookies["csrftoken"] = token = "a" * 32
    ask = asking(client, acme.workspace)
    before = rows()
    for headers in ({}, {"x_csrftoken": "b" * 32}, {"x_csrftoken": token, "origin": "https://evil.example"}):
        for method, path in (("post", "/keys"), ("delete", f"/keys/{acme.key.public_id}"), ("put", "/budgets")):
            assert error_of(ask(method, path, {"name": "x"}, **headers)) == (403, "csrf_failed", None)
    assert rows() == before
    assert ask("get", "/keys").status_code == 200
    assert ask("post", "/keys", {"name": "x"}, x_csrftoken=token).status_code == 201
    assert ask("post", "/keys", {"name": "x"}, x_csrftoken=token, origin="http://testserver").status_code == 201


def test_a_key_needs_no_token(acme):
    client = Client(enforce_csrf_checks=True)
    _, text = mint(acme.workspace, "program", actor=ACTOR, terms=KeyTerms(scopes=["keys:manage"]))
    assert (
        asking(client, acme.workspace, {"authorization": f"Bearer {text}"})("post", "/keys", {"name": "x"}).status_code == 201
    )


def test_addresses_of_a_management_key_are_kept(as_key):
    assert error_of(as_key("keys:manage", allowed_addresses=["10.0.0.1"])("get", "/keys")) == (403, "ip_not_allowed", None)


def test_a_suspended_workspace_can_be_read_by_its_people_and_not_changed(as_role, as_key, acme):
    person, program = as_role("owner"), as_key("keys:manage")
    suspend(acme.workspace, actor=ACTOR)
    before = rows()
    assert person("get", "/keys").status_code == 200
    assert error_of(person("post", "/keys", {"name": "x"})) == (403, "workspace_suspended", None)
    assert error_of(program("get", "/keys")) == (403, "workspace_suspended", None)
    assert rows() == before


def test_a_person_sees_the_workspaces_he_is_in(as_member, people, rival):
    person = people["viewer"]
    there = Membership.objects.create(workspace=rival.workspace, user=person.user, role="owner")
    listed = as_member(person)("get", None).json()["data"]
    assert {(one["id"], one["role"]) for one in listed} == {
        (person.workspace.public_id, "viewer"),
        (there.workspace.public_id, "owner"),
    }
    assert as_member(person)("get").json()["role"] == "viewer"


def test_a_management_key_sees_its_own_workspace(as_key, acme, rival):
    [one] = as_key("workspace:manage")("get", None).json()["data"]
    assert (one["id"], one["role"], one["state"]) == (acme.workspace.public_id, None, "active")


# Other workspaces


@pytest.fixture
def theirs(rival):
    """What rival has."""
    return {
        "key": rival.key.public_id,
        "member": make_member(rival.workspace, "developer").public_id,
        "preset": create_preset("theirs", Limits(), actor=ACTOR, workspace=rival.workspace).public_id,
    }


FOREIGN = {
    "read a key": ("get", "/keys/{key}", None),
    "change a key": ("patch", "/keys/{key}", {"name": "x"}),
    "revoke a key": ("delete", "/keys/{key}", None),
    "roll a key": ("post", "/keys/{key}/roll", {"overlap": "now"}),
    "limit a key": ("put", "/budgets", {"scope": "key", "scope_id": "{key}", "limit": 1}),
    "read a member": ("get", "/members/{member}", None),
    "change a member": ("patch", "/members/{member}", {"role": "viewer"}),
    "remove a member": ("delete", "/members/{member}", None),
    "limit a member": ("put", "/budgets", {"scope": "member", "scope_id": "{member}", "limit": 1}),
    "read a preset": ("get", "/presets/{preset}", None),
    "change a preset": ("patch", "/presets/{preset}", {"name": "x"}),
    "use a preset": ("post", "/keys", {"name": "x", "preset": "{preset}"}),
    "give a preset": ("patch", "/members/{mine}", {"preset": "{preset}"}),
}


@pytest.mark.parametrize(("method", "path", "body"), FOREIGN.values(), ids=FOREIGN)
def test_row_146_what_is_another_workspace_s_is_unknown(as_role, people, theirs, method, path, body):
    nobodys = {kind: public_id(kind) for kind in theirs}
    before = rows()
    answers = []
    for ids in (theirs, nobodys):
        ids = {**ids, "mine": people["developer"].public_id}
        filled = {name: value.format(**ids) if isinstance(value, str) else value for name, value in (body or {}).items()}
        response = as_role("owner")(method, path.format(**ids), filled or None)
        assert error_of(response) == (404, "not_found", None)
        answers.append(response.content)
    assert answers[0] == answers[1]
    assert rows() == before


@pytest.mark.parametrize(
    "path", ["", "/keys", "/members", "/budgets", "/presets", "/keys/{key}", "/members/{member}", "/presets/{preset}"]
)
def test_another_workspace_itself_is_unknown(people, rival, theirs, as_key, path):
    client = Client()
    client.force_login(people["owner"].user)
    program = {"authorization": as_header(as_key)}
    for headers in ({}, program):
        answers = []
        for workspace_id in (rival.workspace.public_id, public_id("ws")):
            rival.workspace.public_id = workspace_id
            response = asking(client, rival.workspace, headers)("get", path.format(**theirs))
            assert error_of(response) == (404, "not_found", None)
            answers.append(response.content)
        assert answers[0] == answers[1]
        rival.workspace.refresh_from_db()


def as_header(as_key):
    """The header of a key that may manage everything."""
    made = as_key("keys:manage", "workspace:manage")(
        "post", "/keys", {"name": "all", "scopes": ["keys:manage", "workspace:manage"]}
    )
    return f"Bearer {made.json()['key']}"


def test_lists_show_nothing_of_others(as_role, theirs, rival):
    seen = "".join(as_role("owner")("get", path).content.decode() for path in ("/keys", "/members", "/presets", "/budgets"))
    for foreign in (*theirs.values(), rival.workspace.public_id):
        assert foreign not in seen


# Forged fields


FORGED = {
    "new key": ("post", "/keys", {"name": "x"}),
    "key": ("patch", "/keys/{key}", {"name": "x"}),
    "roll": ("post", "/keys/{key}/roll", {"overlap": "now"}),
    "budget": ("put", "/budgets", {"scope": "workspace", "limit": 1}),
    "workspace": ("patch", "", {"name": "x"}),
    "new preset": ("post", "/presets", {"name": "x"}),
    "preset": ("patch", "/presets/{preset}", {"maxTokensDaily": 5}),
    "new member": ("post", "/members", {"email": "x@example.com", "role": "viewer"}),
    "member": ("patch", "/members/{member}", {"preset": None}),
}
FIELDS = [
    "workspace",
    "workspace_id",
    "owner",
    "balance",
    "state",
    "digest",
    "revoked_at",
    "public_id",
    "spent",
    "plan",
    "monthly_microcredits",
    "is_staff",
    "id",
    "x\0",
]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "path", "body"), FORGED.values(), ids=FORGED)
def test_row_147_a_field_that_is_not_there_changes_nothing_and_is_remembered(as_role, people, acme, rival, method, path, body):
    preset = create_preset("own", Limits(), actor=ACTOR, workspace=acme.workspace)
    before, ask = rows(), as_role("owner")
    path = path.format(key=acme.key.public_id, member=people["developer"].public_id, preset=preset.public_id)
    for field in FIELDS:
        known = set(AuditEvent.objects.values_list("pk", flat=True))
        response = ask(method, path, {**body, field: rival.workspace.pk})
        assert error_of(response) == (400, "unknown_parameter", field)
        assert rows() == before, field
        event = AuditEvent.objects.exclude(pk__in=known).get()
        assert (event.action, event.actor, event.workspace) == ("request.refused", "user:owner-of-acme", acme.workspace)
        assert event.details["route"].endswith(path)
        assert event.details["field"] == f"'{field.replace(chr(0), '?')}'"


# The edges of a route


@pytest.mark.parametrize(("method", "path"), [("put", "/keys"), ("post", ""), ("patch", "/members"), ("delete", "/budgets")])
def test_other_methods_are_a_405(as_role, method, path):
    response = as_role("owner")(method, path, {})
    assert error_of(response) == (405, "method_not_allowed", None)
    assert response["allow"]


@pytest.mark.parametrize("path", ["/keys/", "/keys/%00", "/keys/a b", "/keys/" + "k" * 65, "/nothing"])
def test_unknown_addresses_are_a_404_in_json(as_role, path):
    assert error_of(as_role("owner")("get", path)) == (404, "unknown_url", None)


def test_a_form_is_no_json(people, acme):
    client = Client()
    client.force_login(people["owner"].user)
    response = client.post(f"/api/workspaces/{acme.workspace.public_id}/keys", {"name": "x"})
    assert error_of(response) == (415, "unsupported_media_type", None)


def test_head_and_options_ask_for_nothing_more_than_get(as_role):
    assert as_role("owner")("head", "/keys").status_code == 200
    assert as_role("owner")("options", "/keys").status_code == 204


def test_a_body_that_is_sent_with_a_charset_is_json_still(people, acme):
    client = Client()
    client.force_login(people["owner"].user)
    url = f"/api/workspaces/{acme.workspace.public_id}/keys"
    response = client.post(url, json.dumps({"name": "ä"}), content_type="application/json; charset=utf-8")
    assert response.json()["name"] == "ä"
