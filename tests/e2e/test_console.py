"""The console in a real Chromium: from signing up to a request in the log, with a team, a playground, and an empty purse."""

from __future__ import annotations

import base64
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.e2e.browsing import NARROW, Visitor
from tests.e2e.conftest import Clerk
from tests.fakes import pdfs, sounds
from tests.fakes.script import Script
from tests.live.gateway import Server

PASSWORD = "correct horse battery"
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
ANSWER_S = 30_000


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


@pytest.fixture
def person(browser: Browser, site: str, server: Server, clerk: Clerk) -> Iterator[Callable[[str], Person]]:
    people: list[Person] = []

    def come(email: str, session: str | None = None) -> Person:
        people.append(Person(browser, site, server, email, clerk.ask("come", email) if session is None else session))
        return people[-1]

    yield come
    for one in people:
        one.visitor.close()
    assert [fault for one in people for fault in one.visitor.faults] == []


def call(site: str, key: str, **more: Any) -> httpx.Response:
    asked = {"model": "sandbox-echo", "messages": [{"role": "user", "content": "Hello"}], **more}
    url = f"{site}/v1/chat/completions"
    return httpx.post(url, json=asked, headers={"authorization": f"Bearer {key}"}, trust_env=False, timeout=30)


def drop(page: Page, name: str, media_type: str, content: bytes) -> None:
    """A file onto the box of the playground."""
    data = page.evaluate_handle(
        """([name, type, bytes]) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], name, { type }));
            return data;
        }""",
        [name, media_type, list(content)],
    )
    page.dispatch_event("#box", "drop", {"dataTransfer": data})


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


def test_a_pdf_is_dropped_asked_about_and_its_fee_charged_once(person, give):
    ada = person("ada@pdf.example")
    ada.found("pdf")
    give(ada.workspace, "50")
    ada.go("playground")
    page = ada.page
    page.select_option("#model-A", "sandbox-text")
    drop(page, "paper.pdf", "application/pdf", pdfs.of_pages(["The engine.", "The loom."]))
    expect(page.locator("#attached .file")).to_contain_text("kB")
    costs = []
    for question in ("What is it about?", "And what else?"):
        page.fill("#ask", question)
        page.keyboard.press("Control+Enter")
        expect(page.locator(".bill strong")).to_have_count(len(costs) + 1, timeout=ANSWER_S)
        costs.append(float(page.locator(".bill strong").last.inner_text()))
    assert costs[0] > 0.02 > costs[1] > 0
    page.locator(".entry").first.click()
    expect(page.get_by_text("PDF pages converted")).to_be_visible()
    expect(page.get_by_text("2 at 0.01 each")).to_be_attached()  # of no width: it overflows its line
    page.go_back()
    ada.go("files")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_role("link", name="paper.pdf", exact=True).click()
    expect(page.get_by_text("Page 1 of 2")).to_be_visible()
    page.get_by_role("link", name="Later").click()
    expect(page.locator(".preview img")).to_have_js_property("naturalHeight", 2048, timeout=ANSWER_S)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename == "paper.pdf"


def at_playground(person, give, name, place):
    ada = person(f"ada@{name}.example")
    ada.found(name)
    give(ada.workspace, "50")
    ada.go(place)
    return ada


def test_a_question_is_asked_once_however_often_it_is_sent_while_a_file_is_on_its_way(person, give, provider):
    ada = at_playground(person, give, "once", "playground?model=main")
    page = ada.page
    held: list[Route] = []
    page.route("**/console/files/upload", lambda route: held.append(route))
    drop(page, "paper.pdf", "application/pdf", pdfs.of_pages(["The engine."]))
    page.fill("#ask", "What is it about?")
    run = page.get_by_role("button", name="Run")
    run.click()
    expect(run).to_have_attribute("aria-busy", "true")
    page.keyboard.press("Control+Enter")
    page.locator("#ask").press("Control+Enter")
    run.click()
    assert provider.requests() == []
    [upload] = held
    upload.continue_()
    expect(page.locator(".bill strong")).to_have_count(1, timeout=ANSWER_S)
    expect(run).not_to_have_attribute("aria-busy", "true")
    expect(page.locator(".turn")).to_have_count(1)
    [asked] = provider.requests()
    assert [part["type"] for part in asked.json["messages"][0]["content"]] == ["text", "file"]
    page.fill("#ask", "And what else?")
    run.click()
    expect(page.locator(".bill strong")).to_have_count(2, timeout=ANSWER_S)


def test_a_question_waits_for_all_its_files_and_is_not_sent_without_one(person, give, provider):
    ada = at_playground(person, give, "lost", "playground?model=main")
    page = ada.page
    held: list[Route] = []
    page.route("**/console/files/upload", lambda route: held.append(route))
    drop(page, "first.pdf", "application/pdf", pdfs.of_pages(["The engine."]))
    page.fill("#ask", "What are they about?")
    run = page.get_by_role("button", name="Run")
    run.click()
    drop(page, "second.pdf", "application/pdf", pdfs.of_pages(["The loom."]))
    expect(page.locator("#attached .file")).to_have_count(2)
    held[0].continue_()
    expect(page.locator("#attached .file").first).to_contain_text("kB")
    held[1].abort()
    expect(page.locator("#attached .error")).to_have_count(1)
    ada.visitor.faults = [fault for fault in ada.visitor.faults if "net::ERR_FAILED" not in fault]  # the one that was made here
    expect(run).not_to_have_attribute("aria-busy", "true")
    expect(page.locator("#ask")).to_have_value("What are they about?")
    assert provider.requests() == []
    run.click()
    expect(page.locator(".bill strong")).to_have_count(1, timeout=ANSWER_S)
    [asked] = provider.requests()
    assert [part["type"] for part in asked.json["messages"][0]["content"]] == ["text", "file"]


def test_audio_is_heard_and_what_no_model_takes_is_refused_when_it_is_attached(person, give, provider):
    ada = at_playground(person, give, "audio", "playground?model=hearing")
    page = ada.page
    told = "Attach an image (PNG, JPEG, GIF, WebP), a PDF, or audio (MP3, WAV, WebM)."
    drop(page, "notes.txt", "text/plain", b"Some text.")
    drop(page, "notes", "", b"Some text.")
    for refused in page.locator("#attached .file").all():
        expect(refused).to_contain_text(told)
    page.locator("#attached .file").first.get_by_role("button", name="Remove").click()
    expect(page.locator("#attached .file")).to_have_count(1)
    sound = sounds.wav(1.0)
    drop(page, "tone.wav", "audio/x-wav", sound)
    expect(page.locator("#attached .file").last).to_contain_text("kB")
    ada.visitor.shot("playground-attached")
    page.fill("#ask", "What do you hear?")
    page.get_by_role("button", name="Run").click()
    expect(page.locator(".bill strong")).to_have_count(1, timeout=ANSWER_S)
    [asked] = provider.requests()
    _, part = asked.json["messages"][0]["content"]
    assert part == {
        "type": "input_audio",
        "input_audio": {"format": "wav", "data": base64.b64encode(sound).decode()},
    }
    expect(page.locator(".turn .file")).to_have_count(1)
    page.get_by_role("button", name="New").click()
    page.select_option("#model-A", "sandbox-text")
    drop(page, "tone.wav", "audio/wav", sound)
    page.fill("#ask", "And you?")
    page.get_by_role("button", name="Run").click()
    expect(page.locator(".answer")).to_contain_text("does not take audio. (audio_not_supported_by_model)", timeout=ANSWER_S)
    expect(page.locator(".answer .cost")).to_have_text("Nothing was charged")
    ada.visitor.faults.clear()  # Chromium says 400 in its console
    ada.go("files")
    expect(page.locator("tbody tr")).to_have_count(2)


def test_an_answer_is_stopped_and_two_models_are_compared(person, give):
    ada = person("ada@stop.example")
    ada.found("stop")
    give(ada.workspace, "50")
    ada.go("playground")
    page = ada.page
    page.select_option("#model-A", "sandbox-echo")  # which is not the first of all where other tests add models
    page.fill("#ask", "[[tokens 3000]] [[delay 30]]")
    page.get_by_role("button", name="Run").click()
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.locator(".state")).to_contain_text("Stopped")
    page.get_by_role("button", name="Compare").click()
    page.select_option("#model-B", "sandbox-text")
    page.fill("#ask", "Hello")
    page.get_by_role("button", name="Run both").click()
    expect(page.locator(".bill strong")).to_have_count(2, timeout=ANSWER_S)
    page.get_by_role("button", name="View code").click()
    expect(page.locator("#code-curl")).to_contain_text("$GATEWAY_API_KEY")


def test_an_answer_that_breaks_off_is_said_to_be_charged_where_some_of_it_came(person, give):
    ada = at_playground(person, give, "broken", "playground?model=sandbox-echo")
    page = ada.page
    for question, cost in [
        ("One two three four five six seven [[cut 5]]", "What was delivered is charged; the log entry says how much"),
        ("Nothing of it [[cut 0]]", "Nothing was charged"),
    ]:
        page.fill("#ask", question)
        page.get_by_role("button", name="Run").click()
        answer = page.locator(".answer").last
        expect(answer.locator(".state")).to_contain_text("Failed", timeout=ANSWER_S)
        expect(answer.locator(".cost")).to_have_text(cost)
    ada.visitor.faults.clear()  # Chromium says 502 in its console
    expect(page.locator(".answer .text").first).to_contain_text("One two")
    expect(page.locator(".answer .entry:visible")).to_have_count(1)
    page.locator(".entry").first.click()
    expect(page.locator(".receipt .sum dd")).to_have_text(re.compile(r"0\.000[0-9]*[1-9]"))


def test_tools_and_a_schema_are_judged_as_they_are_written_and_stand_in_the_code(person, give):
    ada = person("ada@tools.example")
    ada.found("tools")
    give(ada.workspace, "50")
    ada.go("playground?model=sandbox-echo")
    page = ada.page
    expect(page.locator("#model-A")).to_have_value("sandbox-echo")
    page.fill("#tools", '[{"type": "function"')
    expect(page.get_by_text("This is no JSON yet.")).to_be_visible()
    page.fill("#tools", '[{"type": "function", "function": {"name": "get weather"}}]')
    expect(page.get_by_text("Tool 1 needs a name of letters")).to_be_visible()
    page.fill("#ask", '[[tool get_weather {"city": "Rome"}]]')
    page.get_by_role("button", name="Run").click()
    expect(page.locator(".turn")).to_have_count(0)
    page.locator("[data-example=tools]").click()
    expect(page.locator("#tools-fault")).to_be_hidden()
    page.get_by_role("button", name="Run").click()
    expect(page.locator(".bill strong")).to_have_count(1, timeout=ANSWER_S)
    expect(page.locator(".prose").first).to_contain_text("get_weather")
    page.fill("#tools", "")
    page.get_by_label("Answer format").select_option("json_schema")
    page.fill("#schema", '{"type": "objekt"}')
    expect(page.get_by_text('The schema has the type "objekt"')).to_be_visible()
    page.locator("[data-example=schema]").click()
    page.fill("#ask", "Invent a person.")
    page.get_by_role("button", name="Run").click()
    expect(page.locator(".bill strong")).to_have_count(2, timeout=ANSWER_S)
    page.get_by_role("button", name="View code").click()
    expect(page.locator("#code-curl")).to_contain_text('"json_schema"')
    page.get_by_role("tab", name="Python").click()
    expect(page.locator("#code-python")).to_contain_text('"additionalProperties": False')
    page.get_by_role("tab", name="Node").click()
    expect(page.locator("#code-node")).to_contain_text("process.env.GATEWAY_API_KEY")


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
