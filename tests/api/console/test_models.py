"""The page of models: how each fared within a day, and which of them the filters of price leave."""

from __future__ import annotations

import re
from datetime import timedelta
from html import escape
from urllib.parse import urlencode

import pytest
from django.utils import timezone

from billing.models import RequestTrace
from chat.models import CatalogModel, Price, Provider, Target
from tests.api.console.test_figures import rows_of

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("two_models")]


def tried(model: str, failed: int, tries: int, *, hours: int = 1) -> None:
    for number in range(tries):
        result = "upstream_error" if number < failed else "served"
        attempt = {"model": model, "provider": "sandbox", "upstream_model": "echo", "result": result, "duration_ms": 200}
        at = timezone.now() - timedelta(hours=hours)
        RequestTrace.objects.create(generation=f"chatcmpl-{model}-{hours}-{number}", attempts=[attempt], created_at=at)


@pytest.mark.parametrize(
    ("failed", "tries", "words"),
    [
        (0, 2, "Not known too few calls in 24 hours"),
        (0, 20, "Healthy 100.0 % answered, half within 200 ms"),
        (1, 20, "Degraded 95.0 % answered"),
        (10, 20, "Failing 50.0 % answered"),
    ],
)
def test_a_model_tells_how_it_fared_within_a_day(as_role, failed, tries, words):
    tried("asked", failed, tries)
    tried("other", 5, 5, hours=25)
    page = as_role("developer")("models").content.decode()
    asked, other = rows_of(page)
    assert words in asked
    assert "Not known" in other
    assert "playground?model=asked" in page
    assert "playground?model" not in as_role("viewer")("models").content.decode()


@pytest.fixture
def priced(two_models) -> None:
    """`asked` costs 2.5 and 10 credits per million tokens, `other` 0.15 and 60, a third one nothing."""
    free = CatalogModel.objects.create(slug="free", name="free", owned_by="tests", context_window=1000, max_output_tokens=100)
    Target.objects.create(model=free, provider=Provider.objects.get(slug="sandbox"), upstream_model="echo")
    for model, input_, output in ((two_models[0], 2_500_000, 10_000_000), (two_models[1], 150_000, 60_000_000), (free, 0, 0)):
        Price.objects.create(model=model, input_microcredits=input_, output_microcredits=output)


def slugs_of(page: str) -> list[str]:
    return [row.split(" ")[0] for row in rows_of(page)] if "<tbody>" in page else []


@pytest.mark.usefixtures("priced")
@pytest.mark.parametrize(
    ("query", "slugs"),
    [
        ("", ["asked", "free", "other"]),
        ("max_input=2.5", ["asked", "free", "other"]),
        ("max_input=2.499999", ["free", "other"]),
        ("max_output=10", ["asked", "free"]),
        ("max_input=1&max_output=59", ["free"]),
        ("max_input=0", ["free"]),
        ("max_input=3&q=the", ["other"]),
        ("max_input=3&ability=vision", []),
        ("max_input=&max_output=+10.00+", ["asked", "free"]),
    ],
)
def test_models_are_those_within_the_price_and_the_other_filters(as_role, query, slugs):
    page = as_role("viewer")(f"models?{query}")
    text = page.content.decode()
    assert (page.status_code, slugs_of(text)) == (200, slugs)
    assert ("Clear filters" in text) == bool(query)


@pytest.mark.slow
@pytest.mark.usefixtures("priced")
@pytest.mark.parametrize("wrong", ["cheap", "-1", "2,5", "1e3", "nan", "0.0000001", "9" * 40, "٣", "1\x002", '"><b xss>'])
def test_a_price_that_cannot_be_read_is_told_at_its_field_and_leaves_nothing_out(as_role, wrong):
    page = as_role("viewer")(f"models?{urlencode({'max_input': wrong, 'max_output': '10'})}")
    text = page.content.decode()
    assert (page.status_code, slugs_of(text)) == (400, ["asked", "free"])
    field = re.search(r'<input[^>]*name="max_input"[^>]*>', text)[0]
    assert f'value="{escape(wrong)}"' in field
    assert 'aria-invalid="true" aria-describedby="max_input-error"' in field
    assert re.search(r'id="max_input-error">.*?Write credits as a number, 0 or more, such as 2\.5', text)
    assert "max_output-error" not in text
    assert "<b xss>" not in text
