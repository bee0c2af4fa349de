# RTCP of our own (RFC 3550 section 6) towards a leg of a transcoded call, or a WebRTC leg whose
# partner sends none: how the leg's
# stream arrives, and what the stream that it is sent consists of.
#
# A browser gets its round-trip time and its losses from these. Reports of the partner pass as
# they are, and while they come we say nothing.

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from flow cimport CNAME_OCTETS, RTP, Call, Leg, Reports
from packet cimport DROP_NONE, read16, read32, write16, write32
from rules cimport Rules
from send cimport send_rtcp
from stats cimport Stats, stats_stream_expected
from sys cimport relay_now_ntp
from voice cimport Voice

cdef enum:
    RTCP_SR = 200
    RTCP_RR = 201
    RTCP_SDES = 202
    SDES_CNAME = 1
    SENDER_OCTETS = 28          # of an SR without blocks
    BLOCK_OCTETS = 24
    MOST_LOST = 0x7FFFFF        # of 24 bits with a sign


cdef struct Sent:               # the stream that a leg is sent, as a sender report has it
    uint32_t ssrc
    uint32_t timestamp          # of this moment
    uint32_t packets
    uint32_t octets
    uint8_t active              # since the last report


cdef inline void report_heard(
    Reports *r, const uint8_t *data, int size, uint64_t now_ns
) noexcept nogil:
    # A checked compound of this leg: its SR is what our blocks refer to.
    if data[1] == RTCP_SR and size >= SENDER_OCTETS and read16(data + 2) >= 6:
        r.sr_ssrc = read32(data + 4)
        r.sr_ntp = read32(data + 10)
        r.sr_ns = now_ns


cdef inline uint32_t clock_ticks(uint64_t now_ns, uint32_t clock_hz) noexcept nogil:
    # As the statistics count arrivals.
    return <uint32_t>((now_ns // 1000) * clock_hz // 1000000)


cdef inline void sent_as_it_came(
    Reports *r, const Leg *source, uint64_t now_ns, Sent *out
) noexcept nogil:
    # What passes unchanged keeps its SSRC and clock; the counts are those since it was first
    # reported.
    if r.sent_ssrc != source.stats.ssrc:
        r.sent_ssrc = source.stats.ssrc
        r.packets_before = r.packets_reported
        r.octets_before = r.octets_reported
    out.ssrc = source.stats.ssrc
    out.active = (
        source.stats.started and source.stats.transit_known
        and source.relayed != r.packets_reported
    )
    out.timestamp = clock_ticks(now_ns, source.settings.clock_hz or 8000) - source.stats.transit
    out.packets = <uint32_t>(source.relayed - r.packets_before)
    out.octets = <uint32_t>(source.stats.octets - r.octets_before)
    r.packets_reported = source.relayed
    r.octets_reported = source.stats.octets


cdef inline void sent_by_us(Reports *r, const Voice *v, uint64_t now_ns, Sent *out) noexcept nogil:
    # The stream of a transcoded call.
    out.ssrc = v.sent.ssrc
    out.active = v.sent.packets != r.packets_reported
    out.timestamp = v.sent.timestamp + <uint32_t>(
        <int64_t>(now_ns - v.sent.timestamp_ns) // 1000 * v.coding.clock_hz // 1000000
    )
    out.packets = <uint32_t>v.sent.packets
    out.octets = <uint32_t>v.sent.octets
    r.packets_reported = v.sent.packets


cdef inline size_t write_block(
    Reports *r, const Stats *s, uint64_t now_ns, uint8_t *p
) noexcept nogil:
    # RFC 3550 section 6.4.1 and appendix A.3; nothing when nothing came since the last report.
    cdef uint32_t expected = <uint32_t>stats_stream_expected(s)
    cdef uint32_t lost = expected - s.unique if expected > s.unique else 0
    cdef uint32_t expected_now, received_now
    if r.block_ssrc != s.ssrc or r.expected > expected or r.received > s.unique:
        r.block_ssrc = s.ssrc
        r.expected = r.received = 0
    if not s.started or r.received == s.unique:
        return 0
    expected_now = expected - r.expected
    received_now = s.unique - r.received
    r.expected = expected
    r.received = s.unique
    write32(p, s.ssrc)
    write32(p + 4, lost if lost < MOST_LOST else MOST_LOST)
    if expected_now > received_now:  # something came, so this is below 256
        p[4] = <uint8_t>((<uint64_t>(expected_now - received_now) << 8) // expected_now)
    write32(p + 8, s.highest)
    write32(p + 12, <uint32_t>s.jitter)
    if r.sr_ns and r.sr_ssrc == s.ssrc:
        write32(p + 16, r.sr_ntp)
        write32(p + 20, <uint32_t>(((now_ns - r.sr_ns) // 1000 << 16) // 1000000))
    else:
        write32(p + 16, 0)
        write32(p + 20, 0)
    return BLOCK_OCTETS


cdef inline size_t write_cname(uint8_t *p, uint32_t ssrc, const uint8_t *cname) noexcept nogil:
    # RFC 3550 section 6.5; the list ends with zeros up to a whole word.
    cdef size_t octets = 12 + CNAME_OCTETS
    p[0] = 0x81
    p[1] = RTCP_SDES
    write16(p + 2, <uint16_t>(octets // 4 - 1))
    write32(p + 4, ssrc)
    p[8] = SDES_CNAME
    p[9] = CNAME_OCTETS
    memcpy(p + 10, cname, CNAME_OCTETS)
    p[10 + CNAME_OCTETS] = p[11 + CNAME_OCTETS] = 0
    return octets


cdef inline size_t write_report(
    Reports *r, const Stats *heard, const Sent *sent, const uint8_t *cname, uint32_t ours,
    uint64_t now_ns, uint8_t *p
) noexcept nogil:
    # SR or RR with at most one block, and our name.
    cdef size_t at = SENDER_OCTETS if sent.active else 8
    cdef uint64_t ntp
    cdef size_t block
    cdef uint32_t ssrc = sent.ssrc if sent.active or sent.packets else ours
    if sent.active:
        ntp = relay_now_ntp()
        write32(p + 8, <uint32_t>(ntp >> 32))
        write32(p + 12, <uint32_t>ntp)
        write32(p + 16, sent.timestamp)
        write32(p + 20, sent.packets)
        write32(p + 24, sent.octets)
    block = write_block(r, heard, now_ns, p + at)
    at += block
    p[0] = 0x81 if block else 0x80
    p[1] = RTCP_SR if sent.active else RTCP_RR
    write16(p + 2, <uint16_t>(at // 4 - 1))
    write32(p + 4, ssrc)
    return at + write_cname(p + at, ssrc, cname)


cdef inline bint report_due(Leg *leg, uint64_t interval_ns, uint64_t now_ns) noexcept nogil:
    # Only a leg with a path and keys, whose partner has been silent for an interval.
    cdef Reports *r = &leg.reports
    if (leg.settings.secured and leg.srtp.send == NULL) or leg.remote[<int>RTP].length == 0:
        r.due_ns = 0
        return False
    if r.due_ns == 0:
        r.due_ns = now_ns + interval_ns
    if r.heard_ns + interval_ns > r.due_ns:
        r.due_ns = r.heard_ns + interval_ns
    return now_ns >= r.due_ns


cdef inline void report_send(
    Rules *rules, Call *call, uint8_t side, uint64_t now_ns
) noexcept nogil:
    # To one WebRTC leg, or one of a transcoded call.
    cdef Leg *leg = &call.legs[side]
    cdef Sent sent
    cdef size_t octets
    if not report_due(leg, rules.report_ns, now_ns):
        return
    leg.reports.due_ns = now_ns + rules.report_ns
    if leg.voice != NULL:
        sent_by_us(&leg.reports, leg.voice, now_ns, &sent)
    else:
        sent_as_it_came(&leg.reports, &call.legs[1 - side], now_ns, &sent)
    octets = write_report(
        &leg.reports, &leg.stats, &sent, call.cname, call.ssrc, now_ns, rules.opened
    )
    if send_rtcp(rules, leg, rules.opened, <int>octets) == DROP_NONE:
        rules.totals.reports += 1
