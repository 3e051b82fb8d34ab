"""The smallest ASGI answer on the gateway's own server: `python -m benchmarks.bare --port N --body FILE`.

It takes the body of the request and answers with the bytes of the file, which the benchmark fills with an answer of the
gateway. Server, event loop, HTTP protocol and options are those of `manage.py serve`, so that the ratio is about what the
gateway does and not about how it is served.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import uvicorn

from infery_site.protocol import LimitedHttpProtocol


class BareAnswer:
    """An ASGI application with one answer."""

    def __init__(self, body: bytes) -> None:
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        self._start = {"type": "http.response.start", "status": 200, "headers": headers}
        self._body = {"type": "http.response.body", "body": body, "more_body": False}

    async def __call__(self, _scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body", False):
            pass
        await send(self._start)
        await send(self._body)


def _main() -> None:
    parser = argparse.ArgumentParser(description="The smallest ASGI answer on the gateway's own server.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--body", type=Path, required=True)
    arguments = parser.parse_args()
    uvicorn.run(
        BareAnswer(arguments.body.read_bytes()),
        host="127.0.0.1",
        port=arguments.port,
        loop="uvloop",
        http=LimitedHttpProtocol,
        ws="none",
        lifespan="off",
        access_log=False,
        server_header=False,
        log_config=None,
        proxy_headers=False,
    )


if __name__ == "__main__":
    _main()
