# A call as Python sees it.

cdef dict drops_of(const uint64_t *drops):
    return {DROP_NAMES[code]: drops[code] for code in range(1, DROP_COUNT) if drops[code]}


cdef int bind_pair(int32_t *fds, str host, int port) except -1:
    # RTP on `port`, RTCP on the next: both or neither (RFC 3550 section 11).
    cdef relay_address address
    cdef int i
    for i in range(2):
        address_of(&address, host, port + i)
        fds[i] = relay_bind(&address)
        if fds[i] < 0:
            if i:
                close(fds[0])
            raise OSError(-fds[i], strerror(-fds[i]).decode(), f"{host}:{port}")
    return 0


cdef Voice *voice_of(coding) except NULL:
    cdef Coding c
    cdef Voice *voice
    codec, c.payload_type, c.clock_hz, c.telephone_event, c.comfort_noise, c.frames, c.fec = coding
    c.codec = _VOICE_CODECS.get(codec, 0)
    if c.codec == VOICE_NONE or c.clock_hz != (48000 if c.codec == VOICE_OPUS else 8000):
        raise ValueError(f"{codec} at {c.clock_hz} Hz is not transcoded")
    if c.codec == VOICE_OPUS and not RELAY_HAS_OPUS:
        raise ValueError("Opus was not built in: install libopus-dev and build again")
    if not 1 <= c.frames <= MOST_FRAMES or not 0 <= c.payload_type < 128:
        raise ValueError("frames or payload type out of range")
    voice = voice_new(
        &c, int.from_bytes(_urandom(4), "big"), int.from_bytes(_urandom(2), "big") & 0x7FFF
    )
    if voice == NULL:
        raise MemoryError()
    return voice


@cython.no_gc_clear  # __dealloc__ needs the worker, also when a cycle is collected
cdef class CallFlows:
    """Both flows of one call. Made by `Worker.open`; freed when its worker let go of it."""

    cdef Call *call
    cdef Worker worker
    cdef readonly tuple families
    cdef bint open

    def __dealloc__(self):
        if self.call != NULL:
            if self.open:
                self.worker.command(COMMAND_CLOSE, self.call)
            call_release(self.call)

    cdef int remote(self, relay_address *out, int side, object host, int port) except -1:
        memset(out, 0, sizeof(relay_address))
        if host is None or port == 0 or host in ("0.0.0.0", "::"):
            return 0
        address_of(out, host, port)
        if relay_is_ipv6(out) != (self.families[side] == 6):
            raise ValueError(f"{host} is not of the address family of this leg")
        return 0

    def update(
        self, int side, host, int port, int rtcp_port, payload_types, int telephone_event=-1,
        int clock_hz=8000, bint may_send=True, bint may_receive=True, bint symmetric=False,
        payload_map=(), srtp_receive=(), srtp_send=None, str ufrag="",
        coding=None,
    ):
        """Apply a description to one leg, between two packets. Raises ValueError.

        A key is (suite, key, salt, mki). `srtp_receive` and `srtp_send` go together; without
        them the leg is plain RTP. With `ufrag`, that of our ICE credentials, the leg is a WebRTC
        one: `select` gives its address and `secure` its keys, and this changes neither. With
        `coding` (codec, payload_type, clock_hz, telephone_event, comfort_noise, frames, fec),
        which both legs have then, the call is transcoded.
        """
        cdef Settings s
        cdef int number, sent_on
        if not self.open:
            return
        if clock_hz <= 0 or side not in (0, 1):
            raise ValueError("side or clock out of range")
        memset(&s, 0, sizeof(s))
        self.remote(&s.remote[0], side, host, port)
        self.remote(&s.remote[1], side, host, rtcp_port)
        for number in payload_types:
            if not 0 <= number < 128:
                raise ValueError(f"payload type {number} is out of range")
            s.payload_types[number >> 6] |= <uint64_t>1 << (number & 63)
        s.clock_hz = clock_hz
        s.telephone_event = <int16_t>telephone_event
        s.mux = port == rtcp_port
        s.may_send = may_send
        s.may_receive = may_receive
        s.symmetric = symmetric
        if ufrag:
            self.secured(&s, ufrag, srtp_send is not None)
        for number in range(128):
            s.payload_map[number] = <uint8_t>number
        for number, sent_on in payload_map:
            if not 0 <= number < 128 or not 0 <= sent_on < 128:
                raise ValueError(f"payload type {number} or {sent_on} is out of range")
            s.payload_map[number] = <uint8_t>sent_on
        if coding is not None:
            s.clock_hz = coding[2]
            s.telephone_event = coding[3]
        self.command(COMMAND_UPDATE, side, &s, srtp_receive, srtp_send, coding)

    cdef int secured(self, Settings *s, str ufrag, bint keyed) except -1:
        if keyed or s.remote[0].length or s.remote[1].length:
            raise ValueError("address and keys of a WebRTC leg come from ICE and DTLS")
        s.secured = s.mux = True
        s.symmetric = False
        return self.named(s, ufrag)

    cdef int named(self, Settings *s, str ufrag) except -1:
        cdef bytes name = ufrag.encode("ascii")
        if len(name) > UFRAG_OCTETS:
            raise ValueError(f"the ufrag is longer than {UFRAG_OCTETS} octets")
        s.ufrag_octets = <uint8_t>len(name)
        memcpy(s.ufrag, <const char *>name, len(name))
        return 0

    cdef int command(
        self, int kind, int side, const Settings *s, srtp_receive, srtp_send, coding=None
    ) except -1:
        cdef Voice *voice = NULL
        cdef SrtpKey *receive = NULL
        cdef SrtpKey *send = NULL
        if bool(srtp_receive) != (srtp_send is not None):
            raise ValueError("SRTP needs keys for both directions")
        if any(key[1:3] == srtp_send[1:3] for key in srtp_receive):
            raise ValueError("both directions have the same SRTP key")
        try:
            receive = srtp_keys(srtp_receive, False)
            send = srtp_keys(() if srtp_send is None else (srtp_send,), True)
            if coding is not None:
                voice = voice_of(coding)
            self.worker.command(kind, self.call, side, 0, 0, s, receive, send, voice)
            receive = send = NULL
            voice = NULL
        finally:
            voice_free(voice)
            srtp_keys_free(receive)
            srtp_keys_free(send)
        return 0

    cdef int inside(self, relay_address *out, int side, str host, int port) except -1:
        # An address of this leg's family that lies in the region. Raises ValueError.
        self.remote(out, side, host, port)
        if out.length == 0 or not inside_region(&self.worker.state.rules, out):
            raise ValueError(f"{host} is outside this region's networks")
        return 0

    def offer(self, int side, str ufrag):
        """We offer to be a WebRTC leg of this name: its STUN and DTLS go up from now on.

        Nothing else changes before `update`, which holds with it or, of a leg that is none, ends
        it. Raises ValueError.
        """
        cdef Settings s
        if side not in (0, 1):
            raise ValueError("side out of range")
        memset(&s, 0, sizeof(s))
        self.named(&s, ufrag)
        if self.open:
            self.worker.command(COMMAND_OFFER, self.call, side, 0, 0, &s)

    def select(self, int side, host, int port):
        """Where everything of a WebRTC leg comes from and goes to, between two packets.

        None as `host`: nowhere (its consent was lost). Raises ValueError for an address outside
        of the region. Of no effect on any other leg.
        """
        cdef Settings s
        if side not in (0, 1):
            raise ValueError("side out of range")
        memset(&s, 0, sizeof(s))
        if host is not None:
            self.inside(&s.remote[0], side, host, port)
        if self.open:
            self.worker.command(COMMAND_SELECT, self.call, side, 0, 0, &s)

    def secure(self, int side, srtp_receive, srtp_send):
        """The SRTP keys of a WebRTC leg, as in `update`; () and None: nothing passes any more.

        Replaced keys still open what is in flight, unless () and None were in between. Raises ValueError. Of no effect on any other
        leg.
        """
        if side not in (0, 1):
            raise ValueError("side out of range")
        if self.open:
            self.command(COMMAND_SECURE, side, NULL, srtp_receive, srtp_send)

    def send(self, int side, bytes data not None, str host, int port):
        """Send a datagram (STUN, DTLS) from a leg's RTP port; False when the kernel refuses.

        Raises ValueError for an address outside of the region.
        """
        cdef relay_address to
        if side not in (0, 1):
            raise ValueError("side out of range")
        self.inside(&to, side, host, port)
        if not self.open or not self.worker.state.started:
            return False  # the worker has closed the sockets, or is about to
        return relay_send(
            self.call.legs[side].fd[<int>RTP], data, <int>len(data), &to
        ) == len(data)

    def record(self, bint on, uint32_t tap):
        """Start or stop copying relayed RTP of both directions to the worker's tap ring."""
        if self.open:
            self.worker.command(COMMAND_RECORD, self.call, 0, on, tap)

    def close(self):
        """Stop both flows and close their sockets. Figures stay readable. Idempotent."""
        if self.open:
            self.open = False
            self.worker.command(COMMAND_CLOSE, self.call)

    @property
    def closed(self):
        """True once the worker has let go of the call and the sockets are closed."""
        return relay_load_int(&self.call.closed) != 0

    def figures(self, int side):
        """What arrived from one side so far, as a dict of plain values."""
        cdef Leg *leg
        cdef uint64_t lost, now_ns, dropped_ns, relayed_ns
        if side not in (0, 1):
            raise ValueError("side out of range")
        leg = &self.call.legs[side]
        dropped_ns = relay_load64(&leg.dropped_ns)  # before what it is the time of
        relayed_ns = relay_load64(&leg.relayed_ns)  # before the clock: packets go on passing
        lost = stats_lost(&leg.stats)
        now_ns = self.call.closed_ns or relay_now_ns()
        return {
            "packets": leg.stats.packets,
            "octets": leg.stats.octets,
            "relayed": leg.relayed,
            "relayed_on_tap": relay_load64(&leg.relayed_on_tap),
            "recorded": leg.recorded,
            "expected": stats_expected(&leg.stats),
            "lost": lost,
            "late": leg.stats.late,
            "duplicate": leg.stats.duplicate,
            "streams": leg.stats.streams,
            "jitter_ms": leg.stats.jitter * 1000.0 / (leg.settings.clock_hz or 8000),
            "largest_gap_ms": leg.stats.largest_gap_ns / 1e6,
            "rtcp_packets": leg.rtcp_packets,
            "frames_transcoded": leg.played.frames,
            "frames_concealed": leg.played.concealed,
            "frames_restored": leg.played.restored,
            "packets_not_decodable": leg.played.broken,
            "rtcp_relayed": leg.rtcp_relayed,
            "drops": drops_of(leg.drops),
            "last_drop": DROP_NAMES[leg.last_drop] if leg.last_drop else None,
            "dropped_since_s": (now_ns - dropped_ns) / 1e9 if dropped_ns else None,
            "relayed_since_s": (now_ns - relayed_ns) / 1e9 if relayed_ns else None,
            "described": bool(leg.described),
            "may_send": bool(leg.settings.may_send),
            "latched": bool(leg.latched),
            "secured": bool(leg.settings.secured),
            "keyed": leg.srtp.receive != NULL,
            "expected_source": endpoint_of(&leg.remote[<int>RTP]),
            "stranger": endpoint_of(&leg.stranger),
        }
