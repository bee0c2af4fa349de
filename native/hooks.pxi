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


def stun_wanted(bytes data, ufrags):
    """A drop's name, or "none" for a check that goes up, of a leg with these ufrags in turn."""
    cdef LegIce ice
    memset(&ice, 0, sizeof(ice))
    for ufrag in ufrags:
        ice_rename(&ice, <bytes>ufrag, <uint8_t>len(ufrag))
    return DROP_NAMES[<int>stun_filter(&ice, data, len(data))]


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


cdef class Playout:
    """What one side of a transcoded call says, played by hand."""

    cdef Voice *voice
    cdef Played played

    def __cinit__(self, coding):
        self.voice = voice_of(coding)
        self.voice.played = &self.played

    def __dealloc__(self):
        voice_free(self.voice)

    def put(
        self, uint32_t ssrc, uint16_t sequence, uint32_t timestamp, bytes payload not None,
        uint64_t now_ns, bint is_noise=False,
    ):
        """A packet; False when it comes too late."""
        if not 0 < len(payload) <= JITTER_OCTETS:
            raise ValueError("a payload is 1 to 1276 octets")
        return voice_put(
            self.voice, ssrc, sequence, timestamp, payload, <uint16_t>len(payload), is_noise,
            now_ns,
        ) != TAKEN_LATE

    def frame(self, uint64_t now_ns):
        """The next 160 samples of 16 bits, or None while there is nothing."""
        cdef int16_t sound[FRAME]
        if not voice_frame(self.voice, sound, now_ns):
            return None
        return (<uint8_t *>sound)[:sizeof(sound)]

    @property
    def waiting_ms(self):
        """How much is in the buffer, and how much there should be."""
        return voice_level_ms(self.voice), jitter_target_ms(&self.voice.jitter)

    @property
    def figures(self):
        """(frames, concealed, restored by FEC, packets not decodable)."""
        return (
            self.played.frames, self.played.concealed, self.played.restored, self.played.broken
        )


cdef class DropBursts:
    """Drops of one leg, fed by hand."""

    cdef BurstsState state
    cdef uint64_t drops[<int>DROP_COUNT]

    def feed(self, str reason, uint64_t now_ns):
        """Count one drop; True when it makes a burst."""
        cdef int code = DROP_NAMES.index(reason)
        self.drops[code] += 1
        return bool(bursts_feed(&self.state, self.drops, code, now_ns))


def srtp_session_keys(str suite, bytes key, bytes salt):
    """What is derived from a master key: (key, authentication key, salt) of SRTP and SRTCP."""
    cdef Suite shape = srtp_suite(suite)
    cdef SessionKeys keys
    if len(key) != shape.key_octets or len(salt) != shape.salt_octets:
        raise ValueError("wrong length")
    if not srtp_derive(&shape, key, salt, &keys):
        raise MemoryError()
    return tuple(
        (
            (<uint8_t *>keys.key[i])[:shape.key_octets],
            (<uint8_t *>keys.auth[i])[:AUTH_OCTETS],
            (<uint8_t *>keys.salt[i])[:shape.salt_octets],
        )
        for i in range(2)
    )


cdef class Srtp:
    """One master key in one direction. What cannot be opened or closed is a drop's name."""

    cdef SrtpKey *key
    cdef uint8_t out[MAX_DATAGRAM_OCTETS + SRTP_TAIL_OCTETS]

    def __cinit__(
        self, str suite, bytes key, bytes salt, bint sends, bytes mki=b"", tuple session=None,
        uint32_t srtcp_index=0,
    ):
        self.key = srtp_key(suite, key, salt, mki, sends, session)
        self.key.rtcp_index = srtcp_index

    def __dealloc__(self):
        srtp_key_free(self.key)

    cdef int room(self, bytes packet) except -1:
        if len(packet) > MAX_DATAGRAM_OCTETS:
            raise ValueError("oversized")
        return 0

    cdef object result(self, Drop drop, size_t octets):
        return DROP_NAMES[<int>drop] if drop != DROP_NONE else self.out[:octets]

    def open(self, bytes packet, uint64_t now_ns=0):
        """An RTP packet out of SRTP."""
        cdef RtpView view
        cdef size_t octets = 0
        self.room(packet)
        cdef Drop drop = rtp_header(packet, len(packet), &view)
        if drop == DROP_NONE:
            drop = srtp_open(
                self.key, packet, len(packet), view.payload_at, view.ssrc, view.sequence, NULL,
                now_ns, self.out, &octets,
            )
        return self.result(drop, octets)

    def close(self, bytes packet, uint64_t now_ns=0):
        """An RTP packet into SRTP."""
        cdef RtpView view
        cdef size_t octets = 0
        self.room(packet)
        cdef Drop drop = rtp_header(packet, len(packet), &view)
        if drop == DROP_NONE:
            drop = srtp_close(
                self.key, packet, len(packet), view.payload_at, view.ssrc, view.sequence, now_ns,
                self.out, &octets,
            )
        return self.result(drop, octets)

    def open_rtcp(self, bytes packet, uint64_t now_ns=0):
        """An RTCP packet out of SRTCP."""
        cdef size_t octets = 0
        self.room(packet)
        cdef Drop drop = srtcp_open(
            self.key, packet, len(packet), now_ns, self.out, &octets
        )
        return self.result(drop, octets)

    def close_rtcp(self, bytes packet):
        """An RTCP packet into SRTCP."""
        cdef size_t octets = 0
        self.room(packet)
        if len(packet) < 8:
            raise ValueError("short")
        cdef Drop drop = srtcp_close(self.key, packet, len(packet), self.out, &octets)
        return self.result(drop, octets)
