"""(e) CPU of the relay with no calls: under 1 % of a core.

python -m bench.idle_cpu [--seconds 10]
"""

from __future__ import annotations

import argparse
import time

from bench import common


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    with common.relay() as relay:
        time.sleep(1)  # what start-up still has to do is not idling
        before, began = common.cpu_s(relay.pid), time.monotonic()
        time.sleep(options.seconds)  # the measured time itself
        used = common.cpu_s(relay.pid) - before
        elapsed = time.monotonic() - began
    common.report("idle_cpu", percent_of_a_core=round(100 * used / elapsed, 4), target_percent=1)


if __name__ == "__main__":
    main()
