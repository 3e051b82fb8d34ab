"""The forms of a page as a browser would send them."""

from __future__ import annotations

from html.parser import HTMLParser

from django.http import HttpResponse

Fields = dict[str, list[str]]


class _Reader(HTMLParser):
    """Collects the fields of each form by its action; buttons are not pressed."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: dict[str, Fields] = {}
        self._form: Fields = {}
        self._select = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._form = self.forms[given.get("action", "")] = {}
        elif tag == "select" and "name" in given:
            self._select = given["name"]
        elif tag == "option" and self._select:
            values = self._form.setdefault(self._select, [given["value"]])
            if "selected" in given:
                values[:] = [given["value"]]
        elif tag == "input" and "name" in given:
            values = self._form.setdefault(given["name"], [])
            if given.get("type") not in {"checkbox", "radio"} or "checked" in given:
                values.append(given.get("value", ""))

    def handle_endtag(self, tag: str) -> None:
        if tag == "select":
            self._select = ""
        elif tag == "form":
            self._form = {}


def form_of(page: HttpResponse, action: str) -> Fields:
    """The form whose action ends so."""
    reader = _Reader()
    reader.feed(page.content.decode())
    (found,) = [form for url, form in reader.forms.items() if url.endswith(action)]
    return {name: values for name, values in found.items() if name != "csrfmiddlewaretoken"}
