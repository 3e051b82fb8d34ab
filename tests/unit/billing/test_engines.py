"""The ledger's own connection is made as the URL of the database says."""

import asyncio

import pytest
from django.db import connection

from billing.ledger.effects import LedgerDown
from billing.ledger.engines import engine_of_django
from billing.ledger.sqlite import SqliteEngine
from infery_site import env

SSL_REQUEST = bytes.fromhex("00000008 04d2162f")

pytestmark = pytest.mark.django_db


async def test_the_ledger_talks_to_no_server_without_the_encryption_that_the_url_asks_for(monkeypatch):
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has no server")
    heard, is_over = [], asyncio.Event()

    async def no_encryption_here(reader, writer):
        heard.append(await reader.read(1000))
        writer.write(b"N")
        heard.append(await reader.read(1000))
        writer.close()
        await writer.wait_closed()
        is_over.set()

    server = await asyncio.start_server(no_encryption_here, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    url = f"postgres://gateway:secret@127.0.0.1:{port}/name?sslmode=verify-full&gssencmode=disable"
    for name, value in env.database(url, None).items():
        monkeypatch.setitem(connection.settings_dict, name, value)
    with pytest.raises(LedgerDown, match="does not support SSL"):
        await engine_of_django().run([])
    await asyncio.wait_for(is_over.wait(), 5)
    server.close()
    await server.wait_closed()
    assert heard == [SSL_REQUEST, b""]


async def test_sqlite_commits_to_the_disk_and_keeps_what_is_temporary_in_memory(tmp_path):
    (tmp_path / "ledger.sqlite3").touch()
    engine = SqliteEngine(str(tmp_path / "ledger.sqlite3"))
    names = ("journal_mode", "synchronous", "foreign_keys", "temp_store")
    told = await engine._in_thread(lambda opened: [opened.execute(f"PRAGMA {name}").fetchone()[0] for name in names])
    await engine.close()
    assert told == ["wal", 2, 1, 2]


async def test_what_was_left_open_in_sqlite_is_undone_and_never_committed(tmp_path):
    (tmp_path / "ledger.sqlite3").touch()
    engine = SqliteEngine(str(tmp_path / "ledger.sqlite3"))
    await engine._in_thread(lambda opened: opened.executescript("CREATE TABLE kept (n); BEGIN; INSERT INTO kept VALUES (1)"))
    with pytest.raises(LedgerDown, match="has no end"):
        await engine.run([])
    kept = await engine._in_thread(lambda opened: opened.execute("SELECT n FROM kept").fetchall())
    await engine.close()
    assert kept == []
