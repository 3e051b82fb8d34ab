"""Passkeys in a real Chromium, whose own authenticator keeps and uses them: adding, signing in, confirming, removing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.browsing import NARROW, WIDE, Visitor
from tests.live.gateway import Server

PASSWORD = "correct horse battery"

pytestmark = pytest.mark.timeout(300)


class Person:
    """Somebody at a computer that keeps passkeys. `name` is who signs in by the password."""

    def __init__(self, browser: Browser, site: str, name: str) -> None:
        self.name = name
        self.visitor = Visitor(browser, site)
        self.page: Page = self.visitor.page
        self._protocol = self.visitor.context.new_cdp_session(self.page)
        self._protocol.send("WebAuthn.enable")
        self.computer = self.plug_in("internal")

    def plug_in(self, transport: str) -> str:
        """One more authenticator, which agrees by itself; its id."""
        options = {
            "protocol": "ctap2",
            "transport": transport,
            "hasResidentKey": True,
            "hasUserVerification": True,
            "isUserVerified": True,
            "automaticPresenceSimulation": True,
        }
        made: str = self._tell("addVirtualAuthenticator", options=options)["authenticatorId"]
        return made

    def unplug(self, authenticator: str) -> None:
        self._tell("removeVirtualAuthenticator", authenticatorId=authenticator)

    def verifies(self, authenticator: str, *, does: bool) -> None:
        """Whether the finger on it is the right one."""
        self._tell("setUserVerified", authenticatorId=authenticator, isUserVerified=does)

    def _tell(self, command: str, **values: Any) -> Any:
        return self._protocol.send(f"WebAuthn.{command}", values)

    def give_password(self, path: str = "/accounts/login/") -> None:
        self.visitor.open(path)
        self.page.get_by_label("Login").or_(self.page.get_by_label("Username")).first.fill(self.name)
        self.page.get_by_label("Password").fill(PASSWORD)
        self.page.get_by_role("button", name="Sign in", exact=True).click()

    def press(self, button: str) -> None:
        self.page.get_by_role("button", name=button, exact=True).click()

    def follow(self, link: str) -> None:
        self.page.get_by_role("link", name=link, exact=True).click()

    def sign_out(self) -> None:
        self.visitor.open("/accounts/logout/")
        self.press("Sign Out")
        self.page.wait_for_url("**/accounts/login/")

    def look(self, name: str) -> None:
        """At the page that is open: light, dark and on a phone."""
        visitor = self.visitor
        expect(self.page.get_by_role("heading", level=1)).to_have_count(1)
        for scheme, size in (("light", WIDE), ("dark", WIDE), ("dark", NARROW), ("light", NARROW)):
            visitor.wear(scheme)
            visitor.resize(size)
            assert visitor.violations() == [], (name, scheme, size)
            assert not visitor.is_too_wide(), name
            visitor.shot(f"passkeys-{name}-{scheme}-{size[0]}")
        visitor.resize(WIDE)


@pytest.fixture
def site(server: Server) -> str:
    """By its name: there are no passkeys of an address."""
    return f"http://localhost:{server.port}"


@pytest.fixture
def person(browser: Browser, site: str, sessions: dict[str, str]) -> Iterator[Callable[[str], Person]]:
    people: list[Person] = []

    def come(name: str) -> Person:
        people.append(Person(browser, site, name))
        return people[-1]

    yield come
    for one in people:
        one.visitor.close()
    assert [fault for one in people for fault in one.visitor.faults] == []


@pytest.mark.slow
def test_a_customer_adds_passkeys_signs_in_by_them_and_removes_them(person):
    pat = person("pat")
    _signs_in_by_one(pat, _adds_two(pat))
    _removes_all(pat)


def _adds_two(pat: Person) -> str:
    """The authenticator that is plugged in then."""
    page = pat.page
    pat.give_password()
    page.wait_for_url("**/console/new")
    pat.visitor.open("/accounts/2fa/")
    pat.look("none-yet")
    pat.follow("Add a passkey")
    page.get_by_label("Name").fill("Work laptop")
    pat.look("add")
    pat.press("Add passkey")
    expect(page.get_by_role("heading", name="Recovery codes")).to_be_visible()
    pat.look("recovery-codes")
    pat.visitor.open("/accounts/2fa/")
    expect(page.get_by_text("Signs in alone.")).to_be_visible()

    pat.follow("Add a passkey")
    pat.press("Add passkey")
    expect(page.get_by_text("has a passkey of your account already")).to_be_visible()
    pat.look("has-one-already")
    pat.unplug(pat.computer)
    key = pat.plug_in("usb")
    page.get_by_label("Name").fill("Key on the ring")
    page.get_by_label("Sign in with it alone").uncheck()
    page.get_by_label("Name").press("Enter")
    page.wait_for_url("**/accounts/2fa/")
    expect(page.get_by_text("Passkey added.")).to_be_visible()
    page.get_by_role("link", name="Rename Key on the ring").click()
    page.get_by_label("Name").fill("Key in the safe")
    pat.look("rename")
    pat.press("Rename")
    expect(page.get_by_text("Key in the safe")).to_be_visible()
    expect(page.get_by_text("After the password.")).to_be_visible()
    pat.look("list")
    return key


def _signs_in_by_one(pat: Person, key: str) -> None:
    page = pat.page
    pat.sign_out()
    pat.give_password("/accounts/login/?next=/accounts/2fa/")
    expect(page.get_by_role("heading", name="Second factor")).to_be_visible()
    pat.look("second-factor")
    pat.press("Use a passkey")
    page.wait_for_url("**/accounts/2fa/")
    pat.follow("Add a passkey")
    expect(page.get_by_role("heading", name="Confirm that it is you")).to_be_visible()
    pat.look("confirm-by-password")
    pat.follow("Use a passkey")
    page.wait_for_url("**/webauthn/reauthenticate/**")
    pat.look("confirm")
    pat.press("Use a passkey")
    page.wait_for_url("**/webauthn/add/")
    pat.unplug(key)
    computer = pat.plug_in("internal")
    page.get_by_label("Name").fill("Home")
    pat.press("Add passkey")
    page.wait_for_url("**/accounts/2fa/")

    pat.sign_out()
    pat.verifies(computer, does=False)
    pat.look("sign-in")
    pat.press("Sign in with a passkey")
    expect(page.get_by_text("No passkey was used")).to_be_visible()
    pat.look("sign-in-failed")
    pat.verifies(computer, does=True)
    pat.visitor.open("/accounts/login/?next=/accounts/2fa/")
    pat.press("Sign in with a passkey")
    page.wait_for_url("**/accounts/2fa/")


def _removes_all(pat: Person) -> None:
    page = pat.page
    for number, name in enumerate(("Work laptop", "Key in the safe", "Home")):
        page.get_by_role("link", name=f"Remove {name}").click()
        if number == 0:
            pat.follow("Use a passkey")
            pat.press("Use a passkey")
        expect(page.get_by_role("heading", name="Remove a passkey")).to_be_visible()
        if number in {0, 2}:
            pat.look(f"remove-{number}")
        pat.press("Remove passkey")
        page.wait_for_url("**/accounts/2fa/")
    expect(page.get_by_text("None yet.")).to_have_count(2)
    expect(page.get_by_text("Made together with the first of the above")).to_be_visible()
    pat.sign_out()
    pat.press("Sign in with a passkey")
    expect(page.get_by_text("This passkey was not accepted.")).to_be_visible()
    pat.give_password()
    page.wait_for_url("**/console/new")


@pytest.mark.slow
def test_staff_set_up_a_passkey_in_place_of_an_app(person):
    sam = person("sam")
    page = sam.page
    sam.give_password("/admin/")
    expect(page.get_by_role("heading", name="Set up your second factor")).to_be_visible()
    sam.follow("Use a passkey instead")
    sam.press("Add passkey")
    sam.follow("Open the staff admin")
    expect(page.get_by_role("link", name="Workspaces")).to_be_visible()
    sam.visitor.open("/accounts/logout/")
    sam.press("Sign Out")
    sam.visitor.open("/admin/")
    sam.press("Sign in with a passkey")
    page.wait_for_url("**/admin/")
    expect(page.get_by_role("link", name="Workspaces")).to_be_visible()


@pytest.mark.slow
def test_by_an_address_the_page_says_where_passkeys_work(browser, server):
    visitor = Visitor(browser, f"http://127.0.0.1:{server.port}")
    page = visitor.open("/accounts/login/")
    button = page.get_by_role("button", name="Sign in with a passkey")
    expect(button).to_be_disabled()
    expect(button).to_have_accessible_description(
        f"Passkeys need https or localhost, and this is 127.0.0.1. On this machine they work at localhost:{server.port}."
    )
    assert visitor.violations() == []
    visitor.shot("passkeys-by-address")
    page.get_by_role("link", name=f"localhost:{server.port}").click()
    page.wait_for_url(f"http://localhost:{server.port}/accounts/login/")
    expect(page.get_by_role("button", name="Sign in with a passkey")).to_be_enabled()
    assert [fault for fault in visitor.faults if not fault.startswith("outside: http://localhost")] == []
    visitor.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("site", "script", "reason"),
    [
        ("http://gateway.test", "", "Passkeys need https. This page was opened over http."),
        ("http://192.0.2.7", "", "Passkeys need https and a host name. This page was opened by the address 192.0.2.7."),
        ("https://gateway.test", "delete window.PublicKeyCredential", "This browser does not know passkeys."),
    ],
)
def test_where_a_page_can_have_none_it_says_why(browser, server, site, script, reason):
    visitor = Visitor(browser, site)
    visitor.context.add_init_script(script)

    def answer(route: Any) -> None:
        there = route.request.url.replace(site, f"http://127.0.0.1:{server.port}")
        route.fulfill(response=route.fetch(url=there))

    visitor.context.route("**/*", answer)
    page = visitor.open("/accounts/login/")
    expect(page.get_by_text(reason)).to_be_visible()
    expect(page.get_by_role("button", name="Sign in with a passkey")).to_be_disabled()
    assert visitor.violations() == []
    # Chromium says of every page over http that it does not isolate it.
    assert [fault for fault in visitor.faults if "Cross-Origin-Opener-Policy" not in fault] == []
    visitor.context.unroute_all(behavior="wait")  # the browser asks for a page's icon when all else is there
    visitor.close()
