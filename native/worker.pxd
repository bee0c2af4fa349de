# A worker: one thread that owns its calls, their sockets and one epoll.
#
# Commands run between two batches of packets. No packet of a call is in hand then, so
# that is the quiescent point after which a closed call may be freed.

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free

from dtmf cimport DtmfPress, dtmf_silent
from flow cimport RTCP, RTP, Call, Leg, Port, Settings
from forward cimport relay_datagram
from ice cimport ice_offer, ice_rename
from jitter cimport FRAME_MS
from srtp_keys cimport SrtpKey, srtp_keys_free
from srtp_leg cimport srtp_clear, srtp_distrust, srtp_exchange, srtp_wipe
from reports cimport report_send
from ring cimport (
    COMMAND_CLOSE, COMMAND_OFFER, COMMAND_OPEN, COMMAND_RECORD, COMMAND_SECURE, COMMAND_SELECT,
    COMMAND_UPDATE,
    EVENT_TIMEOUT, Command, commands_take, event_plain,
)
from rules cimport Rules, report_presses
from sys cimport (
    epoll_event, epoll_wait, eventfd_read, pthread_t, relay_add_int, relay_address, relay_forget,
    relay_load_int, relay_load_pointer, relay_now_ns, relay_receive, relay_same_address,
    relay_sleep_until, relay_store64, relay_store_int, relay_thread_name, relay_watch,
)
from transcode cimport transcode
from voice cimport Voice, voice_free, voice_same

cdef enum:
    BATCH = 512
    BUFFER_OCTETS = 2048
    TURNS = 64                  # packets of one socket in one batch, while they are dropped
    RATE_WINDOW_NS = 10000000
    FULL_RATE = 20              # packets per millisecond from which a short nap serves many
    SCAN_NS = 200000000


cdef struct Worker:
    Rules rules
    pthread_t thread
    int poll
    int wake
    int stopping
    int started
    void *commands
    Call *calls
    uint64_t call_count
    uint64_t nap_ns             # how long packets may wait to be handled together
    uint32_t nap_from           # packets per millisecond from which napping pays
    uint64_t watch_failed
    uint64_t wakeups
    uint64_t naps
    uint64_t rate_since_ns
    uint64_t rate_packets
    uint8_t busy                # enough packets to nap between polls
    uint8_t naps_long
    uint64_t scan_at_ns
    Port *held                  # whose packet waits in `buffer` until the commands have run
    int held_octets
    relay_address held_source
    Call *voices                # the transcoded calls
    uint64_t voice_at_ns        # when something of them is due
    epoll_event events[BATCH]
    uint8_t buffer[BUFFER_OCTETS]


cdef inline void call_release(Call *call) noexcept nogil:
    if relay_add_int(&call.references, -1) == 0:
        free(call)


cdef inline void call_open(Worker *w, Call *call) noexcept nogil:
    cdef int i
    call.previous = NULL
    call.next = w.calls
    if w.calls != NULL:
        w.calls.previous = call
    w.calls = call
    w.call_count += 1
    for i in range(4):
        call.ports[i].call = call
        call.ports[i].side = <uint8_t>(i >> 1)
        call.ports[i].component = <uint8_t>(i & 1)
        if relay_watch(w.poll, call.legs[i >> 1].fd[i & 1], &call.ports[i]) < 0:
            w.watch_failed += 1  # fs.epoll.max_user_watches


cdef inline void voices_leave(Worker *w, Call *call) noexcept nogil:
    cdef Call **head = &w.voices
    if not call.transcoded:
        return
    while head[0] != call:
        head = &head[0].next_voice
    head[0] = call.next_voice
    call.transcoded = 0


cdef inline void leg_code(Worker *w, Call *call, Leg *leg, Voice *voice) noexcept nogil:
    # Takes `voice` over; one that says the same goes on with what it knows. NULL: no transcoding.
    cdef Voice *was = leg.voice
    if was != NULL and voice != NULL and voice_same(&was.coding, &voice.coding):
        voice_free(voice)
        return
    if voice != NULL:
        voice.played = &leg.played
    leg.voice = voice
    voice_free(was)
    if call.legs[0].voice == NULL and call.legs[1].voice == NULL:
        voices_leave(w, call)
    elif not call.transcoded:
        call.transcoded = 1
        call.next_voice = w.voices
        w.voices = call


cdef inline void call_close(Worker *w, Call *call) noexcept nogil:
    cdef int i
    if call.next != NULL:
        call.next.previous = call.previous
    if call.previous != NULL:
        call.previous.next = call.next
    else:
        w.calls = call.next
    for i in range(4):
        relay_forget(w.poll, call.legs[i >> 1].fd[i & 1])
    for i in range(2):
        srtp_clear(&call.legs[i].srtp)
        leg_code(w, call, &call.legs[i], NULL)
    if w.held != NULL and w.held.call == call:
        w.held = NULL
    w.call_count -= 1
    call.closed_ns = relay_now_ns()
    relay_store_int(&call.closed, 1)
    call_release(call)


cdef inline void leg_update(
    Leg *leg, const Settings *settings, SrtpKey *receive, SrtpKey *send, uint64_t now_ns
) noexcept nogil:
    # A learned source outlives an update that repeats the address (a hold, a refresh): audio
    # keeps flowing to it, and one new latch is allowed. A new address starts over.
    cdef bint same = (
        leg.described and settings.symmetric and leg.settings.symmetric
        and leg.settings.mux == settings.mux
        and relay_same_address(&leg.settings.remote[<int>RTP], &settings.remote[<int>RTP])
    )
    # Path and keys of a WebRTC leg outlive every description: `leg_select` and `leg_secure`
    # alone change them.
    if settings.secured and leg.settings.secured:
        same = True
    else:
        srtp_exchange(&leg.srtp, receive, send, now_ns)
    leg.settings = settings[0]
    if settings.secured:
        ice_rename(&leg.ice, settings.ufrag, settings.ufrag_octets)
    else:
        ice_offer(&leg.ice, settings.ufrag, 0)
    if not same:
        leg.remote[<int>RTP] = settings.remote[<int>RTP]
        leg.remote[<int>RTCP] = settings.remote[<int>RTCP]
        leg.latched = 0
        leg.rtcp_latched = 0
    leg.settled = 0
    leg.described = 1
    leg.armed_ns = now_ns
    leg.timeout_reported = 0
    leg.stats.last_ns = 0  # a pause across an update is neither a gap of the network
    leg.stats.transit_known = 0  # nor jitter


cdef inline void leg_select(Leg *leg, const relay_address *path) noexcept nogil:
    # Where all of a WebRTC leg comes from and goes to; length 0: nowhere.
    if not leg.settings.secured:
        return
    leg.remote[<int>RTP] = path[0]
    leg.remote[<int>RTCP] = path[0]
    leg.settled = 0
    leg.stats.transit_known = 0  # another path's delay is no jitter


cdef inline void leg_secure(
    Leg *leg, SrtpKey *receive, SrtpKey *send, uint64_t now_ns
) noexcept nogil:
    # The keys of a DTLS association; NULL for both: nothing passes until there are others,
    # and then nothing of who had these.
    if leg.settings.secured:
        srtp_exchange(&leg.srtp, receive, send, now_ns)
        if receive == NULL:
            srtp_distrust(&leg.srtp, now_ns)
    else:
        srtp_keys_free(receive)
        srtp_keys_free(send)


cdef inline void call_record(Call *call, uint32_t tap, bint on) noexcept nogil:
    cdef int side
    if on and not call.recording:
        for side in range(2):
            relay_store64(&call.legs[side].relayed_on_tap, 0)
    call.tap = tap
    call.recording = on


cdef inline void run_commands(Worker *w) noexcept nogil:
    cdef Command *command = commands_take(&w.commands)
    cdef Command *done
    while command != NULL:
        if command.kind == COMMAND_OPEN:
            call_open(w, command.call)
        elif command.kind == COMMAND_UPDATE:
            leg_update(
                &command.call.legs[command.side], &command.settings, command.receive,
                command.send, relay_now_ns(),
            )
            leg_code(w, command.call, &command.call.legs[command.side], command.voice)
        elif command.kind == COMMAND_OFFER:
            ice_offer(
                &command.call.legs[command.side].ice, command.settings.ufrag,
                command.settings.ufrag_octets,
            )
        elif command.kind == COMMAND_SELECT:
            leg_select(&command.call.legs[command.side], &command.settings.remote[<int>RTP])
        elif command.kind == COMMAND_SECURE:
            leg_secure(
                &command.call.legs[command.side], command.receive, command.send, relay_now_ns()
            )
        elif command.kind == COMMAND_RECORD:
            call_record(command.call, command.tap, command.on)
        elif command.kind == COMMAND_CLOSE:
            call_close(w, command.call)
        done = command
        command = command.next
        free(done)


cdef inline bint timed_out(
    const Rules *rules, const Call *call, int side, uint64_t now_ns
) noexcept nogil:
    # Both legs described, this one expected to send, and quiet for too long.
    cdef const Leg *leg = &call.legs[side]
    cdef uint64_t since = leg.usable_ns if leg.usable_ns > leg.armed_ns else leg.armed_ns
    return (
        leg.described and call.legs[1 - side].described and not leg.timeout_reported
        and leg.settings.may_send and rules.idle_timeout_ns != 0
        and now_ns > since and now_ns - since >= rules.idle_timeout_ns
    )


cdef inline void scan(Worker *w, uint64_t now_ns) noexcept nogil:
    cdef Call *call = w.calls
    cdef DtmfPress press[1]
    cdef uint8_t side
    while call != NULL:
        for side in range(2):
            if dtmf_silent(&call.legs[side].dtmf, now_ns, press):
                report_presses(&w.rules, call, side, press, 1)
            if call.legs[side].srtp.replaced != NULL:
                srtp_wipe(&call.legs[side].srtp, now_ns)
            if call.legs[side].settings.secured or call.legs[side].voice != NULL:
                report_send(&w.rules, call, side, now_ns)
            if timed_out(&w.rules, call, side, now_ns):
                call.legs[side].timeout_reported = 1
                event_plain(&w.rules.events, EVENT_TIMEOUT, call.number, side, 0, 0)
        call = call.next


cdef inline bint take_turn(Worker *w, Port *port) noexcept nogil:
    # The next packet of a socket. What is dropped does not use up the turn: audio may wait
    # behind a flood. False: a command came meanwhile, perhaps before the packet in hand.
    cdef int turn, octets
    cdef relay_address source
    for turn in range(TURNS):
        octets = relay_receive(
            port.call.legs[port.side].fd[port.component], w.buffer, BUFFER_OCTETS, &source
        )
        if octets < 0:
            return True
        w.rate_packets += 1
        if turn and relay_load_pointer(&w.commands) != NULL:
            w.held = port
            w.held_octets = octets
            w.held_source = source
            return False
        if relay_datagram(&w.rules, port, w.buffer, octets, &source, relay_now_ns()):
            return True
    return True


cdef inline void take_held(Worker *w) noexcept nogil:
    cdef Port *port = w.held
    if port != NULL:
        w.held = NULL
        relay_datagram(&w.rules, port, w.buffer, w.held_octets, &w.held_source, relay_now_ns())


cdef inline int poll_once(Worker *w, int timeout_ms) noexcept nogil:
    # One batch; the number of sockets that were ready, or -1 when commands come first.
    cdef int i
    cdef uint64_t value
    cdef Port *port
    cdef int ready = epoll_wait(w.poll, w.events, BATCH, timeout_ms)
    if relay_load_pointer(&w.commands) != NULL:
        # What was asked for before these packets came applies to them. Nothing is lost:
        # epoll is level-triggered and returns the sockets again.
        return -1
    for i in range(ready):
        port = <Port *>w.events[i].data.ptr
        if port == NULL:
            eventfd_read(w.wake, &value)
        elif not take_turn(w, port):
            return -1
    return ready


cdef inline void measure_rate(Worker *w, uint64_t now_ns) noexcept nogil:
    cdef uint64_t span = now_ns - w.rate_since_ns
    if span < RATE_WINDOW_NS:
        return
    w.busy = w.rate_packets * 1000000 >= span * w.nap_from
    w.naps_long = w.rate_packets * 1000000 < span * FULL_RATE
    w.rate_since_ns = now_ns
    w.rate_packets = 0


cdef inline void run_voices(Worker *w, uint64_t now_ns) noexcept nogil:
    cdef Call *call = w.voices
    cdef uint64_t next_ns
    if call == NULL or now_ns < w.voice_at_ns:
        return
    w.voice_at_ns = now_ns + <uint64_t>FRAME_MS * 1000000
    while call != NULL:
        next_ns = transcode(&w.rules, call, now_ns)
        if next_ns < w.voice_at_ns:
            w.voice_at_ns = next_ns
        call = call.next_voice


cdef inline int wait_ms(Worker *w, uint64_t now_ns) noexcept nogil:
    cdef uint64_t at_ns = w.scan_at_ns
    if w.calls == NULL:
        return -1
    if w.voices != NULL and w.voice_at_ns < at_ns:
        at_ns = w.voice_at_ns
    return <int>((at_ns - now_ns) // 1000000) + 1 if at_ns > now_ns else 0


cdef inline void worker_run(Worker *w) noexcept nogil:
    cdef uint64_t now_ns
    cdef int ready
    cdef uint64_t scan_ns = SCAN_NS
    if w.rules.idle_timeout_ns and w.rules.idle_timeout_ns < 4 * scan_ns:
        scan_ns = w.rules.idle_timeout_ns // 4 + 1
    if w.rules.report_ns < scan_ns:
        scan_ns = w.rules.report_ns
    while not relay_load_int(&w.stopping):
        run_commands(w)
        take_held(w)
        now_ns = relay_now_ns()
        if now_ns >= w.scan_at_ns:
            scan(w, now_ns)
            w.scan_at_ns = now_ns + scan_ns
        run_voices(w, now_ns)
        measure_rate(w, now_ns)
        w.wakeups += 1
        ready = poll_once(w, wait_ms(w, now_ns))
        if w.busy and 0 <= ready < BATCH:
            # Under load one wake-up serves many packets; what waited meanwhile comes at once.
            # On a virtual machine a timer's wake-up costs as much as several packets do, so
            # with few packets a nap is twice as long.
            w.naps += 1
            relay_sleep_until(now_ns + (w.nap_ns << w.naps_long))
    run_commands(w)
    while w.calls != NULL:
        call_close(w, w.calls)


cdef inline void *worker_main(void *data) noexcept nogil:
    relay_thread_name(b"relay-media")
    worker_run(<Worker *>data)
    return NULL
