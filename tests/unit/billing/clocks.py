"""A database's clock that can be set, beside one that can only run on; and sweepers that look at both."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from billing.sweeping import ROUNDS_OF_RENEWAL, Sweeper


class Clocks:
    """Both stand still unless they are told otherwise; at first the database's shows the time of now."""

    def __init__(self):
        self._now = timezone.now()
        self._monotonic_s = 1000.0
        self.boot = "this start of the machine"
        self.failure = None

    def now(self):
        if self.failure is not None:
            raise self.failure
        return self._now

    def monotonic(self):
        return self._monotonic_s

    def wait(self, seconds):
        self._monotonic_s += seconds
        self.jump(seconds)

    def jump(self, seconds):
        """Set the database's clock by so much."""
        self._now += timedelta(seconds=seconds)

    def sweeper(self):
        """A new one, as of a process that starts now: it goes on from the last pass of any."""
        return Sweeper(now=self.now, monotonic=self.monotonic, boot=lambda: self.boot)

    def watching_sweeper(self):
        """One that has watched for long enough, at this moment."""
        sweeper = self.sweeper()
        for _ in range(ROUNDS_OF_RENEWAL):
            sweeper.sweep()
            self.wait(settings.LEASE_RENEW_S)
        return sweeper
