"""What the demonstration shows of the region's promise: what is kept is encrypted, and nothing
goes outside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import numpy as np

from relay.keys.ring import KeyRing
from relay.probe.auditor import verify
from relay.probe.demo_report import Check, same
from relay.probe.outward import OUTSIDE
from relay.probe.wav_file import Samples, decode_wav
from relay.recording.decryption import wav_of

if TYPE_CHECKING:
    from relay.probe.demo import Evidence

PIECE = 64
"""Octets of audio (4 ms of two channels) that no other octets repeat by chance."""


ENTRIES = {"boundary-refused", "access-refused", "grant-requested", "grant-approved"}


def judge(evidence: Evidence) -> Iterator[Check]:
    """Every claim about it."""
    if evidence.recording is not None:
        found = readable(evidence.recording, evidence.region_keys)
        text = "the recording on the disk is encrypted"
        yield Check(found == 0, text if not found else f"{found} pieces of audio are in clear")
    yield from _reading(evidence)
    answer = evidence.outward
    said = f"{answer.status}, {answer.text}" if answer else "nothing was answered"
    held = answer is not None and answer.status in (403, 488)
    yield Check(held, f"a call that wants its audio at {OUTSIDE} is refused: {said}")
    refused = evidence.line("boundary_refused")
    logged = (refused.get("use"), refused.get("host")) == ("media", OUTSIDE)
    seen = [(each["use"], each["inside"], each["allowed"]) for each in evidence.verdicts]
    held = logged and seen == [("media", False, False)]
    yield Check(held, "the log says so, and the record of the call")
    yield from _audit(evidence)


def _reading(evidence: Evidence) -> Iterator[Check]:
    """What staff got over the API, with the caller's words as the measure."""
    readings = evidence.readings
    if readings is None:
        yield Check(False, "the recording was asked for over the API")
        return
    said = evidence.said["caller"]
    yield same(
        "over the API a reviewer of the region hears the caller", _left(readings.inside), said
    )
    status, rule, text = readings.outside.status_code, *_refusal(readings.outside)
    yield Check(
        (status, rule) == (403, "grant"), f"one of another jurisdiction does not: {status}, {text}"
    )
    asked, given = (answer.json() for answer in (readings.requested, readings.approved))
    steps = f"{asked.get('state')} by {asked.get('requester')}, {given.get('state')}"
    yield Check(given.get("state") == "approved", f"a grant is {steps}")
    yield same("with it they hear the caller, too", _left(readings.granted), said)


def _audit(evidence: Evidence) -> Iterator[Check]:
    """What the offline verifiers say, and what the audit log has of all this."""
    if evidence.taken is None or evidence.recording is None:
        yield Check(False, "an auditor got a receipt and the audit log")
        return
    keys = KeyRing(evidence.region_keys).public_keys
    audited = verify(evidence.taken, keys, evidence.recording)
    receipt, log = audited.receipt, audited.log
    text = f"the receipt is verified offline: {receipt.addresses} addresses, all inside"
    yield Check(receipt.contained, receipt.problem or text)
    yield Check(audited.same, "… the recording is the one that it names")
    forged = audited.forged_receipt
    yield Check(bool(forged.problem), f"… with one value changed it is not: {forged.problem}")
    yield Check(log.ok, f"the audit log is verified offline, entries {log.first} to {log.last}")
    problem = next(iter(audited.forged_log.problems), "nothing is found")
    yield Check(not audited.forged_log.ok, f"… with one name changed it is not: {problem}")
    missing = ", ".join(sorted(ENTRIES - audited.actions))
    yield Check(not missing, f"… {missing or 'none'} of the refusals and the grant is missing")


def _left(answer: httpx.Response) -> Samples:
    """The caller's channel; nothing where the answer is a refusal."""
    if answer.status_code != 200:
        return np.zeros(0, np.float32)
    left: Samples = decode_wav(answer.content, Path("the API's answer")).samples[0]
    return left


def _refusal(answer: httpx.Response) -> tuple[str, str]:
    """Its rule and its text (`relay.control.answers`)."""
    error = answer.json().get("error", {}) if answer.status_code >= 400 else {}
    return error.get("rule", ""), error.get("text", "")


def readable(recording: Path, keys: Path) -> int:
    """How many pieces of its audio stand in the file as they are heard; 1 more for a header."""
    stored = recording.read_bytes()
    found = sum(piece in stored for piece in pieces(wav_of(recording, KeyRing(keys))))
    return found + (b"RIFF" in stored or b"WAVE" in stored)


def pieces(wav: bytes) -> list[bytes]:
    """Of its audio, those that are not silence, which other octets may hold by chance."""
    found = {wav[at : at + PIECE] for at in range(0, len(wav) - PIECE + 1, PIECE)}
    return [piece for piece in found if len(set(piece)) > PIECE // 4]
