"""Where a call leads: each remote address of its two sides, what for, and the boundary's verdict.

Whatever a call is about to send to, or to take from, is shown here first. The record of the call,
and its receipt, name all of it.
"""

from __future__ import annotations

from relay.call.ports import SIDES, MediaAddress, Side
from relay.errors import OutsideRegion
from relay.residency.boundary import Boundary, Use
from relay.residency.record import Seen
from relay.sip.locate import is_numeric
from relay.sip.uri import DEFAULT_PORTS, OtherUri, SipUri, transport_to

# Addresses of one side. What goes beyond could not be kept, so it is refused: no call needs them.
MOST_SEEN = 256


class Trail:
    """One call's. A side that was transferred goes on with the addresses of both its peers."""

    __slots__ = ("_boundary", "_seen", "call_id")

    def __init__(self, boundary: Boundary, call_id: str) -> None:
        self._boundary = boundary
        self.call_id = call_id
        # (use, host, port) → (inside, allowed); few are ever read, so they are no objects yet
        self._seen: dict[Side, dict[tuple[Use, str, int], tuple[bool, bool]]] = {
            side: {} for side in SIDES
        }

    def allows(self, side: Side, use: Use, host: str, port: int) -> bool:
        """Whether an address may be used. An address is judged, and told of, once a use."""
        key = use, host, port
        seen = self._seen[side]
        if (known := seen.get(key)) is not None:
            return known[1]
        inside = self._boundary.holds(host)
        allowed = inside or self._boundary.judge(use, host, self.call_id).allowed
        # Those outside have places of their own: in a dry run, too, none is used and not named.
        if len(seen) >= (MOST_SEEN if inside else 2 * MOST_SEEN):
            return False
        seen[key] = inside, allowed
        return allowed

    def allows_media(self, side: Side, at: MediaAddress) -> bool:
        """Whether a side's audio may go there."""
        return self.allows(side, Use.MEDIA, at.host, at.port)

    def admit(self, side: Side, use: Use, host: str, port: int) -> None:
        """Raises OutsideRegion for an address that may not be used."""
        if not self.allows(side, use, host, port):
            raise OutsideRegion(use.value, host)

    def may_reach(self, side: Side, use: Use, uri: SipUri | OtherUri) -> bool:
        """As `allows`, of the address in a URI; a name is judged when it is looked up."""
        if not isinstance(uri, SipUri) or not is_numeric(uri.host):
            return True
        return self.allows(side, use, uri.host, uri.port or DEFAULT_PORTS[transport_to(uri)])

    def seen(self, side: Side) -> tuple[Seen, ...]:
        """All of one side so far, in the order of their first use."""
        return tuple(
            Seen(use.value, host, port, inside, allowed)
            for (use, host, port), (inside, allowed) in self._seen[side].items()
        )
