"""(f) CPU of the relay with every call recorded against none recorded: at most 1.3 times.

    python -m bench.recording_cost [--calls 500] [--seconds 8] [--rounds 2]

Standing calls through `relay serve`, both ends sending 50 packets/s; the recordings are
written to a temporary directory. Alternating, CPU of the whole process.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from bench import common
from bench.callers import Callers
from bench.relay_cost import measure, median_cost

MODES = {"off": "do-not-record", "on": "record-from-answer-dual"}
TARGET = 1.3


def measured(mode: str, calls: int, seconds: float) -> dict[str, Any]:
    """One run: microseconds of CPU per packet forwarded, loss, latency."""
    with common.relay(MODES[mode]) as relay:
        callers = Callers(calls)
        try:
            callers.set_up(calls)
            return measure(relay.pid, common.RELAY[0], callers.legs, seconds)
        finally:
            callers.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    runs: dict[str, list[dict[str, Any]]] = {mode: [] for mode in MODES}
    for _ in range(options.rounds):
        for mode in MODES:
            runs[mode].append(measured(mode, options.calls, options.seconds))
    cost = median_cost(runs)
    ratio = round(cost["on"] / cost["off"], 3) if len(cost) == 2 else None
    return common.report_ratio("recording_cost", options.calls, cost, ratio, TARGET, runs)


if __name__ == "__main__":
    sys.exit(main())
