"""Shell: SIP over UDP, TCP, TLS and WebSocket."""
