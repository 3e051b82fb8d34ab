"""The gateway's own settings with short leases, so that a test can outlive them."""

from infery_site.settings import *  # noqa: F403 - all of them, and three changed

HOLD_LEASE_S = 2.0
LEASE_RENEW_S = 0.5
SWEEP_EVERY_S = 0.3
