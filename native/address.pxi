# Addresses and networks between Python's words and ours.

cdef object host_of(const relay_address *address):
    cdef char text[64]
    if relay_address_text(address, text, sizeof(text)) < 0:
        return None
    return (<bytes>text).decode("ascii")


cdef object endpoint_of(const relay_address *address):
    host = host_of(address)
    return None if host is None else (host, relay_address_port(address))


cdef int address_of(relay_address *out, str host, int port) except -1:
    if not 0 <= port <= 65535:
        raise ValueError(f"port {port} is out of range")
    if relay_address_set(out, host.encode("ascii", "replace"), <uint16_t>port) < 0:
        raise ValueError(f"{host!r} is not an IP address")
    return 0
