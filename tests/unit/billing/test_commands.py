"""The commands of billing, as a person at a shell sees them."""

import io
import json
from datetime import UTC, datetime

import pytest
from django.core.management import CommandError, call_command

from billing.apikeys import digest_of, parse_authorization
from billing.models import Account, ApiKey, AuditEvent, Entry, QuotaPreset, Workspace

pytestmark = pytest.mark.django_db

# Row 153 of the catalogue of bad input, at the shell.
NOT_AMOUNTS = ["0.0000001", "-1", "1e18", "1000000000000000000", "nan", "inf", "-inf", "", "ten", "1,5", "0x10"]


def run(*arguments):
    output = io.StringIO()
    call_command(*arguments, stdout=output)
    return output.getvalue()


def created(name="acme", *options):
    return json.loads(run("create_workspace", name, "--json", *options).splitlines()[-1])


def test_create_workspace_answers_in_one_line_of_json():
    answer = created("acme", "--credits", "12.5")
    assert answer["workspace_id"] == Workspace.objects.get().public_id
    assert (answer["name"], answer["credits"]) == ("acme", "12.5")
    assert ApiKey.objects.get().digest == digest_of(answer["key"]) == parse_authorization([f"Bearer {answer['key']}"])
    assert Account.objects.get(workspace__name="acme").posted_microcredits == 12_500_000


def test_create_workspace_without_json_prints_the_key_once():
    output = run("create_workspace", "acme")
    key = next(word for word in output.split() if word.startswith("inf_"))
    assert output.count(key) == 1
    assert ApiKey.objects.get().digest == digest_of(key)


def test_a_workspace_may_start_with_nothing():
    assert created("acme", "--credits", "0")["credits"] == "0"
    assert not Entry.objects.exists()


@pytest.mark.parametrize("amount", NOT_AMOUNTS)
def test_create_workspace_refuses_what_is_no_amount(amount):
    with pytest.raises(CommandError, match="not an amount of credits"):
        run("create_workspace", "acme", f"--credits={amount}")
    assert not Workspace.objects.exists()


def test_create_workspace_refuses_an_empty_name():
    with pytest.raises(CommandError, match="name"):
        run("create_workspace", "  ")


def test_mint_key_takes_an_id_or_a_name():
    answer = created()
    for reference in (answer["workspace_id"], "acme"):
        minted = json.loads(run("mint_key", reference, "--name", "laptop", "--json"))
        assert minted["workspace_id"] == answer["workspace_id"]
        assert ApiKey.objects.get(digest=digest_of(minted["key"])).name == "laptop"


@pytest.mark.parametrize("reference", ["nobody", "twin"])
def test_mint_key_refuses_a_workspace_it_cannot_tell(reference):
    created("twin")
    created("twin")
    with pytest.raises(CommandError, match="workspace"):
        run("mint_key", reference)
    assert ApiKey.objects.count() == 2


def test_top_up_adds_at_each_run():
    created()
    assert "balance 1.5" in run("top_up", "acme", "1.5", "--reason", "invoice 7")
    assert "balance 3" in run("top_up", "acme", "1.5", "--reason", "invoice 8")
    assert [entry.reason for entry in Entry.objects.order_by("pk")] == ["invoice 7", "invoice 8"]
    assert AuditEvent.objects.filter(action="credits.top_up").count() == 2


def test_top_up_with_an_idempotency_key_adds_once():
    created()
    for _ in range(2):
        run("top_up", "acme", "1.5", "--reason", "invoice 7", "--idempotency-key", "pay-7")
    assert Account.objects.get(workspace__name="acme").posted_microcredits == 1_500_000
    with pytest.raises(CommandError, match="pay-7"):
        run("top_up", "acme", "2", "--reason", "invoice 7", "--idempotency-key", "pay-7")


@pytest.mark.parametrize("amount", ["0", *NOT_AMOUNTS])
def test_top_up_refuses_what_is_no_amount(amount):
    created()
    with pytest.raises(CommandError, match="not an amount of credits"):
        run("top_up", "acme", "--reason", "invoice", "--", amount)
    assert not Entry.objects.exists()


def test_top_up_wants_a_reason_and_a_workspace():
    created()
    with pytest.raises(CommandError, match="reason"):
        run("top_up", "acme", "1")
    with pytest.raises(CommandError, match="reason"):
        run("top_up", "acme", "1", "--reason", " ")
    with pytest.raises(CommandError, match="No workspace"):
        run("top_up", "nobody", "1", "--reason", "invoice")


# Grants and plans


def test_grant_gives_credits_that_may_expire():
    created()
    assert "until 3000-01-01T00:00:00.000000Z; balance 1.5" in run(
        "grant", "acme", "1.5", "--expires", "2999-12-31", "--reason", "welcome"
    )
    assert "balance 2" in run("grant", "acme", "0.5", "--reason", "sorry")
    entries = Entry.objects.order_by("pk").values_list("kind", "expires_at", "reason", "actor")
    assert list(entries) == [("grant", datetime(3000, 1, 1, tzinfo=UTC), "welcome", "grant"), ("grant", None, "sorry", "grant")]
    event = AuditEvent.objects.filter(action="credits.grant").earliest("pk")
    assert (event.reason, event.details["expires_at"]) == ("welcome", "3000-01-01T00:00:00.000000Z")


def test_grant_with_an_idempotency_key_gives_once_and_the_same():
    created()
    grant = ["grant", "acme", "1", "--reason", "welcome", "--idempotency-key", "hello"]
    for _ in range(2):
        run(*grant, "--expires", "2999-12-31")
    assert Account.objects.get(workspace__name="acme").posted_microcredits == 1_000_000
    for other in ([], ["--expires", "2999-12-30"]):
        with pytest.raises(CommandError, match="hello"):
            run(*grant, *other)


@pytest.mark.parametrize(
    ("expires", "why"), [("2020-01-01", "future"), ("x", "--expires"), ("9999-12-31", "--expires"), ("2999-02-30", "--expires")]
)
def test_grant_refuses_what_is_no_time_to_come(expires, why):
    created()
    with pytest.raises(CommandError, match=why):
        run("grant", "acme", "1", "--reason", "welcome", "--expires", expires)
    assert not Entry.objects.exists()


def test_a_plan_gives_its_credits_at_once():
    created()
    run("create_plan", "pro", "--monthly-credits", "12.5", "--rolls-over", "--max-rollover", "0")
    plan = QuotaPreset.objects.get()
    assert (plan.monthly_microcredits, plan.has_rollover, plan.max_rollover_microcredits) == (12_500_000, True, 0)
    output = run("set_plan", "acme", "pro", "--reason", "contract 7")
    assert "is pro; balance 12.5, renewed 2" in output
    assert Entry.objects.get().kind == "plan"
    event = AuditEvent.objects.get(action="workspace.plan_set")
    assert (event.actor, event.reason, event.details) == ("set_plan", "contract 7", {"preset": plan.public_id})
    assert "is none; balance 12.5\n" in run("set_plan", "acme", "--none", "--reason", "unpaid")
    assert "is pro; balance 12.5" in run("set_plan", "acme", plan.public_id, "--reason", "paid")
    assert Entry.objects.count() == 1


def test_set_plan_refuses_what_it_cannot_tell():
    created()
    twins = [QuotaPreset.objects.create(name="twin") for _ in range(2)]
    ids = ", ".join(twin.public_id for twin in twins)
    for plan, why in [
        ("gold", "No plan is named 'gold'"),
        ("twin", f"Several plans are named 'twin'; give an id instead: {ids}"),
    ]:
        with pytest.raises(CommandError, match=why):
            run("set_plan", "acme", plan, "--reason", "r")
    for arguments in (
        ["acme", "--reason", "r"],
        ["acme", "twin", "--none", "--reason", "r"],
        ["acme", "twin", "--reason", " "],
    ):
        with pytest.raises(CommandError, match=r"reason|required|not allowed"):
            run("set_plan", *arguments)
    assert Workspace.objects.get().plan is None


def test_a_plan_is_made_once():
    run("create_plan", "pro", "--monthly-credits", "1")
    plan = QuotaPreset.objects.get()
    with pytest.raises(CommandError, match=f"There is a plan pro already: {plan.public_id}"):
        run("create_plan", " pro", "--monthly-credits", "2")
    assert QuotaPreset.objects.get().monthly_microcredits == 1_000_000


def test_a_preset_of_another_workspace_is_no_plan():
    created("acme"), created("rival")
    QuotaPreset.objects.create(name="theirs", workspace=Workspace.objects.get(name="rival"))
    with pytest.raises(CommandError, match="No plan"):
        run("set_plan", "acme", "theirs", "--reason", "r")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        *([f"--monthly-credits={amount}"] for amount in ("0", *NOT_AMOUNTS)),
        ["--monthly-credits", "1", "--max-rollover", "1"],
        ["--monthly-credits", "1", "--rolls-over", "--max-rollover=-1"],
    ],
    ids=str,
)
def test_create_plan_refuses_what_makes_no_sense(arguments):
    with pytest.raises(CommandError):
        run("create_plan", "pro", *arguments)
    assert not QuotaPreset.objects.exists()
