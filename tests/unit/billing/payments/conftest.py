"""Payments against a server that speaks as Stripe does."""

from __future__ import annotations

import pytest

from billing.payments import auto
from billing.payments.auto import Auto
from tests.fakes.stripe_api import switched_on
from tests.unit.billing.payments.paying import paid
from tests.worlds import ACTOR


@pytest.fixture
def stripe(settings):
    with switched_on(settings) as fake:
        yield fake


@pytest.fixture
def automatic(acme, stripe):
    """Acme's card is kept, and credit is bought below 900 credits, 600 at a time, at most 1500 a month."""
    paid(stripe, acme, keeps_card=True)
    auto.set_auto(acme.workspace, Auto(threshold=900, amount=600, ceiling=1500), actor=ACTOR)
    return acme
