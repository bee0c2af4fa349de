"""Locating a SIP server (RFC 3263): which hops a URI means, and in which order.

`locate` is a generator: it yields the DNS queries that it needs, is sent their answers, and
returns the hops. So it needs neither a socket nor a clock, and a test is a dictionary.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import NamedTuple, TypeVar

from relay.sip.outputs import Hop
from relay.sip.uri import DEFAULT_PORTS, SipUri, transport_to

MOST_HOPS = 8  # of one URI; whoever lists more has not meant them to be tried in one call
MOST_TARGETS = 8  # of one SRV name: each costs a query for each address family
T = TypeVar("T")

# RFC 3263 section 4.1: what a NAPTR service means, and where its SRV records are without one.
SERVICES = {"SIP+D2U": "udp", "SIP+D2T": "tcp", "SIPS+D2T": "tls"}
PREFIXES = {"udp": "_sip._udp.", "tcp": "_sip._tcp.", "tls": "_sips._tcp."}


class Query(NamedTuple):
    """One question; `kind` is "NAPTR", "SRV", "A" or "AAAA"."""

    name: str
    kind: str


class Naptr(NamedTuple):
    """A NAPTR record (RFC 3403) as far as SIP uses it."""

    order: int
    preference: int
    flags: str
    service: str
    replacement: str


class Srv(NamedTuple):
    """An SRV record (RFC 2782)."""

    priority: int
    weight: int
    port: int
    target: str


Record = Naptr | Srv | str  # an address for A and AAAA
Answers = Sequence[Sequence[Record]]
Location = Generator[tuple[Query, ...], Answers, tuple[Hop, ...]]


def locate(
    uri: SipUri, carried: Sequence[str], families: Sequence[str], chance: Callable[[], float]
) -> Location:
    """The hops of `uri` in the order to be tried (RFC 3263 section 4).

    `carried` are the transports and `families` the record kinds of the addresses ("A",
    "AAAA") that we can send to, the preferred ones first. No hop: nothing there is usable.
    """
    transport = transport_to(uri)
    if uri.transport is None and uri.scheme == "sip" and not is_numeric(uri.host):
        usable = list(carried)  # the peer says which it prefers
    else:
        usable = [transport] if transport in carried else []
    if is_numeric(uri.host):
        return (hop_to(uri, uri.host),) if usable else ()
    if uri.port is None and usable:
        services: list[tuple[str, str]] = []
        if uri.transport is None:
            services = yield from _services(uri.host, usable)
        if not services:
            wanted = [each for each in usable if each != "tls" or transport == "tls"]
            services = [(each, PREFIXES[each] + uri.host) for each in wanted]
        found = yield from _by_srv(uri, services, families, chance)
        if found:
            return found
    if transport not in carried:
        return ()
    addresses = yield from _addresses([uri.host], families)
    return tuple(hop_to(uri, address) for address in addresses.get(uri.host, ()))[:MOST_HOPS]


def _services(
    domain: str, usable: Sequence[str]
) -> Generator[tuple[Query, ...], Answers, list[tuple[str, str]]]:
    """(transport, SRV name) by the NAPTR records of the domain (section 4.1)."""
    (records,) = yield (Query(domain, "NAPTR"),)
    found = [
        record
        for record in records
        if isinstance(record, Naptr)
        and record.flags.lower() == "s"
        and SERVICES.get(record.service.upper()) in usable
    ]
    found.sort(key=lambda record: (record.order, record.preference))
    return [(SERVICES[record.service.upper()], record.replacement) for record in found]


def _by_srv(
    uri: SipUri,
    services: Sequence[tuple[str, str]],
    families: Sequence[str],
    chance: Callable[[], float],
) -> Generator[tuple[Query, ...], Answers, tuple[Hop, ...]]:
    """Every address of every SRV record, transport by transport (section 4.2)."""
    answers = yield tuple(Query(name, "SRV") for _, name in services)
    servers: list[tuple[str, Srv]] = []
    for (transport, _), records in zip(services, answers, strict=True):
        servers += [(transport, record) for record in _in_order(records, chance)]
    servers = servers[:MOST_TARGETS]
    names = list(dict.fromkeys(record.target for _, record in servers))
    if not names:
        return ()
    addresses = yield from _addresses(names, families)
    hops = [
        Hop(transport, address, record.port, name=_proof(uri.host) if transport == "tls" else "")
        for transport, record in servers
        for address in addresses.get(record.target, ())
    ]
    return tuple(dict.fromkeys(hops))[:MOST_HOPS]


def _addresses(
    names: Sequence[str], families: Sequence[str]
) -> Generator[tuple[Query, ...], Answers, dict[str, list[str]]]:
    found: dict[str, list[str]] = {}
    queries = tuple(Query(name, family) for name in names for family in families)
    answers = yield queries
    for query, records in zip(queries, answers, strict=True):
        found.setdefault(query.name, []).extend(str(record) for record in records)
    return found


def _in_order(records: Iterable[Record], chance: Callable[[], float]) -> list[Srv]:
    """The lowest priority first, by weight within one; "." says that there is no service."""
    groups: dict[int, list[tuple[int, Srv]]] = {}
    for record in records:
        if isinstance(record, Srv) and record.target.rstrip(".") and record.port:
            groups.setdefault(record.priority, []).append((record.weight, record))
    return [record for key in sorted(groups) for record in by_weight(groups[key], chance)]


def by_weight(choices: Iterable[tuple[int, T]], chance: Callable[[], float]) -> list[T]:
    """All of equal priority in an order drawn by weight (RFC 2782, "Weight").

    `chance` gives 0 ≤ x < 1. One of weight 0 comes after all that have a weight.
    """
    left = list(choices)
    drawn: list[T] = []
    while left:
        total = sum(weight for weight, _ in left)
        mark, at = chance() * (total or len(left)), 0
        while at < len(left) - 1 and (mark := mark - (left[at][0] if total else 1)) >= 0:
            at += 1
        drawn.append(left.pop(at)[1])
    return drawn


def hop_to(uri: SipUri, address: str) -> Hop:
    """The hop to `uri` at one of its addresses; a TLS peer must prove the host of the URI,
    wherever DNS led to (RFC 5922 section 4)."""
    transport = transport_to(uri)
    port = uri.port or DEFAULT_PORTS[transport]
    return Hop(transport, address, port, name=_proof(uri.host) if transport == "tls" else "")


def _proof(host: str) -> str:
    return str(ipaddress.ip_address(host)) if is_numeric(host) else host.lower().rstrip(".")


def is_numeric(host: str) -> bool:
    """An IPv4 or IPv6 address rather than a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
