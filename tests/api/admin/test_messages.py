"""What workspaces were told, in the staff admin: notices, webhooks, and the messages that went to them."""

from __future__ import annotations

import csv
import io
from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from billing import apikeys
from billing.models import AuditEvent, Notice, WebhookDelivery, WebhookEndpoint
from billing.notices import publish
from billing.webhooks import deliveries, endpoints
from tests.api.admin.pages import XSS, text_of, url
from tests.worlds import ACTOR, World, make_member

pytestmark = pytest.mark.django_db

PAGE = 50
TOLD = (Notice, WebhookEndpoint, WebhookDelivery)


def hook_of(world: World, path: str = "") -> WebhookEndpoint:
    return endpoints.create(world.workspace, f"https://1.1.1.1/{path}", [], actor=ACTOR)[0]


def message_to(hook: WebhookEndpoint, number: int = 0, **fields) -> WebhookDelivery:
    at = timezone.now() - timedelta(minutes=number)
    values = {
        "message_id": f"msg_{hook.pk}_{number}",
        "kind": "credits.low",
        "body": '{"type":"credits.low"}',
        "created_at": at,
    }
    return WebhookDelivery.objects.create(endpoint=hook, **values | fields)


def shown(response) -> list[object]:
    return list(response.context["cl"].result_list)


def test_a_notice_is_read_with_whom_it_is_about(staff, acme, rival):
    member = make_member(acme.workspace, "developer", username="grace")
    data = {"id": "key_1", "hint": "inf_...abcd"}
    kind = Notice.Kind.KEY_CREATED
    notice = publish(acme.workspace, kind, title="The key ci was made", text="By ben.", data=data, owner_id=member.pk)
    other = publish(rival.workspace, Notice.Kind.CREDITS_LOW, title="Low", text="", data={})
    page = text_of(staff.get(url(notice, "change")))
    for told in ("The key ci was made", "By ben.", "inf_...abcd", "grace", "Key made"):
        assert told in page
    assert shown(staff.get(url(Notice), {"q": notice.public_id})) == [notice]
    assert other in shown(staff.get(url(Notice), {"q": rival.workspace.public_id}))
    assert notice not in shown(staff.get(url(Notice), {"q": rival.workspace.public_id}))
    assert shown(staff.get(url(Notice), {"kind__exact": "credits.low"})) == [other]
    assert notice in shown(staff.get(url(Notice), {"workspace__id__exact": acme.workspace.pk}))
    assert staff.get(url(notice, "its_messages"))["location"].endswith(f"/webhookdelivery/?q={notice.public_id}")


def test_messages_are_found_by_message_webhook_and_workspace_and_filtered(staff, acme, rival):
    mine, theirs = hook_of(acme), hook_of(rival)
    failed, waiting = message_to(mine, state="failed", last_status=500), message_to(mine, 1, last_error="no answer")
    other = message_to(theirs, state="delivered")
    for query, rows in (
        ({"q": failed.message_id}, [failed]),
        ({"q": failed.public_id}, [failed]),
        ({"q": mine.public_id}, [failed, waiting]),
        ({"q": rival.workspace.public_id}, [other]),
        ({"q": failed.message_id[:-1]}, []),
        ({"state__exact": "waiting"}, [waiting]),
        ({"endpoint__workspace__id__exact": rival.workspace.pk}, [other]),
    ):
        assert shown(staff.get(url(WebhookDelivery), query)) == rows, query
    page = text_of(staff.get(url(WebhookDelivery)))
    assert "no answer" in page
    assert "500" in page
    assert staff.get(url(mine, "its_messages"))["location"].endswith(f"?q={mine.public_id}")


@pytest.mark.parametrize("model", TOLD)
def test_a_list_goes_on_from_a_row_and_asks_no_more_queries_for_more_rows(staff, acme, model, django_assert_max_num_queries):
    hook = hook_of(acme)
    for number in range(PAGE + 5):
        publish(acme.workspace, Notice.Kind.CREDITS_LOW, title=f"Low {number}", text="", data={})
        message_to(hook, number)
        WebhookEndpoint.objects.create(workspace=acme.workspace, url="https://1.1.1.1/", secret="-")
    with django_assert_max_num_queries(14):
        first = staff.get(url(model))
    second = staff.get(url(model) + first.context["cl"].older)
    rows = [row.pk for row in (*shown(first), *shown(second))]
    assert len(shown(first)) == PAGE
    assert sorted(rows) == sorted(model.objects.values_list("pk", flat=True))
    with django_assert_max_num_queries(14):
        assert staff.get(url(shown(first)[0], "change")).status_code == 200


def test_states_of_webhooks_are_told_in_a_word(staff, acme):
    now = timezone.now()
    for path, fields in (
        ("works", {}),
        ("fails", {"failing_since": now}),
        ("is-off", {"failing_since": now, "disabled_at": now}),
        ("is-gone", {"disabled_at": now, "removed_at": now}),
    ):
        WebhookEndpoint.objects.filter(pk=hook_of(acme, path).pk).update(**fields)
    text = staff.get(reverse("admin:billing_webhookendpoint_export")).content.decode()
    assert [row["State"] for row in csv.DictReader(io.StringIO(text))] == ["removed", "disabled", "failing", "active"]
    assert {row["Host"] for row in csv.DictReader(io.StringIO(text))} == {"1.1.1.1"}
    assert len(shown(staff.get(url(WebhookEndpoint), {"disabled_at__isempty": "0"}))) == 2


def test_no_page_has_a_secret(staff, acme):
    hook, secret = endpoints.create(acme.workspace, "https://1.1.1.1/hooks", [], actor=ACTOR)
    message = deliveries.send_test(hook)
    _, key_text = apikeys.mint(acme.workspace, "ci", actor=ACTOR)
    rows = [hook, message, *Notice.objects.all()]
    pages = [url(row, page) for row in rows for page in ("change", "history")]
    pages += [url(hook, "disable"), url(message, "send_again"), *map(url, TOLD)]
    pages += [reverse(f"admin:billing_{model._meta.model_name}_export") for model in TOLD]
    for page in pages:
        content = staff.get(page).content.decode()
        for told in (secret, secret.removeprefix("whsec_"), hook.secret, key_text):
            assert told not in content, page


def test_what_others_wrote_is_shown_as_text(staff, acme):
    notice = publish(acme.workspace, Notice.Kind.KEY_CREATED, title=XSS, text=XSS, data={XSS: XSS}, place=XSS)
    hook = hook_of(acme)
    WebhookEndpoint.objects.update(url=f"https://[{XSS}", kinds=[XSS], disabled_because=XSS)
    message = message_to(hook, message_id=notice.public_id, kind=XSS[:24], body=XSS, last_error=XSS)
    acme.workspace.name = XSS
    acme.workspace.save()
    pages = [url(row, "change") for row in (notice, hook, message)] + [url(hook, "disable"), url(message, "send_again")]
    for page in (*pages, *map(url, TOLD)):
        content = staff.get(page).content.decode()
        assert "<img src=x" not in content, page
        assert "&lt;img src=x" in content, page


# Acts


def test_what_failed_is_sent_again_and_the_act_is_kept(staff, acme):
    message = message_to(hook_of(acme), state="failed", attempts=7, last_status=500)
    assert "after 7 tries" in text_of(staff.get(url(message, "send_again")))
    message.refresh_from_db()
    assert message.state == "failed", "a link sends nothing"
    assert "is sent again" in text_of(staff.post(url(message, "send_again"), follow=True))
    message.refresh_from_db()
    assert (message.state, message.attempts) == ("waiting", 0)
    event = AuditEvent.objects.get(action="webhook.sent_again")
    assert (event.actor, event.workspace, event.details["message"]) == ("staff:ada", acme.workspace, message.message_id)
    again = staff.post(url(message, "send_again"))
    assert (again.status_code, AuditEvent.objects.filter(action="webhook.sent_again").count()) == (400, 1)
    assert "Only what failed is sent again" in text_of(again)


@pytest.mark.parametrize("field", ["disabled_at", "removed_at"])
def test_nothing_is_sent_again_to_a_webhook_that_takes_nothing(staff, acme, field):
    hook = hook_of(acme)
    message = message_to(hook, state="failed")
    WebhookEndpoint.objects.filter(pk=hook.pk).update(**{field: timezone.now()})
    assert staff.post(url(message, "send_again")).status_code == 400
    message.refresh_from_db()
    assert message.state == "failed"


def test_a_webhook_is_disabled_for_a_reason_that_its_workspace_reads(staff, acme):
    hook = hook_of(acme, "hooks")
    assert staff.post(url(hook, "disable"), {"reason": ""}).status_code == 400
    hook.refresh_from_db()
    assert hook.disabled_at is None
    assert "is disabled" in text_of(staff.post(url(hook, "disable"), {"reason": "It floods a third party"}, follow=True))
    hook.refresh_from_db()
    assert hook.disabled_at is not None
    assert hook.disabled_because == "It floods a third party."
    event = AuditEvent.objects.get(action="webhook.disabled")
    assert (event.actor, event.target, event.reason) == ("staff:ada", hook.public_id, "It floods a third party.")
    notice = Notice.objects.get(kind=Notice.Kind.WEBHOOK_DISABLED)
    assert (notice.workspace, notice.place) == (acme.workspace, f"webhooks/{hook.public_id}")
    assert notice.text == (
        "https://1.1.1.1/hooks was disabled. It floods a third party. Nothing is sent to it until it is enabled again."
    )
    again = staff.post(url(hook, "disable"), {"reason": "again"})
    assert (again.status_code, Notice.objects.filter(kind=Notice.Kind.WEBHOOK_DISABLED).count()) == (400, 1)
    assert "It takes nothing already" in text_of(again)
