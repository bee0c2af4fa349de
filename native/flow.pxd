# The flow entry: what the engine does with the packets of one leg's ports. Plain data, but
# for the cipher contexts of SRTP.
#
# Written by its worker only; Python reads counters of it while the worker runs (each is
# one aligned word). Settings change between two packets, by a command.

from libc.stdint cimport int16_t, int32_t, uint8_t, uint32_t, uint64_t

from bursts cimport Bursts
from dtmf cimport Dtmf
from ice cimport UFRAG_OCTETS, LegIce
from packet cimport DROP_COUNT
from srtp_leg cimport LegSrtp
from stats cimport Stats
from sys cimport relay_address
from voice cimport Played, Voice

cdef enum Component:
    RTP = 0
    RTCP = 1


cdef enum:
    CNAME_OCTETS = 16


# What an offer/answer settled for one leg; the addresses have length 0 when unknown.
cdef struct Settings:
    relay_address remote[2]
    uint64_t payload_types[2]   # bit set of 128: what this peer may send
    uint32_t clock_hz
    int16_t telephone_event     # payload type or -1
    uint8_t mux                 # RTCP on the RTP port (RFC 5761)
    uint8_t may_send
    uint8_t may_receive
    uint8_t symmetric
    uint8_t secured             # WebRTC: the address comes from ICE, the keys from DTLS
    uint8_t payload_map[128]    # the number that a payload type is sent on with
    uint8_t ufrag_octets
    uint8_t ufrag[UFRAG_OCTETS] # ours, of a secured leg


cdef struct Reports:            # RTCP with one leg: what reports.pxd must remember
    uint64_t heard_ns           # when the partner's was last passed to it
    uint64_t due_ns             # our next one
    uint64_t sr_ns              # this leg's last SR: when it came, and of what
    uint32_t sr_ntp
    uint32_t sr_ssrc
    uint32_t block_ssrc         # what the last block was about, and its counts
    uint32_t expected
    uint32_t received
    uint32_t sent_ssrc
    uint64_t packets_before     # sent under other SSRCs
    uint64_t octets_before
    uint64_t packets_reported
    uint64_t octets_reported


cdef struct Leg:
    int32_t fd[2]
    relay_address remote[2]     # where the peer's packets come from and ours go to
    Settings settings
    LegSrtp srtp
    LegIce ice
    Voice *voice                # of a transcoded call, else NULL
    Played played
    Reports reports
    uint8_t described
    uint8_t settled             # a packet has confirmed the source: no latching any more
    uint8_t latched
    uint8_t rtcp_latched
    uint8_t first_reported
    uint8_t timeout_reported
    uint32_t latched_ssrc
    uint64_t armed_ns           # when the media timeout began to count
    uint64_t usable_ns          # last packet that was accepted
    uint64_t relayed_ns
    uint64_t relayed
    uint64_t relayed_on_tap     # while it was recorded, from the command that began it
    uint64_t recorded           # of those, what the tap took
    uint64_t rtcp_packets
    uint64_t rtcp_relayed
    Stats stats
    Dtmf dtmf
    uint64_t changed_ns         # when another SSRC was last reported
    uint64_t drops[<int>DROP_COUNT]
    Bursts bursts
    uint64_t dropped_ns         # the last RTP drop: when, why, and from where
    uint32_t last_drop
    relay_address stranger      # the last wrong source


cdef struct Port:               # what epoll hands back
    Call *call
    uint8_t side
    uint8_t component


cdef struct Call:
    Leg legs[2]
    Port ports[4]
    uint64_t number
    uint32_t ssrc               # of reports about a leg that is sent nothing
    uint8_t cname[CNAME_OCTETS] # RFC 7022: of this call alone
    uint32_t tap
    uint8_t recording
    uint64_t closed_ns
    int closed                  # set last by the worker: it will not touch the call again
    int references              # Python's and the worker's
    Call *next
    Call *previous
    Call *next_voice            # of the transcoded ones
    uint8_t transcoded          # it is in that list
