# Out of a leg: closed with its key, to where it is.

from libc.stdint cimport uint8_t, uint64_t

from flow cimport RTCP, RTP, Leg
from packet cimport (
    DROP_NONE, DROP_NO_DESTINATION, DROP_RECEIVER_NOT_SECURED, DROP_RECEIVER_ON_HOLD,
    DROP_SEND_FAILED, Drop, RtpView,
)
from rules cimport Rules
from srtp cimport srtcp_close, srtp_close
from sys cimport relay_send


cdef inline Drop send_rtp(
    Rules *rules, Leg *other, const uint8_t *data, int size, const RtpView *view, uint64_t now_ns
) noexcept nogil:
    cdef size_t octets
    cdef Drop drop
    if not other.described or other.remote[<int>RTP].length == 0:
        return DROP_NO_DESTINATION
    if not other.settings.may_receive:
        return DROP_RECEIVER_ON_HOLD
    if other.srtp.send != NULL:
        drop = srtp_close(
            other.srtp.send, data, <size_t>size, view.payload_at, view.ssrc, view.sequence,
            now_ns, rules.closed, &octets,
        )
        if drop != DROP_NONE:
            return drop
        data = rules.closed
        size = <int>octets
    elif other.settings.secured:
        return DROP_RECEIVER_NOT_SECURED
    if relay_send(other.fd[<int>RTP], data, size, &other.remote[<int>RTP]) != size:
        return DROP_SEND_FAILED
    return DROP_NONE


cdef inline Drop send_rtcp(
    Rules *rules, Leg *other, const uint8_t *data, int size
) noexcept nogil:
    cdef int out = RTP if other.settings.mux else RTCP
    cdef size_t octets
    cdef Drop drop
    if not other.described or other.remote[<int>RTCP].length == 0:
        return DROP_NO_DESTINATION
    if other.srtp.send != NULL:
        drop = srtcp_close(other.srtp.send, data, <size_t>size, rules.closed, &octets)
        if drop != DROP_NONE:
            return drop
        data = rules.closed
        size = <int>octets
    elif other.settings.secured:
        return DROP_RECEIVER_NOT_SECURED
    if relay_send(other.fd[out], data, size, &other.remote[<int>RTCP]) != size:
        return DROP_SEND_FAILED
    return DROP_NONE
