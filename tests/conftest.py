"""Fixtures of the whole suite: a database that can be emptied although its rows may not be deleted, and who lives in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from asgiref.sync import SyncToAsync
from django.db import connection, connections
from hypothesis import HealthCheck, settings
from pytest_django.plugin import DjangoDbBlocker

from tests.engine_plugin import DATABASE_FIXTURES
from tests.flushing import flushing_quickly, kept_rows
from tests.migrated import copy_sqlite, create_database
from tests.worlds import World, make_world

# No test may fail because the machine is slow.
settings.register_profile("unhurried", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def django_db_keepdb(django_db_modify_db_settings: None) -> bool:
    """The database of this process is there when Django asks for it: it begins as a copy of what was migrated once.

    It is left behind, and goes with the folder or the server of the run.
    """
    name = connection.creation.test_db_signature()[-1]
    if connection.vendor == "sqlite":
        copy_sqlite(Path(name))
    else:
        create_database(os.environ["DATABASE_URL"], name, is_migrated=True)
    return True


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Lets Django empty the tables after a transactional test; see `tests.flushing`."""
    # Threads give a connection back when they are done with it: a server has a limited number of them.
    connections.settings["default"]["CONN_MAX_AGE"] = 0
    with django_db_blocker.unblock():
        kept = kept_rows()
    with flushing_quickly(kept):
        yield


@pytest.fixture(autouse=True)
def _close_connections_of_threads(request: pytest.FixtureRequest) -> Iterator[None]:
    """`sync_to_async` runs database code in a thread that outlives the test; its connection would outlive it too."""
    yield
    if not DATABASE_FIXTURES.isdisjoint(request.fixturenames):
        SyncToAsync.single_thread_executor.submit(connections.close_all).result()


@pytest.fixture
def acme(db: None) -> World:
    """Funded: 1,000 credits."""
    return make_world("Acme", credits=1000)


@pytest.fixture
def broke(db: None) -> World:
    """Has a key and not one credit."""
    return make_world("Broke", credits=0)


@pytest.fixture
def rival(db: None) -> World:
    """Funded as well; must never see or change anything of acme's."""
    return make_world("Rival", credits=1000)
