"""An ASGI application behind the protocol of the gateway, on a socket of loopback."""

import asyncio
from contextlib import asynccontextmanager

from uvicorn.config import Config
from uvicorn.server import ServerState

from infery_site.protocol import LimitedHttpProtocol


@asynccontextmanager
async def serving(application, state=None, *, listener=None, **options):
    """Gives host and port. `state` is that of a server, which knows its connections; `listener` a socket that is bound."""
    options |= {"http": LimitedHttpProtocol, "ws": "none", "lifespan": "off", "log_config": None, "access_log": False}
    config = Config(application, **options)
    config.load()
    state = state or ServerState()
    place = {"host": "127.0.0.1", "port": 0} if listener is None else {"sock": listener}
    server = await asyncio.get_running_loop().create_server(lambda: LimitedHttpProtocol(config, state, {}), **place)
    try:
        yield server.sockets[0].getsockname()
    finally:
        server.close()
        for protocol in list(state.connections):
            protocol.transport.abort()
        await server.wait_closed()
        await asyncio.sleep(0)
