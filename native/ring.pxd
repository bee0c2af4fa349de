# What passes between Python and a worker without a lock: commands in, events out.

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free

from flow cimport Call, Settings
from srtp_keys cimport SrtpKey
from sys cimport (
    eventfd_write, relay_address, relay_load64, relay_load_pointer, relay_replace, relay_store64,
    relay_take,
)
from voice cimport Voice

cdef enum:
    EVENT_PLACES = 8192         # a power of two


cdef enum CommandKind:
    COMMAND_OPEN = 1
    COMMAND_UPDATE
    COMMAND_OFFER
    COMMAND_SELECT
    COMMAND_SECURE
    COMMAND_RECORD
    COMMAND_CLOSE


cdef struct Command:            # allocated by Python, freed by the worker
    Command *next
    Call *call
    int kind
    uint8_t side
    uint8_t on
    uint32_t tap
    Settings settings
    SrtpKey *receive            # lists; the worker takes them over
    SrtpKey *send
    Voice *voice


cdef inline bint commands_push(void **head, Command *command) noexcept nogil:
    # Any thread. True when the list was empty, so the worker may need a wake-up.
    cdef void *before
    while True:
        before = relay_load_pointer(head)
        command.next = <Command *>before
        if relay_replace(head, before, command):
            return before == NULL


cdef inline Command *commands_take(void **head) noexcept nogil:
    # The worker. Everything pushed so far, oldest first.
    cdef Command *newest
    cdef Command *oldest = NULL
    cdef Command *following
    if relay_load_pointer(head) == NULL:
        return NULL
    newest = <Command *>relay_take(head)
    while newest != NULL:
        following = newest.next
        newest.next = oldest
        oldest = newest
        newest = following
    return oldest


cdef enum EventKind:
    EVENT_FIRST_PACKET = 1
    EVENT_LATCHED
    EVENT_DTMF
    EVENT_TIMEOUT
    EVENT_DROPS
    EVENT_CHANGED


cdef struct Event:
    uint64_t number             # of the call
    uint32_t kind
    uint32_t side
    uint32_t key                # pressed, or the drop code
    uint32_t amount             # milliseconds of a press, or packets dropped
    relay_address source


cdef struct EventRing:          # one producer (the worker), one consumer (Python)
    Event *places
    uint64_t written
    uint64_t read
    uint64_t lost
    int wake


cdef inline Event *event_claim(EventRing *ring) noexcept nogil:
    # The next free place, or NULL (counted) when Python has fallen behind.
    cdef uint64_t written = ring.written
    if written - relay_load64(&ring.read) >= EVENT_PLACES:
        ring.lost += 1
        return NULL
    return &ring.places[written & (EVENT_PLACES - 1)]


cdef inline void event_publish(EventRing *ring) noexcept nogil:
    relay_store64(&ring.written, ring.written + 1)
    eventfd_write(ring.wake, 1)


cdef inline void event_plain(
    EventRing *ring, int kind, uint64_t number, uint32_t side, uint32_t key, uint32_t amount
) noexcept nogil:
    cdef Event *event = event_claim(ring)
    if event == NULL:
        return
    event.kind = kind
    event.number = number
    event.side = side
    event.key = key
    event.amount = amount
    event.source.length = 0
    event_publish(ring)


cdef inline void event_latched(
    EventRing *ring, uint64_t number, uint32_t side, const relay_address *source
) noexcept nogil:
    cdef Event *event = event_claim(ring)
    if event == NULL:
        return
    event.kind = EVENT_LATCHED
    event.number = number
    event.side = side
    event.key = 0
    event.amount = 0
    event.source = source[0]
    event_publish(ring)
