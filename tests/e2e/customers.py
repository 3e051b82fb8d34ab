"""A customer in a browser, and his program."""

from __future__ import annotations

import re
import time
from typing import Any

import httpx
from playwright.sync_api import Browser

from tests.e2e.browsing import Visitor
from tests.live.gateway import Server

PASSWORD = "correct horse battery"


class Person:
    """Somebody with a browser of his own and a mail address; `session` is his if he has signed up."""

    def __init__(self, browser: Browser, site: str, server: Server, email: str, session: str = "") -> None:
        self._server = server
        self.site = site
        self.email = email
        self.visitor = Visitor(browser, site, session=session)
        self.page = self.visitor.page

    def sign_up(self) -> None:
        page = self.page
        self.visitor.open("/accounts/signup/")
        page.fill("[name=email]", self.email)
        page.fill("[name=password1]", PASSWORD)
        page.get_by_role("button", name="Sign up").click()
        page.wait_for_url("**/accounts/confirm-email/")
        self.visitor.open(self.mailed("/accounts/confirm-email/"))
        page.get_by_role("button", name="Verify address").click()
        page.wait_for_url("**/console/**")

    def mailed(self, path: str) -> str:
        """The newest link of this kind that was mailed to him: without a mail server mail stands in the server's output."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            for mail in reversed(self._server.log_text().split("Subject: ")):
                link = re.search(rf"{self.site}({path}\S+)", mail)
                if f"To: {self.email}" in mail and link:
                    return link[1]
            time.sleep(0.1)
        raise AssertionError(f"no mail with {path} to {self.email}")

    def found(self, name: str) -> None:
        self.visitor.open("/console/new")
        self.page.fill("[name=name]", name)
        self.page.get_by_role("button", name="Create workspace").click()
        self.page.wait_for_url("**/overview")

    @property
    def workspace(self) -> str:
        return str(re.findall(r"/console/(ws_\w+)/", self.page.url)[0])

    def go(self, place: str) -> None:
        self.visitor.open(f"/console/{self.workspace}/{place}")

    def make_key(self, name: str) -> str:
        """Its text, read from the dialog, which is closed then."""
        self.go("keys")
        self.page.locator("[data-open=create]").first.click()
        self.page.fill("#new-name", name)
        self.page.locator("button[form=create-form]").click()
        text = self.page.locator("#secret").inner_text()
        self.page.get_by_role("button", name="I have stored the key").click()
        return text


def call(site: str, key: str, **more: Any) -> httpx.Response:
    asked = {"model": "sandbox-echo", "messages": [{"role": "user", "content": "Hello"}], **more}
    url = f"{site}/v1/chat/completions"
    return httpx.post(url, json=asked, headers={"authorization": f"Bearer {key}"}, trust_env=False, timeout=30)
