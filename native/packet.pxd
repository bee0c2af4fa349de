# What a datagram is: RFC 7983 demultiplexing and checked views of RTP and RTCP.
#
# Nothing here keeps state, allocates or copies; relay/rtp/packet.py and rtcp.py are the
# slow references that the tests compare with.

from libc.stdint cimport uint8_t, uint16_t, uint32_t

cdef enum:
    MAX_DATAGRAM_OCTETS = 2048


# Why a datagram was not forwarded. DROP_NAMES in _native.pyx gives the operator's words.
cdef enum Drop:
    DROP_NONE = 0
    DROP_SHORT
    DROP_OVERSIZED
    DROP_NOT_RTP
    DROP_BAD_VERSION
    DROP_MALFORMED
    DROP_STUN
    DROP_DTLS
    DROP_NOT_RTCP
    DROP_RTCP_MUX_NOT_NEGOTIATED
    DROP_NOT_DESCRIBED
    DROP_WRONG_SOURCE
    DROP_LATCH_REFUSED
    DROP_WRONG_SSRC
    DROP_PAYLOAD_TYPE
    DROP_ON_HOLD
    DROP_RECEIVER_ON_HOLD
    DROP_NO_DESTINATION
    DROP_SEND_FAILED
    DROP_SRTP_TOO_SHORT
    DROP_SRTP_MKI
    DROP_SRTP_AUTHENTICATION
    DROP_SRTP_REPLAYED
    DROP_SRTP_STREAMS
    DROP_SRTP_REPEATED
    DROP_SRTP_EXHAUSTED
    DROP_OUTSIDE_REGION
    DROP_STUN_NO_REQUEST
    DROP_STUN_USERNAME
    DROP_STUN_MANY
    DROP_DTLS_SOURCE
    DROP_DTLS_MANY
    DROP_PACKETS_WAITING
    DROP_NO_PATH
    DROP_NOT_SECURED
    DROP_RECEIVER_NOT_SECURED
    DROP_TOO_LATE
    DROP_COUNT


cdef enum Kind:
    KIND_RTP = 1
    KIND_RTCP = 2


cdef struct RtpView:
    uint8_t payload_type
    uint8_t marker
    uint16_t sequence
    uint32_t timestamp
    uint32_t ssrc
    uint32_t payload_at        # octets from the start of the packet
    uint32_t payload_octets    # without padding


cdef struct RtcpView:
    uint8_t packet_type        # of the first packet of the compound
    uint8_t count
    uint32_t ssrc
    uint32_t packets           # in the compound


cdef inline uint16_t read16(const uint8_t *p) noexcept nogil:
    return <uint16_t>((<uint32_t>p[0] << 8) | p[1])


cdef inline uint32_t read32(const uint8_t *p) noexcept nogil:
    return (<uint32_t>p[0] << 24) | (<uint32_t>p[1] << 16) | (<uint32_t>p[2] << 8) | p[3]


cdef inline void write16(uint8_t *p, uint16_t value) noexcept nogil:
    p[0] = <uint8_t>(value >> 8)
    p[1] = <uint8_t>value


cdef inline void write32(uint8_t *p, uint32_t value) noexcept nogil:
    write16(p, <uint16_t>(value >> 16))
    write16(p + 2, <uint16_t>value)


cdef inline Drop demux(const uint8_t *p, size_t n, Kind *kind) noexcept nogil:
    # RFC 7983 section 7 by the first octet, then RFC 5761 section 4 by the second.
    if n < 1:
        return DROP_SHORT
    if n > MAX_DATAGRAM_OCTETS:
        return DROP_OVERSIZED
    cdef uint8_t first = p[0]
    if first < 128 or first > 191:
        if first < 4:
            return DROP_STUN
        if 20 <= first <= 63:
            return DROP_DTLS
        if first > 191 or first > 79:
            return DROP_BAD_VERSION
        return DROP_NOT_RTP  # unassigned, ZRTP, TURN channels
    if n < 2:
        return DROP_SHORT
    kind[0] = KIND_RTCP if 192 <= p[1] <= 223 else KIND_RTP
    return DROP_NONE


cdef inline Drop rtp_header(const uint8_t *p, size_t n, RtpView *out) noexcept nogil:
    # RFC 3550 section 5.1 and 5.3.1: what SRTP leaves in the clear, so all that is after the
    # header counts as payload. Borrows p; out is valid only on DROP_NONE.
    if n < 12:
        return DROP_SHORT
    if p[0] >> 6 != 2:
        return DROP_BAD_VERSION
    cdef size_t at = 12 + 4 * <size_t>(p[0] & 0x0F)
    if at > n:
        return DROP_MALFORMED
    if p[0] & 0x10:
        if at + 4 > n:
            return DROP_MALFORMED
        at += 4 + 4 * <size_t>read16(p + at + 2)
        if at > n:
            return DROP_MALFORMED
    out.payload_type = p[1] & 0x7F
    out.marker = p[1] >> 7
    out.sequence = read16(p + 2)
    out.timestamp = read32(p + 4)
    out.ssrc = read32(p + 8)
    out.payload_at = <uint32_t>at
    out.payload_octets = <uint32_t>(n - at)
    return DROP_NONE


cdef inline Drop rtp_view(const uint8_t *p, size_t n, RtpView *out) noexcept nogil:
    # The header, and the padding that the payload ends with.
    cdef Drop drop = rtp_header(p, n, out)
    if drop != DROP_NONE or not p[0] & 0x20:
        return drop
    if p[n - 1] == 0 or p[n - 1] > out.payload_octets:
        return DROP_MALFORMED
    out.payload_octets -= p[n - 1]
    return DROP_NONE


cdef inline Drop rtcp_view(const uint8_t *p, size_t n, RtcpView *out) noexcept nogil:
    # RFC 3550 A.2, with the reduced-size packets of RFC 5506 allowed: every part is of
    # version 2, only the last is padded, and the lengths add up to the datagram.
    cdef size_t at = 0
    cdef size_t octets
    if n < 8:
        return DROP_SHORT
    out.packets = 0
    while at < n:
        if n - at < 4:
            return DROP_MALFORMED
        if p[at] >> 6 != 2:
            return DROP_BAD_VERSION
        octets = 4 * (<size_t>read16(p + at + 2) + 1)
        if at + octets > n:
            return DROP_MALFORMED
        if p[at] & 0x20 and at + octets != n:
            return DROP_MALFORMED
        at += octets
        out.packets += 1
    out.packet_type = p[1]
    out.count = p[0] & 0x1F
    out.ssrc = read32(p + 4)
    return DROP_NONE
