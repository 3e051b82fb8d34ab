"""Webhooks with a real receiver: what is signed, who is dialled, what is tried again, and when it ends."""

import asyncio
import base64
import hashlib
import hmac
import json
import threading
import time
from datetime import timedelta

import pytest
from allauth.account.models import EmailAddress
from django.core import mail
from django.core.exceptions import ValidationError
from django.db import connection
from django.utils import timezone
from django_tasks_db.models import DBTaskResult

from billing import courier
from billing.alerts import spreading
from billing.housekeeping import purge
from billing.models import AuditEvent, Notice, WebhookDelivery, WebhookEndpoint
from billing.notices import publish
from billing.proving import DailyProof
from billing.webhooks import deliveries, endpoints
from billing.webhooks.signing import headers
from tests.fakes.receiver import Receiver
from tests.worlds import ACTOR, make_member

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def receiver(settings):
    with Receiver() as running:
        settings.WEBHOOK_NETWORKS = ["127.0.0.0/8"]
        settings.WEBHOOK_PORTS = [80, 443, running.port]
        yield running


def publish_low(world):
    data = {"balance_credits": "9", "threshold_credits": "10"}
    return publish(world.workspace, Notice.Kind.CREDITS_LOW, title="Low", text="", data=data)


def deliver():
    """All that is due now, as housekeeping and courier do it."""
    spreading.spread()
    DBTaskResult.objects.filter(status="READY").update(run_after=timezone.now())
    courier.new_worker().run()


def with_courier(work, settings):
    """Does the blocking work on a thread while the courier of a serving process runs."""
    settings.TASKS_EVERY_S = 0.05

    def done():
        try:
            work()
        finally:
            connection.close()

    async def main():
        running = courier.Courier()
        await running.start()
        try:
            await asyncio.to_thread(done)
        finally:
            await running.stop()

    asyncio.run(main())


def wait_until(is_true, most_s=60):
    deadline = time.monotonic() + most_s
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_signature_is_that_of_the_standard():
    """The example of the specification."""
    secret, body = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b'{"test": 2432232314}'
    signed = dict(headers(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body))
    assert signed["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_notice_arrives_signed_and_once(acme, rival, receiver):
    endpoint, secret = endpoints.create(acme.workspace, receiver.url, [], actor=ACTOR)
    assert secret not in str(list(WebhookEndpoint.objects.values())) + str(list(AuditEvent.objects.values()))
    spreading.spread()  # what was told before there was a webhook
    WebhookDelivery.objects.all().delete()
    notice = publish_low(acme)
    publish_low(rival)
    deliver()
    deliver()
    ((sent, body),) = receiver.got
    assert json.loads(body) == {
        "type": "credits.low",
        "timestamp": json.loads(body)["timestamp"],
        "data": {
            "workspace_id": acme.workspace.public_id,
            "title": "Low",
            "balance_credits": "9",
            "threshold_credits": "10",
        },
    }
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = b".".join((sent["webhook-id"].encode(), sent["webhook-timestamp"].encode(), body))
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert sent["webhook-signature"] == f"v1,{expected}"
    assert sent["x-infery-signature"] == hmac.new(key, body, hashlib.sha256).hexdigest()
    assert sent["webhook-id"] == notice.public_id
    assert abs(int(sent["webhook-timestamp"]) - time.time()) < 30
    assert (sent["content-type"], sent["host"]) == ("application/json", f"127.0.0.1:{receiver.port}")
    row = endpoint.deliveries.get()
    assert (row.state, row.attempts, row.last_status) == ("delivered", 1, 204)


def test_an_endpoint_gets_the_kinds_that_it_asked_for(acme, receiver):
    endpoints.create(acme.workspace, receiver.url, ["key.created"], actor=ACTOR)
    publish_low(acme)
    publish(acme.workspace, Notice.Kind.KEY_CREATED, title="Made", text="", data={})
    spreading.spread()
    assert set(WebhookDelivery.objects.values_list("kind", flat=True)) == {"key.created"}


@pytest.mark.slow
@pytest.mark.parametrize("status", [302, 404, 500])
def test_what_is_not_taken_is_sent_again_later_and_for_less_than_a_day(acme, receiver, status):
    endpoint, _ = endpoints.create(acme.workspace, receiver.url, ["credits.low"], actor=ACTOR)
    publish_low(acme)
    receiver.status = status
    waits = []
    for _ in range(8):
        deliver()
        row = endpoint.deliveries.get()
        waits.append(row.next_at and round((row.next_at - row.last_at).total_seconds() / 60))
    assert waits == [1, 5, 30, 120, 360, 720, None, None]
    assert (row.state, row.attempts, row.last_status, len(receiver.got)) == ("failed", 7, status, 7)
    assert len({sent["webhook-id"] for sent, _ in receiver.got}) == 1
    assert len({body for _, body in receiver.got}) == 1
    receiver.status = 200
    assert deliveries.send_again(row, actor=ACTOR)
    deliver()
    endpoint.refresh_from_db()
    assert (endpoint.deliveries.get().state, endpoint.failing_since) == ("delivered", None)
    assert not deliveries.send_again(row, actor=ACTOR)


def test_an_endpoint_that_takes_nothing_for_three_days_is_disabled_and_told_by_mail(acme, receiver):
    admin = make_member(acme.workspace, "admin")
    EmailAddress.objects.create(user=admin.user, email="admin@acme.example", verified=True, primary=True)
    endpoint, _ = endpoints.create(acme.workspace, receiver.url, ["credits.low"], actor=ACTOR)
    receiver.status = 500
    publish_low(acme)
    deliver()
    endpoint.refresh_from_db()
    assert endpoint.disabled_at is None
    assert endpoint.failing_since is not None
    WebhookEndpoint.objects.update(failing_since=timezone.now() - timedelta(days=3))
    mail.outbox.clear()
    deliver()
    endpoint.refresh_from_db()
    assert endpoint.disabled_at is not None
    deliver()
    (message,) = mail.outbox
    assert (message.subject, message.to) == ("A webhook was disabled", ["admin@acme.example"])
    publish_low(acme)
    asked = len(receiver.got)
    deliver()
    assert len(receiver.got) == asked
    endpoints.enable(endpoint, actor=ACTOR)
    receiver.status = 200
    publish_low(acme)
    deliver()
    assert len(receiver.got) == asked + 1


def test_an_endpoint_that_is_gone_is_disabled_at_once(acme, receiver):
    endpoint, _ = endpoints.create(acme.workspace, receiver.url, [], actor=ACTOR)
    receiver.status = 410
    publish_low(acme)
    deliver()
    endpoint.refresh_from_db()
    assert endpoint.disabled_at is not None


def test_a_test_is_sent_once_whatever_comes_of_it(acme, receiver):
    endpoint, _ = endpoints.create(acme.workspace, receiver.url, ["key.revoked"], actor=ACTOR)
    receiver.status = 500
    deliveries.send_test(endpoint)
    deliver()
    row = endpoint.deliveries.get()
    endpoint.refresh_from_db()
    assert (row.kind, row.state, row.last_status, endpoint.failing_since) == ("webhook.test", "failed", 500, None)


def test_a_message_whose_task_failed_gets_another_one_once(acme, receiver):
    """As when the database is locked for too long: the row of the message knows nothing of it."""
    endpoint, _ = endpoints.create(acme.workspace, receiver.url, ["credits.low"], actor=ACTOR)
    for _ in range(3):
        publish_low(acme)
    spreading.spread()
    lost, young, coming = endpoint.deliveries.order_by("pk")
    tasks = DBTaskResult.objects.filter(task_path__endswith="send_webhook")
    tasks.exclude(args_kwargs={"args": [coming.pk], "kwargs": {}}).update(status="FAILED")
    endpoint.deliveries.exclude(pk=young.pk).update(next_at=timezone.now() - timedelta(minutes=6))
    start, resumed = threading.Barrier(2), []

    def resume():
        start.wait()
        try:
            resumed.append(deliveries.resume_lost())
        finally:
            connection.close()

    threads = [threading.Thread(target=resume) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(resumed) == [0, 1]
    deliver()
    assert set(endpoint.deliveries.values_list("pk", "state")) == {
        (lost.pk, "delivered"),
        (young.pk, "waiting"),
        (coming.pk, "delivered"),
    }
    endpoint.deliveries.filter(pk=young.pk).update(next_at=timezone.now() - timedelta(minutes=6))
    assert purge({}, DailyProof()).failed == ()
    deliver()
    assert (endpoint.deliveries.filter(state="delivered").count(), len(receiver.got)) == (3, 3)


def test_a_secret_that_does_not_open_is_a_failure_of_the_message(acme, receiver, settings):
    endpoint, _ = endpoints.create(acme.workspace, receiver.url, ["credits.low"], actor=ACTOR)
    publish_low(acme)
    ring, settings.FIELD_ENCRYPTION_KEYS = settings.FIELD_ENCRYPTION_KEYS, ["another ring"]
    deliver()
    row = endpoint.deliveries.get()
    assert (row.state, row.attempts, row.last_error) == ("waiting", 1, "nothing can sign it: roll the secret of the webhook")
    settings.FIELD_ENCRYPTION_KEYS = ring
    deliver()
    assert [row.state for row in endpoint.deliveries.all()] == ["delivered"]


def test_a_second_test_waits_for_the_first(acme, receiver):
    endpoint, _ = endpoints.create(acme.workspace, receiver.url, ["credits.low"], actor=ACTOR)
    other, _ = endpoints.create(acme.workspace, receiver.url, ["credits.low"], actor=ACTOR)
    deliveries.send_test(endpoint)
    with pytest.raises(ValidationError, match="on its way already"):
        deliveries.send_test(endpoint)
    deliveries.send_test(other)
    deliver()
    deliveries.send_test(endpoint)
    deliver()
    assert len(receiver.got) == 3


def test_a_silent_endpoint_delays_only_its_own_messages(acme, rival, receiver, settings):
    """Those of others are sent while it says nothing, and so are mails."""
    admin = make_member(rival.workspace, "admin")
    EmailAddress.objects.create(user=admin.user, email="admin@rival.example", verified=True, primary=True)
    with Receiver() as silent:
        silent.speaks.clear()
        settings.WEBHOOK_PORTS = [*settings.WEBHOOK_PORTS, silent.port]
        for _ in range(4):
            endpoints.create(acme.workspace, silent.url, ["credits.low"], actor=ACTOR)
        endpoints.create(rival.workspace, receiver.url, ["credits.low"], actor=ACTOR)
        for _ in range(3):
            publish_low(acme)
        spreading.spread()

        def work():
            try:
                wait_until(lambda: silent.got)
                for _ in range(3):
                    publish_low(rival)
                spreading.spread()
                # Before the silent one counts as gone, after ten seconds.
                wait_until(lambda: len(receiver.got) == 3 and mail.outbox, most_s=8)
                assert len(silent.got) == 1, "one message of a workspace at a time"
            finally:
                silent.speaks.set()
            wait_until(lambda: len(silent.got) == 12)
            wait_until(lambda: not WebhookDelivery.objects.exclude(state="delivered").exists())

        with_courier(work, settings)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/",
        "http://2130706433/",
        "http://localhost/",
        "https://user:secret@example.com/",
        "https://example.com:8443/",
        "ftp://example.com/",
        "example.com",
        "",
        "https://1.1.1.1/" + "x" * 2000,
    ],
)
def test_an_address_that_may_not_be_reached_cannot_be_set(acme, url):
    with pytest.raises(ValidationError):
        endpoints.create(acme.workspace, url, [], actor=ACTOR)
    assert not WebhookEndpoint.objects.exists()


def test_an_address_is_judged_each_time_it_is_dialled(acme, receiver, settings):
    endpoint, _ = endpoints.create(acme.workspace, receiver.url, [], actor=ACTOR)
    settings.WEBHOOK_NETWORKS = []
    publish_low(acme)
    deliver()
    assert receiver.got == []
    assert {row.last_error for row in endpoint.deliveries.all()} == {"the address may not be reached"}


def test_a_removed_endpoint_gets_nothing_not_even_what_waits(acme, receiver):
    endpoint, _ = endpoints.create(acme.workspace, receiver.url, [], actor=ACTOR)
    publish_low(acme)
    spreading.spread()
    endpoints.remove(endpoint, actor=ACTOR)
    deliver()
    assert receiver.got == []
    assert set(endpoint.deliveries.values_list("state", flat=True)) == {"failed"}


def test_a_rolled_secret_signs_from_the_next_message_on(acme, receiver):
    endpoint, first = endpoints.create(acme.workspace, receiver.url, [], actor=ACTOR)
    second = endpoints.roll_secret(endpoint, actor=ACTOR)
    endpoint.refresh_from_db()
    assert first != second == endpoints.secret_of(endpoint)


def test_a_workspace_has_so_many_webhooks_and_their_log_ends(acme, receiver):
    for _ in range(10):
        endpoint, _ = endpoints.create(acme.workspace, receiver.url, [], actor=ACTOR)
    with pytest.raises(ValidationError, match="at most 10"):
        endpoints.create(acme.workspace, receiver.url, [], actor=ACTOR)
    with pytest.raises(ValidationError, match="Choose among"):
        endpoints.update(endpoint, receiver.url, ["weather"], actor=ACTOR)
    deliveries.send_test(endpoint)
    assert deliveries.purge() == 0
    WebhookDelivery.objects.update(created_at=timezone.now() - timedelta(days=31))
    assert deliveries.purge() == 1
