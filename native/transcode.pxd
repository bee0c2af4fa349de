# A transcoded call: packets of one leg wait in its jitter buffer, and every 20 ms a frame of
# each side is made into what the other side is sent. Pressed keys (RFC 4733) pass at once, in
# the other leg's numbers and clock.

from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from flow cimport Call, Leg
from jitter cimport FRAME_MS, JITTER_OCTETS, TAKEN_LATE, Taken
from packet cimport (
    DROP_MALFORMED, DROP_NONE, DROP_NO_DESTINATION, DROP_PAYLOAD_TYPE, DROP_RECEIVER_NOT_SECURED,
    DROP_RECEIVER_ON_HOLD, DROP_TOO_LATE, Drop, RtpView, read16, write16, write32,
)
from rules cimport Rules
from send cimport send_rtp
from sys cimport relay_store64
from tap cimport tap_push
from voice cimport (
    FRAME, VOICE_OPUS, VOICE_PCMA, EventMap, Voice, voice_clock, voice_encoded, voice_frame,
    voice_put, voice_ratio, voice_rest, voice_timestamp,
)

cdef enum:
    HEADER_OCTETS = 12
    SEGMENT = 65535             # the longest duration that an event packet can say
    KEY_NS = 100000000          # after its last packet a key is over


cdef inline void tap_voice(
    Rules *rules, Call *call, uint8_t side, bint a_law, uint8_t *data, size_t size,
    uint64_t now_ns
) noexcept nogil:
    # What `side` says, in G.711. It has been sent, or decoded: the recorder knows its law by
    # the static payload type, whatever number the leg has for it.
    cdef Leg *leg = &call.legs[side]
    if not call.recording or rules.tap == NULL:
        return
    data[1] = <uint8_t>(data[1] & 0x80) | (8 if a_law else 0)
    if tap_push(rules.tap, call.tap, side, now_ns, data, size):
        leg.recorded += 1
        rules.totals.recorded += 1
    relay_store64(&leg.relayed_on_tap, leg.relayed_on_tap + 1)


cdef inline Drop send_built(
    Rules *rules, Leg *other, int payload_type, bint marker, uint32_t timestamp, int octets,
    uint64_t now_ns
) noexcept nogil:
    # The payload is in `rules.built` behind the header already. What a held leg or one without
    # a path is not sent has no number: the peer would take it for lost.
    cdef Voice *out = other.voice
    cdef Drop drop
    cdef uint8_t *p = rules.built
    cdef RtpView view
    p[0] = 0x80
    p[1] = <uint8_t>(payload_type | (0x80 if marker else 0))
    write16(p + 2, out.sent.sequence)
    write32(p + 4, timestamp)
    write32(p + 8, out.sent.ssrc)
    view.payload_at = HEADER_OCTETS
    view.ssrc = out.sent.ssrc
    view.sequence = out.sent.sequence
    drop = send_rtp(rules, other, p, HEADER_OCTETS + octets, &view, now_ns)
    if (
        drop == DROP_NO_DESTINATION or drop == DROP_RECEIVER_ON_HOLD
        or drop == DROP_RECEIVER_NOT_SECURED
    ):
        return drop
    out.sent.sequence = <uint16_t>(out.sent.sequence + 1)
    out.sent.packets += 1
    out.sent.octets += octets
    return drop


cdef inline void map_event(
    EventMap *m, const Voice *source, const Voice *out, uint32_t timestamp, uint8_t event,
    uint16_t duration, uint64_t now_ns, uint32_t *sent_timestamp, uint16_t *sent_duration
) noexcept nogil:
    # A press is known by its timestamp; a long one goes on in segments. Its length crosses the
    # clocks as a whole.
    cdef uint64_t ticks
    cdef bint again = m.active and m.event == event
    if again and m.duration == SEGMENT and timestamp - m.timestamp == SEGMENT:
        m.earlier += SEGMENT
        m.timestamp = timestamp
    elif not again or timestamp != m.timestamp:
        m.active = 1
        m.event = event
        m.timestamp = timestamp
        m.earlier = 0
        m.sent_timestamp = voice_timestamp(out, now_ns)
    m.duration = duration
    ticks = (<uint64_t>m.earlier + duration) * out.coding.clock_hz // source.coding.clock_hz
    if ticks > SEGMENT:
        sent_timestamp[0] = m.sent_timestamp + <uint32_t>((ticks - 1) // SEGMENT) * SEGMENT
        sent_duration[0] = <uint16_t>((ticks - 1) % SEGMENT + 1)
    else:
        sent_timestamp[0] = m.sent_timestamp
        sent_duration[0] = <uint16_t>ticks


cdef inline Drop transcode_event(
    Rules *rules, Leg *leg, Leg *other, const uint8_t *payload, uint32_t octets,
    const RtpView *view, uint64_t now_ns
) noexcept nogil:
    cdef Voice *source = leg.voice
    cdef Voice *out = other.voice
    cdef uint8_t *p = rules.built + HEADER_OCTETS
    cdef uint32_t timestamp
    cdef uint16_t duration
    if octets < 4:
        return DROP_MALFORMED
    if out.coding.telephone_event < 0:
        return DROP_PAYLOAD_TYPE
    if now_ns >= source.keys.until_ns:
        source.keys.active = 0
        voice_clock(out, now_ns)
    source.keys.until_ns = now_ns + <uint64_t>KEY_NS
    map_event(
        &source.keys, source, out, view.timestamp, payload[0], read16(payload + 2), now_ns,
        &timestamp, &duration,
    )
    p[0] = payload[0]
    p[1] = payload[1]
    write16(p + 2, duration)
    return send_built(
        rules, other, out.coding.telephone_event, view.marker, timestamp, 4, now_ns
    )


cdef inline Drop transcode_packet(
    Rules *rules, Call *call, uint8_t side, uint8_t *data, int size, const RtpView *view,
    uint64_t now_ns
) noexcept nogil:
    # An accepted packet of a leg. What can be said of its receiver is said when it is sent.
    cdef Leg *leg = &call.legs[side]
    cdef Voice *v = leg.voice
    cdef const uint8_t *payload = data + view.payload_at
    cdef bint is_noise = view.payload_type == v.coding.comfort_noise
    cdef Taken taken
    if call.legs[1 - side].voice == NULL:
        return DROP_PAYLOAD_TYPE
    if view.payload_type == v.coding.telephone_event:
        return transcode_event(
            rules, leg, &call.legs[1 - side], payload, view.payload_octets, view, now_ns
        )
    if view.payload_type != v.coding.payload_type and not is_noise:
        return DROP_PAYLOAD_TYPE
    if view.payload_octets == 0 or view.payload_octets > JITTER_OCTETS:
        return DROP_MALFORMED
    taken = voice_put(
        v, view.ssrc, view.sequence, view.timestamp, payload, <uint16_t>view.payload_octets,
        is_noise, now_ns,
    )
    if taken == TAKEN_LATE:
        return DROP_TOO_LATE
    if v.coding.codec != VOICE_OPUS and not is_noise:
        tap_voice(
            rules, call, side, v.coding.codec == VOICE_PCMA, data, <size_t>size, now_ns
        )
    return DROP_NONE


cdef inline void transcode_frame(
    Rules *rules, Call *call, uint8_t side, uint64_t now_ns
) noexcept nogil:
    # 20 ms of what `side` says, for the other leg.
    cdef Voice *source = call.legs[side].voice
    cdef Leg *other = &call.legs[1 - side]
    cdef Voice *out = other.voice
    cdef int16_t sound[FRAME]
    cdef int octets
    cdef uint32_t timestamp
    if source.is_noise and not call.legs[side].settings.may_send:
        voice_rest(source)  # comfort noise has no end of its own, a hold is one
        return
    if not voice_frame(source, sound, now_ns):
        return
    voice_clock(out, now_ns)
    if now_ns < source.keys.until_ns:
        out.sent.held = 0
    else:
        memcpy(out.sent.sound + out.sent.held * FRAME, sound, sizeof(sound))
        out.sent.held += 1
    out.sent.timestamp += <uint32_t>FRAME * voice_ratio(out)
    out.sent.timestamp_ns += <uint64_t>FRAME_MS * 1000000
    if out.sent.held < out.coding.frames:
        return
    octets = voice_encoded(out, rules.built + HEADER_OCTETS, JITTER_OCTETS)
    timestamp = out.sent.timestamp - out.sent.held * <uint32_t>FRAME * voice_ratio(out)
    out.sent.held = 0
    if octets < 1:
        return
    if send_built(
        rules, other, out.coding.payload_type, out.sent.marker, timestamp, octets, now_ns
    ) == DROP_NONE:
        out.sent.marker = 0
    if out.coding.codec != VOICE_OPUS:
        tap_voice(
            rules, call, side, out.coding.codec == VOICE_PCMA, rules.built,
            <size_t>(HEADER_OCTETS + octets), now_ns,
        )


cdef inline uint64_t transcode(Rules *rules, Call *call, uint64_t now_ns) noexcept nogil:
    # What is due of both sides; when the next is.
    cdef uint64_t next_ns = now_ns + <uint64_t>FRAME_MS * 1000000
    cdef uint8_t side
    cdef Voice *v
    for side in range(2):
        v = call.legs[side].voice
        if v == NULL or v.due_ns == 0 or call.legs[1 - side].voice == NULL:
            continue
        while v.due_ns <= now_ns:
            if now_ns - v.due_ns > <uint64_t>(5 * FRAME_MS) * 1000000:
                v.due_ns = now_ns  # the machine stood still: nothing is made up for
            transcode_frame(rules, call, side, now_ns)
            v.due_ns += <uint64_t>FRAME_MS * 1000000
            if not v.playing and not v.jitter.started:
                v.due_ns = 0  # until a packet comes
                break
        if v.due_ns and v.due_ns < next_ns:
            next_ns = v.due_ns
    return next_ns
