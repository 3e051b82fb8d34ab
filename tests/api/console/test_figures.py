"""Credits, usage and the request log: the same figures everywhere, read in few queries, and only one's own."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import timedelta

import pytest
from django.test import AsyncClient
from django.utils import timezone

from billing.apikeys import mint
from billing.console import figures
from billing.console.credits import signed_mark
from billing.console.usage import MOST_GROUPS
from billing.models import Account, ApiKey, Entry, RequestTrace, UsageRecord
from billing.moments import Span
from billing.reports import usage
from billing.reports.ledger_pages import Mark, get_ledger_page
from billing.workspaces import transfer_credits
from tests.api.console.conftest import visiting
from tests.worlds import ACTOR

pytestmark = pytest.mark.django_db

CREDIT = 1_000_000


def record(key: ApiKey, number: int, credits: int = 1, **fields) -> UsageRecord:
    amount = credits * CREDIT
    line = {"kind": "input", "quantity": 1000, "unit": "million_tokens"}
    money = {"unit_price_microcredits": amount * 1000, "amount_microcredits": amount}
    values = {
        "generation": f"chatcmpl-{number}",
        "request_id": f"label-{number}",
        "model_asked": "gpt-4o",
        "model_used": "gpt-4o",
        "provider": "openai",
        "prompt_tokens": 1000,
        "completion_tokens": 100,
        "charged_microcredits": amount,
        "lines": [line | money] if amount else [],
        "status": 200,
        "end_state": "done",
        "latency_ms": 1500,
        "first_token_ms": 300,
        "is_stream": True,
        "created_at": timezone.now() - timedelta(seconds=number),
    }
    return UsageRecord.objects.create(**values | {"workspace": key.workspace, "api_key": key} | fields)


def rows_of(page: str) -> list[str]:
    body = page.split("<tbody>")[1].split("</tbody>")[0]
    return [re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", row)).strip() for row in body.split("</tr>")[:-1]]


# Credits


def book(workspace, number: int, amount: int) -> Entry:
    return transfer_credits(
        workspace, amount, kind=Entry.Kind.ADJUSTMENT, idempotency_key=f"n{number}", actor=ACTOR, reason=f"act {number}"
    )


def test_the_ledger_counts_the_balance_back_from_what_there_is(acme, rival):
    for number in range(1, 8):
        book(acme.workspace, number, number * CREDIT)
        book(rival.workspace, number + 100, 50 * CREDIT)
    book(acme.workspace, 8, -3 * CREDIT)
    acme.workspace.account.refresh_from_db()
    first = get_ledger_page(acme.workspace.account, since=None, limit=4)
    second = get_ledger_page(acme.workspace.account, since=None, limit=4, after=first.mark)
    third = get_ledger_page(acme.workspace.account, since=None, limit=4, after=second.mark)
    lines = [*first.lines, *second.lines, *third.lines]
    assert [line.amount_microcredits // CREDIT for line in lines] == [-3, 7, 6, 5, 4, 3, 2, 1, 1000]
    assert [line.balance_microcredits // CREDIT for line in lines] == [1025, 1028, 1021, 1015, 1010, 1006, 1003, 1001, 1000]
    assert third.mark is None


def test_the_credits_page_tells_the_balance_and_pages_the_ledger(acme, as_role):
    visit = as_role("billing")
    for number in range(60):
        book(acme.workspace, number, CREDIT)
    page = visit("credits").content.decode()
    assert "1,060.0000" in page
    assert rows_of(page)[0].endswith("+1.0000 1,060.0000")
    assert len(rows_of(page)) == 50
    older = re.search(r'href="([^"]+)">Older', page)[1].replace("&amp;", "&")
    assert rows_of(visit(older).content.decode())[0].endswith("+1.0000 1,010.0000")
    other = Account.objects.exclude(pk=acme.workspace.account.pk).first()
    forged = older.replace(":", "0:").replace("%3A", "0%3A").partition("after=")[2]
    foreign = signed_mark(Mark(1, CREDIT), other)
    for nonsense in ("?after=x", f"?after={forged}", f"?after={foreign}", "?period=century"):
        assert visit(f"credits{nonsense}").status_code == 404


@pytest.mark.django_db(transaction=True)
async def test_the_ledger_as_csv_is_what_the_page_shows(acme, people):
    client = AsyncClient()
    await client.aforce_login(people["billing"].user)
    response = await client.get(f"/console/{acme.workspace.public_id}/credits/export?period=all")
    text = b"".join([part async for part in response.streaming_content]).decode()
    (row,) = csv.DictReader(io.StringIO(text))
    assert (row["kind"], row["credits"], row["balance"], row["reason"]) == ("top_up", "1000", "1000", "a test")
    await client.aforce_login(people["developer"].user)
    assert (await client.get(f"/console/{acme.workspace.public_id}/credits/export")).status_code == 403


def test_without_credit_every_page_says_so_with_the_numbers_of_the_402(broke, people, client):
    from tests.worlds import make_member  # noqa: PLC0415 - used here alone

    client.force_login(make_member(broke.workspace, "owner", username="poor").user)
    page = visiting(client, broke.workspace)("keys").content.decode()
    assert "The credit is used up." in page
    assert "0 credits, of which 0 are held by requests in flight" in page
    assert "insufficient_credits" in page


# Usage


def test_usage_groups_days_and_totals_are_the_ledgers(acme, as_role):
    other, _ = mint(acme.workspace, "other", actor=ACTOR)
    now = timezone.now()
    record(acme.key, 1, 5)
    record(acme.key, 2, 3, model_used="claude")
    record(other, 3, 2, created_at=now - timedelta(days=1))
    record(other, 4, 0, status=502, end_state="failed", model_used="", error_code="upstream_error")
    visit = as_role("owner")
    page = visit("usage?period=7").content.decode()
    assert [row.split(" ")[0] for row in rows_of(page)] == ["gpt-4o", "claude", "none"]
    assert '<span class="total">10.0000</span>' in page
    facts = json.loads(re.search(r'id="chart-data" type="application/json">(.+?)</script>', page)[1])
    assert facts["days"][-1] == now.date().isoformat()
    assert len(facts["days"]) == 7
    assert [series["label"] for series in facts["series"]] == ["gpt-4o", "claude", "none"]
    assert sum(sum(series["values"]) for series in facts["series"]) == 10 * CREDIT
    assert facts["series"][0]["texts"][-1] == "5.0000"
    by_key = visit("usage?period=7&by=key&metric=requests").content.decode()
    assert [row.split(" ")[0] for row in rows_of(by_key)] == ["test", "other"]
    table = list(csv.DictReader(io.StringIO(visit("usage/export?period=7").content.decode())))
    assert [(row["group"], row["credits"]) for row in table] == [("gpt-4o", "7"), ("claude", "3"), ("none", "0")]
    keys = visit("keys").content.decode()
    month = usage.get_totals(acme.workspace.pk, usage.recent(timezone.now()))
    assert month.charged_microcredits == 10 * CREDIT
    assert "10.0000" in keys or now.day == 1
    for nonsense in ("period=1", "metric=x", "by=day"):
        assert visit(f"usage?{nonsense}").status_code == 404


def test_more_groups_than_colours_become_other(acme, as_role):
    for number in range(10):
        record(acme.key, number, 10 - number if number < 9 else 1, model_used=f"model-{number}")
    page = as_role("owner")("usage").content.decode()
    facts = json.loads(re.search(r'id="chart-data" type="application/json">(.+?)</script>', page)[1])
    assert [series["label"] for series in facts["series"]] == [*(f"model-{number}" for number in range(7)), "other"]
    assert sum(facts["series"][-1]["values"]) == (3 + 2 + 1) * CREDIT
    assert len(rows_of(page)) == 10


def test_the_table_ends_with_what_the_groups_after_it_add_up_to(acme, as_role):
    for number in range(MOST_GROUPS + 3):
        record(acme.key, number, 200 - number, end_user=f"user-{number}")
    visit = as_role("owner")
    rows = rows_of(visit("usage?by=user&period=7").content.decode())
    assert len(rows) == MOST_GROUPS + 1
    assert rows[0].startswith("user-0 1 1,000")
    assert rows[-1].startswith("3 others, all in the CSV 3 3,000")
    assert " 297.0000 " in rows[-1]
    assert visit("usage/export?by=user&period=7").content.count(b"user-") == MOST_GROUPS + 3


def test_keys_of_one_name_are_series_of_their_own(acme, as_role):
    namesake, _ = mint(acme.workspace, acme.key.name, actor=ACTOR)
    record(acme.key, 1, 5)
    record(namesake, 2, 3)
    page = as_role("owner")("usage?by=key&period=7").content.decode()
    facts = json.loads(re.search(r'id="chart-data" type="application/json">(.+?)</script>', page)[1])
    assert [(series["label"], sum(series["values"])) for series in facts["series"]] == [
        (acme.key.name, 5 * CREDIT),
        (acme.key.name, 3 * CREDIT),
    ]


def test_a_developer_sees_the_use_of_his_own_keys_only(acme, people, as_role):
    own, _ = mint(acme.workspace, "own", actor=ACTOR)
    ApiKey.objects.filter(pk=own.pk).update(owner=people["developer"])
    record(acme.key, 1, 5)
    mine = record(own, 2, 2)
    visit = as_role("developer")
    assert '<span class="total">2.0000</span>' in visit("usage").content.decode()
    assert "2.0000" in visit("overview").content.decode()
    assert "5.0000" not in visit("overview").content.decode()
    log = visit("log").content.decode()
    assert mine.generation in log
    assert "chatcmpl-1" not in log
    assert acme.key.public_id not in log
    assert visit(f"log?key={acme.key.public_id}").content.decode().count("chatcmpl-") == 0


# The request log


def test_the_log_filters_by_address_and_pages_without_counting(acme, as_role):
    other, _ = mint(acme.workspace, "other", actor=ACTOR)
    for number in range(55):
        record(acme.key, number)
    record(other, 60, 0, status=502, end_state="failed", model_used="", model_asked="claude", error_code="upstream_error")
    record(other, 61, 1, fallback_depth=1, model_asked="claude")
    visit = as_role("viewer")
    page = visit("log").content.decode()
    assert len(rows_of(page)) == 50
    older = re.search(r'href="(\?[^"]+)">Older', page)[1].replace("&amp;", "&")
    rest = visit(f"log{older}").content.decode()
    assert len(rows_of(rest)) == 7
    assert "502" in rest
    assert "upstream_error" in rest
    assert len(rows_of(visit("log?state=failed").content.decode())) == 1
    assert len(rows_of(visit("log?state=fallback&model=claude").content.decode())) == 1
    claude = visit("log?model=claude").content.decode()
    assert ["chatcmpl-60" in claude, "chatcmpl-61" in claude, len(rows_of(claude))] == [True, True, 2]
    assert claude.index("chatcmpl-60") < claude.index("chatcmpl-61")
    assert len(rows_of(visit("log?model=gpt-4o&after=chatcmpl-53").content.decode())) == 2
    assert len(rows_of(visit(f"log?key={other.public_id}").content.decode())) == 2
    assert len(rows_of(visit("log?q=label-7").content.decode())) == 1
    assert len(rows_of(visit("log?q=chatcmpl-7").content.decode())) == 1
    assert "No request matches" in visit("log?q=nothing").content.decode()
    for nonsense in ("state=x", "days=365", "after=chatcmpl-nobody", "q=%00"):
        assert visit(f"log?{nonsense}").status_code == 404, nonsense


def test_new_requests_wait_behind_a_line(acme, as_role):
    shown = record(acme.key, 10)
    visit = as_role("owner")
    path = f"log/newer?since={shown.generation}&days=7"
    assert visit(path).content.strip() == b""
    record(acme.key, 1)
    record(acme.key, 2)
    assert b"Show 2 new requests" in visit(path).content
    assert b'href="?days=7"' in visit(path).content
    assert visit("log/newer?since=chatcmpl-nobody").status_code == 404


def test_a_request_shows_its_receipt_attempts_adaptations_and_end(acme, as_role, ledger_entry):
    one = record(acme.key, 1, 2, model_asked="claude", fallback_depth=1, finish_reason="stop", usage_source="reported")
    ledger_entry(one)
    RequestTrace.objects.create(
        generation=one.generation,
        attempts=[
            {"model": "claude", "provider": "anthropic", "upstream_model": "c", "depth": 0, "started_ms": 2, "duration_ms": 400}
            | {"result": "rate_limited", "upstream_status": 429},
            {"model": "gpt-4o", "provider": "openai", "upstream_model": "g", "depth": 1, "started_ms": 450, "duration_ms": 1000}
            | {"result": "served"},
        ],
        adaptations=["pdf=text+pages:3", "odd=new"],
        timings_ms={"total": 1500, "upstream": 1400},
    )
    page = as_role("viewer")(f"log/{one.generation}").content.decode()
    for words in (
        "Answered by gpt-4o",
        "Fallback, depth 1",
        "The provider answered 429, so gpt-4o was tried next.",
        "pdf=text+pages:3",
        "What was sent was changed so that the model could take it.",
        "2.000000",
        "1, never charged",
        "The model finished its answer; what it used is charged.",
        "100 ms",
        "83 ",
    ):
        assert words in page, words
    receipt = as_role("viewer")(f"log/{one.generation}?receipt")
    assert json.loads(receipt.content)["signature"]["algorithm"] == "Ed25519"
    assert "attachment" in receipt["content-disposition"]


def test_a_request_that_failed_before_any_attempt_has_a_page_too(acme, as_role):
    one = record(acme.key, 1, 0, status=400, end_state="refused", model_used="", provider="", error_code="invalid_value")
    page = as_role("viewer")(f"log/{one.generation}").content.decode()
    assert "Nothing is charged." in page
    assert "invalid_value" in page
    assert as_role("viewer")("log/label-1").status_code == 404


@pytest.fixture
def ledger_entry():
    """The entry that the ledger would have written for a record made by hand."""
    from billing.models import Account, Hold  # noqa: PLC0415 - used here alone

    def booked(one: UsageRecord) -> Entry:
        account, revenue = one.workspace.account, Account.objects.get(kind="revenue")
        now, amount = timezone.now(), one.charged_microcredits
        hold = Hold.objects.create(
            account=account,
            api_key=one.api_key,
            generation=one.generation,
            sequence=0,
            amount_microcredits=amount,
            settled_microcredits=amount,
            state="settled",
            price_version_id=1,
            lease_expires_at=now,
            closed_at=now,
        )
        return Entry.objects.create(
            kind="usage",
            debit_account=account,
            credit_account=revenue,
            amount_microcredits=amount,
            generation=one.generation,
            hold=hold,
            idempotency_key=one.generation,
            actor=ACTOR,
        )

    return booked


def test_first_tokens_are_told_by_nearest_rank_and_of_ones_own_streams(acme, as_role):
    other, _ = mint(acme.workspace, "other", actor=ACTOR)
    for number in range(1, 21):
        record(acme.key, number, first_token_ms=number * 10)
    record(other, 50, first_token_ms=7000)
    record(acme.key, 60, first_token_ms=None)
    now = timezone.now() + timedelta(seconds=1)
    span = Span(now - timedelta(days=1), now)
    times = usage.first_token_times(acme.workspace.pk, span, "key")
    assert times[acme.key.public_id, acme.key.name] == (100, 190)
    assert times[other.public_id, other.name] == (7000, 7000)
    assert usage.first_token_times(acme.workspace.pk, span, "model", only=usage.Only(key=other.public_id)) == {
        ("gpt-4o",): (7000, 7000)
    }
    assert "100 ms, 190 ms" in as_role("owner")("usage?by=key&period=7").content.decode()


def test_the_page_of_a_key_draws_what_its_table_says(acme, as_role):
    page = as_role("owner")(f"keys/{acme.key.public_id}").content.decode()
    assert "chart-data" not in page
    record(acme.key, 1, 3)
    record(acme.key, 2, 4, model_used="second")
    page = as_role("owner")(f"keys/{acme.key.public_id}").content.decode()
    chart = json.loads(re.search(r'id="chart-data" type="application/json">(.*?)</script>', page)[1])
    assert [(series["label"], series["texts"][-1]) for series in chart["series"]] == [
        ("second", "4.0000"),
        ("gpt-4o", "3.0000"),
    ]
    assert chart["sums"][-1] == "7.0000"


# Queries


MOST_QUERIES = {
    "overview": 14,
    "keys": 11,
    "credits": 11,
    "usage": 13,
    "log": 9,
    "members": 9,
    "files": 9,
    "limits": 11,
    "settings": 9,
    "audit": 8,
    "alerts": 9,
    "webhooks": 8,
    "chains": 16,
}


@pytest.mark.slow
def test_a_page_asks_as_often_for_many_rows_as_for_few(acme, people, as_role, django_assert_max_num_queries):
    visit = as_role("owner")
    for path in MOST_QUERIES:
        visit(path)
    for number in range(30):
        key, _ = mint(acme.workspace, f"key {number}", actor=ACTOR)
        record(key, number)
        book(acme.workspace, number, CREDIT)
    for path, most in MOST_QUERIES.items():
        with django_assert_max_num_queries(most, info=path):
            assert visit(path).status_code == 200


# Texts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (figures.credits4(12_407_512), "12.4075"),
        (figures.credits4(99), "under 0.0001"),
        (figures.credits4(0), "0.0000"),
        (figures.credits4(-2_055_500), "\u22122.0555"),
        (figures.credits6(1_234_567_000_001), "1,234,567.000001"),
        (figures.credits2(6_214_602_800), "6,214.60"),
        (figures.credits(12_407_500), "12.4075"),
        (figures.credits(10_000_000), "10"),
        (figures.size(999), "999 bytes"),
        (figures.size(64_736), "64.7 kB"),
        (figures.size(536_870_912), "536.8 MB"),
        (figures.span(412), "412 ms"),
        (figures.span(3870), "3.87 s"),
        (figures.percent(893, 49_600), "1.8"),
        (figures.percent(1, 0), "0.0"),
        (figures.share(95, 100), 95),
        (figures.share(500, 100), 100),
    ],
)
def test_figures_are_cut_and_never_rounded_up(text, expected):
    assert text == expected
