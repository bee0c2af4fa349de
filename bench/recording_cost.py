"""(f) CPU of the relay with every call recorded against none recorded: at most 1.3 times.

    python -m bench.recording_cost [--calls 500] [--seconds 8] [--rounds 2]

Standing calls through `relay serve`, both ends sending 50 packets/s; the recordings are
written to a temporary directory. Alternating, CPU of the whole process.
"""

from __future__ import annotations

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
    calls, runs = common.alternating(__doc__, MODES, measured)
    cost = median_cost(runs)
    ratio = round(cost["on"] / cost["off"], 3) if len(cost) == 2 else None
    return common.report_ratio("recording_cost", calls, cost, ratio, TARGET, runs)


if __name__ == "__main__":
    sys.exit(main())
