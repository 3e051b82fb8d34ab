"""How credit comes to a workspace, in a real Chromium: codes that people redeem, and payments on Stripe's page."""

from __future__ import annotations

import time

import pytest
from playwright.sync_api import expect

from tests.e2e.customers import Person


@pytest.fixture
def owner(request, browser, site, server, clerk):
    email = f"owner{len(request.node.name)}@codes.example"
    one = Person(browser, site, server, email, clerk.ask("come", email))
    one.found("topping up")
    yield one
    one.visitor.close()
    assert one.visitor.faults == []


@pytest.mark.slow
def test_staff_issue_a_code_and_a_workspace_redeems_it_once(visit, owner):
    staff = visit("finn")
    page = staff.open("/admin/billing/codebatch/")
    page.get_by_role("link", name="Issue codes").click()
    page.select_option("[name=kind]", "top_up")
    page.fill("[name=amount]", "25")
    page.fill("[name=count]", "2")
    page.fill("[name=reason]", "sold by hand")
    staff.shot("codes-issue")
    page.get_by_role("button", name="Issue codes").click()
    first = page.locator("#new-codes").input_value().split("\n")[0]
    assert staff.violations() == []
    staff.shot("codes-made")
    page.get_by_role("link", name="Done").click()
    expect(page.locator("#result_list")).to_contain_text("sold by hand")
    assert first not in page.content()
    staff.shot("codes-list")

    owner.go("credits")
    page = owner.page
    page.fill("#code", "ABCDE-ABCDE-ABCDE-ABCDE")
    page.get_by_role("button", name="Redeem code").click()
    expect(page.locator("#code-error")).to_contain_text("not known")
    owner.visitor.faults.clear()  # Chromium says 400 in its console
    owner.visitor.shot("credits-wrong-code")
    page.fill("#code", first.lower())
    page.get_by_role("button", name="Redeem code").click()
    expect(page.get_by_text("25 credits were added.")).to_be_visible()
    expect(page.locator("tbody tr").first).to_contain_text("+25.0000")
    owner.visitor.shot("credits-redeemed")
    assert owner.visitor.violations() == []


@pytest.mark.slow
def test_a_sum_that_is_typed_is_what_is_paid(owner, stripe):
    owner.go("credits")
    page = owner.page
    expect(page.get_by_label("1,000")).to_be_checked()
    page.get_by_label("Own sum").focus()
    expect(page.get_by_label("1,000")).to_be_checked()
    page.get_by_label("Own sum").press_sequentially("7500")
    expect(page.get_by_label("A sum of your own")).to_be_checked()

    page.get_by_label("2,500").check()
    page.get_by_role("button", name="Go to payment").click()
    expect(page.locator("#own-error")).to_contain_text("2,500 credits are chosen above")
    owner.visitor.faults.clear()  # Chromium says 400 in its console
    owner.visitor.shot("credits-two-sums")
    page.get_by_label("A sum of your own").check()
    page.get_by_role("button", name="Go to payment").click()
    page.wait_for_url(f"{stripe.url}/pay/*")
    page.get_by_role("button", name="Pay now").click()
    expect(page.get_by_role("heading", name="7,500 credits")).to_be_visible()
    owner.visitor.faults.clear()


@pytest.mark.slow
def test_credit_is_paid_for_on_stripes_page_and_bought_again_by_itself(owner, stripe):
    owner.go("credits")
    page = owner.page
    owner.visitor.shot("credits-top-up")
    page.get_by_label("2,500").check()
    page.get_by_label("Keep the card for auto top-up").check()
    page.get_by_role("button", name="Go to payment").click()
    page.wait_for_url(f"{stripe.url}/pay/*")
    page.get_by_role("button", name="Pay now").click()
    page.wait_for_url("**/credits/payments/*")
    expect(page.get_by_role("heading", name="2,500 credits")).to_be_visible()
    expect(page.get_by_text("Paid", exact=True)).to_be_visible()
    owner.visitor.shot("payment")
    assert owner.visitor.violations() == []
    assert all(fault.startswith(f"outside: {stripe.url}/") for fault in owner.visitor.faults)
    owner.visitor.faults.clear()

    page.get_by_role("link", name="Payments").click()
    page.fill("#threshold", "3000")
    page.get_by_role("button", name="Switch on").click()
    expect(page.get_by_text("Auto top-up is on.")).to_be_visible()
    deadline = time.monotonic() + 60
    while not stripe.charges:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    page.reload()
    expect(page.locator("tbody").get_by_text("Auto top-up")).to_be_visible()
    owner.visitor.shot("payments")
    assert owner.visitor.violations() == []
    owner.go("credits")
    expect(page.locator("tbody tr").first).to_contain_text("3,500.0000")
