# cython: language_level=3, cdivision=True, boundscheck=False, wraparound=False
"""Loops for bench/srtp_ops.py: the engine's own source, and any library with libsrtp's calls.

Each takes `count` packets of one stream that lie in `data`, `stride` octets apart, and returns
the CPU nanoseconds of this thread. Built by the benchmark, not shipped.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from packet cimport DROP_NONE, Drop, RtpView, rtp_header
from srtp cimport srtp_close, srtp_open
from srtp_keys cimport (
    SRTP_TAIL_OCTETS, SessionKeys, SrtpKey, Suite, srtp_derive, srtp_key_free, srtp_key_new,
)

cdef extern from *:
    """
    #include <time.h>
    static inline uint64_t thread_ns(void) {
        struct timespec t;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
        return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
    }
    typedef int (*srtp_function)(void *session, void *packet, int *octets);
    """
    uint64_t thread_ns() noexcept nogil
    ctypedef int (*srtp_function)(void *session, void *packet, int *octets) noexcept nogil


def ours(tuple suite, bytes key, bytes salt, bint sends, bytearray data, size_t stride,
         size_t octets, int count):
    """Protect (`sends`) or unprotect; the result replaces each packet. (ns, octets of the last)."""
    cdef Suite shape
    cdef SessionKeys session
    cdef SrtpKey *keys
    cdef RtpView view
    cdef uint8_t out[2048 + SRTP_TAIL_OCTETS]
    cdef uint8_t *p = data
    cdef size_t size = 0
    cdef int i
    cdef uint64_t began, used
    cdef Drop drop = DROP_NONE
    (
        shape.aead, shape.key_octets, shape.salt_octets, shape.tag_octets, shape.rtcp_tag_octets,
    ) = suite
    if not srtp_derive(&shape, key, salt, &session):
        raise MemoryError()
    keys = srtp_key_new(&shape, &session, b"", 0, sends)
    with nogil:
        began = thread_ns()
        for i in range(count):
            rtp_header(p, octets, &view)
            if sends:
                drop = srtp_close(
                    keys, p, octets, view.payload_at, view.ssrc, view.sequence, 0, out, &size
                )
            else:
                drop = srtp_open(
                    keys, p, octets, view.payload_at, view.ssrc, view.sequence, NULL, 0, out,
                    &size,
                )
            if drop != DROP_NONE:
                break
            memcpy(p, out, size)
            p += stride
        used = thread_ns() - began
    srtp_key_free(keys)
    if drop != DROP_NONE:
        raise RuntimeError(f"packet {i} was dropped: {drop}")
    return used, size


def theirs(size_t function, size_t session, bytearray data, size_t stride, int octets, int count):
    """The same with a function of libsrtp, which works in place."""
    cdef uint8_t *p = data
    cdef srtp_function call = <srtp_function><void *>function
    cdef void *context = <void *>session
    cdef int i, size = 0, problem = 0
    cdef uint64_t began, used
    with nogil:
        began = thread_ns()
        for i in range(count):
            size = octets
            problem = call(context, p, &size)
            if problem:
                break
            p += stride
        used = thread_ns() - began
    if problem:
        raise RuntimeError(f"libsrtp: {problem} at packet {i}")
    return used, size
