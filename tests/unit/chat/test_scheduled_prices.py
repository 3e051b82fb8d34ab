"""Prices that begin later: which version counts when, in a serving process, in a file, and withdrawn before they begin."""

import asyncio
from datetime import timedelta

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import ValidationError
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from billing.models import AuditEvent
from chat.catalog import Catalog, in_force, load_snapshot, read_version
from chat.loading.dump import dump
from chat.loading.file import CatalogFileError, read_catalog
from chat.loading.load import load
from chat.loading.rows import PriceAmounts, add_price, apply_default_pdf_fee, withdraw_price
from chat.models import CatalogModel, Price, Provider, Target

HOUR = timedelta(hours=1)


@pytest.fixture
def one(db):
    row = CatalogModel.objects.create(slug="one", name="O", owned_by="x", context_window=1000, max_output_tokens=100)
    provider = Provider.objects.create(slug="sandbox", dialect="openai", base_url="sandbox:")
    Target.objects.create(model=row, provider=provider, upstream_model="echo")
    return row


def priced(row, credits, start=None):
    amounts = PriceAmounts(input_microcredits=credits, output_microcredits=credits)
    return add_price(row, amounts, actor="test", effective_at=start)


def test_a_scheduled_price_counts_from_its_moment_on(one):
    now = timezone.now()
    first = priced(one, 1)
    later = priced(one, 3, now + 2 * HOUR)
    sooner = priced(one, 2, now + HOUR)
    snapshot = load_snapshot()
    versions = [
        snapshot.at(now + passed).models["one"].prices.version_id
        for passed in (timedelta(0), HOUR - timedelta(seconds=1), HOUR, 2 * HOUR, 9 * HOUR)
    ]
    assert versions == [first.pk, first.pk, sooner.pk, later.pk, later.pk]
    assert snapshot.at(now + 9 * HOUR).coming == ()
    assert [price.pk for price in in_force(now + HOUR)] == [sooner.pk]


def test_a_model_without_another_price_can_be_called_from_then_on(one):
    start = timezone.now() + HOUR
    priced(one, 2, start)
    snapshot = load_snapshot()
    assert (set(snapshot.models), snapshot.unpriced) == (set(), {"one"})
    assert (set(snapshot.at(start).models), snapshot.at(start).unpriced) == ({"one"}, set())


def test_a_price_of_now_counts_until_the_scheduled_one_and_an_equal_one_is_none(one):
    priced(one, 1)
    later = priced(one, 3, timezone.now() + HOUR)
    assert priced(one, 3, timezone.now() + 2 * HOUR) is None
    now = priced(one, 2)
    snapshot = load_snapshot()
    assert snapshot.models["one"].prices.version_id == now.pk
    assert snapshot.at(later.effective_at).models["one"].prices.version_id == later.pk


def test_the_default_fee_makes_a_version_of_the_price_in_force_and_not_of_one_to_come(one):
    priced(one, 1)
    priced(one, 3, timezone.now() + HOUR)
    Price.objects.update(pdf_page_microcredits=7)
    assert apply_default_pdf_fee([one], actor="test") == 1
    assert in_force(timezone.now()).get().input_microcredits == 1


def test_what_has_not_begun_can_be_withdrawn_and_never_counts(one):
    first = priced(one, 1)
    later = priced(one, 2, timezone.now() + HOUR)
    version = read_version()
    withdraw_price(later, actor="test", reason="too dear")
    assert read_version() > version
    assert AuditEvent.objects.get(action="price.withdrawn").reason == "too dear"
    assert load_snapshot().at(timezone.now() + 2 * HOUR).models["one"].prices.version_id == first.pk
    with pytest.raises(ValidationError, match="withdrawn already"):
        withdraw_price(later, actor="test")
    soon = priced(one, 5, timezone.now() + timedelta(seconds=2))
    for begun in (first, soon):
        with pytest.raises(ValidationError, match="has begun"):
            withdraw_price(begun, actor="test")


@pytest.mark.django_db(transaction=True)
async def test_a_serving_process_changes_the_price_by_itself_at_its_moment(one):
    await sync_to_async(priced)(one, 1)
    await sync_to_async(priced)(one, 2, timezone.now() + timedelta(seconds=0.6))
    catalog = Catalog(poll_s=60)
    await catalog.start()
    try:
        before = catalog.snapshot.models["one"]
        assert before.prices.input == 1
        await asyncio.sleep(0.7)
        assert catalog.snapshot.models["one"].prices.input == 2
        assert before.prices.input == 1, "what a request has in hand stays"
    finally:
        await catalog.stop()


FILE = """
models:
  - slug: one
    name: O
    owned_by: x
    context_window: 1000
    max_output_tokens: 100
    prices: {{input: 1, output: 2}}
    scheduled_prices:
      - {{from: "{start}", input: 3, output: 4}}
"""


def loaded(text):
    return load(read_catalog(text), actor="test")


@pytest.mark.django_db
def test_a_file_names_the_prices_to_come_and_is_written_with_them():
    start = (timezone.now() + HOUR).replace(microsecond=0)
    text = FILE.format(start=start.isoformat())
    assert loaded(text).created == ["model one"]
    assert not loaded(text).has_changes
    assert not loaded(dump()).has_changes
    written = dump()
    Price.objects.all().delete()
    loaded(written)
    assert dump() == written
    assert in_force(start).get().input_microcredits == 3_000_000
    moved = FILE.format(start=(start + HOUR).isoformat())
    assert loaded(moved).changed == ["model one: prices"]
    assert in_force(start).get().input_microcredits == 1_000_000
    assert not loaded(text.split("    scheduled_prices")[0]).has_changes, "a file that names none leaves them"
    assert loaded(text.split("      - {from")[0].replace("scheduled_prices:", "scheduled_prices: []")).has_changes
    assert in_force(start + 9 * HOUR).get().input_microcredits == 1_000_000


@pytest.mark.django_db
def test_a_file_loaded_again_after_the_moment_does_not_bring_the_old_price_back():
    text = FILE.format(start=(timezone.now() - HOUR).isoformat())
    report = loaded(text)
    assert in_force(timezone.now()).get().input_microcredits == 3_000_000
    assert "a scheduled price has begun" in " ".join(report.warnings)
    assert not loaded(text).has_changes


@pytest.mark.parametrize("start", ["tomorrow", "2026-12-01T00:00:00", "", "99999-01-01T00:00:00Z"])
def test_a_moment_that_is_none_is_a_fault_with_its_path(start):
    with pytest.raises(CatalogFileError, match=r"models\[0\] \(one\)\.scheduled_prices\[0\]\.from"):
        read_catalog(FILE.format(start=start))


def test_two_prices_of_one_moment_are_a_fault():
    text = FILE.format(start="2026-12-01T00:00:00Z")
    with pytest.raises(CatalogFileError, match="stands twice"):
        read_catalog(text + '      - {from: "2026-12-01T01:00:00+01:00", input: 5, output: 5}\n')


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_the_newest_version_stays_in_force_when_versions_get_their_moments(one):
    now = timezone.now()
    for made_at, amount in ((now - HOUR, 1), (now - 3 * HOUR, 2), (now - 2 * HOUR, 3)):
        Price.objects.create(model=one, input_microcredits=amount, output_microcredits=0, created_at=made_at)
    latest = MigrationExecutor(connection).loader.graph.leaf_nodes()
    try:
        MigrationExecutor(connection).migrate([("chat", "0007_history_and_deprecation")])
    finally:
        MigrationExecutor(connection).migrate(latest)
    assert in_force(timezone.now()).get().input_microcredits == 3
