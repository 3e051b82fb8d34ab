"""The daily proof of the books: when it is made, how much it reads, and what it says when something is wrong or in its way."""

from datetime import datetime, timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from billing import audit
from billing.housekeeping import tidy
from billing.ledger.reconcile import prove
from billing.models import Account, AuditEvent, Hold, Workspace
from billing.proving import ACTOR, DailyProof
from billing.sweeping import Sweeper
from chat.observing import observe
from tests.unit.billing.books import admit, open_workspace, with_writer

pytestmark = pytest.mark.django_db(transaction=True)

HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)


@pytest.fixture
def now():
    """Twenty hours after the first booking."""
    open_workspace(100)
    return timezone.now() + 20 * HOUR


def prove_when_due(moment):
    """A look of a process that remembers nothing."""
    return DailyProof().make_if_due(moment)


def proofs():
    """What was read by each proof of housekeeping: all, or since when."""
    events = AuditEvent.objects.filter(action="ledger.reconciled", actor=ACTOR).order_by("pk")
    return [since and datetime.fromisoformat(since) for since in (event.details["since"] for event in events)]


def make_last_one_of(moment):
    """As if the newest proof had been made then, and in no time."""
    newest = AuditEvent.objects.order_by("-pk")[0]
    AuditEvent.objects.filter(pk=newest.pk).update(created_at=moment, details={**newest.details, "took_s": 0})


def proven_at(moment):
    """A pass at this moment that proves the books, and found nothing."""
    count = len(proofs())
    assert prove_when_due(moment) == 0
    assert len(proofs()) == count + 1
    make_last_one_of(moment)


def test_books_without_a_booking_need_no_proof():
    assert prove_when_due(timezone.now() + 999 * HOUR) == 0
    assert proofs() == []


def test_the_first_proof_is_made_before_a_day_is_over_and_reads_all(now):
    assert prove_when_due(now - HOUR) == 0
    assert proofs() == []
    proven_at(now)
    assert proofs() == [None]
    assert prove_when_due(now + 19 * HOUR) == 0
    assert proofs() == [None]


def test_the_next_ones_read_what_came_since_and_after_a_week_all_again(now):
    for day in range(9):
        proven_at(now + day * 21 * HOUR)
    assert proofs() == [None, *[now + day * 21 * HOUR - HOUR for day in range(7)], None]


def break_the_books():
    Account.objects.filter(kind="workspace").update(posted_microcredits=1)


def test_as_long_as_something_is_wrong_all_is_read(now, caplog):
    proven_at(now)
    break_the_books()
    assert prove_when_due(now + 20 * HOUR) == 0  # which a proof of a day cannot see
    make_last_one_of(now + 20 * HOUR)
    found = len(prove(actor="ada"))
    make_last_one_of(now + 20 * HOUR)
    assert found > 0
    assert prove(actor="ada", since=now) == []  # which undoes nothing of what was found
    make_last_one_of(now + 20 * HOUR)
    assert observe(now + 20 * HOUR).proof.violations == found
    assert prove_when_due(now + 21 * HOUR) == 0  # not while that is new
    assert prove_when_due(now + 40 * HOUR) == found
    assert proofs() == [None, now - HOUR, None]
    assert [record.msg["event"] for record in caplog.records if record.levelname == "ERROR"] == ["the books are wrong"] * found


def test_what_a_dead_process_left_open_is_waited_for():
    acme = open_workspace(100)
    with_writer(lambda writer: admit(writer, acme, [1]))
    now = timezone.now() + 20 * HOUR
    Hold.objects.update(lease_expires_at=timezone.now() - SECOND)
    proof = DailyProof()
    assert proof.make_if_due(now) == 0
    assert proofs() == []
    Hold.objects.update(lease_expires_at=timezone.now() + HOUR)  # as if it had been renewed
    assert proof.make_if_due(now) == 0
    assert proofs() == [None]


def test_a_smaller_proof_undoes_nothing_of_what_any_other_found(now):
    proven_at(now)
    break_the_books()
    workspace = Workspace.objects.get()
    Account.objects.filter(workspace=workspace).update(held_microcredits=1)
    found = len(prove(actor="ada", since=now - 99 * HOUR))
    make_last_one_of(now + HOUR)
    Account.objects.filter(workspace=workspace).update(held_microcredits=0)
    assert found > 0
    assert prove(actor="ada", since=now) == []
    make_last_one_of(now + 2 * HOUR)
    assert observe(now + 3 * HOUR).proof.violations == found
    assert prove_when_due(now + 20 * HOUR) > 0
    make_last_one_of(now + 20 * HOUR)
    assert proofs() == [None, None]
    Account.objects.filter(workspace=workspace).update(posted_microcredits=100)
    proven_at(now + 40 * HOUR)
    assert proofs() == [None, None, None]
    assert observe(now + 41 * HOUR).proof.violations == 0
    proven_at(now + 60 * HOUR)
    assert proofs() == [None, None, None, now + 39 * HOUR]


def test_what_staff_prove_counts_if_it_was_all(now):
    prove(actor="ada", workspace=Workspace.objects.get())
    make_last_one_of(now)
    prove(actor="ada", since=now)
    make_last_one_of(now)
    proven_at(now)
    prove(actor="ada")
    make_last_one_of(now + HOUR)
    assert prove_when_due(now + 20 * HOUR) == 0
    proven_at(now + 21 * HOUR)
    assert proofs() == [None, now]


def test_what_keeps_the_books_from_being_read_is_raised_and_not_tried_again_at_once(now):
    proof = DailyProof()
    with transaction.atomic(), pytest.raises(transaction.TransactionManagementError):  # which has no snapshot of its own
        proof.make_if_due(now)
    assert proof.make_if_due(now) == 0
    assert proofs() == []
    proven_at(now)  # by another process


@pytest.mark.parametrize("since", [None, "2026-01-01T00:00:00+00:00"])
def test_a_proof_that_is_still_to_come_was_dated_by_a_wrong_clock(now, since):
    proven_at(now)
    audit.record("ledger.reconciled", actor=ACTOR, details={"violations": 0, "since": since})
    make_last_one_of(now + 10_000 * HOUR)
    proven_at(now + 2 * HOUR)
    assert prove_when_due(now + 3 * HOUR) == 0
    assert proofs()[::2] == [None, None]


def test_how_long_a_proof_took_is_read_once_more(now):
    proven_at(now)
    last = AuditEvent.objects.order_by("-pk")[0]
    last.details["took_s"] = 5000
    last.save()
    proven_at(now + 20 * HOUR)
    assert proofs() == [None, now - 5000 * SECOND - HOUR]


@pytest.mark.usefixtures("now")
def test_a_pass_of_housekeeping_proves_the_books():
    last = timezone.now() - 21 * HOUR
    assert tidy(Sweeper()).failed == ()
    assert proofs() == []
    audit.record("ledger.reconciled", actor=ACTOR, details={"violations": 0, "since": None})
    make_last_one_of(last)
    assert tidy(Sweeper()).failed == ()
    assert proofs() == [None, last - HOUR]
