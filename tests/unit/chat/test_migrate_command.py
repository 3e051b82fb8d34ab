"""`migrate` beside somebody who does not let go of a table: nobody waits behind it, and it comes to its end later."""

from __future__ import annotations

import io
from contextlib import closing

import pytest
from django.core.management import call_command
from django.db import OperationalError, connection
from django.db.migrations.recorder import MigrationRecorder

pytestmark = pytest.mark.django_db(transaction=True)

BEFORE, LAST = "0031_disputes_by_id", "0032_owed_credit"


@pytest.fixture
def busy():
    """Another connection, in the middle of something: it has read payments, or on SQLite, where that keeps nobody, it writes."""
    with closing(connection.copy()) as other:
        with other.cursor() as cursor:
            if connection.vendor == "postgresql":
                cursor.execute("BEGIN")
                cursor.execute("SELECT count(*) FROM billing_payment")
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


@pytest.mark.slow
def test_it_waits_briefly_and_tries_again(old_schema, busy):
    said = Said(busy)
    call_command("migrate", "--lock-pause=0", verbosity=0, stderr=said)
    assert is_migrated()
    assert said.getvalue().count("in use by somebody") == 1


@pytest.mark.slow
def test_it_gives_up_in_the_end_and_nothing_is_half_done(old_schema, busy):
    with pytest.raises(OperationalError):
        call_command("migrate", "--lock-tries=1", verbosity=0)
    busy.cursor().execute("ROLLBACK")
    assert not is_migrated()
    with connection.cursor() as cursor:
        columns = connection.introspection.get_table_description(cursor, "billing_payment")
    assert "owed_microcredits" not in {column.name for column in columns}


@pytest.mark.slow
def test_no_try_at_all_is_one_try():
    call_command("migrate", "billing", BEFORE, "--lock-tries=0", verbosity=0)
    call_command("migrate", "--lock-tries=0", verbosity=0)
    assert is_migrated()
