"""A few calls of the soak (`make soak`), with everything in them that ends soon."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

# The soak judges by its own deadline (`bench.soak.QUIET_S`) what is left of its calls.
DEADLINE_S = 280.0


@pytest.mark.timeout(DEADLINE_S + 20)
def test_nothing_of_random_calls_stays_behind() -> None:
    """No call, dialog, transaction, port or descriptor; no bug; memory is the long run's."""
    run = subprocess.run(
        [sys.executable, "-m", "bench.soak", "--short", "--calls", "150", "--rate", "50"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert found["held"]
    assert found["peers"]["answered"] > 50
    assert found["relay"]["sip"]["digest_missing"] > 5
