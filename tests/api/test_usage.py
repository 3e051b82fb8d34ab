"""`GET /v1/usage`, `/v1/usage/requests`, `/v1/credits`, `/v1/key`: exact figures, one query, and only one's own."""

import csv
import io
import json
from datetime import timedelta
from decimal import Decimal

import pytest
from asgiref.sync import sync_to_async
from django.db import OperationalError, connection
from django.utils import timezone

from billing.api.usage import EXPORT_ROWS, MOST_GROUPS
from billing.apikeys import KeyTerms, mint
from billing.models import Budget, UsageRecord
from tests.records import NOON, add_charge, add_record, add_refusal

pytestmark = pytest.mark.django_db

READS = ["/v1/usage", "/v1/usage/requests", "/v1/credits", "/v1/key"]
MARCH = "start=2026-03-01&end=2026-03-31"
CSV_COLUMNS = "timestamp,model,api_key_id,prompt_tokens,completion_tokens,credits_used,request_id,latency_ms,fallback_depth"


@pytest.fixture(autouse=True)
def _known_features(db):
    """Django asks SQLite once per connection whether it knows JSON; here, so that no test counts that query."""
    assert connection.features.supports_json_field


@pytest.fixture
def get(client, acme):
    """Ask with acme's key."""

    def ask(path, **headers):
        return client.get(path, headers=acme.headers | headers)

    return ask


def exact(response):
    assert response.status_code == 200, response.content
    return json.loads(response.content, parse_float=Decimal)


def error_of(response):
    assert response["content-type"] == "application/json; charset=utf-8"
    return response.json()["error"]


class TestUsage:
    def test_adds_up(self, get, acme):
        add_charge(acme, 147_500)
        add_charge(acme, 1, created_at=NOON + timedelta(days=1))
        add_refusal(acme)
        answer = exact(get(f"/v1/usage?{MARCH}"))
        assert answer == {
            "object": "usage",
            "start": "2026-03-01T00:00:00.000000Z",
            "end": "2026-04-01T00:00:00.000000Z",
            "group_by": None,
            "data": [],
            "has_more": False,
            "total": {
                "requests": 3,
                "failed_requests": 1,
                "prompt_tokens": 20,
                "completion_tokens": 8,
                "cached_tokens": 0,
                "cache_write_tokens": 0,
                "audio_tokens": 0,
                "reasoning_tokens": 0,
                "credits_used": Decimal("0.147501"),
            },
        }

    @pytest.mark.parametrize(
        ("grouping", "labels"),
        [
            ("model", [{"model": "gpt-4o"}, {"model": None}]),
            ("key", [{"key_id": "ID", "key_name": "test"}]),
            ("member", [{"member_id": None, "member_name": None}]),
            ("user", [{"user": "ada"}, {"user": None}]),
            ("day", [{"day": "2026-03-10"}, {"day": "2026-03-11"}]),
        ],
    )
    def test_by_group(self, get, acme, grouping, labels):
        add_charge(acme, 147_500, end_user="ada")
        add_refusal(acme, created_at=NOON + timedelta(days=1))
        answer = exact(get(f"/v1/usage?{MARCH}&group_by={grouping}"))
        expected = [{name: acme.key.public_id if value == "ID" else value for name, value in label.items()} for label in labels]
        assert answer["group_by"] == grouping
        assert [{name: group[name] for name in labels[0]} for group in answer["data"]] == expected
        assert sum(group["credits_used"] for group in answer["data"]) == answer["total"]["credits_used"] == Decimal("0.1475")

    def test_has_the_dearest_groups_and_the_total_of_all(self, get, acme):
        first = add_record(acme, end_user="u0", charged_microcredits=1)
        rows = []
        for number in range(1, MOST_GROUPS + 1):
            row = UsageRecord.objects.get(pk=first.pk)
            row.pk, row.generation, row.end_user, row.charged_microcredits = None, f"g{number}", f"u{number}", number + 1
            rows.append(row)
        url = f"/v1/usage?{MARCH}&group_by=user"
        UsageRecord.objects.bulk_create(rows[:-1])
        answer = exact(get(url))
        assert (len(answer["data"]), answer["has_more"], answer["total"]["requests"]) == (MOST_GROUPS, False, MOST_GROUPS)
        UsageRecord.objects.bulk_create(rows[-1:])
        answer = exact(get(url))
        assert (len(answer["data"]), answer["has_more"], answer["total"]["requests"]) == (MOST_GROUPS, True, MOST_GROUPS + 1)
        assert [group["user"] for group in answer["data"][:2]] == [f"u{MOST_GROUPS}", f"u{MOST_GROUPS - 1}"]
        assert answer["data"][-1]["user"] == "u1"

    def test_is_of_the_last_days_unless_told(self, get, acme):
        now = timezone.now()
        add_record(acme, created_at=now)
        add_record(acme, created_at=now - timedelta(days=28))
        add_record(acme, created_at=now - timedelta(days=31))
        assert exact(get("/v1/usage"))["total"]["requests"] == 2

    def test_sums_are_exact_digits_in_the_json_text(self, get, acme):
        add_record(acme, charged_microcredits=8_999_999_999_999_999)
        assert '"credits_used":8999999999.999999}' in get(f"/v1/usage?{MARCH}").content.decode()

    @pytest.mark.parametrize(
        ("query", "param"),
        [
            *[(f"start={value}", "start") for value in ("x", "", "2026-13-01", "1764028800", "2026-03-01 10:00", "%00", "NaN")],
            *[(f"end={value}", "end") for value in ("x", "", "9999-12-31", "0001-01-01", "2026-03-01T10:00:00+01:00")],
            ("start=2026-03-02&end=2026-03-01", "start"),
            ("start=2026-03-01T00:00:00Z&end=2026-03-01T00:00:00Z", "start"),
            ("start=2999-01-01", "start"),
            ("start=2025-01-01&end=2026-03-01", "start"),
            *[
                (f"group_by={value}", "group_by")
                for value in ("", "users", "workspace", "model,key", "id__gt", "'--", "_connector")
            ],
        ],
    )
    def test_values_that_cannot_be_used_are_named(self, get, query, param):
        for path in ("/v1/usage", "/v1/usage/requests"):
            if path == "/v1/usage/requests" and param == "group_by":
                continue
            response = get(f"{path}?{query}")
            assert response.status_code == 400
            error = error_of(response)
            assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", "invalid_value", param)

    def test_a_year_may_be_asked(self, get):
        assert get("/v1/usage?start=2024-01-01&end=2024-12-31").status_code == 200


class TestRequests:
    def test_a_page_has_the_newest_first(self, get, acme):
        add_charge(acme, 147_500, request_id="nightly", generation="g1", fallback_depth=1, model_asked="gpt-5", end_user="ada")
        add_refusal(acme, generation="g2", model_asked="nothing", error_code="model_not_found", is_stream=True)
        answer = exact(get(f"/v1/usage/requests?{MARCH}"))
        assert {name: answer[name] for name in ("object", "first_id", "last_id", "has_more")} == {
            "object": "list",
            "first_id": "g2",
            "last_id": "g1",
            "has_more": False,
        }
        assert answer["data"][1] == {
            "object": "usage.request",
            "id": "g1",
            "timestamp": "2026-03-10T12:00:00.000000Z",
            "model": "gpt-4o",
            "model_asked": "gpt-5",
            "api_key_id": acme.key.public_id,
            "prompt_tokens": 10,
            "completion_tokens": 4,
            "credits_used": Decimal("0.1475"),
            "request_id": "nightly",
            "latency_ms": 120,
            "fallback_depth": 1,
            "is_stream": False,
            "status": 200,
            "end_state": "done",
            "error_code": None,
            "user": "ada",
        }
        refused = answer["data"][0]
        assert (refused["model"], refused["model_asked"], refused["error_code"]) == (None, "nothing", "model_not_found")
        assert refused["user"] is None

    def test_pages_are_walked_by_the_last_id(self, get, acme, rival):
        made = [add_record(acme).generation for _ in range(5)]
        add_record(rival)
        found, query = [], f"/v1/usage/requests?{MARCH}&limit=2"
        answer = exact(get(query))
        found += answer["data"]
        while answer["has_more"]:
            answer = exact(get(f"{query}&after={answer['last_id']}"))
            found += answer["data"]
        assert [row["id"] for row in found] == made[::-1]

    def test_a_page_has_20_unless_told(self, get, acme):
        add_record(acme)
        first = UsageRecord.objects.get()
        for number in range(20):
            first.pk, first.generation = None, f"g{number}"
            first.save(force_insert=True)
        answer = exact(get(f"/v1/usage/requests?{MARCH}"))
        assert (len(answer["data"]), answer["has_more"]) == (20, True)

    def test_an_empty_page(self, get):
        answer = exact(get("/v1/usage/requests"))
        assert answer == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}

    @pytest.mark.parametrize(
        ("query", "param"),
        [
            *[
                (f"limit={value}", "limit")
                for value in ("0", "-1", "101", "1000000000", "1.5", "x", "", "%00", "१", "+1", "1" * 5000)
            ],
            *[(f"after={value}", "after") for value in ("x", "", "%00", "'%20OR%201=1", "x" * 5000)],
            *[(f"format={value}", "format") for value in ("xml", "", "CSV", "json,csv")],
            ("format=csv&limit=5", "limit"),
            ("format=csv&after=x", "after"),
        ],
    )
    def test_values_that_cannot_be_used_are_named(self, get, query, param):
        response = get(f"/v1/usage/requests?{query}")
        assert response.status_code == 400
        assert (error_of(response)["code"], error_of(response)["param"]) == ("invalid_value", param)

    def test_a_mark_of_another_workspace_is_as_unknown_as_any(self, get, acme, rival):
        theirs = add_record(rival)
        answers = [get(f"/v1/usage/requests?{MARCH}&after={mark}") for mark in (theirs.generation, "unknown")]
        assert {answer.status_code for answer in answers} == {400}
        assert len({answer.content for answer in answers}) == 1

    def test_who_asks_without_a_key_learns_nothing_of_formats(self, client):
        response = client.get("/v1/usage/requests?format=xml")
        assert (response.status_code, error_of(response)["code"]) == (401, "missing_api_key")

    def test_other_formats_are_not_to_be_had(self, get):
        response = get("/v1/usage/requests", accept="text/html")
        assert (response.status_code, error_of(response)["code"]) == (406, "not_acceptable")


@pytest.mark.django_db(transaction=True)
class TestExport:
    @pytest.fixture
    def export(self, acme, async_client):
        """The whole CSV, as a server sends it, and its answer."""

        async def ask(query=f"format=csv&{MARCH}", **headers):
            response = await async_client.get(f"/v1/usage/requests?{query}", headers=acme.headers | headers)
            assert response.status_code == 200
            return response, b"".join([part async for part in response.streaming_content]).decode()

        return ask

    @pytest.fixture
    def served(self, acme):
        add_charge(acme, 147_500, request_id="nightly", fallback_depth=1)
        return acme

    async def test_has_the_columns_of_the_product(self, served, export):
        response, text = await export()
        assert text == (
            f"{CSV_COLUMNS}\r\n2026-03-10T12:00:00.000000Z,gpt-4o,{served.key.public_id},10,4,0.1475,nightly,120,1\r\n"
        )
        assert response["content-type"] == "text/csv; charset=utf-8"
        assert response["content-disposition"] == ('attachment; filename="requests_20260301T000000Z_20260401T000000Z.csv"')
        assert response["cache-control"] == "no-store"

    @pytest.mark.parametrize("accept", ["text/csv", "text/csv; charset=utf-8", "text/csv, */*;q=0.1", "text/*"])
    async def test_may_be_asked_by_the_accept_header(self, served, export, accept):
        _, text = await export(MARCH, accept=accept)
        assert text.startswith(CSV_COLUMNS)

    async def test_of_nothing_is_its_head(self, acme, export):
        _, text = await export()
        assert text == f"{CSV_COLUMNS}\r\n"

    @pytest.fixture
    def hostile(self, acme, rival):
        """Texts that callers chose, K10; the label cannot have more than its grammar allows."""
        for number, text in enumerate(("=cmd|' /C calc'!A0", "+1", "-1+1", "@SUM(A1)", '=HYPERLINK("http://x")', "a,b")):
            add_refusal(acme, model_asked=text, request_id=f"-{number}")
        add_record(rival, request_id="theirs")

    async def test_has_no_formula(self, acme, hostile, export):
        _, text = await export()
        rows = list(csv.reader(io.StringIO(text, newline="")))[1:]
        assert len(rows) == 6
        assert not any(cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row)
        assert {row[6] for row in rows} == {f"'-{number}" for number in range(6)}
        assert "'=cmd|' /C calc'!A0" in {row[1] for row in rows}

    @pytest.fixture
    def many(self, acme):
        """Three parts, the last of one row; all booked at a few instants."""
        first = add_record(acme)
        rows = []
        for number in range(2 * EXPORT_ROWS):
            row = UsageRecord.objects.get(pk=first.pk)
            row.pk, row.generation, row.request_id = None, f"g{number}", f"r{number}"
            row.created_at = NOON + timedelta(seconds=number // 300)
            rows.append(row)
        UsageRecord.objects.bulk_create(rows)

    async def test_is_whole_and_in_parts(self, many, export):
        _, text = await export()
        labels = [row[6] for row in csv.reader(io.StringIO(text, newline=""))][1:]
        assert len(labels) == len(set(labels)) == 2 * EXPORT_ROWS + 1
        newest = UsageRecord.objects.order_by("-created_at", "-pk").values_list("request_id", flat=True)
        assert labels == await sync_to_async(list)(newest)


class TestKey:
    def test_a_key_without_limits(self, get, acme):
        answer = exact(get("/v1/key"))
        limits = answer.pop("limits")
        assert set(limits) == {
            *("allowedModels", "maxRequestsPerMinute", "maxRequestsDaily", "maxTokensPerMinute", "maxTokensDaily"),
            *("maxConcurrentRequests", "maxBudgetMonthlyCredits"),
            *("maxFileSizeBytes", "maxFilesPerWorkspace", "maxStorageBytesPerWorkspace"),
        }
        assert all(limit["source"] is None for limit in limits.values())
        assert answer.pop("created_at").endswith("Z")
        assert answer == {
            "object": "api_key",
            "id": acme.key.public_id,
            "name": "test",
            "hint": acme.key.hint,
            "workspace_id": acme.workspace.public_id,
            "scopes": sorted(acme.key.scopes),
            "allowed_addresses": [],
            "expires_at": None,
            "budgets": [],
            "credits_used": {"day": 0, "month": 0},
        }
        assert acme.key_text not in str(answer)

    def test_limits_budgets_and_spend(self, client, acme):
        terms = KeyTerms(
            scopes=["usage:read"],
            allowed_models=["gpt-5", "gpt-4o"],
            max_requests_per_minute=30,
            max_requests_daily=9000,
            max_concurrent_requests=4,
            expires_at=timezone.now() + timedelta(days=1),
        )
        key, text = mint(acme.workspace, "limited", actor="tests", terms=terms)
        now = timezone.now()
        Budget.objects.create(
            scope="key",
            scope_id=key.pk,
            limit_microcredits=2_500_000,
            spent_microcredits=147_500,
            held_microcredits=1,
            period_started_at=now.replace(day=1, hour=0, minute=0, second=0, microsecond=0),
        )
        add_record(acme, api_key=key, charged_microcredits=147_500, created_at=now)
        answer = exact(client.get("/v1/key", headers={"authorization": f"Bearer {text}"}))
        assert answer["limits"]["allowedModels"] == {"value": ["gpt-4o", "gpt-5"], "source": "key"}
        assert answer["limits"]["maxRequestsPerMinute"] == {"value": 30, "source": "key"}
        assert answer["limits"]["maxRequestsDaily"] == {"value": 9000, "source": "key"}
        assert answer["limits"]["maxConcurrentRequests"] == {"value": 4, "source": "key"}
        [budget] = answer["budgets"]
        assert {name: budget[name] for name in ("scope", "period", "limit", "spent", "held", "available")} == {
            "scope": "key",
            "period": "month",
            "limit": Decimal("2.5"),
            "spent": Decimal("0.1475"),
            "held": Decimal("0.000001"),
            "available": Decimal("2.352499"),
        }
        assert budget["started_at"] < budget["resets_at"]
        assert answer["credits_used"] == {"day": Decimal("0.1475"), "month": Decimal("0.1475")}


class TestEveryRead:
    @pytest.mark.parametrize("path", [*READS, f"/v1/usage?{MARCH}&group_by=model", f"/v1/usage/requests?{MARCH}&format=csv"])
    def test_costs_the_key_s_look_up_and_a_query_or_two(self, get, acme, path, django_assert_max_num_queries):
        """Sums ask first which days were added up already."""
        add_charge(acme, 5)
        with django_assert_max_num_queries(2 + path.startswith("/v1/usage")):
            assert get(path).status_code == 200

    @pytest.mark.parametrize("path", READS)
    def test_needs_a_key_with_the_scope(self, client, acme, path):
        _, text = mint(acme.workspace, "chat only", actor="tests", terms=KeyTerms(scopes=["chat"]))
        response = client.get(path, headers={"authorization": f"Bearer {text}"})
        assert (response.status_code, error_of(response)["code"]) == (403, "insufficient_scope")
        response = client.get(path)
        assert (response.status_code, error_of(response)["code"]) == (401, "missing_api_key")

    @pytest.mark.parametrize("path", READS)
    @pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
    def test_is_only_read(self, client, acme, method, path):
        response = getattr(client, method)(path, headers=acme.headers)
        assert (response.status_code, error_of(response)["code"]) == (405, "method_not_allowed")

    @pytest.mark.parametrize("path", READS)
    def test_shows_nothing_of_another_workspace(self, client, acme, rival, path):
        before = client.get(path, headers=rival.headers).content
        add_charge(acme, 147_500, created_at=timezone.now())
        Budget.objects.create(scope="workspace", scope_id=acme.workspace.pk, limit_microcredits=5)
        after = client.get(path, headers=rival.headers).content
        if path == "/v1/usage":  # its end is now
            before, after = (json.loads(content)["total"] for content in (before, after))
        assert before == after

    @pytest.mark.parametrize("path", READS)
    def test_says_so_when_the_database_is_away(self, get, acme, path):
        """Row 140. The key is still found; the read itself meets a lock that does not go away."""
        queries = []

        def locked_from_the_second(execute, *arguments):
            queries.append(arguments[0])
            if len(queries) > 1:
                raise OperationalError("database is locked")
            return execute(*arguments)

        with connection.execute_wrapper(locked_from_the_second):
            response = get(path)
        assert len(queries) == 2
        assert (response.status_code, error_of(response)["code"]) == (503, "ledger_unavailable")
        assert response["retry-after"] == "2"
