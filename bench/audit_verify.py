"""(v) Verification of an audit log of 1,000,000 entries: under 60 s.

    python -m bench.audit_verify [--entries 1000000]

An export as the relay writes it, with a checkpoint every 1,000 entries, is verified by the offline
verifier from a file on the disk. One process, wall time and CPU.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from bench import common
from relay.keys.ring import KeyRing
from relay.keys.signing import SigningKey
from relay.residency import audit
from relay.residency.audit import NO_ENTRY, OPENED, Actor, Draft, digest_of, line_of
from relay.residency.audit_verify import verify

CHECKPOINT_EVERY = 1000
TARGET_S = 60.0
LOG = {"region": "ie1", "node": "node1"}
ANNA = Actor("staff", "anna", "IE", "grant-1")


def export(entries: int, signer: SigningKey) -> Iterator[bytes]:
    """The lines of one."""
    at, previous, log = datetime.now(UTC), NO_ENTRY, LOG
    for number in range(1, entries + 1):
        if number == 1:
            entry = Draft(OPENED, details=LOG).entry(number, at, previous)
        elif number % CHECKPOINT_EVERY == 0:
            entry = audit.checkpoint(number, at, previous, log, signer)
        else:
            read = Draft("recording-read", ANNA, f"{number:016x}", {"octets": number})
            entry = read.entry(number, at, previous)
        line = line_of(entry)
        previous = digest_of(line)
        if number == 1:
            log = {**LOG, "chain": previous}
        yield line + b"\n"
    yield line_of(audit.seal(1, entries, previous, at, log, signer)) + b"\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=1_000_000)
    entries = parser.parse_args().entries
    with tempfile.TemporaryDirectory() as scratch:
        keys, _ = KeyRing.create(Path(scratch) / "keys")
        path = Path(scratch) / "audit.jsonl"
        with path.open("wb") as file:
            file.writelines(export(entries, keys.signer))
        cpu, began = time.process_time(), time.monotonic()
        with path.open("rb") as lines:
            found = verify(lines, keys.public_keys)
        taken, cpu = time.monotonic() - began, time.process_time() - cpu
        octets = path.stat().st_size
    passed = found.ok and found.signed == entries and taken < TARGET_S
    common.report(
        "audit_verify",
        passed=passed,
        target_s=TARGET_S,
        entries=entries,
        octets=octets,
        seconds=round(taken, 2),
        cpu_s=round(cpu, 2),
        peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    )
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
