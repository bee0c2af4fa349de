# SRTP keys as Python gives them: made here, used and wiped by a worker.

cdef dict SRTP_SUITES = {
    "AES_CM_128_HMAC_SHA1_80": (0, 16, 14, 10, 10),
    "AES_CM_128_HMAC_SHA1_32": (0, 16, 14, 4, 10),
    "AES_256_CM_HMAC_SHA1_80": (0, 32, 14, 10, 10),
    "AEAD_AES_128_GCM": (1, 16, 12, 16, 16),
    "AEAD_AES_256_GCM": (1, 32, 12, 16, 16),
}


cdef Suite srtp_suite(str name) except *:
    cdef Suite suite
    if name not in SRTP_SUITES:
        raise ValueError(f"SRTP suite {name} is not supported")
    (
        suite.aead, suite.key_octets, suite.salt_octets, suite.tag_octets, suite.rtcp_tag_octets,
    ) = SRTP_SUITES[name]
    return suite


cdef SrtpKey *srtp_key(
    str name, bytes key, bytes salt, bytes mki, bint sends, tuple session=None
) except NULL:
    # `session` overrides what is derived: (key, authentication key, salt) of SRTP and SRTCP.
    cdef Suite suite = srtp_suite(name)
    cdef SessionKeys keys
    cdef SrtpKey *made = NULL
    cdef int i
    if len(key) != suite.key_octets or len(salt) != suite.salt_octets:
        raise ValueError(f"the SRTP key or salt has not the length that {name} needs")
    if len(mki) > SRTP_MKI_OCTETS:
        raise ValueError(f"the MKI is longer than {SRTP_MKI_OCTETS} octets")
    try:
        if srtp_derive(&suite, key, salt, &keys):
            for i in range(0 if session is None else 2):
                memcpy(keys.key[i], <const uint8_t *><bytes>session[0], suite.key_octets)
                memcpy(keys.auth[i], <const uint8_t *><bytes>session[1], AUTH_OCTETS)
                memcpy(keys.salt[i], <const uint8_t *><bytes>session[2], suite.salt_octets)
            made = srtp_key_new(&suite, &keys, mki, <uint8_t>len(mki), sends)
    finally:
        OPENSSL_cleanse(&keys, sizeof(keys))
    if made == NULL:
        raise MemoryError()
    return made


cdef SrtpKey *srtp_keys(keys, bint sends) except? NULL:
    # A list of keys in the same order; NULL for none. Raises ValueError.
    cdef SrtpKey *first = NULL
    cdef SrtpKey **last = &first
    if len({len(key[3]) for key in keys}) > 1:
        raise ValueError("the MKIs of a leg's keys differ in length")
    if len({key[3] for key in keys}) < len(keys):
        raise ValueError("several keys of a leg have the same MKI")
    try:
        for name, key, salt, mki in keys:
            last[0] = srtp_key(name, key, salt, mki, sends)
            last = &last[0].next
    except BaseException:
        srtp_keys_free(first)
        raise
    return first
