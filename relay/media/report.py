"""What a worker reports, in the application's words."""

from __future__ import annotations

from relay import _native
from relay.call.ports import (
    DropBurst,
    DtmfPressed,
    FirstPacket,
    Latched,
    MediaEvent,
    MediaTimeout,
    Side,
    StreamChanged,
)
from relay.rtp.dtmf import KEYS

_FIRST_PACKET, _LATCHED, _DTMF, _TIMEOUT, _DROPS, _CHANGED = range(1, 7)


def media_event(
    kind: int, side: Side, key: int, amount: int, source: tuple[str, int] | None
) -> MediaEvent:
    """What `_native.Worker.events` reported of one side."""
    if kind == _FIRST_PACKET:
        return FirstPacket(side)
    if kind == _LATCHED and source is not None:
        return Latched(side, *source)
    if kind == _DTMF:
        return DtmfPressed(side, KEYS[key], amount)
    if kind == _DROPS:
        return DropBurst(side, _native.DROP_NAMES[key], amount)
    if kind == _CHANGED:
        return StreamChanged(side)
    assert kind == _TIMEOUT, f"the engine reported an unknown event {kind}"
    return MediaTimeout(side)
