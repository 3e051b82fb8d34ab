"""The ASGI application: the paths that go around Django, the lifespan, and Django behind a body limit for all else."""

from __future__ import annotations

import os
from typing import Any

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "infery_site.settings")
django_application = get_asgi_application()

from django.conf import settings
from django.core.signals import request_finished
from django.db import connections

from chat.routing import routes
from files.api.uploading import Uploads
from infery_site.lifespan import Lifespan, Runtime
from infery_site.middleware import Application, BodyLimit


def _close_connections(**_signal: Any) -> None:
    """Django gives each request a thread of its own here, so nobody could use its connection again.

    It would stay open until the garbage collector finds it, and a database takes a limited number of them.
    """
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()


request_finished.connect(_close_connections)


def new_application(runtime: Runtime) -> Application:
    """What a server runs, around one process's parts."""
    lifespan = Lifespan(runtime)
    chat_routes = routes(runtime)
    django = BodyLimit(
        django_application,
        limit_bytes=settings.BODY_LIMIT_BYTES,
        chunk_timeout_s=settings.BODY_CHUNK_TIMEOUT_S,
        total_timeout_s=settings.BODY_TOTAL_TIMEOUT_S,
    )
    uploads = Uploads(django)

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            # Whatever answers it: the process does not leave while a body is on its way.
            runtime.open_requests += 1
            try:
                await chat_routes.get(scope["raw_path"], uploads)(scope, receive, send)
            finally:
                runtime.open_requests -= 1
        elif scope["type"] == "lifespan":
            await lifespan(scope, receive, send)

    if settings.CORS_ALLOWED_ORIGINS:
        from infery_site.crossing import CrossOrigin  # noqa: PLC0415 - nearly nobody needs what it imports

        return CrossOrigin(answer, settings.CORS_ALLOWED_ORIGINS)
    return answer


application = new_application(Runtime())
