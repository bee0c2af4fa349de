"""Protocol core: RTP and RTCP (RFC 3550); the slow, readable reference of the native code."""
