"""A call's recording: when it starts, what it can hold, and when it ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from relay.call.ports import CallMedia, RecordingSpec, Side, StreamFigures
from relay.errors import Refused, Unrecordable
from relay.residency.record import RecordingRecord

if TYPE_CHECKING:
    from relay.call.calls import Calls
    from relay.call.negotiation import Negotiation
    from relay.config.peer import Peer

CODECS = ("PCMU", "PCMA")
OFF = "do-not-record"
UNRECORDABLE = "this call must be recorded and cannot be"


@dataclass(frozen=True, slots=True)
class RecordingPolicy:
    """What the peers of a call want together: `mode` is the one that records more. Customers'
    keys, where a peer that records has one, are the only ones; the shortest retention holds."""

    mode: str
    required: bool = False
    customer_keys: tuple[str, ...] = ()
    trim_silence: bool = False
    retention_days: float | None = None


NOTHING = RecordingPolicy(OFF)


def policy_of(*peers: Peer) -> RecordingPolicy:
    """Of those who have a side."""
    wanted = [peer for peer in peers if peer.recording != OFF]
    if not wanted:
        return NOTHING
    ringing = any(peer.recording.startswith("record-from-ringing") for peer in wanted)
    dual = any(peer.recording.endswith("-dual") for peer in wanted)
    keys = (peer.recording_key for peer in wanted)
    days = [peer.retention_days for peer in wanted if peer.retention_days is not None]
    return RecordingPolicy(
        f"record-from-{'ringing' if ringing else 'answer'}{'-dual' if dual else ''}",
        any(peer.recording_required for peer in wanted),
        tuple(dict.fromkeys(key for key in keys if key is not None)),
        any(peer.trim_silence for peer in wanted),
        min(days, default=None),
    )


class CallRecording:
    """`policy` is what its two peers want; `running` while the media are copied to a tap."""

    __slots__ = ("_call_id", "_calls", "policy", "running")

    def __init__(self, calls: Calls, call_id: str) -> None:
        self._calls = calls
        self._call_id = call_id
        self.policy = NOTHING
        self.running = False

    def check(self, policy: RecordingPolicy) -> None:
        """Raises Refused where a peer requires a recording and none could be made."""
        if policy.required:
            obstacle = self._calls.recorder.obstacle(policy.customer_keys)
            if obstacle:
                raise Refused(503, UNRECORDABLE, detail=f"{UNRECORDABLE}: {obstacle}")

    def check_codec(self, negotiation: Negotiation) -> None:
        """Raises Unrecordable where a recording is required and the agreed codec has none."""
        codec = negotiation.codec()
        if self.policy.required and negotiation.agreed and self._recorded(codec) not in CODECS:
            raise Unrecordable(f"{UNRECORDABLE}: its codec is {codec or 'unknown'}")

    def ringing(self, media: CallMedia, negotiation: Negotiation) -> None:
        """The callee rings."""
        if self.policy.mode.startswith("record-from-ringing"):
            self._start(media, negotiation)

    def answered(self, media: CallMedia, negotiation: Negotiation) -> None:
        """The callee answered; with a delayed offer the caller's ACK has come, too."""
        if self.policy.mode != OFF and negotiation.agreed:
            self._start(media, negotiation)

    def joined(self, policy: RecordingPolicy, media: CallMedia, negotiation: Negotiation) -> None:
        """Another trunk has a side now: it may want what nobody wanted before."""
        if self.policy.mode == OFF != policy.mode:
            self.policy = policy
            self._start(media, negotiation)

    def stop(
        self,
        media: CallMedia,
        negotiation: Negotiation,
        caller: StreamFigures,
        callee: StreamFigures,
    ) -> None:
        """The call is over; the outcome comes as `RecordingEnded`."""
        if self.running:
            negotiation.on_codec = None
            media.record(False)
            relayed = {Side.CALLER: caller.relayed_on_tap, Side.CALLEE: callee.relayed_on_tap}
            self._calls.recorder.stop(self._call_id, relayed)

    def _start(self, media: CallMedia, negotiation: Negotiation) -> None:
        if self.running:
            return
        codec = self._recorded(negotiation.codec())
        if codec not in CODECS:
            self._log("recording_unsupported", codec=codec or "unknown")
            if not self.policy.required:  # else the call ends with its answer
                self.policy = NOTHING
            return
        self.running = True
        policy = self.policy
        tap, dual = media.record(True), policy.mode.endswith("-dual")
        notes = self._calls.active[self._call_id].notes
        notes.recording = RecordingRecord(self._call_id, "", codec, 2 if dual else 1)
        self._calls.recorder.start(
            RecordingSpec(
                self._call_id,
                tap,
                codec,
                dual,
                self._calls.wall_clock(),
                negotiation.opus_types(),
                policy.customer_keys,
                policy.trim_silence,
                policy.retention_days,
            )
        )
        self._log("recording_started", mode=policy.mode, codec=codec)
        negotiation.on_codec = self._codec_changed

    def _recorded(self, codec: str) -> str:
        """What a codec is recorded as: Opus is decoded, where it was built in."""
        return "PCMU" if codec == "OPUS" and self._calls.media.transcodes else codec

    def _codec_changed(self, codec: str) -> None:
        """What goes on in the recording's own law; anything else is missing from it."""
        recorded = self._recorded(codec) in CODECS
        self._log("recording_codec_changed", codec=codec or "unknown", recorded=recorded)

    def _log(self, name: str, **fields: object) -> None:
        self._calls.journal.event(name, self._call_id, **fields)
