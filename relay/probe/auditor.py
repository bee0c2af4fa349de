"""An auditor: takes what the region has written away, and verifies it with public keys alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from relay.probe.staff import OUTSIDER, Office, until_there
from relay.residency import audit_verify
from relay.residency import receipt as receipts
from relay.residency.audit_verify import Findings
from relay.residency.receipt import Verified

Keys = Mapping[str, Ed25519PublicKey]


@dataclass(frozen=True, slots=True)
class Taken:
    """A call's receipt and the audit log, as the API gives them."""

    receipt: bytes
    log: bytes


@dataclass(frozen=True, slots=True)
class Audited:
    """What the verifiers say, offline, and of a copy in which one value was changed. `same` is
    whether the stored recording is the receipt's; `actions` are those of the log."""

    receipt: Verified
    forged_receipt: Verified
    same: bool
    log: Findings
    forged_log: Findings
    actions: frozenset[str]


def take(office: Office, call: str) -> Taken:
    """Raises httpx.HTTPError."""
    niamh = office.member("niamh", "auditor", "EU")
    receipt = until_there(lambda: niamh.get(f"/calls/{call}/receipt"))
    return Taken(receipt.content, niamh.get("/audit").content)


def verify(taken: Taken, keys: Keys, recording: Path) -> Audited:
    """Raises ValueError for what is no JSON, OSError."""
    receipt = json.loads(taken.receipt)
    forged = json.loads(taken.receipt.replace(b"true", b"false", 1))
    named = (receipt.get("recording") or {}).get("sha256")
    lines = taken.log.splitlines(keepends=True)
    log = taken.log.replace(f'"{OUTSIDER}"'.encode(), b'"nobody"', 1)
    return Audited(
        receipts.verify(receipt, keys),
        receipts.verify(forged, keys),
        named == hashlib.sha256(recording.read_bytes()).hexdigest(),
        audit_verify.verify(lines, keys),
        audit_verify.verify(log.splitlines(keepends=True), keys),
        frozenset(str(json.loads(line).get("action")) for line in lines),
    )
