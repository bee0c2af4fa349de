"""One WebRTC leg: its ICE agent and its DTLS association, as one machine.

    datagram ─▶ feed ─▶ STUN ─▶ ice.Agent ──▶ PathChosen, ConsentEnded ─▶ drain
                      └ DTLS ─▶ dtls.Association ──▶ Secured, Failed ───▶

DTLS is heard on the path that ICE chose and nowhere else, and spoken on it alone. A peer may
begin before we know its answer, or its nomination: its first flight is kept until then.
"""

from __future__ import annotations

from typing import NamedTuple

from relay.webrtc.dtls import Association, Dtls, FingerprintOf, Keys, State
from relay.webrtc.dtls_record import is_client_hello
from relay.webrtc.ice import MOST_PATHS, Agent, ConsentEnded, Credentials, PathChosen
from relay.webrtc.stun import Address

__all__ = ["Address", "ConsentEnded", "PathChosen"]  # with the outputs and `Transport`


class Send(NamedTuple):
    """A datagram to be sent from the leg's socket."""

    data: bytes
    to: Address


class Secured(NamedTuple):
    """The peer has proved who it is; these are its SRTP keys from now on."""

    keys: Keys


class Replaced(NamedTuple):
    """Another peer than before was described: neither the path nor the keys are its."""


class Failed(NamedTuple):
    """There will be no keys from this association."""

    why: str


MOST_EARLY = 2  # datagrams of a first flight: a ClientHello may be too long for one

Output = Send | PathChosen | ConsentEnded | Secured | Failed | Replaced


class Transport:
    """`describe` is what SDP agreed on; `shared` is the node's."""

    def __init__(self, shared: Dtls) -> None:
        self._shared = shared
        self._ice = Agent(shared.counters)
        self._dtls: Association | None = None
        self._agreed: tuple[frozenset[FingerprintOf], bool] | None = None
        self._told = False
        self._early: dict[Address, list[bytes]] = {}  # ClientHellos by where they came from
        self._outputs: list[Output] = []

    def offer(self, ufrag: str, pwd: str) -> None:
        """We offer these credentials: a check with them is answered, also before `describe`."""
        self._ice.offer(ufrag, pwd)

    def describe(
        self,
        credentials: Credentials,
        fingerprints: tuple[FingerprintOf, ...],
        is_client: bool,
        now: float,
    ) -> None:
        """New credentials are an ICE restart, on which DTLS goes on. Another certificate of the
        peer, or another role, is another association (RFC 8842 section 3.1). With both new it is
        somebody else, as after a transfer: nothing of the old peer's is good any more."""
        agreed = frozenset(fingerprints), is_client
        if self._agreed not in (None, agreed) and not self._ice.has(credentials):
            self._ice.forget()
            self._outputs.append(Replaced())
        self._ice.describe(credentials)
        if agreed != self._agreed:
            self._agreed = agreed
            if self._dtls is not None:
                self._dtls.close()
            self._dtls = Association(self._shared, is_client, fingerprints)
            self._told = False
        self._after(now)

    @property
    def path(self) -> Address | None:
        """Where the peer is, while it consents."""
        return self._ice.selected

    def feed(self, data: bytes, source: Address, now: float) -> None:
        """STUN or DTLS, by its first octet (RFC 7983)."""
        if data and data[0] < 4:
            self._ice.feed(data, source, now)
        elif self._dtls is not None and source == self._ice.selected:
            self._dtls.feed(data, now)
        elif not self._keep(data, source):
            self._shared.counters["dtls_off_path"] += 1
        self._after(now)

    def drain(self) -> list[Output]:
        """What is to be done, in this order."""
        outputs, self._outputs = self._outputs, []
        return outputs

    def next_timer(self) -> float | None:
        timers = [self._ice.next_timer(), self._dtls.next_timer() if self._dtls else None]
        return min((timer for timer in timers if timer is not None), default=None)

    def on_timer(self, now: float) -> None:
        self._ice.on_timer(now)
        if self._dtls is not None:
            self._dtls.on_timer(now)
        self._after(now)

    def close(self) -> None:
        """The leg has ended."""
        if self._dtls is not None:
            self._dtls.close()
        self._dtls, self._ice = None, Agent(self._shared.counters)
        self._early.clear()

    def _keep(self, data: bytes, source: Address) -> bool:
        """Whether it may begin the association that is to come: of one who has checked."""
        begun = self._dtls is not None and self._dtls.state is not State.WAITING
        if begun or self._ice.selected is not None:
            return False
        if not is_client_hello(data) or not self._ice.has_checked(source):
            return False
        if source not in self._early and len(self._early) >= MOST_PATHS:
            del self._early[next(iter(self._early))]
        flight = self._early.setdefault(source, [])
        if len(flight) < MOST_EARLY:
            flight.append(data)
        return True

    def _hear_early(self, dtls: Association, path: Address, now: float) -> None:
        """The path is there: what came from it before is heard, if the peer is the client."""
        flight = self._early.pop(path, [])
        self._early.clear()
        if self._agreed is not None and not self._agreed[1]:
            for data in flight:
                dtls.feed(data, now)

    def _after(self, now: float) -> None:
        for output in self._ice.drain():
            if isinstance(output, PathChosen | ConsentEnded):
                self._outputs.append(output)
            else:
                self._outputs.append(Send(*output))
        dtls, path = self._dtls, self._ice.selected
        if dtls is None:
            return
        if path is not None:
            dtls.start(now)
            self._hear_early(dtls, path, now)
        if dtls.state is State.SECURED and not self._told:
            self._told = True
            assert dtls.keys is not None
            self._outputs.append(Secured(dtls.keys))  # first: audio follows our last flight
        self._outputs += [Send(data, path) for data in dtls.drain() if path is not None]
        if dtls.state is State.FAILED and not self._told:
            self._told = True
            self._outputs.append(Failed(dtls.why))
