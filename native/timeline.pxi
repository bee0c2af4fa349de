# What Python sees of the tap: rings (one a worker) and the reader that turns their packets
# into blocks of recorded audio. Wrapped by relay/media/tap.py.
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc

from g711 cimport g711_convert, g711_init, g711_linear, g711_octet
from tap cimport *
from timeline cimport *

g711_init()


cdef class TapRing:
    """One worker's ring; `capacity` octets, rounded up to a power of two."""

    cdef TapRingC *ring

    def __cinit__(self, size_t capacity=32 << 20):
        self.ring = tap_create(capacity)
        if self.ring == NULL:
            raise MemoryError

    def __dealloc__(self):
        tap_destroy(self.ring)

    def push(self, uint32_t tap, uint8_t side, uint64_t now_ns, const uint8_t[::1] packet):
        """As a worker does, for tests: False when refused. One thread at a time."""
        return bool(tap_push(self.ring, tap, side, now_ns,
                             &packet[0] if packet.shape[0] else NULL, packet.shape[0]))

    @property
    def capacity(self):
        return self.ring.mask + 1

    @property
    def dropped(self):
        """Packets refused since the start."""
        return tap_load(&self.ring.dropped)

    @property
    def used(self):
        """Octets waiting for the reader."""
        return tap_load(&self.ring.head) - tap_load(&self.ring.tail)


cdef class Totals:
    """The counts of a recording that ended; pairs are (caller, callee)."""

    cdef readonly tuple recorded, late, duplicate, other, restarts, jumps, gaps, gap_ticks
    cdef readonly uint32_t dropped


cdef class Block:
    """`ticks` ticks of one recording from `first_tick`; see relay._native's stubs."""

    cdef readonly uint32_t tap
    cdef readonly int64_t first_tick
    cdef readonly uint32_t ticks
    cdef readonly bytes data
    cdef readonly tuple gaps
    cdef readonly Totals totals


cdef tuple pair(uint64_t left, uint64_t right):
    return (left, right)


cdef class TapReader:
    """Owns the timelines. `start` and `stop` from any thread, `drain` from one."""

    cdef list rings
    cdef TapRingC **sources
    cdef int source_count
    cdef Timeline **slots
    cdef Timeline *live
    cdef int64_t window
    cdef uint32_t newest
    cdef bint any_started
    cdef Timeline *fresh
    cdef list stopping
    cdef bint draining
    cdef readonly uint64_t stray
    cdef readonly bint behind
    cdef readonly uint32_t open

    def __cinit__(self, list rings, int reorder_ms=400):
        cdef int i
        if not 0 <= reorder_ms * 8 <= TL_WINDOW_LIMIT:
            raise ValueError(f"reorder_ms must be 0 to {TL_WINDOW_LIMIT // 8}")
        self.rings = list(rings)
        self.stopping = []
        self.window = reorder_ms * 8
        self.source_count = len(rings)
        self.sources = <TapRingC **> calloc(len(rings) + 1, sizeof(TapRingC *))
        self.slots = <Timeline **> calloc(TAP_SLOTS, sizeof(Timeline *))
        if self.sources == NULL or self.slots == NULL:
            raise MemoryError
        for i in range(self.source_count):
            self.sources[i] = (<TapRing?> rings[i]).ring

    def __dealloc__(self):
        cdef Timeline *t
        self.begin()
        while self.live != NULL:
            t = self.live
            self.live = t.next
            tl_free(t)
        free(self.sources)
        free(self.slots)

    def start(self, uint32_t tap, int companding, uint64_t began_ns, bint dual, opus_types=()):
        """Begin a recording of `tap`; `companding` 0 is PCMU, 8 PCMA.

        Packets of `opus_types` are decoded into it.
        """
        cdef int kind
        if companding not in (0, 8):
            raise ValueError("companding is 0 (PCMU) or 8 (PCMA)")
        cdef Timeline *t = self.fresh
        while t != NULL and t.tap != tap:
            t = t.next
        if t != NULL or self.find(tap) != NULL:
            raise ValueError(f"tap {tap} is being recorded")
        t = <Timeline *> malloc(sizeof(Timeline))
        if t == NULL:
            raise MemoryError
        tl_init(t, tap, companding >> 3, dual, began_ns, self.window)
        for kind in opus_types:
            t.opus_types[(kind >> 6) & 1] |= <uint64_t> 1 << (kind & 63)
        t.dropped_before = self.dropped(tap)
        t.next = self.fresh
        self.fresh = t

    def stop(self, uint32_t tap, uint64_t ended_ns=0):
        """End it at `ended_ns` (0: the next drain's time); its last block has totals."""
        self.stopping.append((tap, ended_ns))

    def drain(self, uint64_t now_ns):
        """What is due, oldest first for each tap. Takes the GIL only per block.

        `behind` is True when there is more at once: drain again.
        """
        cdef Outlet out = Outlet(NULL, NULL, 0)
        cdef bint whole
        if self.draining:
            raise RuntimeError("one thread drains")
        self.draining = True
        try:
            ending, self.stopping = self.stopping, []
            self.begin()
            with nogil:
                whole = self.consume(now_ns, &out)
            self.behind = not whole and out.count >= 1024
            if whole:
                lost = [self.end(tap, ended_ns or now_ns, &out) for tap, ended_ns in ending]
            else:  # behind what is still in the ring
                self.stopping = ending + self.stopping
                lost = []
            return self.take(&out) + [block for block in lost if block is not None]
        finally:
            self.draining = False

    cdef void begin(self) noexcept:
        # Only under the GIL do timelines come and go, so start() may look them up.
        cdef Timeline *t
        cdef Timeline **slot
        while self.fresh != NULL:
            t = self.fresh
            self.fresh = t.next
            slot = &self.slots[t.tap & (TAP_SLOTS - 1)]
            t.chain = slot[0]
            slot[0] = t
            t.next = self.live
            self.live = t
            self.open += 1
            if not self.any_started or <int32_t> (t.tap - self.newest) > 0:
                self.newest = t.tap
            self.any_started = True

    cdef uint64_t dropped(self, uint32_t tap) noexcept nogil:
        cdef uint64_t count = 0
        cdef int i
        for i in range(self.source_count):
            count += tap_load32(&self.sources[i].drops[tap & (TAP_SLOTS - 1)])
        return count

    cdef Timeline *find(self, uint32_t tap) noexcept nogil:
        cdef Timeline *t = self.slots[tap & (TAP_SLOTS - 1)]
        while t != NULL and t.tap != tap:
            t = t.chain
        return t

    cdef bint consume(self, uint64_t now_ns, Outlet *out) noexcept nogil:
        # All that was in the rings; False when some had to stay for the next drain.
        cdef bint whole = True
        cdef int i
        cdef Timeline *t
        for i in range(self.source_count):
            if not self.consume_ring(self.sources[i], now_ns, out):
                whole = False
        t = self.live
        while t != NULL and whole:
            tl_emit(t, tl_clock(t, now_ns), out)
            t = t.next
        return whole

    cdef bint consume_ring(self, TapRingC *ring, uint64_t now_ns, Outlet *out) noexcept nogil:
        cdef uint64_t head = tap_load(&ring.head)
        cdef uint64_t tail = ring.tail
        cdef const TapRecord *record
        cdef Timeline *t
        cdef bint whole = True
        while True:
            record = tap_front(ring, &tail, head)
            if record == NULL:
                break
            t = self.find(record.tap)
            if t != NULL:
                tl_packet(t, record.side, record.now_ns, <const uint8_t *> (record + 1),
                          record.length, out)
            elif self.expected(record.tap) and now_ns < record.now_ns + 250000000:
                whole = False  # the recorder's start() for it is on the way
                break
            else:
                self.stray += 1
            tail = tap_after(tail, record)
            if out.count >= 1024:
                whole = False
                break
        tap_release(ring, tail)
        return whole

    cdef bint expected(self, uint32_t tap) noexcept nogil:
        # Taps are numbered upwards and started in that order.
        return not self.any_started or <int32_t> (tap - self.newest) > 0

    cdef Block end(self, uint32_t tap, uint64_t ended_ns, Outlet *out):
        # None, or without memory for the last block, an empty one with the totals.
        cdef Timeline *t = self.find(tap)
        cdef OutBlock *last
        cdef Timeline **link = &self.slots[tap & (TAP_SLOTS - 1)]
        if t == NULL:
            return None
        while link[0] != t:
            link = &link[0].chain
        link[0] = t.chain
        link = &self.live
        while link[0] != t:
            link = &link[0].next
        link[0] = t.next
        self.open -= 1
        last = tl_finish(t, tl_clock(t, ended_ns), out)
        if last != NULL:
            last.ended = t
            return None
        block = Block.__new__(Block)
        block.tap = tap
        block.first_tick = t.emitted
        block.data = b""
        block.gaps = ()
        block.totals = self.count(t)
        tl_free(t)
        return block

    cdef list take(self, Outlet *out):
        cdef OutBlock *b = out.first
        cdef OutBlock *after
        cdef Block block
        cdef uint32_t i
        blocks = []
        while b != NULL:
            block = Block.__new__(Block)
            block.tap = b.tap
            block.first_tick = b.first_tick
            block.ticks = b.ticks
            block.data = PyBytes_FromStringAndSize(<char *> b.data, b.octets)
            block.gaps = tuple([
                (b.gaps[i].start, b.gaps[i].ticks, b.gaps[i].channel)
                for i in range(b.gap_count)
            ]) if b.gap_count else ()
            if b.ended != NULL:
                block.totals = self.count(b.ended)
                tl_free(b.ended)
            blocks.append(block)
            after = b.next
            free(b)
            b = after
        return blocks

    cdef Totals count(self, Timeline *t):
        cdef Totals totals = Totals.__new__(Totals)
        cdef Channel *l = &t.channels[0]
        cdef Channel *r = &t.channels[1]
        totals.recorded = pair(l.recorded, r.recorded)
        totals.late = pair(l.late, r.late)
        totals.duplicate = pair(l.duplicate, r.duplicate)
        totals.other = pair(l.other, r.other)
        totals.restarts = pair(l.restarts, r.restarts)
        totals.jumps = pair(l.jumps, r.jumps)
        totals.gaps = pair(l.gaps, r.gaps)
        totals.gap_ticks = pair(l.gap_ticks, r.gap_ticks)
        totals.dropped = <uint32_t> (self.dropped(t.tap) - t.dropped_before)
        return totals


def g711_tables():
    """(linear, octet, convert) for each law, for tests: see g711.pxd."""
    return tuple(
        ([g711_linear[law][i] for i in range(256)],
         bytes([g711_octet[law][i] for i in range(16384)]),
         bytes([g711_convert[law][i] for i in range(256)]))
        for law in range(2)
    )
