"""How credit comes to a workspace, in a real Chromium: codes that staff issue and people redeem."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.e2e.test_console import Person


@pytest.fixture
def owner(browser, site, server):
    one = Person(browser, site, server, "owner@codes.example")
    one.sign_up()
    one.found("codes")
    yield one
    one.visitor.close()
    assert one.visitor.faults == []


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
