"""What a workspace is told, in a real Chromium and by a real server: a webhook is set up and gets what happens."""

from __future__ import annotations

import itertools
import json
import time
from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from tests.e2e.browsing import NARROW, WIDE
from tests.e2e.customers import Person, call

MODEL = "sandbox-echo"

_numbers = itertools.count(1)


@pytest.fixture
def owner(browser, site, server, clerk):
    email = f"owner{next(_numbers)}@hooks.example"
    one = Person(browser, site, server, email, clerk.ask("come", email))
    one.found("hooks")
    yield one
    one.visitor.close()
    assert one.visitor.faults == []


def wait_for(condition, seconds=40):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def told(receiver, owner):
    """What arrived for his workspace: the kind of each message, and its data."""
    messages = [json.loads(body) for _, body in receiver.got]
    workspace = owner.workspace
    return [(one["type"], one["data"]) for one in messages if one["data"]["workspace_id"] == workspace]


def kinds(receiver, owner):
    return [kind for kind, _ in told(receiver, owner)]


@pytest.mark.slow
def test_a_webhook_is_made_tested_and_gets_what_happens(owner, receiver):
    owner.go("webhooks")
    page = owner.page
    page.get_by_role("button", name="Add webhook").first.click()
    page.fill("#new-url", receiver.url)
    owner.visitor.shot("webhook-form")
    page.locator("button[form=create-form]").click()
    page.keyboard.press("Escape")
    expect(page.locator("#made")).to_be_visible()
    assert page.locator("#secret").inner_text().startswith("whsec_")
    owner.visitor.shot("webhook-made")
    assert owner.visitor.violations() == []
    page.get_by_role("button", name="I have stored the secret").click()
    page.reload()
    page.get_by_role("button", name="Send test").click()
    expect(page.get_by_text("A test is on its way.")).to_be_visible()
    wait_for(lambda: "webhook.test" in kinds(receiver, owner))
    owner.make_key("told")
    wait_for(lambda: "key.created" in kinds(receiver, owner))
    owner.go("webhooks")
    owner.visitor.shot("webhooks-list")
    page.locator("tbody a.name").click()
    expect(page.locator("tbody tr")).to_have_count(2)
    expect(page.locator("tbody").get_by_text("Delivered")).to_have_count(2)
    owner.visitor.shot("webhook")
    assert owner.visitor.violations() == []


def set_figures(owner, **values):
    """Of the page of alerts, by the names of its fields."""
    for name, value in values.items():
        owner.page.fill(f"[name={name}]", value)
    owner.page.get_by_role("button", name="Save alerts").click()


@pytest.mark.slow
def test_alerts_are_set_and_what_is_wrong_is_said_at_its_field(owner):
    owner.go("alerts")
    page = owner.page
    quotas, fallbacks = page.get_by_label("File quotas, at percent"), page.get_by_label("Answers by fallbacks within an hour")
    expect(quotas).to_have_value("80, 100")
    expect(fallbacks).to_have_value("20")
    set_figures(owner, quota_percents="70, 200", fallback_percent="35")
    expect(page.get_by_text("no percentage is more than 100")).to_be_visible()
    owner.visitor.faults.clear()  # Chromium says 400 in its console
    assert quotas.get_attribute("aria-describedby") == "quotas-error"
    expect(fallbacks).to_have_value("35")
    for size in (WIDE, NARROW):
        owner.visitor.resize(size)
        for scheme in ("light", "dark"):
            owner.visitor.wear(scheme)
            assert owner.visitor.violations() == []
            owner.visitor.shot(f"alerts-refused-{size[0]}-in-{scheme}")
        assert not owner.visitor.is_too_wide()
    set_figures(owner, quota_percents="70", fallback_percent="")
    expect(page.get_by_text("The alerts are set.")).to_be_visible()
    expect(quotas).to_have_value("70")
    expect(fallbacks).to_have_value("0")


def deprecate(staff, day):
    """As staff do it; an empty day takes it back."""
    page = staff.open(f"/admin/chat/catalogmodel/?q={MODEL}")
    page.locator("#result_list").get_by_role("link", name=MODEL, exact=True).first.click()
    page.fill("[name=deprecated_on]", day)
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("was changed successfully")).to_be_visible()


@pytest.mark.slow
def test_a_model_that_staff_deprecate_is_told_to_who_used_it(owner, visit, receiver, site, server, give):
    give(owner.workspace, "50")
    owner.go("webhooks")
    owner.page.get_by_role("button", name="Add webhook").first.click()
    owner.page.fill("#new-url", receiver.url)
    owner.page.locator("button[form=create-form]").click()
    owner.page.get_by_role("button", name="I have stored the secret").click()
    assert call(site, owner.make_key("used"), model=MODEL).status_code == 200
    staff, day = visit("ada"), timezone.now().date() + timedelta(days=20)
    deprecate(staff, f"{day}")
    try:
        wait_for(lambda: "model.deprecated" in kinds(receiver, owner))
    finally:
        deprecate(staff, "")
    assert [(data["model"], data["deprecated_on"]) for kind, data in told(receiver, owner) if kind == "model.deprecated"] == [
        (MODEL, f"{day}")
    ]
    owner.go("alerts")
    expect(owner.page.get_by_role("link", name=f"The model {MODEL} is deprecated")).to_be_visible()
    assert owner.visitor.violations() == []
    owner.visitor.shot("alerts-told")
    mails = server.log_text().split("Subject: ")
    assert [
        mail
        for mail in mails
        if mail.startswith(f"A model that you use is deprecated on {day}") and f"To: {owner.email}" in mail
    ]
