"""Pages about the whole catalogue: routes, import and export, the incident switch, test calls, versions, what requests cost."""

from __future__ import annotations

import pytest
from django.urls import reverse
from django.utils import timezone

from billing import apikeys
from billing.models import AuditEvent, RequestTrace, Workspace
from billing.workspaces import create_workspace
from chat.catalog import load_snapshot, read_version
from chat.loading.dump import dump
from chat.loading.file import read_catalog
from chat.loading.load import load
from chat.loading.rows import set_provider_key
from chat.models import CatalogModel, FallbackChain, Price, Provider, Target
from tests.api.admin.pages import chain_of, form_of, text_of, url

pytestmark = pytest.mark.django_db

ROUTE, IMPORT, EXPORT, INCIDENT = (
    reverse(f"admin:chat_{name}")
    for name in ("fallbackchain_route", "catalogmodel_import_file", "catalogmodel_export_file", "catalogmodel_incident")
)


# Routes


def test_the_route_of_a_model_is_a_page(staff, catalogue, customer):
    text = text_of(staff.get(ROUTE, {"model": "sandbox-flaky"}))
    assert "flaky at sandbox" in text
    assert "sandbox-echo" in text
    assert "no key needed" in text
    assert "OPENAI_API_KEY is not set" in text_of(staff.get(ROUTE, {"model": "gpt-4o"}))
    source, target = (CatalogModel.objects.get(slug=slug) for slug in ("sandbox-flaky", "sandbox-text"))
    staff.post(url(FallbackChain, "add"), {"source": source.pk, "workspace": customer.pk, **chain_of(target.slug)})
    own = staff.get(ROUTE, {"model": "sandbox-flaky", "workspace": "acme"})
    assert [step.slug for step in own.context["steps"]] == ["sandbox-flaky", "sandbox-text"]
    assert staff.get(ROUTE, {"model": "nobody"}).status_code == 400
    assert "No workspace has the id" in text_of(staff.get(ROUTE, {"model": "sandbox-echo", "workspace": "nobody"}))


# The file


def test_what_is_exported_changes_nothing_when_it_is_loaded_again(staff, catalogue):
    CatalogModel.objects.filter(slug="gpt-4o").update(deprecated_on="2027-01-31", is_enabled=False, has_context_fallback=True)
    Target.objects.filter(model__slug="gpt-4o").update(weight=3, first_token_s=2.5, quirks=["top_k"], fallback_statuses=[503])
    CatalogModel.objects.filter(slug="gpt-4.1").update(name="4.10")
    set_provider_key(Provider.objects.get(slug="openai"), "sk-secret-of-upstream", actor="test")
    response = staff.get(EXPORT)
    text = response.content.decode()
    assert "attachment" in response["content-disposition"]
    assert "sk-secret" not in text
    report = load(read_catalog(text), actor="test", is_pruning=True)
    assert not report.has_changes
    assert report.unchanged_count > 50


def test_an_exported_file_makes_the_same_catalogue_elsewhere(staff, catalogue):
    text = dump()
    before = load_snapshot()
    for model in (FallbackChain, Target, Price, CatalogModel, Provider):
        model.objects.all().delete()
    load(read_catalog(text), actor="test")
    after = load_snapshot()
    assert set(after.models) == set(before.models)
    assert after.chains == before.chains
    assert after.models["sandbox-echo"].prices.input == before.models["sandbox-echo"].prices.input
    assert dump() == text


FILE = """
providers:
  - {slug: here, dialect: openai, base_url: "https://llm.example.org/v1"}
models:
  - slug: new
    name: New
    owned_by: us
    context_window: 1000
    max_output_tokens: 100
    deprecated_on: 2027-03-01
    prices: {input: 2.5, output: 10}
    targets: [{provider: here, upstream_model: n}]
"""


def test_a_file_is_checked_without_a_change_and_then_loaded(staff):
    version = read_version()
    text = text_of(staff.post(IMPORT, {"text": FILE, "check": "1"}))
    assert "Checked, nothing was changed" in text
    assert "created model new" in text
    assert not CatalogModel.objects.exists()
    assert not AuditEvent.objects.exists()
    assert read_version() == version
    assert "Loaded" in text_of(staff.post(IMPORT, {"text": FILE, "load": "1"}))
    model = CatalogModel.objects.get()
    assert (model.slug, model.deprecated_on.isoformat()) == ("new", "2027-03-01")
    assert read_version() > version
    assert AuditEvent.objects.get(action="catalog.loaded").actor == "staff:ada"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"text": "models: ["}, "not valid YAML"),
        ({"text": "models:\n  - {slug: x, colour: red}"}, "models[0] (x)"),
        ({"text": "  "}, "Choose a file"),
        ({"text": FILE.replace("2.5", "-1")}, "not negative"),
        ({"text": FILE.replace("provider: here", "provider: nowhere")}, "is not a provider"),
        ({"text": FILE.replace("https://llm.example.org/v1", "http://169.254.169.254/")}, "link-local"),
    ],
)
def test_a_file_with_a_fault_names_it_and_changes_nothing(staff, values, words):
    response = staff.post(IMPORT, values | {"load": "1"})
    assert words in text_of(response)
    assert response.status_code == 400
    assert not CatalogModel.objects.exists()


@pytest.mark.parametrize("button", ["check", "load"])
def test_a_file_does_not_lead_a_stored_key_to_another_host(staff, button):
    """Else whoever may load a file could read it, by a test call to an address of his own."""
    staff.post(IMPORT, {"text": FILE, "load": "1"})
    set_provider_key(Provider.objects.get(), "sk-secret-of-upstream", actor="test")
    response = staff.post(IMPORT, {"text": FILE.replace("llm.example.org", "evil.example.org"), button: "1"})
    assert response.status_code == 400
    assert "enter the key again there" in text_of(response)
    assert Provider.objects.get().base_url == "https://llm.example.org/v1"


# The switch


def test_a_model_a_provider_and_a_workspace_are_stopped_at_once(staff, catalogue, customer):
    key, _ = apikeys.mint(customer, "laptop", actor="test")
    for kind, name in (("model", "sandbox-text"), ("provider", "sandbox"), ("workspace", "acme")):
        version = read_version()
        text = text_of(staff.post(INCIDENT, {"kind": kind, "name": name, "reason": "a leak"}, follow=True))
        assert f"The {kind} {name} is stopped" in text
        assert kind == "workspace" or read_version() > version
        again = text_of(staff.post(INCIDENT, {"kind": kind, "name": name, "reason": "a leak"}, follow=True))
        assert "was stopped already" in again
    assert load_snapshot().models == {}
    assert Workspace.objects.get().state == "suspended"
    assert isinstance(apikeys.find(key.digest), type)
    events = AuditEvent.objects.filter(reason="a leak").values_list("action", flat=True)
    assert sorted(events) == ["model.disabled", "provider.disabled", "workspace.suspended"]
    assert "Nothing is stopped" not in text_of(staff.get(INCIDENT))


@pytest.mark.parametrize(
    "values", [{"name": "nobody"}, {"reason": ""}, {"kind": "user"}, {"kind": "workspace", "name": "twin"}]
)
def test_what_cannot_be_stopped_is_said(staff, catalogue, values):
    for _ in range(2):
        create_workspace("twin", actor="test")
    good = {"kind": "model", "name": "sandbox-echo", "reason": "r"}
    assert staff.post(INCIDENT, good | values).status_code == 400
    assert "sandbox-echo" in load_snapshot().models


# Providers


def test_a_test_call_tells_how_it_went_and_charges_nobody(staff, catalogue):
    provider = Provider.objects.get(slug="sandbox")
    page = url(provider, "test_call")
    target = Target.objects.filter(provider=provider, model__slug="sandbox-echo").get()
    CatalogModel.objects.update(is_enabled=False)
    text = text_of(staff.post(page, {"target": target.pk}))
    assert "The provider answers" in text
    assert "Answer with the word OK" in text
    assert AuditEvent.objects.get(action="provider.tested").target == "sandbox"
    other = Target.objects.filter(provider__slug="openai").first()
    assert staff.post(page, {"target": other.pk}).status_code == 400
    no_key = staff.post(url(other.provider, "test_call"), {"target": other.pk})
    assert "has no key here" in text_of(no_key)


@pytest.mark.parametrize("address", ["https://127.0.0.1:9/v1", "https://10.0.0.1/v1", "https://[::1]:9/v1"])
def test_row_154_a_test_call_goes_to_no_private_address(staff, catalogue, address):
    """Also where the row says otherwise than the form would: the dialler judges again."""
    provider = Provider.objects.get(slug="sandbox")
    Provider.objects.filter(pk=provider.pk).update(base_url=address)
    target = Target.objects.filter(provider=provider).first()
    text = text_of(staff.post(url(provider, "test_call"), {"target": target.pk}))
    assert "The call failed" in text
    assert "upstream_error" in text


def test_the_list_of_providers_tells_how_they_fared(staff, catalogue, django_assert_max_num_queries):
    tries = [
        {"provider": "openai", "result": result, "duration_ms": 120}
        for result in ("served", "upstream_error", "upstream_timeout")
    ]
    RequestTrace.objects.create(generation="g1", created_at=timezone.now(), attempts=tries)
    RequestTrace.objects.create(generation="g2", attempts=["odd", {}])
    with django_assert_max_num_queries(12):
        text = text_of(staff.get(url(Provider)))
    assert "2 of 3 failed" in text


# Models


def test_versions_of_rows_are_kept_with_who_made_them_and_without_keys(staff, catalogue):
    model, provider = CatalogModel.objects.get(slug="sandbox-echo"), Provider.objects.get(slug="sandbox")
    values = form_of(staff.get(url(model, "change"))) | {"name": "Renamed"}
    assert staff.post(url(model, "change"), values).status_code == 302
    newest = model.history.first()
    assert (newest.name, newest.history_user.username, newest.history_type) == ("Renamed", "ada", "~")
    assert "ada" in text_of(staff.get(url(model, "history")))
    set_provider_key(provider, "sk-secret-of-upstream", actor="test")
    assert not hasattr(provider.history.first(), "api_key_encrypted")
    version = reverse("admin:chat_catalogmodel_simple_history", args=[model.pk, newest.pk])
    assert "Renamed" in text_of(staff.get(version))
    old = model.history.last()
    staff.post(reverse("admin:chat_catalogmodel_simple_history", args=[model.pk, old.pk]), values | {"name": "Forged"})
    assert CatalogModel.objects.get(pk=model.pk).name == "Renamed"


def test_the_page_of_a_model_tells_what_requests_cost_and_since_when(staff, catalogue):
    model = CatalogModel.objects.get(slug="sandbox-echo")
    price = model.prices.get()
    text = text_of(staff.get(url(model, "change")))
    expected = (500 * price.input_microcredits + 200 * price.output_microcredits) / 10**12
    assert f"{expected:.4f}" in text or "under 0.0001" in text
    values = form_of(staff.get(url(model, "change"))) | {"prices-0-pdf_page_microcredits": "0.9"}
    staff.post(url(model, "change"), values)
    text = text_of(staff.get(url(model, "change")))
    assert "since " in text
    assert text.count("gw-time") >= 3


def test_a_deprecation_date_is_kept_and_shown(staff, catalogue):
    model = CatalogModel.objects.get(slug="sandbox-echo")
    values = form_of(staff.get(url(model, "change"))) | {"deprecated_on": timezone.now().date().isoformat()}
    assert staff.post(url(model, "change"), values).status_code == 302
    assert "event_busy" in text_of(staff.get(url(CatalogModel)))


def test_the_history_of_a_chain_is_its_audit_trail(staff, catalogue):
    chain = FallbackChain.objects.get(source__slug="sandbox-flaky")
    assert "Nothing was changed by hand" in text_of(staff.get(url(chain, "history")))
    staff.post(url(chain, "change"), chain_of("gpt-4o", "sandbox-text"))
    assert "gpt-4o > sandbox-text" in text_of(staff.get(url(chain, "history")))
