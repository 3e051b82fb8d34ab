"""The ledger's own connection is made as the URL of the database says."""

import asyncio

import pytest
from django.db import connection

from billing.ledger.effects import LedgerDown
from billing.ledger.engines import engine_of_django
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
