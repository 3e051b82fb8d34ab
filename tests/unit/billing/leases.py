"""Holds that nobody settles, who sweeps them, and who is in the way."""

from contextlib import ExitStack

from django.db import connection

from billing.sweeping import Sweeper
from tests.unit.billing.books import admit, other_connection, with_writer


def hold_and_leave(subject, *amounts):
    """The holds of a process that was killed before it settled them."""
    return with_writer(lambda writer: admit(writer, subject, amounts))


def sweep():
    """A pass of whoever does not care how the clock runs."""
    return Sweeper().sweep(is_forced=True)


def in_thread(work):
    """`work` for another thread, whose connection ends with it."""

    def call():
        try:
            return work()
        finally:
            connection.close()

    return call


def locked_hold(generation):
    """Another connection that keeps the row of a hold, or on SQLite the file."""
    stack = ExitStack()
    other = stack.enter_context(other_connection())
    if connection.vendor == "postgresql":
        other.execute("SELECT 1 FROM billing_hold WHERE generation = %s FOR UPDATE", [generation])
    return stack
