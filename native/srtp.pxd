# SRTP and SRTCP packets opened and closed under one master key, from one buffer into another.
#
# Opening: lengths -> authentication (constant time) -> replay list -> only then the state of
# the stream. Headers, CSRCs and extensions stay in the clear (RFC 3711 section 3.1).

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from openssl cimport (
    CRYPTO_memcmp, EVP_CIPHER_CTX_ctrl, EVP_CTRL_AEAD_GET_TAG, EVP_CTRL_AEAD_SET_TAG,
    EVP_CipherFinal_ex, EVP_CipherInit_ex, EVP_CipherUpdate, SHA1_Final, SHA1_Update, SHA_CTX,
)
from packet cimport (
    DROP_NONE, DROP_SRTP_AUTHENTICATION, DROP_SRTP_EXHAUSTED, DROP_SRTP_REPEATED,
    DROP_SRTP_REPLAYED, DROP_SRTP_STREAMS, DROP_SRTP_TOO_SHORT, Drop, read16, read32, write16,
    write32,
)
from replay cimport Replay, replay_estimate, replay_fresh, replay_mark, replay_too_old
from srtp_keys cimport (
    SrtpKey, SrtpStream, Suite, Transform, sha1_resume, srtp_retired, srtp_stream,
    srtp_stream_new,
)

cdef enum:
    SRTCP_HEADER = 8
    GCM_TAG = 16
    # A sender needs this long for half a roll-over at 100 packets/s. A stream that was quiet for
    # longer may be further than the estimate says: later roll-overs are tried as well.
    ROLL_NS = 327680000000
    ROLLS_TRIED = 8
    HIGHEST_SRTCP_INDEX = 0x7FFFFFFF

cdef inline void srtp_tag(
    const Transform *t, const uint8_t *p, size_t n, uint32_t roc, bint with_roc, uint8_t *digest
) noexcept nogil:
    # HMAC-SHA1 of the packet, and of the ROC for SRTP (RFC 3711 section 4.2).
    cdef SHA_CTX c
    cdef uint8_t octets[4]
    sha1_resume(&c, t.inner)
    SHA1_Update(&c, p, n)
    if with_roc:
        write32(octets, roc)
        SHA1_Update(&c, octets, 4)
    SHA1_Final(digest, &c)
    sha1_resume(&c, t.outer)
    SHA1_Update(&c, digest, 20)
    SHA1_Final(digest, &c)


cdef inline void srtp_iv(
    const Transform *t, bint aead, uint32_t ssrc, uint64_t index, uint8_t *iv
) noexcept nogil:
    # RFC 3711 section 4.1.1; RFC 7714 sections 8.1 and 9.1 (the same two octets earlier). The
    # index has 48 bits: the ROC and the number, or the SRTCP index.
    cdef int at = 2 if aead else 4
    cdef int i
    memset(iv, 0, 16)
    memcpy(iv, t.salt, 12 if aead else 14)
    for i in range(4):
        iv[at + i] ^= <uint8_t>(ssrc >> (24 - 8 * i))
    for i in range(6):
        iv[at + 4 + i] ^= <uint8_t>(index >> (40 - 8 * i))


cdef inline bint srtp_crypt(
    Transform *t, const uint8_t *iv, const uint8_t *data, size_t octets, uint8_t *out
) noexcept nogil:
    cdef int written
    return (
        EVP_CipherInit_ex(t.cipher, NULL, NULL, NULL, iv, -1) == 1
        and (octets == 0 or EVP_CipherUpdate(t.cipher, out, &written, data, <int>octets) == 1)
    )


cdef inline bint gcm_start(
    Transform *t, const uint8_t *iv, const uint8_t *head, size_t head_octets,
    const uint8_t *word
) noexcept nogil:
    # The associated data: what stays in the clear, and the SRTCP index if there is one.
    cdef int written
    return (
        EVP_CipherInit_ex(t.cipher, NULL, NULL, NULL, iv, -1) == 1
        and EVP_CipherUpdate(t.cipher, NULL, &written, head, <int>head_octets) == 1
        and (word == NULL or EVP_CipherUpdate(t.cipher, NULL, &written, word, 4) == 1)
    )


cdef inline bint gcm_open(
    Transform *t, const uint8_t *data, size_t octets, const uint8_t *tag, uint8_t *out
) noexcept nogil:
    cdef int written
    return (
        EVP_CIPHER_CTX_ctrl(t.cipher, EVP_CTRL_AEAD_SET_TAG, GCM_TAG, <void *>tag) == 1
        and (octets == 0 or EVP_CipherUpdate(t.cipher, out, &written, data, <int>octets) == 1)
        and EVP_CipherFinal_ex(t.cipher, out + octets, &written) == 1
    )


cdef inline bint gcm_close(
    Transform *t, const uint8_t *data, size_t octets, uint8_t *out
) noexcept nogil:
    # The tag follows the ciphertext.
    cdef int written
    return (
        (octets == 0 or EVP_CipherUpdate(t.cipher, out, &written, data, <int>octets) == 1)
        and EVP_CipherFinal_ex(t.cipher, out + octets, &written) == 1
        and EVP_CIPHER_CTX_ctrl(t.cipher, EVP_CTRL_AEAD_GET_TAG, GCM_TAG, out + octets) == 1
    )


# -- opening -------------------------------------------------------------------------

cdef inline bint srtp_authentic(
    SrtpKey *key, const uint8_t *p, size_t n, size_t payload_at, uint32_t ssrc, uint64_t index,
    uint8_t *out
) noexcept nogil:
    # Is it this packet under this index? `out` then has it opened, without tag and MKI.
    cdef uint8_t iv[16]
    cdef uint8_t digest[20]
    cdef size_t tag_octets = key.suite.tag_octets
    cdef size_t end = n - tag_octets - key.mki_octets
    srtp_iv(&key.rtp, key.suite.aead, ssrc, index, iv)
    if key.suite.aead:  # the MKI is last
        if not gcm_start(&key.rtp, iv, p, payload_at, NULL) or not gcm_open(
            &key.rtp, p + payload_at, end - payload_at, p + end, out + payload_at
        ):
            return False
    else:               # the tag is last
        srtp_tag(&key.rtp, p, end, <uint32_t>(index >> 16), True, digest)
        if CRYPTO_memcmp(digest, p + n - tag_octets, tag_octets) != 0:
            return False
        if not srtp_crypt(&key.rtp, iv, p + payload_at, end - payload_at, out + payload_at):
            return False
    memcpy(out, p, payload_at)
    return True


cdef inline int srtp_rolls(const SrtpStream *stream, uint64_t now_ns) noexcept nogil:
    # How many values of the ROC are tried, from the estimated one upwards. A stream that
    # we never heard may have rolled over since its first packet.
    cdef uint64_t more
    if stream == NULL or not stream.rtp.started:
        return 2
    if now_ns < stream.last_ns:
        return 1
    more = (now_ns - stream.last_ns) // <uint64_t>ROLL_NS
    return ROLLS_TRIED if more >= ROLLS_TRIED else 1 + <int>more


cdef inline Drop srtp_open(
    SrtpKey *key, const uint8_t *p, size_t n, size_t payload_at, uint32_t ssrc,
    uint16_t sequence, const Replay *earlier, uint64_t now_ns, uint8_t *out, size_t *octets
) noexcept nogil:
    # `earlier` is the stream under a replaced key or NULL: some senders keep the ROC when they
    # change their key (RFC 3711 section 3.3.1), others begin at 0.
    cdef SrtpStream *stream = srtp_stream(key, ssrc)
    cdef size_t tail = <size_t>key.suite.tag_octets + key.mki_octets
    cdef uint64_t index = sequence
    cdef bint authentic = False
    cdef int i
    if payload_at + tail > n:
        return DROP_SRTP_TOO_SHORT
    if stream != NULL:
        index = replay_estimate(&stream.rtp, sequence)
    for i in range(srtp_rolls(stream, now_ns)):
        if srtp_authentic(key, p, n, payload_at, ssrc, index, out):
            authentic = True
            break
        index += 65536
    if not authentic and earlier != NULL and (stream == NULL or not stream.rtp.started):
        index = replay_estimate(earlier, sequence)
        authentic = srtp_authentic(key, p, n, payload_at, ssrc, index, out)
    if not authentic:
        return DROP_SRTP_AUTHENTICATION
    if stream == NULL:
        if srtp_retired(key, ssrc):
            return DROP_SRTP_REPLAYED
        stream = srtp_stream_new(key, ssrc, now_ns)
        if stream == NULL:
            return DROP_SRTP_STREAMS
    if not replay_fresh(&stream.rtp, index):
        return DROP_SRTP_REPLAYED
    replay_mark(&stream.rtp, index)
    stream.last_ns = now_ns
    octets[0] = n - tail
    return DROP_NONE


cdef inline bint srtcp_authentic(
    SrtpKey *key, const uint8_t *p, size_t n, const uint8_t *word, size_t plain, uint8_t *out
) noexcept nogil:
    # `word` is the E flag and the index, `plain` the octets of the RTCP packet.
    cdef uint8_t iv[16]
    cdef uint8_t digest[20]
    cdef uint32_t index = read32(word) & HIGHEST_SRTCP_INDEX
    cdef bint encrypted = word[0] >> 7
    cdef size_t head = SRTCP_HEADER if encrypted else plain
    srtp_iv(&key.rtcp, key.suite.aead, read32(p + 4), index, iv)
    if key.suite.aead:
        if not gcm_start(&key.rtcp, iv, p, head, word) or not gcm_open(
            &key.rtcp, p + head, plain - head, p + plain, out + head
        ):
            return False
    else:
        srtp_tag(&key.rtcp, p, plain + 4, 0, False, digest)
        if CRYPTO_memcmp(
            digest, p + n - key.suite.rtcp_tag_octets, key.suite.rtcp_tag_octets
        ) != 0:
            return False
        if not srtp_crypt(&key.rtcp, iv, p + head, plain - head, out + head):
            return False
    memcpy(out, p, head)
    return True


cdef inline Drop srtcp_open(
    SrtpKey *key, const uint8_t *p, size_t n, uint64_t now_ns, uint8_t *out, size_t *octets
) noexcept nogil:
    # RFC 3711 section 3.4. A report that its sender did not encrypt (E = 0) is authentic too.
    cdef size_t tail = <size_t>key.suite.rtcp_tag_octets + 4 + key.mki_octets
    cdef size_t plain
    cdef const uint8_t *word
    cdef uint32_t ssrc, index
    cdef SrtpStream *stream
    if n < SRTCP_HEADER + tail:
        return DROP_SRTP_TOO_SHORT
    plain = n - tail
    word = p + plain + (key.suite.rtcp_tag_octets if key.suite.aead else 0)
    ssrc = read32(p + 4)
    index = read32(word) & HIGHEST_SRTCP_INDEX
    if not srtcp_authentic(key, p, n, word, plain, out):
        return DROP_SRTP_AUTHENTICATION
    stream = srtp_stream(key, ssrc)
    if stream == NULL:
        if srtp_retired(key, ssrc):
            return DROP_SRTP_REPLAYED
        stream = srtp_stream_new(key, ssrc, now_ns)
        if stream == NULL:
            return DROP_SRTP_STREAMS
    if not replay_fresh(&stream.rtcp, index):
        return DROP_SRTP_REPLAYED
    replay_mark(&stream.rtcp, index)
    if not stream.rtp.started:
        stream.last_ns = now_ns
    octets[0] = plain
    return DROP_NONE


# -- closing -------------------------------------------------------------------------

cdef inline Drop srtp_next_index(
    SrtpStream *stream, uint16_t sequence, uint64_t *index
) noexcept nogil:
    # The index of a packet that we send. The receiver estimates it as we do, so a sender that
    # went back (or more than half a roll-over ahead) under its old SSRC would be taken for a
    # replay until it caught up: after two such packets its numbers are continued instead.
    cdef uint16_t number = <uint16_t>(sequence + stream.shift)
    index[0] = replay_estimate(&stream.rtp, number)
    if replay_fresh(&stream.rtp, index[0]):
        stream.suspect = 0
    elif not replay_too_old(&stream.rtp, index[0]):
        return DROP_SRTP_REPEATED
    elif stream.suspect and stream.successor == sequence:
        index[0] = stream.rtp.highest + 1
        stream.shift = <uint16_t>(index[0] - sequence)
        stream.suspect = 0
    else:
        stream.suspect = 1
        stream.successor = <uint16_t>(sequence + 1)
        return DROP_SRTP_REPEATED
    return DROP_NONE if index[0] >> 48 == 0 else DROP_SRTP_EXHAUSTED


cdef inline Drop srtp_close(
    SrtpKey *key, const uint8_t *p, size_t n, size_t payload_at, uint32_t ssrc,
    uint16_t sequence, uint64_t now_ns, uint8_t *out, size_t *octets
) noexcept nogil:
    # `out` needs room for SRTP_TAIL_OCTETS more.
    cdef SrtpStream *stream = srtp_stream(key, ssrc)
    cdef uint64_t index
    cdef uint8_t iv[16]
    cdef uint8_t digest[20]
    cdef size_t end = n
    cdef Drop drop
    if stream == NULL:
        stream = srtp_stream_new(key, ssrc, now_ns)
        if stream == NULL:
            return DROP_SRTP_STREAMS
    drop = srtp_next_index(stream, sequence, &index)
    if drop != DROP_NONE:
        return drop
    replay_mark(&stream.rtp, index)
    stream.last_ns = now_ns
    memcpy(out, p, payload_at)
    write16(out + 2, <uint16_t>index)
    srtp_iv(&key.rtp, key.suite.aead, ssrc, index, iv)
    if key.suite.aead:
        if not gcm_start(&key.rtp, iv, out, payload_at, NULL) or not gcm_close(
            &key.rtp, p + payload_at, n - payload_at, out + payload_at
        ):
            return DROP_SRTP_EXHAUSTED
        end += GCM_TAG
        memcpy(out + end, key.mki, key.mki_octets)
    else:
        if not srtp_crypt(&key.rtp, iv, p + payload_at, n - payload_at, out + payload_at):
            return DROP_SRTP_EXHAUSTED
        srtp_tag(&key.rtp, out, n, <uint32_t>(index >> 16), True, digest)
        memcpy(out + end, key.mki, key.mki_octets)
        memcpy(out + end + key.mki_octets, digest, key.suite.tag_octets)
        end += key.suite.tag_octets
    octets[0] = end + key.mki_octets
    return DROP_NONE


cdef inline Drop srtcp_close(
    SrtpKey *key, const uint8_t *p, size_t n, uint8_t *out, size_t *octets
) noexcept nogil:
    # `p` is a whole RTCP packet; `out` needs room for SRTP_TAIL_OCTETS more.
    cdef uint8_t iv[16]
    cdef uint8_t digest[20]
    cdef uint8_t word[4]
    cdef size_t end = n
    if key.rtcp_index >= HIGHEST_SRTCP_INDEX:
        return DROP_SRTP_EXHAUSTED
    key.rtcp_index += 1
    write32(word, key.rtcp_index | 0x80000000U)
    memcpy(out, p, SRTCP_HEADER)
    srtp_iv(&key.rtcp, key.suite.aead, read32(p + 4), key.rtcp_index, iv)
    if key.suite.aead:
        if not gcm_start(&key.rtcp, iv, p, SRTCP_HEADER, word) or not gcm_close(
            &key.rtcp, p + SRTCP_HEADER, n - SRTCP_HEADER, out + SRTCP_HEADER
        ):
            return DROP_SRTP_EXHAUSTED
        memcpy(out + end + GCM_TAG, word, 4)
        memcpy(out + end + GCM_TAG + 4, key.mki, key.mki_octets)
    else:
        if not srtp_crypt(&key.rtcp, iv, p + SRTCP_HEADER, n - SRTCP_HEADER, out + SRTCP_HEADER):
            return DROP_SRTP_EXHAUSTED
        memcpy(out + end, word, 4)
        srtp_tag(&key.rtcp, out, n + 4, 0, False, digest)
        memcpy(out + end + 4, key.mki, key.mki_octets)
        memcpy(out + end + 4 + key.mki_octets, digest, key.suite.rtcp_tag_octets)
    octets[0] = end + 4 + key.mki_octets + key.suite.rtcp_tag_octets
    return DROP_NONE
