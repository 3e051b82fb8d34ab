"""What a workspace is told, in a real Chromium and by a real server: a webhook is set up and gets what happens."""

from __future__ import annotations

import json
import time

import pytest
from playwright.sync_api import expect

from tests.e2e.test_console import Person


@pytest.fixture
def owner(browser, site, server):
    one = Person(browser, site, server, "owner@hooks.example")
    one.sign_up()
    one.found("hooks")
    yield one
    one.visitor.close()
    assert one.visitor.faults == []


def wait_for(condition, seconds=40):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def kinds(receiver):
    return [json.loads(body)["type"] for _, body in receiver.got]


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
    wait_for(lambda: "webhook.test" in kinds(receiver))
    owner.make_key("told")
    wait_for(lambda: "key.created" in kinds(receiver))
    owner.go("webhooks")
    owner.visitor.shot("webhooks-list")
    page.locator("tbody a.name").click()
    expect(page.locator("tbody tr")).to_have_count(2)
    expect(page.locator("tbody").get_by_text("Delivered")).to_have_count(2)
    owner.visitor.shot("webhook")
    assert owner.visitor.violations() == []
