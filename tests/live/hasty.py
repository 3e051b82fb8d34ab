"""The gateway's own settings with short leases, and little patience with clients that do not read, so that a test can outlive them."""

from infery_site.settings import *  # noqa: F403 - all of them, and some changed

# As many rounds and passes as in production. What a writer waits for between two tries (a second at most) is well below the watch of a sweeper.
HOLD_LEASE_S = 4.5
LEASE_RENEW_S = 1.5
SWEEP_EVERY_S = 0.75
CLIENT_STALL_S = 1.0
