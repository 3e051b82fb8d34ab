"""What the last sweep of any process knew of the clock."""

from __future__ import annotations

from django.db import models


class ClockReading(models.Model):
    """One row, written by each pass of `billing.sweeping`; its successor goes on from there, also in another process.

    All durations count on the monotonic clock of the machine, since the start that `boot` names.
    """

    singleton = models.BooleanField(default=True, unique=True, editable=False)
    now = models.DateTimeField(help_text="The database's clock.")
    boot = models.CharField(max_length=64, blank=True)
    monotonic = models.DurationField()
    watched_since = models.DurationField()
    steady_from = models.DurationField()

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(singleton=True), name="clock_reading_is_one_row")]

    def __str__(self) -> str:
        return f"{self.now:%Y-%m-%d %H:%M:%S}"
