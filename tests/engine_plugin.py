"""Chooses the database engine of a test run before Django reads its settings: `pytest --engine sqlite|postgresql`.

Loaded early by `-p` in pyproject.toml. It gives the run a state folder of its own, starts PostgreSQL when asked for
(in the controlling process only; workers of xdist inherit its address), clears what the caller's environment would
change, and refuses every connection that would leave this machine.

It also marks each test that uses the database of the run and may come out otherwise on the other engine, so that a run on
that can leave the rest out. None is forgotten: pytest-django refuses the database to every test that did not ask for it.
"""

from __future__ import annotations

import ipaddress
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import databaseless
from tests.migrated import FOLDER_ENV
from tests.postgres import PostgresServer, PostgresUnavailableError

DATABASE_FIXTURES = {"db", "transactional_db", "django_db_reset_sequences", "django_db_serialized_rollback", "live_server"}
DATABASE_FOLDERS = {"api", "live"}
OWN_ENGINE_FOLDER = "faults"
"""Its tests bring the databases that they break, so the engine of the run is nothing to them."""
EITHER_ENGINE_MODULES = {
    # What stands between the gateway and its providers, clients, stores and strangers.
    *("live/test_answers_on_the_wire", "live/test_breakers", "live/test_chains", "live/test_crossing_dialects"),
    *("live/test_dialects", "live/test_every_offset", "live/test_fallbacks"),
    *("live/test_file_buckets", "live/test_floods", "live/test_forkserver", "live/test_node_sdk", "live/test_pdf"),
    *("live/test_python_sdk", "live/test_python_sdk_errors", "live/test_reading", "live/test_stopping", "live/test_strict"),
    *("live/test_structured_outputs", "live/test_tries", "live/test_upstream_rows", "live/test_waiting"),
    *("live/rows/test_bodies", "live/rows/test_fetches", "live/rows/test_images", "live/rows/test_media"),
    *("live/rows/test_own_networks", "live/rows/test_pdfs", "live/rows/test_requests"),
    "unit/files/documents/test_odd_pdfs",
    # Tables of who may do what.
    *("api/admin/test_roles", "api/console/test_cells", "api/management/test_permissions"),
}
"""The database is only where these end, and what happens there is proven by the others."""
SETTINGS_NAMES = (
    *("SECRET_KEY", "FIELD_ENCRYPTION_KEYS", "RECEIPT_SIGNING_KEYS", "ALLOWED_HOSTS", "PUBLIC_URL", "TRUSTED_PROXIES"),
    *(
        "CORS_ALLOWED_ORIGINS",
        "DRAIN_LIMIT_S",
        "REDIS_URL",
        "STORAGE_URL",
        "OWN_NETWORKS",
        "METRICS_TOKEN",
        "DATABASE_URL",
        "OPENAI_API_KEY",
        "ANTHROPIC_API_KEY",
        "GEMINI_API_KEY",
    ),
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--engine", choices=["sqlite", "postgresql"], default="sqlite", help="database engine of this run")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Iterator[None]:
    """Runs around pytest-django's own hook, which reads the settings."""
    sys.addaudithook(refuse_outside_connections)
    if "PYTEST_XDIST_WORKER" not in os.environ:
        _prepare_environment(early_config)
    return (yield)


def _prepare_environment(config: pytest.Config) -> None:
    for name in SETTINGS_NAMES:
        os.environ.pop(name, None)
        os.environ.pop(f"{name}_FILE", None)
    folder = Path(tempfile.mkdtemp(prefix="gateway-tests-"))
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    os.environ["INFERY_STATE_DIR"] = str(folder)
    os.environ[FOLDER_ENV] = str(folder / "migrated")
    if config.known_args_namespace.engine == "postgresql":
        try:
            server = PostgresServer()
            config.add_cleanup(server.stop)
            server.start()
        except PostgresUnavailableError as error:
            raise pytest.UsageError(str(error)) from error
        os.environ["DATABASE_URL"] = server.url
    else:
        # A file, because the ledger writer and the server process open connections of their own.
        os.environ["INFERY_TEST_SQLITE"] = str(folder / "test.sqlite3")


def pytest_report_header(config: pytest.Config) -> str:
    return f"engine: {config.getoption('engine')}"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Before the deselection by `-m`, which reads the marks."""
    for item in items:
        if _uses_database(item):
            item.add_marker(pytest.mark.database)
    databaseless.note(config, items)


def _uses_database(item: pytest.Item) -> bool:
    place = item.path.relative_to(item.config.rootpath / "tests")
    if OWN_ENGINE_FOLDER in place.parts or place.with_suffix("").as_posix() in EITHER_ENGINE_MODULES:
        return False
    fixtures = set(getattr(item, "fixturenames", ()))
    return (
        item.get_closest_marker("django_db") is not None
        or not fixtures.isdisjoint(DATABASE_FIXTURES)
        or not DATABASE_FOLDERS.isdisjoint(place.parts)
    )


def refuse_outside_connections(event: str, arguments: tuple[object, ...]) -> None:
    """An audit hook of the interpreter: it sees each socket of this process, whatever library opened it."""
    if event in {"socket.connect", "socket.sendto"}:
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else None
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    else:
        return
    if host is not None and not _is_local(host.decode() if isinstance(host, bytes) else str(host)):
        raise RuntimeError(f"A test tried to reach {host}; no connection may leave this machine")


def _is_local(host: str) -> bool:
    if host in {"", "localhost"}:
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
