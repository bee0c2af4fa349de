# A worker as Python sees it.

@cython.no_gc_clear  # the thread uses the tap until __dealloc__ has stopped it
cdef class Worker:
    """One native thread with its calls, sockets and epoll.

    `wake_fd` is an eventfd that is written when `events()` or `packets()` has something to
    return. `latch_networks` are the region's: no source is learned and no STUN or DTLS is
    taken from elsewhere.
    """

    cdef WorkerState *state
    cdef readonly object tap

    def __cinit__(
        self, int wake_fd, double idle_timeout_s=60.0, latch_networks=(), TapRing tap=None,
        int nap_us=1000, int nap_from=2, double report_s=5.0,
    ):
        cdef WorkerState *w = <WorkerState *>calloc(1, sizeof(WorkerState))
        if w == NULL:
            raise MemoryError()
        self.state = w
        w.poll = epoll_create1(EPOLL_CLOEXEC)
        w.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
        w.rules.events.places = <Event *>calloc(EVENT_PLACES, sizeof(Event))
        w.rules.packets.places = <Packet *>calloc(PACKET_PLACES, sizeof(Packet))
        if w.rules.events.places == NULL or w.rules.packets.places == NULL:
            raise MemoryError()
        if w.poll < 0 or w.wake < 0:
            raise OSError("cannot create the epoll or eventfd of a media worker")
        relay_watch(w.poll, w.wake, NULL)
        w.rules.events.wake = wake_fd
        w.rules.idle_timeout_ns = <uint64_t>(idle_timeout_s * 1e9)
        w.rules.report_ns = <uint64_t>(report_s * 1e9)  # RFC 3550 section 6.2: 5 s at least
        w.nap_ns = <uint64_t>nap_us * 1000
        w.nap_from = nap_from if nap_us > 0 else 0xFFFFFFFF
        self.tap = tap
        if tap is not None:
            w.rules.tap = tap.ring
        if len(latch_networks) > LATCH_NETWORKS:
            raise ValueError(f"more than {LATCH_NETWORKS} networks for latching")
        for i, (octets, bits) in enumerate(latch_networks):
            self.network(i, octets, bits)
        w.rules.network_count = len(latch_networks)

    cdef int network(self, int i, bytes octets, int bits) except -1:
        if len(octets) not in (4, 16) or not 0 <= bits <= 8 * len(octets):
            raise ValueError("a network is 4 or 16 octets and a prefix length")
        memcpy(self.state.rules.networks[i].octets, <const uint8_t *>octets, len(octets))
        self.state.rules.networks[i].length = len(octets)
        self.state.rules.networks[i].bits = bits
        return 0

    def __dealloc__(self):
        if self.state != NULL:
            self.join()
            free(self.state.rules.events.places)
            free(self.state.rules.packets.places)
            free(self.state)

    cdef int join(self):
        if self.state.started:
            self.state.started = 0  # no command after this: nobody would run it
            relay_store_int(&self.state.stopping, 1)
            eventfd_write(self.state.wake, 1)
            with nogil:
                pthread_join(self.state.thread, NULL)
        if self.state.poll >= 0:
            close(self.state.poll)
        if self.state.wake >= 0:
            close(self.state.wake)
        self.state.poll = self.state.wake = -1
        return 0

    cdef int command(
        self, int kind, Call *call, int side=0, bint on=False, uint32_t tap=0,
        const Settings *settings=NULL, SrtpKey *receive=NULL, SrtpKey *send=NULL,
        Voice *voice=NULL,
    ) except -1:
        # Takes keys and voice over, unless it raises.
        cdef Command *c
        if not self.state.started:
            srtp_keys_free(receive)
            srtp_keys_free(send)
            voice_free(voice)
            return 0
        c = <Command *>calloc(1, sizeof(Command))
        if c == NULL:
            raise MemoryError()
        c.kind = kind
        c.call = call
        c.side = side
        c.on = on
        c.tap = tap
        if settings != NULL:
            c.settings = settings[0]
        c.receive = receive
        c.send = send
        c.voice = voice
        if commands_push(&self.state.commands, c):
            eventfd_write(self.state.wake, 1)
        return 0

    def start(self):
        """Start the thread. Raises OSError."""
        cdef int problem
        if self.state.started:
            return
        if self.state.poll < 0:
            raise RuntimeError("the worker was stopped")
        problem = relay_thread_start(&self.state.thread, worker_main, self.state)
        if problem:
            raise OSError(problem, strerror(problem).decode())
        self.state.started = 1

    def stop(self):
        """Stop the thread and close the sockets of all calls. Waits; idempotent."""
        self.join()

    def open(self, uint64_t number, str caller_host, int caller_port, str callee_host, int callee_port):
        """Bind an RTP/RTCP pair for each leg and watch them. Raises OSError, nothing leaks."""
        cdef CallFlows flows
        cdef Call *call
        cdef bytes cname
        if not self.state.started:
            raise RuntimeError("the worker is not running")
        call = <Call *>calloc(1, sizeof(Call))
        if call == NULL:
            raise MemoryError()
        call.references = 1
        flows = CallFlows.__new__(CallFlows)
        flows.call = call
        flows.worker = self
        flows.families = (6 if ":" in caller_host else 4, 6 if ":" in callee_host else 4)
        call.number = number
        call.ssrc = int.from_bytes(_urandom(4), "big")
        cname = _b64encode(_urandom(12))
        memcpy(call.cname, <const char *>cname, CNAME_OCTETS)
        bind_pair(call.legs[0].fd, caller_host, caller_port)
        try:
            bind_pair(call.legs[1].fd, callee_host, callee_port)
        except BaseException:
            close(call.legs[0].fd[0])
            close(call.legs[0].fd[1])
            raise
        call.references = 2
        flows.open = True
        self.command(COMMAND_OPEN, call)
        return flows

    def events(self):
        """Take what the worker reported: (kind, call, side, key, amount, source)."""
        cdef uint64_t read = self.state.rules.events.read
        cdef uint64_t written = relay_load64(&self.state.rules.events.written)
        cdef Event *event
        taken = []
        while read != written:
            event = &self.state.rules.events.places[read & (EVENT_PLACES - 1)]
            taken.append((
                event.kind, event.number, event.side, event.key, event.amount,
                endpoint_of(&event.source),
            ))
            read += 1
        relay_store64(&self.state.rules.events.read, read)
        return taken

    def packets(self, int limit=64):
        """Take STUN and DTLS of WebRTC legs: (call, side, octets, (host, port)), oldest first.

        At most `limit`; when so many come back there may be more.
        """
        cdef PacketRing *ring = &self.state.rules.packets
        cdef uint64_t written = relay_load64(&ring.written)
        cdef Packet *packet
        taken = []
        while ring.read != written and len(taken) < limit:
            packet = &ring.places[ring.read & (PACKET_PLACES - 1)]
            taken.append((
                packet.number, packet.side, (<uint8_t *>packet.data)[:packet.size],
                endpoint_of(&packet.source),
            ))
            relay_store64(&ring.read, ring.read + 1)
        return taken

    def counters(self):
        """Totals since the start, by name."""
        cdef WorkerState *w = self.state
        counters = {
            "calls": w.call_count,
            "received": w.rules.totals.received,
            "relayed": w.rules.totals.relayed,
            "rtcp_relayed": w.rules.totals.rtcp_relayed,
            "recorded": w.rules.totals.recorded,
            "handed_up": w.rules.totals.handed_up,
            "reports": w.rules.totals.reports,
            "watch_failed": w.watch_failed,
            "wakeups": w.wakeups,
            "naps": w.naps,
            "events_lost": w.rules.events.lost,
        }
        for code in range(1, DROP_COUNT):
            counters["drop_" + DROP_NAMES[code]] = w.rules.totals.drops[code]
        return counters
