# What a worker hands up to Python whole: STUN and DTLS of WebRTC legs, in a bounded ring.

from libc.stdint cimport uint8_t, uint16_t, uint64_t
from libc.string cimport memcpy

from sys cimport eventfd_write, relay_address, relay_load64, relay_store64

cdef enum:
    PACKET_PLACES = 256         # a power of two
    PACKETS_FOR_KNOWN = 64      # of them: only for packets from a selected path
    PACKET_OCTETS = 1500        # no fragments: what Ethernet carries


cdef struct Packet:
    uint64_t number             # of the call
    relay_address source
    uint16_t size
    uint8_t side
    uint8_t data[PACKET_OCTETS]


cdef struct PacketRing:         # one producer (the worker), one consumer (Python)
    Packet *places
    uint64_t written
    uint64_t read


cdef inline bint packet_push(
    PacketRing *ring, uint64_t number, uint8_t side, const uint8_t *data, int size,
    const relay_address *source, bint known, int wake
) noexcept nogil:
    # False: Python has fallen behind, or the packet is too long. Strangers leave places free.
    cdef uint64_t written = ring.written
    cdef uint64_t room = PACKET_PLACES if known else PACKET_PLACES - PACKETS_FOR_KNOWN
    cdef Packet *packet
    if size > PACKET_OCTETS or written - relay_load64(&ring.read) >= room:
        return False
    packet = &ring.places[written & (PACKET_PLACES - 1)]
    packet.number = number
    packet.side = side
    packet.size = <uint16_t>size
    packet.source = source[0]
    memcpy(packet.data, data, <size_t>size)
    relay_store64(&ring.written, written + 1)
    eventfd_write(wake, 1)
    return True
