"""The pages of payments: what is bought there, and that there are none without a provider."""

from __future__ import annotations

import re

import pytest

from billing.models import Payment, PaymentTerms
from tests.fakes.stripe_api import switched_on
from tests.worlds import make_payment

pytestmark = pytest.mark.django_db


@pytest.fixture
def stripe(settings):
    with switched_on(settings) as fake:
        yield fake


def test_a_sum_that_is_offered_or_ones_own_leads_to_the_page_of_a_payment(as_role, stripe):
    visit = as_role("billing")
    for form, units in (({"credits": "2500"}, 2500), ({"credits": "own", "own": "1,234", "keep": "yes"}, 1234)):
        response = visit("credits/top-up", form)
        payment = Payment.objects.latest("pk")
        assert response["location"].endswith(f"/credits/payments/{payment.public_id}?pay=now")
        assert (payment.price_units, payment.keeps_card, payment.created_by) == (units, "keep" in form, "user:billing-of-acme")
        page = visit(response["location"]).content.decode()
        assert f'href="{payment.checkout_url}" data-forward' in page
        session = stripe.sessions[payment.session_id]
        assert session["success_url"].endswith(f"/credits/payments/{payment.public_id}")
        assert session["setup_future_usage"] == ("off_session" if "keep" in form else None)
    assert "data-forward" not in as_role("viewer")(f"credits/payments/{payment.public_id}").content.decode()


@pytest.mark.parametrize("own", ["", "much", "-500", "499", "1e3", "9" * 30, "٥٠٠"])
def test_a_sum_that_cannot_be_is_told_at_its_field(as_role, stripe, own):
    response = as_role("owner")("credits/top-up", {"credits": "own", "own": own})
    assert response.status_code == 400
    page = response.content.decode()
    assert 'id="own-error"' in page
    assert re.findall(r'name="credits" value="(\w+)"[^>]* checked', page) == ["own"]
    assert not Payment.objects.exists()


@pytest.mark.parametrize("own", ["7500", "1000", "much", "0"])
def test_a_sum_that_is_typed_beside_another_choice_is_not_passed_over(as_role, stripe, own):
    visit = as_role("owner")
    response = visit("credits/top-up", {"credits": "2500", "own": own})
    page = response.content.decode()
    assert response.status_code == 400
    assert "2,500 credits are chosen above" in page
    assert f'name="own" value="{own}"' in page
    assert re.findall(r'name="credits" value="(\w+)"[^>]* checked', page) == ["2500"]
    assert not Payment.objects.exists()
    assert re.findall(r'name="credits" value="(\w+)"[^>]* checked', visit("credits").content.decode()) == ["1000"]
    assert visit("credits/top-up", {"credits": "2500", "own": " "}).status_code == 302


def test_a_payment_that_was_not_made_says_why(as_role, stripe, acme):
    visit = as_role("viewer")
    payment = make_payment(acme.workspace)
    for why, told in (
        ("", "Nobody paid in time"),
        ("Auto top-up was switched off.", "Auto top-up was switched off. Nothing was"),
    ):
        Payment.objects.update(state="canceled", failure=why)
        assert told in visit(f"credits/payments/{payment.public_id}").content.decode()


def test_auto_top_up_is_set_where_a_card_is_kept(as_role, stripe, acme):
    visit = as_role("owner")
    form = {"state": "on", "threshold": "100", "amount": "1000", "ceiling": "5,000"}
    assert b"Keep the card" in visit("credits/payments").content
    assert visit("credits/auto", form).status_code == 400
    PaymentTerms.objects.create(workspace=acme.workspace, customer_id="cus", method_id="pm")
    assert visit("credits/auto", form).status_code == 302
    assert PaymentTerms.objects.get().ceiling_microcredits == 5_000_000_000
    for field in ("threshold", "amount", "ceiling"):
        page = visit("credits/auto", form | {field: "x"})
        assert (page.status_code, f'id="{field}-error"' in page.content.decode()) == (400, True)
    assert visit("credits/auto", {"state": "off"}).status_code == 302
    assert not PaymentTerms.objects.get().is_auto


def test_payments_are_paged_by_their_last_row_in_few_queries(as_role, stripe, acme, django_assert_max_num_queries):
    made = [make_payment(acme.workspace).public_id for _ in range(35)]
    visit = as_role("viewer")
    visit("credits/payments")
    with django_assert_max_num_queries(9):
        first = visit("credits/payments").content.decode()
    second = visit(f"credits/payments?after={Payment.objects.get(public_id=made[5]).pk}").content.decode()
    assert [one for one in made if one in first] == made[5:]
    assert [one for one in made if one in second] == made[:5]
    for nonsense in ("x", "9" * 40):
        assert visit(f"credits/payments?after={nonsense}").status_code == 404


def test_without_a_provider_there_are_codes_and_no_payments(as_role, acme):
    visit = as_role("owner")
    page = visit("credits").content.decode()
    assert "No payment service is set up here" in page
    assert "Go to payment" not in page
    for path, form in (("credits/payments", None), ("credits/top-up", {"credits": "1000"}), ("credits/auto", {"state": "off"})):
        assert visit(path, form).status_code == 404
    assert visit(f"credits/payments/{make_payment(acme.workspace).public_id}").status_code == 404
