"""What the demonstration shows of the region's promise: what is kept is encrypted, and nothing
goes outside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from relay.keys.ring import KeyRing
from relay.probe.demo_report import Check
from relay.probe.outward import OUTSIDE
from relay.recording.decryption import wav_of

if TYPE_CHECKING:
    from relay.probe.demo import Evidence

PIECE = 64
"""Octets of audio (4 ms of two channels) that no other octets repeat by chance."""


def judge(evidence: Evidence) -> Iterator[Check]:
    """Every claim about it."""
    if evidence.recording is not None:
        found = readable(evidence.recording, evidence.region_keys)
        text = "the recording on the disk is encrypted"
        yield Check(found == 0, text if not found else f"{found} pieces of audio are in clear")
    answer = evidence.outward
    said = f"{answer.status}, {answer.text}" if answer else "nothing was answered"
    refused = evidence.line("boundary_refused")
    held = answer is not None and answer.status in (403, 488)
    yield Check(held, f"a call that wants its audio at {OUTSIDE} is refused: {said}")
    told = (refused.get("use"), refused.get("host")) == ("media", OUTSIDE)
    yield Check(told, f"the log says so (boundary_refused of {refused.get('host', 'nothing')})")


def readable(recording: Path, keys: Path) -> int:
    """How many pieces of its audio stand in the file as they are heard; 1 more for a header."""
    stored, wav = recording.read_bytes(), wav_of(recording, KeyRing(keys))
    pieces = {wav[at : at + PIECE] for at in range(0, len(wav) - PIECE + 1, PIECE)}
    loud = [piece for piece in pieces if len(set(piece)) > PIECE // 4]  # silence says nothing
    return sum(piece in stored for piece in loud) + (b"RIFF" in stored or b"WAVE" in stored)
