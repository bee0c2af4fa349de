"""A relay that holds keys and audio leaves no image of its memory, and lets nobody look at it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.interop.region import region

NOT_DUMPABLE = "import os; from relay import core_dumps; core_dumps.forbid(); "


def test_the_relay_forbids_its_core_dumps(tmp_path: Path) -> None:
    with region(tmp_path) as r:
        limits = Path(f"/proc/{r.process.pid}/limits").read_text()
        (core,) = (line for line in limits.splitlines() if line.startswith("Max core file size"))
        assert core.split()[4:6] == ["0", "0"]
        # What is not dumpable belongs to root, whoever runs it (proc(5)); for root's own
        # processes /proc says nothing of it, so ask one of them.
        assert os.stat(f"/proc/{r.process.pid}/environ").st_uid == 0
    code = NOT_DUMPABLE + "import ctypes; print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stdout == "0\n", done.stderr


def test_one_that_dies_of_a_signal_that_dumps_leaves_no_file(tmp_path: Path) -> None:
    """Also where its limit was high: with `core_pattern` as a file, without this there is one."""
    code = "import resource; resource.setrlimit(resource.RLIMIT_CORE, (-1, -1)); " + NOT_DUMPABLE
    command = [sys.executable, "-c", f"{code}os.kill(os.getpid(), 6)"]
    done = subprocess.run(command, cwd=tmp_path, timeout=30, check=False)
    assert done.returncode == -signal.SIGABRT
    assert list(tmp_path.iterdir()) == []
