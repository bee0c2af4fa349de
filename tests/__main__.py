"""All tests, in the order that suits a machine: `python -m tests [options of pytest]`.

Each stage is a run of pytest, and the next one starts whatever came of it. `python -m pytest`
runs the same tests, one after the other.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

COMPUTING = ("tests/unit", "tests/scenario", "tests/fuzz")
WAITING = ("tests/browser", "tests/interop")  # the longest first
STAGES = (
    ("what computes: a worker a processor", (*COMPUTING, "-m", "not alone", f"-n{os.cpu_count()}")),
    ("what waits for voices: more workers", (*WAITING, "-m", "not alone", "-nauto")),
    ("what measures time or sound: alone", ("tests", "-m", "alone")),
)
PASSED = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)  # none that `-k` chose


def run(options: list[str]) -> bool:
    """Whether every stage passed."""
    codes = []
    for number, (title, stage) in enumerate(STAGES, 1):
        print(f"\nstage {number} of {len(STAGES)}, {title}", flush=True)
        command = [sys.executable, "-m", "pytest", *stage, *options]
        codes.append(subprocess.run(command, check=False).returncode)
    failed = [str(number) for number, code in enumerate(codes, 1) if code not in PASSED]
    print(f"\nfailed: stage {', '.join(failed)}" if failed else "\nall stages passed")
    return not failed


if __name__ == "__main__":
    sys.exit(not run(sys.argv[1:]))
