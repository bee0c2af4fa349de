"""The boundary of the region: nothing is sent to an address outside of it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network

KEPT_HOSTS = 4096


class Boundary:
    """The networks of the region; remembers what it was asked, so a call costs a look-up."""

    __slots__ = ("_known", "_networks")

    def __init__(self, networks: Iterable[IPv4Network | IPv6Network]) -> None:
        self._networks = tuple(networks)
        self._known: dict[str, bool] = {}

    def holds(self, host: str) -> bool:
        """Whether this address lies inside; a name never does, it must be looked up."""
        known = self._known.get(host)
        if known is None:
            if len(self._known) >= KEPT_HOSTS:
                self._known.clear()
            known = self._known[host] = lies_in(host, self._networks)
        return known


def lies_in(host: str, networks: Iterable[IPv4Network | IPv6Network]) -> bool:
    """Whether an address is in one of the networks; a name is in none."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in networks)
