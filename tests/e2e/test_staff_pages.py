"""Every page of the staff admin, of signing in and of the console, over rows whose every text attacks.

The pages are those of the URL patterns with the rows of `rows.py`. In the text of each nothing of an attack is more than text.
A page is opened unless its text has only shapes, and attacks only in places, of pages that were opened: nothing of an attack is
more than text or runs, axe finds nothing in light and in dark, no page is wider than its window, a phone's included, and nothing
fails, complains or asks another host. Axe looks at what no page before has shown. The long form opens every page, and looks at
all of it.
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from playwright.sync_api import expect

from tests.e2e.browsing import Visitor
from tests.e2e.hostile import ATTACKS, FOUND, LINK, POLYGLOT, SHORT, WATCH
from tests.fakes.launch import FakeProvider
from tests.live.gateway import Installation

ROOMS = ("/admin/", "/accounts/", "/console/", "/docs/")
# Without a provider of payments there are no pages of them. Nobody listens at its address.
PAYMENTS: dict[str, Any] = {"STRIPE_SECRET_KEY": "sk", "STRIPE_WEBHOOK_SECRET": "whsec", "STRIPE_API_URL": "http://127.0.0.1:9"}

# The walk alone takes as long as a hundred other tests.
pytestmark = [pytest.mark.timeout(600), pytest.mark.slow]


class Walk(NamedTuple):
    """`pages` are what a GET answered: path, status, kind, the text of a page, whether nobody is signed in."""

    site: str
    session: str
    pages: list[dict[str, Any]]


@pytest.fixture(scope="module")
def walk(provider_process: FakeProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    installation = Installation(tmp_path_factory.mktemp("walk"), provider_process)
    installation.books.close()
    told = json.loads(installation.run("-m", "tests.e2e.filling", **PAYMENTS).splitlines()[-1])
    with installation.server(**PAYMENTS) as server:
        yield Walk(f"http://127.0.0.1:{server.port}", told["session"], told["pages"])


@pytest.fixture
def watched(browser, walk) -> Iterator[Callable[[bool], Visitor]]:
    visitors: dict[bool, Visitor] = {}

    def visitor(is_of_nobody: bool) -> Visitor:  # noqa: FBT001 - the one thing that tells the two apart
        if is_of_nobody not in visitors:
            visitors[is_of_nobody] = Visitor(browser, walk.site, session="" if is_of_nobody else walk.session)
            visitors[is_of_nobody].context.add_init_script(WATCH)
        return visitors[is_of_nobody]

    yield visitor
    for one in visitors.values():
        one.close()


def test_what_is_no_page_is_refused_for_a_reason(walk):
    """A page that breaks, or that the rows do not lead to, is no page that was walked."""
    by_status: dict[int, list[str]] = {}
    for page in walk.pages:
        if not (page["status"] == 200 and page["kind"] in {"page", "piece"}):
            by_status.setdefault(page["status"], []).append(page["path"])
    assert set(by_status) - {401} == {200, 302, 403, 404, 405}
    assert all(path.startswith("/accounts/") for path in by_status.get(401, []))
    assert all("/export" in path or path.endswith("/content") for path in by_status[200])
    assert all(
        path.startswith(("/accounts/", "/admin/login/", "/admin/billing/codebatch/"))
        or path == "/console/"
        or path.endswith("/its_messages/")
        for path in by_status[302]
    )
    assert all(path.endswith(("/add/", "/delete/", "/autocomplete/")) for path in by_status[403])
    without_their_query = {path.partition("?")[0] for path in by_status[404]}
    assert [path for path in without_their_query if not path.endswith(("/log/newer", "/chains/of", "/pages/1"))] == []
    assert all(path.startswith("/console/") for path in by_status[405])


@pytest.fixture(scope="module")
def seen() -> set[int]:
    """The shapes that were looked at."""
    return set()


@pytest.fixture(scope="module")
def opened() -> set[int]:
    """The shapes of the texts of the pages that were opened."""
    return set()


in_short_and_long = pytest.mark.parametrize(
    "is_whole", [False, pytest.param(True, marks=[pytest.mark.long, pytest.mark.timeout(3600)])], ids=["short", "long"]
)


@in_short_and_long
@pytest.mark.parametrize("room", ROOMS)
def test_every_page_is_for_everybody_and_runs_nothing_of_others(walk, watched, seen, opened, room, is_whole):
    found: list[str] = []
    for page in walk.pages:
        if not page["path"].startswith(room) or page["status"] != 200 or page["kind"] == "file":
            continue
        visitor = watched(page["is_of_nobody"])
        faults = _attacks(visitor, page["html"])
        shapes = visitor.shapes(page["html"]) if page["html"] else set()
        if is_whole or not page["html"] or shapes - opened:
            opened |= shapes
            visitor.open(page["path"])
            faults += _attacks(visitor)
            faults += visitor.looks(None if is_whole else seen) if page["html"] else []
            faults += visitor.faults if page["html"] else []
            visitor.faults.clear()
        found += [f"{page['path']} {fault}" for fault in faults]
    assert found == []


def _attacks(visitor: Visitor, text: str = "") -> list[str]:
    """What came of the attacks on the page that is open, or in the text of one."""
    found: list[str] = visitor.page.evaluate(FOUND, text)
    return [f"attack: {trace}" for trace in found]


@pytest.mark.parametrize("attack", [f"<p>{POLYGLOT}", f"<p>{SHORT}", f'<a href="{LINK}">', f"<p title='{ATTACKS[3]}'>"])
def test_an_attack_in_the_text_of_a_page_is_found(watched, attack):
    visitor = watched(True)  # noqa: FBT003
    escaped = html.escape(attack)
    assert _attacks(visitor, f"<html><body>{attack}")
    assert not _attacks(visitor, f"<html><body><p title='{escaped}'>{escaped}")


def test_a_page_with_text_of_others_where_there_was_none_has_a_new_shape(watched):
    visitor = watched(True)  # noqa: FBT003
    known = visitor.shapes("<html><body><p title=a x-data=a>A text<script>a</script>")
    assert not visitor.shapes("<html><body><p title=b x-data=b>Another<script>b</script>") - known
    for attacked in (
        "<p title='xss()' x-data=b>A<script>",
        "<p title=b x-data='xss()'>A<script>",
        "<p title=b x-data=b>A<script>xss()",
    ):
        assert visitor.shapes(f"<html><body>{attacked}</script>") - known


@in_short_and_long
def test_what_is_fetched_into_a_page_is_no_worse(walk, watched, seen, is_whole):
    """Lists of choices, the filters of a list, the search of the menu, a message after an act, a key that was just made."""
    visitor = watched(False)  # noqa: FBT003

    def violations():
        return visitor.violations(among=None if is_whole else visitor.newly(seen))

    page = visitor.open("/admin/chat/fallbackchain/add/")
    page.locator("[aria-labelledby*=id_workspace]").first.click()
    expect(page.locator(".select2-results__option").nth(1)).to_be_visible()
    found = page.evaluate(FOUND) + violations()
    page = visitor.open("/admin/billing/usagerecord/")
    page.get_by_text("Filters").first.click()
    expect(page.get_by_label("By workspace").first).to_be_visible()
    found += violations()
    page.reload()
    page.locator("#nav-filter").press_sequentially("a")
    expect(page.get_by_role("link", name="API keys").nth(1)).to_be_visible()
    found += violations()
    workspace = next(path["path"] for path in walk.pages if path["path"].endswith("/suspend/"))
    for act, button in (("suspend", "Suspend"), ("activate", "Activate")):
        page = visitor.open(workspace.replace("suspend", act))
        page.locator("#id_reason").fill("a look at its message")
        page.get_by_role("button", name=button, exact=True).click()
        page.wait_for_url("**/change/**")
        expect(page.get_by_text("xss()").first).to_be_attached()
        found += page.evaluate(FOUND)
    found += violations()
    page = visitor.open(workspace.replace("suspend", "mint_key"))
    page.locator("#id_name").fill("'\"><img src=x onerror=xss()>")
    page.get_by_role("button", name="Mint", exact=True).click()
    expect(page.get_by_label("API key", exact=True)).to_be_visible()
    found += page.evaluate(FOUND) + violations()
    page = visitor.open("/admin/billing/entry/reconciliation/")
    page.get_by_role("button", name="Prove the books").click()
    expect(page.locator(".gw-card[role=status]")).to_be_visible()
    found += page.evaluate(FOUND) + violations()
    assert (found, visitor.faults) == ([], [])
