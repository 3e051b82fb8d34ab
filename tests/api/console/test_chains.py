"""Fallback chains: what is in force, the workspace's own with its terms, and the default again."""

from __future__ import annotations

import re

import pytest

from chat import catalog
from chat.loading.chains import set_chain
from chat.schema.route import Terms
from tests.api.console.test_figures import rows_of

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("two_models")]

ONE = "chains/of?model=asked"


def test_the_default_is_shown_until_the_workspace_sets_its_own(acme, as_role):
    visit = as_role("admin")
    assert rows_of(visit("chains").content.decode()) == ["asked default other Default of this gateway", "other nobody None"]
    form = {"model_3": "other", "retries_0": "1", "retries_3": "0", "codes_0": "429, 503"}
    page = visit(ONE, form, follow=True).content.decode()
    assert "The chain of asked is set." in page
    assert rows_of(page) == [
        "Asked asked tried twice, moves on after 429, 503 only tried twice 429, 503 only",
        "1. other tried once, moves on after every failure tried once last of the chain",
    ]
    snapshot = catalog.current()
    assert snapshot.chain("asked", acme.workspace.pk) == ("other",)
    assert snapshot.terms_of("asked", acme.workspace.pk) == {"asked": Terms(1, frozenset({429, 503})), "other": Terms(0)}
    assert 'value="429, 503"' in page
    assert ">Own<" in visit("chains").content.decode()


def test_an_empty_chain_switches_fallback_off_and_the_default_comes_back(acme, as_role):
    visit = as_role("owner")
    visit(ONE, {})
    assert "nobody: fallback is switched off" in visit("chains").content.decode()
    assert catalog.current().chain("asked", acme.workspace.pk) == ()
    assert "in force for asked again" in visit("chains/reset?model=asked", {}, follow=True).content.decode()
    assert catalog.current().chain("asked", acme.workspace.pk) == ("other",)


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"model_1": "asked"}, "A model cannot fall back to itself"),
        ({"model_1": "other", "model_2": "other"}, "other stands twice in the chain."),
        ({"model_1": "nothing"}, "There is no such model here."),
        ({"model_1": "other", "codes_1": "often"}, "Write codes of answers"),
        ({"model_1": "other", "codes_1": "422"}, "No chain moves on after 422."),
        ({"codes_0": "400"}, "No chain moves on after 400."),
        ({"model_1": "other", "retries_1": "9"}, "Write codes of answers"),
    ],
)
def test_a_chain_that_breaks_a_rule_is_told_beside_its_model(acme, as_role, form, words):
    response = as_role("owner")(ONE, form)
    assert response.status_code == 400
    assert words in response.content.decode()
    assert (acme.workspace.pk, "asked") not in catalog.current().chains


@pytest.fixture
def gone(two_models):
    """`other`, in the chain of `asked`, cannot be called for a while."""
    two_models[1].is_enabled = False
    two_models[1].save()


def chosen(page):
    """The models of the form in their places."""
    return re.findall(r'<option value="([^"]+)" selected>([^<]+)', "".join(re.findall(r'name="model_\d".*?</select>', page)))


@pytest.mark.parametrize("is_own", [True, False], ids=["own", "default"])
def test_a_model_that_cannot_be_called_stays_in_the_chain_until_it_is_taken_out(acme, as_role, two_models, gone, is_own):
    visit = as_role("admin")
    if is_own:
        set_chain(two_models[0], two_models[1:], workspace=acme.workspace, actor="tests", terms={"other": Terms(0)})
    page = visit(ONE).content.decode()
    assert chosen(page) == [("other", "other (cannot be called now)")]
    page = visit(ONE, {"model_1": "other", "retries_1": "0", "codes_0": "429"}, follow=True).content.decode()
    assert "The chain of asked is set." in page
    assert chosen(page) == [("other", "other (cannot be called now)")]
    terms = catalog.current().terms_of("asked", acme.workspace.pk)
    assert terms == {"asked": Terms(None, frozenset({429})), "other": Terms(0)}
    visit(ONE, {})
    assert catalog.current().chain("asked", acme.workspace.pk) == ()
    assert "cannot be called now" not in visit(ONE).content.decode()


def test_a_model_that_cannot_be_called_is_not_put_into_a_chain(acme, as_role, gone):
    visit = as_role("admin")
    visit(ONE, {})
    response = visit(ONE, {"model_1": "other"})
    assert response.status_code == 400
    assert "There is no such model here." in response.content.decode()
    assert catalog.current().chain("asked", acme.workspace.pk) == ()


def test_a_circle_is_refused(as_role):
    response = as_role("owner")("chains/of?model=other", {"model_1": "asked"})
    assert response.status_code == 400
    assert "makes a cycle" in response.content.decode()


@pytest.mark.parametrize("model", ["nothing", "", "%00"])
def test_a_model_that_nobody_can_call_has_no_page(as_role, model):
    assert as_role("owner")(f"chains/of?model={model}").status_code == 404


def test_who_may_not_change_a_chain_sees_it_without_the_form(as_role):
    page = as_role("viewer")(ONE).content.decode()
    assert "Save chain" not in page
    assert "Test chain" not in page
