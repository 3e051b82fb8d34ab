"""What a browser asks of the site by itself."""

from __future__ import annotations

from django.contrib.staticfiles import finders
from django.test import Client


def test_the_icon_is_found_by_its_usual_name():
    """By a redirect: a file that is found by a finder has no other address."""
    asked = Client().get("/favicon.ico")
    assert asked.status_code == 302
    assert finders.find(asked["location"].removeprefix("/static/"))
