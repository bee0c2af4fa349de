# cython: language_level=3, cdivision=True, boundscheck=False, wraparound=False
"""The media engine: worker threads that forward packets without the GIL.

Only relay/media uses this module. Python opens, changes and closes calls here and reads
figures and events; nothing in Python runs per packet.
"""

cimport cython
from libc.stdint cimport int16_t, int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset, strerror

from bursts cimport Bursts as BurstsState, bursts_feed
from dtmf cimport Dtmf as DtmfState, DtmfPress, dtmf_feed, dtmf_silent
from flow cimport RTCP, RTP, Call, Leg, Settings
from openssl cimport OPENSSL_cleanse
from packet cimport (
    DROP_COUNT, DROP_NONE, KIND_RTCP, KIND_RTP, MAX_DATAGRAM_OCTETS, Drop, Kind, RtcpView,
    RtpView, demux, rtcp_view, rtp_header, rtp_view,
)
from forward cimport LATCH_NETWORKS
from ring cimport (
    COMMAND_CLOSE, COMMAND_OPEN, COMMAND_RECORD, COMMAND_UPDATE, EVENT_PLACES, Command, Event,
    commands_push,
)
from srtp cimport srtcp_close, srtcp_open, srtp_close, srtp_open
from srtp_keys cimport (
    AUTH_OCTETS, SRTP_MKI_OCTETS, SRTP_TAIL_OCTETS, SessionKeys, SrtpKey, Suite, srtp_derive,
    srtp_key_free, srtp_key_new, srtp_keys_free,
)
from stats cimport Stats as StatsState, stats_expected, stats_feed, stats_lost
from sys cimport (
    EFD_CLOEXEC, EFD_NONBLOCK, EPOLL_CLOEXEC, close, epoll_create1, eventfd, eventfd_write,
    pthread_join, relay_address, relay_address_port, relay_address_set, relay_address_text,
    relay_bind, relay_is_ipv6, relay_load64, relay_load_int, relay_now_ns, relay_store64, relay_store_int,
    relay_thread_start, relay_watch,
)
from worker cimport Worker as WorkerState, call_release, worker_main

include "timeline.pxi"
include "srtp.pxi"
include "hooks.pxi"

DROP_NAMES = (
    "none", "short", "oversized", "not_rtp", "bad_version", "malformed", "stun", "dtls",
    "not_rtcp", "rtcp_mux_not_negotiated", "not_described", "wrong_source", "latch_refused",
    "wrong_ssrc", "payload_type_not_negotiated", "on_hold", "receiver_on_hold", "no_destination",
    "send_failed", "srtp_too_short", "srtp_unknown_mki", "srtp_authentication_failed",
    "srtp_replayed", "srtp_too_many_streams", "srtp_number_repeated", "srtp_key_exhausted",
)
if len(DROP_NAMES) != DROP_COUNT:
    raise ImportError("every drop code has one name")


cdef object host_of(const relay_address *address):
    cdef char text[64]
    if relay_address_text(address, text, sizeof(text)) < 0:
        return None
    return (<bytes>text).decode("ascii")


cdef dict drops_of(const uint64_t *drops):
    return {DROP_NAMES[code]: drops[code] for code in range(1, DROP_COUNT) if drops[code]}


cdef int address_of(relay_address *out, str host, int port) except -1:
    if not 0 <= port <= 65535:
        raise ValueError(f"port {port} is out of range")
    if relay_address_set(out, host.encode("ascii", "replace"), <uint16_t>port) < 0:
        raise ValueError(f"{host!r} is not an IP address")
    return 0


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
        payload_map=(), srtp_receive=(), srtp_send=None,
    ):
        """Apply a description to one leg, between two packets. Raises ValueError.

        A key is (suite, key, salt, mki). `srtp_receive` and `srtp_send` go together; without
        them the leg is plain RTP.
        """
        cdef Settings s
        cdef int number, sent_on
        cdef SrtpKey *receive = NULL
        cdef SrtpKey *send = NULL
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
        for number in range(128):
            s.payload_map[number] = <uint8_t>number
        for number, sent_on in payload_map:
            if not 0 <= number < 128 or not 0 <= sent_on < 128:
                raise ValueError(f"payload type {number} or {sent_on} is out of range")
            s.payload_map[number] = <uint8_t>sent_on
        if bool(srtp_receive) != (srtp_send is not None):
            raise ValueError("SRTP needs keys for both directions")
        if any(key[1:3] == srtp_send[1:3] for key in srtp_receive):
            raise ValueError("both directions have the same SRTP key")
        try:
            receive = srtp_keys(srtp_receive, False)
            send = srtp_keys(() if srtp_send is None else (srtp_send,), True)
            self.worker.command(COMMAND_UPDATE, self.call, side, 0, 0, &s, receive, send)
            receive = send = NULL
        finally:
            srtp_keys_free(receive)
            srtp_keys_free(send)

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
            "rtcp_relayed": leg.rtcp_relayed,
            "drops": drops_of(leg.drops),
            "last_drop": DROP_NAMES[leg.last_drop] if leg.last_drop else None,
            "dropped_since_s": (now_ns - dropped_ns) / 1e9 if dropped_ns else None,
            "relayed_since_s": (now_ns - relayed_ns) / 1e9 if relayed_ns else None,
            "described": bool(leg.described),
            "may_send": bool(leg.settings.may_send),
            "latched": bool(leg.latched),
            "expected_source": endpoint_of(&leg.remote[<int>RTP]),
            "stranger": endpoint_of(&leg.stranger),
        }


cdef object endpoint_of(const relay_address *address):
    host = host_of(address)
    return None if host is None else (host, relay_address_port(address))


@cython.no_gc_clear  # the thread uses the tap until __dealloc__ has stopped it
cdef class Worker:
    """One native thread with its calls, sockets and epoll.

    `wake_fd` is an eventfd that is written when `events()` has something to return.
    """

    cdef WorkerState *state
    cdef readonly object tap

    def __cinit__(
        self, int wake_fd, double idle_timeout_s=60.0, latch_networks=(), TapRing tap=None,
        int nap_us=1000, int nap_from=2,
    ):
        cdef WorkerState *w = <WorkerState *>calloc(1, sizeof(WorkerState))
        if w == NULL:
            raise MemoryError()
        self.state = w
        w.poll = epoll_create1(EPOLL_CLOEXEC)
        w.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
        w.rules.events.places = <Event *>calloc(EVENT_PLACES, sizeof(Event))
        if w.poll < 0 or w.wake < 0 or w.rules.events.places == NULL:
            raise OSError("cannot create the epoll or eventfd of a media worker")
        relay_watch(w.poll, w.wake, NULL)
        w.rules.events.wake = wake_fd
        w.rules.idle_timeout_ns = <uint64_t>(idle_timeout_s * 1e9)
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
    ) except -1:
        # Takes the keys over, unless it raises.
        cdef Command *c
        if not self.state.started:
            srtp_keys_free(receive)
            srtp_keys_free(send)
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

    def counters(self):
        """Totals since the start, by name."""
        cdef WorkerState *w = self.state
        counters = {
            "calls": w.call_count,
            "received": w.rules.totals.received,
            "relayed": w.rules.totals.relayed,
            "rtcp_relayed": w.rules.totals.rtcp_relayed,
            "recorded": w.rules.totals.recorded,
            "watch_failed": w.watch_failed,
            "wakeups": w.wakeups,
            "naps": w.naps,
            "events_lost": w.rules.events.lost,
        }
        for code in range(1, DROP_COUNT):
            counters["drop_" + DROP_NAMES[code]] = w.rules.totals.drops[code]
        return counters
