"""An ASGI application behind the protocol of the gateway, on a socket of loopback."""

import asyncio
from contextlib import asynccontextmanager

from uvicorn.config import Config
from uvicorn.server import ServerState

from infery_site.protocol import LimitedHttpProtocol


@asynccontextmanager
async def serving(application, state=None, **options):
    """Gives host and port. `state` is that of a server, which knows its connections."""
    options |= {"http": LimitedHttpProtocol, "ws": "none", "lifespan": "off", "log_config": None, "access_log": False}
    config = Config(application, **options)
    config.load()
    state = state or ServerState()
    server = await asyncio.get_running_loop().create_server(lambda: LimitedHttpProtocol(config, state, {}), "127.0.0.1", 0)
    yield server.sockets[0].getsockname()
    server.close()
    await server.wait_closed()
    for protocol in list(state.connections):
        protocol.transport.abort()
    await asyncio.sleep(0)
