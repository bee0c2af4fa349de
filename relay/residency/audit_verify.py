"""Whether an export of the audit log is what was written: offline, from public keys alone.

An export is the lines of the log and a signed seal. What was anchored outside of the region shows
in addition whether a log was cut back, or written anew by who has the key.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from relay.residency.audit import CHECKPOINT, NO_ENTRY, OPENED, SEAL, digest_of
from relay.residency.signing import canonical, is_signed_by

MOST_PROBLEMS = 20  # that are told one by one
_ENTRY = {"action", "actor", "at", "n", "previous"}
_OPTIONAL = {"details", "subject", "signature"}
_SEAL = {"action", "at", "chain", "first", "head", "last", "node", "region", "signature"}
_encode = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
).encode

Keys = Mapping[str, Ed25519PublicKey]


@dataclass(slots=True)
class Findings:
    """Entries `first` to `last` of the log of a node were looked at. Nothing up to entry `signed`
    can be of anyone but who has the key. `began` and `ended` are the times of the outer entries;
    `clock_steps` is how often the clock went back, which is no fault of the log."""

    region: str = ""
    node: str = ""
    chain: str = ""
    first: int = 0
    last: int = 0
    signed: int = 0
    checkpoints: int = 0
    anchors: int = 0
    clock_steps: int = 0
    began: str = ""
    ended: str = ""
    sealed: str = ""
    problems: list[str] = field(default_factory=list)
    more_problems: int = 0

    @property
    def ok(self) -> bool:
        return not self.problems

    def tell(self, problem: str) -> None:
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(problem)
        else:
            self.more_problems += 1

    def as_json(self) -> dict[str, Any]:
        return {"ok": self.ok, **asdict(self)}


def verify(lines: Iterable[bytes], keys: Keys, anchors: Iterable[bytes] = ()) -> Findings:
    """Look at each line of an export, and at the lines that an anchor has kept (checkpoints)."""
    return _Verification(keys, anchors).run(lines)


class _Verification:
    def __init__(self, keys: Keys, anchors: Iterable[bytes]) -> None:
        self._keys = keys
        self._found = Findings()
        self._anchors = self._read_anchors(anchors)
        self._anchored = {document["n"] for document in self._anchors}
        self._digests: dict[int, str] = {}  # of entries that were anchored
        self._previous = NO_ENTRY
        self._sealed = False

    def run(self, lines: Iterable[bytes]) -> Findings:
        found = self._found
        for place, line in enumerate(lines, 1):
            line = line.removesuffix(b"\n")
            entry = _parsed(line)
            if self._sealed:
                found.tell(f"line {place} comes after the seal: it was put in")
            elif entry is None:
                found.tell(f"line {place} is no entry in its one form: it was changed")
            elif entry["action"] == SEAL:
                self._seal(entry, place)
            else:
                self._entry(entry, line)
        if not self._sealed:
            found.tell(
                f"there is no seal after entry {found.last}: the end was cut off, or this is no "
                "export (`relay audit export` makes one)"
            )
        self._compare_anchors()
        return found

    def _entry(self, entry: dict[str, Any], line: bytes) -> None:
        found, number = self._found, entry["n"]
        digest = digest_of(line)
        if not found.first:
            self._begin(entry, digest)
        elif number > found.last + 1:
            missing = f"{found.last + 1} to {number - 1}"
            found.tell(f"entries {missing} are not before entry {number}: deleted or re-ordered")
        elif number <= found.last:
            found.tell(
                f"entry {number} comes after entry {found.last}: re-ordered, put in or replayed"
            )
        elif entry["previous"] != self._previous:
            found.tell(
                f"entry {number} does not follow from the line before it: "
                f"entry {number - 1} or {number} was changed, or replaced"
            )
        if entry["at"] < found.ended:
            found.clock_steps += 1
        found.last, found.ended, self._previous = number, entry["at"], digest
        if number in self._anchored:
            self._digests[number] = digest
        if "signature" in entry or entry["action"] == CHECKPOINT:
            self._signed(entry)

    def _begin(self, entry: dict[str, Any], digest: str) -> None:
        found = self._found
        found.first, found.began = entry["n"], entry["at"]
        if entry["n"] == 1:
            if entry["action"] != OPENED or entry["previous"] != NO_ENTRY:
                found.tell("entry 1 does not open a log: it was changed")
            self._log_is(digest, entry.get("details", {}), "entry 1")

    def _signed(self, entry: dict[str, Any]) -> None:
        found, number = self._found, entry["n"]
        if entry["action"] != CHECKPOINT:
            found.tell(f"entry {number} is signed and no checkpoint: it was changed")
            return
        if not self._is_signed(entry, f"checkpoint {number}"):
            return
        details = entry["details"]
        self._log_is(details["chain"], details, f"checkpoint {number}")
        found.checkpoints += 1
        found.signed = max(found.signed, number)

    def _seal(self, seal: dict[str, Any], place: int) -> None:
        found = self._found
        self._sealed = True
        if not self._is_signed(seal, f"the seal (line {place})"):
            return
        self._log_is(seal["chain"], seal, "the seal")
        found.sealed = seal["at"]
        if (seal["first"], seal["last"]) != (found.first, found.last):
            found.tell(
                f"the seal is over entries {seal['first']} to {seal['last']}, here are "
                f"{found.first} to {found.last}: cut off, or sealed for another export"
            )
        elif seal["head"] != self._previous:
            found.tell(f"the seal is over another entry {found.last} than this: it was changed")
        else:
            found.signed = found.last

    def _is_signed(self, document: dict[str, Any], what: str) -> bool:
        if is_signed_by(document, self._keys):
            return True
        claim = document.get("signature")
        key = claim.get("key") if isinstance(claim, dict) else None
        if not isinstance(key, str):
            self._found.tell(f"{what} is not signed: it was changed or put in")
        elif key not in self._keys:
            self._found.tell(f"{what} is signed by {key}, which is none of the given keys")
        else:
            self._found.tell(f"{what}: its signature does not fit: it was changed")
        return False

    def _log_is(self, chain: str, about: Mapping[str, Any], what: str) -> None:
        """The chain, region and node are the same all through."""
        found = self._found
        log = (chain, about.get("region"), about.get("node"))
        if not found.chain:
            found.chain, found.region, found.node = (str(part) for part in log)
        elif log != (found.chain, found.region, found.node):
            found.tell(f"{what} is of another log: replayed from elsewhere")

    # --- anchors

    def _read_anchors(self, lines: Iterable[bytes]) -> list[dict[str, Any]]:
        found = []
        for place, line in enumerate(lines, 1):
            if not line.strip():
                continue
            document = _loaded(line)
            if document is None or document.get("action") != CHECKPOINT or not _is_entry(document):
                self._found.tell(f"line {place} of the anchors is no checkpoint")
            elif self._is_signed(document, f"checkpoint {document['n']} of the anchors"):
                found.append(document)
        return found

    def _compare_anchors(self) -> None:
        found = self._found
        ours = [
            document
            for document in self._anchors  # others: of another log, or not in this export
            if document["details"].get("node") == found.node and document["n"] >= found.first
        ]
        if self._anchors and not ours:
            found.tell("none of the anchors is of these entries: they prove nothing of this log")
        for document in ours:
            number = document["n"]
            if number > found.last:
                found.tell(
                    f"entry {number} was anchored at {document['at']}, the export ends with "
                    f"{found.last}: cut off"
                )
            elif self._digests.get(number) != digest_of(canonical(document)):
                found.tell(f"entry {number} is not the checkpoint that was anchored: rewritten")
            else:
                found.anchors += 1


def _parsed(line: bytes) -> dict[str, Any] | None:
    """An entry or seal, if this is the one form of it."""
    entry = _loaded(line)
    if entry is None or not (_is_entry(entry) or _is_seal(entry)):
        return None
    try:
        return entry if _encode(entry).encode() == line else None
    except (ValueError, RecursionError):
        return None


def _loaded(line: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _is_entry(entry: dict[str, Any]) -> bool:
    names = entry.keys()
    return (
        names >= _ENTRY
        and names <= _ENTRY | _OPTIONAL
        and type(entry["n"]) is int
        and type(entry["action"]) is type(entry["at"]) is type(entry["previous"]) is str
        and type(entry["actor"]) is dict
        and type(entry.get("details", {})) is dict
        and (entry["action"] != CHECKPOINT or "chain" in entry.get("details", ()))
    )


def _is_seal(entry: dict[str, Any]) -> bool:
    return entry.keys() == _SEAL and entry["action"] == SEAL
