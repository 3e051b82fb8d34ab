"""A receiver of webhooks: a real server on a port of this machine that answers what it is told and keeps what it got."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler

from tests.fakes.served import Quiet, Served


class Receiver(Served):
    """`got` has headers, by names in lower case, and body of each message; `status` is what it answers, while `speaks` is set."""

    def __init__(self) -> None:
        self.status = 204
        self.speaks = threading.Event()
        self.speaks.set()
        self.got: list[tuple[dict[str, str], bytes]] = []
        receiver = self

        class Handler(Quiet, BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
                receiver.speaks.wait(30)
                self.send_response(receiver.status)
                self.send_header("location", f"{receiver.url}/elsewhere")
                self.send_header("content-length", "0")
                self.end_headers()

        super().__init__(Handler)
        self.url += "/hooks"
