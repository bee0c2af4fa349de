# Which packet indices have been used: the replay list of RFC 3711 section 3.3.2.
#
# Used on both ways: an index that arrived once is refused, and one that was sent once is never
# used again, because two packets under one index would give their audio away.

from libc.stdint cimport uint8_t, uint16_t, uint64_t

cdef enum:
    REPLAY_WINDOW = 128


cdef struct Replay:
    uint64_t highest
    uint64_t seen[2]            # bit i: highest - i was used
    uint8_t started


cdef inline uint64_t replay_estimate(const Replay *r, uint16_t sequence) noexcept nogil:
    # The likeliest 48-bit index of an RTP sequence number (RFC 3711 section 3.3.1).
    cdef uint64_t roc
    cdef int highest
    if not r.started:
        return sequence
    roc = r.highest >> 16
    highest = <int>(r.highest & 0xFFFF)
    if highest < 32768:
        if <int>sequence - highest > 32768 and roc > 0:
            roc -= 1
    elif highest - 32768 > <int>sequence:
        roc += 1
    return (roc << 16) | sequence


cdef inline bint replay_too_old(const Replay *r, uint64_t index) noexcept nogil:
    return r.started and index + REPLAY_WINDOW <= r.highest


cdef inline bint replay_fresh(const Replay *r, uint64_t index) noexcept nogil:
    cdef uint64_t back
    if not r.started or index > r.highest:
        return True
    back = r.highest - index
    return back < REPLAY_WINDOW and not (r.seen[back >> 6] >> (back & 63)) & 1


cdef inline void replay_mark(Replay *r, uint64_t index) noexcept nogil:
    # Only for an index that is fresh.
    cdef uint64_t step, back
    if not r.started:
        r.started = 1
        r.highest = index
        r.seen[0] = 1
        r.seen[1] = 0
        return
    if index <= r.highest:
        back = r.highest - index
        r.seen[back >> 6] |= (<uint64_t>1) << (back & 63)
        return
    step = index - r.highest
    if step >= 128:
        r.seen[0] = 0
        r.seen[1] = 0
    elif step >= 64:
        r.seen[1] = r.seen[0] << (step - 64)
        r.seen[0] = 0
    else:
        r.seen[1] = (r.seen[1] << step) | (r.seen[0] >> (64 - step))
        r.seen[0] <<= step
    r.highest = index
    r.seen[0] |= 1
