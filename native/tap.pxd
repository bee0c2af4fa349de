# The tap: copies of RTP packets on their way from one engine worker to the recorder.
#
# One ring a worker: single producer (the worker, no GIL), single consumer (the reader in
# timeline.pxi). Bounded and lock-free: a full ring refuses the packet and counts it, so
# recording can never delay the relay.
#
# Layout: a byte ring of records, each a 16-octet TapRecord followed by the packet, padded
# to 16. A record never wraps: when it does not fit before the end, a skip record fills
# the rest. `head` and `tail` run freely and are taken modulo the capacity; each lives on a
# cache line of its own with what only its owner needs.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

cdef extern from *:
    """
    #ifndef RELAY_TAP_RING
    #define RELAY_TAP_RING
    #include <stdint.h>
    #include <stddef.h>

    #define TAP_SLOTS 16384u        /* per-tap drop counters, by tap modulo this */
    #define TAP_PACKET_LIMIT 2048u  /* octets of the largest packet that is copied */
    #define TAP_KIND_PACKET 0
    #define TAP_KIND_SKIP 1

    typedef struct {
        uint64_t now_ns;  /* arrival, CLOCK_MONOTONIC */
        uint32_t tap;
        uint16_t length;  /* octets of the packet that follows */
        uint8_t side;     /* 0 caller, 1 callee */
        uint8_t kind;
    } TapRecord;

    typedef struct {
        /* producer's line */
        uint64_t head __attribute__((aligned(64)));
        uint64_t tail_seen;
        uint64_t dropped;
        /* consumer's line */
        uint64_t tail __attribute__((aligned(64)));
        /* constant after creation */
        uint64_t mask __attribute__((aligned(64)));
        uint8_t *data;
        void *block;  /* what to free */
        uint32_t drops[TAP_SLOTS];
    } TapRingC;

    static inline uint64_t tap_load(const uint64_t *p) {
        return __atomic_load_n(p, __ATOMIC_ACQUIRE);
    }
    static inline void tap_store(uint64_t *p, uint64_t v) {
        __atomic_store_n(p, v, __ATOMIC_RELEASE);
    }
    /* One writer: a plain add, published so that the other thread never sees a torn value. */
    static inline void tap_count(uint64_t *p) {
        __atomic_store_n(p, *p + 1, __ATOMIC_RELAXED);
    }
    static inline void tap_count32(uint32_t *p) {
        __atomic_store_n(p, *p + 1, __ATOMIC_RELAXED);
    }
    static inline uint32_t tap_load32(const uint32_t *p) {
        return __atomic_load_n(p, __ATOMIC_RELAXED);
    }
    #endif
    """
    enum:
        TAP_SLOTS
        TAP_PACKET_LIMIT
        TAP_KIND_PACKET
        TAP_KIND_SKIP
    ctypedef struct TapRecord:
        uint64_t now_ns
        uint32_t tap
        uint16_t length
        uint8_t side
        uint8_t kind
    ctypedef struct TapRingC:
        uint64_t head
        uint64_t tail_seen
        uint64_t dropped
        uint64_t tail
        uint64_t mask
        uint8_t *data
        void *block
        uint32_t *drops
    uint64_t tap_load(const uint64_t *p) noexcept nogil
    void tap_store(uint64_t *p, uint64_t v) noexcept nogil
    void tap_count(uint64_t *p) noexcept nogil
    void tap_count32(uint32_t *p) noexcept nogil
    uint32_t tap_load32(const uint32_t *p) noexcept nogil


cdef inline TapRingC *tap_create(size_t capacity) noexcept nogil:
    # `capacity` in octets, rounded up to a power of two, at least 8 KiB. NULL: no memory.
    # Pages are touched only as they are first used.
    cdef size_t size = 8192
    while size < capacity:
        size <<= 1
    cdef void *block = calloc(1, sizeof(TapRingC) + 64)
    if block == NULL:
        return NULL
    cdef TapRingC *ring = <TapRingC *> ((<size_t> block + 63) & ~<size_t> 63)
    ring.block = block
    ring.mask = size - 1
    ring.data = <uint8_t *> calloc(1, size)
    if ring.data == NULL:
        free(block)
        return NULL
    return ring


cdef inline void tap_destroy(TapRingC *ring) noexcept nogil:
    # Only once neither the worker nor the reader uses it.
    if ring != NULL:
        free(ring.data)
        free(ring.block)


cdef inline bint tap_push(TapRingC *ring, uint32_t tap, uint8_t side, uint64_t now_ns,
                          const uint8_t *packet, size_t length) noexcept nogil:
    # Producer only. Copies one whole plain RTP packet of at most TAP_PACKET_LIMIT octets;
    # 0 = refused (full or too large) and counted for the ring and for the tap. Taps are
    # numbered consecutively by the engine, so up to TAP_SLOTS live ones have own counters.
    cdef uint64_t need = (sizeof(TapRecord) + length + 15) & ~<uint64_t> 15
    cdef uint64_t head = ring.head
    cdef uint64_t at = head & ring.mask
    cdef uint64_t rest = ring.mask + 1 - at
    cdef uint64_t total = need if need <= rest else need + rest
    cdef TapRecord *record
    cdef bint refused = length > TAP_PACKET_LIMIT or length == 0
    if head + total - ring.tail_seen > ring.mask + 1:
        ring.tail_seen = tap_load(&ring.tail)
        if head + total - ring.tail_seen > ring.mask + 1:
            refused = True
    if refused:
        tap_count(&ring.dropped)
        tap_count32(&ring.drops[tap & (TAP_SLOTS - 1)])
        return 0
    if need > rest:
        record = <TapRecord *> (ring.data + at)
        record.kind = TAP_KIND_SKIP
        head += rest
        at = 0
    record = <TapRecord *> (ring.data + at)
    record.now_ns = now_ns
    record.tap = tap
    record.length = <uint16_t> length
    record.side = side
    record.kind = TAP_KIND_PACKET
    memcpy(ring.data + at + sizeof(TapRecord), packet, length)
    tap_store(&ring.head, head + need)
    return 1


cdef inline const TapRecord *tap_front(TapRingC *ring, uint64_t *tail,
                                       uint64_t head) noexcept nogil:
    # Consumer only: the record at `*tail`, skip records passed over; NULL at `head`.
    # The packet follows the record and stays valid until tap_release past it.
    cdef const TapRecord *record
    cdef uint64_t at
    while tail[0] != head:
        at = tail[0] & ring.mask
        record = <const TapRecord *> (ring.data + at)
        if record.kind != TAP_KIND_SKIP:
            return record
        tail[0] += ring.mask + 1 - at
    return NULL


cdef inline uint64_t tap_after(uint64_t tail, const TapRecord *record) noexcept nogil:
    # Where the record after this one begins.
    return tail + ((sizeof(TapRecord) + record.length + 15) & ~<uint64_t> 15)


cdef inline void tap_release(TapRingC *ring, uint64_t tail) noexcept nogil:
    # Consumer only: everything before `tail` may be overwritten.
    tap_store(&ring.tail, tail)
