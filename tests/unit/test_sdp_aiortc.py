"""A WebRTC stack takes what we write, and we take what it writes; nothing is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from relay.call.ports import Side
from relay.sdp.crypto import OFF
from tests.unit.browsers import attributes, sections
from tests.unit.test_negotiation import sdp
from tests.unit.test_sdp_dtls import DTLS, OURS, Pair

CALLER, CALLEE = Side.CALLER, Side.CALLEE
PCMU = "m=audio 5000 RTP/AVP 0 8"


def with_peer(script: Callable[[RTCPeerConnection], Awaitable[None]]) -> None:
    async def run() -> None:
        peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        try:
            async with asyncio.timeout(20):
                await script(peer)
        finally:
            await peer.close()

    asyncio.run(run())


async def offered(peer: RTCPeerConnection) -> bytes:
    await peer.setLocalDescription(await peer.createOffer())
    return peer.localDescription.sdp.encode()


async def answered(peer: RTCPeerConnection, offer: bytes) -> bytes:
    await peer.setRemoteDescription(RTCSessionDescription(offer.decode(), "offer"))
    await peer.setLocalDescription(await peer.createAnswer())
    return peer.localDescription.sdp.encode()


async def take(peer: RTCPeerConnection, answer: bytes) -> None:
    await peer.setRemoteDescription(RTCSessionDescription(answer.decode(), "answer"))
    assert peer.signalingState == "stable"


@pytest.mark.parametrize("direction", ["sendrecv", "sendonly", "recvonly", "inactive"])
def test_our_answer(direction: str) -> None:
    async def script(peer: RTCPeerConnection) -> None:
        peer.addTransceiver("audio", direction=direction)
        call = Pair()
        told = call.offer(await offered(peer))
        assert f"a={direction}\r\n".encode() in told
        await take(peer, call.answer(sdp(PCMU)))
        (transceiver,) = peer.getTransceivers()
        assert transceiver.mid == "0"
        remote = transceiver.sender.transport
        assert remote.transport.iceGatherer.getLocalParameters().usernameFragment == (
            call.ice(CALLER).remote_ufrag
        )
        prints = {str(one).lower() for one in call.ice(CALLER).fingerprints}
        ours = remote.getLocalParameters().fingerprints
        assert prints == {f"{one.algorithm} {one.value}".lower() for one in ours}

    with_peer(script)


def test_our_offer() -> None:
    async def script(peer: RTCPeerConnection) -> None:
        call = Pair(OFF, DTLS)
        answer = await answered(peer, call.offer(sdp(PCMU)))
        back = call.answer(answer)
        assert sections(back) == ["m=audio 20000 RTP/AVP 0 8"]
        assert call.ice(CALLEE).remote_ufrag == attributes(answer, "ice-ufrag")[0]
        remote = peer.remoteDescription.sdp
        assert str(OURS) in remote and call.ice(CALLEE).local_pwd in remote

    with_peer(script)


def test_hold_and_a_new_offer_of_each_side() -> None:
    async def script(peer: RTCPeerConnection) -> None:
        peer.addTransceiver("audio")
        call = Pair()
        call.offer(await offered(peer))
        await take(peer, call.answer(sdp(PCMU)))
        call.negotiation.close()
        first = call.ice(CALLER)
        call.answer(await answered(peer, call.offer(sdp(PCMU, "a=sendonly"), CALLEE)), CALLER)
        call.negotiation.close()
        assert not call.media.last(CALLER).may_send
        assert call.ice(CALLER) == first
        call.offer(await offered(peer))
        await take(peer, call.answer(sdp(PCMU)))
        assert call.ice(CALLER) == first
        assert call.media.last(CALLER).may_receive

    with_peer(script)


def test_video_and_a_data_channel_beside_the_audio() -> None:
    """Refused, and the audio goes on with them being there."""

    async def script(peer: RTCPeerConnection) -> None:
        peer.addTransceiver("audio")
        peer.addTransceiver("video")
        peer.createDataChannel("chat")
        call = Pair()
        call.offer(await offered(peer))
        back = call.answer(sdp(PCMU))
        assert [line.split()[1] for line in sections(back)] == ["20000", "0", "0"]
        assert attributes(back, "mid") == ["0", "1", "2"]
        assert attributes(back, "group") == ["BUNDLE 0"]

    with_peer(script)


def test_two_of_them_call_each_other() -> None:
    async def script(one: RTCPeerConnection) -> None:
        async def other_script(other: RTCPeerConnection) -> None:
            one.addTransceiver("audio")
            call = Pair(DTLS, DTLS)
            answer = await answered(other, call.offer(await offered(one)))
            await take(one, call.answer(answer))
            assert call.ice(CALLER).dtls_client is False
            assert call.ice(CALLEE).dtls_client is False

        peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        try:
            await other_script(peer)
        finally:
            await peer.close()

    with_peer(script)
