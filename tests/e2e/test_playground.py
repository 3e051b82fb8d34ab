"""The playground of the console in a real Chromium: files, sounds, tools, two models beside each other."""

from __future__ import annotations

import base64
import re

import pytest
from playwright.sync_api import Page, Route, expect

from tests.fakes import pdfs, sounds

ANSWER_S = 30_000


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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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
