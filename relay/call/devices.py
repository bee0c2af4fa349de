"""Where a route leads: to the addresses of a trunk, or to the devices of a voice client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay.call.hunt import Target
from relay.config import Account
from relay.errors import Refused

if TYPE_CHECKING:
    from relay.call.calls import Calls
    from relay.call.registrar import Binding
    from relay.config import Trunk


def find(
    calls: Calls, peer: Trunk | Account, number: str, instance: str, now: float
) -> tuple[str, list[Target]]:
    """The peer that a call of `peer` to `number` goes to, and whom to call there.

    `instance` is the `gr` parameter of the called address: that device only (RFC 5627).
    Raises Refused.
    """
    route, targets = calls.router.route(peer, number)
    if isinstance(calls.router.peer(route.to), Account):
        identity = targets[0].uri.user or ""
        return route.to, _devices(calls, route.to, identity, instance, now)
    return route.to, targets


def device(binding: Binding, direct: bool = False) -> Target:
    """A registered device as a target; `direct` when it was called and not its client."""
    return Target(binding.contact, hop=binding.hop, client=binding.client, direct=direct)


def _devices(calls: Calls, account: str, identity: str, instance: str, now: float) -> list[Target]:
    """The registered devices of a client. Raises Refused: 480 offline, 403 not to be called."""
    bindings = calls.registrar.bindings(account, identity, now, instance)
    if not bindings:
        raise Refused(480, "no device of this voice client is registered")
    found = [device(each, bool(instance)) for each in bindings if each.may_be_called]
    if not found:
        raise Refused(403, "the called client's access token does not allow calls to it (in)")
    return found
