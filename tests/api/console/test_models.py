"""The models of a workspace, as its members see them."""

from datetime import timedelta

import pytest
from django.utils import timezone

from chat.models import CatalogModel, Price, Provider, Target

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(("days", "words"), [(-1, "Deprecated since"), (0, "Deprecated since"), (1, "Deprecated from")])
def test_a_model_says_when_it_is_deprecated(acme, as_role, days, words):
    day = timezone.now().date() + timedelta(days=days)
    row = CatalogModel.objects.create(
        slug="old", name="O", owned_by="x", context_window=1, max_output_tokens=1, deprecated_on=day
    )
    provider = Provider.objects.create(slug="sandbox", dialect="openai", base_url="sandbox:")
    Target.objects.create(model=row, provider=provider, upstream_model="echo")
    Price.objects.create(model=row, input_microcredits=1, output_microcredits=1)
    visit = as_role("viewer")
    assert f"{words} {day.day} {day:%b %Y}" in visit("models").content.decode()
    CatalogModel.objects.update(deprecated_on=None)
    assert "Deprecated" not in visit("models").content.decode()
