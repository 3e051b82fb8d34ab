"""A migrated and empty database for each engine, made once in a run of the tests; the databases of a run begin as copies.

Migrating takes most of the time in which an installation is made, and a run makes a hundred of them. A test that breaks its
server of PostgreSQL has one of its own, which begins as a copy of a server with such a database.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit

import psycopg

from tests.postgres import PostgresServer
from tests.programs import run_python

FOLDER_ENV = "TESTS_MIGRATED"
"""Where the processes of a run keep the copies' source; set by `tests.engine_plugin`."""
TEMPLATE = "migrated"


def copy_sqlite(path: Path) -> None:
    """A migrated database in a file that is not there yet."""
    shutil.copyfile(_once("sqlite", lambda folder: _migrate(folder, "")) / "gateway.sqlite3", path)


def create_database(server_url: str, name: str, *, is_migrated: bool = False) -> str:
    """A database of its own on the server of `server_url`; gives its address. On the run's own server it may be migrated."""
    if not is_migrated:
        return _create(server_url, name)
    _once("postgresql", lambda folder: _migrate(folder, _emptied(server_url)))
    return copy_database(server_url, name)


def copy_database(server_url: str, name: str) -> str:
    """A migrated database on a server that has one already, such as `migrated_server`."""
    return _create(server_url, name, f' TEMPLATE "{TEMPLATE}"')


def migrated_server(*, environment: Mapping[str, str] | None = None) -> PostgresServer:
    """A server for a test alone, not started yet, on which `copy_database` gives databases."""
    return PostgresServer(environment=environment, data=_once("server", _make_server) / "data")


def _make_server(folder: Path) -> None:
    server = PostgresServer()
    try:
        server.start()
        _migrate(folder, _emptied(server.url))
        server.halt()
        shutil.rmtree(folder / "data", ignore_errors=True)
        shutil.copytree(server.data, folder / "data")
    finally:
        server.stop()


def _create(server_url: str, name: str, template: str = "") -> str:
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"{template}')
    return urlsplit(server_url)._replace(path=f"/{quote(name)}").geturl()


def _emptied(server_url: str) -> str:
    """The source of the copies, without what an attempt left behind that did not come to its end."""
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{TEMPLATE}" WITH (FORCE)')
    return create_database(server_url, TEMPLATE)


def _once(name: str, make: Callable[[Path], None]) -> Path:
    """The folder of that name, made by the first process of the run that asks for it."""
    folder = Path(os.environ[FOLDER_ENV]) / name
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "made").exists():
            make(folder)
            (folder / "made").touch()
    return folder


def _migrate(folder: Path, database_url: str) -> None:
    settings: Mapping[str, str] = {
        "INFERY_STATE_DIR": str(folder),
        "DATABASE_URL": database_url,
        "DJANGO_SETTINGS_MODULE": "infery_site.settings",
    }
    (folder / "gateway.sqlite3").unlink(missing_ok=True)
    run_python("manage.py", "migrate", "--verbosity", "0", environment=os.environ | settings)
