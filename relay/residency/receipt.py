"""The receipt of a call: where its media and its data went, signed, to be verified anywhere.

It names every remote address and the boundary's verdict on it. Numbers and identities are not in
it; the addresses are personal, so that it is kept sealed, as the record is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from relay.residency.record import CallRecord, LegRecord
from relay.residency.signing import is_signed_by

KIND = "call-receipt"
VERSION = 1
_PARTS = {
    *("kind", "version", "call", "region", "node", "policy", "started", "answered", "ended"),
    *("status", "ended_by", "legs", "recording", "signature"),
}
_LEG = ("side", "peer", "kind", "transport", "codec", "encryption", "packets", "relayed")
_ADDRESS = {"use", "host", "port", "inside", "allowed"}


@dataclass(frozen=True, slots=True)
class Verified:
    """What a receipt says. `used_outside`: addresses outside that were used, in a dry run;
    `refused`: those that were wanted, and were not. `problem`: why it proves nothing."""

    call: str
    key: str
    addresses: int
    used_outside: tuple[str, ...]
    refused: tuple[str, ...]
    problem: str = ""

    @property
    def contained(self) -> bool:
        """Whether all that was used lies inside the region."""
        return not self.problem and not self.used_outside


def receipt_of(record: CallRecord) -> dict[str, Any]:
    """The receipt of a call that is final, to be signed. Raises ValueError for another one."""
    if not record.final:
        raise ValueError(f"call {record.id} is not over, or its recording is not closed")
    recording = record.recording
    return {
        "kind": KIND,
        "version": VERSION,
        "call": record.id,
        "region": record.region,
        "node": record.node,
        "policy": record.policy,
        "started": _instant(record.started),
        "answered": _instant(record.answered),
        "ended": _instant(record.ended),
        "status": record.status,
        "ended_by": record.ended_by,
        "legs": [_leg(leg) for leg in record.legs],
        "recording": None
        if recording is None
        else {**asdict(recording), "keys": list(recording.keys)},
    }


def verify(receipt: Mapping[str, Any], keys: Mapping[str, Ed25519PublicKey]) -> Verified:
    """Whether a receipt is what was signed, and what it says."""
    claim = receipt.get("signature")
    key = claim.get("key") if isinstance(claim, Mapping) else None
    call = str(receipt.get("call", ""))
    problem = ""
    if not isinstance(key, str):
        problem = "it is not signed"
    elif key not in keys:
        problem = f"it is signed by {key}, which is none of the given keys"
    elif not is_signed_by(receipt, keys):
        problem = "its signature does not fit: it was changed"
    elif receipt.get("kind") != KIND or receipt.get("version") != VERSION or not _whole(receipt):
        problem = f"it is no {KIND} of version {VERSION}"
    if problem:
        return Verified(call, str(key or ""), 0, (), (), problem)
    seen = [address for leg in receipt["legs"] for address in leg["addresses"]]
    outside = [each for each in seen if not each["inside"]]
    return Verified(
        call,
        str(key),
        len(seen),
        tuple(_told(each) for each in outside if each["allowed"]),
        tuple(_told(each) for each in outside if not each["allowed"]),
    )


def _leg(leg: LegRecord) -> dict[str, Any]:
    addresses = [asdict(each) for each in leg.seen]
    return {**{name: getattr(leg, name) for name in _LEG}, "addresses": addresses}


def _whole(receipt: Mapping[str, Any]) -> bool:
    return receipt.keys() == _PARTS and all(
        leg.keys() == {*_LEG, "addresses"}
        and all(address.keys() == _ADDRESS for address in leg["addresses"])
        for leg in receipt["legs"]
    )


def _told(address: Mapping[str, Any]) -> str:
    return f"{address['host']} ({address['use']})"


def _instant(when: datetime | None) -> str | None:
    return None if when is None else when.isoformat()
