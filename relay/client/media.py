"""One call's audio: descriptions, ICE path, DTLS keys, RTP both ways.

aiortc's DTLS transport, RTP sender and receiver do the work; descriptions are our own
(`description`), and so is the path below (`path`). What aiortc keeps to itself and is used
here all the same: `_send_rtp`, `_enabled`, the receiver's `_track` and `_set_rtcp_ssrc`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from secrets import randbits
from typing import Any, Protocol

from aiortc import (
    RTCCertificate,
    RTCDtlsFingerprint,
    RTCDtlsParameters,
    RTCDtlsTransport,
    RTCRtpCodecParameters,
    RTCRtpReceiver,
    RTCRtpSender,
)
from aiortc.rtcrtpparameters import RTCRtpReceiveParameters, RTCRtpSendParameters
from aiortc.rtcrtpreceiver import RemoteStreamTrack

from relay.client.description import Codec, Description, answered, offered, read, write
from relay.client.errors import MediaFailed
from relay.client.figures import Figures, figures
from relay.client.hearing import Hearing
from relay.client.keypad import Keypad
from relay.client.path import Path
from relay.client.playout import Playout
from relay.errors import NotAcceptable

MIRRORED = {"sendrecv": "sendrecv", "sendonly": "recvonly", "recvonly": "sendonly"}


class Owner(Protocol):
    """Whose audio it is."""

    def on_key(self, key: str, duration_ms: int) -> None: ...

    def on_path_lost(self) -> None: ...


class Media:
    """The audio of one call. `addresses` are the local ones, asked whenever a path is made."""

    def __init__(
        self, owner: Owner, codecs: tuple[Codec, ...], addresses: Callable[[], list[str]]
    ) -> None:
        self._owner = owner
        self._codecs = codecs
        self._addresses = addresses
        self._origin = (randbits(62), 0)
        self._path = Path(owner.on_path_lost)
        self._dtls: Any = RTCDtlsTransport(self._path, [RTCCertificate.generateCertificate()])  # type: ignore[arg-type]
        self.playout = Playout()
        self._sender: Any = RTCRtpSender(self.playout, self._dtls)
        self._receiver: Any = RTCRtpReceiver("audio", self._dtls)
        self._receiver._track = RemoteStreamTrack(kind="audio")
        self._receiver._set_rtcp_ssrc(self._sender._ssrc)  # or it sends no reports
        self.hearing = Hearing(owner.on_key)
        self._keypad: Keypad | None = None
        self._starting: asyncio.Task[None] | None = None
        self.ours: Description | None = None
        self.theirs: Description | None = None
        self.sending: Codec | None = None
        self._agreed = codecs[0]
        self.direction = "inactive"
        self.sent = 0
        self._setup = ""  # of DTLS, once it is agreed: it stays (RFC 8842 section 5.5)

    # --- offer and answer -----------------------------------------------------------------

    async def offer(self, direction: str = "sendrecv", restart: bool = False) -> bytes:
        """An offer of ours: the first one, a re-offer, or with `restart` of a new path."""
        if self.ours is None or restart:
            await self._path.gather(self._addresses())
        if self.ours is None:
            codecs, keys = offered(self._codecs)
        else:
            codecs, keys = self.ours.codecs, self.ours.keys
        return self._write(self._describe(codecs, keys, "actpass", direction), None)

    async def answer(self, body: bytes, wanted: str = "sendrecv") -> bytes:
        """Our answer to an offer; audio starts, or goes on as it says. Raises NotAcceptable."""
        offer = read(body)
        codecs = answered(offer, self._codecs)
        clocks = dict.fromkeys(codec.clock_hz for codec in codecs.values())
        keys = {clock: offer.keys[clock] for clock in clocks if clock in offer.keys}
        before = self.theirs
        if before is not None and before.fingerprints != offer.fingerprints:
            raise NotAcceptable("the DTLS association cannot change during a call")
        if before is None or not offer.ice.same_as(before.ice):
            await self._path.gather(self._addresses(), controlling=offer.ice.lite)
        setup = self._setup or ("passive" if offer.setup == "active" else "active")
        direction = common(MIRRORED.get(offer.direction, "inactive"), wanted)
        ours = replace(
            self._describe(codecs, keys, setup, direction), mid=offer.mid, bundled=offer.bundled
        )
        answer = self._write(ours, body)
        self._agree(offer, setup, ours.codec)
        return answer

    def take_answer(self, body: bytes) -> None:
        """The answer to our offer; audio starts, or goes on as it says. Raises NotAcceptable."""
        answer = read(body)
        assert self.ours is not None, "there was an offer"
        if not answer.codecs:
            raise NotAcceptable("the answer has no codec of the offer")
        if self.theirs is not None and self.theirs.fingerprints != answer.fingerprints:
            raise NotAcceptable("the DTLS association cannot change during a call")
        setup = self._setup or ("passive" if answer.setup == "active" else "active")
        self._agree(answer, setup, answer.codec)

    def _describe(
        self, codecs: dict[int, Codec], keys: dict[int, int], setup: str, direction: str
    ) -> Description:
        prints = tuple(
            (each.algorithm, each.value)
            for each in self._dtls.getLocalParameters().fingerprints
            if each.algorithm == "sha-256"
        )
        mid = self.ours.mid if self.ours is not None else "0"
        ice = self._path.local()
        return Description(codecs, keys, ice, prints, setup, direction, mid)

    def _write(self, ours: Description, offer: bytes | None) -> bytes:
        self._origin = (self._origin[0], self._origin[1] + 1)
        self.ours = self.hearing.ours = ours
        return write(ours, self._sender._ssrc, self._origin, offer)

    def _agree(self, theirs: Description, setup: str, codec: Codec) -> None:
        """Both descriptions are known: start, or carry out what has changed. `codec` is the
        first one of the answer, whoever gave it."""
        assert self.ours is not None, "there is a description of ours"
        self._setup = setup
        self.theirs = theirs
        self._agreed = codec
        self.direction = common(MIRRORED.get(theirs.direction, "inactive"), self.ours.direction)
        self._sender._enabled = self.direction in ("sendrecv", "sendonly")
        if self._starting is None:
            self._starting = asyncio.create_task(self._start(theirs, setup))
        elif self._path.awaits(theirs.ice):
            self._starting = asyncio.create_task(self._path.connect(theirs.ice))
        elif codec is not self.sending and self._starting.done():
            self._starting = asyncio.create_task(self._send_as(codec))

    # --- start and end --------------------------------------------------------------------

    async def started(self) -> None:
        """Wait until the path stands and is secured. Raises MediaFailed."""
        if self._starting is None:
            raise MediaFailed("no description of the other side came")
        await asyncio.shield(self._starting)

    async def _start(self, theirs: Description, setup: str) -> None:
        await self._path.connect(theirs.ice)
        self._dtls._set_role("client" if setup == "active" else "server")
        fingerprints = [RTCDtlsFingerprint(*each) for each in theirs.fingerprints]
        await self._dtls.start(RTCDtlsParameters(fingerprints=fingerprints))
        if self._dtls.state != "connected":
            raise MediaFailed("no keys for the audio: the DTLS handshake or fingerprint failed")
        self._protected = self._dtls._send_rtp
        self._dtls._send_rtp = self._send_rtp
        self.hearing.start(self._receiver)
        await self._receiver.receive(self._parameters(RTCRtpReceiveParameters))
        await self._send_as(self._agreed)

    async def _send_as(self, codec: Codec) -> None:
        """Send in this codec; another one than before needs another RTP sender of aiortc's."""
        assert self.theirs is not None, "both descriptions are known"
        if self.sending is not None:
            enabled, playing = self._sender._enabled, self.playout
            self.playout = playing.successor()
            await self._sender.stop()
            self._sender = RTCRtpSender(self.playout, self._dtls)
            self._sender._enabled = enabled
        self.sending = self.hearing.sending = codec
        self.playout.rate_hz = codec.clock_hz
        number = self.theirs.keys.get(codec.clock_hz)
        self._keypad = None if number is None else Keypad(number, codec.clock_hz)
        parameters = RTCRtpSendParameters(
            codecs=[_parameters_of(self.theirs.payload_type(codec), codec)]
        )
        parameters.rtcp.cname = "relay-client"
        await self._sender.send(parameters)

    def _parameters(self, kind: Callable[..., Any]) -> Any:
        """All that may arrive: telephone events too, or aiortc would not hand them on."""
        assert self.ours is not None, "there is a description of ours"
        codecs = [_parameters_of(number, codec) for number, codec in self.ours.codecs.items()]
        for clock_hz, number in self.ours.keys.items():
            codecs.append(RTCRtpCodecParameters("audio/telephone-event", clock_hz, 1, number))
        return kind(codecs=codecs)

    async def close(self) -> None:
        """End the audio. Idempotent."""
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        if self._keypad is not None:
            self._keypad.close()
        self.playout.silence()
        await self._sender.stop()
        await self._receiver.stop()
        await self._dtls.stop()
        await self._path.close()
        await self.hearing.close()

    # --- what is sent and heard -----------------------------------------------------------

    @property
    def keypad(self) -> Keypad | None:
        """None when the other side takes no telephone events."""
        return self._keypad

    @property
    def path_stands(self) -> bool:
        return self._path.stands

    async def figures(self) -> Figures:
        """What was heard so far, and what the other side reports."""
        round_trip_s = peer_lost = None
        for report in (await self._sender.getStats()).values():
            if report.type == "remote-inbound-rtp":
                round_trip_s, peer_lost = report.roundTripTime, report.packetsLost
        clock_hz = self.sending.clock_hz if self.sending is not None else 8000
        return figures(self.hearing.stats, clock_hz, self.sent, round_trip_s, peer_lost)

    async def _send_rtp(self, data: bytes) -> None:
        if not 192 <= data[1] <= 223:  # RFC 5761 section 4: not RTCP
            self.sent += 1
            if self._keypad is not None:
                data = self._keypad.passing(data)
        await self._protected(data)


def _parameters_of(number: int, codec: Codec) -> RTCRtpCodecParameters:
    if codec is Codec.OPUS:
        return RTCRtpCodecParameters("audio/opus", 48000, 2, number)
    return RTCRtpCodecParameters(f"audio/{codec.value}", 8000, 1, number)


def common(one: str, other: str) -> str:
    """The direction that both allow (RFC 3264 section 6.1)."""
    sends = one in ("sendrecv", "sendonly") and other in ("sendrecv", "sendonly")
    receives = one in ("sendrecv", "recvonly") and other in ("sendrecv", "recvonly")
    names = {(True, True): "sendrecv", (True, False): "sendonly", (False, True): "recvonly"}
    return names.get((sends, receives), "inactive")
