"""Fallback chains in the staff admin: their order, the rules they must keep, and what is warned of."""

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from billing import roles
from chat.catalog import read_version
from chat.loading.chains import chains_in_force, set_chain
from chat.models import CatalogModel, FallbackChain
from tests.api.admin.pages import chain_of, form_of, sign_in, text_of, url

pytestmark = pytest.mark.django_db


def add(staff, source, *slugs, **values):
    source = CatalogModel.objects.get(slug=source)
    return staff.post(url(FallbackChain, "add"), {"source": source.pk, **chain_of(*slugs), **values}, follow=True)


def change(staff, chain, *, follow=False, **values):
    page = url(chain, "change")
    sent = form_of(staff.get(page)) | {f"links-{name}": value for name, value in values.items()}
    return staff.post(page, sent, follow=follow)


@pytest.fixture
def chain(catalogue):
    """sandbox-text falls back to sandbox-echo, gpt-4o, gpt-4.1."""
    models = {model.slug: model for model in CatalogModel.objects.all()}
    set_chain(models["sandbox-text"], [models[slug] for slug in ("sandbox-echo", "gpt-4o", "gpt-4.1")], actor="tests")
    return FallbackChain.objects.get(source__slug="sandbox-text")


def order():
    return chains_in_force()["sandbox-text"]


def test_staff_set_a_chain_in_the_order_of_its_rows_and_gaps_close(staff, catalogue):
    assert add(staff, "sandbox-text", "", "sandbox-echo", "", "gpt-4o").status_code == 200
    assert order() == ["sandbox-echo", "gpt-4o"]
    page = form_of(staff.get(url(FallbackChain.objects.get(source__slug="sandbox-text"), "change")))
    assert [page["links-0-target"], page["links-1-place"]] == ["sandbox-echo", 2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"2-place": "1"}, ["gpt-4.1", "sandbox-echo", "gpt-4o"]),
        ({"0-place": "3"}, ["gpt-4o", "gpt-4.1", "sandbox-echo"]),
        ({"0-place": "2", "1-place": "1"}, ["gpt-4o", "sandbox-echo", "gpt-4.1"]),
        ({"0-place": "2", "1-place": "0", "2-place": "1"}, ["gpt-4o", "gpt-4.1", "sandbox-echo"]),
        ({"0-place": ""}, ["gpt-4o", "gpt-4.1", "sandbox-echo"]),
        ({"0-target": "gpt-5"}, ["gpt-5", "gpt-4o", "gpt-4.1"]),
        ({"1-DELETE": "on"}, ["sandbox-echo", "gpt-4.1"]),
        ({"1-target": ""}, ["sandbox-echo", "gpt-4.1"]),
        ({"TOTAL_FORMS": "4", "3-target": "gpt-5", "3-place": "1"}, ["gpt-5", "sandbox-echo", "gpt-4o", "gpt-4.1"]),
    ],
    ids=str,
)
def test_the_places_say_the_order(staff, chain, values, expected):
    version = read_version()
    change(staff, chain, **values)
    assert order() == expected
    assert read_version() > version


@pytest.mark.slow
@pytest.mark.parametrize("place", ["-1", "x", "100", "9" * 5000])
def test_a_place_that_is_none_is_refused(staff, chain, place):
    before = order()
    change(staff, chain, **{"1-place": place})
    assert order() == before


def test_what_was_not_changed_is_not_a_change(staff, chain):
    version = read_version()
    change(staff, chain)
    assert read_version() == version


def test_a_workspace_s_chain(staff, catalogue, customer):
    add(staff, "sandbox-flaky", "sandbox-text", workspace=customer.pk)
    assert chains_in_force(customer)["sandbox-flaky"] == ["sandbox-text"]
    assert chains_in_force()["sandbox-flaky"] == ["sandbox-echo"]


BAD_CHAINS = {
    "row-80-itself": (["sandbox-echo"], 0, "cannot fall back to itself"),
    "row-80-cycle": (["gpt-4o", "sandbox-flaky"], 1, "makes a cycle"),
    "row-80-twice": (["gpt-4o", "", "gpt-4o"], 2, "stands twice"),
    "row-80-unknown": (["nobody"], 0, "not one of the available choices"),
    "row-80-nine": ([f"many-{number}" for number in range(9)], 8, "at most 8"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("slugs", "row", "message"), BAD_CHAINS.values(), ids=BAD_CHAINS)
def test_a_chain_that_breaks_a_rule_names_its_row(staff, catalogue, slugs, row, message):
    for number in range(9):
        CatalogModel.objects.create(slug=f"many-{number}", name="x", owned_by="x", context_window=1, max_output_tokens=1)
    response = add(staff, "sandbox-echo", *slugs)
    (formset,) = (inline.formset for inline in response.context["inline_admin_formsets"])
    assert message in str(formset.errors[row]["target"])
    assert message in text_of(response)
    assert "sandbox-echo" not in chains_in_force()


def test_a_second_default_chain_of_a_model_is_refused(staff, catalogue):
    assert "default" in str(add(staff, "sandbox-flaky", "sandbox-text").context["adminform"].form.errors)
    assert chains_in_force()["sandbox-flaky"] == ["sandbox-echo"]


def test_staff_are_warned_of_models_that_will_be_skipped(staff, catalogue):
    flaky = FallbackChain.objects.get(source__slug="sandbox-flaky")
    response = change(staff, flaky, follow=True, **{"0-target": "sandbox-text"})
    assert "sandbox-text will be skipped for requests that need vision, audio_input" in text_of(response)


def test_deleting_a_chain_moves_the_stamp(staff, chain):
    version = read_version()
    assert staff.post(url(chain, "delete"), {"post": "yes"}).status_code == 302
    assert "sandbox-text" not in chains_in_force()
    assert read_version() > version


def test_whoever_may_only_look_sees_the_models_in_order(chain):
    roles.sync()
    user = User.objects.create_user("ben", is_staff=True)
    user.groups.set(Group.objects.filter(name="support"))
    client = Client()
    sign_in(client, user)
    text = text_of(client.get(url(chain, "change")))
    assert text.index("sandbox-echo") < text.index("gpt-4o") < text.index("gpt-4.1")
    assert client.post(url(chain, "change"), chain_of("gpt-5")).status_code == 403


def test_a_page_asks_as_often_for_a_long_chain_as_for_a_short_one(staff, catalogue):
    def asked(source):
        chain = FallbackChain.objects.get(source__slug=source)
        with CaptureQueriesContext(connection) as queries:
            assert staff.get(url(chain, "change")).status_code == 200
        return len(queries)

    add(staff, "sandbox-text", "sandbox-echo", "gpt-4o", "gpt-4.1", "gpt-5")
    add(staff, "gpt-4.1", "sandbox-echo")
    assert asked("sandbox-text") == asked("gpt-4.1")
