"""Protocol core: SIP (RFC 3261). No I/O, no clock, no asyncio."""
