"""Implements `relay.call.ports.Recorder` with files in a directory."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from relay.call.ports import RecordingEnded, RecordingSpec, Side
from relay.errors import KeyMissing
from relay.keys.ring import KeyRing
from relay.recording import envelope, ledger, spool
from relay.recording.encryption import EncryptedSink
from relay.recording.ledger import Ledger
from relay.recording.sink import FileSink, Sink
from relay.recording.wav import WavFile
from relay.recording.writer import Opened, Recording, TapSource, Writer

COMPANDING = {"PCMU": 0, "PCMA": 8}
"""Payload type of each law that is recorded (RFC 3551)."""


class FileRecorder:
    """Records into `directory`: a G.711 WAV file, encrypted, and a ledger for each call.

    `start` and `stop` belong to one thread (the event loop) and neither block nor raise;
    files are touched by the writer thread alone. `on_event` is called FROM THE WRITER
    THREAD: pass it on with `loop.call_soon_threadsafe`. Each start is answered by exactly
    one event, also when it could not begin. `tap` is used by nobody else.
    """

    def __init__(
        self,
        directory: Path,
        tap: TapSource,
        on_event: Callable[[RecordingEnded], None],
        keys: KeyRing,
        region: str,
        *,
        open_sink: Callable[[Path], Sink] = FileSink,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._directory = directory
        self._keys = keys
        self._region = region
        self._open_sink = open_sink
        self._now_ns = now_ns
        self._taps: dict[str, int] = {}
        self._writer = Writer(tap, on_event, now_ns)
        self._writer.start()

    def obstacle(self, customer_keys: Sequence[str]) -> str:
        """Why nothing could be recorded now, or ""."""
        try:
            envelope.check(self._keys, customer_keys)
        except KeyMissing as missing:
            return str(missing)
        return ""

    def start(self, spec: RecordingSpec) -> None:
        """Begin; right after the engine numbered the tap, in the same turn of the loop."""
        problem = None
        if spec.codec not in COMPANDING:
            problem = f"{spec.codec} is not recorded: only PCMU and PCMA are"
        elif spec.call_id in self._taps:
            problem = "the call is being recorded already"
        if problem is None:
            self._begin(spec)
        else:
            self._writer.report(RecordingEnded(spec.call_id, "", 0.0, problem))

    def stop(self, call_id: str, relayed: dict[Side, int]) -> None:
        """Finish. `relayed` counts each side's packets while it was recorded."""
        tap = self._taps.pop(call_id, None)
        if tap is not None:
            self._writer.end(tap, relayed, self._now_ns())

    def close(self, timeout_s: float = 5.0) -> bool:
        """End all recordings and the thread; False when that took too long. Blocks."""
        return self._writer.close(timeout_s)

    def _begin(self, spec: RecordingSpec) -> None:
        channels = ["caller", "callee"] if spec.dual else ["mixed"]
        entry = Ledger(spec.call_id, "", spec.codec, channels, spec.started)
        entry.trim_silence = spec.trim_silence
        recording = Recording(spec.tap, entry, lambda: self._open(spec, entry), spec.opus_types)
        self._writer.begin(recording, COMPANDING[spec.codec], self._now_ns(), spec.dual)
        self._taps[spec.call_id] = spec.tap

    def _open(self, spec: RecordingSpec, entry: Ledger) -> Opened:
        # In the writer thread. A name that is taken is another call of the same second.
        channels = len(entry.channels)
        data_key, sealed = envelope.seal(
            self._keys, self._region, spec.call_id, channels, spec.customer_keys
        )
        entry.envelope = sealed
        for path in spool.candidates(self._directory, spec):
            try:
                file = self._open_sink(path)
            except FileExistsError:
                continue
            entry.audio, name = path.name, path.relative_to(self._directory).as_posix()
            try:
                ledger.begin(path, entry)
                sink = EncryptedSink(file, data_key, sealed.context, sealed.segment)
                container = WavFile(sink, spec.codec, channels)
            except OSError:
                file.close()
                spool.discard(self._directory, name)  # there is nothing in it
                raise
            return Opened(str(path), name, container, partial(_finish, path, entry, sink))
        raise FileExistsError(0, "too many recordings of one name")


def _finish(path: Path, entry: Ledger, sink: EncryptedSink) -> None:
    entry.sealed, entry.sha256, entry.octets = sink.sealed, sink.sha256, sink.octets
    ledger.finish(path, entry)
