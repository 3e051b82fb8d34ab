"""Which network addresses are public (pure): the one judge of everything that is dialled for a user or for staff.

Ranges that are allowed, not ranges that are refused, decide for IPv6, and a list on top of the standard library's
judgement for IPv4: `ipaddress.is_global` alone calls NAT64, 6to4 and some provider metadata addresses global.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

_NOT_PUBLIC_V4 = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "192.0.0.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
_UNICAST_V6 = ipaddress.IPv6Network("2000::/3")
_NOT_PUBLIC_V6 = tuple(ipaddress.IPv6Network(network) for network in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"))


def is_public(host: str) -> bool:
    """True if `host`, a literal IPv4 or IPv6 address, is reachable on the public internet and nowhere else."""
    address = _read(host)
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_global and not any(address in network for network in _NOT_PUBLIC_V4)
    return address is not None and address in _UNICAST_V6 and not any(address in network for network in _NOT_PUBLIC_V6)


class Judge:
    """`is_public`, less the networks of whoever runs the gateway that are public, and with those that he opens although not.

    Raises ValueError for a network that cannot be read.
    """

    def __init__(self, own_networks: Iterable[str] = (), *, opened: Iterable[str] = ()) -> None:
        self._own = tuple(map(ipaddress.ip_network, own_networks))
        self._opened = tuple(map(ipaddress.ip_network, opened))

    def __call__(self, host: str) -> bool:
        address = _read(host)
        if address is not None and any(address in network for network in self._opened):
            return True
        return is_public(host) and not any(address in network for network in self._own)


def unmapped(host: str) -> str:
    """The IPv4 address in dotted form that a socket for both kinds shows as `::ffff:...`; any other host as it is."""
    if not host.startswith("::ffff:"):
        return host
    address = _read(host)
    return host if address is None else str(address)


def _read(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that is meant: an IPv4 address that was mapped into IPv6 is that IPv4 address. One with a zone is none."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            return None
        return address.ipv4_mapped or address
    return address
