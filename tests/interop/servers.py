"""Other people's servers as processes: Kamailio and rtpengine."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tests.interop.region import Party
from tests.interop.sipp_run import listens

CONFIG = Path(__file__).parent / "kamailio.cfg"


@contextmanager
def running(command: Sequence[str], own: Party, log: Path) -> Iterator[None]:
    """A program that listens at `own` when the block begins, and has ended after it."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    try:
        deadline = time.monotonic() + 10
        while not listens(own):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)  # polls for the socket
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            # Kamailio told to end while its workers still start may miss it. Its own affair.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


def kamailio(
    own: Party, callee: Party, directory: Path, template: Path = CONFIG, **values: str
) -> AbstractContextManager[None]:
    """A proxy at `own` that passes everything to `callee`; `values` fill in the @names@."""
    config = directory / "kamailio.cfg"
    text = template.read_text()
    for name, value in {"own": own, "next": callee, "host": own.host, **values}.items():
        text = text.replace(f"@{name}@", str(value))
    config.write_text(text)
    command = (
        *("kamailio", "-DD", "-E", "-f", str(config), "-m", "32"),
        *("-Y", str(directory), "-P", str(directory / "kamailio.pid")),
    )
    return running(command, own, directory / "kamailio.log")


def rtpengine(own: Party, directory: Path) -> AbstractContextManager[None]:
    """rtpengine in userspace, controlled at `own`."""
    command = (
        *("rtpengine", "--table=-1", f"--interface={own.host}", "--foreground"),
        *(f"--listen-ng={own}", "--log-stderr", "--log-level=5", "--config-file=none"),
        *("--port-min=14000", "--port-max=15999"),
    )
    return running(command, own, directory / "rtpengine.log")
