# The jitter buffer of one stream that is transcoded: packets by number, and how long to wait.
#
# The delay follows the arrivals, between SHORTEST_MS and LONGEST_MS: it is the lateness that
# packets had lately (RFC 3550's transit, above its lowest) and one frame more.

from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef enum:
    JITTER_PLACES = 32          # divides 65536
    JITTER_OCTETS = 1276        # the longest Opus packet (RFC 6716 section 3.4), one spare
    FRAME_MS = 20
    SHORTEST_MS = 20
    LONGEST_MS = 200
    JUMP_S = 2                  # more than this between two packets is no lateness


cdef struct Held:
    uint32_t timestamp
    uint16_t sequence
    uint16_t octets
    uint8_t used
    uint8_t is_noise            # comfort noise (RFC 3389)
    uint8_t payload[JITTER_OCTETS]


cdef struct Jitter:
    uint8_t started
    uint16_t next               # the number that is played next
    uint16_t newest
    uint32_t newest_timestamp
    int64_t newest_ticks        # the same, without end
    int64_t lowest_us           # of arrival less timestamp
    double late_us              # above it, lately
    Held places[JITTER_PLACES]


cdef enum Taken:
    TAKEN_LATE = 0
    TAKEN_AGAIN
    TAKEN_FIRST                 # of a stream, or after a jump: what was held is gone
    TAKEN


cdef inline void jitter_clear(Jitter *j) noexcept nogil:
    cdef int i
    for i in range(JITTER_PLACES):
        j.places[i].used = 0
    j.started = 0


cdef inline void jitter_anchor(
    Jitter *j, uint32_t timestamp, uint32_t clock_hz, uint64_t now_ns
) noexcept nogil:
    # This packet is in time: others are late by what they come after it.
    j.newest_timestamp = timestamp
    j.newest_ticks = timestamp
    j.lowest_us = <int64_t>(now_ns // 1000) - j.newest_ticks * 1000000 // clock_hz


cdef inline void jitter_measure(
    Jitter *j, int64_t ticks, uint32_t clock_hz, uint64_t now_ns
) noexcept nogil:
    cdef int64_t transit_us = <int64_t>(now_ns // 1000) - ticks * 1000000 // clock_hz
    cdef double late_us
    if transit_us < j.lowest_us:
        j.lowest_us = transit_us
    else:
        j.lowest_us += (transit_us - j.lowest_us) // 1024  # clocks drift
    late_us = <double>(transit_us - j.lowest_us)
    if late_us > j.late_us:
        j.late_us = late_us if late_us < LONGEST_MS * 1000.0 else LONGEST_MS * 1000.0
    else:
        j.late_us += (late_us - j.late_us) / 256.0


cdef inline uint32_t jitter_target_ms(const Jitter *j) noexcept nogil:
    cdef double wanted = j.late_us / 1000.0 + FRAME_MS
    if wanted < SHORTEST_MS:
        return SHORTEST_MS
    return LONGEST_MS if wanted > LONGEST_MS else <uint32_t>wanted


cdef inline Held *jitter_find(Jitter *j, uint16_t sequence) noexcept nogil:
    cdef Held *held = &j.places[sequence & (JITTER_PLACES - 1)]
    return held if held.used and held.sequence == sequence else NULL


cdef inline Taken jitter_put(
    Jitter *j, uint16_t sequence, uint32_t timestamp, const uint8_t *payload, uint16_t octets,
    bint is_noise, uint32_t clock_hz, uint64_t now_ns
) noexcept nogil:
    # `octets` is at most JITTER_OCTETS.
    cdef int16_t ahead = <int16_t>(sequence - j.next)
    cdef Taken taken = TAKEN
    cdef int32_t step
    cdef Held *held
    if j.started and -JITTER_PLACES <= ahead < 0:
        step = <int32_t>(timestamp - j.newest_timestamp)
        if -JUMP_S * <int64_t>clock_hz <= step <= 0:
            jitter_measure(j, j.newest_ticks + step, clock_hz, now_ns)
        return TAKEN_LATE
    if not j.started or not -JITTER_PLACES <= ahead < JITTER_PLACES:
        jitter_clear(j)
        j.started = 1
        j.next = j.newest = sequence
        jitter_anchor(j, timestamp, clock_hz, now_ns)
        taken = TAKEN_FIRST
    if jitter_find(j, sequence) != NULL:
        return TAKEN_AGAIN
    held = &j.places[sequence & (JITTER_PLACES - 1)]
    held.sequence = sequence
    held.timestamp = timestamp
    held.octets = octets
    held.is_noise = is_noise
    held.used = 1
    memcpy(held.payload, payload, octets)
    step = <int32_t>(timestamp - j.newest_timestamp)
    if -JUMP_S * <int64_t>clock_hz <= step <= JUMP_S * <int64_t>clock_hz:
        jitter_measure(j, j.newest_ticks + step, clock_hz, now_ns)
        if <int16_t>(sequence - j.newest) > 0:
            j.newest = sequence
            j.newest_timestamp = timestamp
            j.newest_ticks += step
    elif <int16_t>(sequence - j.newest) > 0:  # another clock: the delay is what it was
        j.newest = sequence
        jitter_anchor(j, timestamp, clock_hz, now_ns)
    return taken
