"""What staff do in a day, each task in a real browser, and what a customer's program sees of it."""

from __future__ import annotations

import base64
import re
import threading
import time
from typing import Any

import httpx
import pytest
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value, yield_hotp_counters_from_time
from playwright.sync_api import Page, expect

from tests.e2e.browsing import Visitor
from tests.fakes.pdfs import of_pages
from tests.fakes.script import Script

WITHIN_S = 1.0


def ask(api: httpx.Client, model: str, *parts: dict[str, Any], **options: Any) -> httpx.Response:
    content: Any = [{"type": "text", "text": "Hello"}, *parts] if parts else "Hello"
    return api.post("/chat/completions", json={"model": model, "messages": [{"role": "user", "content": content}]} | options)


def pdf(*pages: str) -> dict[str, Any]:
    data = base64.b64encode(of_pages(pages)).decode()
    return {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{data}"}}


def save(page: Page) -> None:
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("successfully").first).to_be_visible()


def open_row(visitor: Visitor, path: str, query: str, name: str) -> Page:
    """The page of a row, found by the search of its list and opened by its link."""
    page = visitor.open(f"{path}?q={query}")
    page.locator("#result_list").get_by_role("link", name=name, exact=True).first.click()
    page.wait_for_load_state()
    return page


def receipt_of(api: httpx.Client, generation: str) -> dict[str, Any]:
    deadline = time.monotonic() + 5
    while (response := api.get(f"/generations/{generation}")).status_code != 200:
        assert time.monotonic() < deadline, response.text
        time.sleep(0.05)
    receipt: dict[str, Any] = response.json()
    return receipt


@pytest.mark.slow
def test_the_first_sign_in_sets_up_a_second_factor(visit):
    visitor = visit("nobody")
    page = visitor.open("/admin/")
    assert not visitor.violations()
    visitor.shot("sign-in")
    page.get_by_label("Login").or_(page.get_by_label("Username")).first.fill("newcomer")
    page.get_by_label("Password").fill("correct horse battery")
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.get_by_role("heading", name="Set up your second factor")).to_be_visible()
    assert not visitor.violations()
    visitor.shot("second-factor")
    secret = page.get_by_label("Secret").input_value()
    counters = list(yield_hotp_counters_from_time())
    page.locator("#id_code").fill(format_hotp_value(hotp_value(secret, counters[len(counters) // 2])))
    page.get_by_role("button", name="Turn on").click()
    expect(page.get_by_role("heading", name="Recovery codes")).to_be_visible()
    assert not visitor.violations()
    visitor.shot("recovery-codes")
    page.get_by_role("link", name="Open the staff admin").click()
    expect(page.get_by_role("link", name="Workspaces")).to_be_visible()


@pytest.mark.slow
def test_a_model_with_two_targets_and_a_price_is_listed_within_a_second_and_can_be_called(visit, api, provider):
    visitor = visit("cat")
    page = visitor.open("/admin/chat/catalogmodel/add/")
    for name, value in {"slug": "brand-new", "name": "Brand new", "owned_by": "us"}.items():
        page.locator(f"#id_{name}").fill(value)
    page.locator("#id_context_window").fill("8000")
    page.locator("#id_max_output_tokens").fill("1000")
    for number, upstream in enumerate(("new-a", "new-b")):
        page.get_by_text("Add another Target").click()
        page.locator(f"#id_targets-{number}-provider").select_option(label="fake")
        page.locator(f"#id_targets-{number}-upstream_model").fill(upstream)
    page.locator("#id_prices-0-input_microcredits").fill("2.5")
    page.locator("#id_prices-0-output_microcredits").fill("10")
    visitor.shot("model-add")
    save(page)
    deadline = time.monotonic() + WITHIN_S
    while api.get("/models/brand-new").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert ask(api, "brand-new").json()["model"] == "brand-new"
    assert {seen.script for seen in provider.requests()} <= {"new-a", "new-b"}


@pytest.mark.slow
def test_a_model_that_learns_pdfs_gets_them_as_they_are(visit, api, provider):
    converted = ask(api, "seeing", pdf("Turnover grew."))
    assert "pdf=text+pages:1" in converted.headers["x-request-adaptations"]
    visitor = visit("cat")
    page = open_row(visitor, "/admin/chat/catalogmodel/", "seeing", "seeing")
    page.locator("#id_supports_pdf").dispatch_event("click")
    expect(page.locator("#id_supports_pdf")).to_be_checked()
    visitor.shot("model-flags")
    save(page)
    time.sleep(WITHIN_S)
    native = ask(api, "seeing", pdf("Turnover fell."))
    assert native.status_code == 200
    assert "pdf=" not in native.headers.get("x-request-adaptations", "")
    assert b"application/pdf" in provider.requests()[-1].body


@pytest.mark.slow
def test_a_new_page_fee_is_in_the_next_receipt_and_not_in_one_that_is_open(visit, api, provider):
    provider.script("listening", Script(delay_head_s=6.0), Script())
    started: list[httpx.Response] = []
    running = threading.Thread(target=lambda: started.append(ask(api, "listening", pdf("One page of the old fee."))))
    running.start()
    provider.wait_for(lambda seen: any(one.script == "listening" for one in seen), 15)
    visitor = visit("cat")
    page = open_row(visitor, "/admin/chat/catalogmodel/", "listening", "listening")
    page.locator("#id_prices-0-pdf_page_microcredits").fill("0.9")
    save(page)
    visitor.shot("model-prices")
    time.sleep(WITHIN_S)
    after = ask(api, "listening", pdf("One page of the new fee."))
    running.join()
    fees = [
        next(
            line["unit_price_credits"] for line in receipt_of(api, response.json()["id"])["lines"] if line["kind"] == "pdf_page"
        )
        for response in (started[0], after)
    ]
    assert fees == [0.2, 0.9]


@pytest.mark.slow
def test_a_failing_model_falls_along_a_chain_that_staff_built(visit, api, provider):
    visitor = visit("cat")
    page = visitor.open("/admin/chat/fallbackchain/add/")
    page.locator("#select2-id_source-container").click()
    page.locator(".select2-search__field").fill("keyed")
    page.locator(".select2-results__option", has_text="keyed").first.click()
    for number, slug in enumerate(("main", "second", "third")):
        page.locator(f"#id_links-{number}-target").select_option(slug)
    visitor.shot("chain-add")
    save(page)
    time.sleep(WITHIN_S)
    for name in ("keyed", "main", "second"):
        provider.script(name, Script(status=500))
    response = ask(api, "keyed")
    assert (response.headers["x-model-used"], response.headers["x-fallback-depth"]) == ("third", "3")
    page = visitor.open("/admin/chat/fallbackchain/route/?model=keyed")
    expect(page.locator(".gw-step")).to_have_count(4)
    visitor.shot("route")


@pytest.mark.slow
def test_credits_are_granted_with_a_reason_that_stands_in_entry_and_audit_trail(visit, installation):
    visitor = visit("ben")
    page = open_row(visitor, "/admin/billing/workspace/", "modest", "modest")
    page.get_by_role("link", name="Move credits").click()
    page.locator("#id_kind").select_option("grant")
    page.locator("#id_amount").fill("12.5")
    page.locator("#id_reason").fill("Sorry for Tuesday")
    visitor.shot("grant")
    page.get_by_role("button", name="Move credits").click()
    expect(page.get_by_text("12.5 credits: Grant booked")).to_be_visible()
    visitor.shot("workspace")
    page = visitor.open("/admin/billing/entry/")
    expect(page.locator("#result_list tbody").first).to_contain_text("Sorry for Tuesday")
    page = visitor.open("/admin/billing/auditevent/?q=credits.grant")
    expect(page.locator("#result_list tbody").first).to_contain_text("staff:ben")
    expect(page.locator("#result_list tbody").first).to_contain_text("Sorry for Tuesday")


@pytest.mark.slow
def test_a_request_is_found_by_its_id_and_refunded(visit, api):
    label = f"refund-me-{time.time_ns()}"
    answer = api.post(
        "/chat/completions",
        json={"model": "main", "messages": [{"role": "user", "content": "Hello"}]},
        headers={"x-request-id": label},
    )
    receipt_of(api, answer.json()["id"])
    visitor = visit("ben")
    page = visitor.open("/admin/billing/usagerecord/")
    page.locator("#searchbar").fill(label)
    page.locator("#searchbar").press("Enter")
    expect(page.locator("#result_list tbody")).to_have_count(1)
    page.locator("#result_list tbody a").first.click()
    expect(page.get_by_role("heading", name="Receipt")).to_be_visible()
    visitor.shot("request")
    page.get_by_role("link", name="Refund").click()
    page.locator("#id_reason").fill("It was our fault")
    page.get_by_role("button", name="Refund credits").click()
    expect(page.get_by_text("Refund booked")).to_be_visible()
    expect(page.locator(".gw-receipt")).to_contain_text("Refunded")
    visitor.open(f"/admin/billing/entry/?q={label}")
    expect(page.locator("#result_list tbody")).to_have_count(2)


@pytest.mark.slow
def test_a_suspended_workspace_gets_403(visit, server, installation):
    headers = {"authorization": f"Bearer {installation.keys['broke']}"}
    with httpx.Client(base_url=server.base_url, headers=headers, trust_env=False) as client:
        assert client.get("/models").status_code == 200
        visitor = visit("ben")
        page = open_row(visitor, "/admin/billing/workspace/", "broke", "broke")
        page.get_by_role("link", name="Suspend").click()
        page.locator("#id_reason").fill("Unpaid")
        page.get_by_role("button", name="Suspend").click()
        expect(page.get_by_text("is suspended")).to_be_visible()
        time.sleep(WITHIN_S)
        assert client.get("/models").status_code == 403
        page.get_by_role("link", name="Activate").click()
        page.locator("#id_reason").fill("Paid")
        page.get_by_role("button", name="Activate").click()
        expect(page.get_by_text("is active")).to_be_visible()
        time.sleep(WITHIN_S)
        assert client.get("/models").status_code == 200


@pytest.mark.slow
def test_a_provider_s_key_is_rotated_under_load_without_a_failed_request(visit, api, provider):
    visitor = visit("cat")
    statuses: list[int] = []
    is_over = threading.Event()

    def call() -> None:
        while not is_over.is_set():
            statuses.append(ask(api, "main").status_code)

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    try:
        page = open_row(visitor, "/admin/chat/provider/", "fake", "fake")
        page.locator("#id_new_api_key").fill("sk-rotated-0123456789wxyz")
        save(page)
        visitor.shot("provider")
        time.sleep(WITHIN_S)
        served = len(statuses)
        time.sleep(0.5)
    finally:
        is_over.set()
        for caller in callers:
            caller.join()
    assert set(statuses) == {200}
    assert len(statuses) > served > 0
    keys = {dict(seen.headers).get("authorization", "") for seen in provider.requests()}
    assert any("sk-rotated" in key for key in keys)
    page = visitor.open("/admin/chat/provider/")
    expect(page.locator("#result_list")).to_contain_text("ends in wxyz")
    assert "sk-rotated" not in page.content()


@pytest.mark.slow
def test_a_large_grant_needs_two_people(visit):
    finn, fay = visit("finn"), visit("fay")
    page = open_row(finn, "/admin/billing/workspace/", "modest", "modest")
    page.get_by_role("link", name="Move credits").click()
    page.locator("#id_kind").select_option("grant")
    page.locator("#id_amount").fill("6000")
    page.locator("#id_reason").fill("A pilot")
    page.get_by_role("button", name="Move credits").click()
    expect(page.get_by_text("waits for a second person").first).to_be_visible()
    page = fay.open("/admin/billing/creditorder/?state__exact=open")
    page.locator("#result_list tbody a").first.click()
    page.get_by_role("link", name="Approve").click()
    fay.shot("approve")
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_text("is booked")).to_be_visible()


@pytest.mark.slow
def test_the_incident_switch_stops_a_model_at_once(visit, api):
    visitor = visit("cat")
    assert ask(api, "plain").status_code == 200
    page = visitor.open("/admin/chat/catalogmodel/incident/")
    page.locator("#id_kind").select_option("model")
    page.locator("#id_name").fill("plain")
    page.locator("#id_reason").fill("It leaks")
    page.get_by_role("button", name="Stop at once").click()
    expect(page.get_by_text("is stopped")).to_be_visible()
    time.sleep(WITHIN_S)
    assert ask(api, "plain").status_code == 404
    visitor.shot("incident")


@pytest.mark.slow
def test_a_test_call_is_made_from_the_page_of_a_provider(visit):
    visitor = visit("cat")
    page = open_row(visitor, "/admin/chat/provider/", "sandbox", "sandbox")
    page.get_by_role("link", name="Test call").click()
    page.get_by_role("button", name="Call now").click()
    expect(page.get_by_role("heading", name="The provider answers")).to_be_visible()
    visitor.shot("test-call")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["usagerecord", "entry"])
def test_what_a_list_shows_is_exported(visit, api, name):
    ask(api, "main")
    visitor = visit("finn")
    page = visitor.open(f"/admin/billing/{name}/")
    with page.expect_download() as download:
        page.get_by_role("link", name="Export CSV").click()
    text = download.value.path().read_text(encoding="utf-8")
    assert re.match(r'"?(Time|Booked) \(UTC\)', text)
    assert len(text.splitlines()) >= 2


@pytest.mark.slow
def test_the_search_of_an_ended_session_leads_to_the_sign_in_page(visit):
    page = visit("cat").open("/admin/chat/price/")
    page.context.clear_cookies()
    page.locator("#nav-filter").press_sequentially("a")
    page.wait_for_url("**/accounts/login/?next=%2Fadmin%2Fchat%2Fprice%2F")
