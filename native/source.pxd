# Where a leg's packets may come from: the address of the SDP, one that was learned, or, of a
# WebRTC leg, the selected path alone.

from libc.stdint cimport uint8_t, uint32_t

from flow cimport RTCP, RTP, Call, Leg
from packet cimport (
    DROP_LATCH_REFUSED, DROP_NONE, DROP_NOT_DESCRIBED, DROP_NO_PATH, DROP_WRONG_SOURCE, Drop,
)
from ring cimport event_latched
from rules cimport Rules, inside_region
from sys cimport relay_address, relay_same_address, relay_same_host


cdef inline Drop rtp_source(
    Rules *rules, Leg *leg, const relay_address *source, bint *learn
) noexcept nogil:
    # Decides without changing anything: a packet that a later rule refuses teaches nothing.
    learn[0] = False
    if relay_same_address(source, &leg.remote[<int>RTP]):
        return DROP_NONE
    if relay_same_address(source, &leg.settings.remote[<int>RTP]):
        learn[0] = True  # the signalled address wins, even over a learned one
        return DROP_NONE
    if not leg.settings.symmetric or leg.settled:
        if leg.remote[<int>RTP].length:
            return DROP_WRONG_SOURCE
        return DROP_NO_PATH if leg.settings.secured else DROP_NOT_DESCRIBED
    if not inside_region(rules, source):
        return DROP_LATCH_REFUSED
    learn[0] = True
    return DROP_NONE


cdef inline void settle(
    Rules *rules, Call *call, uint8_t side, const relay_address *source, uint32_t ssrc, bint learn
) noexcept nogil:
    # The first accepted packet after an update fixes the source until the next one.
    cdef Leg *leg = &call.legs[side]
    leg.settled = 1
    if learn:
        leg.remote[<int>RTP] = source[0]
        leg.latched = not relay_same_address(source, &leg.settings.remote[<int>RTP])
        leg.rtcp_latched = 0
        if leg.latched:
            leg.remote[<int>RTCP].length = 0  # unknown until a report comes from there
            if leg.settings.mux:
                leg.remote[<int>RTCP] = source[0]
            event_latched(&rules.events, call.number, side, source)
        else:
            leg.remote[<int>RTCP] = leg.settings.remote[<int>RTCP]
    leg.latched_ssrc = ssrc


cdef inline Drop rtcp_source(
    Leg *leg, const relay_address *source, bint *learn
) noexcept nogil:
    # Like `rtp_source`. A latched peer's port is learned from the first report of its host.
    learn[0] = False
    if leg.settings.mux:
        if relay_same_address(source, &leg.remote[<int>RTP]):
            return DROP_NONE
        return DROP_WRONG_SOURCE
    if relay_same_address(source, &leg.remote[<int>RTCP]):
        return DROP_NONE
    if leg.latched and not leg.rtcp_latched and relay_same_host(source, &leg.remote[<int>RTP]):
        learn[0] = True
        return DROP_NONE
    return DROP_WRONG_SOURCE
