"""SIPp calls SIPp through the relay, and something happens in the middle of the call."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop.region import Region, need, region
from tests.interop.sipp_run import PCAPS, Result, Sipp, answering, assert_all, call, wait_listening

# How a hold is offered, how the other side sees it, and what it answers.
STYLES = {
    "sendonly": ("[media_ip]", "a=sendonly", "a=sendonly", "a=recvonly"),
    "inactive": ("[media_ip]", "a=inactive", "a=inactive", "a=inactive"),
    "0.0.0.0": ("0.0.0.0", "a=sendrecv", "a=sendonly", "a=recvonly"),
}


@pytest.fixture(autouse=True)
def _programs() -> None:
    need("sipp")


def both(
    r: Region, caller: str, callee: str, *arguments: str, values: dict[str, str] | None = None
) -> tuple[Result, Result]:
    """One call between two scenarios; both must go as they say."""
    called = Sipp(callee, r.carrier, ("-m", "1", *arguments), values or {}).start()
    try:
        wait_listening(r.carrier, called)
        made = call(caller, r.pbx, r.relay, values=values)
        assert_all(made)
        answered = called.wait()
        assert_all(answered)
    finally:
        called.stop()
    return made, answered


@pytest.mark.parametrize("style", list(STYLES))
@pytest.mark.parametrize(
    ("caller", "callee"),
    [
        ("uac_reinvites", "uas_reinvited"),
        ("uac_reinvited", "uas_reinvites"),
        ("uac_updates", "uas_updated"),
        ("uac_updated", "uas_updates"),
    ],
)
def test_hold_and_resume(tmp_path: Path, caller: str, callee: str, style: str) -> None:
    """In each style, by re-INVITE and by UPDATE, from either side."""
    connection, direction, offered, answer = STYLES[style]
    values = {
        "connection": connection,
        "direction": direction,
        "offered": offered,
        "answer": answer,
        "expected": answer,
    }
    with region(tmp_path) as r:
        both(r, caller, callee, values=values)
        assert "hung up" in r.ended()["cause"]


def test_delayed_offers(tmp_path: Path) -> None:
    with region(tmp_path) as r:
        both(r, "uac_delayed", "uas_delayed")
        r.ended()


def test_prack_towards_the_caller_only(tmp_path: Path) -> None:
    with region(tmp_path) as r:
        both(r, "uac_prack", "uas_early")
        r.ended()


def test_prack_towards_the_callee_only(tmp_path: Path) -> None:
    with region(tmp_path) as r:
        both(r, "uac", "uas_prack")
        r.ended()


def test_prack_on_both_legs(tmp_path: Path) -> None:
    with region(tmp_path) as r:
        both(r, "uac_prack", "uas_prack")
        r.ended()


def test_a_session_timer_with_the_caller(tmp_path: Path) -> None:
    """422 with our minimum, then the caller's timer, refreshed by UPDATE and by re-INVITE."""
    with region(tmp_path, sip={"min_session_expires_s": 200}) as r, answering("uas", r.carrier):
        assert_all(call("uac_timer", r.pbx, r.relay))
        r.ended()


def test_a_session_timer_with_the_callee(tmp_path: Path) -> None:
    """The callee's 422 is answered with a longer interval; then it refreshes."""
    with region(tmp_path) as r:
        both(r, "uac_gets_bye", "uas_timer")
        r.ended()


def test_glare(tmp_path: Path) -> None:
    """Both change the session at once: each gets 491, and the second try goes through."""
    with region(tmp_path) as r:
        both(r, "uac_glare", "uas_glare")
        r.ended()


def test_keys_in_info(tmp_path: Path) -> None:
    with region(tmp_path) as r:
        both(r, "uac_info", "uas_info")
        r.ended()
        keys = [(e["key"], e.get("duration_ms"), e["source"]) for e in r.process.find("dtmf")]
        assert keys == [("5", 160, "info"), ("7", None, "info")]


def test_another_codec_is_heard(tmp_path: Path) -> None:
    """From PCMU to PCMA: what the callee echoes of the caller's A-law comes back."""
    with region(tmp_path) as r:
        pcap = {"pcap": str(PCAPS / "g711a.pcap")}
        both(r, "uac_codec", "uas_codec", "-rtp_echo", "-mp", "16000", values=pcap)
        ended = r.ended()
        for side in ("caller", "callee"):
            assert ended[side]["relayed"] > 100
            assert not ended[side].get("drops")
