"""WebRTC without I/O: STUN, ICE-lite and DTLS (RFC 8445, RFC 5764)."""
