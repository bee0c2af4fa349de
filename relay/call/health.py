"""Whether a trunk's addresses take calls: asked by OPTIONS, and seen by calls themselves.

An address that is down is called after all others, never dropped: when every one is down, all
are tried. Only OPTIONS (RFC 3261 section 11) bring it back, so no call has to find out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import TYPE_CHECKING

from relay.sip.fields import Headers
from relay.sip.headers import NameAddr
from relay.sip.message import Request, Response
from relay.sip.transaction import Hop
from relay.sip.uri import SipUri

if TYPE_CHECKING:
    from relay.call.alarms import Alarm
    from relay.call.calls import Calls
    from relay.call.hunt import Target
    from relay.config import Trunk

# Any other final response shows that somebody is there, a refusal too.
NOT_WELL = frozenset({408, 503})
SPREAD_S = 0.05  # the first questions do not leave all at once


class State(Enum):
    """What we know of an address."""

    UP = "up"
    PROBING = "probing"  # it failed once, and is being asked
    DOWN = "down"

    __hash__ = object.__hash__


class Event(Enum):
    """What an OPTIONS or a call has met."""

    ANSWERED = "answered"
    FAILED = "failed"

    __hash__ = object.__hash__


class Action(Enum):
    """What a transition does; the value is the name of its method."""

    TELL = "_tell"
    ASK = "_ask"

    __hash__ = object.__hash__


S, E, A = State, Event, Action

TRANSITIONS: dict[tuple[State, Event], tuple[State, tuple[Action, ...]]] = {
    # An absent pair is ignored: it says what is known already.
    (S.UP, E.FAILED): (S.PROBING, (A.TELL, A.ASK)),
    (S.PROBING, E.FAILED): (S.DOWN, (A.TELL,)),
    (S.PROBING, E.ANSWERED): (S.UP, (A.TELL,)),
    (S.DOWN, E.ANSWERED): (S.UP, (A.TELL,)),
}


class Health:
    """All addresses that are watched: the originations of trunks with `health_check_s`."""

    def __init__(self, calls: Calls, trunks: Iterable[Trunk] = ()) -> None:
        self._watched: dict[tuple[str, str], Watched] = {}
        for trunk in trunks:
            if trunk.health_check_s:
                for uri in _addresses(trunk):
                    found = Watched(calls, trunk, uri)
                    self._watched.setdefault((trunk.name, str(uri)), found)

    def start(self, now: float) -> None:
        """Ask everyone, one after the other."""
        for number, watched in enumerate(self._watched.values()):
            watched.check_at(now + number * SPREAD_S)

    def stop(self) -> None:
        """Ask nobody any more."""
        for watched in self._watched.values():
            watched.stop()

    def order(self, trunk: str, targets: Sequence[Target]) -> list[Target]:
        """Those that are not down first, the last resort after all others."""
        if not self._watched:
            return list(targets)
        return sorted(
            targets, key=lambda target: (target.last_resort, self._is_down(trunk, target))
        )

    def saw(self, trunk: str, origin: str, event: Event, why: str, now: float) -> None:
        """A call has been at this origination."""
        watched = self._watched.get((trunk, origin))
        if watched is not None:
            watched.feed(event, why, now)

    def figures(self) -> dict[str, int]:
        """How many are in which state."""
        return dict(Counter(watched.state.value for watched in self._watched.values()))

    def _is_down(self, trunk: str, target: Target) -> bool:
        watched = self._watched.get((trunk, target.origin))
        return watched is not None and watched.state is State.DOWN


def _addresses(trunk: Trunk) -> list[SipUri]:
    found = [entry.sip_uri for entry in trunk.origination if entry.enabled]
    if trunk.disaster_recovery is not None:
        found.append(SipUri.parse(trunk.disaster_recovery))
    return found


class Watched:
    """One address: its state, and the OPTIONS that is out. An alarm's owner."""

    __slots__ = ("_alarm", "_calls", "_hops", "_patience_s", "_period_s", "_probe", "_trunk",
                 "_uri", "_why", "state")  # fmt: skip

    def __init__(self, calls: Calls, trunk: Trunk, uri: SipUri) -> None:
        self.state = State.UP
        self._calls = calls
        self._trunk = trunk.name
        self._uri = uri
        self._period_s = trunk.health_check_s
        self._patience_s = min(trunk.try_next_after_s, trunk.health_check_s)
        self._hops: list[Hop] = []
        self._probe: Probe | None = None
        self._alarm: Alarm | None = None
        self._why = ""

    def feed(self, event: Event, why: str, now: float) -> None:
        """One event; the table says what follows."""
        found = TRANSITIONS.get((self.state, event))
        if found is None:
            return
        self._why = why
        self.state, actions = found
        for action in actions:
            getattr(self, action.value)(now)

    def check_at(self, when: float) -> None:
        """The next OPTIONS, or the end of patience with this one."""
        self.stop()
        self._alarm = self._calls.alarms.set(self, when)

    def stop(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def on_timer(self, now: float) -> None:
        self._alarm = None
        if self._probe is not None:
            self.missed(self._probe, f"no answer within {self._patience_s:g} s", now)
        else:
            self._ask(now)

    # --- what became of an OPTIONS

    def heard(self, probe: Probe, status: int, now: float) -> None:
        """A final response; a late one of an earlier question counts as well."""
        if status in NOT_WELL:
            self.missed(probe, str(status), now)
            return
        if probe is self._probe:
            self._probe = None
            self.check_at(now + self._period_s)
        self.feed(Event.ANSWERED, str(status), now)

    def missed(self, probe: Probe, why: str, now: float) -> None:
        """None from this hop: the next one of the name, then the address has failed."""
        if probe is not self._probe:
            return
        self._probe = None
        if self._hops:
            self._send(self._hops.pop(0), now)
        else:
            self._failed(why, now)

    # --- inside

    def _ask(self, now: float) -> None:
        if self._probe is None:
            self._probe = Probe(self)  # while its address is looked up, too
            self._calls.signalling.locate(self._uri, self._located)

    def _located(self, hops: tuple[Hop, ...], why: str, now: float) -> None:
        self._probe = None
        if not hops:
            self._failed(why, now)
            return
        self._hops = list(hops)
        self._send(self._hops.pop(0), now)

    def _send(self, hop: Hop, now: float) -> None:
        self._probe = Probe(self)
        self.check_at(now + self._patience_s)
        self._calls.signalling.request(self._options(hop), hop, None, self._probe)

    def _failed(self, why: str, now: float) -> None:
        self.check_at(now + self._period_s)
        self.feed(Event.FAILED, why, now)

    def _options(self, hop: Hop) -> Request:
        calls = self._calls
        contact = calls.signalling.contact(hop)
        ours = NameAddr.parse(contact).uri
        fields = [
            ("Max-Forwards", "70"),
            ("From", f"<{ours}>;tag={calls.token()}"),
            ("To", f"<{self._uri.replace(params=(), port=None)}>"),
            ("Call-ID", calls.token() + calls.token()),
            ("CSeq", "1 OPTIONS"),
            ("Contact", contact),
            ("Accept", "application/sdp"),
        ]
        return Request("OPTIONS", str(self._uri), Headers.of_canonical(fields))

    def _tell(self, now: float) -> None:
        self._calls.journal.event(
            "target_state",
            "-",
            trunk=self._trunk,
            uri=str(self._uri),
            state=self.state.value,
            why=self._why,
        )


class Probe:
    """One OPTIONS. A TransactionUser."""

    __slots__ = ("_watched",)

    def __init__(self, watched: Watched) -> None:
        self._watched = watched

    def on_response(self, tx: object, response: Response, now: float) -> None:
        if response.status >= 200:
            self._watched.heard(self, response.status, now)

    def on_no_response(self, status: int, now: float) -> None:
        why = "no answer" if status == 408 else "it could not be sent"
        self._watched.missed(self, why, now)
