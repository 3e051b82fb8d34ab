"""What staff order to be done to credits: limits by role, the second person, refunds of requests."""

import threading
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group, User
from django.db import IntegrityError, connections, transaction
from django.utils import timezone

from billing import crediting, roles
from billing.crediting import Move, NotYours
from billing.ledger.reconcile import reconcile
from billing.ledger.transfers import TransferError
from billing.models import Account, AuditEvent, CreditOrder, Entry
from billing.pricing import MICROCREDITS_PER_CREDIT
from tests.records import add_charge

pytestmark = pytest.mark.django_db

CREDIT = MICROCREDITS_PER_CREDIT


def person(name, role=""):
    roles.sync()
    user = User.objects.create_user(name, is_staff=True, is_superuser=role == "superuser")
    user.groups.set(Group.objects.filter(name=role))
    return user


def move(world, credits, kind=Entry.Kind.GRANT, **values):
    values = {"reason": "a campaign", "token": f"{kind}-{credits}"} | values
    return Move(workspace=world.workspace, kind=kind, amount_microcredits=int(credits * CREDIT), **values)


def balance(world):
    return Account.objects.get(workspace=world.workspace).posted_microcredits


def test_a_small_order_is_booked_at_once_with_entry_and_audit_event(acme):
    ben = person("ben", "support")
    made = crediting.order(move(acme, 20), person=ben)
    assert (made.state, made.decided_by, made.needs_second_person) == ("booked", "staff:ben", False)
    assert (made.entry.amount_microcredits, made.entry.actor, made.entry.reason) == (20 * CREDIT, "staff:ben", "a campaign")
    assert balance(acme) == 1020 * CREDIT
    event = AuditEvent.objects.get(action="credits.grant")
    assert (event.actor, event.reason, event.details["entry"]) == ("staff:ben", "a campaign", made.entry.pk)


def test_a_form_sent_twice_is_one_order_and_with_other_values_none(acme, rival):
    ben = person("ben", "support")
    assert crediting.order(move(acme, 20, token="t"), person=ben) == crediting.order(move(acme, 20, token="t"), person=ben)
    until = timezone.now() + timedelta(days=9)
    for other in (move(acme, 21, token="t"), move(rival, 20, token="t"), move(acme, 20, token="t", expires_at=until)):
        with pytest.raises(TransferError, match="sent before"):
            crediting.order(other, person=ben)
    assert (balance(acme), balance(rival)) == (1020 * CREDIT, 1000 * CREDIT)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("role", "kind", "is_allowed"),
    [
        ("support", "grant", True),
        ("support", "refund", True),
        ("support", "top_up", False),
        ("support", "adjustment", False),
        ("finance", "grant", True),
        ("finance", "refund", True),
        ("finance", "top_up", True),
        ("finance", "adjustment", True),
        ("catalogue", "grant", False),
        ("catalogue", "refund", False),
        ("catalogue", "top_up", False),
        ("catalogue", "adjustment", False),
        ("", "grant", False),
        ("superuser", "adjustment", True),
    ],
)
def test_each_kind_is_of_some_roles(acme, role, kind, is_allowed):
    someone = person("someone", role)
    record = add_charge(acme, CREDIT)
    wanted = move(acme, 1, Entry.Kind(kind), generation=record.generation if kind == "refund" else "")
    if is_allowed:
        crediting.order(wanted, person=someone)
    else:
        with pytest.raises(NotYours):
            crediting.order(wanted, person=someone)
    assert (balance(acme) != 999 * CREDIT) is is_allowed


def test_a_role_moves_so_much_in_a_day_whatever_the_parts(acme, settings):
    ben = person("ben", "support")
    settings.STAFF_LIMIT_CREDITS = {"support": 100}
    with pytest.raises(NotYours, match="100 more credits"):
        crediting.order(move(acme, 100.000001), person=ben)
    crediting.order(move(acme, 60), person=ben)
    with pytest.raises(NotYours, match="40 more credits"):
        crediting.order(move(acme, 41), person=ben)
    crediting.order(move(acme, 40), person=ben)
    with pytest.raises(NotYours, match="0 more credits"):
        crediting.order(move(acme, 0.5), person=ben)
    CreditOrder.objects.update(created_at=timezone.now() - timedelta(days=1))
    crediting.order(move(acme, 100), person=ben)
    assert balance(acme) == 1200 * CREDIT


def test_what_is_taken_away_counts_as_well(acme, settings):
    finn = person("finn", "finance")
    settings.STAFF_LIMIT_CREDITS = {"finance": 100}
    crediting.order(move(acme, -60, Entry.Kind.ADJUSTMENT), person=finn)
    with pytest.raises(NotYours):
        crediting.order(move(acme, 41, Entry.Kind.ADJUSTMENT), person=finn)
    assert balance(acme) == 940 * CREDIT


def test_the_widest_of_several_roles_counts_and_an_inactive_person_has_none(acme):
    ben = person("ben", "support")
    ben.groups.add(Group.objects.get(name="finance"))
    assert roles.limit_of(ben) == 100_000 * CREDIT
    ben.is_active = False
    assert roles.limit_of(ben) == 0


# The second person


def test_a_large_order_waits_for_another_person(acme):
    finn, fay = person("finn", "finance"), person("fay", "finance")
    waiting = crediting.order(move(acme, 5001), person=finn)
    assert (waiting.state, waiting.entry, balance(acme)) == ("open", None, 1000 * CREDIT)
    assert AuditEvent.objects.get(action="credit_order.ordered").actor == "staff:finn"
    with pytest.raises(NotYours, match="yourself"):
        crediting.approve(waiting, person=finn)
    booked = crediting.approve(waiting, person=fay)
    assert (booked.state, booked.decided_by, booked.entry.actor) == ("booked", "staff:fay", "staff:finn")
    assert balance(acme) == 6001 * CREDIT
    assert AuditEvent.objects.get(action="credit_order.approved").actor == "staff:fay"
    for decide in (lambda: crediting.approve(waiting, person=fay), lambda: crediting.refuse(waiting, person=fay, reason="r")):
        with pytest.raises(TransferError, match="decided already"):
            decide()
    assert balance(acme) == 6001 * CREDIT


def test_superusers_need_each_other_too(acme):
    ada, eve = person("ada", "superuser"), person("eve", "superuser")
    waiting = crediting.order(move(acme, 5001), person=ada)
    with pytest.raises(NotYours):
        crediting.approve(waiting, person=ada)
    assert crediting.approve(waiting, person=eve).state == "booked"


def test_the_second_person_s_role_must_allow_as_much(acme, settings):
    settings.STAFF_LIMIT_CREDITS = {"support": 500, "finance": 6000}
    waiting = crediting.order(move(acme, 7000), person=person("ada", "superuser"))
    for someone in (person("ben", "support"), person("fay", "finance")):
        with pytest.raises(NotYours):
            crediting.approve(waiting, person=someone)
    assert balance(acme) == 1000 * CREDIT


def test_a_refused_order_moves_nothing_and_does_not_count(acme, settings):
    settings.STAFF_LIMIT_CREDITS = {"finance": 6000}
    finn, fay = person("finn", "finance"), person("fay", "finance")
    waiting = crediting.order(move(acme, 6000), person=finn)
    assert crediting.left_today(finn) == 0
    refused = crediting.refuse(waiting, person=fay, reason="not agreed")
    assert (refused.state, refused.decision_reason, balance(acme)) == ("refused", "not agreed", 1000 * CREDIT)
    assert crediting.left_today(finn) == 6000 * CREDIT
    assert AuditEvent.objects.get(action="credit_order.refused").reason == "not agreed"


def test_whoever_ordered_may_take_it_back_and_nobody_without_the_right(acme):
    finn, ben = person("finn", "finance"), person("ben", "support")
    waiting = crediting.order(move(acme, 5001), person=finn)
    with pytest.raises(NotYours):
        crediting.refuse(waiting, person=ben, reason="r")
    assert crediting.refuse(waiting, person=finn, reason="a slip").state == "refused"


def test_the_database_refuses_a_booking_without_its_second_person(acme):
    waiting = crediting.order(move(acme, 5001), person=person("ada", "superuser"))
    entry = Entry.objects.first()
    with pytest.raises(IntegrityError), transaction.atomic():
        CreditOrder.objects.filter(pk=waiting.pk).update(
            state="booked", decided_by="staff:ada", decided_at=timezone.now(), entry=entry
        )


# Refunds of requests


def refund(world, credits, record, token):
    return move(world, credits, Entry.Kind.REFUND, generation=record.generation, token=token)


def test_the_refunds_of_a_request_are_never_more_than_its_charge(acme):
    ben = person("ben", "support")
    record = add_charge(acme, 10 * CREDIT)
    assert crediting.refundable(record) == 10 * CREDIT
    with pytest.raises(TransferError, match="10 credits of this request"):
        crediting.order(refund(acme, 10.000001, record, "a"), person=ben)
    made = crediting.order(refund(acme, 7, record, "b"), person=ben)
    assert made.entry.generation == record.generation
    with pytest.raises(TransferError, match="3 credits of this request"):
        crediting.order(refund(acme, 4, record, "c"), person=ben)
    crediting.order(refund(acme, 3, record, "d"), person=ben)
    with pytest.raises(TransferError):
        crediting.order(refund(acme, 0.000001, record, "e"), person=ben)
    assert balance(acme) == 1000 * CREDIT
    assert AuditEvent.objects.filter(action="credits.refund").first().details["generation"] == record.generation


def test_a_refund_that_waits_is_counted_too(acme, settings):
    settings.STAFF_SECOND_PERSON_ABOVE_CREDITS = 5
    record = add_charge(acme, 10 * CREDIT)
    waiting = crediting.order(refund(acme, 8, record, "a"), person=person("ada", "superuser"))
    assert crediting.refundable(record) == 2 * CREDIT
    crediting.refuse(waiting, person=person("eve", "superuser"), reason="r")
    assert crediting.refundable(record) == 10 * CREDIT


BAD = [
    ({"credits": 0}, "cannot be moved"),
    ({"credits": -5}, "cannot be moved"),
    ({"credits": 5, "reason": "  "}, "reason"),
    ({"credits": 5, "expires_at": timezone.now() - timedelta(days=1)}, "future"),
    ({"credits": 5, "kind": Entry.Kind.TOP_UP, "expires_at": timezone.now() + timedelta(days=1)}, "only a grant"),
    ({"credits": 5, "kind": Entry.Kind.USAGE}, "role"),
    ({"credits": 5, "kind": Entry.Kind.REFUND}, "names the request"),
    ({"credits": 5, "kind": Entry.Kind.REFUND, "generation": "chatcmpl-unknown"}, "names the request"),
    ({"credits": -1001, "kind": Entry.Kind.ADJUSTMENT}, "credits are free"),
]


@pytest.mark.parametrize(("values", "words"), BAD, ids=lambda value: str(value)[:40])
def test_orders_that_cannot_be(acme, values, words):
    with pytest.raises(TransferError, match=words):
        crediting.order(move(acme, **values), person=person("ada", "superuser"))
    assert balance(acme) == 1000 * CREDIT
    assert not CreditOrder.objects.exists()


def test_a_request_of_somebody_else_is_not_refunded(acme, rival):
    record = add_charge(rival, 10 * CREDIT)
    with pytest.raises(TransferError, match="names the request"):
        crediting.order(refund(acme, 1, record, "a"), person=person("ada", "superuser"))


@pytest.mark.django_db(transaction=True)
def test_two_refunds_at_once_are_never_more_than_the_charge(acme):
    record = add_charge(acme, 10 * CREDIT)
    people = [person(name, "finance") for name in ("ben", "eve", "fay")]
    barrier = threading.Barrier(len(people))
    ends = []

    def run(someone):
        barrier.wait()
        try:
            crediting.order(refund(acme, 6, record, someone.username), person=someone)
            ends.append("booked")
        except TransferError:
            ends.append("refused")
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(someone,)) for someone in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ends) == ["booked", "refused", "refused"]
    assert balance(acme) == 996 * CREDIT


@pytest.mark.django_db(transaction=True)
def test_of_two_orders_at_once_the_later_one_sees_the_earlier(acme, settings):
    settings.STAFF_LIMIT_CREDITS = {"support": 100}
    ben = person("ben", "support")
    barrier = threading.Barrier(4)
    ends = []

    def run(token):
        barrier.wait()
        try:
            crediting.order(move(acme, 60, token=token), person=ben)
            ends.append("booked")
        except NotYours:
            ends.append("refused")
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(f"t{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ends) == ["booked", "refused", "refused", "refused"]
    assert balance(acme) == 1060 * CREDIT
    assert reconcile() == []
