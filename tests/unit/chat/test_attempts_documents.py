"""A document whose pages cannot be drawn: what that means for the model asked, and for those of its chain."""

from __future__ import annotations

import msgspec
import pytest

from chat.attempts import Attempts
from chat.content import Resolver
from chat.content.room import Room
from chat.decode import decode
from chat.health import Health
from chat.outcome import Journal
from chat.quote import quote
from chat.schema.route import ModelInfo, Route
from chat.upstream import Upstream
from files.models import Document
from infery_site.errors import ApiError
from tests.unit.chat.rows.bodies import said
from tests.unit.chat.test_content_documents import BLIND, PARAM, SEEING, file, resolver, workspace_id
from tests.unit.chat.values import EVERYTHING, PROVIDER, TENANT, call, model, route, target
from tests.unit.files.documents.reading import FailingSandbox

__all__ = ["workspace_id"]


class Plenty:
    """Everything is held already."""

    held_microcredits = 10**15

    async def extend(self, amount_microcredits: int, price_version_id: int) -> bool:
        return False


def served_by(one: ModelInfo, upstream_model: str) -> ModelInfo:
    """By the sandbox, as this model of it."""
    provider = msgspec.structs.replace(PROVIDER, base_url="sandbox:")
    aimed = msgspec.structs.replace(target(), provider=provider, upstream_model=upstream_model)
    return msgspec.structs.replace(one, targets=(aimed,), context_window=100_000)


FAILING = served_by(model("failing", EVERYTHING | {"pdf"}), "flaky")
DRAWN, READ = served_by(SEEING, "echo"), served_by(BLIND, "text")


@pytest.fixture
async def drawless(workspace_id: int) -> Resolver:
    """Cannot draw; the text of the document is there already."""
    await resolver().resolve(asked(), route(BLIND), Room().stay(workspace_id))
    return resolver(FailingSandbox("images"))


def asked():
    return decode(said({"role": "user", "content": [file()]}), is_strict=False).chat


async def attempt(by: Resolver, workspace_id: int, way: Route) -> tuple[str, int, list[str]]:
    """Who served, how many pages it has the fee of, and all who were tried."""
    request, journal = asked(), Journal(call())
    content = await by.resolve(request, way, Room().stay(workspace_id))
    attempts = Attempts(Upstream(), Health(), request, content, TENANT, Plenty(), journal)
    served, _ = await attempts.whole(way, quote(request, way, content))
    return served.model.slug, served.pdf_pages, [one.model for one in journal.attempts]


async def test_the_model_asked_is_refused_and_no_page_is_paid(drawless: Resolver, workspace_id: int):
    with pytest.raises(ApiError) as caught:
        await attempt(drawless, workspace_id, route(DRAWN, READ))
    assert (caught.value.status, caught.value.code, caught.value.param) == (400, "pdf_conversion_failed", PARAM)
    assert (await Document.objects.aget()).converted_at is None


async def test_a_fallback_is_passed_over_and_the_next_one_pays(drawless: Resolver, workspace_id: int):
    assert await attempt(drawless, workspace_id, route(FAILING, DRAWN, READ)) == ("blind", 2, ["failing", "blind"])


async def test_without_another_fallback_the_failure_of_the_model_asked_is_told(drawless: Resolver, workspace_id: int):
    with pytest.raises(ApiError) as caught:
        await attempt(drawless, workspace_id, route(FAILING, DRAWN))
    assert caught.value.status == 503
    assert "x-fallback-depth" not in dict(caught.value.headers)
