"""The settings of the killed gateway, in which a test may name the point at which it dies."""

from tests.live.hasty import *  # noqa: F403 - all of them, and some changed

ARE_FAILPOINTS_ALLOWED = True
IDEMPOTENCY_LEASE_S = 2.0
