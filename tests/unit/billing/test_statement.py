"""`manage.py statement`: every entry once, in order, and balances that add up."""

import io
import itertools
import json
from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.management import CommandError, call_command

from billing.expiry import expire_credits
from billing.ledger import transfers
from billing.models import Account, Entry
from billing.moments import moment
from billing.presets import PlanCredits, create_preset
from billing.pricing import credits_text
from billing.quotas import Limits
from billing.renewals import change_plan, renew_plans
from billing.reports.statements import get_balance_before, iter_statement
from tests.records import NOON, add_charge

pytestmark = pytest.mark.django_db


def run(*arguments):
    output = io.StringIO()
    call_command("statement", *arguments, stdout=output)
    return output.getvalue()


def run_json(*arguments):
    return json.loads(run(*arguments, "--json"), parse_float=Decimal)


@pytest.fixture
def moved(acme, rival):
    """1,000 credits topped up now; in March 2026 three charges; a grant, a refund and a correction now; rival moves too."""
    for days, amount in [(0, 147_500), (1, 1), (2, 2_000_000)]:
        add_charge(acme, amount, created_at=NOON + timedelta(days=days), generation=f"chatcmpl-{days}")
    add_charge(rival, 77)
    transfer = {"actor": "ada", "reason": "why\nnot"}
    transfers.grant(acme.workspace, 5, idempotency_key="g", **transfer)
    transfers.refund(acme.workspace, 147_500, idempotency_key="r", generation="chatcmpl-0", **transfer)
    transfers.adjust(acme.workspace, -3_000_000, idempotency_key="a", **transfer)
    return acme


def test_all_entries_in_order_with_the_balance_each_left(moved):
    statement = run_json(moved.workspace.public_id)
    entries = statement["entries"]
    assert [(entry["kind"], entry["amount"]) for entry in entries] == [
        ("top_up", 1000),
        ("usage", Decimal("-0.1475")),
        ("usage", Decimal("-0.000001")),
        ("usage", -2),
        ("grant", Decimal("0.000005")),
        ("refund", Decimal("0.1475")),
        ("adjustment", -3),
    ]
    balance = statement["opening_balance"]
    assert balance == 0
    for entry in entries:
        balance += entry["amount"]
        assert entry["balance"] == balance
    posted = Account.objects.get(workspace=moved.workspace).posted_microcredits
    assert statement["closing_balance"] == balance == Decimal(credits_text(posted))
    assert statement["totals"] == {
        "adjustment": -3,
        "grant": Decimal("0.000005"),
        "refund": Decimal("0.1475"),
        "top_up": 1000,
        "usage": Decimal("-2.147501"),
    }
    assert statement["workspace_id"] == moved.workspace.public_id


def test_a_usage_entry_names_its_generation_and_others_say_why(moved):
    usage, grant = run_json("Acme")["entries"][1], run_json("Acme")["entries"][4]
    assert usage == {
        "created_at": "2026-03-10T12:00:00.000000Z",
        "kind": "usage",
        "amount": Decimal("-0.1475"),
        "balance": Decimal("999.8525"),
        "generation": "chatcmpl-0",
        "actor": "gateway",
        "reason": None,
        "expires_at": None,
    }
    assert (grant["generation"], grant["actor"], grant["reason"]) == (None, "ada", "why\nnot")


def test_a_span_opens_with_what_was_before_it_and_spans_fit_together(moved):
    """The top-up was booked after March, so March opens with nothing."""
    days = [run_json("Acme", "--since", day, "--until", day) for day in ("2026-03-10", "2026-03-11", "2026-03-12")]
    assert [len(day["entries"]) for day in days] == [1, 1, 1]
    for day, following in itertools.pairwise(days):
        assert day["closing_balance"] == following["opening_balance"]
    whole = run_json("Acme", "--since", "2026-03-10", "--until", "2026-03-12")
    assert (whole["opening_balance"], whole["closing_balance"]) == (days[0]["opening_balance"], days[-1]["closing_balance"])
    assert whole["totals"] == {"usage": Decimal("-2.147501")}
    after = run_json("Acme", "--since", "2026-03-13")
    assert after["opening_balance"] == whole["closing_balance"]
    assert run_json("Acme", "--since", "2026-03-12T12:00:00Z", "--until", "2026-03-12T12:00:00Z")["entries"] == []


def test_the_text_is_for_people(moved):
    lines = run("Acme").splitlines()
    assert lines[0] == f"Acme ({moved.workspace.public_id}), in credits"
    assert lines[1].split() == ["opening", "0"]
    assert lines[3].split() == ["2026-03-10T12:00:00.000000Z", "usage", "-0.1475", "999.8525", "chatcmpl-0"]
    assert lines[6].split()[1:] == ["grant", "0.000005", "997.852504", "why", "not"]
    assert lines[9].split() == ["closing", "995.000004"]
    assert lines[10:] == [
        "total of adjustment: -3",
        "total of grant: 0.000005",
        "total of refund: 0.1475",
        "total of top_up: 1000",
        "total of usage: -2.147501",
    ]


def test_plan_credits_their_expiry_and_grants_that_expire_are_shown(broke):
    plan = create_preset("pro", Limits(), actor="ada", plan_credits=PlanCredits(9_000_000))
    change_plan(broke.workspace, plan, NOON)
    grant = {"idempotency_key": "g", "actor": "ada", "reason": "welcome", "expires_at": moment("2999-01-01")}
    transfers.grant(broke.workspace, 5, **grant)
    month_later = moment("2026-04-10")
    renew_plans(month_later)
    expire_credits(month_later)
    entries = run_json("Broke")["entries"]
    assert [(entry["kind"], entry["amount"], entry["balance"], entry["expires_at"]) for entry in entries] == [
        ("plan", 9, 9, "2026-04-10T00:00:00.000000Z"),
        ("grant", Decimal("0.000005"), Decimal("9.000005"), "2999-01-01T00:00:00.000000Z"),
        ("plan", 9, Decimal("18.000005"), "2026-05-10T00:00:00.000000Z"),
        ("expiry", -9, Decimal("9.000005"), None),
    ]
    lines = run("Broke").splitlines()
    assert lines[2].endswith("pro: 2026-03-10 to 2026-04-10 (until 2026-04-10T00:00:00.000000Z)")
    assert lines[5].split()[1:4] == ["expiry", "-9", "9.000005"]
    assert lines[5].endswith(": expired")
    assert lines[7:] == ["total of expiry: -9", "total of grant: 0.000005", "total of plan: 18"]


def test_a_workspace_without_entries(broke):
    assert run_json("Broke") == {
        "workspace_id": broke.workspace.public_id,
        "opening_balance": 0,
        "entries": [],
        "closing_balance": 0,
        "totals": {},
    }


@pytest.mark.parametrize("arguments", [["nobody"], ["Acme", "--since", "x"], ["Acme", "--until", "2026-02-30"]])
def test_what_cannot_be_told_is_refused(acme, arguments):
    with pytest.raises(CommandError, match=r"No workspace|--since and --until"):
        run(*arguments)


def test_the_rows_alone_make_the_statement(moved, django_assert_num_queries):
    since = moment("2026-03-11")
    account = Account.objects.get(workspace=moved.workspace)
    with django_assert_num_queries(1):
        opening = get_balance_before(account, since)
    assert opening == -147_500
    with django_assert_num_queries(1):
        lines = list(iter_statement(account, since=since, until=None, opening_microcredits=opening))
    assert len(lines) == Entry.objects.filter(actor__in=["gateway", "ada", "tests"]).count() - 3
    assert lines[-1].balance_microcredits == account.posted_microcredits


def test_a_statement_of_no_time_is_refused(moved):
    with pytest.raises(CommandError, match="--since must not be after --until"):
        run(moved.workspace.public_id, "--since", "2026-12-02", "--until", "2026-11-30")
