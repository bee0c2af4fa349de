"""The DNS shell without a network: what is kept, for how long, and how often it is asked."""

from __future__ import annotations

import asyncio
from collections import Counter
from types import SimpleNamespace

import dns.exception
import dns.rdatatype
import dns.resolver
import dns.rrset
import pytest
import uvloop

from relay.config import server_address
from relay.signalling import dns as shell
from relay.signalling.dns import Resolver
from relay.sip.locate import Query
from relay.sip.outputs import Hop
from relay.sip.uri import SipUri

URI = SipUri.parse("sip:carrier.test:5070")
HOP = Hop("udp", "192.0.2.1", 5070)


class Rig:
    """A resolver whose server is a dictionary of texts, with a clock to be set."""

    def __init__(self, **zone: str | Exception) -> None:
        self.now = 100.0
        self.zone = zone
        self.asked: list[str] = []
        self.counted: Counter[str] = Counter()
        self.resolver = Resolver(
            ["192.0.2.53"], 1.0, lambda: self.now, self._count, lambda host: True
        )
        self.resolver._resolver.resolve = self._resolve  # type: ignore[method-assign]

    def _count(self, name: str) -> None:
        self.counted[name] += 1

    async def _resolve(self, name: str, kind: str, raise_on_no_answer: bool) -> object:
        self.asked.append(f"{name} {kind}")
        await asyncio.sleep(0)  # as a network would: others run
        found = self.zone.get(kind)
        if isinstance(found, Exception):
            raise found
        rrset = None if found is None else dns.rrset.from_text(f"{name}.", 60, "IN", kind, found)
        return SimpleNamespace(rrset=rrset, response=SimpleNamespace(authority=[]))

    async def find(self) -> tuple[Hop, ...]:
        return await self.resolver.find(URI, ("udp",), ("A",))

    def known(self) -> tuple[Hop, ...] | None:
        return self.resolver.known(URI, ("udp",), ("A",))


def test_an_answer_is_kept_for_its_ttl_and_then_asked_anew() -> None:
    async def main() -> None:
        rig = Rig(A="192.0.2.1")
        assert rig.known() is None
        assert await rig.find() == (HOP,)
        assert rig.known() == (HOP,)
        rig.now += 59.9
        assert await rig.find() == (HOP,) and len(rig.asked) == 1
        rig.now += 0.2
        assert rig.known() is None
        assert await rig.find() == (HOP,) and len(rig.asked) == 2

    uvloop.run(main())


def test_many_calls_at_once_are_one_query() -> None:
    async def main() -> None:
        rig = Rig(A="192.0.2.1")
        assert await asyncio.gather(*(rig.find() for _ in range(50))) == [(HOP,)] * 50
        assert rig.asked == ["carrier.test A"]

    uvloop.run(main())


def test_whoever_gives_up_leaves_the_query_to_the_others() -> None:
    async def main() -> None:
        rig = Rig(A="192.0.2.1")
        first, second = (asyncio.ensure_future(rig.find()) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        assert await second == (HOP,) and len(rig.asked) == 1

    uvloop.run(main())


@pytest.mark.parametrize(
    ("failure", "keep_s", "counted"),
    [
        (dns.exception.Timeout(), shell.FAILED_S, 1),
        (OSError("refused"), shell.FAILED_S, 1),
        (None, shell.NEGATIVE_S, 0),
    ],
    ids=["timeout", "no network", "no such record"],
)
def test_no_answer_is_kept_too_but_not_for_long(
    failure: Exception | None, keep_s: float, counted: int
) -> None:
    async def main() -> None:
        rig = Rig(**({"A": failure} if failure else {}))
        assert await rig.find() == ()
        rig.now += keep_s - 0.1
        assert rig.known() == ()
        rig.now += 0.2
        assert rig.known() is None
        assert rig.counted["dns_failed"] == counted

    uvloop.run(main())


def test_what_is_kept_is_bounded() -> None:
    async def main() -> None:
        rig = Rig(A="192.0.2.1")
        for number in range(shell.MOST_KEPT + 10):
            rig.resolver._keep(Query(f"n{number}", "A"), ("192.0.2.1",), 60.0)
        assert len(rig.resolver._kept) == shell.MOST_KEPT
        assert Query("n0", "A") not in rig.resolver._kept
        rig.now += 61
        rig.resolver._keep(Query("new", "A"), (), 60.0)
        assert list(rig.resolver._kept) == [Query("new", "A")]

    uvloop.run(main())


def test_without_any_server_names_have_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without /etc/resolv.conf still serves trunks at addresses."""

    def missing(self: object, file: str) -> None:
        raise dns.resolver.NoResolverConfiguration

    monkeypatch.setattr(dns.resolver.BaseResolver, "read_resolv_conf", missing)

    async def main() -> None:
        counted: Counter[str] = Counter()
        resolver = Resolver(
            (), 1.0, lambda: 0.0, lambda name: counted.update([name]), lambda host: True
        )
        assert await resolver.find(URI, ("udp",), ("A",)) == ()
        assert counted == {"dns_failed": 1}

    uvloop.run(main())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.53", ("192.0.2.53", 53)),
        ("192.0.2.53:5353", ("192.0.2.53", 5353)),
        ("2001:db8::53", ("2001:db8::53", 53)),
        ("[2001:db8::53]:5353", ("2001:db8::53", 5353)),
    ],
)
def test_a_server_is_an_address_with_or_without_a_port(
    text: str, expected: tuple[str, int]
) -> None:
    assert server_address(text) == expected


@pytest.mark.parametrize("text", ["dns.example", "192.0.2.53:0", "192.0.2.53:70000", "::1]:53", ""])
def test_what_is_no_server_is_a_mistake(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not|the port"):
        server_address(text)


def test_a_server_outside_the_region_hears_of_no_name() -> None:
    async def main() -> None:
        asked: list[str] = []
        counted: Counter[str] = Counter()

        def permits(host: str) -> bool:
            asked.append(host)
            return False

        servers = ("192.0.2.53:5353", "192.0.2.54")
        resolver = Resolver(servers, 1.0, lambda: 0.0, lambda name: counted.update([name]), permits)
        assert not asked  # nobody knows yet whether there will be a name at all
        assert await resolver.find(URI, ("udp",), ("A",)) == ()
        assert asked == ["192.0.2.53", "192.0.2.54"]
        assert counted["dns_failed"] and not resolver._resolver.nameservers

    uvloop.run(main())
