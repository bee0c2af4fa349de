"""A WebRTC leg in the engine: path and keys from outside, STUN and DTLS up to Python."""

from __future__ import annotations

import pytest

from relay.call.ports import Side
from tests.unit.media_rig import Peer, Rig, rig, until
from tests.unit.webrtc_rig import (
    DTLS,
    LOOPBACK,
    UFRAG,
    Browser,
    at,
    check,
    secured_caller,
    waiting,
    webrtc_caller,
)


def handed_up(r: Rig, count: int) -> list[tuple[int, int, bytes, tuple[str, int]]]:
    """So many packets for Python."""
    until(lambda: r.engine.counters()["handed_up"] >= count)
    return waiting(r)


def nothing_arrives(peer: Peer) -> bool:
    """Whether a peer's socket is empty, after everything before was dealt with."""
    peer.rtp.setblocking(False)
    try:
        peer.rtp.recv(4096)
    except BlockingIOError:
        return True
    return False


@pytest.mark.parametrize("suite", ["AEAD_AES_128_GCM", "AES_CM_128_HMAC_SHA1_80"])
def test_audio_between_a_secured_leg_and_plain_rtp(suite: str) -> None:
    with rig(LOOPBACK) as r:
        browser = secured_caller(r, suite)
        for n in range(5):
            sent = browser.send(r.at_caller, payload=bytes([n]) * 160)
            assert r.callee.rtp.recv(4096) == sent
            back = r.callee.send(r.at_callee)
            assert browser.hear() == back


def test_checks_and_dtls_go_up_with_their_source() -> None:
    with rig(LOOPBACK) as r:
        webrtc_caller(r)
        r.caller.send(r.at_caller, check())
        r.call.select(Side.CALLER, at(r.caller))
        assert handed_up(r, 1) == [(1, 0, check(), at(r.caller))]
        r.caller.send(r.at_caller, DTLS)
        assert handed_up(r, 2) == [(1, 0, DTLS, at(r.caller))]
        assert waiting(r) == []


def test_what_python_sends_leaves_from_the_rtp_port() -> None:
    with rig(LOOPBACK) as r:
        webrtc_caller(r)
        assert r.call.send(Side.CALLER, b"\x01\x01answer", *at(r.caller))
        assert r.caller.rtp.recvfrom(4096) == (b"\x01\x01answer", tuple(r.at_caller[:2]))
        with pytest.raises(ValueError, match="outside this region"):
            r.call.send(Side.CALLER, b"x", "198.51.100.1", 9)
        with pytest.raises(ValueError, match="outside this region"):
            r.call.select(Side.CALLER, ("198.51.100.1", 9))
        r.call.close()
        assert not r.call.send(Side.CALLER, b"x", *at(r.caller))


def test_nothing_passes_in_clear_before_the_keys_are_there() -> None:
    with rig(LOOPBACK) as r:
        browser = webrtc_caller(r)
        r.caller.send(r.at_caller)
        r.wait_for_drop("no_path_selected")
        r.callee.send(r.at_callee)
        r.wait_for_drop("no_destination", Side.CALLEE)
        r.call.select(Side.CALLER, at(r.caller))
        r.caller.send(r.at_caller)
        r.caller.send(r.at_caller, browser.packet())
        r.wait_for_drop("not_secured", count=2)
        r.callee.send(r.at_callee)
        r.wait_for_drop("receiver_not_secured", Side.CALLEE)
        assert nothing_arrives(r.caller)
        assert nothing_arrives(r.callee)
        assert r.engine.counters()["relayed"] == 0


def test_an_update_keeps_path_and_keys() -> None:
    with rig(LOOPBACK) as r:
        browser = secured_caller(r)
        for ufrag in (UFRAG, "restarted"):
            r.call.update(Side.CALLER, browser.leg(ufrag))
            sent = browser.send(r.at_caller)
            assert r.callee.rtp.recv(4096) == sent


def test_path_and_keys_are_of_no_effect_on_a_plain_leg() -> None:
    with rig(LOOPBACK) as r:
        browser = Browser(r.caller)
        r.describe()
        r.call.select(Side.CALLER, ("127.0.0.1", 9))
        r.call.secure(Side.CALLER, browser.keys())
        sent = r.caller.send(r.at_caller)
        assert r.callee.rtp.recv(4096) == sent
