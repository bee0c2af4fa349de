# Figures of one direction from the packets that were accepted (RFC 3550 appendix A).
#
# They add up over SSRC changes: what was lost before is kept, and a new stream starts
# without a bogus loss. relay/rtp/stats.py is the reference.

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    MAX_DROPOUT = 3000      # RFC 3550 A.1
    MAX_MISORDER = 100      # must stay below the 128 places of `seen`


cdef struct Stats:
    uint64_t packets
    uint64_t octets            # of payload
    uint64_t late              # after a packet with a higher number
    uint64_t duplicate
    uint64_t earlier_lost      # by streams that have ended
    uint64_t earlier_expected
    uint64_t streams           # SSRCs and restarts seen
    uint64_t last_ns
    uint64_t largest_gap_ns
    double jitter              # RFC 3550 A.8, in timestamp units
    # the current stream
    uint32_t ssrc
    uint32_t highest           # extended sequence number
    uint32_t base
    uint32_t unique            # packets without duplicates
    int32_t bad_sequence       # the one after an unbelievable jump, or -1
    uint32_t transit
    uint8_t started
    uint8_t transit_known
    uint64_t seen[2]           # bit i: highest - i has arrived


cdef inline uint64_t stats_stream_expected(const Stats *s) noexcept nogil:
    if not s.started:
        return 0
    return <uint64_t><uint32_t>(s.highest - s.base) + 1


cdef inline uint64_t stats_expected(const Stats *s) noexcept nogil:
    return s.earlier_expected + stats_stream_expected(s)


cdef inline uint64_t stats_lost(const Stats *s) noexcept nogil:
    cdef uint64_t expected = stats_stream_expected(s)
    cdef uint64_t unique = s.unique
    return s.earlier_lost + (expected - unique if expected > unique else 0)


cdef inline void stats_restart(Stats *s, uint32_t ssrc, uint16_t sequence) noexcept nogil:
    s.earlier_lost = stats_lost(s)
    s.earlier_expected = stats_expected(s)
    s.streams += 1
    s.ssrc = ssrc
    s.base = sequence
    s.highest = sequence
    s.unique = 0
    s.bad_sequence = -1
    s.started = 1
    s.transit_known = 0
    s.seen[0] = 0
    s.seen[1] = 0


cdef inline void stats_advance(Stats *s, uint32_t step) noexcept nogil:
    # Moves the window of `seen`; the newest place is left for the caller to mark.
    if step >= 128:
        s.seen[0] = 0
        s.seen[1] = 0
    elif step >= 64:
        s.seen[1] = s.seen[0] << (step - 64)
        s.seen[0] = 0
    elif step > 0:
        s.seen[1] = (s.seen[1] << step) | (s.seen[0] >> (64 - step))
        s.seen[0] = s.seen[0] << step
    s.highest += step


cdef inline bint stats_mark(Stats *s, uint32_t back) noexcept nogil:
    # Marks highest - back as arrived; False if it had arrived before.
    cdef uint64_t bit = (<uint64_t>1) << (back & 63)
    if s.seen[back >> 6] & bit:
        return False
    s.seen[back >> 6] |= bit
    return True


cdef inline void stats_sequence(Stats *s, uint32_t ssrc, uint16_t sequence) noexcept nogil:
    cdef uint16_t ahead, back
    if not s.started or ssrc != s.ssrc:
        stats_restart(s, ssrc, sequence)
    ahead = <uint16_t>(sequence - <uint16_t>s.highest)
    if ahead < MAX_DROPOUT:
        stats_advance(s, ahead)
        back = 0
    elif ahead <= 65536 - MAX_MISORDER:
        if s.bad_sequence != sequence:
            # Perhaps a stray: believed when its successor follows (RFC 3550 A.1).
            s.bad_sequence = <uint16_t>(sequence + 1)
            return
        stats_restart(s, ssrc, <uint16_t>(sequence - 1))
        stats_mark(s, 0)
        s.unique = 1
        stats_advance(s, 1)
        back = 0
    else:
        back = <uint16_t>(0 - ahead)
        if back > <uint32_t>(s.highest - s.base):
            # Before the first that we saw: the stream began earlier than we knew.
            s.base = s.highest - back
    if not stats_mark(s, back):
        s.duplicate += 1
        return
    s.unique += 1
    if back:
        s.late += 1


cdef inline void stats_arrival(
    Stats *s, uint32_t timestamp, uint64_t now_ns, uint32_t clock_hz, bint timed
) noexcept nogil:
    # `timed` is false for telephone events: their timestamp stands still (RFC 4733 2.5.1.2).
    cdef uint32_t transit
    cdef int32_t difference
    if s.last_ns and now_ns > s.last_ns and now_ns - s.last_ns > s.largest_gap_ns:
        s.largest_gap_ns = now_ns - s.last_ns
    s.last_ns = now_ns
    if not timed:
        return
    transit = <uint32_t>((now_ns // 1000) * clock_hz // 1000000) - timestamp
    if s.transit_known:
        difference = <int32_t>(transit - s.transit)
        s.jitter += ((-<double>difference if difference < 0 else <double>difference) - s.jitter) / 16.0
    s.transit = transit
    s.transit_known = 1


cdef inline void stats_feed(
    Stats *s, uint32_t ssrc, uint16_t sequence, uint32_t timestamp, uint32_t octets,
    uint64_t now_ns, uint32_t clock_hz, bint timed
) noexcept nogil:
    s.packets += 1
    s.octets += octets
    stats_sequence(s, ssrc, sequence)
    stats_arrival(s, timestamp, now_ns, clock_hz, timed)
