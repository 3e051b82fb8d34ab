"""Where a provider's key may come from, and that no file leads it to somebody else."""

import pytest

from chat.catalog import provider_key
from chat.loading.rows import forget_provider_key, set_provider_key
from chat.models import CatalogModel, Provider
from tests.unit.chat.test_loading import SANDBOX, faults, file, loaded, model

LOCAL = {"slug": "local", "dialect": "openai", "base_url": "https://llm.example/v1"}


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
