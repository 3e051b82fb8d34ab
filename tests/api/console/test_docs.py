"""Documentation: the same pages for a reader with a key and for nobody, with figures and codes of this installation."""

from __future__ import annotations

import pytest
from django.test import Client

from billing.apikeys import mint
from billing.models import ApiKey
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


def test_there_is_no_other_page(as_role):
    assert as_role("owner")("docs/nothing").status_code == 404
    assert Client().get("/docs/nothing").status_code == 404
    assert Client().post("/docs/").status_code == 405
