"""Signing in by an identity provider, in a real Chromium: there and back, and a workspace made."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect


@pytest.mark.slow
def test_the_button_leads_to_the_provider_and_back_into_the_console(visit, identity):
    identity.person = {"sub": "7", "email": "grace@acme.example", "email_verified": True}
    visitor = visit("nobody")
    page = visitor.open("/accounts/login/")
    assert visitor.violations() == []
    visitor.shot("sign-in")
    page.get_by_role("link", name="Sign in by Acme").click()
    page.wait_for_url("**/console/new")
    page.fill("[name=name]", "by sign-on")
    page.get_by_role("button", name="Create workspace").click()
    page.wait_for_url("**/overview")
    expect(page.get_by_text("First steps")).to_be_visible()
    for path in ("/accounts/linked/", "/accounts/password/set/"):
        visitor.open(path)
        assert visitor.violations() == []
        visitor.shot(path.strip("/").replace("/", "-"))
    assert all(fault.startswith(f"outside: {identity.url}/") for fault in visitor.faults)
    visitor.faults.clear()
