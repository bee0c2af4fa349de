"""SIPp calls SIPp through the relay: over UDP and TCP, with media, at every ending."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.interop.region import DEADLINE_S, Region, need, region
from tests.interop.sipp_run import PCAPS, Sipp, answering, assert_all, call, refused

TRANSPORT = {"udp": "u1", "tcp": "t1"}


@pytest.fixture(autouse=True)
def _programs() -> None:
    need("sipp")


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_sipp_as_it_is(tmp_path: Path, transport: str) -> None:
    """`-sn uac` against `-sn uas`, nothing tailored to the relay."""
    kind = ("-t", TRANSPORT[transport])
    with (
        region(tmp_path, transport) as r,
        answering("uas", r.carrier, *kind) as callee,
    ):
        assert_all(call("uac", r.pbx, r.relay, *kind, "-d", "200", calls=20), 20)
        r.ended(20)
        assert callee.process is not None and callee.process.poll() is None


def test_caller_on_tcp_callee_on_udp(tmp_path: Path) -> None:
    """The two legs need not share a transport."""
    with region(tmp_path, "udp") as r, answering("uas", r.carrier):
        assert_all(call("uac", r.pbx, r.relay, "-t", "t1", "-d", "100", calls=5), 5)


def test_rtp_is_echoed_through_the_relay(tmp_path: Path) -> None:
    """The caller plays Debian's G.711 pcap; the callee's -rtp_echo sends all of it back."""
    with region(tmp_path) as r, answering("uas_pcma", r.carrier, "-rtp_echo", "-mp", "16000"):
        pcap = {"pcap": str(PCAPS / "g711a.pcap")}
        assert_all(call("pcap", r.pbx, r.relay, "-d", "4000", values=pcap))
        ended = r.ended()
        assert ended["caller"]["relayed"] > 100
        assert ended["caller"]["lost"] == 0
        assert ended["callee"]["relayed"] > 100


def _its_own_pcap(r: Region) -> Sipp:
    """`-sn uac_pcap` as it is; it looks for its files in ./pcap."""
    caller = Sipp("uac_pcap", r.pbx, ("-m", "1", "-s", "+35315550199", str(r.relay)))
    (Path(caller.directory.name) / "pcap").symlink_to(PCAPS)
    return caller.start()


@pytest.mark.parametrize("callee", ["uas_pcma", "uas"])
def test_sipp_plays_its_own_pcap(tmp_path: Path, callee: str) -> None:
    """A-law for some seconds and one RFC 4733 key, all sent back by the callee.

    `-sn uas` lists only mu-law in its answer: a peer's own offered numbers pass nevertheless.
    """
    with region(tmp_path) as r, answering(callee, r.carrier, "-rtp_echo", "-mp", "16000"):
        assert_all(_its_own_pcap(r).wait())
        ended = r.ended()
        assert ended["caller"]["relayed"] > 200
        assert ended["caller"]["lost"] == 0
        pressed = {(line["side"], line["key"]) for line in r.process.find("dtmf")}
        assert pressed == {("caller", "1"), ("callee", "1")}


@pytest.mark.parametrize(
    ("scenario", "status"), [("uas_busy", 486), ("uas_not_found", 404), ("uas_declined", 603)]
)
def test_a_refusal_of_the_callee_reaches_the_caller(
    tmp_path: Path, scenario: str, status: int
) -> None:
    """Same code on the other leg; SIPp's ACK ends it (RFC 3261 section 17.1.1.3)."""
    with region(tmp_path) as r, answering(scenario, r.carrier, "-m", "1") as callee:
        assert_all(refused(status, r.pbx, r.relay))
        assert_all(callee.wait())
        r.ended()


def test_cancel_while_ringing(tmp_path: Path) -> None:
    """The callee sees CANCEL and answers 487; the caller gets 200 and 487."""
    with region(tmp_path) as r, answering("uas_cancelled", r.carrier, "-m", "1") as callee:
        assert_all(call("uac_cancel", r.pbx, r.relay))
        assert_all(callee.wait())
        r.ended()


def test_callee_hangs_up(tmp_path: Path) -> None:
    """A BYE from the callee ends the caller's leg."""
    with region(tmp_path) as r, answering("uas_bye", r.carrier, "-m", "1") as callee:
        assert_all(call("uac_gets_bye", r.pbx, r.relay))
        assert_all(callee.wait())
        r.ended()


def test_hold_passes(tmp_path: Path) -> None:
    """A re-INVITE with a=sendonly reaches the callee, its a=recvonly comes back."""
    with region(tmp_path) as r, answering("uas_hold", r.carrier, "-m", "1") as callee:
        assert_all(call("uac_hold", r.pbx, r.relay))
        assert_all(callee.wait())
        r.ended()


def test_many_at_a_time(tmp_path: Path) -> None:
    """A hundred calls stand at once; all end as they should, and none is left over."""
    with region(tmp_path) as r, answering("uas", r.carrier):
        assert_all(call("uac", r.pbx, r.relay, "-d", "3000", calls=100, rate=40), 100)
        r.ended(100)
        assert len(r.process.find("call_started")) == 100


def test_a_call_that_stands_at_shutdown_has_drain_s_and_then_a_bye(tmp_path: Path) -> None:
    """SIGTERM: the call goes on for `sip.drain_s` seconds, each side gets a BYE, exit code 0."""
    with (
        region(tmp_path, sip={"drain_s": 0.5}) as r,
        answering("uas", r.carrier),
    ):
        caller = Sipp("uac_gets_bye", r.pbx, ("-m", "1", "-s", "+35315550199", str(r.relay)))
        caller.start()
        try:
            r.process.wait("call_answered", DEADLINE_S)
            os.kill(r.process.pid, signal.SIGTERM)
            ended = r.ended()
            assert ended["cause"] == "the relay is shutting down"
            assert ended["talk_s"] > 0.4
            assert_all(caller.wait())
        finally:
            caller.stop()
        assert r.process.process.wait(DEADLINE_S) == 0
