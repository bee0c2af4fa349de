"""SIPp calls SIPp with a leg on IPv6, or both: signalling and voice (RFC 3261, RFC 8866 IP6).

Linux has one IPv6 loopback address, so in a call from IPv6 to IPv6 the trunk calls itself.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop.region import Party, free_port, need, parties, region
from tests.interop.sipp_run import PCAPS, answering, assert_all, call, refused

HOST = "::1"
TRANSPORT = {"udp": "u1", "tcp": "t1"}


@pytest.fixture(autouse=True)
def _programs() -> None:
    need("sipp")


def _everyone(caller_ipv6: bool, callee_ipv6: bool) -> tuple[Party, list[Party]]:
    """The relay's IPv6 address, and relay, caller, callee, stranger."""
    relay, caller, callee, stranger = parties()
    here = Party(HOST, free_port(HOST))
    relay = Party(relay.host, here.port)  # one port number for both families
    caller = Party(HOST, free_port(HOST)) if caller_ipv6 else caller
    callee = Party(HOST, free_port(HOST)) if callee_ipv6 else callee
    return here, [relay, caller, callee, stranger]


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize(
    ("caller_ipv6", "callee_ipv6"),
    [(True, False), (False, True), (True, True)],
    ids=["IPv6 to IPv4", "IPv4 to IPv6", "IPv6 to IPv6"],
)
def test_a_call_carries_voice_both_ways(
    tmp_path: Path, transport: str, caller_ipv6: bool, callee_ipv6: bool
) -> None:
    """The caller plays G.711, the callee sends it back: none is lost on either leg."""
    here, everyone = _everyone(caller_ipv6, callee_ipv6)
    media = [("-mp", str(free_port(party.host))) for party in everyone[1:3]]
    kind = ("-t", TRANSPORT[transport])
    pcap = {"pcap": str(PCAPS / "g711a.pcap")}
    with (
        region(tmp_path, transport, everyone=everyone, host_ipv6=HOST) as r,
        answering("uas_pcma", r.carrier, *kind, "-rtp_echo", *media[1]),
    ):
        relay = here if caller_ipv6 else r.relay
        assert_all(call("pcap", r.pbx, relay, *kind, *media[0], "-d", "2000", values=pcap))
        ended = r.ended()
        caller, callee = ended["caller"], ended["callee"]
        assert ended["cause"] == "caller hung up"
        assert caller["relayed"] > 50
        assert callee["relayed"] > 50
        assert (caller["lost"], callee["lost"]) == (0, 0)
        assert (caller["drops"], callee["drops"]) == ({}, {})


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize(
    ("caller_ipv6", "callee_ipv6"), [(True, False), (False, True)], ids=["6 to 4", "4 to 6"]
)
def test_hold_passes_from_one_family_to_the_other(
    tmp_path: Path, transport: str, caller_ipv6: bool, callee_ipv6: bool
) -> None:
    here, everyone = _everyone(caller_ipv6, callee_ipv6)
    media = [("-mp", str(free_port(party.host))) for party in everyone[1:3]]
    kind = ("-t", TRANSPORT[transport])
    with (
        region(tmp_path, transport, everyone=everyone, host_ipv6=HOST) as r,
        answering("uas_hold", r.carrier, *kind, *media[1], "-m", "1") as callee,
    ):
        relay = here if caller_ipv6 else r.relay
        assert_all(call("uac_hold", r.pbx, relay, *kind, *media[0]))
        assert_all(callee.wait())
        assert r.ended()["cause"] == "caller hung up"


def test_a_stranger_over_ipv6_is_refused(tmp_path: Path) -> None:
    here, everyone = _everyone(False, False)
    with region(tmp_path, everyone=everyone, host_ipv6=HOST):
        assert_all(refused(403, Party(HOST, free_port(HOST)), here))
