# One leg of a transcoded call: what its peer sends becomes linear sound at 8 kHz, and linear
# sound becomes what its peer is sent.
#
# libopus decodes to 8 kHz and encodes from it by itself. A frame is 20 ms: 160 samples.

from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memmove, memset

from g711 cimport g711_linear, g711_octet
from jitter cimport (
    FRAME_MS, JITTER_OCTETS, TAKEN_FIRST, Held, Jitter, Taken, jitter_clear, jitter_find,
    jitter_put, jitter_target_ms,
)
from opus cimport (
    OpusDecoder, OpusEncoder, opus_decode, opus_decoder_destroy, opus_encode,
    opus_encoder_destroy, voice_decoder, voice_encoder,
)

cdef enum:
    FRAME = 160
    LONGEST = 960               # samples of an Opus packet of 120 ms
    SOUND = LONGEST + FRAME     # decoded and not played yet
    PATIENCE = 10               # frames concealed without a packet; then the stream rests
    EXCESS_MS = 40              # more than the target for EXCESS_FRAMES: a frame is left out
    EXCESS_FRAMES = 50
    QUIET_FRAMES = 10           # sooner when it is a quiet one
    QUIET = 500                 # mean amplitude
    WAITING = 10                # packets that wait while the timestamp says silence: it jumped
    MOST_FRAMES = 3             # in a packet of ours
    HOLDS_MS = 4000             # more than the buffer has places for


cdef enum VoiceCodec:
    VOICE_NONE = 0
    VOICE_PCMU
    VOICE_PCMA
    VOICE_OPUS


cdef struct Coding:             # as a description has it; types are -1 where there is none
    uint8_t codec
    uint8_t frames              # in a packet to this leg
    uint8_t fec
    int16_t payload_type
    int16_t telephone_event
    int16_t comfort_noise
    uint32_t clock_hz


cdef struct Sent:               # the stream that this leg is sent: ours
    uint32_t ssrc
    uint16_t sequence
    uint32_t timestamp          # of the next sample
    uint64_t timestamp_ns       # when that is
    uint64_t packets
    uint64_t octets
    uint8_t marker
    uint8_t held                # frames that wait to fill a packet
    int16_t sound[FRAME * MOST_FRAMES]


cdef struct EventMap:           # an RFC 4733 event on its way through (sections 2.5.1.2 and .3)
    uint8_t active
    uint8_t event
    uint32_t timestamp          # of its segment, as it came
    uint32_t earlier            # ticks of the segments before this one
    uint16_t duration
    uint32_t sent_timestamp
    uint64_t until_ns           # no sound beside the keys


cdef struct Played:             # of one leg, over all its codings; read by Python
    uint64_t frames
    uint64_t concealed
    uint64_t restored           # of those, by FEC
    uint64_t broken             # packets


cdef struct Voice:              # allocated by Python, freed by the worker
    Coding coding
    OpusDecoder *decoder
    OpusEncoder *encoder
    Jitter jitter
    uint32_t ssrc
    uint8_t playing             # else it fills, or rests
    uint8_t is_noise            # the sender is silent, and says how its room sounds
    uint16_t noise              # amplitude
    uint32_t seed
    uint64_t due_ns             # of the next frame
    uint64_t filling_ns         # since when
    uint32_t play_timestamp     # of the packet that is played next, if none is missing
    int32_t borrowed            # samples concealed because nothing had come
    uint32_t missed             # frames in a row without a packet
    uint32_t excess             # frames in a row with too much in the buffer
    int32_t last_samples        # of the last packet
    int32_t ready               # samples in `sound`
    int16_t sound[SOUND]
    int16_t last[FRAME]         # for G.711's concealment
    uint32_t fade
    Sent sent
    EventMap keys
    Played *played


cdef inline void voice_free(Voice *v) noexcept nogil:
    if v == NULL:
        return
    if v.decoder != NULL:
        opus_decoder_destroy(v.decoder)
    if v.encoder != NULL:
        opus_encoder_destroy(v.encoder)
    free(v)


cdef inline bint voice_same(const Coding *one, const Coding *other) noexcept nogil:
    return (
        one.codec == other.codec and one.payload_type == other.payload_type
        and one.telephone_event == other.telephone_event
        and one.comfort_noise == other.comfort_noise and one.frames == other.frames
        and one.fec == other.fec
    )


cdef inline Voice *voice_new(const Coding *coding, uint32_t ssrc, uint16_t sequence) noexcept nogil:
    # NULL without memory, or without libopus.
    cdef Voice *v = <Voice *>calloc(1, sizeof(Voice))
    if v == NULL:
        return NULL
    v.coding = coding[0]
    v.seed = ssrc
    v.sent.ssrc = ssrc
    v.sent.sequence = sequence
    v.sent.timestamp = ssrc * 1664525 + 1013904223
    if coding.codec == VOICE_OPUS:
        v.decoder = voice_decoder()
        v.encoder = voice_encoder(coding.fec)
        if v.decoder == NULL or v.encoder == NULL:
            voice_free(v)
            return NULL
    return v


cdef inline void voice_rest(Voice *v) noexcept nogil:
    # Until enough has come again.
    v.playing = 0
    v.filling_ns = 0
    v.ready = v.borrowed = 0
    v.missed = v.excess = v.fade = 0
    jitter_clear(&v.jitter)


# --- in

cdef inline Taken voice_put(
    Voice *v, uint32_t ssrc, uint16_t sequence, uint32_t timestamp, const uint8_t *payload,
    uint16_t octets, bint is_noise, uint64_t now_ns
) noexcept nogil:
    # A packet of sound, of at most JITTER_OCTETS; another stream begins anew.
    cdef Taken taken
    if v.ssrc != ssrc:
        voice_rest(v)
        v.ssrc = ssrc
    taken = jitter_put(
        &v.jitter, sequence, timestamp, payload, octets, is_noise, v.coding.clock_hz, now_ns
    )
    if taken == TAKEN_FIRST:
        v.playing = 0
        v.filling_ns = 0
    if v.due_ns == 0:
        v.due_ns = now_ns
    return taken


cdef inline uint32_t voice_ratio(const Voice *v) noexcept nogil:
    return v.coding.clock_hz // 8000


cdef inline int32_t voice_noise(Voice *v) noexcept nogil:
    # A frame of it behind `ready`.
    cdef int i
    for i in range(FRAME):
        v.seed = v.seed * 1664525 + 1013904223
        v.sound[v.ready + i] = <int16_t>(
            (<int32_t>(v.seed >> 16) - 32768) * <int32_t>v.noise // 32768
        )
    return FRAME


cdef inline int32_t voice_faded(Voice *v, int32_t samples) noexcept nogil:
    # The last sound again, ever softer: G.711 has no concealment of its own.
    cdef int i
    if samples < 1 or samples > FRAME:
        samples = FRAME
    v.fade += 1
    for i in range(FRAME):
        v.last[i] = v.last[i] // 2 if v.fade < 5 else 0
    memcpy(v.sound + v.ready, v.last + FRAME - samples, sizeof(int16_t) * <size_t>samples)
    return samples


cdef inline void voice_keep(Voice *v, const int16_t *sound, int32_t samples) noexcept nogil:
    # For the concealment of what comes next, however short a packet is.
    cdef int32_t new = samples if samples < FRAME else FRAME
    memmove(v.last, v.last + new, sizeof(int16_t) * <size_t>(FRAME - new))
    memcpy(v.last + FRAME - new, sound + samples - new, sizeof(int16_t) * <size_t>new)
    v.fade = 0


cdef inline int32_t voice_concealed(Voice *v, const Held *after, int32_t samples) noexcept nogil:
    # What is missing, by the packet `after` it where that has FEC.
    cdef int32_t made = -1
    v.played.concealed += 1
    if v.is_noise:
        return voice_noise(v)
    if v.coding.codec != VOICE_OPUS:
        return voice_faded(v, samples)
    if samples < FRAME or samples > LONGEST:
        samples = FRAME
    if after != NULL:
        made = opus_decode(
            v.decoder, after.payload, after.octets, v.sound + v.ready, samples, 1
        )
        if made > 0:
            v.played.restored += 1
    if made <= 0:
        made = opus_decode(v.decoder, NULL, 0, v.sound + v.ready, samples, 0)
    if made <= 0:
        memset(v.sound + v.ready, 0, sizeof(int16_t) * FRAME)
        made = FRAME
    return made


cdef inline int32_t voice_decoded(Voice *v, const Held *held) noexcept nogil:
    # A packet's samples behind `ready`; 0 when it makes no sense.
    cdef int i, law
    cdef int32_t samples
    v.is_noise = held.is_noise
    if held.is_noise:
        # RFC 3389 section 3: the level in -dBov; 6 dB are a factor of two.
        v.noise = <uint16_t>(32768 >> (held.payload[0] // 6 if held.payload[0] < 90 else 15))
        return voice_noise(v)
    if v.coding.codec == VOICE_OPUS:
        samples = opus_decode(
            v.decoder, held.payload, held.octets, v.sound + v.ready, LONGEST, 0
        )
        return samples if samples > 0 else 0
    law = v.coding.codec == VOICE_PCMA
    samples = held.octets if held.octets < LONGEST else LONGEST
    for i in range(samples):
        v.sound[v.ready + i] = g711_linear[law][held.payload[i]]
    voice_keep(v, v.sound + v.ready, samples)
    return samples


cdef inline uint32_t voice_level_ms(const Voice *v) noexcept nogil:
    cdef int32_t ahead
    if not v.playing:
        return 0
    ahead = <int32_t>(v.jitter.newest_timestamp - v.play_timestamp) // <int32_t>voice_ratio(v)
    if <int16_t>(v.jitter.newest - v.jitter.next) < 0 or ahead < 0:
        return <uint32_t>v.ready // 8
    if ahead > 8 * HOLDS_MS:
        ahead = 8 * HOLDS_MS  # the timestamps jumped
    return <uint32_t>(ahead + v.last_samples + v.ready) // 8


cdef inline bint voice_pull(Voice *v) noexcept nogil:
    # Some more sound; False when the stream rests.
    cdef Jitter *j = &v.jitter
    cdef Held *held = jitter_find(j, j.next)
    cdef int32_t gap, made
    if held != NULL:
        gap = <int32_t>(held.timestamp - v.play_timestamp) // <int32_t>voice_ratio(v)
        if (
            gap > v.borrowed and gap <= 8000 and not v.is_noise
            and <int16_t>(j.newest - j.next) < WAITING
        ):
            # The sender was silent (DTX): as long as it says, less what was filled already.
            v.play_timestamp += <uint32_t>FRAME * voice_ratio(v)
            v.ready += voice_concealed(v, NULL, FRAME)
            return True
        v.borrowed = v.missed = 0
        made = voice_decoded(v, held)
        held.used = 0
        j.next = <uint16_t>(j.next + 1)
        v.play_timestamp = held.timestamp + <uint32_t>made * voice_ratio(v)
        if made == 0:
            v.played.broken += 1
            made = voice_concealed(v, NULL, v.last_samples)
        v.last_samples = made
        v.ready += made
        return True
    if <int16_t>(j.newest - j.next) >= 0 and voice_level_ms(v) >= jitter_target_ms(j):
        # Lost: something after it is there, and has waited for as long as any does.
        j.next = <uint16_t>(j.next + 1)
        made = voice_concealed(v, jitter_find(j, j.next), v.last_samples)
        v.play_timestamp += <uint32_t>made * voice_ratio(v)
        v.ready += made
        return True
    v.missed += 1
    if v.missed > PATIENCE and not v.is_noise:
        voice_rest(v)
        return False
    v.borrowed += FRAME
    v.ready += voice_concealed(v, NULL, FRAME)
    return True


cdef inline bint voice_is_quiet(const int16_t *sound) noexcept nogil:
    cdef int i
    cdef int32_t total = 0
    for i in range(FRAME):
        total += -sound[i] if sound[i] < 0 else sound[i]
    return total < QUIET * FRAME


cdef inline bint voice_has_excess(Voice *v) noexcept nogil:
    # Whether this frame is better left out: what waits is more than arrivals ask for.
    if voice_level_ms(v) <= jitter_target_ms(&v.jitter) + EXCESS_MS:
        v.excess = 0
        return False
    v.excess += 1
    if v.excess < QUIET_FRAMES or (v.excess < EXCESS_FRAMES and not voice_is_quiet(v.sound)):
        return False
    v.excess = 0
    return True


cdef inline bint voice_begin(Voice *v, uint64_t now_ns) noexcept nogil:
    # Whether enough has come to begin.
    cdef Held *held
    if not v.jitter.started:
        return False
    if v.filling_ns == 0:
        v.filling_ns = now_ns
    if now_ns - v.filling_ns < <uint64_t>jitter_target_ms(&v.jitter) * 1000000:
        return False
    held = jitter_find(&v.jitter, v.jitter.next)
    if held != NULL:
        v.play_timestamp = held.timestamp
    v.playing = 1
    v.is_noise = 0
    v.last_samples = FRAME
    return True


cdef inline bint voice_frame(Voice *v, int16_t *out, uint64_t now_ns) noexcept nogil:
    # The next 20 ms of what this leg says; False while there is nothing.
    if not v.playing and not voice_begin(v, now_ns):
        return False
    while v.ready < FRAME:
        if not voice_pull(v):
            return False
    if voice_has_excess(v):
        v.ready -= FRAME
        memmove(v.sound, v.sound + FRAME, sizeof(int16_t) * <size_t>v.ready)
        while v.ready < FRAME:
            if not voice_pull(v):
                return False
    memcpy(out, v.sound, sizeof(int16_t) * FRAME)
    v.ready -= FRAME
    memmove(v.sound, v.sound + FRAME, sizeof(int16_t) * <size_t>v.ready)
    v.played.frames += 1
    return True


# --- out

cdef inline int voice_encoded(Voice *v, uint8_t *payload, int most) noexcept nogil:
    # What `sent` holds, as this leg's peer reads it; its octets, or less than 1.
    cdef int i, law
    cdef int samples = v.sent.held * FRAME
    if v.coding.codec == VOICE_OPUS:
        return opus_encode(v.encoder, v.sent.sound, samples, payload, most)
    law = v.coding.codec == VOICE_PCMA
    for i in range(samples):
        payload[i] = g711_octet[law][(<int32_t>v.sent.sound[i] + 32768) >> 2]
    return samples


cdef inline void voice_clock(Voice *v, uint64_t now_ns) noexcept nogil:
    # After a rest the timestamp has gone on, and the first packet is marked.
    cdef int64_t rested = <int64_t>now_ns - <int64_t>v.sent.timestamp_ns
    if v.sent.timestamp_ns == 0 or rested > <int64_t>(2 * FRAME_MS) * 1000000:
        if v.sent.timestamp_ns:
            v.sent.timestamp += <uint32_t>(rested // 1000 * v.coding.clock_hz // 1000000)
        v.sent.timestamp_ns = now_ns
        v.sent.marker = 1
        v.sent.held = 0


cdef inline uint32_t voice_timestamp(const Voice *v, uint64_t now_ns) noexcept nogil:
    # Of this moment, in the stream that this leg is sent.
    cdef int64_t passed = <int64_t>now_ns - <int64_t>v.sent.timestamp_ns
    if passed < 0:
        passed = 0
    return v.sent.timestamp + <uint32_t>(passed // 1000 * v.coding.clock_hz // 1000000)
