"""`migrate` beside somebody who does not let go of a table: nobody waits behind it, and it comes to its end later."""

from __future__ import annotations

import io
from contextlib import closing

import pytest
from django.core.management import call_command
from django.db import OperationalError, connection
from django.db.migrations.recorder import MigrationRecorder

pytestmark = pytest.mark.django_db(transaction=True)

BEFORE, LAST = "0028_alerts_of_quotas_fallbacks_models", "0029_usage_by_model"


@pytest.fixture
def writer():
    """Another connection, in the middle of writing records."""
    with closing(connection.copy()) as other:
        with other.cursor() as cursor:
            if connection.vendor == "postgresql":
                cursor.execute("BEGIN")
                cursor.execute("LOCK TABLE billing_usagerecord IN ROW EXCLUSIVE MODE")
            else:
                cursor.execute("BEGIN IMMEDIATE")
        yield other


@pytest.fixture
def old_schema():
    call_command("migrate", "billing", BEFORE, verbosity=0)
    yield
    call_command("migrate", verbosity=0)


def is_migrated():
    return ("billing", LAST) in MigrationRecorder(connection).applied_migrations()


class Said(io.StringIO):
    """Hears that it is tried again, and ends what is waited for."""

    def __init__(self, writer):
        super().__init__()
        self._writer = writer

    def write(self, text):
        if "tried again" in text:
            self._writer.cursor().execute("COMMIT")
        return super().write(text)


def test_it_waits_briefly_and_tries_again(old_schema, writer):
    said = Said(writer)
    call_command("migrate", "--lock-pause=0", verbosity=0, stderr=said)
    assert is_migrated()
    assert said.getvalue().count("in use by somebody") == 1


def test_it_gives_up_in_the_end_and_nothing_is_half_done(old_schema, writer):
    with pytest.raises(OperationalError):
        call_command("migrate", "--lock-tries=1", verbosity=0)
    writer.cursor().execute("ROLLBACK")
    assert not is_migrated()
