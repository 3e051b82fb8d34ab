"""Which one of several processes does what only one should do at a time.

The elected one holds a lock that ends with its process or its connection, so a process that was killed blocks nobody.
PostgreSQL: an advisory lock of the session, on Django's connection. SQLite: a lock on a file beside the database.
"""

from __future__ import annotations

import fcntl
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from django.db import DatabaseError, InterfaceError, connection


@contextmanager
def elected(name: str) -> Iterator[bool]:
    """True while this process alone may do what `name` stands for; False if another one is at it. Never waits.

    Call it outside of a transaction. The election of one connection by itself a second time succeeds on PostgreSQL.
    """
    with _elected_on_postgresql(name) if connection.vendor == "postgresql" else _elected_by_file(name) as is_elected:
        yield is_elected


@contextmanager
def _elected_on_postgresql(name: str) -> Iterator[bool]:
    number = zlib.crc32(f"election of {name}".encode())
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [number])
        is_elected = bool(cursor.fetchone()[0])
    try:
        yield is_elected
    finally:
        if is_elected:
            # A connection that is gone took the lock with it.
            with suppress(DatabaseError, InterfaceError), connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [number])


@contextmanager
def _elected_by_file(name: str) -> Iterator[bool]:
    path = f"{connection.settings_dict['NAME']}-{name}-lock"
    lock_file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        is_elected = False
    else:
        is_elected = True
    try:
        yield is_elected
    finally:
        os.close(lock_file)
