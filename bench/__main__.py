"""All figures, one after the other; also written to build/bench.jsonl (`make bench`)."""

from __future__ import annotations

import json
import subprocess
import sys

from bench.common import ROOT

FIGURES: tuple[tuple[str, ...], ...] = (
    ("relay_cost",),
    ("relay_cost", "--calls", "50", "--alone"),
    ("relay_cost", "--calls", "1000", "--alone"),
    ("relay_cost", "--calls", "2000", "--alone"),
    ("call_cost",),
    ("tls_setup",),
    ("call_cost_digest",),
    ("calls_100_per_s",),
    ("memory_per_call",),
    ("idle_cpu",),
    ("idle_clients",),
    ("recording_cost",),
    ("recording_stored",),
    ("srtp_ops",),
    ("srtp_cost",),
    ("dtls_cost",),
    ("dtls_handshakes",),
    ("transcode_cost",),
    ("audit_verify",),
)


def main() -> int:
    output = ROOT / "build/bench.jsonl"
    output.parent.mkdir(exist_ok=True)
    failed = False
    with output.open("w") as file:
        for name, *options in FIGURES:
            command = [sys.executable, "-m", f"bench.{name}", *options]
            run = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
            line = run.stdout.strip().rpartition("\n")[2]
            if run.returncode != 0:
                failed = True
                line = line or json.dumps({"bench": name, "failed": run.returncode})
            print(line, flush=True)
            file.write(line + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
