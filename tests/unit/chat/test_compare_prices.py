"""`compare_prices`: the catalogue held against the prices that providers publish."""

import json
import sys
from pathlib import Path

import genai_prices
import pytest
from django.core.management import CommandError, call_command

from chat.models import CatalogModel, Price, Provider, Target

pytestmark = pytest.mark.django_db

SOURCE = f"genai-prices {genai_prices.__version__}"
SHIPPED = Path(__file__).parents[3] / "catalog.yaml"


@pytest.fixture
def compared(capsys):
    """The lines of a comparison and its exit status."""

    def compare(*arguments):
        capsys.readouterr()
        try:
            call_command("compare_prices", *arguments)
            status = 0
        except SystemExit as leaving:
            status = leaving.code
        return status, capsys.readouterr().out.splitlines()

    return compare


def make_model(slug, upstream_model, base_url="https://api.openai.com/v1", window=128_000, **prices):
    provider, _ = Provider.objects.get_or_create(slug="openai", defaults={"dialect": "openai", "base_url": base_url})
    row = CatalogModel.objects.create(slug=slug, name=slug, owned_by="tests", context_window=window, max_output_tokens=100)
    Target.objects.create(model=row, provider=provider, upstream_model=upstream_model)
    amounts = {"input": 250_000_000, "output": 1_000_000_000, "cached_input": 125_000_000} | prices
    Price.objects.create(model=row, **{f"{name}_microcredits": amount for name, amount in amounts.items()})
    return row


def test_the_shipped_catalogue_has_the_prices_of_the_day_it_was_written(compared):
    call_command("load_catalog", SHIPPED, verbosity=0)
    status, lines = compared("--on", "2026-11-28")
    assert status == 0
    assert lines[-1].startswith("24 compared with genai-prices ")
    assert lines[-1].endswith(" 0 differ")
    assert not [line for line in lines if line.startswith("not listed")]


def test_every_class_and_the_window_are_told_where_they_differ(compared):
    make_model("four", "gpt-4o", window=100_000, input=260_000_000, audio_input=1_000_000)
    assert compared("--on", "2026-11-28") == (
        1,
        [
            "four: input is 260, the list has 250",
            "four: cache_write is 260, the list has 250",
            "four: audio_input is 1, the list has 250",
            "four: context_window is 100000, the list has 128000",
            f"1 compared with {SOURCE}, 1 differ",
        ],
    )


def test_a_window_that_the_list_rounds_is_no_difference(compared):
    prices = {"input": 200_000_000, "output": 800_000_000, "cached_input": 50_000_000}
    make_model("long", "gpt-4.1", window=1_047_576, **prices)
    assert compared("--on", "2026-11-28")[0] == 0


def test_an_announced_change_is_a_note_before_its_day_and_a_difference_from_then_on(compared):
    prices = {"input": 200_000_000, "output": 1_000_000_000, "cached_input": 10_000_000}
    address = "https://generativelanguage.googleapis.com/v1beta"
    make_model("argon", "gemini-4-argon", address, window=1_048_576, **prices)
    before, after = compared("--on", "2026-11-30"), compared("--on", "2026-12-01")
    assert before[0] == 0
    assert "note: argon: from 2026-12-01: input 400, output 2000" in before[1][0]
    assert after[0] == 1
    assert "argon: output is 1000, the list has 2000" in after[1]


def test_prices_that_rise_with_the_prompt_are_noted(compared):
    prices = {"input": 200_000_000, "output": 1_000_000_000, "cached_input": 10_000_000, "cache_write": 250_000_000}
    make_model("sol", "gpt-6.1-sol", window=1_050_000, **prices)
    status, lines = compared("--on", "2026-11-28")
    assert (status, lines[0]) == (0, "note: sol: input costs 400 in prompts above 272000 tokens")


def test_what_the_list_does_not_know_is_named_and_what_is_not_public_is_left_out(compared):
    make_model("mine", "ft-of-our-own")
    local = Provider.objects.create(slug="local", dialect="openai", base_url="http://127.0.0.1:9/v1")
    Target.objects.create(model=make_model("here", "gpt-4o"), provider=local, upstream_model="llama")
    CatalogModel.objects.filter(slug="here").update(is_enabled=False)
    assert compared("--on", "2026-11-28") == (0, ["not listed: mine", f"0 compared with {SOURCE}, 0 differ"])


def test_the_same_as_json_for_programs(compared):
    make_model("four", "gpt-4o", output=1_000_000)
    status, lines = compared("--on", "2026-11-28", "--json")
    report = json.loads("\n".join(lines))
    assert status == 1
    assert report["is_current"] is False
    assert report["differences"] == [{"model": "four", "field": "output", "ours": "1", "listed": "1000"}]
    assert report["compared"] == ["four"]


def test_without_the_package_the_command_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    monkeypatch.delitem(sys.modules, "chat.management.published", raising=False)
    with pytest.raises(CommandError, match=r"genai-prices is not installed.*requirements-dev\.txt"):
        call_command("compare_prices")
