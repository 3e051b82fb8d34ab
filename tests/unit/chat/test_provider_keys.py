"""Where a provider's key may come from, and that no file leads it to somebody else."""

import pytest
from django.core.exceptions import ValidationError

from chat.catalog import provider_key
from chat.loading.rows import check_provider, forget_provider_key, set_provider_enabled, set_provider_key
from chat.models import CatalogModel, Provider
from tests.unit.chat.test_loading import SANDBOX, faults, file, loaded, model

LOCAL = {"slug": "local", "dialect": "openai", "base_url": "https://llm.example/v1"}


@pytest.fixture
def provider(db):
    return Provider.objects.create(**LOCAL)


def test_a_provider_key_is_stored_encrypted_and_bound_to_its_row(provider):
    set_provider_key(provider, " sk-a-long-enough-key ", actor="test")
    stored = Provider.objects.get()
    assert b"long-enough" not in bytes(stored.api_key_encrypted)
    assert stored.api_key_hint == "-key"
    assert provider_key(stored).text == "sk-a-long-enough-key"
    thief = Provider.objects.create(
        slug="thief", dialect="openai", base_url="https://example.org", api_key_encrypted=stored.api_key_encrypted
    )
    assert provider_key(thief).source == "unreadable"


@pytest.mark.parametrize("key", ["", " ", "two words", "line\nbreak", "schlüssel", "x" * 5000])
def test_a_key_that_no_header_can_carry_is_refused(provider, key):
    with pytest.raises(ValidationError):
        set_provider_key(provider, key, actor="test")


def test_a_short_key_has_no_hint(provider):
    set_provider_key(provider, "tiny", actor="test")
    assert Provider.objects.get().api_key_hint == ""


@pytest.mark.django_db
@pytest.mark.parametrize(
    "address",
    ["https://evil.example/v1", "http://llm.example/v1", "https://llm.example:444/v1", "https://llm.example.evil.example/v1"],
)
def test_no_file_leads_a_key_that_staff_entered_to_another_host(address):
    loaded(file(providers=[SANDBOX, LOCAL]))
    set_provider_key(Provider.objects.get(slug="local"), "sk-entered-by-staff", actor="staff:ada")
    moved = file(providers=[SANDBOX, LOCAL | {"base_url": address, "api_key_env": "SOME_KEY"}], models=[model(name="Other")])
    assert faults(moved) == [
        "providers (local).base_url: Its stored key was entered for another host (https://llm.example/v1). Change the address "
        "in the admin and enter the key again there, or load the file once the key is forgotten there."
    ]
    provider = Provider.objects.get(slug="local")
    assert (provider.base_url, provider.api_key_env) == ("https://llm.example/v1", "")
    assert CatalogModel.objects.get().name == "One"
    loaded(file(providers=[SANDBOX, LOCAL | {"base_url": "https://llm.example/v2"}]))
    assert provider_key(Provider.objects.get(slug="local")).text == "sk-entered-by-staff"
    forget_provider_key(provider, actor="staff:ada")
    loaded(moved)
    assert Provider.objects.get(slug="local").base_url == address


@pytest.mark.parametrize(
    "name", ["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "MISTRAL_API_KEY", "AZURE_OPENAI_API_KEY", "HF_TOKEN"]
)
def test_a_key_comes_from_any_variable_that_is_no_setting(monkeypatch, name):
    monkeypatch.setenv(name, "sk-of-the-environment")
    provider = Provider(**LOCAL, api_key_env=name)
    assert provider_key(provider).text == "sk-of-the-environment"
    check_provider(provider)  # also after it was read: that makes no setting of it


@pytest.mark.parametrize(
    "name", ["SECRET_KEY", "STRIPE_SECRET_KEY", "EMAIL_URL", "ANYMAIL_MAILGUN_API_KEY", "AWS_SESSION_TOKEN", "PGPASSWORD"]
)
@pytest.mark.django_db
def test_no_provider_is_sent_a_setting_of_the_gateway(monkeypatch, name):
    """Not even one whose row is older than the setting, or than the rule; such a row can still be switched off."""
    monkeypatch.setenv(name, "a secret of the gateway")
    provider = Provider.objects.create(**LOCAL, api_key_env=name)
    assert (provider_key(provider).source, provider_key(provider).text) == ("unreadable", "")
    with pytest.raises(ValidationError, match="another name"):
        check_provider(provider)
    assert set_provider_enabled(provider, is_enabled=False, actor="test")
    with pytest.raises(ValidationError, match="another name"):
        set_provider_enabled(provider, is_enabled=True, actor="test")
