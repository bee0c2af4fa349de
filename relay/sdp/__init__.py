"""Protocol core: SDP (RFC 8866) and offer/answer (RFC 3264). No I/O, no clock."""
