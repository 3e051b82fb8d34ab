"""The page of models: how each fared within a day."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from billing.models import RequestTrace
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
