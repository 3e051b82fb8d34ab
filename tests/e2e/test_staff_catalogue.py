"""Prices to come and fallback chains, as staff make them in a real browser, and what customers' programs see of them."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from playwright.sync_api import expect

from tests.e2e.test_staff_tasks import WITHIN_S, ask, open_row, receipt_of, save
from tests.fakes.script import Script

AHEAD_S = 8.0


@pytest.mark.slow
def test_a_scheduled_price_begins_by_itself_and_an_open_request_keeps_its_own(visit, api, provider):
    provider.script("repriced", Script(delay_head_s=AHEAD_S + 3), Script())
    started: list[httpx.Response] = []
    running = threading.Thread(target=lambda: started.append(ask(api, "repriced")))
    running.start()
    provider.wait_for(lambda seen: any(one.script == "repriced" for one in seen), 15)
    old = api.get("/models/repriced").json()["prices"]["input"]
    visitor = visit("cat")
    page = open_row(visitor, "/admin/chat/catalogmodel/", "repriced", "repriced")
    begins_at = (datetime.now(UTC) + timedelta(seconds=AHEAD_S)).replace(microsecond=0)
    page.locator("#id_prices-0-input_microcredits").fill(str(int(old) + 5))
    page.locator("#id_prices-0-begins_at_0").fill(f"{begins_at:%Y-%m-%d}")
    page.locator("#id_prices-0-begins_at_1").fill(f"{begins_at:%H:%M:%S}")
    save(page)
    assert api.get("/models/repriced").json()["prices"]["input"] == old
    while (shown := api.get("/models/repriced").json()["prices"]["input"]) == old:
        assert datetime.now(UTC) < begins_at + timedelta(seconds=WITHIN_S)
        time.sleep(0.05)
    assert datetime.now(UTC) >= begins_at
    assert shown == old + 5
    after = ask(api, "repriced")
    running.join()
    before, later = (receipt_of(api, response.json()["id"]) for response in (started[0], after))
    assert before["price_version"] < later["price_version"]
    assert later["attempts"][-1]["prompt_tokens_estimate"] > 0


@pytest.mark.slow
def test_staff_see_what_is_scheduled_and_withdraw_it(visit, api):
    visitor = visit("cat")
    page = open_row(visitor, "/admin/chat/catalogmodel/", "plain", "plain")
    page.locator("#id_prices-0-input_microcredits").fill("77")
    page.locator("#id_prices-0-begins_at_0").fill("2999-12-01")
    page.locator("#id_prices-0-begins_at_1").fill("00:00:00")
    visitor.shot("price-new")
    save(page)
    page = open_row(visitor, "/admin/chat/catalogmodel/", "plain", "plain")
    expect(page.locator("#prices-2-data")).to_contain_text("from 1 Dec 2999")
    visitor.shot("price-scheduled")
    assert not visitor.violations()
    page = visitor.open("/admin/chat/price/")
    visitor.shot("price-list")
    assert not visitor.violations()
    row = page.locator("#result_list tbody").filter(has_text="Scheduled")
    expect(row).to_have_count(1)
    row.get_by_role("link").first.click()
    page.get_by_role("link", name="Withdraw").click()
    page.locator("#id_reason").fill("Not yet")
    visitor.shot("price-withdraw")
    page.get_by_role("button", name="Withdraw").click()
    expect(page.get_by_text("is withdrawn").first).to_be_visible()
    visitor.shot("price-withdrawn")
    assert not visitor.violations()


@pytest.mark.slow
def test_a_chain_is_put_in_order_by_dragging_and_by_the_keyboard(visit, api):
    visitor = visit("cat")
    page = visitor.open("/admin/chat/fallbackchain/add/")
    page.locator("#select2-id_source-container").click()
    page.locator(".select2-search__field").fill("plain")
    page.locator(".select2-results__option", has_text="plain").first.click()
    for number, slug in enumerate(("main", "second", "third")):
        page.locator(f"#id_links-{number}-target").select_option(slug)
    save(page)

    def open_chain():
        page = visitor.open("/admin/chat/fallbackchain/?q=plain")
        page.locator("#result_list tbody", has_text="Every workspace").get_by_role("link").first.click()
        rows = page.locator(".form-group.original")
        expect(rows).to_have_count(3)
        return page, rows

    def models(rows):
        return [row.locator("select").input_value() for row in rows.all()]

    page, rows = open_chain()
    visitor.shot("chain")
    assert not visitor.violations()
    assert models(rows) == ["main", "second", "third"]
    handles = page.locator(".form-group.original [x-sort\\:handle]")
    handles.nth(2).drag_to(rows.nth(0), target_position={"x": 60, "y": 8})
    assert models(rows) == ["third", "main", "second"]
    visitor.shot("chain-dragged")
    save(page)
    page, rows = open_chain()
    assert models(rows) == ["third", "main", "second"]
    place = rows.nth(0).get_by_role("spinbutton")
    place.focus()
    for key in ("Control+a", "3"):
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    expect(page.get_by_text("successfully").first).to_be_visible()
    page, rows = open_chain()
    assert models(rows) == ["main", "second", "third"]
    rows.nth(2).locator("select").select_option("plain")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("cannot fall back to itself")).to_be_visible()
    visitor.shot("chain-refused")
