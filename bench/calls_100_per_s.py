"""(c) 100 calls/s for 60 s: none may fail, memory stays flat.

    python -m bench.calls_100_per_s [--seconds 60] [--rate 100]

An ended call leaves transactions that absorb late messages for 32 s (RFC 3261, 64*T1), so
memory grows that long whatever is right; what it grows by after that is a leak.
"""

from __future__ import annotations

import argparse
import sys
import threading

from bench import common

HOLD_MS = 1000
SETTLED_S = 42  # 64*T1, a call, and the allocator
EVERY_S = 2.0


class Memory(threading.Thread):
    """Samples resident memory (MiB) until `done` is set."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid = pid
        self.done = threading.Event()
        self.samples: list[float] = []

    def run(self) -> None:
        while not self.done.wait(EVERY_S):
            self.samples.append(round(common.resident_octets(self.pid) / 2**20, 2))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--rate", type=int, default=100)
    options = parser.parse_args()
    count = options.seconds * options.rate
    with common.callee(), common.relay() as relay:
        common.calls(options.rate, options.rate, HOLD_MS)
        cpu = common.cpu_s(relay.pid)
        memory = Memory(relay.pid)
        memory.start()
        counters = common.calls(count, options.rate, HOLD_MS)
        memory.done.set()
        used = common.cpu_s(relay.pid) - cpu
    settled = memory.samples[int(SETTLED_S / EVERY_S) :]
    held = counters["failed"] == 0 and counters["successful"] == count
    common.report(
        "calls_100_per_s",
        calls=count,
        rate=options.rate,
        **counters,
        resident_mib=memory.samples,
        growth_mib_after_42_s=round(settled[-1] - settled[0], 2) if settled else None,
        ms_per_call=round(used * 1000 / count, 3),
        held=held,
    )
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
