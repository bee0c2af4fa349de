"""`relay demo` as a person sees it: every line of its result table holds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.interop.region import need, need_pjsua2

DEADLINE_S = 100


@pytest.mark.alone
def test_every_claim_of_the_demonstration_holds(tmp_path: Path) -> None:
    need("espeak-ng")
    need_pjsua2()
    command = [sys.executable, "-m", "relay", "demo"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    claims = [line for line in done.stdout.splitlines() if line.startswith(("✓", "✗"))]
    assert not [line for line in claims if line.startswith("✗")], done.stdout
    assert done.returncode == 0, done.stdout + done.stderr
    assert len([line for line in claims if not line.startswith("✓ 0:")]) > 20
    assert {path.name for path in (tmp_path / "var").iterdir()} >= {"recordings", "keys", "audit"}
