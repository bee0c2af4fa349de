"""The media of one call as the application sees it: `CallMedia` of call/ports.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay import _native
from relay.call.ports import LegMedia, MediaAddress, Side, StreamFigures
from relay.errors import NotAcceptable
from relay.media.silence import reason_for_silence
from relay.media.webrtc import WebRtcLeg
from relay.rtp.stats import mos
from relay.sdp.description import Coding, IceCredentials, IceDtls, SrtpKey, SrtpKeys

if TYPE_CHECKING:
    from relay.media.engine import Engine

FRAME_MS = 20  # what the transcoder works in
MOST_FRAMES = 3  # in a packet of its own


class EngineCall:
    """The media of one call: four sockets on one worker."""

    def __init__(
        self,
        engine: Engine,
        call_id: str,
        number: int,
        flows: _native.CallFlows,
        worker: int,
        ports: tuple[int, int],
        hosts: tuple[str, str],
    ) -> None:
        self.call_id = call_id
        self._engine = engine
        self._number = number
        self._flows = flows
        self._worker = worker
        self._ports = ports
        self._hosts = hosts
        self._webrtc: dict[Side, WebRtcLeg] = {}
        self._tap = 0
        self._open = True

    def local(self, side: Side) -> MediaAddress:
        """Our address that this side's peer sends to (the advertised one)."""
        port = self._ports[side.value]
        return MediaAddress(self._hosts[side.value], port, port + 1)

    def check(self, side: Side, remote: MediaAddress) -> None:
        """Whether this side's media can be sent there. Raises NotAcceptable.

        Not to a port that a call of ours has: two legs that were given each other's ports
        would send one packet round for ever.
        """
        if (":" in remote.host) != (":" in self._hosts[side.value]):
            raise NotAcceptable("its media address is of another IP version than this leg's")
        if self._engine.is_ours(remote):
            raise NotAcceptable("its media address is one of this relay's own ports")

    def offer(self, side: Side, ours: IceCredentials) -> None:
        """A WebRTC peer is offered this side: its checks are answered from now on, and what it
        nominates is remembered. Nothing else changes until `update`."""
        if self._open:
            self._flows.offer(side.value, ours.ufrag)
            self._leg(side).offer(ours)

    def update(self, side: Side, leg: LegMedia) -> None:
        """Apply a negotiated description; takes effect between two packets.

        Also starts the media timeout of this side afresh and, for a symmetric leg, allows
        one new latch. SRTP keys that the leg has already keep their state; replaced ones still
        open what is in flight. A WebRTC leg has neither address nor keys from here: nothing
        passes it before `select` and `secure`. Raises NotAcceptable when address or keys cannot
        be used.
        """
        remote = leg.remote
        try:
            self._flows.update(
                side.value,
                None if remote is None else remote.host,
                0 if remote is None else remote.port,
                0 if remote is None else remote.rtcp_port,
                leg.payload_types,
                -1 if leg.telephone_event is None else leg.telephone_event,
                leg.clock_hz,
                leg.may_send,
                leg.may_receive,
                leg.symmetric,
                leg.payload_map,
                () if leg.srtp is None else tuple(map(_key, leg.srtp.receive)),
                None if leg.srtp is None else _key(leg.srtp.send),
                "" if leg.webrtc is None else leg.webrtc.local_ufrag,
                None if leg.coding is None else _coding(leg.coding),
            )
        except ValueError as problem:
            raise NotAcceptable(f"media of the {side.name.lower()}: {problem}") from problem
        self._describe(side, leg.webrtc)

    def _describe(self, side: Side, agreed: IceDtls | None) -> None:
        if agreed is None:
            if (gone := self._webrtc.pop(side, None)) is not None:
                gone.close()
        elif self._open:
            self._leg(side).describe(agreed)

    def _leg(self, side: Side) -> WebRtcLeg:
        if side not in self._webrtc:
            self._webrtc[side] = WebRtcLeg(self._engine.webrtc, self, side)
        return self._webrtc[side]

    def on_packet(self, side: Side, data: bytes, source: tuple[str, int]) -> None:
        """STUN or DTLS that came to a WebRTC leg."""
        if (leg := self._webrtc.get(side)) is not None:
            leg.feed(data, source)

    def send(self, side: Side, data: bytes, host: str, port: int) -> bool:
        """Send STUN or DTLS from a leg's RTP port; False when the kernel refuses.

        Raises ValueError for an address outside of the region.
        """
        return self._flows.send(side.value, data, host, port)

    def select(self, side: Side, path: tuple[str, int] | None) -> None:
        """Where everything of a WebRTC leg comes from and goes to from now on; None: nowhere.

        Holds until the next one, whatever is negotiated meanwhile. Raises ValueError for an
        address outside of the region.
        """
        host, port = path if path is not None else (None, 0)
        self._flows.select(side.value, host, port)

    def secure(self, side: Side, keys: SrtpKeys | None) -> None:
        """The keys that a WebRTC leg's DTLS gave; None: nothing passes until there are others.

        Holds until the next one, whatever is negotiated meanwhile; replaced keys still open what
        is in flight. Raises ValueError.
        """
        if keys is None:
            self._flows.secure(side.value, (), None)
        else:
            self._flows.secure(side.value, tuple(map(_key, keys.receive)), _key(keys.send))

    def figures(self, side: Side) -> StreamFigures:
        """What arrived from this side so far; may be read after `close`."""
        raw = self._flows.figures(side.value)
        return StreamFigures(
            packets=raw["packets"],
            octets=raw["octets"],
            relayed=raw["relayed"],
            lost=raw["lost"],
            late=raw["late"],
            duplicate=raw["duplicate"],
            jitter_ms=raw["jitter_ms"],
            largest_gap_ms=raw["largest_gap_ms"],
            mos=mos(raw["lost"], raw["expected"], raw["jitter_ms"]) if raw["packets"] else None,
            drops=raw["drops"],
            relayed_on_tap=raw["relayed_on_tap"],
            recorded=raw["recorded"],
            reason_for_silence=reason_for_silence(raw),
        )

    def record(self, on: bool) -> int:
        """Start or stop copying both directions to the tap; returns the tap number."""
        if on and not self._tap:
            self._tap = self._engine.next_tap()
        self._flows.record(on, self._tap)
        return self._tap

    def close(self) -> None:
        """Stop both flows and put the ports into quarantine. Idempotent."""
        if self._open:
            self._open = False
            for leg in self._webrtc.values():
                leg.close()
            self._webrtc.clear()
            self._flows.close()
            self._engine.closed(self._number, self._worker, self._ports)


def _coding(coding: Coding) -> tuple[str, int, int, int, int, int, bool]:
    """As the engine has it: -1 for none, and frames of 20 ms in a packet of ours."""
    event, noise = coding.telephone_event, coding.comfort_noise
    return (
        coding.codec,
        coding.payload_type,
        coding.clock_hz,
        -1 if event is None else event,
        -1 if noise is None else noise,
        min(max(coding.ptime_ms // FRAME_MS, 1), MOST_FRAMES),
        coding.fec,
    )


def _key(key: SrtpKey) -> tuple[str, bytes, bytes, bytes]:
    return key.suite, key.key, key.salt, key.mki
