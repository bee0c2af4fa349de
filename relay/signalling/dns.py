"""DNS for RFC 3263: asynchronous, each answer kept for its TTL, one query of a kind in flight.

The order of hops is `relay.sip.locate`'s; here are the questions, the cache and the clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Sequence

import dns.asyncresolver
import dns.exception
import dns.nameserver
import dns.rdatatype
import dns.resolver

from relay.config import server_address
from relay.sip.locate import Location, Naptr, Query, Record, Srv, locate
from relay.sip.transaction import Hop
from relay.sip.uri import SipUri

MOST_KEPT = 2048  # answers; the names in Contacts are the peers' choice
NEGATIVE_S = 30.0  # a name without an answer may get one: not longer, whatever its SOA says
FAILED_S = 2.0  # no server answered: long enough for the calls that ask at the same time
LONGEST_S = 86400.0

Answer = tuple[Record, ...]


class Resolver:
    """`find` may be asked as often as calls come: what is cached costs no task.

    `servers` are `address` or `address:port`, none of them the system's; a name is given up
    after `timeout_s`. `count` hears of every query that no server answered. `permits` is the
    boundary's word on each server; it is asked when the first name is.
    """

    def __init__(
        self,
        servers: Sequence[str],
        timeout_s: float,
        clock: Callable[[], float],
        count: Callable[[str], None],
        permits: Callable[[str], bool],
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self._chance = chance
        self._permits = permits
        self._permitted = False  # whether it has been asked
        self._count = count
        self._resolver = dns.asyncresolver.Resolver(configure=False)
        if servers:
            self._resolver.nameservers = [
                dns.nameserver.Do53Nameserver(*server_address(text)) for text in servers
            ]
        else:
            with contextlib.suppress(dns.resolver.NoResolverConfiguration):  # then none is found
                self._resolver.read_resolv_conf("/etc/resolv.conf")
        self._resolver.lifetime = timeout_s
        self._resolver.timeout = max(0.5, timeout_s / 3)  # of one server, before the next
        self._resolver.search = []
        self._resolver.cache = None
        self._kept: dict[Query, tuple[float, Answer]] = {}
        self._asked: dict[Query, asyncio.Task[Answer]] = {}

    def known(
        self, uri: SipUri, carried: Sequence[str], families: Sequence[str]
    ) -> tuple[Hop, ...] | None:
        """The hops of `uri` when every answer is cached; None when it must be asked."""
        steps = locate(uri, carried, families, self._chance)
        answers: list[Answer] | None = None
        while True:
            queries, hops = _step(steps, answers)
            if hops is not None:
                return hops
            cached = [self._cached(query) for query in queries]
            answers = [answer for answer in cached if answer is not None]
            if len(answers) < len(queries):
                steps.close()
                return None

    async def find(
        self, uri: SipUri, carried: Sequence[str], families: Sequence[str]
    ) -> tuple[Hop, ...]:
        """The hops of `uri`, in order; none when it has no usable address."""
        steps = locate(uri, carried, families, self._chance)
        answers: list[Answer] | None = None
        while True:
            queries, hops = _step(steps, answers)
            if hops is not None:
                return hops
            answers = list(await asyncio.gather(*(self._answer(query) for query in queries)))

    def close(self) -> None:
        for task in self._asked.values():
            task.cancel()

    # --- one question

    def _cached(self, query: Query) -> Answer | None:
        kept = self._kept.get(query)
        return kept[1] if kept is not None and kept[0] > self._clock() else None

    async def _answer(self, query: Query) -> Answer:
        if (cached := self._cached(query)) is not None:
            return cached
        task = self._asked.get(query)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._ask(query))
            self._asked[query] = task
            task.add_done_callback(lambda _: self._asked.pop(query, None))
        return await asyncio.shield(task)  # whoever gives up leaves it to the others

    async def _ask(self, query: Query) -> Answer:
        """Ask, and keep what was said. Never raises for what DNS may answer."""
        found: Answer = ()
        keep_s = NEGATIVE_S
        if not self._permitted:
            self._permit_servers()
        try:
            answer = await self._resolver.resolve(query.name, query.kind, raise_on_no_answer=False)
            if answer.rrset is not None:
                found = tuple(_record(query.kind, rdata) for rdata in answer.rrset)
                keep_s = min(float(answer.rrset.ttl), LONGEST_S)
            else:
                keep_s = _negative_s(answer.response)
        except dns.resolver.NXDOMAIN as error:
            keep_s = min(map(_negative_s, error.kwargs["responses"].values()), default=NEGATIVE_S)
        except (dns.exception.DNSException, OSError, UnicodeError):
            self._count("dns_failed")
            keep_s = FAILED_S
        self._keep(query, found, keep_s)
        return found

    def _permit_servers(self) -> None:
        """Without one that may be asked, no name is found."""
        self._permitted = True
        self._resolver.nameservers = [
            server
            for server in self._resolver.nameservers
            if self._permits(server if isinstance(server, str) else server.answer_nameserver())
        ]

    def _keep(self, query: Query, answer: Answer, keep_s: float) -> None:
        now = self._clock()
        if len(self._kept) >= MOST_KEPT:
            self._kept = {q: kept for q, kept in self._kept.items() if kept[0] > now}
            while len(self._kept) >= MOST_KEPT:  # all alive: the oldest goes
                del self._kept[next(iter(self._kept))]
        self._kept.pop(query, None)
        self._kept[query] = (now + keep_s, answer)


def _step(
    steps: Location, answers: Sequence[Answer] | None
) -> tuple[tuple[Query, ...], tuple[Hop, ...] | None]:
    """Send the answers in; gives the next queries, or the hops at the end."""
    try:
        return (next(steps) if answers is None else steps.send(answers)), None
    except StopIteration as end:
        return (), end.value


def _record(kind: str, rdata: object) -> Record:
    if kind == "NAPTR":
        naptr = rdata
        return Naptr(
            naptr.order,  # type: ignore[attr-defined]
            naptr.preference,  # type: ignore[attr-defined]
            naptr.flags.decode("ascii", "replace"),  # type: ignore[attr-defined]
            naptr.service.decode("ascii", "replace"),  # type: ignore[attr-defined]
            naptr.replacement.to_text(),  # type: ignore[attr-defined]
        )
    if kind == "SRV":
        srv = rdata
        return Srv(
            srv.priority,  # type: ignore[attr-defined]
            srv.weight,  # type: ignore[attr-defined]
            srv.port,  # type: ignore[attr-defined]
            srv.target.to_text(),  # type: ignore[attr-defined]
        )
    return str(rdata)


def _negative_s(response: object) -> float:
    """How long "there is none" holds (RFC 2308 section 5), bounded."""
    for rrset in response.authority:  # type: ignore[attr-defined]
        if rrset.rdtype == dns.rdatatype.SOA:
            return float(min(rrset.ttl, rrset[0].minimum, NEGATIVE_S))
    return NEGATIVE_S
