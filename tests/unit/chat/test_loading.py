"""Loading a catalogue file: strict, all faults at once, and nothing changes the second time."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command

from billing.models import AuditEvent, UsageRecord
from billing.workspaces import create_workspace
from chat.catalog import load_snapshot, provider_key, read_version
from chat.loading.address import AddressRefused, check_base_url
from chat.loading.chains import ChainRefused, chain_warnings, chains_in_force, set_chain
from chat.loading.dump import dump
from chat.loading.file import CatalogFileError, read_catalog
from chat.loading.load import load
from chat.loading.rows import (
    PriceAmounts,
    add_price,
    apply_default_pdf_fee,
    check_provider,
    forget_provider_key,
    set_default_pdf_fee,
    set_models_enabled,
    set_provider_key,
)
from chat.models import CatalogDefault, CatalogModel, FallbackChain, Price, Provider, Target
from chat.schema.route import ImageTokens

SHIPPED = Path(__file__).parents[3] / "catalog.yaml"

SANDBOX = {"slug": "sandbox", "dialect": "openai", "base_url": "sandbox:"}
MODEL: dict[str, Any] = {
    "slug": "one",
    "name": "One",
    "owned_by": "sandbox",
    "context_window": 1000,
    "max_output_tokens": 100,
    "supports": ["streaming"],
    "prices": {"input": 1, "output": 2},
    "targets": [{"provider": "sandbox", "upstream_model": "echo"}],
}


def file(**sections):
    return {"providers": [SANDBOX], "models": [MODEL]} | sections


def model(slug="one", **fields):
    return deepcopy(MODEL) | {"slug": slug} | fields


def loaded(content, *, is_pruning=False):
    return load(read_catalog(yaml.safe_dump(content)), actor="test", is_pruning=is_pruning)


def faults(content):
    with pytest.raises(CatalogFileError) as refusal:
        loaded(content)
    return refusal.value.faults


# Files


FAULTS = {
    "unknown section": (file(extra=[]), "Object contains unknown field `extra`"),
    "unknown key of a model": (file(models=[model(prize=1)]), "models[0] (one): Object contains unknown field `prize`"),
    "unknown key deeper": (
        file(models=[model(prices={"input": 1, "output": 2, "inptu": 3})]),
        "models[0] (one).prices: Object contains unknown field `inptu`",
    ),
    "missing key": (file(models=[{"slug": "x"}]), "models[0] (x): Object missing required field `name`"),
    "no number": (file(models=[model(context_window="many")]), "models[0] (one).context_window: Expected `int`, got `str`"),
    "negative price": (
        file(models=[model(prices={"input": -1, "output": 2})]),
        "models[0] (one).prices: A price is not negative",
    ),
    "seven decimals": (
        file(models=[model(prices={"input": "0.0000001", "output": 2})]),
        "models[0] (one).prices: credits have at most six decimals",
    ),
    "not finite": (
        file(models=[model(prices={"input": "nan", "output": 2})]),
        "models[0] (one).prices: not a number of credits",
    ),
    "unknown capability": (
        file(models=[model(supports=["flying"])]),
        "models[0] (one).supports[0]: Invalid enum value 'flying'",
    ),
    "unknown quirk": (
        file(models=[model(targets=[{"provider": "sandbox", "upstream_model": "e", "quirks": ["odd"]}])]),
        "models[0] (one).targets[0]: Unknown quirk odd",
    ),
    "unknown dialect": (
        file(providers=[SANDBOX | {"dialect": "morse"}]),
        "providers[0] (sandbox).dialect: Invalid enum value 'morse'",
    ),
    "bad slug": (
        file(models=[model("No Spaces")]),
        "models[0] (No Spaces).slug: Expected `str` matching regex '^[a-z0-9][a-z0-9._:/-]{0,127}$'",
    ),
    "same model twice": (file(models=[MODEL, MODEL]), "models: one stands twice"),
    "same target twice": (
        file(models=[model(targets=MODEL["targets"] * 2)]),
        "models 'one' targets: echo at sandbox stands twice",
    ),
    "unknown provider": (
        file(models=[model(targets=[{"provider": "nobody", "upstream_model": "e"}])]),
        "models (one).targets[0].provider: 'nobody' is not a provider",
    ),
    "own setting as key": (
        file(providers=[SANDBOX | {"api_key_env": "SECRET_KEY"}]),
        "providers (sandbox).api_key_env: This is the name of a setting of the gateway itself: "
        "give the key in a variable of another name.",
    ),
    "row-80-unknown-source": (
        file(fallback_chains=[{"source": "nobody", "targets": ["one"]}]),
        "fallback_chains (nobody).source: 'nobody' is not a model",
    ),
    "status-of-the-caller": (
        file(models=[model(targets=[{"provider": "sandbox", "upstream_model": "echo", "fallback_statuses": [429, 400]}])]),
        "models[0] (one).targets[0]: No fallback on status 400",
    ),
    "row-80-unknown-model": (
        file(fallback_chains=[{"source": "one", "targets": ["nobody"]}]),
        "fallback_chains (one).targets[0]: 'nobody' is not a model",
    ),
    "row-80-itself": (
        file(fallback_chains=[{"source": "one", "targets": ["one"]}]),
        "fallback_chains (one).targets[0]: A model cannot fall back to itself (one).",
    ),
    "row-80-twice": (
        file(models=[MODEL, model("two")], fallback_chains=[{"source": "one", "targets": ["two", "two"]}]),
        "fallback_chains (one).targets[1]: two stands twice in the chain.",
    ),
    "row-80-of-20": (
        file(
            models=[MODEL, *(model(f"m{number}") for number in range(20))],
            fallback_chains=[{"source": "one", "targets": [f"m{number}" for number in range(20)]}],
        ),
        "fallback_chains (one).targets[8]: A chain has at most 8 models.",
    ),
}


@pytest.mark.django_db
@pytest.mark.parametrize(("content", "fault"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_one_readable_line_with_its_path_and_nothing_is_loaded(content, fault):
    assert faults(content) == [fault]
    assert not CatalogModel.objects.exists()
    assert not Provider.objects.exists()


def test_all_faults_of_a_file_are_found_in_one_go():
    with pytest.raises(CatalogFileError) as refusal:
        read_catalog(yaml.safe_dump(file(models=[model(prize=1), model("two", weight=2), 3])))
    assert [fault.split(":")[0] for fault in refusal.value.faults] == ["models[0] (one)", "models[1] (two)", "models[2]"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        *("a: b: c", "[]", "just text", "- 1", "providers: 3", "{", "\t", "models: &a [*a]", "x" * 10 + ": [" + "[" * 5000),
        *("? [a, b]\n: 1", "? {a: b}\n: 1", "models: [{? [slug] : one}]", "? &a [*a]\n: 1"),
        *(
            f'providers: [{{slug: one, dialect: openai, base_url: "{escape}"}}]'
            for escape in (r"\UFFFFFFFF", r"\U00110000", r"\uD800", r"\0")
        ),
    ],
)
def test_what_is_no_catalogue_is_refused(text):
    with pytest.raises(CatalogFileError) as refusal:
        read_catalog(text)
    assert str(refusal.value).isprintable()


def test_a_repeated_key_is_refused():
    with pytest.raises(CatalogFileError, match="stands twice"):
        read_catalog('providers:\n  - {slug: a, slug: b, dialect: openai, base_url: "sandbox:"}')


def test_tags_make_no_objects():
    with pytest.raises(CatalogFileError):
        read_catalog("providers: !!python/object/apply:os.getcwd []\n  - 1")


def test_numbers_become_money_from_their_digits():
    text = "models: [{slug: a, name: A, owned_by: x, context_window: 1, max_output_tokens: 1, prices: {input: 0.1, output: 7.000001}}]"
    amounts = read_catalog(text).models[0].prices.amounts()
    assert (amounts["input"], amounts["output"], amounts["cached_input"]) == (100_000, 7_000_001, None)


def test_an_empty_file_is_an_empty_catalogue():
    assert read_catalog("").models == ()


# Loading


@pytest.mark.django_db
def test_the_shipped_catalogue_loads_and_the_second_time_changes_nothing():
    first = load(read_catalog(SHIPPED.read_text(encoding="utf-8")), actor="test")
    version, prices = read_version(), Price.objects.count()
    second = load(read_catalog(SHIPPED.read_text(encoding="utf-8")), actor="test", is_pruning=True)
    assert first.counts["created"] > 20
    assert not second.has_changes
    assert second.counts["unchanged"] == sum(first.counts.values())
    assert (read_version(), Price.objects.count()) == (version, prices)
    assert AuditEvent.objects.filter(action="catalog.loaded").count() == 1


@pytest.mark.django_db
def test_a_provider_without_an_adapter_loads_disabled_with_its_models():
    gemini = {"slug": "google", "dialect": "gemini", "base_url": "https://example.org/v1"}
    report = loaded(file(providers=[SANDBOX, gemini]))
    states = dict(Provider.objects.values_list("slug", "is_enabled"))
    assert states["sandbox"] is True
    for warning in report.warnings:
        assert "has no adapter yet" in warning
    assert [slug for slug, is_enabled in states.items() if not is_enabled] == [
        warning.split()[1] for warning in sorted(report.warnings)
    ]


@pytest.mark.django_db
def test_a_missing_key_is_a_warning_only():
    report = loaded(file(providers=[SANDBOX | {"api_key_env": "A_KEY_NOBODY_HAS_SET"}]))
    assert report.warnings == ["provider sandbox has no key here: A_KEY_NOBODY_HAS_SET is not set"]
    assert Provider.objects.get().is_enabled


@pytest.mark.django_db
def test_a_class_without_a_price_stays_empty_and_costs_what_its_side_costs():
    loaded(file())
    price = Price.objects.get()
    assert (price.cached_input_microcredits, price.reasoning_microcredits) == (None, None)
    prices = load_snapshot().models["one"].prices
    assert (prices.cached_input, prices.cache_write, prices.audio_input, prices.reasoning) == (
        1_000_000,
        1_000_000,
        1_000_000,
        2_000_000,
    )


@pytest.mark.django_db
def test_staff_choose_when_a_chain_takes_over():
    target = {"provider": "sandbox", "upstream_model": "echo", "fallback_statuses": [503, 429, 429]}
    choosing = file(models=[model(context_fallback=True, targets=[target])])
    loaded(choosing)
    info = load_snapshot().models["one"]
    assert (info.has_context_fallback, info.targets[0].fallback_statuses) == (True, {429, 503})
    assert not loaded(choosing).has_changes
    assert loaded(file()).changed == ["model one: has_context_fallback, targets"]
    info = load_snapshot().models["one"]
    assert (info.has_context_fallback, info.targets[0].fallback_statuses) == (False, frozenset())


@pytest.mark.django_db
def test_a_file_gives_a_model_its_rule_for_images():
    rule = {"base": 2833, "tile": 5667, "most_tiles": 8}
    loaded(file(models=[model(image_tokens=rule)]))
    assert load_snapshot().models["one"].image_tokens == ImageTokens(2833, 5667, 512, 2048, 8)
    assert yaml.safe_load(dump())["models"][0]["image_tokens"] == rule
    loaded(file())
    assert load_snapshot().models["one"].image_tokens == ImageTokens()


@pytest.mark.django_db
def test_a_changed_price_makes_a_version_and_an_equal_one_does_not():
    loaded(file())
    loaded(file(models=[model(prices={"input": "1.0", "output": 2, "cached_input": 1})]))
    assert Price.objects.count() == 1
    report = loaded(file(models=[model(prices={"input": 1, "output": 3})]))
    assert report.changed == ["model one: prices"]
    assert [price.output_microcredits for price in Price.objects.order_by("pk")] == [2_000_000, 3_000_000]


@pytest.mark.django_db
def test_the_default_pdf_fee_goes_into_prices_that_name_none():
    loaded(file(defaults={"pdf_page": 0.2}, models=[MODEL, model("two", prices={"input": 1, "output": 2, "pdf_page": 0})]))
    assert CatalogDefault.objects.get().pdf_page_microcredits == 200_000
    fees = dict(Price.objects.values_list("model__slug", "pdf_page_microcredits"))
    assert fees == {"one": 200_000, "two": 0}


@pytest.mark.django_db
def test_the_targets_of_a_model_are_the_file_s():
    loaded(file())
    first = Target.objects.get()
    report = loaded(file(models=[model(targets=[{"provider": "sandbox", "upstream_model": "echo", "weight": 3}])]))
    assert report.changed == ["model one: targets"]
    assert (Target.objects.get().pk, Target.objects.get().weight) == (first.pk, 3)
    loaded(file(models=[model(targets=[{"provider": "sandbox", "upstream_model": "text"}])]))
    assert [target.upstream_model for target in Target.objects.all()] == ["text"]


@pytest.mark.django_db
def test_a_load_leaves_alone_what_it_does_not_name_and_the_key_of_staff():
    loaded(file(models=[MODEL, model("two")], fallback_chains=[{"source": "one", "targets": ["two"]}]))
    set_provider_key(Provider.objects.get(), "sk-entered-by-staff", actor="staff:ada")
    loaded(file(providers=[SANDBOX | {"api_key_env": "SOME_KEY"}]))
    assert provider_key(Provider.objects.get()).text == "sk-entered-by-staff"
    assert set(CatalogModel.objects.values_list("slug", flat=True)) == {"one", "two"}
    assert FallbackChain.objects.count() == 1


@pytest.mark.django_db
def test_pruning_removes_what_has_no_history_and_disables_what_has():
    other = {"slug": "other", "dialect": "openai", "base_url": "https://example.org/v1"}
    unused = {"slug": "unused", "dialect": "openai", "base_url": "https://example.org/v2"}
    elsewhere = [{"provider": "other", "upstream_model": "m"}]
    loaded(
        file(
            providers=[SANDBOX, other, unused],
            models=[MODEL, model("used", targets=elsewhere), model("unused")],
            fallback_chains=[{"source": "one", "targets": ["used"]}],
        )
    )
    note_usage(CatalogModel.objects.get(slug="used"))
    report = loaded(file(), is_pruning=True)
    assert report.disabled == ["model used", "provider other"]
    assert report.removed == ["chain of one", "model unused", "provider unused"]
    assert dict(CatalogModel.objects.values_list("slug", "is_enabled")) == {"one": True, "used": False}
    assert dict(Provider.objects.values_list("slug", "is_enabled")) == {"other": False, "sandbox": True}
    assert not loaded(file(), is_pruning=True).has_changes
    assert loaded(file(models=[MODEL, model("used")])).changed == ["model used: is_enabled, targets"]


def note_usage(row):
    workspace = create_workspace("acme", actor="test")
    key = workspace.api_keys.create(name="key", digest="0" * 64, hint="inf_0")
    UsageRecord.objects.create(
        generation="chatcmpl-1",
        request_id="req-1",
        workspace=workspace,
        api_key=key,
        model_used=row.slug,
        price_version_id=row.prices.get().pk,
        status=200,
        end_state="done",
    )


@pytest.mark.django_db
def test_chains_may_be_turned_around_in_one_file():
    both = [MODEL, model("two")]
    loaded(file(models=both, fallback_chains=[{"source": "one", "targets": ["two"]}]))
    loaded(file(models=both, fallback_chains=[{"source": "two", "targets": ["one"]}, {"source": "one", "targets": []}]))
    assert chains_in_force() == {"one": [], "two": ["one"]}


@pytest.mark.django_db
@pytest.mark.parametrize("slugs", [pytest.param(("one", "two"), id="row-80-cycle")])
def test_chains_of_the_file_that_make_a_circle_are_both_at_fault(slugs):
    both = [model(slug) for slug in slugs]
    chains = [{"source": source, "targets": [target]} for source, target in (slugs, reversed(slugs))]
    assert faults(file(models=both, fallback_chains=chains)) == [
        "fallback_chains (one).targets[0]: two falls back to one itself, which makes a cycle.",
        "fallback_chains (two).targets[0]: one falls back to two itself, which makes a cycle.",
    ]
    assert not chains_in_force()


@pytest.mark.django_db
def test_a_chain_of_the_file_may_not_close_a_circle_with_one_that_stands():
    both = [MODEL, model("two")]
    loaded(file(models=both, fallback_chains=[{"source": "one", "targets": ["two"]}]))
    assert faults(file(models=both, fallback_chains=[{"source": "two", "targets": ["one"]}])) == [
        "fallback_chains (two).targets[0]: one falls back to two itself, which makes a cycle."
    ]


@pytest.mark.django_db
def test_the_command_prints_what_it_did_and_every_fault(tmp_path, capsys):
    path = tmp_path / "catalog.yaml"
    path.write_text(yaml.safe_dump(file()))
    call_command("load_catalog", path)
    output = capsys.readouterr().out
    assert "created model one" in output
    assert output.splitlines()[-1] == "2 created, 0 changed, 0 unchanged, 0 disabled, 0 removed"
    path.write_text(yaml.safe_dump(file(models=[model(prize=1), model("two", prize=1)])))
    with pytest.raises(CommandError) as refusal:
        call_command("load_catalog", path)
    assert len(str(refusal.value).splitlines()) == 2


@pytest.mark.parametrize("name", ["missing.yaml", "."])
def test_the_command_says_when_it_cannot_read(tmp_path, name):
    with pytest.raises(CommandError, match="cannot be read"):
        call_command("load_catalog", tmp_path / name)


def test_the_command_refuses_what_is_not_text(tmp_path):
    path = tmp_path / "catalog.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CommandError, match="not UTF-8"):
        call_command("load_catalog", path)


# Rows one by one


@pytest.fixture
def one(db):
    loaded(file())
    return CatalogModel.objects.get()


def test_every_service_moves_the_stamp(one):
    provider = Provider.objects.get()
    steps = [
        lambda: set_provider_key(provider, "sk-a-long-enough-key", actor="test"),
        lambda: forget_provider_key(provider, actor="test"),
        lambda: add_price(one, PriceAmounts(input_microcredits=5, output_microcredits=6), actor="test"),
        lambda: set_default_pdf_fee(7, actor="test"),
        lambda: apply_default_pdf_fee([one], actor="test"),
        lambda: set_models_enabled([one], is_enabled=False, actor="test"),
        lambda: set_chain(one, [], actor="test"),
    ]
    for step in steps:
        before = read_version()
        step()
        assert read_version() > before


@pytest.mark.parametrize("amount", [-1, 9 * 10**15 + 1])
def test_a_price_out_of_range_is_refused(one, amount):
    with pytest.raises(ValidationError):
        add_price(one, PriceAmounts(input_microcredits=amount, output_microcredits=0), actor="test")


def test_a_model_without_a_price_cannot_be_switched_on(one):
    bare = CatalogModel.objects.create(
        slug="bare", name="B", owned_by="x", context_window=1, max_output_tokens=1, is_enabled=False
    )
    with pytest.raises(ValidationError, match="no price"):
        set_models_enabled([bare], is_enabled=True, actor="test")


def test_a_provider_of_an_unspoken_dialect_cannot_be_switched_on():
    with pytest.raises(ValidationError, match="dialect"):
        check_provider(Provider(slug="x", dialect="morse", base_url="https://example.org", is_enabled=True))


# Chains


def models_named(*slugs):
    return [CatalogModel.objects.get(slug=slug) for slug in slugs]


CHAINS = {
    "row-80-itself": (["m1", "m0"], 1),
    "row-80-twice": (["m1", "m2", "m1"], 2),
    "row-80-more-than-8": ([f"m{number}" for number in range(1, 10)], 8),
    "row-80-direct-cycle": (["m2", "m10"], 1),
    "row-80-cycle-over-another": (["m11"], 0),
}


@pytest.mark.slow
@pytest.mark.django_db
@pytest.mark.parametrize(("targets", "position"), CHAINS.values(), ids=CHAINS)
def test_a_chain_that_breaks_a_rule_names_the_model_at_fault(targets, position):
    loaded(file(models=[model(f"m{number}") for number in range(12)]))
    set_chain(*models_named("m10"), models_named("m0"), actor="test")
    set_chain(*models_named("m11"), models_named("m9", "m10"), actor="test")
    with pytest.raises(ChainRefused) as refusal:
        set_chain(*models_named("m0"), models_named(*targets), actor="test")
    assert refusal.value.position == position
    assert "m0" not in chains_in_force()


@pytest.mark.django_db
def test_a_workspace_has_its_own_chain_and_is_judged_with_the_defaults_it_keeps():
    loaded(file(models=[MODEL, model("two"), model("three")]))
    one, two, three = models_named("one", "two", "three")
    acme = create_workspace("acme", actor="test")
    set_chain(one, [two], actor="test")
    with pytest.raises(ChainRefused):
        set_chain(two, [one], workspace=acme, actor="test")
    set_chain(one, [three], workspace=acme, actor="test")
    set_chain(two, [one], workspace=acme, actor="test")
    assert chains_in_force(acme) == {"one": ["three"], "two": ["one"]}
    assert chains_in_force() == {"one": ["two"]}
    snapshot = load_snapshot()
    assert snapshot.chain("one", acme.pk) == ("three",)
    assert snapshot.chain("one", None) == ("two",)
    set_chain(one, [], workspace=acme, actor="test")
    assert load_snapshot().chain("one", acme.pk) == ()


@pytest.mark.django_db
def test_setting_the_same_chain_again_changes_nothing():
    loaded(file(models=[MODEL, model("two")]))
    one, two = models_named("one", "two")
    assert set_chain(one, [two], actor="test")
    version = read_version()
    assert not set_chain(one, [two], actor="test")
    assert read_version() == version


@pytest.mark.django_db
def test_staff_are_told_which_requests_a_model_of_the_chain_cannot_serve():
    loaded(
        file(
            models=[
                model(supports=["streaming", "vision", "pdf", "tools"]),
                model("blind", supports=["streaming", "tools"]),
                model("vectors", modality="embedding"),
                model("off", supports=["streaming", "vision", "tools"], enabled=False),
            ]
        )
    )
    source, *chain = models_named("one", "blind", "vectors", "off")
    assert chain_warnings(source, chain) == [
        "blind will be skipped for requests that need vision.",
        "vectors is no chat model and will always be skipped.",
        "off is disabled and will be skipped.",
    ]


# Addresses


PUBLIC = [
    "https://api.openai.com/v1",
    "http://vllm:8000/v1",
    "https://203.0.114.7:8443",
    "https://[2606:4700::1]/v1",
    "https://acme.openai.azure.com?api-version=2025-04-01-preview",
    "sandbox:",
]
PRIVATE = ["http://127.0.0.1:9000/v1", "http://localhost:11434", "http://10.0.0.5", "http://[::1]:8000", "http://[fd00::1]/v1"]
NEVER = [
    "http://169.254.169.254/latest",
    "http://[fe80::1]/",
    "http://0.0.0.0/",
    "http://224.0.0.1/",
    "file:///etc/passwd",
    "ftp://example.org/",
    "gopher://example.org/",
    "https://",
    "example.org",
    "sandbox:other",
    "https://user:secret@example.org/",
    "https://example.org/?key=1",
    "https://example.org/?api-version=1&key=1",
    "https://example.org/?api-version=",
    "https://example.org/#x",
    "https://example.org:99999/",
    "https://example.org:0/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0177.0.0.1/",
    "http://127.1/",
    "http://exa mple.org/",
    "http://example.org\\@evil/",
    "http://example.org/\r\nx",
    "http://ex\u00e4mple.org/",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_accepted(address):
    check_base_url(address, allow_private=False)


@pytest.mark.parametrize("address", PRIVATE)
def test_a_private_address_must_be_meant(address):
    with pytest.raises(AddressRefused, match="allow_private_address"):
        check_base_url(address, allow_private=False)
    check_base_url(address, allow_private=True)


@pytest.mark.parametrize("address", NEVER)
def test_row_154_an_address_no_provider_can_have_is_refused(address):
    with pytest.raises(AddressRefused):
        check_base_url(address, allow_private=True)
