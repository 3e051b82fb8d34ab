"""The catalogue in a serving process: the snapshot, how it follows the rows, and the route of a request."""

import asyncio
import contextlib
import logging
import random
import time
from collections import Counter
from itertools import pairwise

import msgspec
import pytest
from asgiref.sync import sync_to_async
from django.core.checks import run_checks
from django.db import connection

from billing.apikeys import Principal
from chat.catalog import Catalog, Need, Snapshot, current, following, load_snapshot, needs_of, plan
from chat.errors import ModelNotFound
from chat.loading.file import read_catalog
from chat.loading.load import load
from chat.loading.rows import PriceAmounts, add_price, set_models_enabled, set_provider_key, touch
from chat.models import CatalogModel, ChainLink, FallbackChain, Price, Provider, Target
from chat.schema.request import (
    AudioPart,
    FunctionDefinition,
    FunctionTool,
    ImagePart,
    ImageUrl,
    InputAudio,
    SystemMessage,
    TextPart,
    UserMessage,
)
from chat.schema.route import Terms
from infery_site.errors import ApiError
from tests.unit.chat.values import EVERYTHING, model, request, target

PRINCIPAL = Principal(1, 1, 1, "ws_acme", frozenset({"chat"}))


# The snapshot


def make_provider(slug="sandbox", **fields):
    return Provider.objects.create(**{"slug": slug, "dialect": "openai", "base_url": "sandbox:"} | fields)


def make_model(slug="one", provider=None, *, price=True, **fields):
    row = CatalogModel.objects.create(
        **{"slug": slug, "name": slug, "owned_by": "tests", "context_window": 1000, "max_output_tokens": 100} | fields
    )
    if provider is not None:
        Target.objects.create(model=row, provider=provider, upstream_model=f"{slug}-upstream")
    if price:
        Price.objects.create(model=row, input_microcredits=1, output_microcredits=2)
    return row


def slugs():
    return sorted(load_snapshot().models)


@pytest.mark.django_db
def test_a_model_can_be_called_if_it_is_enabled_priced_and_has_a_usable_target():
    sandbox = make_provider()
    off = make_provider("off", is_enabled=False)
    keyless = make_provider("keyless", api_key_env="A_KEY_NOBODY_HAS_SET")
    make_model("ready", sandbox)
    make_model("disabled", sandbox, is_enabled=False)
    make_model("unpriced", sandbox, price=False)
    make_model("no-target")
    make_model("provider-off", off)
    make_model("no-key", keyless)
    make_model("no-key-no-price", keyless, price=False)
    snapshot = load_snapshot()
    assert sorted(snapshot.models) == ["ready"]
    assert snapshot.unpriced == {"unpriced"}


@pytest.mark.django_db
def test_only_usable_targets_are_kept():
    row = make_model("one", make_provider())
    Target.objects.create(model=row, provider=make_provider("off", is_enabled=False), upstream_model="x")
    assert [one.provider.slug for one in load_snapshot().models["one"].targets] == ["sandbox"]


@pytest.mark.django_db
def test_a_key_comes_from_the_environment_or_a_file_and_staff_win(monkeypatch, tmp_path):
    provider = make_provider(api_key_env="ONE_KEY")
    make_model("one", provider)
    assert slugs() == []

    def key():
        return load_snapshot().models["one"].targets[0].provider.api_key

    path = tmp_path / "key"
    path.write_text("sk-file\n")
    monkeypatch.setenv("ONE_KEY_FILE", str(path))
    assert key() == "sk-file"
    monkeypatch.delenv("ONE_KEY_FILE")
    monkeypatch.setenv("ONE_KEY", "sk-environment")
    assert key() == "sk-environment"
    set_provider_key(provider, "sk-entered-by-staff", actor="test")
    assert key() == "sk-entered-by-staff"


@pytest.mark.django_db
def test_a_key_that_cannot_be_read_hides_its_models_and_is_reported(settings, monkeypatch, caplog):
    provider = make_provider(api_key_env="ONE_KEY")
    make_model("one", provider)
    monkeypatch.setenv("ONE_KEY", "sk-environment")
    set_provider_key(provider, "sk-entered-by-staff", actor="test")
    settings.FIELD_ENCRYPTION_KEYS = ["another ring"]
    assert slugs() == []
    assert "sandbox cannot be read" in caplog.text
    assert "sk-" not in caplog.text
    monkeypatch.setenv("TWO_KEY_FILE", "/nowhere/at/all")
    make_model("two", make_provider("two", api_key_env="TWO_KEY"))
    assert slugs() == []


@pytest.mark.django_db
def test_keys_do_not_stand_in_representations():
    provider = make_provider()
    make_model("one", provider)
    set_provider_key(provider, "sk-entered-by-staff", actor="test")
    assert "sk-entered" not in repr(load_snapshot())


@pytest.mark.django_db
def test_the_newest_price_is_in_force_and_classes_fall_back():
    row = make_model("one", make_provider())
    newest = add_price(
        row, PriceAmounts(input_microcredits=10, output_microcredits=20, cached_input_microcredits=0), actor="test"
    )
    prices = load_snapshot().models["one"].prices
    assert msgspec.structs.asdict(prices) == {
        "version_id": newest.pk,
        "input": 10,
        "output": 20,
        "cached_input": 0,
        "cache_write": 10,
        "audio_input": 10,
        "reasoning": 20,
        "pdf_page": 0,
    }


@pytest.mark.django_db
def test_limits_and_flags_reach_the_snapshot():
    provider = make_provider()
    make_model("thinker", provider, is_reasoning=True, supports_vision=True, supports_streaming=False)
    make_model("plain", provider)
    Target.objects.filter(model__slug="plain").update(first_token_s=7, quirks=["top_k"])
    snapshot = load_snapshot()
    assert snapshot.models["thinker"].capabilities == {"reasoning", "vision"}
    assert snapshot.models["thinker"].targets[0].first_token_s == 300
    assert snapshot.models["plain"].targets[0].first_token_s == 7
    assert snapshot.models["plain"].targets[0].quirks == {"top_k"}


@pytest.mark.django_db
def test_the_number_of_queries_does_not_grow_with_the_catalogue(django_assert_max_num_queries):
    provider = make_provider()
    rows = [make_model(f"m{number}", provider) for number in range(30)]
    for source, fallback in pairwise(rows):
        chain = FallbackChain.objects.create(source=source)
        ChainLink.objects.create(chain=chain, position=1, model=fallback)
    with django_assert_max_num_queries(9):
        assert len(load_snapshot().models) == 30


@pytest.mark.django_db
def test_staff_are_warned_of_models_that_cannot_be_called(settings):
    provider = make_provider()
    make_model("unpriced", provider, price=False)
    make_model("no-target")
    set_provider_key(provider, "sk-entered-by-staff", actor="test")
    settings.FIELD_ENCRYPTION_KEYS = ["another ring"]
    found = {message.id: message.msg for message in run_checks(databases=["default"]) if message.id.startswith("chat.")}
    assert sorted(found) == ["chat.W001", "chat.W002", "chat.W003"]
    assert "unpriced" in found["chat.W001"]
    assert "no-target" in found["chat.W002"]


# Following the rows


@contextlib.asynccontextmanager
async def serving(poll_s=0.05):
    catalog = Catalog(poll_s=poll_s)
    await catalog.start()
    try:
        yield catalog
    finally:
        await catalog.stop()


async def until(condition, limit_s=1.0):
    """How long it took until `condition` held; fails after the limit."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < limit_s
        await asyncio.sleep(0.01)
    return time.monotonic() - started


@pytest.fixture
def one(transactional_db):
    return make_model("one", make_provider())


async def test_a_change_is_served_within_a_second_at_the_usual_pace(one, settings):
    async with serving(poll_s=settings.CATALOG_POLL_S) as catalog:
        await sync_to_async(add_price)(one, PriceAmounts(input_microcredits=77, output_microcredits=2), actor="test")
        await until(lambda: catalog.snapshot.models["one"].prices.input == 77)
        await sync_to_async(set_models_enabled)([one], is_enabled=False, actor="test")
        await until(lambda: not catalog.snapshot.models)


async def test_a_loaded_file_is_served_within_a_second(one, settings):
    text = """
    models:
      - slug: one
        name: Renamed
        owned_by: tests
        context_window: 1000
        max_output_tokens: 100
        prices: {input: 0.5, output: 1}
        targets: [{provider: sandbox, upstream_model: echo}]
    """
    async with serving(poll_s=settings.CATALOG_POLL_S) as catalog:
        await sync_to_async(load)(read_catalog(text), actor="test")
        await until(lambda: catalog.snapshot.models["one"].prices.input == 500_000)
        assert catalog.snapshot.models["one"].name == "Renamed"


async def test_an_unchanged_catalogue_costs_one_query_a_poll_and_keeps_its_snapshot(one):
    queries = []

    def watch(execute, sql, params, many, context):
        queries.append(sql)
        return execute(sql, params, many, context)

    async with serving(poll_s=0.01) as catalog:
        snapshot = catalog.snapshot
        following._thread.submit(lambda: connection.execute_wrappers.append(watch)).result()
        await until(lambda: len(queries) >= 5)
        following._thread.submit(lambda: connection.execute_wrappers.remove(watch)).result()
        assert all("chat_catalogstamp" in sql for sql in queries)
        assert catalog.snapshot is snapshot


async def test_the_last_snapshot_stays_while_the_database_is_away(one, caplog):
    """Away: without the stamp's table, which both engines refuse as they refuse a lost connection."""
    caplog.set_level(logging.WARNING)
    async with serving(poll_s=0.02) as catalog:
        snapshot = catalog.snapshot
        await sync_to_async(rename_table)("chat_catalogstamp", "chat_catalogstamp_away")
        try:
            await until(lambda: "stays in force" in caplog.text)
            await asyncio.sleep(0.1)
            assert catalog.snapshot is snapshot
            assert caplog.text.count("stays in force") == 1
        finally:
            await sync_to_async(rename_table)("chat_catalogstamp_away", "chat_catalogstamp")
        await sync_to_async(touch)()
        await until(lambda: catalog.snapshot is not snapshot)


def rename_table(old, new):
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {old} RENAME TO {new}")


async def test_starting_again_is_harmless_and_stopping_ends_it(one):
    catalog = Catalog(poll_s=0.02)
    with pytest.raises(RuntimeError):
        _ = catalog.snapshot
    await catalog.start()
    snapshot = catalog.snapshot
    await catalog.start()
    assert catalog.snapshot is snapshot
    assert await sync_to_async(current)() is snapshot
    await catalog.stop()
    await catalog.stop()
    assert await sync_to_async(current)() is not snapshot
    assert [task.get_name() for task in asyncio.all_tasks() if task.get_name() == "catalog"] == []


# The route of a request


def snapshot_of(*models, chains=None, unpriced=()):
    return Snapshot(1, {one.slug: one for one in models}, frozenset(unpriced), chains or {})


def planned(snapshot, asked=None, principal=PRINCIPAL, *, is_fallback_disabled=False):
    return plan(snapshot, asked or request(), principal, is_fallback_disabled=is_fallback_disabled)


def refusal_of(snapshot, asked=None, principal=PRINCIPAL):
    with pytest.raises(ApiError) as refusal:
        planned(snapshot, asked, principal)
    return refusal.value


IMAGE = UserMessage([TextPart("What is this?"), ImagePart(ImageUrl("data:image/png;base64,AA=="))])
AUDIO = UserMessage([AudioPart(InputAudio("AA==", "wav"))])
TOOLS = [FunctionTool(FunctionDefinition("get_weather"))]


def test_what_a_request_needs_is_named_with_the_field_that_asks_for_it():
    asked = request(messages=[SystemMessage("Be brief."), IMAGE, IMAGE, AUDIO], tools=TOOLS, stream=True)
    assert needs_of(asked) == (
        Need("tools", "tools"),
        Need("vision", "messages[1].content[1]"),
        Need("audio_input", "messages[3].content[0]"),
        Need("streaming", "stream"),
    )
    assert needs_of(request(functions=[FunctionDefinition("f")])) == (Need("tools", "functions"),)
    assert needs_of(request(tools=[], stream=False)) == ()


def test_a_workspace_s_own_chain_says_how_its_models_are_tried():
    key = (PRINCIPAL.workspace_id, "gpt-test")
    terms = {"gpt-test": Terms(1, frozenset({503})), "b": Terms(None, frozenset({429}))}
    snapshot = msgspec.structs.replace(snapshot_of(model(), model("b"), chains={key: ("b",)}), terms={key: terms})
    first, second = planned(snapshot).steps
    assert [(one.retries, one.fallback_statuses) for one in first.targets] == [(1, {503})] * len(first.targets)
    assert {one.fallback_statuses for one in second.targets} == {frozenset({429})}
    elsewhere = planned(snapshot, principal=msgspec.structs.replace(PRINCIPAL, workspace_id=PRINCIPAL.workspace_id + 1))
    assert [step.targets for step in elsewhere.steps] == [model().targets]


def test_the_model_asked_comes_first_and_its_chain_after_it():
    chains = {(None, "gpt-test"): ("b", "c")}
    route = planned(snapshot_of(model(), model("b"), model("c"), chains=chains))
    assert [step.model.slug for step in route.steps] == ["gpt-test", "b", "c"]
    assert (route.model_asked, route.depths) == ("gpt-test", (0, 1, 2))


def test_a_request_may_do_without_its_chain():
    chains = {(None, "gpt-test"): ("b",)}
    assert planned(snapshot_of(model(), model("b"), chains=chains), is_fallback_disabled=True).depths == (0,)


def test_a_chain_is_not_followed_further():
    chains = {(None, "gpt-test"): ("b",), (None, "b"): ("c",)}
    route = planned(snapshot_of(model(), model("b"), model("c"), chains=chains))
    assert [step.model.slug for step in route.steps] == ["gpt-test", "b"]


def test_the_workspace_s_own_chain_replaces_the_default():
    chains = {(None, "gpt-test"): ("b",), (1, "gpt-test"): ("c",), (2, "gpt-test"): ()}
    snapshot = snapshot_of(model(), model("b"), model("c"), chains=chains)
    assert [step.model.slug for step in planned(snapshot).steps] == ["gpt-test", "c"]
    rival = msgspec.structs.replace(PRINCIPAL, workspace_id=2)
    assert [step.model.slug for step in planned(snapshot, principal=rival).steps] == ["gpt-test"]
    other = msgspec.structs.replace(PRINCIPAL, workspace_id=3)
    assert [step.model.slug for step in planned(snapshot, principal=other).steps] == ["gpt-test", "b"]


def test_what_cannot_serve_is_left_out_and_keeps_its_number():
    blind = model("blind", EVERYTHING - {"vision"})
    small = msgspec.structs.replace(model("small"), max_output_tokens=5)
    vectors = msgspec.structs.replace(model("vectors"), modality="embedding")
    chains = {(None, "gpt-test"): ("gone", "blind", "small", "vectors", "forbidden", "last")}
    snapshot = snapshot_of(model(), blind, small, vectors, model("forbidden"), model("last"), chains=chains)
    principal = msgspec.structs.replace(
        PRINCIPAL, allowed_models=frozenset({"gpt-test", "blind", "small", "vectors", "last", "gone"})
    )
    route = planned(snapshot, request(messages=[IMAGE], max_tokens=50), principal)
    assert [step.model.slug for step in route.steps] == ["gpt-test", "last"]
    assert route.depths == (0, 6)


def test_rows_50_and_51_unknown_disabled_and_forbidden_models_are_answered_alike():
    principal = msgspec.structs.replace(PRINCIPAL, allowed_models=frozenset({"other"}))
    unknown = refusal_of(snapshot_of())
    forbidden = refusal_of(snapshot_of(model()), principal=principal)
    forbidden_without_price = refusal_of(snapshot_of(unpriced=["gpt-test"]), principal=principal)
    assert unknown.status == 404
    assert unknown.param == "model"
    assert (
        unknown.envelope() == forbidden.envelope() == forbidden_without_price.envelope() == ModelNotFound("gpt-test").envelope()
    )


def test_row_52_a_model_that_does_not_chat():
    refusal = refusal_of(snapshot_of(msgspec.structs.replace(model(), modality="embedding")))
    assert (refusal.status, refusal.code, refusal.param) == (400, "model_not_supported", "model")


def test_a_model_without_a_price_is_unavailable_and_not_retried():
    refusal = refusal_of(snapshot_of(unpriced=["gpt-test"]))
    assert (refusal.status, refusal.code) == (503, "model_unavailable")
    assert ("x-should-retry", "false") in refusal.headers


ROW_79 = {
    "tools": ({"tools": TOOLS}, "tools", "unsupported_parameter", "tools"),
    "functions": ({"functions": [FunctionDefinition("f")]}, "tools", "unsupported_parameter", "functions"),
    "image": ({"messages": [IMAGE]}, "vision", "unsupported_parameter", "messages[0].content[1]"),
    "audio": ({"messages": [IMAGE, AUDIO]}, "audio_input", "audio_not_supported_by_model", "messages[1].content[0]"),
    "stream": ({"stream": True}, "streaming", "unsupported_parameter", "stream"),
}


@pytest.mark.parametrize(("fields", "lacking", "code", "param"), ROW_79.values(), ids=ROW_79)
def test_row_79_what_the_model_asked_cannot_do_is_refused(fields, lacking, code, param):
    capabilities = EVERYTHING | {"audio_input"}
    assert planned(snapshot_of(model(capabilities=capabilities)), request(**fields)).depths == (0,)
    refusal = refusal_of(snapshot_of(model(capabilities=capabilities - {lacking})), request(**fields))
    assert (refusal.status, refusal.code, refusal.param) == (400, code, param)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_row_67_a_limit_above_the_model_s(name):
    assert planned(snapshot_of(model()), request(**{name: 100})).depths == (0,)
    refusal = refusal_of(snapshot_of(model()), request(**{name: 101}))
    assert (refusal.status, refusal.code, refusal.param) == (400, "above_model_maximum", name)
    assert "100" in refusal.message


def test_targets_come_first_in_proportion_to_their_weight():
    heavy = msgspec.structs.replace(target(), id=1, weight=3)
    light = msgspec.structs.replace(target(), id=2, weight=1)
    snapshot = snapshot_of(msgspec.structs.replace(model(), targets=(light, heavy)))
    chance = random.Random(7)
    routes = [plan(snapshot, request(), PRINCIPAL, is_fallback_disabled=True, chance=chance) for _ in range(4000)]
    first = Counter(route.steps[0].targets[0].id for route in routes)
    assert 0.72 < first[1] / 4000 < 0.78
    assert all({one.id for one in route.steps[0].targets} == {1, 2} for route in routes)
