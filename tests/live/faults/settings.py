"""The settings of the live suite with little patience for an environment in trouble, and leases that tests can outlive."""

from tests.live.settings import *  # noqa: F403 - all of them, and some changed

ASGI_APPLICATION = "tests.live.faults.application.application"
HOLD_LEASE_S = 2.0
LEASE_RENEW_S = 0.5
SWEEP_EVERY_S = 0.3
DATABASE_ANSWER_S = 1.0
STORE_CONNECT_S = STORE_READ_S = 0.75
