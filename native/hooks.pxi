# The pure parts of the engine, one call at a time, for the differential tests.


def view(bytes data):
    """What the engine sees in a datagram: a drop's name, or the fields of RTP or RTCP.

    ("rtp", payload_type, marker, sequence, timestamp, ssrc, payload_at, payload_octets) or
    ("rtcp", packet_type, count, ssrc, packets_in_compound).
    """
    cdef const uint8_t *p = data
    cdef size_t n = len(data)
    cdef Kind kind = KIND_RTP
    cdef RtpView rtp
    cdef RtcpView rtcp
    cdef Drop drop = demux(p, n, &kind)
    if drop == DROP_NONE:
        if kind == KIND_RTCP:
            drop = rtcp_view(p, n, &rtcp)
        else:
            drop = rtp_view(p, n, &rtp)
    if drop != DROP_NONE:
        return DROP_NAMES[<int>drop]
    if kind == KIND_RTCP:
        return "rtcp", rtcp.packet_type, rtcp.count, rtcp.ssrc, rtcp.packets
    return (
        "rtp", rtp.payload_type, rtp.marker, rtp.sequence, rtp.timestamp, rtp.ssrc,
        rtp.payload_at, rtp.payload_octets,
    )


cdef class Stats:
    """Figures of one direction, fed by hand."""

    cdef StatsState state

    def feed(
        self, uint32_t ssrc, uint16_t sequence, uint32_t timestamp, uint32_t octets,
        uint64_t now_ns, uint32_t clock_hz=8000, bint timed=True,
    ):
        """Count one packet that arrived at `now_ns`."""
        stats_feed(&self.state, ssrc, sequence, timestamp, octets, now_ns, clock_hz, timed)

    def figures(self):
        """(packets, octets, expected, lost, late, duplicate, streams, jitter, largest_gap_ns)."""
        cdef StatsState *s = &self.state
        return (
            s.packets, s.octets, stats_expected(s), stats_lost(s), s.late, s.duplicate, s.streams,
            s.jitter, s.largest_gap_ns,
        )


cdef class Dtmf:
    """Key presses of one direction, fed by hand; each is (event, ticks)."""

    cdef DtmfState state

    def feed(self, uint32_t ssrc, uint32_t timestamp, bytes payload, uint64_t now_ns):
        """One telephone-event packet; the presses that it completes."""
        cdef DtmfPress presses[2]
        cdef int count = dtmf_feed(
            &self.state, ssrc, timestamp, payload, len(payload), now_ns, presses
        )
        return [(presses[i].event, presses[i].ticks) for i in range(count)]

    def on_timer(self, uint64_t now_ns):
        """The press whose end was lost, if it has been quiet for long enough."""
        cdef DtmfPress press[1]
        if dtmf_silent(&self.state, now_ns, press):
            return [(press[0].event, press[0].ticks)]
        return []


cdef class DropBursts:
    """Drops of one leg, fed by hand."""

    cdef BurstsState state
    cdef uint64_t drops[<int>DROP_COUNT]

    def feed(self, str reason, uint64_t now_ns):
        """Count one drop; True when it makes a burst."""
        cdef int code = DROP_NAMES.index(reason)
        self.drops[code] += 1
        return bool(bursts_feed(&self.state, self.drops, code, now_ns))
