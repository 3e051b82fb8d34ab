"""A workspace's own chains: how their models are tried, and the default again."""

import pytest

from billing.models import AuditEvent
from billing.workspaces import create_workspace
from chat.catalog import load_snapshot
from chat.loading.chains import ChainRefused, chains_in_force, reset_chain, set_chain
from chat.schema.route import Terms
from tests.unit.chat.test_loading import MODEL, file, loaded, model, models_named


@pytest.mark.django_db
def test_a_workspace_says_how_the_models_of_its_chain_are_tried():
    loaded(file(models=[MODEL, model("two"), model("three")]))
    one, two, three = models_named("one", "two", "three")
    acme = create_workspace("acme", actor="test")
    terms = {"one": Terms(1), "two": Terms(0, frozenset({429, 503}))}
    assert set_chain(one, [two], workspace=acme, actor="test", terms=terms)
    assert not set_chain(one, [two], workspace=acme, actor="test", terms=terms)
    assert dict(load_snapshot().terms_of("one", acme.pk)) == terms
    details = {"one": {"retries": 1}, "two": {"retries": 0, "fallback_statuses": [429, 503]}}
    assert AuditEvent.objects.get(workspace=acme, action="chain.set").details == {"targets": ["two"], "terms": details}
    # Staff who put another model into it leave them alone.
    set_chain(one, [three, two], workspace=acme, actor="test")
    assert load_snapshot().terms_of("one", acme.pk)["two"] == terms["two"]
    for wrong in (Terms(2), Terms(None, frozenset({400}))):
        with pytest.raises(ChainRefused) as refusal:
            set_chain(one, [two], workspace=acme, actor="test", terms={"two": wrong})
        assert refusal.value.position == 0


@pytest.mark.django_db
def test_a_workspace_gets_the_default_back_unless_that_makes_a_circle():
    loaded(file(models=[MODEL, model("two"), model("three")]))
    one, two, three = models_named("one", "two", "three")
    acme = create_workspace("acme", actor="test")
    set_chain(one, [two], actor="test")
    set_chain(one, [three], workspace=acme, actor="test")
    set_chain(two, [one], workspace=acme, actor="test")
    with pytest.raises(ChainRefused):
        reset_chain(one, acme, actor="test")
    reset_chain(two, acme, actor="test")
    reset_chain(one, acme, actor="test")
    reset_chain(one, acme, actor="test")
    assert chains_in_force(acme) == {"one": ["two"]}
