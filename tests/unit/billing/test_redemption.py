"""Redemption codes: who may issue how many, and that each gives its credit once, whoever asks at once."""

import threading
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group, User
from django.db import IntegrityError, connections, transaction
from django.utils import timezone

from billing import crediting, redemption, roles
from billing.crediting import NotYours
from billing.ledger.reconcile import reconcile
from billing.ledger.transfers import TransferError
from billing.models import Account, AuditEvent, CodeBatch, Entry, Redemption, RedemptionCode
from billing.pricing import MICROCREDITS_PER_CREDIT
from billing.redemption import CodeRefused, Issue, TooManyWrongCodes, redeem
from tests.worlds import ACTOR, make_world

pytestmark = pytest.mark.django_db

CREDIT = MICROCREDITS_PER_CREDIT
UNKNOWN = "ABCDE-ABCDE-ABCDE-ABCDE"


def person(name, role="finance"):
    roles.sync()
    user = User.objects.create_user(name, is_staff=True)
    user.groups.set(Group.objects.filter(name=role))
    return user


def wanted(credits=10, **values):
    defaults = {"kind": Entry.Kind.TOP_UP, "count": 1, "max_uses": 1, "reason": "sold by hand", "token": str(len(values))}
    return Issue(amount_microcredits=int(credits * CREDIT), **defaults | values)


def issued(credits=10, by="finn", **values):
    """The batch and the only text."""
    user = User.objects.filter(username=by).first() or person(by)
    batch, texts = redemption.issue(wanted(credits, token=f"{CodeBatch.objects.count()}", **values), person=user)
    return batch, texts[0]


def balance(world):
    return Account.objects.get(workspace=world.workspace).posted_microcredits


def test_a_code_gives_its_credit_once_and_the_books_say_by_which(acme):
    batch, text = issued(12.5)
    made = redeem(acme.workspace, f"  {text.lower()} ", actor="user:olga")
    assert balance(acme) == 1_012_500_000
    entry = made.entry
    assert (entry.kind, entry.actor, entry.reason) == ("top_up", "user:olga", f"Code …{text[-4:]}")
    assert AuditEvent.objects.get(action="credits.top_up", details__entry=entry.pk).actor == "user:olga"
    with pytest.raises(CodeRefused, match="has used this code already"):
        redeem(acme.workspace, text, actor=ACTOR)
    assert (batch.codes.get().uses, Redemption.objects.count()) == (1, 1)
    assert text not in str(list(RedemptionCode.objects.values())) + str(list(AuditEvent.objects.values()))


def test_letters_that_look_like_digits_are_the_digits(acme):
    _, text = issued()
    redeem(acme.workspace, text.replace("0", "O").replace("1", "l").replace("-", " "), actor=ACTOR)
    assert balance(acme) == 1010 * CREDIT


@pytest.mark.parametrize("text", ["", "ABCDE", UNKNOWN + "X", "ABCDE-ABCDE-ABCDE-ABCDU", "é" * 20, "x" * 5000, "\0" * 20])
def test_what_is_no_code_is_told_so_and_is_no_guess(acme, text):
    with pytest.raises(CodeRefused, match="four groups of five"):
        redeem(acme.workspace, text, actor=ACTOR)
    assert not AuditEvent.objects.filter(action="code.refused").exists()


def test_why_a_code_gives_nothing(acme, broke, rival):
    ended, text = issued(expires_at=timezone.now() + timedelta(hours=1))
    CodeBatch.objects.filter(pk=ended.pk).update(expires_at=timezone.now())
    with pytest.raises(CodeRefused, match="ended on"):
        redeem(acme.workspace, text, actor=ACTOR)
    batch, text = issued()
    redeem(acme.workspace, text, actor=ACTOR)
    with pytest.raises(CodeRefused, match="was used already"):
        redeem(broke.workspace, text, actor=ACTOR)
    batch, text = issued(max_uses=2)
    redeem(acme.workspace, text, actor=ACTOR)
    redemption.withdraw(batch, person=User.objects.get(), reason="sent to the wrong people")
    with pytest.raises(CodeRefused, match="withdrawn"):
        redeem(rival.workspace, text, actor=ACTOR)
    batch, text = issued(max_uses=2)
    redemption.withdraw_code(batch.codes.get(), person=User.objects.get(), reason="leaked")
    with pytest.raises(CodeRefused, match="withdrawn"):
        redeem(rival.workspace, text, actor=ACTOR)
    assert (balance(broke), balance(rival)) == (0, 1000 * CREDIT)


def test_after_ten_wrong_codes_even_a_right_one_has_to_wait(acme, rival):
    _, text = issued()
    for _ in range(10):
        with pytest.raises(CodeRefused, match="not known"):
            redeem(acme.workspace, UNKNOWN, actor="user:eve")
    for world, actor in ((acme, "user:olga"), (rival, "user:eve")):
        with pytest.raises(TooManyWrongCodes):
            redeem(world.workspace, text, actor=actor)
    redeem(rival.workspace, text, actor="user:robin")
    AuditEvent.objects.filter(action="code.refused").update(created_at=timezone.now() - timedelta(hours=1))
    with pytest.raises(CodeRefused, match="used already"):
        redeem(acme.workspace, text, actor="user:eve")


# Staff


def test_what_is_issued_counts_against_the_day_of_whoever_issues_it(db):
    ben = person("ben", "support")
    redemption.issue(wanted(20, kind=Entry.Kind.GRANT, count=5, max_uses=4), person=ben)
    assert crediting.left_today(ben) == 100 * CREDIT
    with pytest.raises(NotYours, match="100 more today"):
        redemption.issue(wanted(51, kind=Entry.Kind.GRANT, count=2, token="more"), person=ben)
    with pytest.raises(NotYours, match="your role"):
        redemption.issue(wanted(1, token="paid"), person=ben)


@pytest.mark.parametrize(
    "values",
    [
        {"credits": 0},
        {"credits": -1},
        {"count": 0},
        {"count": 501},
        {"max_uses": 0},
        {"max_uses": 1_000_001},
        {"reason": " "},
        {"expires_at": timezone.now()},
        {"credits": 9_000_000, "count": 500, "max_uses": 1_000_000},
    ],
)
def test_what_cannot_be_issued(db, values):
    finn = person("finn")
    with pytest.raises(TransferError):
        redemption.issue(wanted(**values), person=finn)
    assert not CodeBatch.objects.exists()


def test_a_form_sent_twice_issues_once(db):
    finn = person("finn")
    redemption.issue(wanted(token="t"), person=finn)
    with pytest.raises(TransferError, match="sent before"):
        redemption.issue(wanted(token="t"), person=finn)
    assert RedemptionCode.objects.count() == 1


def test_much_is_good_only_when_a_second_person_agreed(acme):
    batch, text = issued(60, count=100)
    assert batch.state == "open"
    with pytest.raises(CodeRefused, match="not good yet"):
        redeem(acme.workspace, text, actor=ACTOR)
    finn, fay = User.objects.get(), person("fay")
    for nobody in (finn, person("ben", "support")):
        with pytest.raises(NotYours):
            redemption.approve(batch, person=nobody)
    redemption.approve(batch, person=fay)
    redeem(acme.workspace, text, actor=ACTOR)
    assert balance(acme) == 1060 * CREDIT
    with pytest.raises(TransferError, match="issued"):
        redemption.refuse(batch, person=fay, reason="too late")
    assert [event.action for event in AuditEvent.objects.filter(action__startswith="codes.").order_by("pk")] == [
        "codes.ordered",
        "codes.approved",
    ]


def test_a_refused_batch_gives_its_day_back(acme):
    batch, text = issued(60, count=100)
    finn = User.objects.get()
    redemption.refuse(batch, person=finn, reason="a slip")
    assert crediting.left_today(finn) == 100_000 * CREDIT
    with pytest.raises(CodeRefused, match="withdrawn"):
        redeem(acme.workspace, text, actor=ACTOR)


@pytest.mark.parametrize("change", [{"uses": 2}, {"digest": "x"}])
def test_the_database_refuses_what_the_services_would_not_do(db, change):
    batch, _ = issued()
    with pytest.raises(IntegrityError), transaction.atomic():
        batch.codes.update(**change)


# At once


def at_once(calls):
    """What each call gave or raised, all having begun together."""
    start, outcomes = threading.Barrier(len(calls)), []

    def run(call):
        start.wait()
        try:
            outcomes.append(call())
        except CodeRefused as refusal:
            outcomes.append(refusal)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


@pytest.mark.django_db(transaction=True)
def test_a_workspace_redeems_a_code_once_however_many_ask_at_once():
    world = make_world("Acme", credits=0)
    batch, text = issued(10, max_uses=5)
    outcomes = at_once([lambda: redeem(world.workspace, text, actor=ACTOR)] * 6)
    assert sum(isinstance(outcome, Redemption) for outcome in outcomes) == 1
    assert (balance(world), batch.codes.get().uses) == (10 * CREDIT, 1)
    assert reconcile() == []


@pytest.mark.django_db(transaction=True)
def test_of_many_workspaces_at_once_as_many_get_a_code_as_it_has_uses():
    worlds = [make_world(f"World {number}", credits=0) for number in range(6)]
    batch, text = issued(10, max_uses=2)
    calls = [lambda world=world: redeem(world.workspace, text, actor=ACTOR) for world in worlds]
    outcomes = at_once(calls)
    assert sum(isinstance(outcome, Redemption) for outcome in outcomes) == 2
    assert sorted(balance(world) for world in worlds) == [0, 0, 0, 0, 10 * CREDIT, 10 * CREDIT]
    assert batch.codes.get().uses == 2
