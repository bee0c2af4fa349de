# A recording's timeline: the audio of both sides of a call on one clock of 8000 ticks/s.
#
# A tick is one G.711 sample since `began_ns`. A stream (one SSRC of one side) is anchored
# where its first packet arrived; each later packet stands where its RTP timestamp puts it.
# The arrival clock rules over the timestamps, so that no packet, however hostile, can make
# silence or memory: what disagrees with the clock by more than TL_SKEW is anchored anew.
#   ahead of the clock          anchored anew at once
#   behind, next one at pace    the timestamps jumped (hold, transfer): anchored anew
#   behind, next one in a burst the network stalled: they stay where they belong
# Ticks that nothing wrote are silence; between a side's audio they are listed as gaps.
# Audio leaves in blocks of TL_BLOCK ticks, once the clock is the reorder window past them;
# what arrives for a block that has left is late.
#
# Opus is decoded to 8000 Hz here, off the packet path; its clock of 48000 Hz is divided.
#
# relay/rtp/timeline.py is the slow reference for G.711: the same rules, compared by a test.
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from g711 cimport g711_convert, g711_mix, g711_octet, g711_silence
from opus cimport OpusDecoder, opus_decode, opus_decoder_destroy, voice_decoder

cdef enum:
    TL_BLOCK = 1600          # ticks, 200 ms; a multiple of 64, see tl_scan
    TL_CAPACITY = 16384      # >= TL_BLOCK + TL_WINDOW_LIMIT + TL_SKEW + TAP_PACKET_LIMIT
    TL_WORDS = 256           # TL_CAPACITY / 64
    TL_WINDOW_LIMIT = 4000
    TL_SKEW = 1600           # 200 ms
    TL_TICK_NS = 125000
    TL_RECENT = 64           # packets remembered to recognise a duplicate
    TL_GAPS = 64             # listed with one block; all are counted

cdef struct Gap:
    int64_t start
    int64_t ticks
    int channel

cdef struct Waiting:         # a packet behind the clock: the next one tells why
    bint held
    int64_t position
    int64_t arrival
    uint32_t timestamp
    uint32_t octets
    uint8_t audio[2048]

cdef struct Channel:
    uint8_t audio[TL_CAPACITY]
    uint64_t filled[TL_WORDS]
    uint64_t recent[TL_RECENT]
    bint anchored
    bint heard               # has any audio left yet
    uint32_t ssrc
    uint32_t ref_timestamp
    int64_t ref_tick
    int64_t gap_from         # start of the open gap or -1
    uint64_t recorded
    uint64_t late
    uint64_t duplicate
    uint64_t other
    uint64_t restarts
    uint64_t jumps
    uint64_t gaps
    uint64_t gap_ticks
    Waiting waiting
    OpusDecoder *decoder     # from its first Opus packet on
    uint32_t opus_timestamp
    int64_t opus_ticks       # at 48000 Hz, without end

cdef struct OutBlock:
    OutBlock *next
    Timeline *ended          # this block is the last one of it
    uint32_t tap
    int64_t first_tick
    uint32_t ticks
    uint32_t octets
    uint32_t gap_count
    Gap gaps[TL_GAPS]
    uint8_t data[2 * TL_BLOCK]

cdef struct Outlet:
    OutBlock *first
    OutBlock *last
    uint32_t count

cdef struct Timeline:
    Timeline *chain          # of the same slot
    Timeline *next
    uint32_t tap
    int law                  # index of the g711 tables
    uint64_t opus_types[2]   # bit set of 128
    bint dual
    uint64_t began_ns
    int64_t window
    int64_t emitted          # everything before this tick has left
    int64_t furthest         # end of the audio so far
    uint64_t dropped_before  # the tap's drop counter at the start
    Channel channels[2]


cdef inline void tl_init(Timeline *t, uint32_t tap, int law, bint dual, uint64_t began_ns,
                         int64_t window) noexcept nogil:
    memset(t, 0, sizeof(Timeline))
    t.tap = tap
    t.law = law
    t.dual = dual
    t.began_ns = began_ns
    t.window = window
    cdef int side
    for side in range(2):
        memset(t.channels[side].audio, g711_silence[law], TL_CAPACITY)
        t.channels[side].gap_from = -1


cdef inline void tl_free(Timeline *t) noexcept nogil:
    cdef int side
    for side in range(2):
        if t.channels[side].decoder != NULL:
            opus_decoder_destroy(t.channels[side].decoder)
    free(t)


cdef inline int64_t tl_clock(const Timeline *t, uint64_t now_ns) noexcept nogil:
    return <int64_t> ((now_ns - t.began_ns) / TL_TICK_NS) if now_ns > t.began_ns else 0


# -- placing -------------------------------------------------------------------------

cdef inline void tl_mark(Channel *c, uint32_t at, uint32_t n) noexcept nogil:
    # Sets n bits from bit `at` on; does not wrap.
    cdef uint32_t word = at >> 6
    cdef uint32_t bit = at & 63
    cdef uint32_t take
    cdef uint64_t ones
    while n:
        take = 64 - bit if n > 64 - bit else n
        ones = ~<uint64_t> 0 if take == 64 else ((<uint64_t> 1 << take) - 1) << bit
        c.filled[word] |= ones
        word += 1
        bit = 0
        n -= take


cdef inline void tl_put(Channel *c, uint32_t at, const uint8_t *audio, uint32_t n) noexcept nogil:
    memcpy(c.audio + at, audio, n)
    tl_mark(c, at, n)


cdef inline void tl_place(Timeline *t, Channel *c, int64_t position, const uint8_t *audio,
                          int64_t n) noexcept nogil:
    # Later audio replaces earlier; what lies before the open block is cut off.
    cdef uint32_t at, first
    if position < t.emitted:
        if position + n <= t.emitted:
            c.late += 1
            return
        audio += t.emitted - position
        n -= t.emitted - position
        position = t.emitted
    if position + n > t.emitted + TL_CAPACITY:
        c.late += 1  # cannot be: TL_CAPACITY; never write outside all the same
        return
    c.recorded += 1
    if position + n > t.furthest:
        t.furthest = position + n
    at = <uint32_t> (position & (TL_CAPACITY - 1))
    first = TL_CAPACITY - at
    if n <= first:
        tl_put(c, at, audio, <uint32_t> n)
    else:
        tl_put(c, at, audio, first)
        tl_put(c, 0, audio + first, <uint32_t> n - first)


cdef inline void tl_resolve(Timeline *t, Channel *c) noexcept nogil:
    # The waiting packet was only late: it goes where its timestamp says.
    if c.waiting.held:
        c.waiting.held = False
        tl_place(t, c, c.waiting.position, c.waiting.audio, c.waiting.octets)


cdef inline void tl_anchor(Channel *c, int64_t tick, uint32_t timestamp) noexcept nogil:
    c.ref_tick = tick
    c.ref_timestamp = timestamp


cdef inline bint tl_at_pace(Channel *c, int64_t arrival, uint32_t timestamp) noexcept nogil:
    # Did this packet follow the waiting one at the pace of its timestamps?
    cdef int64_t by_timestamp = <int32_t> (timestamp - c.waiting.timestamp)
    cdef int64_t by_clock = arrival - c.waiting.arrival
    return (by_timestamp > 0 and 2 * by_clock >= by_timestamp
            and -TL_SKEW <= by_clock - by_timestamp <= TL_SKEW)  # nor far ahead of the clock


cdef inline void tl_audio(Timeline *t, Channel *c, int64_t arrival, uint32_t ssrc,
                          uint32_t timestamp, const uint8_t *audio, uint32_t n) noexcept nogil:
    cdef int64_t delta, position, skew
    if not c.anchored or ssrc != c.ssrc:
        tl_resolve(t, c)
        c.restarts += c.anchored
        c.anchored = True
        c.ssrc = ssrc
        tl_anchor(c, arrival, timestamp)
        tl_place(t, c, arrival, audio, n)
        return
    delta = <int32_t> (timestamp - c.ref_timestamp)
    position = c.ref_tick + delta
    skew = position - arrival
    if skew > TL_SKEW:
        tl_resolve(t, c)
        c.jumps += 1
        position = arrival
        tl_anchor(c, position, timestamp)
    elif skew < -(TL_SKEW if delta > 0 else t.window):
        if not c.waiting.held or not tl_at_pace(c, arrival, timestamp):
            tl_resolve(t, c)
            c.waiting.held = True
            c.waiting.position = position
            c.waiting.arrival = arrival
            c.waiting.timestamp = timestamp
            c.waiting.octets = n
            memcpy(c.waiting.audio, audio, n)
            return
        c.jumps += 1
        c.waiting.position = c.waiting.arrival
        position = c.waiting.arrival + <int32_t> (timestamp - c.waiting.timestamp)
        tl_resolve(t, c)
        tl_anchor(c, position, timestamp)
    else:
        tl_resolve(t, c)
        if delta > 0:
            tl_anchor(c, position, timestamp)
    tl_place(t, c, position, audio, n)


cdef inline uint32_t tl_be32(const uint8_t *p) noexcept nogil:
    return (<uint32_t> p[0] << 24) | (<uint32_t> p[1] << 16) | (<uint32_t> p[2] << 8) | p[3]


cdef inline bint tl_repeated(Channel *c, const uint8_t *packet) noexcept nogil:
    # The same sequence number, timestamp and (a hash of) SSRC as a recent packet.
    cdef uint32_t seq = (<uint32_t> packet[2] << 8) | packet[3]
    cdef uint64_t key = ((<uint64_t> tl_be32(packet + 4) << 16 | seq)
                         ^ (<uint64_t> tl_be32(packet + 8) << 32)) + 1
    cdef uint64_t *slot = &c.recent[seq & (TL_RECENT - 1)]
    if slot[0] == key:
        return True
    slot[0] = key
    return False


cdef inline bint tl_is_opus(const Timeline *t, const uint8_t *packet) noexcept nogil:
    cdef int kind = packet[1] & 0x7F
    return (t.opus_types[kind >> 6] >> (kind & 63)) & 1


cdef inline int32_t tl_opus(
    Timeline *t, Channel *c, const uint8_t *packet, const uint8_t *payload, int32_t n,
    uint8_t *audio, uint32_t *timestamp
) noexcept nogil:
    # An Opus packet as G.711 of the recording's law, and its timestamp at 8000 Hz; the samples,
    # or less than 1 when it cannot be decoded.
    cdef int16_t sound[960]
    cdef int32_t i, samples
    cdef uint32_t stamp = tl_be32(packet + 4)
    if c.decoder == NULL:
        c.decoder = voice_decoder()
        c.opus_timestamp = stamp
        if c.decoder == NULL:
            return 0
    c.opus_ticks += <int32_t> (stamp - c.opus_timestamp)
    c.opus_timestamp = stamp
    timestamp[0] = <uint32_t> (c.opus_ticks // 6)
    samples = opus_decode(c.decoder, payload, n, sound, 960, 0)
    for i in range(samples):
        audio[i] = g711_octet[t.law][(<int32_t> sound[i] + 32768) >> 2]
    return samples


cdef inline void tl_packet(Timeline *t, int side, uint64_t now_ns, const uint8_t *packet,
                           size_t length, Outlet *out) noexcept nogil:
    # RFC 3550 section 5.1. Audio is payload type 0 or 8 (RFC 3551), or Opus; the rest is counted.
    cdef Channel *c = &t.channels[side & 1]
    cdef int64_t arrival = tl_clock(t, now_ns)
    cdef size_t start, end = length
    cdef int law
    cdef uint32_t i, n
    cdef uint8_t converted[2048]
    cdef const uint8_t *audio
    cdef bint opus = length >= 12 and tl_is_opus(t, packet)
    cdef uint32_t timestamp
    cdef int32_t samples
    tl_emit(t, arrival, out)
    if length < 12 or packet[0] >> 6 != 2 or (packet[1] & 0x77 and not opus):
        c.other += 1
        return
    law = (packet[1] >> 3) & 1
    start = 12 + 4 * <size_t> (packet[0] & 15)
    if packet[0] & 0x10 and start + 4 <= length:
        start += 4 + 4 * ((<size_t> packet[start + 2] << 8) | packet[start + 3])
    if packet[0] & 0x20:
        end -= packet[length - 1] if packet[length - 1] <= length else length
    if start >= end or end - start > sizeof(converted):
        c.other += 1
        return
    if tl_repeated(c, packet):
        c.duplicate += 1
        return
    n = <uint32_t> (end - start)
    audio = packet + start
    timestamp = tl_be32(packet + 4)
    if opus:
        samples = tl_opus(t, c, packet, audio, <int32_t> n, converted, &timestamp)
        if samples < 1:
            c.other += 1
            return
        audio = converted
        n = <uint32_t> samples
    elif law != t.law:
        for i in range(n):
            converted[i] = g711_convert[t.law][audio[i]]
        audio = converted
    tl_audio(t, c, arrival, tl_be32(packet + 8), timestamp, audio, n)


# -- leaving -------------------------------------------------------------------------

cdef inline void tl_gap(Channel *c, int side, int64_t until, OutBlock *block) noexcept nogil:
    c.gaps += 1
    c.gap_ticks += until - c.gap_from
    if block.gap_count < TL_GAPS:
        block.gaps[block.gap_count].start = c.gap_from
        block.gaps[block.gap_count].ticks = until - c.gap_from
        block.gaps[block.gap_count].channel = side
        block.gap_count += 1
    c.gap_from = -1


cdef inline void tl_scan(Timeline *t, int side, uint32_t ticks, OutBlock *block) noexcept nogil:
    # Finds where audio stops and resumes. A block starts at a multiple of 64 ticks, and
    # nothing is ever marked past the last tick of the last block.
    cdef Channel *c = &t.channels[side]
    cdef uint32_t i, bit
    cdef uint64_t word, wanted
    cdef int64_t tick = t.emitted
    for i in range((ticks + 63) // 64):
        word = c.filled[(tick >> 6) & (TL_WORDS - 1)]
        wanted = ~<uint64_t> 0 if c.gap_from < 0 and c.heard else 0
        if word != wanted:
            for bit in range(64):
                if word >> bit & 1:
                    c.heard = True
                    if c.gap_from >= 0:
                        tl_gap(c, side, tick + bit, block)
                elif c.heard and c.gap_from < 0:
                    c.gap_from = tick + bit
        tick += 64


cdef inline void tl_render(const Timeline *t, uint32_t at, uint32_t n, uint8_t *to) noexcept nogil:
    cdef const uint8_t *left = t.channels[0].audio + at
    cdef const uint8_t *right = t.channels[1].audio + at
    cdef uint32_t i
    cdef int mixed
    if t.dual:
        for i in range(n):
            to[2 * i] = left[i]
            to[2 * i + 1] = right[i]
        return
    for i in range(n):
        mixed = g711_mix[t.law][left[i]] + g711_mix[t.law][right[i]]
        mixed = 32767 if mixed > 32767 else (-32768 if mixed < -32768 else mixed)
        to[i] = g711_octet[t.law][(mixed + 32768) >> 2]


cdef inline void tl_clear(Timeline *t, uint32_t at, uint32_t n) noexcept nogil:
    # Whole words: `n` is a multiple of 64 but for the last block.
    cdef int side
    for side in range(2):
        memset(t.channels[side].audio + at, g711_silence[t.law], n)
        memset(&t.channels[side].filled[at >> 6], 0, (n + 63) // 64 * 8)


cdef inline OutBlock *tl_leave(Timeline *t, uint32_t ticks, Outlet *out) noexcept nogil:
    # Moves `ticks` ticks out as one block. Without memory the block is missing: the reader
    # of the blocks sees it by the tick.
    cdef OutBlock *block = <OutBlock *> malloc(sizeof(OutBlock))
    cdef uint32_t at = <uint32_t> (t.emitted & (TL_CAPACITY - 1))
    cdef uint32_t first = TL_CAPACITY - at if ticks > TL_CAPACITY - at else ticks
    cdef uint32_t width = 2 if t.dual else 1
    if block != NULL:
        block.next = NULL
        block.ended = NULL
        block.tap = t.tap
        block.first_tick = t.emitted
        block.ticks = ticks
        block.octets = ticks * width
        block.gap_count = 0
        tl_scan(t, 0, ticks, block)
        tl_scan(t, 1, ticks, block)
        tl_render(t, at, first, block.data)
        tl_render(t, 0, ticks - first, block.data + first * width)
        if out.last == NULL:
            out.first = block
        else:
            out.last.next = block
        out.last = block
        out.count += 1
    tl_clear(t, at, first)
    tl_clear(t, 0, ticks - first)
    t.emitted += ticks
    return block


cdef inline void tl_emit(Timeline *t, int64_t clock, Outlet *out) noexcept nogil:
    while clock - t.emitted >= TL_BLOCK + t.window:
        tl_leave(t, TL_BLOCK, out)


cdef inline OutBlock *tl_finish(Timeline *t, int64_t clock, Outlet *out) noexcept nogil:
    # Everything that is held leaves; the recording ends at the clock, or with its audio
    # when that reaches a little further. Returns the last block (possibly empty) or NULL.
    cdef int64_t end
    cdef int side
    tl_emit(t, clock, out)
    for side in range(2):
        tl_resolve(t, &t.channels[side])
    end = clock if clock > t.furthest else t.furthest
    while end - t.emitted > TL_BLOCK:
        tl_leave(t, TL_BLOCK, out)
    return tl_leave(t, <uint32_t> (end - t.emitted) if end > t.emitted else 0, out)
