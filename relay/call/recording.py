"""A call's recording: when it starts, what it can hold, and when it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay.call.ports import CallMedia, RecordingSpec, Side, StreamFigures

if TYPE_CHECKING:
    from relay.call.calls import Calls
    from relay.call.negotiation import Negotiation

CODECS = ("PCMU", "PCMA")
OFF = "do-not-record"


class CallRecording:
    """`mode` is a trunk's `recording`; `running` while the media are copied to a tap."""

    __slots__ = ("_call_id", "_calls", "mode", "running")

    def __init__(self, calls: Calls, call_id: str) -> None:
        self._calls = calls
        self._call_id = call_id
        self.mode = OFF
        self.running = False

    def ringing(self, media: CallMedia, negotiation: Negotiation) -> None:
        """The callee rings."""
        if self.mode.startswith("record-from-ringing"):
            self._start(media, negotiation)

    def answered(self, media: CallMedia, negotiation: Negotiation) -> None:
        """The callee answered; with a delayed offer the caller's ACK has come, too."""
        if self.mode != OFF and negotiation.agreed:
            self._start(media, negotiation)

    def joined(self, mode: str, media: CallMedia, negotiation: Negotiation) -> None:
        """Another trunk has a side now: it may want what nobody wanted before."""
        if self.mode == OFF != mode:
            self.mode = mode
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
            self.mode = OFF
            return
        self.running = True
        tap, dual = media.record(True), self.mode.endswith("-dual")
        self._calls.recorder.start(
            RecordingSpec(
                self._call_id,
                tap,
                codec,
                dual,
                self._calls.wall_clock(),
                negotiation.opus_types(),
            )
        )
        self._log("recording_started", mode=self.mode, codec=codec)
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
