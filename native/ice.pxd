# The packets of a WebRTC leg that are no media: what of STUN and DTLS goes up to Python.
#
# Everything here is cheap and decides without state of the peer's: a check of somebody who does
# not know our ufrag, DTLS from elsewhere than the selected path once there is one, and floods end
# here. What is let through is not trusted yet: Python authenticates it (relay/webrtc).

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from packet cimport (
    DROP_DTLS_MANY, DROP_NONE, DROP_STUN_MANY, DROP_STUN_NO_REQUEST, DROP_STUN_USERNAME, Drop,
    read16, read32,
)

cdef enum:
    UFRAG_OCTETS = 32           # ours are shorter (RFC 8839 section 5.4 allows 256)
    UFRAGS = 4                  # after an ICE restart the old one lives on, and after some more
    STUN_HEADER = 20
    STUN_BINDING_REQUEST = 0x0001
    STUN_COOKIE = 0x2112A442
    STUN_USERNAME = 0x0006
    STUN_INTEGRITY = 0x0008     # what follows it is not authenticated
    PACKETS_PER_S = 50          # of one leg and kind: more than a browser's checks at their start
    BUDGET_NS = 1000000000


cdef enum Purpose:              # each has a budget of its own
    CHECK_ON_PATH = 0           # consent: no stranger's flood may use it up
    CHECK_ELSEWHERE
    HANDSHAKE
    HANDSHAKE_EARLY             # before a path is selected
    PURPOSES


cdef struct Budget:             # what one second may have
    uint64_t since_ns
    uint32_t count


cdef struct LegIce:
    uint8_t ufrag[UFRAGS][UFRAG_OCTETS]     # the newest first
    uint8_t ufrag_octets[UFRAGS]
    uint8_t offered[UFRAG_OCTETS]           # that of our last offer, answered or not
    uint8_t offered_octets
    Budget budgets[<int>PURPOSES]


cdef inline void ice_rename(LegIce *ice, const uint8_t *ufrag, uint8_t octets) noexcept nogil:
    # The ufrag of a description. Another one is an ICE restart (RFC 8445 section 9): checks
    # under that of the path go on until the new path is nominated, which only Python knows. A
    # phone between two networks restarts more than once before that.
    cdef int i
    if octets == ice.ufrag_octets[0] and memcmp(ufrag, ice.ufrag[0], octets) == 0:
        return
    for i in range(UFRAGS - 1, 0, -1):
        memcpy(ice.ufrag[i], ice.ufrag[i - 1], UFRAG_OCTETS)
        ice.ufrag_octets[i] = ice.ufrag_octets[i - 1]
    memcpy(ice.ufrag[0], ufrag, octets)
    ice.ufrag_octets[0] = octets


cdef inline void ice_offer(LegIce *ice, const uint8_t *ufrag, uint8_t octets) noexcept nogil:
    # Checks may come before the answer does (RFC 8445 section 7.3); 0 octets: no more.
    memcpy(ice.offered, ufrag, UFRAG_OCTETS)
    ice.offered_octets = octets


cdef inline bint ice_begins(
    const uint8_t *name, size_t octets, const uint8_t *ufrag, size_t own
) noexcept nogil:
    return own and octets > own and name[own] == b":" and memcmp(name, ufrag, own) == 0


cdef inline bint ice_named(const LegIce *ice, const uint8_t *name, size_t octets) noexcept nogil:
    # Is this USERNAME `ours:theirs` (RFC 8445 section 7.2.2)?
    cdef int i
    for i in range(UFRAGS):
        if ice_begins(name, octets, ice.ufrag[i], ice.ufrag_octets[i]):
            return True
    return ice_begins(name, octets, ice.offered, ice.offered_octets)


cdef inline Drop stun_wanted(const LegIce *ice, const uint8_t *p, size_t n) noexcept nogil:
    # A Binding request to this leg (RFC 8489 sections 5 and 14); an ICE-lite agent asks nothing,
    # so no response is ever for it.
    cdef size_t at = STUN_HEADER
    cdef size_t octets
    cdef uint16_t kind
    if (
        n < STUN_HEADER or read16(p) != STUN_BINDING_REQUEST or read32(p + 4) != STUN_COOKIE
        or read16(p + 2) != n - STUN_HEADER
    ):
        return DROP_STUN_NO_REQUEST
    while at + 4 <= n:
        kind = read16(p + at)
        octets = read16(p + at + 2)
        at += 4
        if at + octets > n or kind == STUN_INTEGRITY:
            break
        if kind == STUN_USERNAME:
            return DROP_NONE if ice_named(ice, p + at, octets) else DROP_STUN_USERNAME
        at += (octets + 3) & ~<size_t>3
    return DROP_STUN_USERNAME


cdef inline bint ice_affords(LegIce *ice, int purpose, uint64_t now_ns) noexcept nogil:
    # Takes one packet out of its budget.
    cdef Budget *budget = &ice.budgets[purpose]
    if now_ns - budget.since_ns >= BUDGET_NS:
        budget.since_ns = now_ns
        budget.count = 0
    if budget.count >= PACKETS_PER_S:
        return False
    budget.count += 1
    return True


cdef inline Drop ice_spend(LegIce *ice, bint dtls, bint on_path, uint64_t now_ns) noexcept nogil:
    if dtls:
        if ice_affords(ice, HANDSHAKE if on_path else HANDSHAKE_EARLY, now_ns):
            return DROP_NONE
        return DROP_DTLS_MANY
    if ice_affords(ice, CHECK_ON_PATH if on_path else CHECK_ELSEWHERE, now_ns):
        return DROP_NONE
    return DROP_STUN_MANY
