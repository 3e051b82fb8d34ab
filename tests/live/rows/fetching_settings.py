"""The settings of the live suite, for a gateway that fetches in a world of its own."""

from tests.live.settings import *  # noqa: F403 - all of them, and one changed

ASGI_APPLICATION = "tests.live.rows.fetching.application"
