"""What an offer/answer says about one leg's media, in the terms of the engine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MediaAddress:
    """Where RTP and RTCP go. `rtcp_port == port` means rtcp-mux (RFC 5761)."""

    host: str
    port: int
    rtcp_port: int


@dataclass(frozen=True, slots=True)
class LegMedia:
    """What the engine must know of one leg after an offer/answer.

    `payload_types` are those this peer may send; a packet of any other is dropped and
    counted. `telephone_event` is the payload type of RFC 4733 events or None, with
    `clock_hz` the audio codec's RTP clock. `may_send`/`may_receive` follow the
    negotiated direction from the peer's point of view. `symmetric` allows one latch.
    """

    remote: MediaAddress | None
    payload_types: frozenset[int]
    telephone_event: int | None = None
    clock_hz: int = 8000
    may_send: bool = True
    may_receive: bool = True
    symmetric: bool = False
