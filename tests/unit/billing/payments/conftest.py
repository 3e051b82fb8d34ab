"""Payments against a server that speaks as Stripe does."""

from __future__ import annotations

import pytest

from tests.fakes.stripe_api import switched_on


@pytest.fixture
def stripe(settings):
    with switched_on(settings) as fake:
        yield fake
