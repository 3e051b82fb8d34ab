"""`/api/workspaces/{id}/keys`: the text of a key is shown once, terms are checked, nothing becomes broader."""

import json
from decimal import Decimal

import pytest

from billing.apikeys import digest_of, find, playground_key
from billing.errors import InvalidApiKey
from billing.models import ApiKey, AuditEvent, Budget, Membership
from billing.presets import create_preset, set_member_preset, set_plan
from billing.quotas import Limits
from tests.api.management.conftest import error_of
from tests.worlds import ACTOR

pytestmark = pytest.mark.django_db

TERMS = {
    "name": "ci",
    "scopes": ["chat"],
    "allowed_addresses": ["10.1.2.3/8"],
    "expires_at": "2099-12-31T12:00:00+02:00",
    "allowedModels": ["gpt-4o", "o3"],
    "maxRequestsPerMinute": 30,
    "maxRequestsDaily": 9_000,
    "maxTokensPerMinute": 40_000,
    "maxTokensDaily": 5_000_000_000,
    "maxConcurrentRequests": 4,
    "maxBudgetMonthlyCredits": 25.000001,
}


def decoded(response):
    return json.loads(response.content, parse_float=Decimal)


def test_a_new_key_is_as_asked_for_and_its_text_is_in_this_answer_only(as_role, people):
    ask = as_role("developer")
    response = ask("post", "/keys", TERMS)
    assert response.status_code == 201
    assert response["cache-control"] == "no-store"
    body = decoded(response)
    text = body.pop("key")
    key = ApiKey.objects.get(digest=digest_of(text))
    assert body.pop("created_at").endswith("Z")
    limits = body.pop("limits")
    assert body == {
        **TERMS,
        "id": key.public_id,
        "object": "api_key",
        "hint": key.hint,
        "state": "active",
        "allowed_addresses": ["10.0.0.0/8"],
        "expires_at": "2099-12-31T10:00:00.000000Z",
        "maxBudgetMonthlyCredits": Decimal("25.000001"),
        "owner": people["developer"].public_id,
        "preset": None,
        "revoked_at": None,
    }
    assert limits["maxTokensDaily"] == {"value": 5_000_000_000, "source": "key"}
    assert limits["maxFileSizeBytes"] == {"value": None, "source": None}
    assert limits["maxRequestsDaily"] == {"value": 9_000, "source": "key"}
    assert (find(key.digest).max_tokens_daily, find(key.digest).max_requests_daily) == (5_000_000_000, 9_000)
    assert Budget.objects.get(scope="key", scope_id=key.pk).limit_microcredits == 25_000_001
    assert AuditEvent.objects.get(action="api_key.created", target=key.hint).actor == "user:developer-of-acme"
    for path in ("/keys", f"/keys/{key.public_id}"):
        assert text not in ask("get", path).content.decode()
    assert text[8:-4] not in str([*ApiKey.objects.values(), *AuditEvent.objects.values()])


def test_limits_say_which_layer_they_come_from(as_role, people, acme):
    set_plan(acme.workspace, create_preset("plan", Limits(frozenset({"a", "b"})), actor=ACTOR), actor=ACTOR)
    set_member_preset(people["developer"], create_preset("member", Limits(max_tokens_daily=9), actor=ACTOR), actor=ACTOR)
    body = as_role("developer")("post", "/keys", {"name": "key", "maxTokensDaily": 50}).json()
    assert (body["allowedModels"], body["limits"]["allowedModels"]) == (
        ["*"],
        {"value": ["a", "b"], "source": "workspace plan"},
    )
    assert (body["maxTokensDaily"], body["limits"]["maxTokensDaily"]) == (50, {"value": 9, "source": "member preset"})


def test_a_developer_makes_limits_that_an_admin_set_tighter_and_never_looser(as_role, people, own_key_of):
    own = own_key_of(people["developer"])
    admin, developer = as_role("admin"), as_role("developer")

    def refusal(**changes):
        response = developer("patch", f"/keys/{own.public_id}", changes)
        return None if response.status_code == 200 else error_of(response)

    assert refusal(maxRequestsPerMinute=7, maxConcurrentRequests=3) is None
    limits = {"maxRequestsPerMinute": 30, "maxRequestsDaily": 900, "maxTokensDaily": 500, "maxBudgetMonthlyCredits": 5}
    assert admin("patch", f"/keys/{own.public_id}", limits).status_code == 200
    for name, limit in limits.items():
        assert refusal(**{name: limit + 1}) == refusal(**{name: None}) == (403, "permission_denied", name)
        assert refusal(**{name: 1}) is refusal(**{name: limit}) is None
    assert refusal(maxConcurrentRequests=None) is None, "it was his own"
    rolled = developer("post", f"/keys/{own.public_id}/roll", {"overlap": "24h"}).json()["id"]
    response = developer("patch", f"/keys/{rolled}", {"maxTokensDaily": None})
    assert error_of(response) == (403, "permission_denied", "maxTokensDaily")


def test_a_change_touches_what_it_names(as_role, acme):
    ask = as_role("owner")
    made = ask("post", "/keys", TERMS).json()
    key_id, _ = made["id"], made.pop("key")
    changed = ask(
        "patch", f"/keys/{key_id}", {"maxTokensDaily": None, "expires_at": None, "scopes": ["usage:read", "chat"]}
    ).json()
    assert changed.pop("limits")["maxTokensDaily"] == {"value": None, "source": None}
    made.pop("limits")
    assert changed == made | {"maxTokensDaily": None, "expires_at": None, "scopes": ["chat", "usage:read"]}
    assert ask("patch", f"/keys/{key_id}", {}).status_code == 200


def test_a_preset_is_given_and_taken_away(as_role, acme):
    preset = create_preset("small", Limits(max_requests_per_minute=2), actor=ACTOR, workspace=acme.workspace)
    ask = as_role("admin")
    made = ask("post", "/keys", {"name": "key", "preset": preset.public_id}).json()
    assert made["limits"]["maxRequestsPerMinute"] == {"value": 2, "source": "key preset"}
    freed = ask("patch", f"/keys/{made['id']}", {"preset": None}).json()
    assert (freed["preset"], freed["limits"]["maxRequestsPerMinute"]["value"]) == (None, None)


def test_rolling_gives_a_new_key_and_the_end_of_the_old_one(as_role, acme):
    ask = as_role("owner")
    body = ask("post", f"/keys/{acme.key.public_id}/roll", {"overlap": "24h"}).json()
    assert body["id"] != acme.key.public_id
    assert digest_of(body["key"]) == ApiKey.objects.get(public_id=body["id"]).digest
    assert (body["rolled_from"]["id"], body["rolled_from"]["state"]) == (acme.key.public_id, "active")
    assert body["rolled_from"]["expires_at"] is not None
    again = ask("post", f"/keys/{body['id']}/roll", {"overlap": "now"})
    assert again.json()["rolled_from"]["state"] == "revoked"
    assert error_of(ask("post", f"/keys/{body['id']}/roll", {"overlap": "now"})) == (400, "key_not_active", None)
    assert error_of(ask("patch", f"/keys/{body['id']}", {"name": "x"})) == (400, "key_not_active", None)


def test_revoking_twice_is_revoking_once(as_role, acme):
    ask = as_role("owner")
    first, second = (ask("delete", f"/keys/{acme.key.public_id}") for _ in range(2))
    assert first.status_code == second.status_code == 200
    assert first.json() == second.json()
    assert first.json()["state"] == "revoked"
    assert find(acme.key.digest) is InvalidApiKey
    assert AuditEvent.objects.filter(action="api_key.revoked").count() == 1


def test_a_developer_sees_his_own_keys_only(as_role, own_key_of, people):
    own = own_key_of(people["developer"])
    own_key_of(people["admin"])
    assert [key["id"] for key in as_role("developer")("get", "/keys").json()["data"]] == [own.public_id]
    assert len(as_role("viewer")("get", "/keys").json()["data"]) == 3


def test_a_list_is_paged_from_the_newest_on(as_role, acme, django_assert_max_num_queries):
    ask = as_role("owner")
    ids = [acme.key.public_id, *(ask("post", "/keys", {"name": f"key {number}"}).json()["id"] for number in range(4))][::-1]
    seen, after = [], ""
    while True:
        with django_assert_max_num_queries(6):
            page = ask("get", f"/keys?limit=2{after}").json()
        seen += [key["id"] for key in page["data"]]
        assert (page["first_id"], page["last_id"]) == (page["data"][0]["id"], page["data"][-1]["id"])
        if not page["has_more"]:
            break
        after = f"&after={page['last_id']}"
    assert seen == ids


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "limit=-1", "after=key_nobody", "after=%00", "after="])
def test_a_page_that_cannot_be_is_refused(as_role, query):
    assert error_of(as_role("owner")("get", f"/keys?{query}")) == (400, "invalid_value", query.split("=")[0])


# Bodies


WRONG = {
    "empty object": ({}, "missing_required_parameter", "name"),
    "a list": ([], "invalid_type", None),
    "a string": (b'"x"', "invalid_type", None),
    "no JSON": (b'{"name": "x"', "invalid_json", None),
    "NaN": (b'{"name": "x", "maxBudgetMonthlyCredits": NaN}', "invalid_json", None),
    "digits without end": (b'{"name": "x", "maxTokensDaily": ' + b"9" * 5000 + b"}", "invalid_json", None),
    "too deep": (b"[" * 100_000, "json_too_deep", None),
    "lone surrogate": (b'{"name": "\\ud800"}', "invalid_json", None),
    "name null": ({"name": None}, "invalid_type", "name"),
    "name a number": ({"name": 5}, "invalid_type", "name"),
    "name empty": ({"name": " "}, "invalid_value", "name"),
    "row-150 name long": ({"name": "n" * 10_240}, "invalid_value", "name"),
    "row-150 name overrides": ({"name": "a\u202eb"}, "invalid_value", "name"),
    "row-45 name with zero": ({"name": "a\0b"}, "invalid_unicode", "name"),
    "scopes a string": ({"name": "x", "scopes": "chat"}, "invalid_type", "scopes"),
    "scope unknown": ({"name": "x", "scopes": ["chat", "root"]}, "invalid_value", "scopes[1]"),
    "scope an object": ({"name": "x", "scopes": [{}]}, "invalid_value", "scopes[0]"),
    "scopes empty": ({"name": "x", "scopes": []}, "invalid_value", "scopes"),
    "scopes that exclude each other": ({"name": "x", "scopes": ["chat", "keys:manage"]}, "invalid_value", "scopes"),
    "models null": ({"name": "x", "allowedModels": None}, "invalid_type", "allowedModels"),
    "models empty": ({"name": "x", "allowedModels": []}, "invalid_value", "allowedModels"),
    "model with zero": ({"name": "x", "allowedModels": ["\0"]}, "invalid_unicode", "allowedModels[0]"),
    "model long": ({"name": "x", "allowedModels": ["m" * 257]}, "invalid_value", "allowedModels[0]"),
    "models many": ({"name": "x", "allowedModels": ["m"] * 501}, "invalid_value", "allowedModels"),
    "address": ({"name": "x", "allowed_addresses": ["example.org"]}, "invalid_value", "allowed_addresses"),
    "expiry past": ({"name": "x", "expires_at": "2001-01-01"}, "invalid_value", "expires_at"),
    "expiry no time": ({"name": "x", "expires_at": "soon"}, "invalid_value", "expires_at"),
    "expiry a number": ({"name": "x", "expires_at": 2_000_000_000}, "invalid_type", "expires_at"),
    "limit zero": ({"name": "x", "maxRequestsPerMinute": 0}, "out_of_range", "maxRequestsPerMinute"),
    "limit negative": ({"name": "x", "maxConcurrentRequests": -1}, "out_of_range", "maxConcurrentRequests"),
    "limit large": ({"name": "x", "maxRequestsPerMinute": 2**31}, "out_of_range", "maxRequestsPerMinute"),
    "day zero": ({"name": "x", "maxRequestsDaily": 0}, "out_of_range", "maxRequestsDaily"),
    "day large": ({"name": "x", "maxRequestsDaily": 2**31}, "out_of_range", "maxRequestsDaily"),
    "tokens large": ({"name": "x", "maxTokensDaily": 2**63}, "out_of_range", "maxTokensDaily"),
    "limit a fraction": ({"name": "x", "maxTokensPerMinute": 1.5}, "invalid_type", "maxTokensPerMinute"),
    "limit a string": ({"name": "x", "maxTokensPerMinute": "5"}, "invalid_type", "maxTokensPerMinute"),
    "limit true": ({"name": "x", "maxTokensPerMinute": True}, "invalid_type", "maxTokensPerMinute"),
    "budget negative": ({"name": "x", "maxBudgetMonthlyCredits": -0.5}, "invalid_value", "maxBudgetMonthlyCredits"),
    "budget too fine": ({"name": "x", "maxBudgetMonthlyCredits": 0.0000001}, "invalid_value", "maxBudgetMonthlyCredits"),
    "budget beyond": (b'{"name": "x", "maxBudgetMonthlyCredits": 1e400}', "invalid_value", "maxBudgetMonthlyCredits"),
    "budget a string": ({"name": "x", "maxBudgetMonthlyCredits": "5"}, "invalid_type", "maxBudgetMonthlyCredits"),
    "preset a number": ({"name": "x", "preset": 1}, "invalid_type", "preset"),
}


def test_what_cannot_be_is_refused_with_its_field(as_role):
    count, ask = ApiKey.objects.count(), as_role("owner")
    for what, (body, code, param) in WRONG.items():
        response = ask("post", "/keys", body)
        assert error_of(response) == (400, code, param), what
        assert len(response.json()["error"]["message"]) < 300, what
        assert ApiKey.objects.count() == count, what


@pytest.mark.parametrize("overlap", [None, "2h", "", 5, ["now"]])
def test_an_overlap_is_one_of_four(as_role, acme, overlap):
    response = as_role("owner")("post", f"/keys/{acme.key.public_id}/roll", {"overlap": overlap})
    status, _, param = error_of(response)
    assert (status, param) == (400, "overlap")


# Breadth


def test_row_148_a_key_wider_than_the_role_is_refused(as_role, acme):
    for scope in ("keys:manage", "workspace:manage"):
        response = as_role("developer")("post", "/keys", {"name": "wide", "scopes": [scope]})
        assert error_of(response) == (403, "permission_denied", "scopes")
    assert list(acme.workspace.api_keys.all()) == [acme.key]


def test_a_management_key_makes_keys_for_chat_and_none_that_manage_more(as_key):
    ask = as_key("keys:manage")
    made = ask("post", "/keys", {"name": "app"}).json()
    assert "chat" in made["scopes"]
    assert ask("post", "/keys", {"name": "same", "scopes": ["keys:manage"]}).status_code == 201
    assert error_of(ask("post", "/keys", {"name": "more", "scopes": ["workspace:manage"]})) == (
        403,
        "permission_denied",
        "scopes",
    )
    assert error_of(ask("patch", f"/keys/{made['id']}", {"scopes": ["workspace:manage"]})) == (
        403,
        "permission_denied",
        "scopes",
    )


def test_a_management_key_passes_its_models_on(as_key):
    ask = as_key("keys:manage", allowed_models=["a", "b"])
    made = ask("post", "/keys", {"name": "app"}).json()
    assert made["allowedModels"] == ["a", "b"]
    for models in (["*"], ["a", "c"]):
        assert error_of(ask("post", "/keys", {"name": "more", "allowedModels": models})) == (
            403,
            "permission_denied",
            "allowedModels",
        )
        changed = ask("patch", f"/keys/{made['id']}", {"allowedModels": models})
        assert error_of(changed) == (403, "permission_denied", "allowedModels")


def test_a_management_key_takes_over_no_key_that_may_more(as_key, acme):
    as_key("keys:manage", "workspace:manage")
    strong = ApiKey.objects.latest("pk")
    ask = as_key("keys:manage")
    assert error_of(ask("post", f"/keys/{strong.public_id}/roll", {"overlap": "now"})) == (403, "permission_denied", "scopes")
    assert error_of(ask("patch", f"/keys/{strong.public_id}", {"name": "mine"})) == (403, "permission_denied", "scopes")
    assert ask("delete", f"/keys/{strong.public_id}").status_code == 200


def test_a_key_does_not_change_itself(as_key):
    ask = as_key("keys:manage", allowed_addresses=["127.0.0.1"])
    itself = ApiKey.objects.latest("pk")
    assert error_of(ask("patch", f"/keys/{itself.public_id}", {"allowed_addresses": []})) == (403, "permission_denied", None)
    assert ask("delete", f"/keys/{itself.public_id}").status_code == 200
    assert error_of(ask("get", "/keys")) == (401, "invalid_api_key", None)


@pytest.mark.parametrize("who", ["owner", "developer", "keys:manage"])
def test_the_key_of_a_playground_is_neither_rolled_nor_given_an_end(as_role, as_key, people, who):
    """Whoever could would lock its member out of the playground."""
    ask = as_key(who) if ":" in who else as_role(who)
    member = Membership.objects.select_related("workspace__plan", "preset", "user").get(pk=people["developer"].pk)
    key = playground_key(member)
    assert error_of(ask("post", f"/keys/{key.public_id}/roll", {"overlap": "1h"})) == (404, "not_found", None)
    response = ask("patch", f"/keys/{key.public_id}", {"expires_at": "2099-12-31"})
    assert error_of(response) == (400, "invalid_value", "expires_at")
    assert "revoke it instead" in response.json()["error"]["message"]
    assert ask("patch", f"/keys/{key.public_id}", {"maxRequestsPerMinute": 9, "expires_at": None}).status_code == 200
    assert playground_key(member) == key
    assert ApiKey.objects.get(pk=key.pk).expires_at is None


def test_keys_of_a_management_key_belong_to_its_owner(as_key, as_role, people):
    made = as_role("admin")("post", "/keys", {"name": "machine", "scopes": ["keys:manage"]}).json()
    ApiKey.objects.filter(public_id=made["id"]).update(owner=people["admin"])
    headers = {"authorization": f"Bearer {made['key']}"}
    child = as_role("admin")("post", "/keys", {"name": "child"}, **headers).json()
    assert child["owner"] == people["admin"].public_id
    assert as_role("owner")("delete", f"/members/{people['admin'].public_id}").json()["revoked_keys"] == 2
