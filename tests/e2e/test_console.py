"""The console in a real Chromium: from signing up to a request in the log, with a team and an empty purse."""

from __future__ import annotations

import re
import threading
import time

import pytest
from playwright.sync_api import expect

from tests.e2e.browsing import NARROW, Visitor
from tests.e2e.customers import PASSWORD, call
from tests.fakes.script import Script

PAGES = (
    "overview",
    "keys",
    "credits",
    "usage",
    "log",
    "models",
    "docs",
    "docs/errors",
    "docs/management",
    "docs/webhooks",
    "files",
    "members",
    "settings",
    "playground",
    "limits",
    "audit",
    "alerts",
    "webhooks",
    "credits/payments",
    "chains",
    "chains/of?model=first",
)


@pytest.mark.slow
def test_sign_up_key_call_and_the_request_in_the_log_with_its_credits(person, site, give):
    ada = person("ada@walk.example", session="")
    ada.sign_up()
    expect(ada.page).to_have_url(f"{site}/console/new")
    ada.found("walk")
    expect(ada.page.get_by_text("First steps")).to_be_visible()
    give(ada.workspace, "50")
    ada.go("keys")
    ada.page.locator("[data-open=create]").first.click()
    ada.page.fill("#new-name", "first")
    ada.page.fill("#new-budget", "20")
    ada.page.locator("button[form=create-form]").click()
    dialog = ada.page.locator("#made")
    for _ in range(3):
        ada.page.keyboard.press("Escape")
    ada.page.mouse.click(5, 5)
    expect(dialog).to_be_visible()
    expect(ada.page.get_by_text("Not copied yet")).to_be_visible()
    key = ada.page.locator("#secret").inner_text()
    ada.page.get_by_role("button", name="Copy key").click()
    expect(dialog.get_by_text("Copied", exact=True)).to_be_visible()
    dialog.get_by_role("tab", name="Node").click()
    expect(dialog.get_by_role("tabpanel")).to_contain_text(f"{site}/v1")
    dialog.get_by_role("button", name="I have stored the key").click()
    ada.page.reload()
    expect(ada.page.locator("tbody tr")).to_have_count(1)

    answer = call(site, key)
    assert answer.status_code == 200
    ada.go("log")
    ada.page.locator("tbody tr a").first.click()
    expect(ada.page.get_by_role("heading", name="Answered by sandbox-echo")).to_be_visible()
    charged = answer.json()["credits_used"]
    expect(ada.page.locator(".receipt .sum dd")).to_have_text(f"{charged:.6f}")
    ada.go("credits")
    expect(ada.page.locator("tbody tr").first).to_contain_text("49.9")
    ada.go("overview")
    expect(ada.page.get_by_text("First steps")).to_have_count(0)
    ada.go("limits")
    ada.page.get_by_label("Limits of", exact=True).select_option(index=2)
    expect(ada.page.get_by_role("row", name="Credits a month")).to_contain_text(re.compile(r"20\s*key"))


@pytest.mark.slow
def test_the_log_of_an_ended_session_leads_to_the_sign_in_page_and_back(person, site, give):
    ada = person("ada@ended.example")
    ada.found("ended")
    give(ada.workspace, "50")
    assert call(site, ada.make_key("first")).status_code == 200
    ada.go("log?days=1")
    page = ada.page
    log = page.url
    expect(page.locator(".live")).to_be_attached()
    page.context.clear_cookies()
    page.wait_for_url("**/accounts/login/?next=**")
    page.fill("[name=login]", ada.email)
    page.fill("[name=password]", PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.wait_for_url(log)


@pytest.mark.slow
def test_invite_accept_as_developer_own_keys_only_and_dead_keys_after_removal(person, site, give):
    owner = person("owner@team.example")
    owner.found("team")
    give(owner.workspace, "50")
    owner.make_key("of-the-owner")
    owner.go("members")
    owner.page.locator("[data-open=invite]").click()
    owner.page.fill("#email", "dev@team.example")
    owner.page.get_by_role("button", name="Send invitation").click()
    expect(owner.page.get_by_role("heading", name="Invitations")).to_be_visible()

    dev = person("dev@team.example")
    dev.visitor.open(dev.mailed("/console/invitations/"))
    dev.page.get_by_role("button", name="Join workspace").click()
    dev.page.wait_for_url("**/overview")
    key = dev.make_key("of-the-developer")
    expect(dev.page.locator("tbody tr")).to_have_count(1)
    expect(dev.page.get_by_role("link", name="Members")).to_be_visible()
    expect(dev.page.get_by_role("link", name="Credits", exact=True)).to_have_count(0)
    assert call(site, key).status_code == 200

    owner.go("members")
    owner.page.get_by_role("button", name="Actions for dev").click()
    owner.page.get_by_role("button", name="Remove", exact=True).click()
    owner.page.get_by_role("button", name="Remove member").click()
    expect(owner.page.get_by_text("1 key was revoked.")).to_be_visible()
    time.sleep(1)
    assert call(site, key).status_code == 401
    dev.visitor.open(f"/console/{owner.workspace}/overview", status=404)
    dev.visitor.faults.clear()  # the 404 itself


@pytest.mark.slow
def test_a_key_is_rolled_under_traffic_with_no_failed_call(person, site, give):
    ada = person("ada@roll.example")
    ada.found("roll")
    give(ada.workspace, "50")
    old = ada.make_key("rolled")
    statuses: list[int] = []
    is_over = threading.Event()

    def traffic() -> None:
        while not is_over.is_set():
            statuses.append(call(site, old).status_code)

    thread = threading.Thread(target=traffic)
    thread.start()
    try:
        ada.page.locator("tbody a.name").click()
        ada.page.get_by_role("button", name="Roll key").click()
        ada.page.get_by_label("In 1 hour").check()
        ada.page.locator("button[form=roll-form]").click()
        new = ada.page.locator("#secret").inner_text()
        seen = len(statuses)
        assert call(site, new).status_code == 200
        while len(statuses) < seen + 3:
            time.sleep(0.05)
    finally:
        is_over.set()
        thread.join()
    assert set(statuses) == {200}


@pytest.mark.slow
def test_spending_is_stopped_and_resumed_and_a_workspace_closed_by_its_name(person, site, give):
    ada = person("ada@stopping.example")
    ada.found("stopping")
    give(ada.workspace, "50")
    key = ada.make_key("runaway")
    assert call(site, key).status_code == 200
    ada.go("settings")
    page = ada.page
    page.get_by_role("button", name="Stop spending").click()
    page.get_by_role("dialog").get_by_role("button", name="Stop spending").click()
    expect(page.get_by_text("Spending is stopped. Every key is refused")).to_be_visible()
    assert call(site, key).json()["error"]["code"] == "workspace_suspended"
    page.get_by_role("button", name="Resume spending").click()
    expect(page.get_by_text("The keys of the workspace work again.")).to_be_visible()
    deadline = time.monotonic() + 5
    while call(site, key).status_code != 200:
        assert time.monotonic() < deadline
    page.get_by_role("link", name="Open audit log").click()
    expect(page.get_by_role("row", name="workspace.stopped")).to_be_visible()
    page.get_by_label("Kind of act").select_option("api_key")
    expect(page.locator("tbody tr")).to_have_count(1)
    ada.go("settings")
    page.get_by_role("button", name="Close workspace").click()
    page.get_by_label("Write the name of the workspace").fill("stopping")
    page.get_by_role("dialog").get_by_role("button", name="Close workspace").click()
    page.wait_for_url("**/console/new")
    assert call(site, key).status_code == 401


@pytest.mark.slow
def test_a_chain_that_is_set_in_the_console_serves_the_next_failing_call(person, site, give, provider):
    provider.script("first", Script(status=503))
    ada = person("ada@chains.example")
    ada.found("chains")
    give(ada.workspace, "50")
    key = ada.make_key("chained")
    assert call(site, key, model="first").headers["x-model-used"] == "second"
    ada.go("chains")
    page = ada.page
    page.get_by_role("link", name="first", exact=True).click()
    page.get_by_label("Model").nth(0).select_option("sandbox-text")
    page.get_by_label("Tried again").nth(1).select_option("1")
    page.get_by_label("Moves on after").nth(0).fill("503")
    page.get_by_role("button", name="Save chain").click()
    expect(page.get_by_text("The chain of first is set.")).to_be_visible()
    deadline = time.monotonic() + 5
    while (answer := call(site, key, model="first")).headers["x-model-used"] != "sandbox-text":
        assert time.monotonic() < deadline
    assert answer.headers["x-fallback-depth"] == "1"
    page.reload()
    page.get_by_label("With an image").check()
    page.get_by_role("button", name="Test chain").click()
    expect(page.get_by_text("The request would be admitted")).to_be_visible()
    expect(page.locator("#tried").get_by_role("row", name="1. sandbox-text")).to_contain_text("skipped")
    page.get_by_role("button", name="Use the default").click()
    page.get_by_role("dialog").get_by_role("button", name="Use the default").click()
    expect(page.get_by_text("The default of this gateway is in force")).to_be_visible()
    call(site, key, model="first")


def test_an_empty_purse_says_so_and_a_top_up_helps_at_once(person, site, give):
    ada = person("ada@empty.example")
    ada.found("empty")
    key = ada.make_key("poor")
    expect(ada.page.get_by_text("The credit is used up.")).to_be_visible()
    refused = call(site, key)
    assert refused.status_code == 402
    assert "0 are available and 0 are held" in refused.json()["error"]["message"]
    expect(ada.page.get_by_text("0 credits, of which 0 are held by requests in flight.")).to_be_visible()
    give(ada.workspace, "50")
    assert call(site, key).status_code == 200
    ada.page.reload()
    expect(ada.page.get_by_text("The credit is used up.")).to_have_count(0)


@pytest.mark.slow
@pytest.mark.parametrize("is_whole", [False, pytest.param(True, marks=pytest.mark.long)], ids=["short", "long"])
def test_pages_are_open_to_everybody(browser, person, site, give, is_whole):
    """Axe finds nothing, in both themes and on a phone, and no page is wider than its window: axe looks at what is new, or at all."""
    ada = person("ada@looks.example")
    ada.found("look")
    give(ada.workspace, "50")
    key = ada.make_key("seen")
    generation = call(site, key).json()["id"]
    call(site, key, model="nothing-like-it")
    session = next(cookie["value"] for cookie in ada.visitor.context.cookies() if cookie["name"] == "sessionid")
    visitor = Visitor(browser, site, session=session)
    ada.go("keys")
    key_page = ada.page.locator("tbody a.name").first.get_attribute("href")
    found = []
    seen: set[int] | None = None if is_whole else set()
    places = [f"/console/{ada.workspace}/{place}" for place in (*PAGES, f"log/{generation}")]
    for path in [*places, key_page, "/console/new", "/docs/", "/accounts/logout/"]:
        visitor.open(path)
        name = re.sub(r"[/?=]", "-", path).replace(ada.workspace, "").replace(generation, "request")
        found += [f"{path} {fault}" for fault in visitor.looks(seen, f"console{name}", by_axe_on_phone=True)]
    faults = visitor.faults
    visitor.close()
    assert (found, faults) == ([], [])


@pytest.mark.slow
def test_an_announcement_of_staff_is_read_and_put_away(visit, person):
    staff = visit("ben")
    page = staff.open("/admin/billing/announcement/add/")
    page.locator("#id_text").fill("Maintenance on Sunday at noon (UTC).\nStreams end by themselves, <b>nothing</b> is lost.")
    page.locator("#id_severity").select_option("warning")
    staff.shot("announcement-add")
    assert not staff.violations()
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("added successfully")).to_be_visible()
    staff.open("/admin/billing/announcement/")
    staff.shot("announcement-list")
    staff.open("/admin/")
    expect(staff.page.get_by_role("list", name="Announcements")).to_contain_text("Maintenance on Sunday")
    staff.shot("announcement-index")
    reader = person("reads@example.com")
    reader.found("Readers")
    told = reader.page.get_by_role("region", name="Announcements")
    expect(told).to_contain_text("<b>nothing</b> is lost")
    reader.go("keys")
    reader.visitor.shot("announcement-console")
    assert not reader.visitor.violations()
    reader.page.set_viewport_size({"width": NARROW[0], "height": NARROW[1]})
    reader.visitor.shot("announcement-phone")
    told.get_by_role("button", name="Dismiss").press("Enter")
    expect(told).to_have_count(0)
    reader.page.wait_for_url("**/keys")
    reader.go("overview")
    expect(told).to_have_count(0)
    page = staff.open("/admin/billing/announcement/")
    page.locator("#result_list tbody").get_by_role("link").first.click()
    page.get_by_role("link", name=re.compile(r"\bEnd$")).click()
    page.get_by_role("button", name="End now").click()
    expect(page.get_by_text("is over").first).to_be_visible()
