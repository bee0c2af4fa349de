"""(d) Resident memory of the relay per standing call: at most 64 KiB.

    python -m bench.memory_per_call [--calls 1000]

A first lot of calls warms the allocators up and stays; the second lot is what is measured.
"""

from __future__ import annotations

import argparse
import sys

from bench import common
from bench.callers import Callers

WARM_UP = 100
TARGET_KIB = 64


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=1000)
    options = parser.parse_args()
    with common.relay() as relay:
        callers = Callers(WARM_UP + options.calls)
        try:
            callers.set_up(WARM_UP)
            before = common.resident_octets(relay.pid)
            callers.set_up(WARM_UP + options.calls)
            after = common.resident_octets(relay.pid)
        finally:
            callers.close()
    per_call = (after - before) / options.calls / 1024
    common.report(
        "memory_per_call",
        calls=options.calls,
        kib_per_call=round(per_call, 2),
        target_kib=TARGET_KIB,
        resident_mib=round(after / 2**20, 2),
    )
    return 0 if per_call <= TARGET_KIB else 1


if __name__ == "__main__":
    sys.exit(main())
