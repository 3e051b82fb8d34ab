"""A person at a browser: a page that is watched for whatever must not happen on it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import axe_playwright_python
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
SHAPES = Path(__file__).with_name("shapes.js").read_text(encoding="utf-8")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
OF_COLORS = ("color-contrast", "link-in-text-block")
WIDE, NARROW = (1440, 900), (390, 844)

# Where a person looks at what a run saw; nothing is written without it.
SCREENSHOTS = os.environ.get("SCREENSHOTS", "")


class Visitor:
    """One browser window of one person. `faults` is what went wrong on any of its pages."""

    def __init__(
        self, browser: Browser, base_url: str, *, session: str = "", scheme: Any = "light", size: tuple[int, int] = WIDE
    ):
        self.faults: list[str] = []
        self._host = urlsplit(base_url).netloc
        self._scheme, self._size = scheme, size
        # Without motion a page is at once what it becomes, also in another scheme.
        self.context: BrowserContext = browser.new_context(
            base_url=base_url,
            color_scheme=scheme,
            reduced_motion="reduce",
            viewport={"width": size[0], "height": size[1]},
        )
        self.context.set_default_timeout(20_000)
        if session:
            self.context.add_cookies([{"name": "sessionid", "value": session, "url": base_url}])
        self.context.on("page", self._watch)
        self.page: Page = self.context.new_page()

    def _watch(self, page: Page) -> None:
        page.on("console", self._listen)
        page.on("pageerror", lambda error: self.faults.append(f"script: {error}"))
        page.on("dialog", self._refuse)
        page.on("request", lambda request: self._judge(request.url))
        page.on("requestfailed", self._note_failure)

    def _listen(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.faults.append(f"console: {message.text} {message.location.get('url', '')}")

    def _note_failure(self, request: Any) -> None:
        # What a page gives up itself, for a newer search or a download, did not fail.
        if request.failure != "net::ERR_ABORTED":
            self.faults.append(f"failed: {request.url} {request.failure}")

    def _refuse(self, dialog: Any) -> None:
        self.faults.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _judge(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"data", "blob", "about"} and parts.netloc != self._host:
            self.faults.append(f"outside: {url}")

    def open(self, path: str, *, status: int = 200) -> Page:
        response = self.page.goto(path)
        assert response is not None
        assert response.status == status, (path, response.status)
        return self.page

    def resize(self, size: tuple[int, int]) -> None:
        self._size = size
        self.page.set_viewport_size({"width": size[0], "height": size[1]})

    def wear(self, scheme: Any) -> None:
        """The page that is open in another scheme, without loading it anew. The admin's theme looks only while it loads."""
        self._scheme = scheme
        self.page.emulate_media(color_scheme=scheme)
        self.page.evaluate("isDark => document.documentElement.classList.toggle('dark', isDark)", scheme == "dark")

    def is_too_wide(self) -> bool:
        """Whether one has to scroll sideways; charts take a moment to fit after a change of size."""
        for _ in range(10):
            if not self.page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                return False
            self.page.wait_for_timeout(100)
        return True

    def shapes(self, html: str = "") -> set[int]:
        """What there is on the page, or in this text of one, in a way that pages can be compared by; see `shapes.js`."""
        return set(self.page.evaluate(SHAPES, html))

    def newly(self, seen: set[int]) -> set[int]:
        """The shapes of the page that were not `seen`, and are then."""
        new = self.shapes() - seen
        seen |= new
        return new

    def looks(self, seen: set[int] | None, name: str = "", *, by_axe_on_phone: bool = False) -> list[str]:
        """What is wrong with the page in light and dark and on a phone: with all of it, or with what was not `seen`, and is then.

        It begins as the last page ended, since to change size or scheme costs as much as to load a small page.
        """
        found = [] if self.page.title().strip() else ["has no title"]  # which axe tells of whole pages only
        before = frozenset(seen or ())
        for size in (WIDE, NARROW) if self._size == WIDE else (NARROW, WIDE):
            if size != self._size:
                self.resize(size)
            if self.is_too_wide():
                found.append(f"is wider than {size[0]} pixels")
            if size == NARROW and not by_axe_on_phone:
                continue
            new = None
            if seen is not None:
                new = self.shapes() - before
                seen |= new
            if size == WIDE:
                found += self._looks_in_both(new, name)
            else:
                found += [f"on a phone: {violation}" for violation in self.violations(among=new)]
                self.shot(f"{name}-{size[0]}")
        return found

    def _looks_in_both(self, new: set[int] | None, name: str) -> list[str]:
        found = []
        for scheme in ("light", "dark") if self._scheme == "light" else ("dark", "light"):
            if new is None or new or SCREENSHOTS:
                if scheme != self._scheme:
                    self.wear(scheme)
                rules = OF_COLORS if scheme == "dark" else ()
                found += [f"{scheme}: {violation}" for violation in self.violations(*rules, among=new)]
                if name:
                    self.shot(f"{name}-{self._size[0]}")
        return found

    def violations(self, *rules: str, among: Iterable[int] | None = None) -> list[str]:
        """What axe finds on the page, by these rules or by all that count: one line for each element.

        With `among`, of `shapes()` of this page: only around one element of each.
        """
        if among is not None and not (among := list(among)):
            return []
        if not self.page.evaluate("'axe' in window"):  # half a megabyte, which the document keeps
            self.page.evaluate(AXE)
        found = self.page.evaluate(
            "([rules, among]) => axe.run("
            "{include: among ? among.map(shape => shapes.get(shape)).map(one => one.parentElement ?? one) : [['html']]}, "
            "{runOnly: rules, resultTypes: ['violations']})",
            [list(rules) or RULES, among],
        )
        return [
            f"{violation['id']}: {node['html'][:200]} {'; '.join(check['message'] for check in node['any'])[:200]}"
            for violation in found["violations"]
            for node in violation["nodes"]
        ]

    def shot(self, name: str) -> None:
        """A picture of the page, for a person to look at."""
        if SCREENSHOTS:
            Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=f"{SCREENSHOTS}/{name}-{self._scheme}.png", full_page=True)

    def close(self) -> None:
        self.context.close()
