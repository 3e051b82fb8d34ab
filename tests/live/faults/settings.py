"""The settings of the live suite with little patience for an environment in trouble, and leases that tests can outlive."""

import os

from tests.live.settings import *  # noqa: F403 - all of them, and some changed

ASGI_APPLICATION = "tests.live.faults.application.application"
# The same for all servers of a siege: each cuts leases that it could not have written. Longer than any outage here.
HOLD_LEASE_S = 15.0
LEASE_RENEW_S = 1.0
SWEEP_EVERY_S = 1.0
BREAKER_FAILURES = int(os.environ.get("TESTS_BREAKER_FAILURES", "1000000"))
DATABASE_ANSWER_S = float(os.environ.get("TESTS_ANSWER_S", "2"))
STORE_CONNECT_S = STORE_READ_S = float(os.environ.get("TESTS_STORE_S", "2"))
