"""`GET /v1/generations/{id}` and `GET /v1/receipt-keys`: the receipt a customer gets, and what he verifies it with."""

import json
from datetime import timedelta

import pytest

from billing import receipts
from billing.apikeys import KeyTerms, mint
from tests.records import NOON, add_charge, add_record

pytestmark = pytest.mark.django_db


def get(client, world, reference):
    return client.get(f"/v1/generations/{reference}", headers=world.headers)


def error_of(response):
    assert response["content-type"] == "application/json; charset=utf-8"
    assert response["x-credits-used"] == "0"
    return response.json()["error"]


def test_the_answer_is_verified_by_the_published_keys(client, acme):
    """As a stranger would: with nothing but the two answers."""
    record = add_charge(acme, 147_500)
    answer = get(client, acme, record.generation)
    assert answer.status_code == 200
    assert answer["content-type"] == "application/json"
    assert answer["cache-control"] == "no-store"
    keys = receipts.read_key_set(client.get("/v1/receipt-keys").content)
    receipt = receipts.verified(answer.content, keys)
    assert receipt["id"] == record.generation
    assert sum(line["amount_credits"] for line in receipt["lines"]) == receipt["credits_used"]


def test_amounts_are_exact_digits_in_the_json_text(client, acme):
    text = get(client, acme, add_charge(acme, 8_999_999_999_999_999 % 10**9).generation).content.decode()
    assert '"credits_used":999.999999,' in text
    assert '"unit_price_credits":250,"amount_credits":999.999999' in text


def test_it_costs_the_key_s_look_up_and_one_query(client, acme, django_assert_num_queries):
    record = add_charge(acme, 5)
    with django_assert_num_queries(2):
        assert get(client, acme, record.generation).status_code == 200


def test_a_label_finds_the_newest(client, acme):
    add_record(acme, request_id="nightly:1", created_at=NOON + timedelta(hours=1), generation="newest")
    add_record(acme, request_id="nightly:1")
    assert get(client, acme, "nightly:1").json()["id"] == "newest"


def test_unknown_and_foreign_generations_are_answered_by_equal_bytes(client, acme, rival):
    """K1. Also what is no id at all, and what only rival labelled so."""
    theirs = add_charge(rival, 5, request_id="theirs")
    answers = [
        get(client, acme, reference)
        for reference in (
            theirs.generation,
            "theirs",
            "unknown",
            "chatcmpl-0",
            "%00",
            "a%20b",
            "%0A",
            "x" * 200,
            "%F0%9F%98%80",
        )
    ]
    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.content for answer in answers}) == 1
    error = error_of(answers[0])
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", "generation_not_found", None)


def test_books_that_disagree_are_a_failure_of_ours_and_no_receipt(client, acme):
    client.raise_request_exception = False
    response = get(client, acme, add_record(acme, charged_microcredits=5).generation)
    assert response.status_code == 500
    assert error_of(response)["code"] == "internal_error"
    assert "microcredits" not in response.content.decode()


def test_keys_are_public_and_standard(client, settings):
    response = client.get("/v1/receipt-keys")
    assert response.status_code == 200
    [key] = response.json()["keys"]
    assert {name: key[name] for name in ("kty", "crv", "use", "alg")} == {
        "kty": "OKP",
        "crv": "Ed25519",
        "use": "sig",
        "alg": "EdDSA",
    }
    assert settings.RECEIPT_SIGNING_KEYS[0] not in response.content.decode()


def test_keys_need_no_query_and_look_at_no_key(client, django_assert_num_queries):
    with django_assert_num_queries(0):
        assert client.get("/v1/receipt-keys", headers={"authorization": "Bearer nonsense"}).status_code == 200


@pytest.mark.parametrize("path", ["/v1/generations/x", "/v1/receipt-keys"])
@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_other_methods_are_a_405_in_json(client, acme, method, path):
    response = getattr(client, method)(path, headers=acme.headers)
    assert (response.status_code, error_of(response)["code"]) == (405, "method_not_allowed")


def test_a_receipt_needs_the_scope_of_reading_usage(client, acme):
    _, text = mint(acme.workspace, "chat only", actor="tests", terms=KeyTerms(scopes=["chat"]))
    response = client.get("/v1/generations/x", headers={"authorization": f"Bearer {text}"})
    assert (response.status_code, error_of(response)["code"]) == (403, "insufficient_scope")
    response = client.get("/v1/generations/x")
    assert (response.status_code, error_of(response)["code"]) == (401, "missing_api_key")


def test_the_receipt_is_the_same_at_each_look(client, acme):
    record = add_charge(acme, 5)
    first, second = get(client, acme, record.generation), get(client, acme, record.request_id)
    assert first.content == second.content
    assert list(json.loads(first.content))[-1] == "signature"
