"""The catalogue in the staff admin: providers, models, price versions."""

import asyncio

import pytest
from asgiref.sync import sync_to_async

from billing.models import AuditEvent
from chat.catalog import Catalog, load_snapshot, provider_key, read_version
from chat.loading.rows import set_provider_key
from chat.models import CatalogDefault, CatalogModel, Price, Provider
from chat.schema.route import ImageTokens
from tests.api.admin.pages import form_of, text_of, url

pytestmark = pytest.mark.django_db


# Providers


PROVIDER = {"slug": "local", "dialect": "openai", "base_url": "https://llm.example.org/v1", "is_enabled": "on"}


def test_a_provider_with_a_key_that_can_be_written_and_not_read(staff):
    version = read_version()
    assert staff.post(url(Provider, "add"), PROVIDER | {"new_api_key": "sk-secret-of-upstream"}).status_code == 302
    provider = Provider.objects.get()
    assert provider_key(provider).text == "sk-secret-of-upstream"
    assert read_version() > version
    page = text_of(staff.get(url(provider, "change")))
    assert "ends in ream" in page
    assert "sk-secret" not in page + text_of(staff.get(url(Provider))) + text_of(staff.get(url(AuditEvent)))
    assert "sk-secret" not in str(list(AuditEvent.objects.values()))


def test_an_empty_key_field_keeps_the_key_and_a_switch_forgets_it(staff):
    staff.post(url(Provider, "add"), PROVIDER | {"new_api_key": "sk-secret-of-upstream"})
    provider = Provider.objects.get()
    staff.post(url(provider, "change"), PROVIDER | {"base_url": "https://llm.example.org/v2"})
    provider.refresh_from_db()
    assert (provider.base_url, provider_key(provider).source) == ("https://llm.example.org/v2", "staff")
    staff.post(url(provider, "change"), PROVIDER | {"forget_api_key": "on"})
    assert provider_key(Provider.objects.get()).source == "none needed"


@pytest.mark.parametrize(
    "address", ["https://evil.example.org/v1", "http://llm.example.org/v1", "https://llm.example.org:444/v1"]
)
def test_a_stored_key_does_not_follow_to_another_host(staff, address):
    staff.post(url(Provider, "add"), PROVIDER | {"new_api_key": "sk-secret-of-upstream"})
    provider = Provider.objects.get()
    response = staff.post(url(provider, "change"), PROVIDER | {"base_url": address})
    assert "another host" in str(response.context["adminform"].form.errors["new_api_key"])
    assert Provider.objects.get().base_url == PROVIDER["base_url"]
    values = PROVIDER | {"base_url": address, "new_api_key": "sk-other-key-of-upstream"}
    assert staff.post(url(provider, "change"), values).status_code == 302
    assert provider_key(Provider.objects.get()).text == "sk-other-key-of-upstream"


BAD_PROVIDERS = [
    {"base_url": "http://169.254.169.254/latest", "allow_private_address": "on"},
    {"base_url": "http://127.0.0.1:9000"},
    {"base_url": "file:///etc/passwd"},
    {"dialect": "morse"},
    {"slug": "No Spaces"},
    {"api_key_env": "SECRET_KEY"},
    {"api_key_env": "NO NAME=1"},
    {"new_api_key": "two words"},
    {"new_api_key": "sk-secret-of-upstream", "forget_api_key": "on"},
]


@pytest.mark.parametrize("values", BAD_PROVIDERS, ids=str)
def test_row_154_a_provider_that_must_not_be_is_refused(staff, values):
    response = staff.post(url(Provider, "add"), PROVIDER | values)
    assert response.status_code == 200
    assert response.context["adminform"].form.errors
    assert not Provider.objects.exists()


def test_what_has_history_or_targets_is_not_deleted(staff, catalogue, generation):
    kept = [Provider.objects.get(slug="openai"), Provider.objects.get(slug="google"), CatalogModel.objects.get(slug="gpt-4o")]
    for row in kept:
        assert staff.post(url(row, "delete"), {"post": "yes"}).status_code == 403
    unused = CatalogModel.objects.get(slug="gpt-4.1")
    version = read_version()
    assert staff.post(url(unused, "delete"), {"post": "yes"}).status_code == 302
    assert not CatalogModel.objects.filter(slug="gpt-4.1").exists()
    assert read_version() > version


def test_a_stored_key_that_cannot_be_read_is_said(staff, sandbox, settings):
    set_provider_key(sandbox, "sk-secret-of-upstream", actor="test")
    settings.FIELD_ENCRYPTION_KEYS = ["another ring"]
    assert "cannot be read" in text_of(staff.get(url(sandbox, "change")))


# Models and prices


def new_model(staff, provider, **values):
    page = staff.get(url(CatalogModel, "add"))
    fields = {
        "slug": "new",
        "name": "New",
        "owned_by": "us",
        "context_window": "1000",
        "max_output_tokens": "100",
        "supports_vision": "on",
        "prices-0-input_microcredits": "2.5",
        "prices-0-output_microcredits": "10",
        "targets-TOTAL_FORMS": "1",
        "targets-0-provider": provider.pk,
        "targets-0-upstream_model": "echo",
        "targets-0-weight": "2",
        "targets-0-retries": "1",
        "targets-0-connect_s": "5",
        "targets-0-idle_s": "60",
        "targets-0-total_s": "600",
        "targets-0-quirks": ["top_k"],
    }
    return staff.post(url(CatalogModel, "add"), form_of(page) | fields | values)


def test_staff_add_a_model_with_flags_target_and_price_on_one_page(staff, sandbox):
    CatalogDefault.objects.update_or_create(singleton=True, defaults={"pdf_page_microcredits": 200_000})
    assert new_model(staff, sandbox).status_code == 302
    model = load_snapshot().models["new"]
    assert model.capabilities == {"streaming", "vision"}
    assert (model.prices.input, model.prices.output, model.prices.cached_input) == (2_500_000, 10_000_000, 2_500_000)
    assert model.prices.pdf_page == 200_000
    assert (model.targets[0].weight, model.targets[0].retries, model.targets[0].quirks) == (2, 1, {"top_k"})
    assert {"price.added", "model.created"} <= set(AuditEvent.objects.values_list("action", flat=True))


def test_staff_give_a_model_its_rule_for_images(staff, sandbox):
    assert new_model(staff, sandbox, image_base_tokens="0", image_tile_tokens="1", image_tile_pixels="28").status_code == 302
    assert load_snapshot().models["new"].image_tokens == ImageTokens(0, 1, 28)
    page = form_of(staff.get(url(CatalogModel.objects.get(), "change"))) | {"image_tile_pixels": "0"}
    assert b"greater than or equal to 1" in staff.post(url(CatalogModel.objects.get(), "change"), page).content


def test_staff_choose_when_the_chain_of_a_model_takes_over(staff, sandbox):
    chosen = {"has_context_fallback": "on", "targets-0-fallback_statuses": "503, 429 429"}
    assert new_model(staff, sandbox, **chosen).status_code == 302
    info = load_snapshot().models["new"]
    assert (info.has_context_fallback, info.targets[0].fallback_statuses) == (True, {429, 503})
    page = form_of(staff.get(url(CatalogModel.objects.get(), "change")))
    assert page["targets-0-fallback_statuses"] == "429, 503"
    version = read_version()
    assert staff.post(url(CatalogModel.objects.get(), "change"), page).status_code == 302
    assert read_version() == version, "what was not changed is not a change"


@pytest.mark.slow
def test_a_status_that_is_no_reason_to_fall_back_is_refused(staff, sandbox):
    for statuses in ("400", "503, 422", "200", "5oo", "-503", "9" * 5000):
        response = new_model(staff, sandbox, **{"targets-0-fallback_statuses": statuses})
        assert "No fallback on" in text_of(response), statuses
        assert not CatalogModel.objects.exists(), statuses


def test_an_enabled_model_without_a_price_is_refused_in_words(staff, sandbox):
    nothing = {"prices-0-input_microcredits": "", "prices-0-output_microcredits": "", "prices-0-pdf_page_microcredits": ""}
    response = new_model(staff, sandbox, **nothing)
    assert "A model without a price cannot be called" in text_of(response)
    assert not CatalogModel.objects.exists()
    page = form_of(staff.get(url(CatalogModel, "add")))
    assert "is_enabled" in page


@pytest.mark.slow
def test_a_price_that_cannot_be_is_refused(staff, sandbox):
    for amount in ("-1", "0.0000001", "nan", "x", "9000000001"):
        response = new_model(staff, sandbox, **{"prices-0-input_microcredits": amount})
        assert response.status_code == 200, amount
        assert not CatalogModel.objects.exists(), amount


def test_a_new_price_is_a_new_version_and_the_old_one_stays(staff, sandbox):
    new_model(staff, sandbox)
    model = CatalogModel.objects.get()
    page = form_of(staff.get(url(model, "change")))
    assert page["prices-0-input_microcredits"] == "2.5"
    values = page | {"prices-0-input_microcredits": "3"}
    version = read_version()
    assert staff.post(url(model, "change"), values).status_code == 302
    assert list(Price.objects.order_by("pk").values_list("input_microcredits", flat=True)) == [2_500_000, 3_000_000]
    assert read_version() > version
    assert load_snapshot().models["new"].prices.input == 3_000_000


def test_saving_a_model_without_touching_the_price_makes_no_version(staff, sandbox):
    new_model(staff, sandbox)
    model = CatalogModel.objects.get()
    values = form_of(staff.get(url(model, "change"))) | {"name": "Renamed", "supports_tools": "on"}
    assert staff.post(url(model, "change"), values).status_code == 302
    model.refresh_from_db()
    assert (model.name, model.supports_tools) == ("Renamed", True)
    assert Price.objects.count() == 1
    assert AuditEvent.objects.get(action="model.changed").details == {"fields": ["name", "supports_tools"]}


def test_a_price_that_was_cannot_be_forged(staff, sandbox):
    """Ids sent along with the form of the new version change no row that stands."""
    new_model(staff, sandbox)
    model, price = CatalogModel.objects.get(), Price.objects.get()
    values = form_of(staff.get(url(model, "change"))) | {
        "prices-INITIAL_FORMS": "1",
        "prices-0-id": price.pk,
        "prices-0-input_microcredits": "0",
    }
    staff.post(url(model, "change"), values)
    assert Price.objects.get(pk=price.pk).input_microcredits == 2_500_000


def test_models_are_switched_and_given_the_default_pdf_fee_from_the_list(staff, catalogue):
    row = CatalogModel.objects.get(slug="sandbox-echo")
    for action, is_enabled in (("disable", False), ("enable", True)):
        staff.post(url(CatalogModel), {"action": action, "_selected_action": [row.pk]})
        assert CatalogModel.objects.get(pk=row.pk).is_enabled is is_enabled
    staff.post(url(CatalogModel), {"action": "use_default_pdf_fee", "_selected_action": [row.pk]})
    assert load_snapshot().models["sandbox-echo"].prices.pdf_page == 200_000
    bare = CatalogModel.objects.create(
        slug="bare", name="B", owned_by="x", context_window=1, max_output_tokens=1, is_enabled=False
    )
    response = staff.post(url(CatalogModel), {"action": "enable", "_selected_action": [bare.pk]}, follow=True)
    assert "bare has no price" in text_of(response)


def test_the_default_pdf_fee(staff):
    default, _ = CatalogDefault.objects.get_or_create(singleton=True)
    assert staff.post(url(default, "change"), {"pdf_page_microcredits": "0.35"}).status_code == 302
    assert CatalogDefault.objects.get().pdf_page_microcredits == 350_000
    assert staff.post(url(default, "change"), {"pdf_page_microcredits": "-1"}).status_code == 200
    assert CatalogDefault.objects.get().pdf_page_microcredits == 350_000


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
async def test_what_staff_save_is_served_within_a_second(staff, sandbox, settings):
    catalog = Catalog(poll_s=settings.CATALOG_POLL_S)
    await catalog.start()
    try:
        await sync_to_async(new_model)(staff, sandbox)
        await asyncio.sleep(1)
        assert catalog.snapshot.models["new"].prices.input == 2_500_000
        await sync_to_async(change_model)(staff, **{"prices-0-input_microcredits": "7"})
        await asyncio.sleep(1)
        assert catalog.snapshot.models["new"].prices.input == 7_000_000
    finally:
        await catalog.stop()


def change_model(staff, **values):
    page = url(CatalogModel.objects.get(), "change")
    assert staff.post(page, form_of(staff.get(page)) | values).status_code == 302
