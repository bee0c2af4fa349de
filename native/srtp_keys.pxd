# One SRTP master key in one direction: session keys, cipher contexts, and the streams under it.
#
# Python makes a key, a worker uses, retires and wipes it. Nothing is allocated per packet.
# RFC 3711 (AES-CM, HMAC-SHA1), RFC 6188 (AES-256), RFC 7714 (AES-GCM); relay/rtp/srtp.py is the
# slow reference.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from openssl cimport (
    EVP_CIPHER, EVP_CIPHER_CTX, EVP_CIPHER_CTX_free, EVP_CIPHER_CTX_new, EVP_CipherInit_ex,
    EVP_CipherUpdate, EVP_aes_128_ctr, EVP_aes_128_gcm, EVP_aes_256_ctr, EVP_aes_256_gcm,
    OPENSSL_cleanse, SHA1_Init, SHA1_Update, SHA_CTX,
)
from replay cimport Replay

cdef enum:
    SRTP_STREAMS = 16           # SSRCs with state under one key
    SRTP_RETIRED = 112          # SSRCs that had state and are refused for good
    SRTP_QUIET_NS = 1000000000  # only a stream that was quiet for so long is retired
    SRTP_MKI_OCTETS = 128       # RFC 4568 section 6.1
    SRTP_TAIL_OCTETS = 148      # what may follow a packet: SRTCP index, tag and MKI
    AUTH_OCTETS = 20
    LABEL_IDENTITY = 0x40       # not one of RFC 3711's: tells keys apart, opens nothing


cdef struct Suite:              # as relay/sdp/description.py names them; sizes in octets
    uint8_t aead                # AES-GCM
    uint8_t key_octets
    uint8_t salt_octets
    uint8_t tag_octets          # of SRTP
    uint8_t rtcp_tag_octets     # 10 even where the SRTP tag has 4 (RFC 4568 section 6.2.2)


cdef struct SessionKeys:        # RFC 3711 section 4.3.1: of SRTP, then of SRTCP
    uint8_t key[2][32]
    uint8_t auth[2][AUTH_OCTETS]
    uint8_t salt[2][14]
    uint8_t identity[16]


cdef struct Transform:          # one cache line
    EVP_CIPHER_CTX *cipher
    uint32_t inner[5]           # HMAC-SHA1 after the padded key
    uint32_t outer[5]
    uint8_t salt[14]


cdef struct SrtpStream:         # one SSRC
    uint32_t ssrc
    uint16_t shift              # sending: added to the numbers of a sender that started anew
    uint16_t successor          # sending: the number after one that could not be sent
    uint8_t used
    uint8_t suspect             # `successor` is valid
    uint64_t last_ns
    Replay rtp
    Replay rtcp


cdef struct SrtpKey:            # what RTP needs is first, for the cache
    SrtpKey *next
    Suite suite
    uint8_t sends
    uint8_t mki_octets
    Transform rtp
    SrtpStream streams[SRTP_STREAMS]
    Transform rtcp
    uint32_t rtcp_index         # sending: one counter for all streams
    uint64_t wipe_ns            # once it was replaced
    uint8_t identity[16]
    uint8_t mki[SRTP_MKI_OCTETS]
    uint32_t retired_count
    uint32_t retired[SRTP_RETIRED]


cdef inline bint srtp_expand(
    EVP_CIPHER_CTX *c, const uint8_t *salt, uint8_t label, uint8_t *out, int octets
) noexcept nogil:
    # RFC 3711 section 4.3.3 with a key derivation rate of 0: AES-CM keystream.
    cdef uint8_t iv[16]
    cdef int written
    memcpy(iv, salt, 14)
    iv[14] = iv[15] = 0
    iv[7] ^= label
    memset(out, 0, octets)
    return (
        EVP_CipherInit_ex(c, NULL, NULL, NULL, iv, 1) == 1
        and EVP_CipherUpdate(c, out, &written, out, octets) == 1
    )


cdef inline bint srtp_derive(
    const Suite *suite, const uint8_t *master, const uint8_t *salt, SessionKeys *out
) noexcept nogil:
    # A salt of 12 octets is followed by zeros (RFC 7714 section 11). False: no memory.
    cdef EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new()
    cdef const EVP_CIPHER *prf = EVP_aes_256_ctr() if suite.key_octets == 32 else EVP_aes_128_ctr()
    cdef uint8_t padded[14]
    cdef uint8_t label
    cdef int i
    cdef bint done = c != NULL and EVP_CipherInit_ex(c, prf, NULL, master, NULL, 1) == 1
    memset(padded, 0, 14)
    memcpy(padded, salt, suite.salt_octets)
    memset(out, 0, sizeof(SessionKeys))
    for i in range(2):
        label = <uint8_t>(3 * i)
        done = done and srtp_expand(c, padded, label, out.key[i], suite.key_octets)
        done = done and srtp_expand(c, padded, label + 1, out.auth[i], AUTH_OCTETS)
        done = done and srtp_expand(c, padded, label + 2, out.salt[i], suite.salt_octets)
    done = done and srtp_expand(c, padded, LABEL_IDENTITY, out.identity, 16)
    EVP_CIPHER_CTX_free(c)
    OPENSSL_cleanse(padded, sizeof(padded))
    return done


cdef inline void sha1_resume(SHA_CTX *c, const uint32_t *state) noexcept nogil:
    # As if one block had been hashed.
    c.h0, c.h1, c.h2, c.h3, c.h4 = state[0], state[1], state[2], state[3], state[4]
    c.Nl, c.Nh, c.num = 512, 0, 0


cdef inline void hmac_state(uint32_t *state, const uint8_t *key, uint8_t pad) noexcept nogil:
    # RFC 2104: the hash of the first block, which depends on the key alone.
    cdef uint8_t block[64]
    cdef SHA_CTX c
    cdef int i
    memset(block, pad, 64)
    for i in range(AUTH_OCTETS):
        block[i] ^= key[i]
    SHA1_Init(&c)
    SHA1_Update(&c, block, 64)
    state[0], state[1], state[2], state[3], state[4] = c.h0, c.h1, c.h2, c.h3, c.h4
    OPENSSL_cleanse(block, 64)
    OPENSSL_cleanse(&c, sizeof(c))


cdef inline bint transform_set(
    Transform *t, const Suite *suite, const uint8_t *key, const uint8_t *auth,
    const uint8_t *salt, bint sends
) noexcept nogil:
    cdef const EVP_CIPHER *cipher
    if suite.aead:
        cipher = EVP_aes_256_gcm() if suite.key_octets == 32 else EVP_aes_128_gcm()
    else:
        cipher = EVP_aes_256_ctr() if suite.key_octets == 32 else EVP_aes_128_ctr()
        hmac_state(t.inner, auth, 0x36)
        hmac_state(t.outer, auth, 0x5C)
    memcpy(t.salt, salt, suite.salt_octets)
    t.cipher = EVP_CIPHER_CTX_new()
    return t.cipher != NULL and EVP_CipherInit_ex(
        t.cipher, cipher, NULL, key, NULL, sends or not suite.aead
    ) == 1


cdef inline void srtp_key_free(SrtpKey *key) noexcept nogil:
    # Wipes; libcrypto wipes what the contexts hold.
    if key != NULL:
        EVP_CIPHER_CTX_free(key.rtp.cipher)
        EVP_CIPHER_CTX_free(key.rtcp.cipher)
        OPENSSL_cleanse(key, sizeof(SrtpKey))
        free(key)


cdef inline void srtp_keys_free(SrtpKey *key) noexcept nogil:
    # A list of keys.
    cdef SrtpKey *following
    while key != NULL:
        following = key.next
        srtp_key_free(key)
        key = following


cdef inline SrtpKey *srtp_key_new(
    const Suite *suite, const SessionKeys *session, const uint8_t *mki, uint8_t mki_octets,
    bint sends
) noexcept nogil:
    # NULL: no memory.
    cdef SrtpKey *key = <SrtpKey *>calloc(1, sizeof(SrtpKey))
    if key == NULL:
        return NULL
    key.suite = suite[0]
    key.sends = sends
    key.mki_octets = mki_octets
    memcpy(key.mki, mki, mki_octets)
    memcpy(key.identity, session.identity, 16)
    if (
        transform_set(&key.rtp, suite, session.key[0], session.auth[0], session.salt[0], sends)
        and transform_set(
            &key.rtcp, suite, session.key[1], session.auth[1], session.salt[1], sends
        )
    ):
        return key
    srtp_key_free(key)
    return NULL


# -- streams -------------------------------------------------------------------------

cdef inline SrtpStream *srtp_stream(SrtpKey *key, uint32_t ssrc) noexcept nogil:
    cdef int i
    for i in range(SRTP_STREAMS):
        if key.streams[i].ssrc == ssrc and key.streams[i].used:
            return &key.streams[i]
    return NULL


cdef inline bint srtp_retired(const SrtpKey *key, uint32_t ssrc) noexcept nogil:
    cdef uint32_t i
    for i in range(key.retired_count):
        if key.retired[i] == ssrc:
            return True
    return False


cdef inline SrtpStream *srtp_stream_new(
    SrtpKey *key, uint32_t ssrc, uint64_t now_ns
) noexcept nogil:
    # Only for an authenticated packet, or one that we send. The longest quiet stream makes
    # room and may not come back: its packets could be replayed, its indices used twice.
    # NULL: no room, a retired SSRC, or no stream that has been quiet.
    cdef SrtpStream *oldest = &key.streams[0]
    cdef int i
    if srtp_retired(key, ssrc):
        return NULL
    for i in range(SRTP_STREAMS):
        if not key.streams[i].used:
            oldest = &key.streams[i]
            break
        if key.streams[i].last_ns < oldest.last_ns:
            oldest = &key.streams[i]
    if oldest.used:
        if key.retired_count == SRTP_RETIRED or now_ns - oldest.last_ns < SRTP_QUIET_NS:
            return NULL
        key.retired[key.retired_count] = oldest.ssrc
        key.retired_count += 1
    memset(oldest, 0, sizeof(SrtpStream))
    oldest.used = 1
    oldest.ssrc = ssrc
    oldest.last_ns = now_ns
    return oldest
