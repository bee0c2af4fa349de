"""`relay serve` as a process of ours, seen through its JSON log."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from relay.probe.wav_file import ProbeError

POLL_S = 0.02
Line = dict[str, Any]


class RelayProcess:
    """Started by the constructor; `wait("serving")` before use; `stop()` in the end."""

    def __init__(self, config: Path, log: Path, module: str = "relay") -> None:
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, "serve", "--config", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def lines(self) -> list[Line]:
        """Every complete log line so far that is JSON."""
        complete = self.log.read_bytes().rpartition(b"\n")[0]
        return [json.loads(line) for line in complete.splitlines() if line.startswith(b"{")]

    def find(self, event: str, **fields: Any) -> list[Line]:
        """The lines of this event with these fields, in order."""
        wanted = {"event": event, **fields}
        return [line for line in self.lines() if wanted.items() <= line.items()]

    def wait(self, event: str, deadline_s: float = 15.0, count: int = 1, **fields: Any) -> Line:
        """The `count`-th such line. Raises ProbeError at the deadline or when relay ends."""
        deadline = time.monotonic() + deadline_s
        while True:
            ended = self.process.poll()  # before reading, or its last lines are missed
            if len(found := self.find(event, **fields)) >= count:
                return found[count - 1]
            if ended is not None:
                raise ProbeError(f"relay ended ({ended}) before {event}:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise ProbeError(f"relay: no {event} {fields} in {deadline_s:g} s:\n{self.tail()}")
            time.sleep(POLL_S)

    def tail(self, lines: int = 20) -> str:
        """The end of its log, for a message."""
        text = self.log.read_text(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def stop(self, deadline_s: float = 15.0) -> int:
        """SIGTERM, then wait; kill at the deadline. Returns the exit code. Idempotent."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(deadline_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return self.process.returncode
