# Keys pressed, from RFC 4733 telephone events: one report a press, at its end.
#
# A press is known by its RTP timestamp, so three end packets are one press; a press whose
# end packets were all lost is reported by the next press or after a silence.
# relay/rtp/dtmf.py is the reference.

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from packet cimport read16

cdef enum:
    DTMF_SILENCE_MS = 400
    DTMF_HIGHEST_EVENT = 16     # 0-9 * # A-D flash
    DTMF_SEGMENT_TICKS = 65535  # a longer press continues under a new timestamp (2.5.1.3)


cdef struct Dtmf:
    uint64_t last_ns
    uint32_t ssrc
    uint32_t timestamp
    uint32_t ticks          # of the segments before this one
    uint16_t duration       # of this segment
    uint8_t event
    uint8_t active          # a press that is not reported yet
    uint8_t known           # timestamp and ssrc are valid


cdef struct DtmfPress:
    uint8_t event
    uint32_t ticks


cdef inline bint dtmf_finish(Dtmf *d, DtmfPress *out) noexcept nogil:
    if not d.active:
        return False
    d.active = 0
    out.event = d.event
    out.ticks = d.ticks + d.duration
    return True


cdef inline int dtmf_feed(
    Dtmf *d, uint32_t ssrc, uint32_t timestamp, const uint8_t *payload, size_t octets,
    uint64_t now_ns, DtmfPress *out
) noexcept nogil:
    # Presses completed by this packet, 0 to 2, written to out[0..1].
    cdef int presses = 0
    cdef uint16_t duration
    cdef int32_t newer
    if octets < 4 or payload[0] > DTMF_HIGHEST_EVENT:
        return 0
    duration = read16(payload + 2)
    newer = <int32_t>(timestamp - d.timestamp)
    if not d.known or ssrc != d.ssrc or newer > 0:
        if (
            d.active and ssrc == d.ssrc and payload[0] == d.event
            and d.duration == DTMF_SEGMENT_TICKS and newer == DTMF_SEGMENT_TICKS
        ):
            d.ticks += DTMF_SEGMENT_TICKS
        else:
            presses += dtmf_finish(d, out)
            d.ticks = 0
            d.active = 1
        d.known = 1
        d.ssrc = ssrc
        d.timestamp = timestamp
        d.event = payload[0]
        d.duration = duration
    elif newer < 0 or not d.active or payload[0] != d.event:
        return 0  # the end packet of an earlier press, or a repeat of a reported one
    elif duration > d.duration:
        d.duration = duration
    d.last_ns = now_ns
    if payload[1] & 0x80:
        presses += dtmf_finish(d, out + presses)
    return presses


cdef inline bint dtmf_silent(Dtmf *d, uint64_t now_ns, DtmfPress *out) noexcept nogil:
    # A press whose end was lost, once it has been quiet for DTMF_SILENCE_MS.
    if d.active and now_ns >= d.last_ns + <uint64_t>DTMF_SILENCE_MS * 1000000:
        return dtmf_finish(d, out)
    return False
