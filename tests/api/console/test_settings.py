"""Settings: retention, the audit log, spending stopped and resumed, a workspace that is closed."""

from __future__ import annotations

import csv
import io

import pytest
from asgiref.sync import sync_to_async
from django.test import AsyncClient

from billing import audit
from billing.apikeys import find, mint
from billing.errors import WorkspaceSuspended
from billing.models import ApiKey, AuditEvent, Entry, Invitation
from billing.workspaces import suspend
from tests.api.console.test_figures import rows_of
from tests.worlds import ACTOR

pytestmark = pytest.mark.django_db


def acts(acme) -> list[str]:
    return list(AuditEvent.objects.filter(workspace=acme.workspace).order_by("pk").values_list("action", flat=True))


def test_spending_is_stopped_at_once_and_resumed(acme, as_role):
    visit = as_role("billing")
    page = visit("settings/stop", {}, follow=True).content.decode()
    assert "Spending is stopped." in page
    assert find(acme.key.digest) is WorkspaceSuspended
    assert "Spending is stopped." in as_role("developer")("overview").content.decode()
    assert as_role("owner")("settings", {"name": "Acme"}).status_code == 302
    visit("settings/resume", {})
    assert find(acme.key.digest).api_key_id == acme.key.pk
    assert acts(acme)[-2:] == ["workspace.stopped", "workspace.resumed"]


def test_members_do_not_resume_what_staff_suspended(acme, as_role):
    as_role("owner")("settings/stop", {})
    acme.workspace.refresh_from_db()
    assert suspend(acme.workspace, actor=ACTOR)
    for act, values in (("resume", {}), ("close", {"name": "Acme"})):
        assert as_role("owner")(f"settings/{act}", values).status_code == 403
    acme.workspace.refresh_from_db()
    assert acme.workspace.state == "suspended"


def test_a_workspace_is_closed_by_its_name_and_its_money_stays(acme, people, as_role):
    mint(acme.workspace, "second", actor=ACTOR)
    as_role("owner")("members", {"email": "late@example.com", "role": "viewer"})
    wrong = as_role("owner")("settings/close", {"name": "acme"})
    assert wrong.status_code == 400
    assert "Write Acme, exactly as it stands here." in wrong.content.decode()
    assert "1,000 credits are left" in wrong.content.decode()
    response = as_role("owner")("settings/close", {"name": "Acme"})
    assert response["location"] == "/console/"
    assert not ApiKey.objects.filter(workspace=acme.workspace, revoked_at__isnull=True).exists()
    assert Invitation.objects.get().withdrawn_at is not None
    assert Entry.objects.filter(credit_account=acme.workspace.account).count() == 1
    for role in people:
        assert as_role(role)("overview").status_code == 404
        assert as_role(role)(f"/api/workspaces/{acme.workspace.public_id}").status_code == 404
    assert acts(acme)[-3:] == ["workspace.closed", "api_key.revoked", "api_key.revoked"]


@pytest.mark.parametrize(("days", "status"), [("7", 302), ("31", 400), ("0", 400), ("", 400)])
def test_retention_is_one_of_the_choices(acme, as_role, days, status):
    assert as_role("admin")("settings/retention", {"days": days}).status_code == status
    acme.workspace.refresh_from_db()
    assert acme.workspace.traces_kept_days == (7 if status == 302 else 30)


def test_the_audit_log_is_filtered_and_paged_by_its_last_row(acme, as_role):
    for number in range(60):
        audit.record("member.added", actor="user:eve", workspace=acme.workspace, target=f"guest_{number}", details={"n": None})
    audit.record("credits.top_up", actor="command", workspace=acme.workspace, details={"amount_microcredits": 2_500_000})
    visit = as_role("owner")
    first = visit("audit").content.decode()
    assert len(rows_of(first)) == 50
    assert "amount 2.5 credits" in first
    older = visit(f"audit?period=30&after={AuditEvent.objects.get(target='guest_11').pk}").content.decode()
    assert "guest_10" in older
    assert "guest_11" not in older
    assert len(rows_of(visit("audit?kind=credits").content.decode())) == 1
    assert len(rows_of(visit("audit?q=GUEST_5").content.decode())) == 11
    assert "No act matches" in visit("audit?kind=budget").content.decode()
    for nonsense in ("period=1", "kind=x", "after=x", "after=-1", "q=%00"):
        assert visit(f"audit?{nonsense}").status_code == 404, nonsense


@pytest.mark.django_db(transaction=True)
async def test_the_audit_log_as_csv_is_all_that_the_filters_show(acme, rival, people):
    record = sync_to_async(audit.record)
    await record("budget.set", actor="=cmd", workspace=acme.workspace, reason="why", details={"limit": 5})
    await record("budget.set", actor="theirs", workspace=rival.workspace)
    client = AsyncClient()
    await client.aforce_login(people["admin"].user)
    response = await client.get(f"/console/{acme.workspace.public_id}/audit/export?kind=budget")
    text = b"".join([part async for part in response.streaming_content]).decode()
    (row,) = csv.DictReader(io.StringIO(text))
    assert (row["actor"], row["action"], row["reason"], row["details"]) == ("'=cmd", "budget.set", "why", '{"limit":5}')
    await client.aforce_login(people["viewer"].user)
    assert (await client.get(f"/console/{acme.workspace.public_id}/audit/export")).status_code == 403
