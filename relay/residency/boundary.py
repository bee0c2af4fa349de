"""The boundary of the region: nothing is sent to, or taken from, an address outside of it.

Every address that the relay is about to use is shown to `Boundary` first, with what it is to be
used for. Anything but an address lies outside: a name must be looked up before it can be judged.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Network, IPv6Network

from relay.errors import OutsideRegion

KEPT_HOSTS = 4096
EVERYWHERE = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))


class Use(Enum):
    """What an address is to be used for; the value is its name in logs, records and receipts."""

    SIGNALLING = "signalling"
    CONTACT = "contact"
    ROUTE = "route"
    DNS_ANSWER = "dns-answer"
    MEDIA = "media"
    CANDIDATE = "candidate"
    LATCH = "latch"
    REFER = "refer"
    REDIRECT = "redirect"
    STORE = "store"
    DATABASE = "database"
    WEBHOOK = "webhook"
    RESOLVER = "resolver"

    __hash__ = object.__hash__  # members are single; the default hashes their name each time


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether `host` lies `inside`, and whether it may be used: outside only in a dry run."""

    use: Use
    host: str
    inside: bool
    allowed: bool


class Boundary:
    """The networks of the region; remembers what it was asked, so a call costs a look-up.

    With `enforce` off (a dry run) everything is allowed, and what lies outside is only told.
    `on_outside` hears of each use of an address outside, and of what it was for: the id of a call,
    or "".
    """

    __slots__ = ("_known", "_networks", "enforce", "on_outside")

    def __init__(
        self,
        networks: Iterable[IPv4Network | IPv6Network],
        enforce: bool = True,
        on_outside: Callable[[Verdict, str], None] = lambda verdict, subject: None,
    ) -> None:
        self._networks = tuple(networks)
        self.enforce = enforce
        self.on_outside = on_outside
        self._known: dict[str, bool] = {}

    @property
    def permitted(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """What may be used: for those that compare addresses themselves."""
        return self._networks if self.enforce else EVERYWHERE

    def judge(self, use: Use, host: str, subject: str = "") -> Verdict:
        """The verdict on an address that is about to be used, for the call `subject`."""
        inside = self.holds(host)
        verdict = Verdict(use, host, inside, inside or not self.enforce)
        if not inside:
            self.on_outside(verdict, subject)
        return verdict

    def admit(self, use: Use, host: str, subject: str = "") -> None:
        """Raises OutsideRegion for an address that may not be used."""
        if not self.judge(use, host, subject).allowed:
            raise OutsideRegion(use.value, host)

    def permits(self, host: str) -> bool:
        """Whether an address may be used; nobody hears of it. For who merely knocks."""
        return self.holds(host) or not self.enforce

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
