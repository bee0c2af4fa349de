"""Where voice clients are: the bindings of each identity (RFC 3261 section 10, RFC 5626)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from relay.call.calls import Calls
    from relay.call.clients import Client
    from relay.sip.transaction import Hop
    from relay.sip.uri import SipUri


@dataclass(frozen=True, slots=True)
class Binding:
    """One device of an identity, and the connection that it is on.

    `instance` is the URN of +sip.instance, "" without; `gruu` is this device's own address
    (RFC 5627), "" without an instance. `until` is in monotonic seconds, and never later than
    the token's.
    """

    client: Client
    contact: SipUri
    instance: str
    hop: Hop
    q: float
    gruu: str
    until: float

    @property
    def account(self) -> str:
        return self.client.account.name

    @property
    def identity(self) -> str:
        return self.client.identity

    @property
    def may_be_called(self) -> bool:
        return self.client.may_be_called


class Registrar:
    """The bindings of all identities. What a call needs is `bindings`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._devices: dict[tuple[str, str], dict[str, Binding]] = {}

    def bindings(
        self, account: str, identity: str, now: float, instance: str = ""
    ) -> list[Binding]:
        """The devices of an identity that are registered now, the preferred (q) first.

        `instance` is the `gr` parameter of the address that was called, where it has one: that
        device only.
        """
        devices = self._devices.get((account, identity), {})
        found = [
            each
            for each in devices.values()
            if now < each.until and instance in ("", each.instance)
        ]
        return sorted(found, key=lambda each: -each.q)

    def lost(self, hop: Hop) -> None:
        """The connection is gone for good: nobody is reached over it."""
        for devices in self._devices.values():
            for key in [key for key, each in devices.items() if each.hop.link == hop.link]:
                del devices[key]
