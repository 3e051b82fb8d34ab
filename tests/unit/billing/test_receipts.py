"""Receipts: what they say is what was booked, and whoever changes a byte of it is found out."""

import base64
import json
from datetime import timedelta
from decimal import Decimal

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from django.core.exceptions import ImproperlyConfigured
from hypothesis import given
from hypothesis import strategies as st

from billing import receipts
from billing.models import Entry, RequestTrace, UsageRecord
from billing.pricing import MAX_MICROCREDITS, PriceList, Usage, cost, credits_text
from billing.receipts import BooksDisagree, InvalidReceipt, get_receipt, own_keys, signed, verified
from infery_site.ids import generation_id
from tests.records import NOON, add_charge, add_record, add_refusal
from tests.unit.billing.books import hold_of, open_workspace, settle_of, with_writer

SEEDS = [base64.b64encode(bytes([number]) * 32).decode() for number in range(3)]
AMOUNTS = st.integers(-MAX_MICROCREDITS, MAX_MICROCREDITS).map(lambda amount: Decimal(credits_text(amount)))
TEXTS = st.text(st.characters(codec="utf-8"))
LEAVES = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | AMOUNTS | TEXTS
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=20
)
NAMED = {"object": "receipt", "id": "chatcmpl-1", "workspace_id": "ws_1", "created_at": "2026-03-10", "lines": []}


@pytest.fixture(autouse=True)
def _keys(settings):
    settings.RECEIPT_SIGNING_KEYS = SEEDS[:1]


def content(**fields):
    return NAMED | {"credits_used": Decimal("0.1475")} | fields


def text_of(receipt, **options):
    """The receipt as JSON; Decimals as the numbers that a client would write."""
    return json.dumps(receipt, default=float, **options).encode()


class TestSigning:
    def test_a_receipt_is_verified_by_the_public_key(self):
        assert verified(text_of(signed(content())), own_keys()) == content()

    def test_the_same_content_has_the_same_signature(self):
        assert signed(content()) == signed(content())

    def test_the_signed_bytes_are_those_of_rfc_8785(self):
        """Made here by hand, as a verifier in another language would make them."""
        receipt = signed(content(model_asked='é"\u2028\x1f', usage={"b": 1, "a": None}, is_stream=True))
        plain = (
            r'{"created_at":"2026-03-10","credits_used":0.1475,"id":"chatcmpl-1","is_stream":true,"lines":[],'
            '"model_asked":"é\\"\u2028\\u001f","object":"receipt","usage":{"a":null,"b":1},"workspace_id":"ws_1"}'
        )
        [key] = receipts.key_set()["keys"]
        public_key = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(key["x"] + "="))
        public_key.verify(base64.urlsafe_b64decode(receipt["signature"]["value"] + "=="), plain.encode())
        assert receipt["signature"]["key_id"] == key["kid"]

    def test_a_receipt_survives_what_tools_do_to_json(self):
        receipt = signed(content(amount=Decimal("-0.5"), whole=Decimal(250), text="é"))
        for document in (
            text_of(receipt, indent=4),
            text_of(receipt, sort_keys=True, ensure_ascii=False),
            text_of(dict(reversed(receipt.items()))),
            text_of(receipt).replace(b"0.1475", b"1.475e-1").replace(b"250.0", b"2.5e2"),
            b"\xef\xbb\xbf" + text_of(receipt),
        ):
            assert verified(document, own_keys())["credits_used"] == Decimal("0.1475")

    @pytest.mark.slow
    @given(VALUES)
    def test_whatever_it_says_it_can_be_verified(self, value):
        document = receipts._canonical(signed(content(value=value)))
        assert verified(document, own_keys()) == content(value=value)

    @given(st.data())
    def test_a_changed_byte_is_found(self, data):
        """Also inside the signature. White space and equal writings of a number are no change; this makes none."""
        document = receipts._canonical(signed(content(model="gpt-4o", tokens=1200)))
        at = data.draw(st.integers(0, len(document) - 1))
        changed = document[:at] + bytes([document[at] ^ data.draw(st.sampled_from([1, 2, 4, 8, 16]))]) + document[at + 1 :]
        with pytest.raises(InvalidReceipt):
            verified(changed, own_keys())


class TestForgeries:
    @pytest.mark.parametrize(
        ("document", "reason"),
        [
            (b"", "not a JSON text"),
            (b"{", "not a JSON text"),
            (b"\xff", "not a JSON text"),
            (b"[" * 100_000, "not a JSON text"),
            (b"[]", "not a receipt"),
            (b"null", "not a receipt"),
            (b"{}", "not a receipt"),
            (text_of(NAMED | {"credits_used": 1}), "not a receipt"),
            (text_of(content(signature="x")), "no signature"),
            (text_of(content(signature={})), "not an Ed25519"),
            (text_of(content(signature={"algorithm": "none", "key_id": "k", "value": ""})), "not an Ed25519"),
            (text_of(content(signature={"algorithm": "Ed25519", "key_id": ["k"], "value": ""})), "not an Ed25519"),
            (text_of(content(signature={"algorithm": "Ed25519", "key_id": "k", "value": ""})), "'k', which is not among"),
            (text_of(content(signature={"algorithm": "Ed25519", "key_id": "\x1b[2J", "value": ""})), r"'\?\[2J'"),
            (b'{"a": NaN}', "NaN is not a number"),
            (b'{"a": -Infinity}', "Infinity is not a number"),
            (b'{"a": 1e999999999999999999999}', "a number that no receipt has"),
            (b'{"a": 1e400}', "a number that no receipt has"),
            (b'{"a": 0.0000001}', "a number that no receipt has"),
            (b'{"a": ' + b"9" * 5000 + b"}", "a number that no receipt has"),
            (b'{"credits_used": 1, "credits_used": 2}', "stands twice"),
            (b'{"a": {"b": 1, "b": 1}}', "stands twice"),
        ],
    )
    def test_are_told_in_words(self, document, reason):
        with pytest.raises(InvalidReceipt, match=reason):
            verified(document, own_keys())

    @pytest.mark.parametrize("value", ["", "AAAA", "A" * 86, "é", "not base64!", "AA=A"])
    def test_of_the_signature(self, value):
        receipt = signed(content())
        receipt["signature"]["value"] = value
        with pytest.raises(InvalidReceipt, match="does not match"):
            verified(text_of(receipt), own_keys())

    def test_by_another_writing_of_the_same_signature(self):
        """The last character of 64 bytes in base64 has four bits that mean nothing."""
        receipt = signed(content())
        value = receipt["signature"]["value"]
        other = value[:-1] + chr(ord(value[-1]) + 1)
        assert base64.urlsafe_b64decode(other + "==") == base64.urlsafe_b64decode(value + "==")
        receipt["signature"]["value"] = other
        with pytest.raises(InvalidReceipt, match="does not match"):
            verified(text_of(receipt), own_keys())

    @pytest.mark.parametrize("value", ["\ud800", {"\udfff": 1}])
    def test_with_a_half_character_are_refused(self, value):
        receipt = signed(content(value="x")) | {"value": value}
        with pytest.raises(InvalidReceipt):
            verified(text_of(receipt), own_keys())

    def test_by_another_key_under_our_name(self, settings):
        ours = own_keys()
        settings.RECEIPT_SIGNING_KEYS = SEEDS[1:2]
        forged = signed(content())
        forged["signature"]["key_id"] = next(iter(ours))
        with pytest.raises(InvalidReceipt, match="does not match"):
            verified(text_of(forged), ours)


class TestKeys:
    def test_the_first_signs_and_all_verify(self, settings):
        old = text_of(signed(content()))
        settings.RECEIPT_SIGNING_KEYS = [SEEDS[1], SEEDS[0]]
        new = signed(content())
        assert new["signature"]["key_id"] == next(iter(own_keys())) != json.loads(old)["signature"]["key_id"]
        assert verified(old, own_keys()) == verified(text_of(new), own_keys())
        settings.RECEIPT_SIGNING_KEYS = SEEDS[1:2]
        with pytest.raises(InvalidReceipt, match="not among the known keys"):
            verified(old, own_keys())

    def test_are_published_as_a_set_that_can_be_read_back(self, settings):
        settings.RECEIPT_SIGNING_KEYS = SEEDS
        document = json.dumps(receipts.key_set()).encode()
        assert list(receipts.read_key_set(document)) == [key["kid"] for key in receipts.key_set()["keys"]] == list(own_keys())
        assert not any(seed in document.decode() for seed in SEEDS)

    def test_the_thumbprint_is_that_of_rfc_8037(self):
        """The example of its appendix A.3."""
        x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
        [key_id] = receipts.read_key_set(json.dumps({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": x}]}).encode())
        assert key_id == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"

    def test_of_other_kinds_are_passed_over(self):
        assert receipts.read_key_set(b'{"keys": [{"kty": "RSA", "n": "x"}]}') == {}

    @pytest.mark.parametrize(
        "document",
        [
            *(b"", b"[]", b"{}", b"null", b'{"keys": 1}', b'{"keys": [1]}', b'{"keys": [{}]}', b"[" * 100_000),
            *(b'{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}]}', b'{"keys": [{"kty": "OKP", "crv": "Ed25519"}]}'),
            *(
                b'{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": 7}]}',
                b'{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "\xff"}]}',
            ),
        ],
    )
    def test_that_cannot_be_read_are_refused(self, document):
        with pytest.raises(receipts.UnreadableKeys):
            receipts.read_key_set(document)

    @pytest.mark.parametrize("seeds", [[], ["hunter2"], ["A" * 43], [base64.b64encode(b"x" * 31).decode()], [SEEDS[0], "é"]])
    def test_that_are_no_seeds_are_refused_without_being_shown(self, settings, seeds):
        settings.RECEIPT_SIGNING_KEYS = seeds
        with pytest.raises(ImproperlyConfigured, match="RECEIPT_SIGNING_KEYS") as refusal:
            signed(content())
        assert not any(seed in str(refusal.value) for seed in seeds)


@pytest.mark.django_db
class TestMaking:
    def test_a_receipt_says_what_was_booked(self, acme):
        record = add_charge(
            acme,
            147_500,
            lines=[
                line("input", 1_000, 100_000_000, 100_000),
                line("output", 190, 250_000_000, 47_499),
                {**line("rounding", 1, 1, 1), "unit": "request"},
            ],
            request_id="nightly",
            model_asked="gpt-5",
            fallback_depth=1,
            cached_tokens=3,
            first_token_ms=45,
        )
        receipt = get_receipt(acme.workspace.pk, record.generation)
        signature = receipt.pop("signature")
        assert signature.keys() == {"algorithm", "key_id", "value"}
        assert receipt == {
            "object": "receipt",
            "id": record.generation,
            "request_id": "nightly",
            "workspace_id": acme.workspace.public_id,
            "api_key_id": acme.key.public_id,
            "created_at": "2026-03-10T12:00:00.000000Z",
            "model_asked": "gpt-5",
            "model_used": "gpt-4o",
            "provider": "openai",
            "fallback_depth": 1,
            "is_stream": False,
            "status": 200,
            "end_state": "done",
            "finish_reason": "stop",
            "error_code": None,
            "usage": {
                "prompt_tokens": 10,
                "completion_tokens": 4,
                "cached_tokens": 3,
                "cache_write_tokens": 0,
                "audio_tokens": 0,
                "reasoning_tokens": 0,
            },
            "usage_source": "reported",
            "price_version": 7,
            "lines": [
                shown_line("input", 1_000, "100", "0.1"),
                shown_line("output", 190, "250", "0.047499"),
                {**shown_line("rounding", 1, "0.000001", "0.000001"), "unit": "request"},
            ],
            "credits_used": Decimal("0.1475"),
            "overrun_credits": Decimal(0),
            "attempts": [{"model": "gpt-4o", "provider": "openai", "upstream_model": "gpt-4o-2024-11-20", "result": "served"}],
            "adaptations": ["dropped=top_k"],
            "timings_ms": {"total": 120, "upstream": 100},
            "latency_ms": 120,
            "first_token_ms": 45,
        }

    def test_it_takes_one_query(self, acme, django_assert_num_queries):
        record = add_charge(acme, 5)
        with django_assert_num_queries(1):
            get_receipt(acme.workspace.pk, record.generation)

    def test_without_a_trace_nothing_is_known_of_the_attempts(self, acme):
        record = add_charge(acme, 5)
        before = get_receipt(acme.workspace.pk, record.generation)
        RequestTrace.objects.all().delete()
        receipt = get_receipt(acme.workspace.pk, record.generation)
        assert (receipt["attempts"], receipt["adaptations"], receipt["timings_ms"]) == (None, None, None)
        assert receipt["credits_used"] == before["credits_used"]
        verified(receipts._canonical(receipt), own_keys())

    def test_a_refused_request_has_one_too(self, acme):
        receipt = get_receipt(acme.workspace.pk, add_refusal(acme, error_code="model_not_found").generation)
        assert (receipt["credits_used"], receipt["lines"], receipt["model_used"]) == (0, [], None)
        assert (receipt["status"], receipt["error_code"], receipt["usage_source"]) == (404, "model_not_found", None)

    def test_a_label_finds_the_newest_of_the_workspace(self, acme, rival):
        for minutes in (1, 3, 2):
            add_record(acme, request_id="job", generation=f"g{minutes}", created_at=NOON + timedelta(minutes=minutes))
        add_record(rival, request_id="job", generation="theirs", created_at=NOON + timedelta(hours=1))
        assert get_receipt(acme.workspace.pk, "job")["id"] == "g3"

    def test_of_two_that_were_booked_at_once_the_later_row_is_the_newest(self, acme):
        add_record(acme, request_id="job", generation="g1")
        add_record(acme, request_id="job", generation="g2")
        assert get_receipt(acme.workspace.pk, "job")["id"] == "g2"

    def test_an_id_goes_before_a_label_of_the_same_text(self, acme):
        first = add_record(acme, request_id="other")
        add_record(acme, request_id=first.generation, created_at=NOON + timedelta(hours=1))
        assert get_receipt(acme.workspace.pk, first.generation)["id"] == first.generation

    def test_a_foreign_generation_is_none_of_ours_even_as_a_label(self, acme, rival):
        theirs = add_charge(rival, 5)
        assert get_receipt(acme.workspace.pk, theirs.generation) is None
        assert get_receipt(acme.workspace.pk, theirs.request_id) is None
        add_record(acme, request_id=theirs.generation, generation="ours")
        assert get_receipt(acme.workspace.pk, theirs.generation)["id"] == "ours"

    @pytest.mark.parametrize("reference", ["", "x", "\0", "a b", "%", "x" * 129, "' OR 1=1 --", "é"])
    def test_what_nobody_asked_has_none(self, acme, reference):
        add_charge(acme, 5)
        assert get_receipt(acme.workspace.pk, reference) is None

    @pytest.mark.parametrize(
        "fields",
        [
            {"charged_microcredits": 5, "lines": []},
            {"charged_microcredits": 5, "lines": [{"amount_microcredits": 5}]},
            {"charged_microcredits": 0, "lines": [{"amount_microcredits": 5}]},
        ],
        ids=["lines are missing", "the entry is missing", "nothing was charged"],
    )
    def test_nothing_is_signed_that_does_not_add_up(self, acme, fields):
        record = add_record(acme, **fields)
        with pytest.raises(BooksDisagree, match=record.generation):
            get_receipt(acme.workspace.pk, record.generation)


def line(kind, quantity, price, amount):
    return {
        "kind": kind,
        "quantity": quantity,
        "unit": "million_tokens",
        "unit_price_microcredits": price,
        "amount_microcredits": amount,
    }


def shown_line(kind, quantity, price, amount):
    return {
        "kind": kind,
        "quantity": quantity,
        "unit": "million_tokens",
        "unit_price_credits": Decimal(price),
        "amount_credits": Decimal(amount),
    }


@pytest.mark.django_db(transaction=True)
def test_of_a_settlement_lines_charge_and_entry_are_one_amount():
    """By the ledger itself: exact prices, a clamped charge with its overrun, and a void."""
    subject = open_workspace(10**9)
    prices = PriceList(7, 123_457, 1_000_003, 11, 13, 17, 19, pdf_page=200_000)
    usage = Usage(prompt_tokens=999, completion_tokens=77, cached_tokens=100, reasoning_tokens=7)
    exact = cost(usage, prices, pdf_pages=3)
    cases = {generation_id(): held for held in (exact.total_microcredits, exact.total_microcredits - 5, 10**6)}

    async def scenario(writer):
        for generation, held in cases.items():
            await writer.hold(hold_of(subject, held, generation=generation))
            await writer.settle(settle_of(subject, generation, exact.total_microcredits, usage=usage, lines=exact.lines))

    with_writer(scenario)
    for generation, held in cases.items():
        receipt = get_receipt(subject.workspace_id, generation)
        charged = min(held, exact.total_microcredits)
        assert receipt["credits_used"] == Decimal(charged) / 10**6 == sum(line["amount_credits"] for line in receipt["lines"])
        assert Entry.objects.get(generation=generation, kind="usage").amount_microcredits == charged
        assert receipt["overrun_credits"] == Decimal(exact.total_microcredits - charged) / 10**6
        verified(receipts._canonical(receipt), own_keys())
    assert UsageRecord.objects.filter(workspace_id=subject.workspace_id).count() == 3
