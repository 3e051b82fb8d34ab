"""`GET /v1/models` and `GET /v1/models/{slug}`: what a key sees, in OpenAI's shape with exact prices; rows 1 to 11."""

import json
from datetime import timedelta
from decimal import Decimal

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.utils import timezone

from billing.apikeys import KeyTerms, mint, new_key, revoke
from billing.models import ApiKey
from billing.workspaces import create_workspace, suspend
from chat.catalog import Catalog
from chat.models import CatalogModel, Price, Provider, Target

pytestmark = pytest.mark.django_db


@pytest.fixture
def provider():
    return Provider.objects.create(slug="sandbox", dialect="openai", base_url="sandbox:")


@pytest.fixture
def models(provider):
    """Two models that can be called, one of them for embeddings, and one that cannot."""
    for slug, modality in (("gpt-4o", "chat"), ("org/embed:v1", "embedding"), ("unpriced", "chat")):
        row = CatalogModel.objects.create(
            slug=slug,
            name=slug.upper(),
            owned_by="openai",
            modality=modality,
            context_window=128_000,
            max_output_tokens=16_384,
            supports_vision=True,
        )
        Target.objects.create(model=row, provider=provider, upstream_model=slug)
        if slug != "unpriced":
            Price.objects.create(
                model=row,
                input_microcredits=250_000_000,
                output_microcredits=1_000_000_001,
                cached_input_microcredits=1,
                pdf_page_microcredits=200_000,
            )


@pytest.fixture
def workspace():
    return create_workspace("acme", actor="test")


@pytest.fixture
def get(client, workspace):
    """Ask with a key of acme on these terms, or with the Authorization header given."""

    def ask(path, *, terms=None, authorization=None, **options):
        if authorization is None:
            authorization = f"Bearer {mint(workspace, 'key', actor='test', terms=terms)[1]}"
        return client.get(path, headers={"authorization": authorization} if authorization else {}, **options)

    return ask


def error_of(response):
    assert response["content-type"] == "application/json; charset=utf-8"
    return response.json()["error"]


def test_the_list_has_openai_s_shape_and_our_fields(models, get):
    response = get("/v1/models")
    assert response.status_code == 200
    body = json.loads(response.content, parse_float=Decimal)
    assert body["object"] == "list"
    assert [model["id"] for model in body["data"]] == ["gpt-4o", "org/embed:v1"]
    created = body["data"][0].pop("created")
    assert created == int(CatalogModel.objects.get(slug="gpt-4o").created_at.timestamp())
    assert body["data"][0] == {
        "id": "gpt-4o",
        "object": "model",
        "owned_by": "openai",
        "name": "GPT-4O",
        "modality": "chat",
        "context_window": 128_000,
        "max_output_tokens": 16_384,
        "supportsStreaming": True,
        "supportsVision": True,
        "supportsPdf": False,
        "supportsTools": False,
        "supportsJsonMode": False,
        "supportsJsonSchema": False,
        "supportsAudioInput": False,
        "isReasoning": False,
        "deprecated_on": None,
        "prices": {
            "input": 250,
            "output": Decimal("1000.000001"),
            "cached_input": Decimal("0.000001"),
            "cache_write": 250,
            "audio_input": 250,
            "reasoning": Decimal("1000.000001"),
            "pdf_page": Decimal("0.2"),
        },
    }


def test_prices_are_exact_digits_in_the_json_text(models, get):
    text = get("/v1/models/gpt-4o").content.decode()
    assert '"input":250,' in text
    assert '"output":1000.000001,' in text
    assert '"cached_input":0.000001,' in text


@pytest.mark.parametrize(("modality", "ids"), [("chat", ["gpt-4o"]), ("embedding", ["org/embed:v1"]), ("image", [])])
def test_the_list_may_be_filtered(models, get, modality, ids):
    assert [model["id"] for model in get(f"/v1/models?modality={modality}").json()["data"]] == ids


def test_an_unknown_modality_is_named(models, get):
    response = get("/v1/models?modality=smell")
    assert response.status_code == 400
    assert (error_of(response)["code"], error_of(response)["param"]) == ("invalid_value", "modality")


@pytest.mark.parametrize("slug", ["gpt-4o", "org/embed:v1"])
def test_one_model_is_as_in_the_list(models, get, slug):
    one = get(f"/v1/models/{slug}")
    assert one.status_code == 200
    assert one.json() in get("/v1/models").json()["data"]


def test_a_key_sees_only_models_it_may_use(models, get):
    terms = KeyTerms(allowed_models=["gpt-4o"])
    assert [model["id"] for model in get("/v1/models", terms=terms).json()["data"]] == ["gpt-4o"]
    assert get("/v1/models/org/embed:v1", terms=terms).status_code == 404


def test_rows_50_and_51_unknown_disabled_unpriced_and_forbidden_models_are_answered_alike(models, get):
    answers = {
        "unpriced": get("/v1/models/unpriced"),
        "gpt-4o": get("/v1/models/gpt-4o", terms=KeyTerms(allowed_models=["other"])),
        "nothing": get("/v1/models/nothing"),
    }
    CatalogModel.objects.filter(slug="org/embed:v1").update(is_enabled=False)
    answers["org/embed:v1"] = get("/v1/models/org/embed:v1")
    bodies = {response.content.decode().replace(slug, "SLUG") for slug, response in answers.items()}
    assert {response.status_code for response in answers.values()} == {404}
    assert len(bodies) == 1
    error = json.loads(bodies.pop())["error"]
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", "model_not_found", "model")


def test_a_slug_is_not_echoed_at_length_nor_as_markup(models, get):
    response = get(f"/v1/models/{'x' * 300}")
    assert response.status_code == 404
    assert "x" * 65 not in response.content.decode()
    assert get("/v1/models/%3Cimg%20src=x%3E")["content-type"].startswith("application/json")


def test_a_key_without_the_chat_scope_sees_the_models_too(models, get):
    assert get("/v1/models", terms=KeyTerms(scopes=["usage:read"])).status_code == 200


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/gpt-4o"])
def test_other_methods_are_a_405_in_json(client, workspace, method, path):
    _, text = mint(workspace, "key", actor="test")
    response = getattr(client, method)(path, headers={"authorization": f"Bearer {text}"})
    assert response.status_code == 405
    assert error_of(response)["code"] == "method_not_allowed"
    assert "GET" in response["allow"]


async def test_a_serving_process_answers_from_its_snapshot(transactional_db, async_client):
    """The snapshot was read when the catalogue was empty, and is not read again until the stamp moves."""
    catalog = Catalog(poll_s=60)
    await catalog.start()
    try:
        provider = await Provider.objects.acreate(slug="sandbox", dialect="openai", base_url="sandbox:")
        row = await CatalogModel.objects.acreate(slug="new", name="N", owned_by="x", context_window=1, max_output_tokens=1)
        await Target.objects.acreate(model=row, provider=provider, upstream_model="new")
        await Price.objects.acreate(model=row, input_microcredits=0, output_microcredits=0)
        text = await sync_mint()
        assert (await async_client.get("/v1/models", headers={"authorization": f"Bearer {text}"})).json()["data"] == []
    finally:
        await catalog.stop()
    assert len((await async_client.get("/v1/models", headers={"authorization": f"Bearer {text}"})).json()["data"]) == 1


# Who calls


def test_row_1_without_a_key(client):
    response = client.get("/v1/models")
    assert response.status_code == 401
    assert (error_of(response)["type"], error_of(response)["code"]) == ("auth_error", "missing_api_key")
    assert response["www-authenticate"] == "Bearer"


ROW_2 = ["Basic dXNlcjpwYXNz", "Bearer", "Bearer  {key}", "Bearer {key} junk", "bearer {key}", "{key}"]


@pytest.mark.parametrize("form", ROW_2)
def test_row_2_other_forms_of_the_header(get, form):
    response = get("/v1/models", authorization=form.format(key=new_key()))
    assert (response.status_code, error_of(response)["code"]) == (401, "invalid_api_key")


async def test_row_3_two_headers(transactional_db, async_client):
    """The one way Django shows them: joined by a comma."""
    text = await sync_mint()
    response = await async_client.get("/v1/models", headers={"authorization": f"Bearer {text},Bearer {text}"})
    assert (response.status_code, error_of(response)["code"]) == (401, "invalid_api_key")


def test_row_4_a_wrong_checksum_costs_no_query(get, django_assert_num_queries):
    key = new_key()
    with django_assert_num_queries(0):
        response = get("/v1/models", authorization=f"Bearer {key[:-1]}{'0' if key[-1] != '0' else '1'}")
    assert (response.status_code, error_of(response)["code"]) == (401, "invalid_api_key")


def test_rows_4_to_6_bad_unknown_and_revoked_keys_are_answered_by_equal_bytes(get, workspace):
    key, text = mint(workspace, "key", actor="test")
    revoke(key, actor="test")
    answers = [get("/v1/models", authorization=f"Bearer {candidate}") for candidate in (text, new_key(), new_key()[:-1] + "!")]
    assert {response.status_code for response in answers} == {401}
    assert len({response.content for response in answers}) == 1


def test_row_7_an_expired_key(get, workspace):
    _, text = mint(workspace, "key", actor="test")
    ApiKey.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    response = get("/v1/models", authorization=f"Bearer {text}")
    assert (response.status_code, error_of(response)["code"]) == (401, "expired_api_key")


def test_row_8_a_key_in_the_query_is_none(client, workspace):
    _, text = mint(workspace, "key", actor="test")
    response = client.get(f"/v1/models?api_key={text}")
    assert (response.status_code, error_of(response)["code"]) == (401, "missing_api_key")
    assert text not in response.content.decode()


def test_row_9_a_suspended_workspace(get, workspace):
    _, text = mint(workspace, "key", actor="test")
    suspend(workspace, actor="test")
    response = get("/v1/models", authorization=f"Bearer {text}")
    assert (response.status_code, error_of(response)["code"]) == (403, "workspace_suspended")


def test_row_11_the_address_list_of_the_key(get):
    terms = KeyTerms(allowed_addresses=["203.0.113.0/24"])
    response = get("/v1/models", terms=terms)
    assert (response.status_code, error_of(response)["code"]) == (403, "ip_not_allowed")
    assert get("/v1/models", terms=terms, REMOTE_ADDR="203.0.113.9").status_code == 200


def test_row_13_a_session_is_no_key(client):
    client.force_login(User.objects.create_superuser("ada"))
    response = client.get("/v1/models")
    assert (response.status_code, error_of(response)["code"]) == (401, "missing_api_key")


async def sync_mint():
    """A key of a new workspace, minted from asynchronous code."""
    return await sync_to_async(lambda: mint(create_workspace("acme", actor="test"), "key", actor="test")[1])()
