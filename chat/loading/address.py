"""Which addresses a provider may have (pure).

This judges what can be told from the text alone; a name that resolves to a private address is for the socket to refuse.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

SANDBOX = "sandbox:"

# What a resolver may take for an address although it is not one's usual writing: 127.1, 0x7f000001, 017700000001.
_NUMBER_LIKE = re.compile(r"(0x[0-9a-f]*|[0-9]+)(\.(0x[0-9a-f]*|[0-9]+))*\.?", re.IGNORECASE)
_VERSION = re.compile(r"(api-version=[0-9A-Za-z.-]{1,32})?")
_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_]([a-z0-9_-]{0,62}))*", re.IGNORECASE)


class AddressRefused(ValueError):
    """The message says what is wrong with the address."""


def check_base_url(base_url: str, *, allow_private: bool) -> None:
    """Raises AddressRefused unless this is `sandbox:`, or an http(s) address that may be called."""
    if base_url == SANDBOX:
        return
    if not base_url.isascii() or not base_url.isprintable() or " " in base_url or "\\" in base_url:
        raise AddressRefused("The address holds characters that no URL has.")
    try:
        parts = urlsplit(base_url)
        port = parts.port
    except ValueError:
        raise AddressRefused("The address cannot be read as a URL.") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise AddressRefused('The address must begin with http:// or https://, or be "sandbox:".')
    if port == 0:
        raise AddressRefused("The address has a port that cannot be.")
    if "@" in parts.netloc or parts.fragment or not _VERSION.fullmatch(parts.query):
        raise AddressRefused("The address must have no user, password or fragment, and no query but Azure's api-version.")
    _check_host(parts.hostname, allow_private=allow_private)


def _check_host(host: str, *, allow_private: bool) -> None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        if _NUMBER_LIKE.fullmatch(host) or not _NAME.fullmatch(host):
            raise AddressRefused("The host is neither a name nor an address in its usual writing.") from None
        is_private = host == "localhost" or host.endswith((".localhost", ".local", ".internal"))
    else:
        if address.is_link_local or address.is_multicast or address.is_unspecified:
            raise AddressRefused("The address is link-local, multicast or unspecified, where no provider can be.")
        is_private = not address.is_global
    if is_private and not allow_private:
        raise AddressRefused("The address lies in a private network; set allow_private_address if that is meant.")
