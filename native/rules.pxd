# What is the same for all calls of a worker: the region, the rings to Python, the totals.

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from flow cimport Call, Leg
from dtmf cimport DtmfPress
from packet cimport DROP_COUNT, MAX_DATAGRAM_OCTETS
from packets cimport PacketRing
from ring cimport EVENT_CHANGED, EVENT_DTMF, EventRing, event_plain
from srtp_keys cimport SRTP_TAIL_OCTETS
from sys cimport relay_address, relay_inside
from tap cimport TapRingC

cdef enum:
    LATCH_NETWORKS = 64
    CLOSED_OCTETS = MAX_DATAGRAM_OCTETS + SRTP_TAIL_OCTETS
    CHANGE_NS = 10000000000     # a side's new SSRC is told at most once in this time


cdef struct Network:
    uint8_t octets[16]
    uint32_t length             # 4 or 16
    uint32_t bits


cdef struct Totals:
    uint64_t received
    uint64_t relayed
    uint64_t rtcp_relayed
    uint64_t recorded
    uint64_t handed_up          # STUN and DTLS
    uint64_t reports            # RTCP of our own
    uint64_t drops[<int>DROP_COUNT]


cdef struct Rules:              # the same for all calls of a worker
    Network networks[LATCH_NETWORKS]
    uint32_t network_count
    uint64_t idle_timeout_ns
    uint64_t report_ns          # between our own RTCP reports
    EventRing events
    PacketRing packets
    TapRingC *tap
    Totals totals
    uint8_t opened[MAX_DATAGRAM_OCTETS]     # what an SRTP packet held
    uint8_t closed[CLOSED_OCTETS]           # the SRTP packet that leaves
    uint8_t built[MAX_DATAGRAM_OCTETS]      # a packet of our own


cdef inline bint inside_region(const Rules *rules, const relay_address *source) noexcept nogil:
    cdef uint32_t i
    for i in range(rules.network_count):
        if relay_inside(
            source, rules.networks[i].octets, rules.networks[i].length, rules.networks[i].bits
        ):
            return True
    return False


cdef inline void report_change(
    Rules *rules, Call *call, uint8_t side, uint64_t now_ns
) noexcept nogil:
    cdef Leg *leg = &call.legs[side]
    if leg.changed_ns == 0 or now_ns - leg.changed_ns >= CHANGE_NS:
        leg.changed_ns = now_ns
        event_plain(&rules.events, EVENT_CHANGED, call.number, side, 0, 0)


cdef inline void report_presses(
    Rules *rules, Call *call, uint8_t side, const DtmfPress *presses, int count
) noexcept nogil:
    cdef int i
    cdef uint32_t clock_hz = call.legs[side].settings.clock_hz
    for i in range(count):
        event_plain(
            &rules.events, EVENT_DTMF, call.number, side, presses[i].event,
            <uint32_t>(<uint64_t>presses[i].ticks * 1000 // clock_hz),
        )
