"""One strict parser of URLs that strangers give (pure). What it reads is what is dialled; nobody else reads them again.

Refused is whatever two parsers might understand in two ways: users and passwords, backslashes, white space and control
characters anywhere, ports out of the ordinary, hosts that look like numbers without being an address in its one usual
writing. A host in another script is mapped to ASCII first (UTS 46) and judged after that, so that an address in
fullwidth digits is what it becomes. Characters beyond ASCII in a path are sent percent-encoded, as browsers do.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from urllib.parse import quote, urljoin

import idna
import msgspec

from infery_site.fetch.errors import InvalidImageUrl

MAX_LENGTH = 8_192

_URL = re.compile(r"(https?)://([^/?#]*)([^#]*)(?:#.*)?", re.IGNORECASE)
_AUTHORITY = re.compile(r"(\[[0-9a-f:]*\]|[^:\[\]@]+)(?::([1-9][0-9]{0,4}))?", re.IGNORECASE)
_NEVER = re.compile(r'[\s"<>\\^`{|}]')
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_MAX_HOST_LENGTH = 253
_DEFAULT_PORTS = {"http": 80, "https": 443}
# Everything that is printable ASCII: what must not be there was refused, what is there is sent as it came.
_SENT_AS_IT_IS = "".join(map(chr, range(0x21, 0x7F)))


class Target(msgspec.Struct, frozen=True):
    """What a URL names. `host` is in lower case and ASCII, an IPv6 address without brackets; `path` includes the query."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def is_literal(self) -> bool:
        return ":" in self.host or _NUMBER.fullmatch(self.host.rpartition(".")[2]) is not None


def parse(url: str, ports: Collection[int]) -> Target:
    """The target of an absolute URL. Raises InvalidImageUrl."""
    if len(url) > MAX_LENGTH or not url.isprintable() or _NEVER.search(url):
        raise InvalidImageUrl
    match = _URL.fullmatch(url)
    authority = _AUTHORITY.fullmatch(match[2]) if match else None
    if match is None or authority is None:
        raise InvalidImageUrl
    scheme = match[1].lower()
    port = int(authority[2] or _DEFAULT_PORTS[scheme])
    if port not in ports:
        raise InvalidImageUrl
    path = quote(match[3], safe=_SENT_AS_IT_IS)
    return Target(scheme, _host(authority[1]), port, path if path.startswith("/") else f"/{path}")


def follow(target: Target, location: bytes, ports: Collection[int]) -> Target:
    """Where a redirect from `target` leads. Raises InvalidImageUrl, also for one that leaves https."""
    try:
        reference = location.decode()
    except UnicodeDecodeError:
        raise InvalidImageUrl from None
    if len(reference) > MAX_LENGTH or not reference.isprintable() or _NEVER.search(reference):
        raise InvalidImageUrl  # before anyone may drop or repair what makes it bad
    try:
        url = urljoin(f"{target.scheme}://{target.authority}{target.path}", reference)
    except ValueError:
        raise InvalidImageUrl from None
    following = parse(url, ports)
    if target.scheme == "https" and following.scheme == "http":
        raise InvalidImageUrl
    return following


def _host(text: str) -> str:
    if text.startswith("["):
        return _ipv6(text[1:-1].lower())
    if len(text) > _MAX_HOST_LENGTH + 1:
        raise InvalidImageUrl
    try:
        host = (text if text.isascii() else idna.encode(text, uts46=True).decode()).lower()
    except (idna.IDNAError, UnicodeError):
        raise InvalidImageUrl from None
    host = host.removesuffix(".")
    if len(host) > _MAX_HOST_LENGTH or not _NAME.fullmatch(host):
        raise InvalidImageUrl
    if _NUMBER.fullmatch(host.rpartition(".")[2]):
        return _ipv4(host)
    return host


def _ipv4(text: str) -> str:
    try:
        address = ipaddress.IPv4Address(text)
    except ValueError:
        raise InvalidImageUrl from None
    return str(address)


def _ipv6(text: str) -> str:
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        raise InvalidImageUrl from None
    if str(address) != text:
        raise InvalidImageUrl
    return text
