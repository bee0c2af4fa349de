"""(c) 100 calls/s for 60 s: none may fail, memory stays flat.

    python -m bench.calls_100_per_s [--seconds 60] [--rate 100]

Memory is compared between the end of a warm-up of a tenth of the calls and the end.
"""

from __future__ import annotations

import argparse
import sys

from bench import common

HOLD_MS = 1000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--rate", type=int, default=100)
    options = parser.parse_args()
    count = options.seconds * options.rate
    with common.callee(), common.relay() as relay:
        common.calls(count // 10, options.rate, HOLD_MS)
        memory, cpu = common.resident_octets(relay.pid), common.cpu_s(relay.pid)
        counters = common.calls(count, options.rate, HOLD_MS)
        after = common.resident_octets(relay.pid)
        used = common.cpu_s(relay.pid) - cpu
    held = counters["failed"] == 0 and counters["successful"] == count
    common.report(
        "calls_100_per_s",
        calls=count,
        rate=options.rate,
        **counters,
        resident_mib_before=round(memory / 2**20, 2),
        resident_mib_after=round(after / 2**20, 2),
        growth_octets_per_call=round((after - memory) / count, 1),
        ms_per_call=round(used * 1000 / count, 3),
        held=held,
    )
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
