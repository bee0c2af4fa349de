# The keys of one leg over its life: several told apart by MKI, replaced ones, none.
#
# A key that a description repeats keeps its streams. A new one is used at once to send; the
# replaced ones still open what is in flight, and what a peer sends that changes its key only
# after its own ACK. Then they are wiped. Keys that we sent with are kept, idle, while the leg
# lives: when forked answers take first one and then the other key of an offer, each must go on
# counting where it was, because one that begins anew would use its keystream twice.

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp

from openssl cimport CRYPTO_memcmp
from packet cimport (
    DROP_NONE, DROP_SRTP_AUTHENTICATION, DROP_SRTP_MKI, DROP_SRTP_REPLAYED, DROP_SRTP_STREAMS,
    DROP_SRTP_TOO_SHORT, Drop, RtpView,
)
from replay cimport Replay
from srtp cimport srtcp_open, srtp_open
from srtp_keys cimport SrtpKey, SrtpStream, srtp_key_free, srtp_keys_free, srtp_stream

cdef enum:
    REPLACED_NS = 32000000000   # 64*T1: the longest that a SIP transaction hangs
    IN_FLIGHT_NS = 2000000000   # after the first packet under the new key
    REPLACED_KEPT = 6           # for each way: more than an offer of ours has keys


cdef struct LegSrtp:            # lists, owned; all empty for plain RTP
    SrtpKey *receive
    SrtpKey *send
    SrtpKey *replaced           # the newest first
    uint8_t changing            # the peer has not used its newest key yet


cdef inline SrtpKey *srtp_take(SrtpKey **head, const SrtpKey *like) noexcept nogil:
    # Takes the same master key, for the same way, out of a list; or NULL.
    cdef SrtpKey *key
    while head[0] != NULL:
        key = head[0]
        if (
            key.sends == like.sends and key.mki_octets == like.mki_octets
            and memcmp(&key.suite, &like.suite, sizeof(key.suite)) == 0
            and memcmp(key.mki, like.mki, key.mki_octets) == 0
            and CRYPTO_memcmp(key.identity, like.identity, sizeof(key.identity)) == 0
        ):
            head[0] = key.next
            key.next = NULL
            return key
        head = &key.next
    return NULL


cdef inline SrtpKey *srtp_known(LegSrtp *leg, SrtpKey *keys) noexcept nogil:
    # The list with each key that this leg had before in place of its repetition.
    cdef SrtpKey *first = NULL
    cdef SrtpKey **last = &first
    cdef SrtpKey *key
    cdef SrtpKey *had
    while keys != NULL:
        key = keys
        keys = key.next
        key.next = NULL
        had = srtp_take(&leg.send if key.sends else &leg.receive, key)
        if had == NULL:
            had = srtp_take(&leg.replaced, key)
        if had != NULL:
            srtp_key_free(key)
            key = had
        last[0] = key
        last = &key.next
    return first


cdef inline void srtp_replace(LegSrtp *leg, SrtpKey *keys, uint64_t now_ns) noexcept nogil:
    cdef SrtpKey *key
    while keys != NULL:
        key = keys
        keys = key.next
        key.wipe_ns = now_ns + <uint64_t>REPLACED_NS
        key.next = leg.replaced
        leg.replaced = key


cdef inline void srtp_wipe(LegSrtp *leg, uint64_t now_ns) noexcept nogil:
    # Replaced keys whose time is over, and all but the newest of each way.
    cdef SrtpKey **head = &leg.replaced
    cdef SrtpKey *key
    cdef int kept[2]
    kept[0] = kept[1] = 0
    while head[0] != NULL:
        key = head[0]
        if kept[key.sends] == REPLACED_KEPT or (not key.sends and now_ns >= key.wipe_ns):
            head[0] = key.next
            srtp_key_free(key)
        else:
            kept[key.sends] += 1
            head = &key.next


cdef inline void srtp_exchange(
    LegSrtp *leg, SrtpKey *receive, SrtpKey *send, uint64_t now_ns
) noexcept nogil:
    # What a description says from now on; takes the keys over. NULL for both is plain RTP.
    cdef SrtpKey *was
    receive = srtp_known(leg, receive)
    send = srtp_known(leg, send)
    was = leg.receive
    leg.receive = receive
    srtp_replace(leg, was, now_ns)
    was = leg.send
    leg.send = send
    srtp_replace(leg, was, now_ns)
    srtp_wipe(leg, now_ns)
    leg.changing = leg.replaced != NULL


cdef inline void srtp_distrust(LegSrtp *leg, uint64_t now_ns) noexcept nogil:
    # What the peer had sent with its keys is nobody's any more, in flight or not.
    cdef SrtpKey *key = leg.replaced
    while key != NULL:
        if not key.sends:
            key.wipe_ns = now_ns
        key = key.next
    srtp_wipe(leg, now_ns)


cdef inline void srtp_clear(LegSrtp *leg) noexcept nogil:
    srtp_keys_free(leg.receive)
    srtp_keys_free(leg.send)
    srtp_keys_free(leg.replaced)
    leg.receive = leg.send = leg.replaced = NULL


cdef inline bint srtp_names(
    const SrtpKey *key, const uint8_t *p, size_t n, uint32_t tag_octets
) noexcept nogil:
    # Does the packet name this key? Without MKI every packet may be of it.
    cdef size_t after = 0 if key.suite.aead else tag_octets
    return key.mki_octets == 0 or (
        n >= after + key.mki_octets
        and memcmp(p + n - after - key.mki_octets, key.mki, key.mki_octets) == 0
    )


cdef inline const Replay *srtp_earlier(const LegSrtp *leg, uint32_t ssrc) noexcept nogil:
    # This stream under the key before, for a sender that keeps its ROC.
    cdef SrtpKey *key = leg.replaced
    cdef SrtpStream *stream
    while key != NULL:
        if not key.sends:
            stream = srtp_stream(key, ssrc)
            if stream != NULL and stream.rtp.started:
                return &stream.rtp
        key = key.next
    return NULL


cdef inline void srtp_taken_up(LegSrtp *leg, uint64_t now_ns) noexcept nogil:
    # The peer uses its new key: the ones before open only what is in flight.
    cdef SrtpKey *key = leg.replaced
    leg.changing = False
    while key != NULL:
        if not key.sends and key.wipe_ns > now_ns + <uint64_t>IN_FLIGHT_NS:
            key.wipe_ns = now_ns + <uint64_t>IN_FLIGHT_NS
        key = key.next


cdef inline Drop srtp_receive_with(
    LegSrtp *leg, SrtpKey *keys, const uint8_t *p, size_t n, const RtpView *rtp,
    uint64_t now_ns, uint8_t *out, size_t *octets
) noexcept nogil:
    # With one key after the other of a list; `rtp` is NULL for SRTCP. DROP_SRTP_MKI: none of
    # them is meant.
    cdef SrtpKey *key = keys
    cdef Drop drop = DROP_SRTP_MKI
    cdef uint32_t tag_octets
    while key != NULL:
        tag_octets = key.suite.rtcp_tag_octets if rtp == NULL else key.suite.tag_octets
        if not key.sends and srtp_names(key, p, n, tag_octets):
            if rtp == NULL:
                drop = srtcp_open(key, p, n, now_ns, out, octets)
            else:
                drop = srtp_open(
                    key, p, n, rtp.payload_at, rtp.ssrc, rtp.sequence,
                    srtp_earlier(leg, rtp.ssrc), now_ns, out, octets,
                )
            if drop != DROP_SRTP_AUTHENTICATION and drop != DROP_SRTP_TOO_SHORT:
                return drop
        key = key.next
    return drop


cdef inline Drop srtp_receive(
    LegSrtp *leg, const uint8_t *p, size_t n, const RtpView *rtp, uint64_t now_ns, uint8_t *out,
    size_t *octets
) noexcept nogil:
    cdef Drop drop = srtp_receive_with(leg, leg.receive, p, n, rtp, now_ns, out, octets)
    cdef Drop before
    if drop == DROP_NONE:
        if leg.changing:
            srtp_taken_up(leg, now_ns)
        return drop
    if leg.replaced == NULL:
        return drop
    before = srtp_receive_with(leg, leg.replaced, p, n, rtp, now_ns, out, octets)
    if before == DROP_NONE or before == DROP_SRTP_REPLAYED or before == DROP_SRTP_STREAMS:
        return before  # it is authentic
    return drop
