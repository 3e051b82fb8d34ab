"""A port of loopback for a server that is started a moment later, and again after it was stopped."""

from __future__ import annotations

import random
import socket

_BELOW_EPHEMERAL = (20_000, 32_000)
"""The system gives none of these to an outgoing connection, which could otherwise take it before the server does."""
_CHOICES = random.SystemRandom()  # tests seed the other one, so that two at once would choose the same


def free_port() -> int:
    """Nothing listens on it."""
    while True:
        port = _CHOICES.randrange(*_BELOW_EPHEMERAL)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
