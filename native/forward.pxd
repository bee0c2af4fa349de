# The path of a packet: demux -> source check -> SRTP opened -> rules -> figures -> SRTP closed
# -> out of the other leg. Nothing is learned from a packet before it is authenticated.
#
# Nothing passes a WebRTC leg in the clear, either way: before its keys are there it is dropped.

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from bursts cimport bursts_feed
from dtmf cimport DtmfPress, dtmf_feed
from flow cimport RTCP, RTP, Call, Leg, Port
from ice cimport ice_spend, stun_wanted
from packet cimport (
    DROP_DTLS, DROP_DTLS_SOURCE, DROP_LATCH_REFUSED, DROP_NONE, DROP_NOT_DESCRIBED, DROP_NOT_RTCP,
    DROP_NOT_SECURED, DROP_NO_DESTINATION, DROP_ON_HOLD, DROP_OUTSIDE_REGION,
    DROP_PACKETS_WAITING, DROP_PAYLOAD_TYPE, DROP_RECEIVER_NOT_SECURED, DROP_RECEIVER_ON_HOLD,
    DROP_RTCP_MUX_NOT_NEGOTIATED, DROP_SEND_FAILED, DROP_SHORT, DROP_SRTP_MKI, DROP_STUN,
    DROP_WRONG_SOURCE, DROP_WRONG_SSRC, KIND_RTCP, KIND_RTP, Drop, Kind, RtcpView, RtpView, demux,
    rtcp_view, rtp_header, rtp_view,
)
from packets cimport packet_push
from reports cimport report_heard
from ring cimport EVENT_DROPS, EVENT_FIRST_PACKET, event_plain
from rules cimport Rules, inside_region, report_change, report_presses
from source cimport rtcp_source, rtp_source, settle
from send cimport send_rtcp, send_rtp
from srtp_leg cimport srtp_receive
from stats cimport stats_feed
from sys cimport relay_address, relay_same_address, relay_store64
from tap cimport tap_push
from transcode cimport transcode_packet

cdef enum:
    FIRST_DYNAMIC = 96          # payload types below have one meaning (RFC 3551)


cdef inline Drop open_packet(
    Rules *rules, Leg *leg, uint8_t **data, int *size, const RtpView *rtp, uint64_t now_ns
) noexcept nogil:
    # What an SRTP or (`rtp` is NULL) SRTCP packet holds; of a plain leg, the packet itself.
    cdef size_t octets
    cdef Drop drop
    if leg.srtp.receive == NULL:
        if leg.settings.secured:
            return DROP_NOT_SECURED
        if leg.srtp.replaced == NULL:
            return DROP_NONE
    drop = srtp_receive(
        &leg.srtp, data[0], <size_t>size[0], rtp, now_ns, rules.opened, &octets
    )
    if drop == DROP_NONE:
        data[0] = rules.opened
        size[0] = <int>octets
    elif leg.srtp.receive == NULL and drop == DROP_SRTP_MKI:
        return DROP_NONE  # plain since the last description: only what is in flight is SRTP
    return drop


cdef inline Drop relay_rtp(
    Rules *rules, Call *call, uint8_t side, uint8_t *data, int size,
    const relay_address *source, uint64_t now_ns
) noexcept nogil:
    cdef Leg *leg = &call.legs[side]
    cdef uint8_t sent_on
    cdef RtpView view
    cdef DtmfPress presses[2]
    cdef bint learn = False
    cdef bint is_event
    cdef Drop drop
    if not leg.described:
        return DROP_NOT_DESCRIBED
    drop = rtp_header(data, <size_t>size, &view)
    if drop == DROP_NONE:
        drop = rtp_source(rules, leg, source, &learn)
    if drop == DROP_NONE:
        drop = open_packet(rules, leg, &data, &size, &view, now_ns)
    if drop == DROP_NONE:
        drop = rtp_view(data, <size_t>size, &view)
    if drop != DROP_NONE:
        return drop
    if (
        leg.latched and leg.settled and not learn and view.ssrc != leg.latched_ssrc
        and leg.srtp.receive == NULL  # an authentic packet may begin another stream
    ):
        return DROP_WRONG_SSRC
    if not (leg.settings.payload_types[view.payload_type >> 6] >> (view.payload_type & 63)) & 1:
        return DROP_PAYLOAD_TYPE
    if not leg.settings.may_send:
        return DROP_ON_HOLD
    if learn or not leg.settled:
        settle(rules, call, side, source, view.ssrc, learn)
    sent_on = leg.settings.payload_map[view.payload_type]
    is_event = sent_on == leg.settings.telephone_event
    if leg.stats.started and view.ssrc != leg.stats.ssrc:
        report_change(rules, call, side, now_ns)
    stats_feed(
        &leg.stats, view.ssrc, view.sequence, view.timestamp, view.payload_octets, now_ns,
        leg.settings.clock_hz, not is_event,
    )
    leg.usable_ns = now_ns
    leg.timeout_reported = 0
    if not leg.first_reported:
        leg.first_reported = 1
        event_plain(&rules.events, EVENT_FIRST_PACKET, call.number, side, 0, 0)
    if leg.voice != NULL:
        drop = transcode_packet(rules, call, side, data, size, &view, now_ns)
    else:
        data[1] = <uint8_t>(view.marker << 7) | sent_on
        drop = send_rtp(rules, &call.legs[1 - side], data, size, &view, now_ns)
    if is_event:
        report_presses(
            rules, call, side, presses,
            dtmf_feed(
                &leg.dtmf, view.ssrc, view.timestamp, data + view.payload_at, view.payload_octets,
                now_ns, presses,
            ),
        )
    if drop != DROP_NONE:
        return drop
    leg.relayed += 1
    leg.relayed_ns = now_ns
    rules.totals.relayed += 1
    if call.recording and rules.tap != NULL and leg.voice == NULL:
        # After the packet has left: recording never delays the call. Its payload type is the
        # static one if either side has one: the recorder knows no other.
        if sent_on >= FIRST_DYNAMIC:
            data[1] = <uint8_t>(view.marker << 7) | view.payload_type
        if tap_push(rules.tap, call.tap, side, now_ns, data, <size_t>size):
            leg.recorded += 1
            rules.totals.recorded += 1
        # Counted last: who reads this figure finds at least so many packets in the tap.
        relay_store64(&leg.relayed_on_tap, leg.relayed_on_tap + 1)
    return DROP_NONE


cdef inline Drop relay_rtcp(
    Rules *rules, Call *call, uint8_t side, uint8_t component, uint8_t *data, int size,
    const relay_address *source, uint64_t now_ns
) noexcept nogil:
    # Reports flow while a stream is on hold (RFC 3264 section 5.1).
    cdef Leg *leg = &call.legs[side]
    cdef RtcpView view
    cdef bint learn = False
    cdef Drop drop
    if not leg.described:
        return DROP_NOT_DESCRIBED
    if component == RTP and not leg.settings.mux:
        return DROP_RTCP_MUX_NOT_NEGOTIATED
    if size < 8:
        return DROP_SHORT
    drop = rtcp_source(leg, source, &learn)
    if drop == DROP_NONE:
        drop = open_packet(rules, leg, &data, &size, NULL, now_ns)
    if drop == DROP_NONE:
        drop = rtcp_view(data, <size_t>size, &view)
    if drop != DROP_NONE:
        return drop
    if learn:
        leg.remote[<int>RTCP] = source[0]
        leg.rtcp_latched = 1
    leg.rtcp_packets += 1
    report_heard(&leg.reports, data, size, now_ns)
    if leg.voice != NULL:
        return DROP_NONE  # the streams that it is about end here: the reports are ours
    drop = send_rtcp(rules, &call.legs[1 - side], data, size)
    if drop != DROP_NONE:
        return drop
    call.legs[1 - side].reports.heard_ns = now_ns
    leg.rtcp_relayed += 1
    rules.totals.rtcp_relayed += 1
    return DROP_NONE


cdef inline Drop hand_up(
    Rules *rules, Call *call, uint8_t side, const uint8_t *data, int size, bint dtls,
    const relay_address *source, uint64_t now_ns
) noexcept nogil:
    # STUN or DTLS of a WebRTC leg, to Python.
    cdef Leg *leg = &call.legs[side]
    cdef bint on_path = relay_same_address(source, &leg.remote[<int>RTP])
    cdef Drop drop = DROP_NONE
    if not inside_region(rules, source):
        return DROP_OUTSIDE_REGION
    if dtls and not on_path and (leg.remote[<int>RTP].length or leg.srtp.receive != NULL):
        return DROP_DTLS_SOURCE  # the first handshake may begin before a path is selected
    if not dtls:
        drop = stun_wanted(&leg.ice, data, <size_t>size)
    if drop == DROP_NONE:
        drop = ice_spend(&leg.ice, dtls, on_path, now_ns)
    if drop != DROP_NONE:
        return drop
    if not packet_push(
        &rules.packets, call.number, side, data, size, source, on_path, rules.events.wake
    ):
        return DROP_PACKETS_WAITING
    rules.totals.handed_up += 1
    return DROP_NONE


cdef inline bint relay_datagram(
    Rules *rules, Port *port, uint8_t *data, int size, const relay_address *source,
    uint64_t now_ns
) noexcept nogil:
    # False: it was dropped.
    cdef Leg *leg = &port.call.legs[port.side]
    cdef Kind kind = KIND_RTP
    cdef Drop drop = demux(data, <size_t>size, &kind)
    cdef bint media = port.component == RTP
    rules.totals.received += 1
    if drop == DROP_NONE:
        if kind == KIND_RTCP:
            drop = relay_rtcp(
                rules, port.call, port.side, port.component, data, size, source, now_ns
            )
        elif port.component == RTCP:
            drop = DROP_NOT_RTCP
        else:
            drop = relay_rtp(rules, port.call, port.side, data, size, source, now_ns)
    elif (drop == DROP_STUN or drop == DROP_DTLS) and (
        leg.settings.secured or leg.ice.offered_octets
    ):
        media = False
        if port.component == RTP:
            drop = hand_up(
                rules, port.call, port.side, data, size, drop == DROP_DTLS, source, now_ns
            )
    if drop == DROP_NONE:
        return True
    leg.drops[<int>drop] += 1
    rules.totals.drops[<int>drop] += 1
    if bursts_feed(&leg.bursts, leg.drops, drop, now_ns):
        event_plain(
            &rules.events, EVENT_DROPS, port.call.number, port.side, drop,
            <uint32_t>leg.drops[<int>drop],
        )
    if media and kind == KIND_RTP:
        if drop == DROP_WRONG_SOURCE or drop == DROP_LATCH_REFUSED:
            leg.stranger = source[0]
        leg.last_drop = drop
        # Last: who reads when it was finds why and from where, too.
        relay_store64(&leg.dropped_ns, now_ns)
    return False
