"""What an offer/answer says about one leg's media, in the terms of the engine."""

from __future__ import annotations

from typing import NamedTuple


class MediaAddress(NamedTuple):
    """Where RTP and RTCP go. `rtcp_port == port` means rtcp-mux (RFC 5761)."""

    host: str
    port: int
    rtcp_port: int


class Way(NamedTuple):
    """Where a peer wants the media of one section and which way they go.

    `remote` is None for a hold by 0.0.0.0; `direction` says that hold in today's words,
    `written` is the direction as the peer put it.
    """

    remote: MediaAddress | None
    direction: str
    written: str


class LegMedia(NamedTuple):
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
