"""Documentation: the same pages for a reader with a key and for nobody, with figures and codes of this installation."""

from __future__ import annotations

import html
import io
import re
import time

import pytest
from django.core.management import call_command
from django.test import Client
from django.urls import resolve

from billing.api.bodies import fields_of
from billing.apikeys import KeyTerms, mint
from billing.models import ApiKey, Notice
from billing.webhooks.signing import headers, new_secret
from chat.console import endpoints
from chat.console.docs import PAGES
from chat.console.refusals import list_refusals
from tests.worlds import ACTOR

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("slug", PAGES)
def test_a_page_is_there_for_a_reader_and_for_nobody(as_role, slug):
    for page in (as_role("viewer")(f"docs/{slug}"), Client().get(f"/docs/{slug}")):
        assert page.status_code == 200
        assert f"<h1>{PAGES[slug]}</h1>" in page.content.decode()
        assert "script-src 'self'" in page["content-security-policy"]


def test_examples_have_this_host_and_the_readers_own_masked_key(acme, people, as_role):
    key, text = mint(acme.workspace, "mine", actor=ACTOR)
    ApiKey.objects.filter(pk=key.pk).update(owner=people["developer"])
    page = as_role("developer")("docs").content.decode()
    assert "http://testserver/v1/chat/completions" in page
    assert f'"{key.hint}"' in page
    assert text not in page
    for other in (as_role("owner")("docs").content.decode(), Client().get("/docs/").content.decode()):
        assert key.hint not in other
        assert "inf_..." in other


def test_examples_name_models_that_the_reader_can_call(as_role, two_models):
    assert (
        "&quot;asked&quot;" in as_role("owner")("docs").content.decode()
        or '"asked"' in as_role("owner")("docs").content.decode()
    )
    assert "sandbox-echo" in Client().get("/docs/").content.decode()


def test_a_visitor_is_shown_a_model_that_falls_back():
    call_command("load_catalog", "catalog.yaml", stdout=io.StringIO(), stderr=io.StringIO())
    page = html.unescape(Client().get("/docs/fallbacks").content.decode())
    assert '{"model": "sandbox-flaky"' in page


def test_the_table_has_every_code_with_its_status_and_whether_it_is_retried():
    page = Client().get("/docs/errors").content.decode()
    assert len(list_refusals()) > 80
    for one in list_refusals():
        assert f'id="{one.code}-{one.status}"' in page
    retried = {(one.code, one.status): one.is_retried for one in list_refusals()}
    assert retried["rate_limit_exceeded", 429]
    assert retried["upstream_timeout", 504]
    assert not retried["idempotency_result_lost", 409]
    assert not retried["insufficient_credits", 402]


def test_every_event_of_webhooks_is_documented_with_its_fields():
    page = Client().get("/docs/webhooks").content.decode()
    rows = dict(re.findall(r'<tr id="([^"]+)">(.*?)</tr>', page))
    assert rows.keys() == {*Notice.Kind.values, "webhook.test"}
    assert set(re.findall(r"<code>(\w+)</code>", rows["quota.reached"])) == {"quota", "percent", "used", "limit"}
    assert "after 1 min, 5 min, 30 min, 2 h, 6 h and 12 h" in page


def test_signatures_are_verified_as_the_page_says():
    page = Client().get("/docs/webhooks").content.decode()
    code = re.search(r"<pre [^>]*data-verifies[^>]*>(.*?)</pre>", page, re.DOTALL)[1]
    room = {}
    exec(compile(html.unescape(re.sub(r"<[^>]+>", "", code)), "webhooks", "exec"), room)  # noqa: S102 - it is our own page
    secret, body, now = new_secret(), b'{"type": "quota.reached"}', int(time.time())
    sent = dict(headers(secret, "msg_1", now, body))
    assert room["is_genuine"](secret, sent, body)
    assert not room["is_genuine"](secret, sent, body + b" ")
    assert not room["is_genuine"](new_secret(), sent, body)
    assert not room["is_genuine"](secret, dict(headers(secret, "msg_1", now - 301, body)), body)


def test_whoever_may_not_see_alerts_or_webhooks_gets_no_link_to_them(as_role):
    found = {}
    for role in ("owner", "viewer", "developer"):
        article = as_role(role)("docs/webhooks").content.decode().partition('<article class="doc">')[2]
        found[role] = re.findall(r"<p>.*?</p>", article)[0].count("<a href=")
    assert found == {"owner": 2, "viewer": 1, "developer": 0}


def test_there_is_no_other_page(as_role):
    assert as_role("owner")("docs/nothing").status_code == 404
    assert Client().get("/docs/nothing").status_code == 404
    assert Client().post("/docs/").status_code == 405


# The management API

SAID = {key: said for group in endpoints.GROUPS.values() for key, said in group.items()}


def test_every_route_of_the_management_api_is_told_and_no_other():
    assert SAID.keys() == endpoints.list_routes().keys()
    page = Client().get("/docs/management").content.decode()
    shown = re.findall(r"<h3 [^>]*><b>([A-Z]+)</b> (/api/[^<]+)</h3>", page.replace("<wbr>", ""))
    assert sorted(shown) == sorted((route.method, route.path) for route in endpoints.list_routes().values())
    assert len(shown) >= 20


def test_the_methods_that_are_told_are_those_that_an_address_takes():
    told: dict[str, set[str]] = {}
    for route in endpoints.list_routes().values():
        told.setdefault(route.path, set()).add(route.method)
    for path, methods in told.items():
        allowed = set(Client().options(re.sub(r"{\w+}", "some_id", path))["allow"].split(", "))
        assert allowed - {"HEAD", "OPTIONS"} == methods, path


def test_what_takes_a_body_is_told_with_its_fields_and_an_example_that_it_takes():
    bodies = {said.body for said in SAID.values() if said.body is not None}
    assert {key for key, said in SAID.items() if said.body} == {key for key in SAID if key[1] in {"POST", "PUT", "PATCH"}}
    assert endpoints.FIELDS.keys() == {name for body in bodies for name in body().fields}
    for said in SAID.values():
        if said.body is not None:
            assert fields_of(said.body, said.example, is_partial=said.is_partial)
            assert all(field.kind for field in endpoints.list_fields(said.body, is_partial=said.is_partial))


def test_an_example_asks_the_route_that_it_stands_under():
    for _, group in endpoints.list_groups():
        for one in group:
            match = resolve(re.sub(r"\$[A-Z]+", "some_id", one.url))
            assert one.at == f"{one.route.method.lower()}-{match.url_name}"


def test_every_error_that_is_told_stands_in_the_table_of_all(as_role):
    for path, client in (("docs/", as_role("owner")), ("/docs/", Client().get)):
        page = client(f"{path}management").content.decode()
        links = re.findall(r'href="([^"]*errors)#([^"]+)"', page)
        assert len(links) >= 10
        for address, anchor in links:
            assert f'id="{anchor}"' in client(address).content.decode(), anchor


def test_its_examples_have_the_readers_workspace_and_his_masked_management_key(acme, people, as_role):
    managing, text = mint(acme.workspace, "manages", actor=ACTOR, terms=KeyTerms(scopes=["keys:manage"]))
    chatting, _ = mint(acme.workspace, "chats", actor=ACTOR)
    ApiKey.objects.filter(pk__in=[managing.pk, chatting.pk]).update(owner=people["admin"])
    visit = as_role("admin")
    page = visit("docs/management").content.decode()
    assert f'GATEWAY_MANAGEMENT_KEY=<span class="cs">"{managing.hint}"' in page
    assert f'WORKSPACE=<span class="cs">"{acme.workspace.public_id}"' in page
    assert "http://testserver/api/workspaces/$WORKSPACE/keys" in page
    assert chatting.hint not in page
    assert text not in page
    assert managing.hint not in visit("docs/quickstart").content.decode()
    assert "inf_..." in as_role("viewer")("docs/management").content.decode()
