"""SRTP against the published vectors, by the engine and by its readable reference."""

from __future__ import annotations

import pytest

from relay import _native
from relay.rtp import packet, srtp
from tests.unit.srtp_rig import aes
from tests.vectors import srtp as vectors

GCM = sorted(vectors.GCM_KEYS)


@pytest.mark.parametrize("name", sorted(vectors.DERIVATIONS))
def test_session_keys(name: str) -> None:
    v = vectors.DERIVATIONS[name]
    rtp, _ = _native.srtp_session_keys(v.suite, v.key, v.salt)
    assert rtp == (v.session_key, v.session_auth, v.session_salt)
    reference, _ = srtp.session_keys(aes, v.suite, v.key, v.salt)
    assert (reference.key, reference.auth, reference.salt) == rtp


@pytest.mark.parametrize("name", sorted(vectors.KEYSTREAMS))
def test_keystream(name: str) -> None:
    v = vectors.KEYSTREAMS[name]
    key, salt = bytes(len(v.session_key)), bytes(14)
    session = (v.session_key, bytes(20), v.session_salt)
    zeros = packet.build(0, 0, 0, 0, bytes(len(v.blocks)))
    closed = _native.Srtp(v.suite, key, salt, True, session=session).close(zeros)
    assert closed[12:-10] == v.blocks
    reference = srtp.Srtp(aes, v.suite, key, salt, session=srtp.SessionKeys(*session))
    assert reference.close(zeros) == closed


def sessions(suite: str, sends: bool, srtcp_index: int = 0) -> tuple[_native.Srtp, srtp.Srtp]:
    """The vectors' session key for both protocols, in the engine and in the reference."""
    key = vectors.GCM_KEYS[suite]
    session = (key, bytes(20), vectors.GCM_SALT)
    unused = (bytes(len(key)), bytes(12))
    native = _native.Srtp(suite, *unused, sends, session=session, srtcp_index=srtcp_index)
    reference = srtp.Srtp(aes, suite, *unused, session=srtp.SessionKeys(*session))
    reference._srtcp_index = srtcp_index
    return native, reference


@pytest.mark.parametrize("suite", GCM)
def test_gcm_srtp_packets(suite: str) -> None:
    """RFC 7714 sections 16.1.1, 16.1.2, 16.2.1, 16.2.2."""
    for one in sessions(suite, True):
        assert one.close(vectors.RTP) == vectors.SRTP[suite]
    for one in sessions(suite, False):
        assert one.open(vectors.SRTP[suite]) == vectors.RTP


@pytest.mark.parametrize("suite", GCM)
def test_gcm_srtcp_packets(suite: str) -> None:
    """RFC 7714 sections 17.1 to 17.4: with the E flag and without."""
    for one in sessions(suite, True, vectors.SRTCP_INDEX - 1):
        assert one.close_rtcp(vectors.RTCP) == vectors.SRTCP[suite]
    for one in sessions(suite, False):
        assert one.open_rtcp(vectors.SRTCP[suite]) == vectors.RTCP
    for one in sessions(suite, False):
        assert one.open_rtcp(vectors.SRTCP_NOT_ENCRYPTED[suite]) == vectors.RTCP
