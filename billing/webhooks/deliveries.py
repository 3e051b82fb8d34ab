"""Messages to webhooks: one row for each, sent by a task, and again after longer and longer waits for most of a day.

An endpoint that took nothing for DISABLE_AFTER is disabled, and so is one that says it is gone (410); who may manage it is
told. A message may arrive twice, when a process is killed while it sends: its id is the same then.

The tasks of each endpoint are a queue of their own, so that `billing.courier` can let workspaces and endpoints take turns.
"""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta
from typing import Final

import msgspec
import structlog
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from django_tasks import task
from django_tasks.base import TaskResultStatus
from django_tasks_db.models import DBTaskResult

from billing import audit
from billing.budgets import lock
from billing.models import Notice, WebhookDelivery, WebhookEndpoint
from billing.models.notices import new_notice_id
from billing.moments import moment_text
from billing.webhooks import endpoints
from billing.webhooks.signing import headers
from infery_site.fetch import AddressRefused, NoAnswer
from infery_site.secretbox import SecretError

log = structlog.get_logger(__name__)

RETRY_AFTER: Final = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 30, 120, 360, 720))
DISABLE_AFTER: Final = timedelta(days=3)
GIVEN_UP: Final = f"It took no message for {DISABLE_AFTER.days} days, or said that it is gone."
KEPT_FOR: Final = timedelta(days=30)
TEST: Final = "webhook.test"
ACTOR: Final = "webhooks"
QUEUE: Final = "webhooks"
"""How the names of the queues begin."""
_GONE: Final = 410
_PURGE_ROWS: Final = 2_000
# A task takes seconds; whoever has this much patience looks for lost ones seldom enough.
_LOST_AFTER: Final = timedelta(minutes=5)
_LOST_ROWS: Final = 500

_State = WebhookDelivery.State
_encode = msgspec.json.Encoder(order="deterministic").encode


def queue(notice: Notice) -> None:
    """A delivery for each endpoint that wants the notice. In the transaction of the caller."""
    for endpoint in endpoints.list_endpoints(notice.workspace).filter(disabled_at__isnull=True):
        if not endpoint.kinds or notice.kind in endpoint.kinds:
            _queue(endpoint, notice.public_id, notice.kind, notice.created_at, {"title": notice.title, **notice.data})


def send_test(endpoint: WebhookEndpoint) -> WebhookDelivery:
    """A message that tells of nothing, for whoever sets up a receiver. Raises ValidationError while another one waits."""
    with transaction.atomic():
        # Of two at once the later one sees the earlier one.
        lock(WebhookEndpoint.objects.filter(pk=endpoint.pk))
        if endpoint.deliveries.filter(kind=TEST, state=_State.WAITING).exists():
            raise ValidationError("A test is on its way already. Load this page again in a moment to see what came of it.")
        return _queue(endpoint, new_notice_id(), TEST, timezone.now(), {"title": "This is a test"})


def send_again(delivery: WebhookDelivery, *, actor: str) -> bool:
    """Try a failed message once more, with all its retries. False if it did not fail, or its endpoint takes nothing."""
    endpoint = delivery.endpoint
    with transaction.atomic():
        if endpoint.disabled_at is not None or endpoint.removed_at is not None:
            return False
        failed = WebhookDelivery.objects.filter(pk=delivery.pk, state=_State.FAILED)
        if not failed.update(state=_State.WAITING, attempts=0, next_at=timezone.now()):
            return False
        details = {"message": delivery.message_id, "kind": delivery.kind}
        audit.record(
            "webhook.sent_again", actor=actor, workspace=endpoint.workspace, target=endpoint.public_id, details=details
        )
        _enqueue(delivery, endpoint)
    return True


def purge() -> int:
    """Delete deliveries that are old enough, a bounded number of them. Gives how many."""
    old = WebhookDelivery.objects.filter(created_at__lt=timezone.now() - KEPT_FOR).order_by("created_at")
    return WebhookDelivery.objects.filter(pk__in=list(old.values_list("pk", flat=True)[:_PURGE_ROWS])).delete()[0]


def resume_lost() -> int:
    """Give a new task to messages that are due for long and have none, because theirs failed. How many, at most so many.

    A task fails when the database is locked for too long, and says nothing in the row of its message then.
    """
    before = timezone.now() - _LOST_AFTER
    due = WebhookDelivery.objects.filter(state=_State.WAITING, next_at__lt=before)
    if not due.exists():
        return 0
    tasks = DBTaskResult.objects.filter(
        task_path=send_webhook.module_path, status__in=[TaskResultStatus.READY, TaskResultStatus.RUNNING]
    )
    is_coming = {arguments["args"][0] for arguments in tasks.values_list("args_kwargs", flat=True)}
    ids = [pk for pk in due.order_by("pk").values_list("pk", flat=True) if pk not in is_coming]
    count = sum(_resume(delivery) for delivery in due.filter(pk__in=ids[:_LOST_ROWS]).select_related("endpoint"))
    if count:
        log.warning("webhook messages whose tasks failed are sent again", count=count)
    return count


def _resume(delivery: WebhookDelivery) -> bool:
    with transaction.atomic():
        # Another process may have done it, or somebody has sent the message again.
        seen = WebhookDelivery.objects.filter(pk=delivery.pk, state=_State.WAITING, next_at=delivery.next_at)
        if not seen.update(next_at=timezone.now()):
            return False
        _enqueue(delivery, delivery.endpoint)
    return True


def _queue(
    endpoint: WebhookEndpoint, message_id: str, kind: str, happened_at: datetime, data: dict[str, object]
) -> WebhookDelivery:
    payload = {
        "type": kind,
        "timestamp": moment_text(happened_at),
        "data": {"workspace_id": endpoint.workspace.public_id, **data},
    }
    delivery = WebhookDelivery.objects.create(
        endpoint=endpoint, message_id=message_id, kind=kind, body=_encode(payload).decode(), next_at=timezone.now()
    )
    _enqueue(delivery, endpoint)
    return delivery


def _enqueue(delivery: WebhookDelivery, endpoint: WebhookEndpoint, run_after: datetime | None = None) -> None:
    lane = f"{QUEUE}-{endpoint.workspace_id}-{endpoint.pk}"
    send_webhook.using(queue_name=lane, run_after=run_after).enqueue(delivery.pk)


@task(queue_name=QUEUE)
def send_webhook(delivery_id: int) -> None:
    """One try. Whatever comes of it stands in the row."""
    rows = WebhookDelivery.objects.select_related("endpoint__workspace")
    delivery = rows.filter(pk=delivery_id, state=_State.WAITING).first()
    if delivery is None:
        return
    endpoint = delivery.endpoint
    if endpoint.disabled_at is not None or endpoint.removed_at is not None:
        _fail(delivery, "the webhook takes nothing any more")
        return
    body = delivery.body.encode()
    status, error = None, ""
    try:
        signed = headers(endpoints.secret_of(endpoint), delivery.message_id, int(time.time()), body)
        status = asyncio.run(endpoints.poster().post(endpoint.url, body, signed))
    except AddressRefused:
        error = "the address may not be reached"
    except NoAnswer:
        error = "no answer within 10 seconds"
    except SecretError:
        log.exception("the secret of a webhook does not open", endpoint=endpoint.public_id)
        error = "nothing can sign it: roll the secret of the webhook"
    _note(delivery, status, error)


def _note(delivery: WebhookDelivery, status: int | None, error: str) -> None:
    now = timezone.now()
    with transaction.atomic():
        endpoint = WebhookEndpoint.objects.select_for_update().get(pk=delivery.endpoint_id)
        delivery.attempts += 1
        delivery.last_status, delivery.last_error, delivery.last_at = status, error, now
        if status is not None and 200 <= status < 300:
            delivery.state, delivery.next_at = _State.DELIVERED, None
            endpoint.failing_since = None
        elif delivery.attempts > len(RETRY_AFTER) or delivery.kind == TEST:
            delivery.state, delivery.next_at = _State.FAILED, None
        else:
            delivery.next_at = now + RETRY_AFTER[delivery.attempts - 1]
            _enqueue(delivery, endpoint, delivery.next_at)
        is_over = False
        if delivery.state != _State.DELIVERED and delivery.kind != TEST:
            endpoint.failing_since = endpoint.failing_since or now
            is_over = status == _GONE or now - endpoint.failing_since >= DISABLE_AFTER
        endpoint.save(update_fields=["failing_since"])
        delivery.save()
        if is_over and endpoints.disable(endpoint, actor=ACTOR, reason=GIVEN_UP):
            log.warning("a webhook was disabled", endpoint=endpoint.public_id)


def _fail(delivery: WebhookDelivery, error: str) -> None:
    failed = {"state": _State.FAILED, "last_error": error, "next_at": None, "last_at": timezone.now()}
    WebhookDelivery.objects.filter(pk=delivery.pk).update(**failed)
