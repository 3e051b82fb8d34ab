"""From figures to mails: whom a notice goes to, that it goes once, and that it is tried again."""

import json
import smtplib
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest
from allauth.account.models import EmailAddress
from django.core import mail
from django.core.exceptions import ValidationError
from django.core.mail.backends.locmem import EmailBackend
from django.utils import timezone
from django_tasks_db.models import DBTaskResult

from billing import budgets, courier
from billing.alerts import spreading
from billing.alerts.judging import Terms
from billing.alerts.mailing import SUBJECTS
from billing.alerts.terms import DEFAULTS, Role, recipients_of, set_terms
from billing.alerts.watching import Watch
from billing.apikeys import mint, revoke
from billing.ledger import transfers
from billing.models import AlertBook, AlertTerms, ApiKey, Budget, Notice
from billing.notices import publish
from billing.workspaces import transfer_credits
from tests.worlds import ACTOR, make_member

# The worker looks after its connection itself, which no test may have open.
pytestmark = pytest.mark.django_db(transaction=True)

CREDIT = 1_000_000


class Refusing(EmailBackend):
    """A mail server that is busy."""

    def send_messages(self, messages):
        raise smtplib.SMTPServerDisconnected


def person(world, role, *, is_verified=True):
    member = make_member(world.workspace, role)
    email = f"{role}@{world.workspace.name.lower()}.example"
    EmailAddress.objects.create(user=member.user, email=email, verified=is_verified, primary=True)
    return member


def spend(world, credits):
    transfers.adjust(world.workspace, -credits * CREDIT, idempotency_key=f"{credits}", actor=ACTOR, reason="spent")


def deliver():
    """All that is to be sent, as housekeeping and courier do it."""
    spreading.spread()
    courier.new_worker().run()


def sent():
    """Subject and address of each mail, in order."""
    return sorted((message.subject, *message.to) for message in mail.outbox)


def test_a_low_balance_is_mailed_once_to_those_whose_role_may_see_it(acme, settings):
    settings.PUBLIC_URL = "https://gateway.example"
    for role in ("owner", "admin", "developer", "billing", "viewer"):
        person(acme, role)
    watch = Watch()
    assert watch.look() == 0
    spend(acme, 950)
    assert [watch.look(), watch.look()] == [1, 0]
    deliver()
    deliver()
    subject = "Less than 100 credits are left"
    assert sent() == [(subject, f"{role}@acme.example") for role in ("admin", "billing", "owner")]
    body = mail.outbox[0].body
    assert "The balance of Acme is 50 credits." in body
    assert f"https://gateway.example/console/{acme.workspace.public_id}/credits" in body
    spend(acme, 45)
    assert watch.look() == 1


def test_no_mail_goes_to_an_address_that_nobody_proved_or_to_who_has_left(acme):
    person(acme, "owner", is_verified=False)
    gone = person(acme, "billing")
    gone.removed_at = timezone.now()
    gone.save()
    watch = Watch()
    watch.look()
    spend(acme, 950)
    watch.look()
    deliver()
    assert mail.outbox == []


def test_a_developer_is_told_of_his_own_keys_and_budgets_only(acme):
    mine = person(acme, "developer")
    other = make_member(acme.workspace, "developer", username="other")
    EmailAddress.objects.create(user=other.user, email="other@acme.example", verified=True, primary=True)
    key, _ = mint(acme.workspace, "mine", actor=ACTOR)
    ApiKey.objects.filter(pk=key.pk).update(owner=mine)
    budgets.set_budget(key, period=Budget.Period.MONTH, limit_microcredits=10 * CREDIT, actor=ACTOR)
    budgets.set_budget(other, period=Budget.Period.DAY, limit_microcredits=10 * CREDIT, actor=ACTOR)
    Budget.objects.update(spent_microcredits=9 * CREDIT)
    assert Watch().look() == 2
    deliver()
    assert sent() == [
        ("A budget is at 90 % of its limit", "other@acme.example"),
        ("A key is at 80 % of its limit", "developer@acme.example"),
    ]


HOSTILE = "URGENT https://evil.example/x"
FIGURES = {"threshold_credits": "5", "left_credits": "5", "credits": "5", "percent": 80, "deprecated_on": "2030-01-31"}


@pytest.mark.parametrize("kind", Notice.Kind)
def test_no_subject_has_words_that_somebody_chose_and_no_text_a_link_of_them(acme, kind):
    person(acme, "owner")
    acme.workspace.name = HOSTILE
    acme.workspace.save()
    set_terms(acme.workspace, DEFAULTS, {**recipients_of(None), kind: frozenset({Role.OWNER})}, actor=ACTOR)
    data = {**FIGURES, "name": HOSTILE, "model": HOSTILE, "url": HOSTILE, "kind": HOSTILE}
    publish(acme.workspace, kind, title=f"The key {HOSTILE} was made", text=f"By {HOSTILE}.\n\nSee {HOSTILE}", data=data)
    deliver()
    message = mail.outbox[-1]  # of acme's own key there is one before
    assert message.subject == SUBJECTS[kind].format(**FIGURES)
    assert "URGENT" in message.body
    assert "://" not in message.body
    assert "evil.example" not in message.body


def test_what_was_spent_in_a_period_that_is_over_does_not_count(acme):
    budgets.set_budget(acme.workspace, period=Budget.Period.DAY, limit_microcredits=10 * CREDIT, actor=ACTOR)
    Budget.objects.update(spent_microcredits=9 * CREDIT, period_started_at=timezone.now() - timedelta(days=2))
    assert Watch().look() == 0


def test_credit_that_expires_is_told_with_what_is_left_of_it(acme):
    soon = timezone.now() + timedelta(days=3)
    grant = {"actor": ACTOR, "reason": "a test", "expires_at": soon}
    transfers.grant(acme.workspace, 30 * CREDIT, idempotency_key="g", **grant)
    spend(acme, 10)
    Watch().look()
    notice = Notice.objects.latest("pk")
    assert (notice.kind, notice.data["left_credits"], notice.data["kind"]) == ("credits.expiring", "20", "Grant")


def test_a_pass_asks_as_often_for_many_workspaces_as_for_few(acme, rival, broke, django_assert_max_num_queries):
    for world in (acme, rival, broke):
        budgets.set_budget(world.key, period=Budget.Period.MONTH, limit_microcredits=CREDIT, actor=ACTOR)
        transfers.grant(
            world.workspace,
            CREDIT,
            idempotency_key=world.key_text,
            actor=ACTOR,
            reason="a",
            expires_at=timezone.now() + timedelta(days=30),
        )
    Watch().look()
    with django_assert_max_num_queries(8):
        Watch().look()


def test_a_mail_that_cannot_go_out_now_goes_out_later(acme, settings):
    person(acme, "owner")
    watch = Watch()
    watch.look()
    spend(acme, 950)
    watch.look()
    backend = settings.EMAIL_BACKEND
    settings.EMAIL_BACKEND = f"{__name__}.Refusing"
    spreading.spread()
    courier.new_worker().run()
    waiting = DBTaskResult.objects.ready().count(), DBTaskResult.objects.filter(status="READY").count()
    assert (waiting, mail.outbox) == ((0, 1), [])
    DBTaskResult.objects.filter(status="READY").update(run_after=timezone.now())
    settings.EMAIL_BACKEND = backend
    courier.new_worker().run()
    assert [address for _, address in sent()] == ["owner@acme.example"]


class MailService(BaseHTTPRequestHandler):
    """Speaks as a service of mail does, which is away at first."""

    asked: ClassVar[list] = []

    def do_POST(self):
        self.asked.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
        is_away = len(self.asked) == 1
        body = json.dumps([{"ErrorCode": 0, "MessageID": "1", "To": "owner@acme.example", "Message": "OK"}]).encode()
        self.send_response(503 if is_away else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments):
        pass


def test_a_service_of_mail_takes_mail_by_its_api(acme, settings):
    server = ThreadingHTTPServer(("127.0.0.1", 0), MailService)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings.EMAIL_BACKEND = "anymail.backends.postmark.EmailBackend"
    url = f"http://127.0.0.1:{server.server_port}/"
    settings.ANYMAIL = settings.ANYMAIL | {"POSTMARK_SERVER_TOKEN": "secret", "POSTMARK_API_URL": url}
    person(acme, "owner")
    publish(acme.workspace, Notice.Kind.CREDITS_LOW, title="Low\nbalance", text="Less.", data={})
    deliver()
    DBTaskResult.objects.filter(status="READY").update(run_after=timezone.now())
    courier.new_worker().run()
    server.shutdown()
    server.server_close()
    assert len(MailService.asked) == 2
    assert b'"Subject": "Low balance"' in MailService.asked[1][1]
    assert not DBTaskResult.objects.filter(status="READY").exists()


def test_the_task_of_a_killed_process_is_run_by_another(acme):
    person(acme, "owner")
    watch = Watch()
    watch.look()
    spend(acme, 950)
    watch.look()
    spreading.spread()
    DBTaskResult.objects.update(status="RUNNING", started_at=timezone.now() - timedelta(minutes=9))
    courier.tidy()
    courier.new_worker().run()
    assert mail.outbox == []
    DBTaskResult.objects.update(started_at=timezone.now() - timedelta(minutes=11))
    courier.tidy()
    courier.new_worker().run()
    assert len(mail.outbox) == 1
    DBTaskResult.objects.update(finished_at=timezone.now() - timedelta(days=8))
    assert courier.tidy() == 1


def test_keys_and_credit_are_noted_and_old_notices_are_deleted(acme):
    key, text = mint(acme.workspace, "laptop", actor=ACTOR)
    revoke(key, actor=ACTOR)
    transfer_credits(acme.workspace, 5 * CREDIT, kind="top_up", idempotency_key="t", actor=ACTOR, reason="paid")
    kinds = list(Notice.objects.filter(workspace=acme.workspace).order_by("pk").values_list("kind", flat=True))
    assert kinds[-3:] == ["key.created", "key.revoked", "credits.added"]
    assert text not in str(list(Notice.objects.values()))
    deliver()
    assert mail.outbox == []
    assert spreading.purge() == 0
    Notice.objects.update(created_at=timezone.now() - timedelta(days=91))
    assert spreading.purge() == len(kinds)


def test_terms_are_checked_and_kept_with_who_set_them(acme):
    recipients = recipients_of(None)
    set_terms(acme.workspace, Terms((5 * CREDIT, 1), (90,), (), 0), recipients, actor=ACTOR)
    row = AlertTerms.objects.get()
    assert (row.low_balances, row.key_percents, row.expiry_days) == ([1, 5 * CREDIT], [90], 0)
    for terms in (
        Terms((0,), (), (), 0),
        Terms((), (101,), (), 0),
        Terms((), (), (0,), 0),
        Terms((), (), (), 61),
        Terms(tuple(range(1, 10)), (), (), 0),
    ):
        with pytest.raises(ValidationError):
            set_terms(acme.workspace, terms, recipients, actor=ACTOR)
    with pytest.raises(ValidationError, match="may not see"):
        set_terms(acme.workspace, DEFAULTS, recipients | {Notice.Kind.CREDITS_LOW: frozenset({Role.DEVELOPER})}, actor=ACTOR)
    assert not AlertBook.objects.exists()
