"""An aiortc RTCPeerConnection as a voice client, whose SDP the test answers by hand."""

from __future__ import annotations

import asyncio
import fractions
import re
from unittest import mock

import numpy as np
from aiortc import MediaStreamTrack, RTCPeerConnection, RTCSessionDescription
from aiortc.rtcconfiguration import RTCConfiguration
from av import AudioFrame

from relay.probe.audio import Samples
from relay.sdp.description import Fingerprint, IceDtls, MediaAddress

RATE_HZ = 8000
PACKET = 160  # samples


def sound(seconds: float, seed: int) -> Samples:
    """Noise in the band of speech, loud and quiet in turn: no part is like another."""
    count = int(seconds * RATE_HZ)
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(count))
    frequency = np.fft.rfftfreq(count, 1 / RATE_HZ)
    spectrum[(frequency < 300) | (frequency > 3000)] = 0
    noise = np.fft.irfft(spectrum, count)
    loudness = 1.2 + np.sin(2 * np.pi * 3 * np.arange(count) / RATE_HZ)
    shaped = noise * loudness
    return (0.5 * shaped / np.max(np.abs(shaped))).astype(np.float32)


class Microphone(MediaStreamTrack):
    """Says `samples` over and over, in real time, 20 ms a frame."""

    kind = "audio"

    def __init__(self, samples: Samples) -> None:
        super().__init__()
        self._linear = (samples * 32767).astype(np.int16)
        self._frame = 0
        self._began: float | None = None

    async def recv(self) -> AudioFrame:
        loop = asyncio.get_running_loop()
        if self._began is None:
            self._began = loop.time()
        await asyncio.sleep(self._began + self._frame * 0.02 - loop.time())
        at = self._frame * PACKET % self._linear.size
        frame = AudioFrame.from_ndarray(
            self._linear[None, at : at + PACKET], format="s16", layout="mono"
        )
        frame.sample_rate = RATE_HZ
        frame.pts, frame.time_base = self._frame * PACKET, fractions.Fraction(1, RATE_HZ)
        self._frame += 1
        return frame


class Browser:
    """Offers or answers; what it hears is collected in `heard`."""

    def __init__(self, says: Samples, host: str) -> None:
        self.pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._host = host
        self._listening: list[asyncio.Task[None]] = []
        self._heard: list[np.ndarray] = []
        self.pc.addTrack(Microphone(says))
        self.pc.on("track", self._on_track)

    async def offer(self) -> str:
        return await self._local(await self.pc.createOffer())

    async def answered(self, sdp: str) -> None:
        await self.pc.setRemoteDescription(RTCSessionDescription(sdp, "answer"))

    async def answer(self, offer: str) -> str:
        await self.pc.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        return await self._local(await self.pc.createAnswer())

    @property
    def heard(self) -> Samples:
        if not self._heard:
            return np.zeros(0, np.float32)
        return np.concatenate(self._heard).astype(np.float32) / 32768

    async def close(self) -> None:
        for task in self._listening:
            task.cancel()
        await self.pc.close()

    async def _local(self, description: RTCSessionDescription) -> str:
        with mock.patch("aioice.ice.get_host_addresses", return_value=[self._host]):
            await self.pc.setLocalDescription(description)
        return str(self.pc.localDescription.sdp)

    def _on_track(self, track: MediaStreamTrack) -> None:
        self._listening.append(asyncio.create_task(self._listen(track)))

    async def _listen(self, track: MediaStreamTrack) -> None:
        while True:
            frame = await track.recv()
            samples = frame.to_ndarray()[0]
            channels = len(frame.layout.channels)
            step = channels * frame.sample_rate // RATE_HZ
            self._heard.append(samples[::step])  # band-limited, so nothing folds


def description(
    local: MediaAddress, fingerprint: Fingerprint, setup: str, ufrag: str, pwd: str, mid: str = "0"
) -> str:
    """Our SDP: PCMU to one host candidate of an ICE-lite agent."""
    family = "IP6" if ":" in local.host else "IP4"
    lines = (
        *("v=0", f"o=- 1 1 IN {family} {local.host}", "s=-", "t=0 0", "a=ice-lite"),
        *(f"a=group:BUNDLE {mid}", "a=msid-semantic:WMS *"),
        f"m=audio {local.port} UDP/TLS/RTP/SAVPF 0",
        *(f"c=IN {family} {local.host}", "a=sendrecv", f"a=mid:{mid}", "a=rtcp-mux"),
        *("a=rtpmap:0 PCMU/8000", f"a=ice-ufrag:{ufrag}", f"a=ice-pwd:{pwd}"),
        f"a=candidate:1 1 udp 2130706431 {local.host} {local.port} typ host",
        *("a=end-of-candidates", f"a=fingerprint:{fingerprint}", f"a=setup:{setup}", ""),
    )
    return "\r\n".join(lines)


def agreed(sdp: str, ufrag: str, pwd: str, dtls_client: bool = False) -> IceDtls:
    """What the browser's SDP and ours come to."""
    digests = re.findall(r"^a=fingerprint:(\S+) (\S+)", sdp, re.M)
    (theirs,) = set(re.findall(r"^a=ice-ufrag:(\S+)", sdp, re.M))
    (password,) = set(re.findall(r"^a=ice-pwd:(\S+)", sdp, re.M))
    prints = tuple({Fingerprint(a, bytes.fromhex(d.replace(":", ""))) for a, d in digests})
    return IceDtls(ufrag, pwd, theirs, password, prints, dtls_client)
