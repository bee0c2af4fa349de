"""A carrier that is a host name (RFC 3263), with dnsmasq as the DNS server."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.interop.dns_server import serving
from tests.interop.region import DEADLINE_S, Party, Region, free_port, need, parties, region
from tests.interop.sipp_run import Sipp, answering, assert_all, call, refused

OUTSIDE = "198.51.100.9"


@pytest.fixture(autouse=True)
def _programs() -> None:
    need("sipp", "dnsmasq")


@contextmanager
def named(
    tmp_path: Path, uri: str, dns: Party, everyone: list[Party], **options: Any
) -> Iterator[Region]:
    """A relay whose carrier is at `uri` alone, and that asks `dns`."""
    asks = {"dns": {"servers": [str(dns)], "timeout_s": options.pop("timeout_s", 2.0)}}
    with region(
        tmp_path, carrier={"origination": [{"uri": uri}]}, everyone=everyone, sip=asks, **options
    ) as r:
        yield r


def dns_party(everyone: list[Party]) -> Party:
    host = everyone[0].host.rpartition(".")[0] + ".53"
    return Party(host, free_port(host))


def test_naptr_srv_and_address_lead_to_the_carrier(tmp_path: Path) -> None:
    """NAPTR prefers TCP, its SRV names host and port: SIPp is called there, over TCP."""
    everyone = parties()
    carrier, dns = everyone[2], dns_party(everyone)
    records = (
        "naptr-record=carrier.test,20,10,s,SIP+D2U,,_sip._udp.carrier.test",
        "naptr-record=carrier.test,10,10,s,SIP+D2T,,_sip._tcp.carrier.test",
        f"srv-host=_sip._tcp.carrier.test,sbc.test,{carrier.port},0,1",
        "srv-host=_sip._udp.carrier.test,nowhere.test,5060,0,1",
        f"host-record=sbc.test,{carrier.host}",
    )
    with (
        serving(dns, tmp_path, *records),
        named(tmp_path, "sip:carrier.test", dns, everyone) as r,
        answering("uas", carrier, "-t", "t1"),
    ):
        assert_all(call("uac", r.pbx, r.relay, "-d", "100", calls=3), 3)
        r.ended(3)
        assert not r.process.find("attempt_failed")


def test_srv_without_naptr_and_a_dead_first_server(tmp_path: Path) -> None:
    """The first target of the SRV says nothing: the second is called after the time set."""
    everyone = parties()
    carrier, dns, dead = everyone[2], dns_party(everyone), everyone[3]
    records = (
        f"srv-host=_sip._udp.carrier.test,dead.test,{dead.port},0,1",
        f"srv-host=_sip._udp.carrier.test,sbc.test,{carrier.port},10,1",
        f"host-record=sbc.test,{carrier.host}",
        f"host-record=dead.test,{dead.host}",
    )
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf,
        serving(dns, tmp_path, *records),
        region(
            tmp_path,
            carrier={"origination": [{"uri": "sip:carrier.test"}], "try_next_after_s": 0.5},
            everyone=everyone,
            sip={"dns": {"servers": [str(dns)]}},
        ) as r,
        answering("uas", carrier),
    ):
        deaf.bind((dead.host, dead.port))
        assert_all(call("uac", r.pbx, r.relay, "-d", "100"))
        failed = r.process.wait("attempt_failed")
        assert failed["status"] == 408


def test_an_ipv6_address_is_found_and_called(tmp_path: Path) -> None:
    relay, pbx, _, stranger = parties()
    relay = Party(relay.host, free_port("::1"))
    carrier = Party("::1", free_port("::1"))
    everyone = [relay, pbx, carrier, stranger]
    dns = dns_party(everyone)
    with (
        serving(dns, tmp_path, "host-record=carrier.test,::1"),
        named(tmp_path, f"sip:carrier.test:{carrier.port}", dns, everyone, host_ipv6="::1") as r,
        answering("uas", carrier),
    ):
        assert_all(call("uac", r.pbx, r.relay, "-d", "100"))


def test_an_answer_holds_for_its_ttl(tmp_path: Path) -> None:
    """The record changes: the old address is called while the TTL of 60 s lasts."""
    everyone = parties()
    carrier, dns = everyone[2], dns_party(everyone)
    with (
        serving(dns, tmp_path) as server,
        named(tmp_path, f"sip:carrier.test:{carrier.port}", dns, everyone) as r,
        answering("uas", carrier),
    ):
        server.set_hosts(carrier=carrier.host)
        assert_all(call("uac", r.pbx, r.relay, "-d", "100"))
        server.set_hosts(carrier=OUTSIDE)
        assert_all(call("uac", r.pbx, r.relay, "-d", "100"))
        assert not r.process.find("boundary_refused")


def test_a_changed_record_is_used_once_the_ttl_is_over(tmp_path: Path) -> None:
    """TTL 1 s: soon the calls reach the new address, and none is lost on the way."""
    everyone = parties()
    carrier, dns = everyone[2], dns_party(everyone)
    moved = Party(everyone[3].host, carrier.port)
    with (
        serving(dns, tmp_path, ttl_s=1) as server,
        named(tmp_path, f"sip:carrier.test:{carrier.port}", dns, everyone) as r,
        answering("uas", carrier),
        answering("uas_busy", moved),
    ):
        server.set_hosts(carrier=carrier.host)
        assert_all(call("uac", r.pbx, r.relay, "-d", "50"))
        server.set_hosts(carrier=moved.host)
        deadline = time.monotonic() + DEADLINE_S
        while refused(486, r.pbx, r.relay).exit_code != 0:
            assert time.monotonic() < deadline, "the new address was never called"


@pytest.mark.parametrize(
    ("address", "status", "text"),
    [(OUTSIDE, 403, "outside the region"), (None, 503, "its name has no address")],
    ids=["outside the region", "no such name"],
)
def test_a_name_that_leads_nowhere_inside_is_refused(
    tmp_path: Path, address: str | None, status: int, text: str
) -> None:
    everyone = parties()
    dns = dns_party(everyone)
    records = [f"host-record=carrier.test,{address}"] if address else []
    with (
        serving(dns, tmp_path, *records),
        named(tmp_path, "sip:carrier.test", dns, everyone) as r,
    ):
        assert_all(refused(status, r.pbx, r.relay, header="Warning", pattern=text))
        r.ended()
        assert len(r.process.find("boundary_refused", host=OUTSIDE)) == (1 if address else 0)


def test_a_dead_dns_server_delays_no_other_call(tmp_path: Path) -> None:
    """While one call waits for DNS, another goes to an address and ends."""
    everyone = parties()
    dns, other = dns_party(everyone), Party(everyone[3].host, everyone[3].port)
    more = f"""
[[trunk]]
name = "other"
allow = ["{other.host}/32"]
origination = [{{ uri = "sip:{other}" }}]
[[route]]
from = "pbx"
number = "+44*"
to = "other"
"""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf,
        named(tmp_path, "sip:carrier.test", dns, everyone, timeout_s=3.0, more=more) as r,
        answering("uas", other),
    ):
        deaf.bind((dns.host, dns.port))
        second = Party(r.pbx.host, free_port(r.pbx.host))
        waiting = Sipp(
            "uac_refused",
            second,
            ("-m", "1", "-s", "+35315550199", str(r.relay)),
            {"status": "503", "header": "Warning:", "pattern": "its name has no address"},
        ).start()
        started = time.monotonic()
        r.process.wait("call_started")
        assert_all(call("uac", r.pbx, r.relay, "-s", "+442079460000", "-d", "50"))
        assert r.ended()["cause"] == "caller hung up"  # the other one still waits
        assert_all(waiting.wait())
        assert 2.5 < time.monotonic() - started < 6
