"""A provider inside this process, for trying everything with no key and no network, and for customers' own tests.

It speaks the OpenAI dialect in both modes with real bytes, so everything behind the transport runs as with any
provider. Equal requests get equal answers. Directives in the last user message make it fail, wait, break off, call
tools or talk at length; see `directives.py`.

    transport.py    the httpx transport: statuses, waiting, pace, broken bodies
    directives.py   what may stand between [[ and ]]
    answers.py      what is answered
    instances.py    the smallest value a JSON schema allows
    wire.py         the answer in OpenAI's shapes
"""

from __future__ import annotations

from chat.sandbox.transport import SandboxTransport

__all__ = ["SandboxTransport"]
