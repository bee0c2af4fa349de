"""The WebRTC legs of a node: joins `relay.webrtc`, which decides, to the engine, which forwards.

    worker ─▶ STUN, DTLS ─▶ Transport ─▶ send, select, secure ─▶ worker
                                └──────▶ PathSelected, Secured, … ─▶ the call

Media never comes here. All methods belong to the thread of the event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from relay.call.alarms import Alarm, Alarms
from relay.call.ports import (
    ConsentLost,
    MediaEvent,
    PathSelected,
    Secured,
    SecuringFailed,
    Side,
)
from relay.sdp.description import IceCredentials, IceDtls, SrtpKey, SrtpKeys
from relay.webrtc import transport
from relay.webrtc.certificate import Certificate
from relay.webrtc.dtls import Dtls, Keys
from relay.webrtc.ice import Credentials

if TYPE_CHECKING:
    from relay.media.engine_call import EngineCall


class WebRtcLeg:
    """One leg's transport, and what it asks of the engine. Made when it is offered, or described,
    with ICE."""

    def __init__(self, legs: WebRtcLegs, call: EngineCall, side: Side) -> None:
        self._legs = legs
        self._call = call
        self._side = side
        self._transport = transport.Transport(legs.shared)
        self._alarm: Alarm | None = None
        self._wakes_at = 0.0

    def offer(self, ours: IceCredentials) -> None:
        """Who is offered this may check."""
        self._transport.offer(ours.ufrag, ours.pwd)

    def describe(self, agreed: IceDtls) -> None:
        """What an offer/answer agreed on; the same again changes nothing."""
        self._transport.describe(
            Credentials(agreed.local_ufrag, agreed.local_pwd, agreed.remote_ufrag),
            agreed.fingerprints,
            agreed.dtls_client,
            time.monotonic(),
        )
        self._carry_out()

    def feed(self, data: bytes, source: tuple[str, int]) -> None:
        """STUN or DTLS from the leg's socket."""
        self._transport.feed(data, source, time.monotonic())
        self._carry_out()

    def on_timer(self, now: float) -> None:
        self._alarm = None
        self._transport.on_timer(now)
        self._carry_out()

    def close(self) -> None:
        self._transport.close()
        if self._alarm is not None:
            self._alarm.cancel()

    def _carry_out(self) -> None:
        for output in self._transport.drain():
            if isinstance(output, transport.Send):
                self._call.send(self._side, output.data, *output.to)
            else:
                self._apply(output)
        due = self._transport.next_timer()
        if due is not None and (self._alarm is None or due < self._wakes_at):
            # One that is too early does no harm: consent is prolonged with each check.
            if self._alarm is not None:
                self._alarm.cancel()
            self._alarm, self._wakes_at = self._legs.wake(self, due), due

    def _apply(self, output: transport.Output) -> None:
        call, side = self._call, self._side
        match output:
            case transport.PathChosen(address):
                call.select(side, address)
                self._tell(PathSelected(side, *address))
            case transport.ConsentEnded():
                call.select(side, None)
                self._tell(ConsentLost(side))
            case transport.Secured(keys):
                call.secure(side, _srtp(keys))
                self._tell(Secured(side, keys.suite))
            case transport.Failed(why):
                call.secure(side, None)
                self._tell(SecuringFailed(side, why))
            case transport.Replaced():
                call.select(side, None)
                call.secure(side, None)

    def _tell(self, event: MediaEvent) -> None:
        self._legs.tell(self._call.call_id, event)


class WebRtcLegs:
    """What they share: certificate, counters, and one timer of the loop."""

    def __init__(
        self, certificate: Certificate, on_event: Callable[[str, MediaEvent], None]
    ) -> None:
        self.counters: Counter[str] = Counter()
        self.shared = Dtls(certificate, self.counters)
        self._on_event = on_event
        self._alarms = Alarms()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Timers run from now on."""
        self._loop = loop
        self._arm()

    def close(self) -> None:
        self._loop = None
        if self._timer is not None:
            self._timer.cancel()

    def tell(self, call_id: str, event: MediaEvent) -> None:
        """Not at once: a description may bring it about, in the middle of what the call does."""
        if self._loop is None:
            self._on_event(call_id, event)
        else:
            self._loop.call_soon(self._on_event, call_id, event)

    def wake(self, leg: WebRtcLeg, when: float) -> Alarm:
        """Call the leg's `on_timer` then."""
        alarm = self._alarms.set(leg, when)
        self._arm()
        return alarm

    def on_timer(self, now: float) -> None:
        """Wake the legs that are due."""
        for leg in self._alarms.due(now):
            leg.on_timer(now)

    def _arm(self) -> None:
        due = self._alarms.next_timer()
        if self._loop is None or due is None:
            return
        if self._timer is not None:
            if self._timer_at <= due:
                return
            self._timer.cancel()
        self._timer_at = due
        self._timer = self._loop.call_later(max(0.0, due - time.monotonic()), self._on_loop_timer)

    def _on_loop_timer(self) -> None:
        self._timer = None
        try:
            self.on_timer(time.monotonic())
        finally:
            self._arm()


def _srtp(keys: Keys) -> SrtpKeys:
    return SrtpKeys((SrtpKey(keys.suite, *keys.receive),), SrtpKey(keys.suite, *keys.send))
