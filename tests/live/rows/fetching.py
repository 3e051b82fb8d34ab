"""The gateway as it is served, in a world in which every public address leads to one stranger's port of loopback.

The judge is the real one; what is not public is not dialled, so a request at the stranger is the proof of a connection.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Hashable

from infery_site.asgi import new_application
from infery_site.fetch import Limits
from infery_site.lifespan import Runtime, new_gateway
from tests.unit.infery_site.fetch.strangers import PUBLIC, Stranger, World

STRANGER_PORT = "TESTS_STRANGER_PORT"
PRIVATE = "10.0.0.1"
LIMITS = Limits(total_s=6.0, head_s=1.0, failure_least_s=0.05)


class Names(World):
    """Some names lead elsewhere, or change their mind at each look-up."""

    async def resolve(self, host: str, port: int, asker: Hashable = None, /) -> list[str]:
        kind = host.partition(".")[0]
        if kind == "nobody":
            raise socket.gaierror(socket.EAI_NONAME, "not known")
        self.looked_up.append(host)
        if kind == "rebinding" and self.looked_up.count(host) > 1:
            return [PRIVATE]
        return {"inside": [PRIVATE], "mixed": [PUBLIC, PRIVATE], "metadata": ["169.254.169.254"]}.get(kind, [PUBLIC])


def _world() -> World:
    stranger = Stranger()
    stranger.port = int(os.environ[STRANGER_PORT])
    return Names(stranger)


application = new_application(Runtime(lambda: new_gateway(_world().fetcher(LIMITS))))
