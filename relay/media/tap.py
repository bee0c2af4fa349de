"""The reading end of the tap: packets of all workers in, blocks of recorded audio out.

The engine's workers push copies of packets into rings (native/tap.pxd); `TapReader` lays
them onto one timeline a recording (native/timeline.pxd, which states the rules).

- `start(tap, companding, began_ns, dual, opus_types)` — companding is the RTP payload type of
  the law, 0 (PCMU) or 8 (PCMA); packets of `opus_types` are decoded into it; `began_ns` is
  CLOCK_MONOTONIC, the clock that the workers stamp packets with. Call it right after the engine
  numbered the tap: packets of a newer tap than any started one are kept in the ring for 250 ms,
  older strays are dropped (`stray`).
- `stop(tap, ended_ns)` — what the rings hold for it then still goes in; its last `Block`
  carries `Totals`.
- `drain(now_ns)` — every 100 ms or so, from one thread. It holds no GIL per packet. A block
  is 3,200 ticks (400 ms), the last one less; it leaves when the clock is the reorder
  window (400 ms) past it. `behind` is True when it stopped early: drain again at once.

`start` and `stop` may be called from any thread. A ring of 32 MiB holds 3 s of 500 calls.
"""

from __future__ import annotations

from relay._native import Block, TapReader, TapRing, Totals

__all__ = ["Block", "TapReader", "TapRing", "Totals"]
