# When many packets are dropped for one reason: worth telling once, not per packet.

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

from packet cimport DROP_COUNT

cdef enum:
    BURST_DROPS = 50            # a second of audio: what a listener notices
    BURST_NS = 60000000000      # told at most once in this time, each reason by itself


cdef struct Bursts:             # of one leg
    uint64_t since_ns
    uint64_t before[<int>DROP_COUNT]


cdef inline bint bursts_feed(
    Bursts *b, const uint64_t *drops, int code, uint64_t now_ns
) noexcept nogil:
    # After `drops[code]` was counted. True for the one drop that makes a burst.
    if b.since_ns == 0 or now_ns - b.since_ns >= BURST_NS:
        b.since_ns = now_ns
        memcpy(b.before, drops, sizeof(b.before))
        b.before[code] -= 1
    return drops[code] - b.before[code] == BURST_DROPS
