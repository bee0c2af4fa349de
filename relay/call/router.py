"""Whose call it is and where it goes: trunks by source address, routes by longest match."""

from __future__ import annotations

import ipaddress
import random
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from relay.call.hunt import Target
from relay.call.numbers import NumberingPlan
from relay.call.recording import RecordingPolicy, policy_of
from relay.errors import Refused
from relay.residency.boundary import Boundary
from relay.sip.locate import by_weight
from relay.sip.uri import SipUri

if TYPE_CHECKING:
    from relay.config import Account, Config, Network, Route, Trunk

NOBODY: frozenset[str] = frozenset()  # no verified name
KEPT_HOSTS = 4096  # sources whose trunk is remembered; far more than a region has peers

_DIGITS = re.compile(r"[0-9*#]+")

_Networks = dict[tuple[int, int], dict[int, "Trunk"]]


class Router:
    """The trunks and routes of one configuration, indexed."""

    def __init__(self, config: Config, chance: Callable[[], float] = random.random) -> None:
        """`chance` gives 0 ≤ x < 1 for the choice between weighted originations."""
        self._chance = chance
        self._peers: dict[str, Trunk | Account] = {peer.name: peer for peer in config.peers}
        self._origination = {trunk.name: _usable(trunk) for trunk in config.trunk}
        self._plans = {peer.name: NumberingPlan(peer) for peer in config.peers}
        self._networks = _by_prefix(config.trunk)
        self._region = Boundary(config.region.networks, config.region.enforce).permitted
        self._by_name = {name: trunk for trunk in config.trunk for name in trunk.tls_names}
        self._known: dict[str, Trunk | None] = {}
        self._routes: dict[str, dict[str, Route]] = {}
        for route in config.route:
            self._routes.setdefault(route.from_, {})[route.number] = route

    def peer(self, name: str) -> Trunk | Account:
        """A trunk or an account by its name, which must exist."""
        return self._peers[name]

    def plan(self, name: str) -> NumberingPlan:
        """How a peer, which must exist, writes numbers."""
        return self._plans[name]

    def identify(self, host: str, names: frozenset[str] = NOBODY) -> Trunk | None:
        """The trunk that one of these verified names belongs to, else the one whose most
        specific network holds this source address.

        A trunk with `tls_names` needs one of them, from an address of its `allow` when it
        has that too, else from any inside the region.
        """
        for name in names:
            named = self._by_name.get(name)
            if named is not None and _is_within(host, named.allow or self._region):
                return named
        trunk = self.at(host)
        return None if trunk is not None and trunk.tls_names else trunk

    def at(self, host: str) -> Trunk | None:
        """The trunk whose address this is; what else it must prove is not asked."""
        try:
            return self._known[host]
        except KeyError:
            trunk = self._search(host)
            if len(self._known) >= KEPT_HOSTS:
                self._known.clear()  # sprayed from many addresses: start afresh, stay bounded
            self._known[host] = trunk
            return trunk

    def route(self, trunk: Trunk | Account, number: str) -> tuple[Route, list[Target]]:
        """The route of a peer for a called number, and the addresses to call, in order.

        Raises Refused: 400 for what is no E.164 number, 404 without a route, 480 when
        the trunk that it leads to has no origination.
        """
        routes = self._routes.get(trunk.name, {})
        # What a route names is called as it is: 112 is no number to be completed.
        called = number if _names(routes, number) else self._plans[trunk.name].called(number)
        route = _longest(routes, called)
        if route is None:
            if _DIGITS.fullmatch(called):
                raise Refused(400, "numbers are E.164 with a leading +")
            raise Refused(404, "no route to this number")
        return route, self.targets(route.to, route.identity or called)

    def targets(self, name: str, number: str) -> list[Target]:
        """Where trunk `name` takes a call to `number`: the lowest priority first, by weight
        within one, the disaster-recovery address last. Raises Refused 480 when nowhere.

        Of an account it is the address of record of the client `number`: where its devices
        are, the registrar knows.
        """
        if name not in self._origination:
            return [Target(SipUri("sip", number, None, name))]
        origination, recovery = self._origination[name]
        found = [
            Target(uri.replace(user=number), str(uri))
            for group in origination
            for uri in (by_weight(group, self._chance) if len(group) > 1 else (group[0][1],))
        ]
        if recovery is not None:
            uri = recovery.replace(user=number)
            found.append(Target(uri, str(recovery), last_resort=True))
        if not found:
            raise Refused(480, "no address to send this call to")
        return found

    def recording(self, caller: str, callee: str) -> RecordingPolicy:
        """What is recorded when both peers have a say."""
        return policy_of(self._peers[caller], self._peers[callee])

    def _search(self, host: str) -> Trunk | None:
        address = _address(host)
        if address is None:
            return None
        bits, value = address.max_prefixlen, int(address)
        for (version, prefix), networks in self._networks.items():
            if version == address.version:
                trunk = networks.get(value >> (bits - prefix))
                if trunk is not None:
                    return trunk
        return None


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped  # an IPv4 peer on a dual-stack socket
    return address


def _is_within(host: str, networks: Sequence[Network]) -> bool:
    address = _address(host)
    return address is not None and any(address in network for network in networks)


def _by_prefix(trunks: Sequence[Trunk]) -> _Networks:
    """(IP version, prefix length) → network number → trunk, longest prefix first."""
    found: _Networks = {}
    for trunk in trunks:
        for network in trunk.allow:
            bits, prefix = network.max_prefixlen, network.prefixlen
            number = int(network.network_address) >> (bits - prefix)
            found.setdefault((network.version, prefix), {})[number] = trunk
    return dict(sorted(found.items(), key=lambda item: -item[0][1]))


def _usable(trunk: Trunk) -> tuple[list[list[tuple[int, SipUri]]], SipUri | None]:
    """(weight, URI) of the enabled originations, a list for each priority; and the last resort."""
    groups: dict[int, list[tuple[int, SipUri]]] = {}
    for entry in sorted(trunk.origination, key=lambda entry: entry.priority):
        if entry.enabled:
            groups.setdefault(entry.priority, []).append((entry.weight, entry.sip_uri))
    recovery = trunk.disaster_recovery
    return list(groups.values()), SipUri.parse(recovery) if recovery is not None else None


def _names(routes: dict[str, Route], number: str) -> bool:
    """Whether a route is for this number alone."""
    return number in routes and not number.endswith("*")


def _longest(routes: dict[str, Route], number: str) -> Route | None:
    """Exact first, then `prefix*` from the longest prefix to `*`."""
    if _names(routes, number):
        return routes[number]
    for length in range(len(number), -1, -1):
        if (route := routes.get(number[:length] + "*")) is not None:
            return route
    return None
