"""Pages of webhooks: why one is disabled, and that it is until it is enabled."""

from __future__ import annotations

import pytest

from billing.models import AuditEvent
from billing.webhooks import deliveries, endpoints
from tests.worlds import ACTOR

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("reason", ["It floods <b>others</b>", deliveries.GIVEN_UP])
def test_a_disabled_webhook_says_why_until_it_is_enabled(acme, as_role, reason):
    hook, _ = endpoints.create(acme.workspace, "https://1.1.1.1/hooks", [], actor=ACTOR)
    assert endpoints.disable(hook, actor="staff:ada", reason=reason)
    assert not endpoints.disable(hook, actor="staff:ada", reason=reason)
    visit = as_role("admin")
    page = visit(f"webhooks/{hook.public_id}").content.decode()
    told = reason.removesuffix(".").replace("<", "&lt;").replace(">", "&gt;")
    assert f"<b>Nothing is sent to this webhook.</b> {told}. What happened since" in page
    assert visit(f"webhooks/{hook.public_id}/enable", {}).status_code == 302
    hook.refresh_from_db()
    assert (hook.disabled_at, hook.disabled_because) == (None, "")
    assert "Nothing is sent to this webhook" not in visit(f"webhooks/{hook.public_id}").content.decode()


def test_a_message_is_sent_again_by_a_person_who_is_kept(acme, people, as_role):
    hook, _ = endpoints.create(acme.workspace, "https://1.1.1.1/hooks", [], actor=ACTOR)
    message = deliveries.send_test(hook)
    type(message).objects.update(state="failed")
    assert as_role("admin")(f"webhooks/{hook.public_id}/messages/{message.public_id}/again", {}).status_code == 302
    assert AuditEvent.objects.get(action="webhook.sent_again").actor == f"user:{people['admin'].user.get_username()}"


def test_a_test_is_not_sent_while_another_one_waits(acme, as_role):
    hook, _ = endpoints.create(acme.workspace, "https://1.1.1.1/hooks", [], actor=ACTOR)
    visit = as_role("admin")
    for told in ("A test is on its way. Load", "A test is on its way already. Load"):
        assert visit(f"webhooks/{hook.public_id}/test", {}).status_code == 302
        assert told in visit(f"webhooks/{hook.public_id}").content.decode()
    assert hook.deliveries.count() == 1
