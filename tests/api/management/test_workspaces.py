"""`/api/workspaces/{id}`: what a workspace is called."""

import pytest

from billing.models import AuditEvent, Workspace
from tests.api.management.conftest import error_of

pytestmark = pytest.mark.django_db


def test_a_workspace_is_renamed_once(as_role, acme):
    ask = as_role("admin")
    before = ask("get").json()
    for _ in range(2):
        response = ask("patch", body={"name": "  Acme & Sons "})
        assert (response.status_code, response.json()) == (200, {**before, "name": "Acme & Sons"})
    assert ask("get").json()["name"] == "Acme & Sons"
    event = AuditEvent.objects.get(action="workspace.renamed")
    assert (event.actor, event.target, event.workspace) == ("user:admin-of-acme", acme.workspace.public_id, acme.workspace)
    assert event.details == {"name": ["Acme", "Acme & Sons"]}


def test_a_key_renames_its_workspace_and_has_no_role_in_it(as_key, acme):
    assert as_key("workspace:manage")("patch", body={"name": "New"}).json()["role"] is None
    assert Workspace.objects.get(pk=acme.workspace.pk).name == "New"


def test_a_change_of_nothing_is_one(as_role, acme):
    assert as_role("owner")("patch", body={}).json()["name"] == "Acme"
    assert not AuditEvent.objects.filter(action="workspace.renamed").exists()


@pytest.mark.parametrize(
    ("name", "code"),
    [
        (None, "invalid_type"),
        (5, "invalid_type"),
        ("", "invalid_value"),
        (" ", "invalid_value"),
        ("n" * 121, "invalid_value"),
        ("a\u202eb", "invalid_value"),
        ("a\nb", "invalid_value"),
        ("a\0b", "invalid_unicode"),
    ],
    ids=repr,
)
def test_row_150_what_is_no_name(as_role, acme, name, code):
    assert error_of(as_role("owner")("patch", body={"name": name})) == (400, code, "name")
    assert Workspace.objects.get(pk=acme.workspace.pk).name == "Acme"
