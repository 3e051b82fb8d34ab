"""`show_route`: who would serve a model, and what keeps a part of its route from being used."""

import pytest
from django.core.management import CommandError, call_command

from billing.workspaces import create_workspace
from chat.loading.chains import set_chain
from chat.models import CatalogModel, Price, Provider, Target
from chat.schema.route import Terms

pytestmark = pytest.mark.django_db


def make_provider(slug, **fields):
    return Provider.objects.create(**{"slug": slug, "dialect": "openai", "base_url": "sandbox:"} | fields)


def make_model(slug, provider, *, price=True, **fields):
    row = CatalogModel.objects.create(
        slug=slug, name=slug, owned_by="tests", context_window=1000, max_output_tokens=100, **fields
    )
    Target.objects.create(model=row, provider=provider, upstream_model=f"{slug}-upstream", weight=2)
    if price:
        Price.objects.create(model=row, input_microcredits=1_500_000, output_microcredits=2_000_000)
    return row


@pytest.fixture
def shown(capsys):
    def show(*arguments):
        call_command("show_route", *arguments)
        return capsys.readouterr().out.splitlines()

    return show


def test_a_route_with_its_chain(shown):
    sandbox = make_provider("sandbox")
    one, two = make_model("one", sandbox), make_model("two", sandbox)
    set_chain(one, [two], actor="test")
    assert shown("one") == [
        "0  one  1.5 in, 2 out (credits per million tokens)",
        "     one-upstream at sandbox, weight 2, no key needed",
        "1  two  1.5 in, 2 out (credits per million tokens)",
        "     two-upstream at sandbox, weight 2, no key needed",
    ]


def test_when_a_route_moves_on(shown):
    one = make_model("one", make_provider("sandbox"), has_context_fallback=True)
    one.targets.update(retries=1, fallback_statuses=[429, 503])
    assert shown("one")[1:] == [
        "     one-upstream at sandbox, weight 2, no key needed, tried twice, falls back on 429, 503 only",
        "     what is too long for it goes to its chain",
        "no fallback chain",
    ]


def test_a_workspace_s_own_chain(shown):
    sandbox = make_provider("sandbox")
    one, two, three = (make_model(slug, sandbox) for slug in ("one", "two", "three"))
    acme = create_workspace("acme", actor="test")
    set_chain(one, [two], actor="test")
    set_chain(one, [three], workspace=acme, actor="test")
    assert "1  three" in "\n".join(shown("one", "--workspace", "acme"))
    assert "1  two" in "\n".join(shown("one"))
    set_chain(one, [three], workspace=acme, actor="test", terms={"three": Terms(1, frozenset({503}))})
    assert "in this chain, tried twice, falls back on 503 only" in "\n".join(shown("one", "--workspace", "acme"))


def test_what_keeps_a_model_from_being_called(shown, monkeypatch):
    monkeypatch.setenv("KEY_THAT_IS_SET", "sk-secret-of-the-provider")
    keyed = make_provider("keyed", api_key_env="KEY_THAT_IS_SET")
    keyless = make_provider("keyless", api_key_env="KEY_NOBODY_SET")
    off = make_provider("off", is_enabled=False)
    unreadable = make_provider("unreadable", api_key_encrypted=b"junk")
    make_model("ready", keyed)
    make_model("free-of-price", keyed, price=False)
    make_model("disabled", keyed, is_enabled=False)
    make_model("keyless", keyless)
    make_model("off", off)
    make_model("unreadable", unreadable)
    assert "weight 2, key from environment" in shown("ready")[1]
    assert shown("free-of-price")[0] == "0  free-of-price  cannot be called: no price"
    assert shown("disabled")[0] == "0  disabled  cannot be called: disabled"
    assert shown("keyless")[1] == "     keyless-upstream at keyless, unusable: KEY_NOBODY_SET is not set"
    assert shown("off")[1] == "     off-upstream at off, unusable: the provider is disabled"
    assert shown("unreadable")[1] == "     unreadable-upstream at unreadable, unusable: the key cannot be read"
    assert shown("ready")[-1] == "no fallback chain"
    assert "sk-secret" not in str([shown(slug) for slug in ("ready", "keyless", "off")])


def test_what_does_not_exist_is_said_plainly(shown):
    with pytest.raises(CommandError, match="no model 'nope'"):
        shown("nope")
    make_model("one", make_provider("sandbox"))
    with pytest.raises(CommandError, match="No workspace"):
        shown("one", "--workspace", "nobody")
