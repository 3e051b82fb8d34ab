"""`manage.py serve`: the production server, one process per worker. `run.py` starts it, too."""

from __future__ import annotations

import os
import resource
import signal
import types
from contextlib import suppress
from typing import Any, NoReturn

import uvicorn
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from uvicorn.config import STARTUP_FAILURE

from chat.management.supervisor import Supervisor
from infery_site import telemetry
from infery_site.protocol import LimitedHttpProtocol

GRACEFUL_SHUTDOWN_S = 5  # after draining: see `infery_site.lifespan`
START_LIMIT_S = 60  # of a worker that takes the place of another on SIGHUP, and of one that does not answer
MOST_DESCRIPTORS = 65_536
KEEP_ALIVE_S = 65  # longer than clients and proxies keep idle connections, so that none is used while it closes


class Command(BaseCommand):
    help = "Serve the gateway until SIGTERM or Ctrl-C; open requests get time to end."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=8000)
        parser.add_argument("--workers", type=int, default=1, help="processes; one per core serves most")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["workers"] < 1:
            raise CommandError("--workers must be 1 or more")
        _raise_descriptor_limit()
        # uvicorn raises the signal that ended it once more when it is done; without a handler that would be a kill.
        signal.signal(signal.SIGTERM, _leave)
        os.environ["INFERY_WORKERS"] = str(options["workers"])  # the workers read the settings anew
        with telemetry.shared_by(options["workers"]):
            _serve(options)


def _serve(options: dict[str, Any]) -> None:
    config = uvicorn.Config(
        ":".join(settings.ASGI_APPLICATION.rsplit(".", 1)),
        host=options["host"],
        port=options["port"],
        workers=options["workers"],
        loop="uvloop",
        http=LimitedHttpProtocol,
        ws="none",
        lifespan="on",
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_S,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_worker_healthcheck=START_LIMIT_S,
        access_log=False,
        server_header=False,
        log_config=None,
        proxy_headers=bool(settings.TRUSTED_PROXIES),
        forwarded_allow_ips=settings.TRUSTED_PROXIES,
    )
    if config.workers > 1:
        Supervisor(config, [config.bind_socket()]).run()
        return
    server = uvicorn.Server(config)
    with suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        raise SystemExit(STARTUP_FAILURE)


def _raise_descriptor_limit() -> None:
    """As many open files as the system lets this process have: each stream has two connections, and 1,024 is a usual default."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _leave(_signal: int, _frame: types.FrameType | None) -> NoReturn:
    raise SystemExit(0)
